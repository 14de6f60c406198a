"""The solver against exact solutions, dense matrices and a sparse direct solver."""

import numpy as np
import pytest
from scipy.sparse.linalg import spsolve

from fe.errors import BadModulus, NotConverged, UnsupportedModel
from fe.voxel.element import hex8_stiffness
from fe.voxel.numbering import number_voxels
from fe.voxel.operator import stiffness_operator
from fe.voxel.solver import elastic_model, solve, solve_many, with_moduli
from fe.voxel.workers import Workers

SIZE_MM = (1.5, 0.8, 1.1)
NU = 0.3
LOST_SUPPORT_ITERATIONS = 30
"""Measured: 12 to 26 with supports handed down, more than 30 when those between two coarse layers are lost."""

ROUNDING_64 = 1e-12
ROUNDING_32 = 1e-5


def sponge(seed=0, shape=(7, 9, 300), fraction=0.7):
    """Modulus of a porous block with runs of all lengths, some longer than the kernel's lanes."""
    rng = np.random.default_rng(seed)
    modulus = np.where(rng.random(shape) < fraction, 10 ** rng.uniform(1, 4, shape), 0.0)
    modulus[2, 3:6] = 5000.0
    return modulus


def cube(n=6, modulus=10_000.0):
    return np.full((n, n, n), modulus)


def node_points(numbering, size_mm=SIZE_MM):
    """LPS (x, y, z) of nodes, (3, nodes)."""
    return (numbering.node_places * np.array(size_mm)).T[::-1]


def boundary(numbering):
    places = numbering.node_places
    return ((places == 0) | (places == np.array(numbering.is_bone.shape))).any(axis=1)


def bottom_held(numbering):
    return np.repeat((numbering.node_places[:, 0] == 0)[None], 3, axis=0)


def dense_product(numbering, modulus, x):
    stiffness = hex8_stiffness(SIZE_MM, NU)
    nodes = numbering.connectivity()
    local = x.T[nodes].reshape(-1, 24) @ stiffness * modulus[numbering.is_bone][:, None]
    out = np.zeros_like(x.T)
    np.add.at(out, nodes, local.reshape(-1, 8, 3))
    return out.T


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, ROUNDING_64), (np.float32, ROUNDING_32)])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_compiled_product_equals_the_sum_of_element_matrices(dtype, tolerance, threads):
    modulus = sponge()
    numbering = number_voxels(modulus > 0)
    operator = stiffness_operator(numbering, modulus, SIZE_MM, NU, dtype)
    x = np.random.default_rng(1).standard_normal((3, numbering.node_count))
    expected = dense_product(numbering, modulus, x)
    found = operator.multiply(x.astype(dtype), np.empty((3, numbering.node_count), dtype), Workers(threads))
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


def test_the_assembled_matrix_and_the_diagonal_blocks_agree_with_the_product():
    modulus = sponge(shape=(4, 5, 6))
    numbering = number_voxels(modulus > 0)
    operator = stiffness_operator(numbering, modulus, SIZE_MM, NU)
    matrix = operator.matrix()
    x = np.random.default_rng(2).standard_normal((3, numbering.node_count))
    product = (matrix @ x.T.ravel()).reshape(-1, 3).T
    np.testing.assert_allclose(
        operator.multiply(x, np.empty_like(x)), product, atol=ROUNDING_64 * np.abs(product).max()
    )
    blocks = operator.diagonal_blocks()
    dense = matrix.toarray()
    for node in range(numbering.node_count):
        block = dense[3 * node : 3 * node + 3, 3 * node : 3 * node + 3]
        found = blocks[:, node]
        np.testing.assert_allclose(
            found, block[[0, 1, 2, 0, 1, 0], [0, 1, 2, 1, 2, 2]], atol=ROUNDING_64 * np.abs(dense).max()
        )


def test_the_result_does_not_depend_on_the_number_of_threads():
    modulus = sponge(shape=(40, 20, 60))
    numbering = number_voxels(modulus > 0)
    x = np.random.default_rng(3).standard_normal((3, numbering.node_count))
    operator = stiffness_operator(numbering, modulus, SIZE_MM, NU)
    products = [operator.multiply(x, np.empty_like(x), Workers(threads)) for threads in (1, 2, 5)]
    assert (products[0] == products[1]).all()
    assert (products[0] == products[2]).all()


def test_rigid_modes_need_no_force():
    modulus = sponge()
    numbering = number_voxels(modulus > 0)
    operator = stiffness_operator(numbering, modulus, SIZE_MM, NU)
    points = node_points(numbering)
    for axis in np.eye(3):
        translation = np.repeat(axis[:, None], numbering.node_count, axis=1)
        rotation = np.cross(axis, points.T).T
        for mode in (translation, rotation):
            force = operator.multiply(np.ascontiguousarray(mode), np.empty_like(mode))
            assert np.abs(force).max() < 1e-9 * modulus.max() * np.abs(mode).max()


def test_the_stiffness_is_symmetric_and_with_supports_positive_definite():
    modulus = sponge(shape=(4, 4, 5), fraction=1.0)
    numbering = number_voxels(modulus > 0)
    matrix = stiffness_operator(numbering, modulus, SIZE_MM, NU).matrix().toarray()
    np.testing.assert_allclose(matrix, matrix.T, atol=ROUNDING_64 * matrix.max())
    free = ~bottom_held(numbering).T.ravel()
    assert np.linalg.eigvalsh(matrix[np.ix_(free, free)])[0] > 0


def test_patch_a_linear_displacement_on_the_boundary_goes_on_inside():
    modulus = cube(7)
    numbering = number_voxels(modulus > 0)
    gradient = np.random.default_rng(4).standard_normal((3, 3)) * 1e-3
    exact = gradient @ node_points(numbering)
    held = np.repeat(boundary(numbering)[None], 3, axis=0)
    model = elastic_model(modulus, SIZE_MM, NU, held)
    solution = solve(model, np.zeros_like(exact), prescribed_mm=exact, tolerance=1e-11)
    np.testing.assert_allclose(solution.displacement_mm, exact, atol=1e-10 * np.abs(exact).max())


@pytest.mark.parametrize("shape", [(9, 7, 8), (13, 12, 11)])
def test_the_solution_equals_that_of_a_sparse_direct_solver(shape):
    modulus = 10 ** np.random.default_rng(5).uniform(2, 4, shape)
    numbering = number_voxels(modulus > 0)
    held = bottom_held(numbering)
    force = np.random.default_rng(6).standard_normal(held.shape)
    model = elastic_model(modulus, SIZE_MM, NU, held)
    found = solve(model, force, tolerance=1e-11).displacement_mm
    free = ~held.T.ravel()
    matrix = model.operator.matrix()[free][:, free].tocsc()
    direct = np.zeros(free.size)
    direct[free] = spsolve(matrix, force.T.ravel()[free])
    direct = direct.reshape(-1, 3).T
    assert np.linalg.norm(found - direct) < 1e-8 * np.linalg.norm(direct)


def test_the_reactions_balance_the_load_in_force_and_moment():
    modulus = sponge(7, (12, 10, 11), fraction=1.0)
    numbering = number_voxels(modulus > 0)
    held = bottom_held(numbering)
    force = np.where(held, 0.0, np.random.default_rng(8).standard_normal(held.shape))
    model = elastic_model(modulus, SIZE_MM, NU, held)
    solution = solve(model, force, tolerance=1e-9)
    total = np.where(held, model.forces(solution.displacement_mm), force)
    scale = np.linalg.norm(force)
    points = node_points(numbering)
    assert np.linalg.norm(total.sum(axis=1)) < 1e-7 * scale
    assert np.linalg.norm(np.cross(points.T, total.T).sum(axis=0)) < 1e-7 * scale * np.abs(points).max()


def test_solutions_add_up_and_scale():
    modulus = sponge(9, (10, 8, 9), fraction=1.0)
    numbering = number_voxels(modulus > 0)
    model = elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering))
    rng = np.random.default_rng(10)
    f, g = rng.standard_normal((2, 3, numbering.node_count))
    u, v, w = (solve(model, load, tolerance=1e-11).displacement_mm for load in (f, g, 2 * f - 3 * g))
    np.testing.assert_allclose(w, 2 * u - 3 * v, atol=1e-8 * np.abs(w).max())
    stiffer = elastic_model(4 * modulus, SIZE_MM, NU, bottom_held(numbering))
    np.testing.assert_allclose(solve(stiffer, f, tolerance=1e-11).displacement_mm, u / 4, atol=1e-8 * np.abs(u).max())


def on_grid(numbering, vectors):
    """Nodal (x, y, z) vectors, (3, nodes), as a dense field (z, y, x, component)."""
    dense = np.zeros((*numbering.node_numbers.shape, 3))
    dense[numbering.node_numbers >= 0] = vectors.T
    return dense


def moved(field, axes, mirrored):
    """Turn or mirror a dense field of vectors: its places, and its components with them."""
    field = np.flip(field.transpose(*axes, 3), mirrored)
    field = field[..., [2 - axes[2 - c] for c in range(3)]]  # component c lies along axis 2 - c
    return field * [-1.0 if 2 - c in mirrored else 1.0 for c in range(3)]


@pytest.mark.parametrize(
    ("axes", "mirrored"),
    [
        ((0, 2, 1), (1,)),  # a quarter turn about z
        ((1, 0, 2), (0,)),
        ((2, 1, 0), (2,)),
        ((0, 1, 2), (2,)),  # left and right exchanged
        ((0, 1, 2), (0,)),
        ((1, 2, 0), ()),  # another order of the axes
    ],
)
def test_a_turned_or_mirrored_model_has_the_turned_or_mirrored_displacements(axes, mirrored):
    rng = np.random.default_rng(18)
    modulus = 10 ** rng.uniform(2, 4, (11, 8, 9))
    modulus[4:7, 2:5, 3:] = 0
    numbering = number_voxels(modulus > 0)
    held, force = bottom_held(numbering), rng.standard_normal((3, numbering.node_count))
    plain = solve(elastic_model(modulus, SIZE_MM, NU, held), force, tolerance=1e-10).displacement_mm
    other = np.flip(modulus.transpose(axes), mirrored).copy()
    turned = number_voxels(other > 0)
    nodes = turned.node_numbers >= 0
    model = elastic_model(
        other,
        tuple(SIZE_MM[axis] for axis in axes),
        NU,
        (moved(on_grid(numbering, held.astype(float)), axes, mirrored)[nodes] != 0).T,
    )
    loads = np.ascontiguousarray(moved(on_grid(numbering, force), axes, mirrored)[nodes].T)
    found = on_grid(turned, solve(model, loads, tolerance=1e-10).displacement_mm)
    expected = moved(on_grid(numbering, plain), axes, mirrored)
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(plain).max())


def test_metres_and_pascals_give_the_same_displacements_as_millimetres_and_megapascals():
    modulus = sponge(19, (9, 8, 10), fraction=1.0)
    numbering = number_voxels(modulus > 0)
    held = bottom_held(numbering)
    force = np.random.default_rng(20).standard_normal(held.shape)
    in_mm = solve(elastic_model(modulus, SIZE_MM, NU, held), force, tolerance=1e-10).displacement_mm
    size_m = tuple(size / 1000 for size in SIZE_MM)
    in_m = solve(elastic_model(modulus * 1e6, size_m, NU, held), force, tolerance=1e-10).displacement_mm
    np.testing.assert_allclose(in_m * 1000, in_mm, atol=1e-8 * np.abs(in_mm).max())


def test_the_iterations_do_not_grow_with_the_mesh():
    counts = []
    for n in (12, 24, 48):
        z, y, x = (np.indices((n, n, n)) + 0.5) / n - 0.5
        modulus = np.where(z**2 + y**2 + x**2 < 0.3**2, 10_000.0, 1000.0)
        numbering = number_voxels(modulus > 0)
        force = np.zeros((3, numbering.node_count))
        force[:, numbering.node_places[:, 0] == n] = np.array([[1.0], [0.5], [-2.0]])
        model = elastic_model(modulus, (48 / n,) * 3, NU, bottom_held(numbering))
        counts.append(solve(model, force, tolerance=1e-6).iterations)
    assert max(counts) <= 20
    assert counts[-1] <= counts[0] + 4


def test_a_support_between_two_coarse_layers_is_not_lost():
    counts = []
    for layer in (0, 1, 2, 3):
        modulus = np.full((40 + layer, 16, 16), 10_000.0)
        modulus[:layer, 2:, 2:] = 0  # a splinter below the support
        numbering = number_voxels(modulus > 0)
        held = np.repeat((numbering.node_places[:, 0] <= layer)[None], 3, axis=0)
        force = np.zeros(held.shape)
        force[0, numbering.node_places[:, 0] == 40 + layer] = 1.0
        counts.append(solve(elastic_model(modulus, SIZE_MM, NU, held), force).iterations)
    assert max(counts) <= LOST_SUPPORT_ITERATIONS


def test_a_solve_that_is_cut_short_says_how_far_it_came():
    modulus = cube(20)
    modulus[:, ::2] = 1.0
    numbering = number_voxels(modulus > 0)
    model = elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering))
    force = np.ones((3, numbering.node_count))
    with pytest.raises(NotConverged) as caught:
        solve(model, force, tolerance=1e-12, max_iterations=2)
    assert caught.value.iterations == 2
    assert caught.value.residual > caught.value.tolerance == 1e-12


def test_a_load_that_is_not_finite_is_refused():
    modulus = cube(4)
    numbering = number_voxels(modulus > 0)
    model = elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering))
    with pytest.raises(UnsupportedModel, match="finite"):
        solve(model, np.full((3, numbering.node_count), np.nan))


def test_a_part_that_floats_is_refused_with_its_size():
    modulus = cube(6)
    modulus[3] = 0
    numbering = number_voxels(modulus > 0)
    with pytest.raises(UnsupportedModel, match="1 of 2 parts of the model, 72 of 180 elements"):
        elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering))


def test_a_part_that_hangs_on_an_edge_only_is_refused():
    modulus = cube(4)
    modulus[2:, :2] = 0
    modulus[:2, 2:] = 0
    with pytest.raises(UnsupportedModel, match="1 of 2 parts"):
        elastic_model(modulus, SIZE_MM, NU, bottom_held(number_voxels(modulus > 0)))


@pytest.mark.parametrize("free", [0, 1, 2])
def test_supports_that_leave_one_rigid_motion_are_refused(free):
    modulus = cube(5)
    numbering = number_voxels(modulus > 0)
    held = bottom_held(numbering)
    held[free] = False
    if free == 2:
        held[2, np.flatnonzero((numbering.node_places[:, :2] == 0).all(axis=1))] = True  # a hinge along x
    with pytest.raises(UnsupportedModel, match="rigid motion"):
        elastic_model(modulus, SIZE_MM, NU, held)


def test_six_well_chosen_supports_are_enough():
    modulus = cube(5)
    numbering = number_voxels(modulus > 0)
    z, y, x = numbering.node_places.T
    held = np.zeros((3, numbering.node_count), dtype=bool)
    held[:, (x == 0) & (y == 0) & (z == 0)] = True
    held[1:, (x == 5) & (y == 0) & (z == 0)] = True
    held[2, (x == 0) & (y == 5) & (z == 0)] = True
    force = np.zeros(held.shape)
    force[0] = x - 2.5
    assert solve(elastic_model(modulus, SIZE_MM, NU, held), force).residual < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_modulus_that_is_no_modulus_is_refused(value):
    modulus = cube(4)
    numbering = number_voxels(modulus > 0)
    model = elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering))
    modulus[1, 2, 3] = value
    with pytest.raises(BadModulus, match="MPa"):
        elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering), numbering)
    with pytest.raises(BadModulus):
        with_moduli(model, modulus.ravel())
    with pytest.raises(BadModulus):
        with_moduli(model, np.ones(7))


def test_a_model_without_any_element_is_refused():
    with pytest.raises(BadModulus):
        elastic_model(np.zeros((3, 3, 3)), SIZE_MM, NU, np.ones((3, 0), dtype=bool))


def test_other_moduli_give_what_a_new_model_gives():
    modulus = sponge(11, (12, 10, 30), fraction=1.0)
    numbering = number_voxels(modulus > 0)
    held = bottom_held(numbering)
    force = np.random.default_rng(12).standard_normal(held.shape)
    other = modulus * np.random.default_rng(13).uniform(0.01, 1, modulus.shape)
    changed = with_moduli(elastic_model(modulus, SIZE_MM, NU, held), other[numbering.is_bone])
    found, fresh = (solve(model, force) for model in (changed, elastic_model(other, SIZE_MM, NU, held)))
    assert (found.displacement_mm == fresh.displacement_mm).all()
    assert found.iterations == fresh.iterations


def test_a_good_start_saves_iterations_and_changes_nothing_else():
    modulus = sponge(14, (12, 10, 30), fraction=1.0)
    numbering = number_voxels(modulus > 0)
    model = elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering))
    force = np.random.default_rng(15).standard_normal((3, numbering.node_count))
    cold = solve(model, force, tolerance=1e-10)
    near = solve(model, force, start_mm=cold.displacement_mm * 1.001, tolerance=1e-10)
    done = solve(model, force, start_mm=cold.displacement_mm, tolerance=1e-8)
    assert done.iterations == 0
    assert near.iterations < cold.iterations
    scale = np.abs(cold.displacement_mm).max()
    np.testing.assert_allclose(near.displacement_mm, cold.displacement_mm, atol=1e-8 * scale)


def test_a_start_never_moves_a_support():
    modulus = cube(5)
    numbering = number_voxels(modulus > 0)
    held = bottom_held(numbering)
    model = elastic_model(modulus, SIZE_MM, NU, held)
    solution = solve(model, np.ones(held.shape), start_mm=np.full(held.shape, 7.0))
    assert (solution.displacement_mm[held] == 0).all()


def test_many_loads_at_once_give_what_each_gives_alone():
    modulus = sponge(16, (20, 12, 40), fraction=1.0)
    numbering = number_voxels(modulus > 0)
    model = elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering), threads=3)
    forces = np.random.default_rng(17).standard_normal((5, 3, numbering.node_count))
    for one, force in zip(solve_many(model, forces), forces, strict=True):
        assert (one.displacement_mm == solve(model, force).displacement_mm).all()


def test_a_model_without_support_or_without_load_is_refused():
    modulus = cube(4)
    numbering = number_voxels(modulus > 0)
    with pytest.raises(UnsupportedModel, match="float"):
        elastic_model(modulus, SIZE_MM, NU, np.zeros((3, numbering.node_count), dtype=bool))
    model = elastic_model(modulus, SIZE_MM, NU, bottom_held(numbering))
    with pytest.raises(UnsupportedModel, match="load"):
        solve(model, np.zeros((3, numbering.node_count)))
