"""Perfect plasticity on tetrahedra, and the vertebral model made of it: closed forms, bounds, invariances, CalculiX."""

import shutil
import subprocess
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from fe.tetra.assembly import STIFFNESS_RULE
from fe.tetra.mesh import quadratic_mesh
from fe.tetra.model import reactions_n, solve, tetra_model
from fe.tetra.plastic_solver import PlasticProblem, load
from fe.tetra.plasticity import equivalent_stress, plastic_body, respond, tangent_product
from fe.tetra.two_level import two_level
from fe.vertebra import KOPPERDAHL_2002, VertebraSettings, vertebra_strength
from fe.vertebra_specimen import synthetic_vertebra
from fe.voxel.workers import Workers

NU, YIELD_STRAIN = 0.3, 0.015
SIDE_MM, HEIGHT_MM = 10.0, 20.0
E_MPA = 500.0
TOLERANCE = 1e-9
CALCULIX = shutil.which("ccx")


def brick(cells, size_mm):
    """Return a brick of cells, each cut into 6 tetrahedra along its diagonal (Kuhn's triangulation)."""
    grid = np.stack(np.meshgrid(*[np.arange(n + 1) for n in cells], indexing="ij"), -1).reshape(-1, 3)
    number = np.arange(len(grid)).reshape([n + 1 for n in cells])
    corners = []
    for order in permutations(range(3)):
        steps = np.vstack((np.zeros(3, int), np.cumsum(np.eye(3, dtype=int)[list(order)], axis=0)))
        corners.append(
            np.stack([number[tuple(slice(s[a], cells[a] + s[a]) for a in range(3))].ravel() for s in steps], axis=1)
        )
    return quadratic_mesh(grid * np.array(size_mm) / np.array(cells), np.concatenate(corners))


def cylinder(cells, height_mm, radius_mm):
    """Return a cylinder: a brick with its square section mapped to a disc."""
    mesh = brick((cells, cells, cells), (2.0, 2.0, height_mm))
    corners = mesh.nodes_mm[: mesh.elements[:, :4].max() + 1].copy()
    u, v = corners[:, 0] - 1, corners[:, 1] - 1
    stretch = np.maximum(np.abs(u), np.abs(v)) / np.maximum(np.hypot(u, v), 1e-9)
    corners[:, 0], corners[:, 1] = radius_mm * u * stretch, radius_mm * v * stretch
    return quadratic_mesh(corners, mesh.elements[:, :4])


def ends(mesh):
    z = mesh.nodes_mm[:, 2]
    return np.isclose(z, z.min()), np.isclose(z, z.max())


def problem_of(mesh, modulus, is_fixed, push_mm, tolerance=TOLERANCE):
    """Return the problem of a mesh whose upper end moves down."""
    prescribed = np.zeros(mesh.nodes_mm.shape)
    prescribed[ends(mesh)[1], 2] = -push_mm
    body, workers, is_prescribed = plastic_body(mesh, modulus, NU, YIELD_STRAIN), Workers(1), is_fixed.T.copy()
    precondition = two_level(mesh, body, modulus, NU, is_prescribed, workers)
    return PlasticProblem(body, is_prescribed, prescribed, precondition, tolerance, workers)


def rollers(mesh):
    """Hold both ends along z only, and three planes of symmetry: the bar may widen freely."""
    lower, upper = ends(mesh)
    x, y, _ = mesh.nodes_mm.T
    return np.array([np.isclose(x, 0), np.isclose(y, 0), lower | upper])


def platens(mesh):
    """Hold both ends in all directions."""
    lower, upper = ends(mesh)
    return np.tile(lower | upper, (3, 1))


def random_moduli(mesh, seed=2):
    return np.random.default_rng(seed).uniform(50, 1500, mesh.element_count)


def test_a_bar_between_rollers_follows_hooke_and_then_carries_exactly_the_yield_stress():
    mesh = brick((2, 2, 3), (SIDE_MM, SIDE_MM, HEIGHT_MM))
    problem = problem_of(mesh, np.full(mesh.element_count, E_MPA), rollers(mesh), 0.04 * HEIGHT_MM)
    solution = load(problem, (0.125, 0.25, 0.37, 0.38, 0.7, 1.0))
    for point in solution.path:
        strain = 0.04 * point.fraction
        expected = SIDE_MM**2 * E_MPA * min(strain, YIELD_STRAIN)
        assert -point.reaction_n[2] == pytest.approx(expected, rel=1e-8)
        assert point.yielded_fraction == (strain > YIELD_STRAIN)
    np.testing.assert_allclose(solution.response.stress_mpa[..., 2], -E_MPA * YIELD_STRAIN, rtol=1e-7)


def test_unloading_a_bar_leaves_the_plastic_strain_and_goes_down_hookes_line():
    mesh = brick((1, 1, 2), (SIDE_MM, SIDE_MM, HEIGHT_MM))
    problem = problem_of(mesh, np.full(mesh.element_count, E_MPA), rollers(mesh), 0.03 * HEIGHT_MM)
    path = load(problem, (0.4, 1.0, 0.9, 0.5)).path
    strains = np.array([0.012, YIELD_STRAIN, YIELD_STRAIN - 0.003, YIELD_STRAIN - 0.015])
    np.testing.assert_allclose([-p.reaction_n[2] for p in path], SIDE_MM**2 * E_MPA * strains, atol=1e-6 * E_MPA)


def test_confined_compression_of_a_block_is_the_closed_form():
    mesh = brick((2, 2, 2), (SIDE_MM, SIDE_MM, HEIGHT_MM))
    x, y, _ = mesh.nodes_mm.T
    sides = [np.isclose(v, 0) | np.isclose(v, SIDE_MM) for v in (x, y)]
    lower, upper = ends(mesh)
    is_fixed = np.array([*sides, lower | upper])
    path = load(problem_of(mesh, np.full(mesh.element_count, E_MPA), is_fixed, 0.05 * HEIGHT_MM), (0.2, 1.0)).path
    shear, bulk = E_MPA / 2 / (1 + NU), E_MPA / 3 / (1 - 2 * NU)
    expected = [(bulk + 4 / 3 * shear) * 0.01, bulk * 0.05 + 2 / 3 * YIELD_STRAIN * E_MPA]
    np.testing.assert_allclose([-p.reaction_n[2] for p in path], SIDE_MM**2 * np.array(expected), rtol=1e-7)


def test_a_cylinder_between_platens_is_stronger_than_free_and_weaker_than_confined():
    radius_mm = 10.0
    mesh = cylinder(6, 15.0, radius_mm)
    problem = problem_of(mesh, np.full(mesh.element_count, E_MPA), platens(mesh), 0.03 * 15.0, 1e-5)
    path = load(problem, (0.1, 0.5, 0.75, 1.0)).path
    area = problem.body.volume_mm3.sum() / 15.0
    shear, bulk = E_MPA / 2 / (1 + NU), E_MPA / 3 / (1 - 2 * NU)
    confined = area * (bulk * 0.03 + 2 / 3 * YIELD_STRAIN * E_MPA)
    assert area * E_MPA * 0.003 < -path[0].reaction_n[2] < area * (bulk + 4 / 3 * shear) * 0.003
    assert 1.02 * area * YIELD_STRAIN * E_MPA < -path[-1].reaction_n[2] < 0.9 * confined
    loads = [-p.reaction_n[2] for p in path]
    assert loads == sorted(loads), "perfect plasticity never softens"


def test_a_small_displacement_gives_the_linear_models_reaction():
    mesh = brick((3, 3, 3), (SIDE_MM, SIDE_MM, HEIGHT_MM))
    problem = problem_of(mesh, random_moduli(mesh), platens(mesh), 1e-3 * HEIGHT_MM)
    point = load(problem, (1.0,)).path[0]
    prescribed = np.ascontiguousarray(problem.prescribed_mm.T)
    model = tetra_model(mesh, random_moduli(mesh), NU, platens(mesh))
    linear = solve(model, np.zeros(prescribed.shape), prescribed_mm=prescribed)
    reaction = reactions_n(model, np.zeros(prescribed.shape), linear.displacement_mm[0])
    np.testing.assert_allclose(point.reaction_n, reaction[:, ends(mesh)[1]].sum(axis=1), rtol=1e-8, atol=1e-8 * E_MPA)
    assert point.newton_steps == 0
    assert point.yielded_fraction == 0


def test_newtons_method_with_the_consistent_tangent_converges_quadratically():
    mesh = brick((2, 2, 2), (SIDE_MM, SIDE_MM, SIDE_MM))
    problem = problem_of(mesh, random_moduli(mesh), platens(mesh), 0.03 * SIDE_MM)
    body, free, state = problem.body, ~problem.is_prescribed.ravel(), problem.body.no_plastic_strain()
    start = load(problem, (0.9, 1.0))
    u = start.displacement_mm + np.where(
        problem.is_prescribed, 0, 2e-3 * np.random.default_rng(1).standard_normal(start.displacement_mm.shape)
    )
    units = np.eye(u.size).reshape(-1, *u.shape)
    state = load(problem, (0.9,)).response.plastic_strain
    norms = []
    for _ in range(7):
        response = respond(body, u, state, problem.workers)
        norms.append(np.linalg.norm(response.force_n.ravel()[free]))
        tangent = np.array([tangent_product(body, response, unit, problem.workers).ravel() for unit in units])
        step = np.zeros(u.size)
        step[free] = np.linalg.solve(tangent[np.ix_(free, free)], -response.force_n.ravel()[free])
        u = u + step.reshape(u.shape)
    norms = np.array(norms) / np.linalg.norm(response.force_n)
    tail = norms[(norms < 1e-2) & (norms > 1e-13)]
    assert norms[-1] < 1e-12
    orders = np.log(tail[1:]) / np.log(tail[:-1])
    assert orders.max() > 1.8, f"residuals {norms}"


def test_twice_the_modulus_carries_twice_the_load_and_a_mirrored_body_the_same():
    mesh = brick((3, 3, 3), (SIDE_MM, SIDE_MM, HEIGHT_MM))
    modulus = random_moduli(mesh)
    flipped = quadratic_mesh(mesh.nodes_mm * (-1, 1, 1), mesh.elements[:, :4])
    # The mirrored mesh has its own numbers for mid-edge nodes, the same elements in the same order.
    results = [
        np.array(load(problem_of(m, e, platens(m), 0.03 * HEIGHT_MM), (0.5, 1.0)).path[-1].reaction_n)
        for m, e in ((mesh, modulus), (mesh, 2 * modulus), (flipped, modulus))
    ]
    np.testing.assert_allclose(results[1], 2 * results[0], rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(results[2], results[0] * (-1, 1, 1), rtol=1e-6, atol=1e-5)


def test_no_stress_leaves_the_yield_surface_and_the_reactions_balance():
    mesh = brick((3, 3, 3), (SIDE_MM, SIDE_MM, HEIGHT_MM))
    modulus = random_moduli(mesh)
    solution = load(problem_of(mesh, modulus, platens(mesh), 0.03 * HEIGHT_MM, 1e-8), (0.5, 1.0))
    reached = equivalent_stress(solution.response.stress_mpa) / (YIELD_STRAIN * modulus)[:, None]
    assert reached.max() < 1 + 1e-12
    assert 0.3 < solution.path[-1].yielded_fraction < 1
    force = solution.response.force_n
    assert np.linalg.norm(force.sum(axis=0)) < 1e-7 * abs(solution.path[-1].reaction_n[2])


DECK_SCALE = 1e-3
"""Yield strain and displacement are made this much smaller for CalculiX, which switches to large strains as soon as a
material is plastic: at 1e-5 of strain both theories agree to 1e-5, and small-strain plasticity scales exactly."""


def deck(mesh, modulus, push_mm, steps):
    """Return the body as a CalculiX deck with one material per element."""
    lower, upper = ends(mesh)
    lines = [
        "*NODE, NSET=ALL",
        *(f"{n + 1}, {x:.12g}, {y:.12g}, {z:.12g}" for n, (x, y, z) in enumerate(mesh.nodes_mm)),
    ]
    for e, (nodes, value) in enumerate(zip(mesh.elements + 1, modulus, strict=True), 1):
        lines += [f"*ELEMENT, TYPE=C3D10, ELSET=E{e}", f"{e}, " + ", ".join(map(str, nodes))]
        lines += [f"*MATERIAL, NAME=M{e}", "*ELASTIC", f"{value:.12g}, {NU}"]
        lines += ["*PLASTIC", f"{value * YIELD_STRAIN * DECK_SCALE:.12g}, 0."]
        lines += [f"*SOLID SECTION, ELSET=E{e}, MATERIAL=M{e}"]
    lines += ["*NSET, NSET=UPPER", *(f"{n + 1}," for n in np.flatnonzero(upper)), "*BOUNDARY"]
    lines += [f"{n + 1}, 1, 3, 0." for n in np.flatnonzero(lower)]
    lines += ["*STEP, INC=1000", "*STATIC, DIRECT", f"{1 / steps}, 1.", "*BOUNDARY", "UPPER, 1, 2, 0."]
    lines += [f"UPPER, 3, 3, {-push_mm * DECK_SCALE:.12g}", "*NODE PRINT, NSET=UPPER, TOTALS=ONLY", "RF", "*END STEP"]
    return "\n".join(lines) + "\n"


@pytest.mark.needs_binary
@pytest.mark.skipif(CALCULIX is None, reason="CalculiX (ccx) is not installed")
def test_the_reaction_agrees_with_calculix(tmp_path):
    mesh = cylinder(3, HEIGHT_MM, 8.0)
    modulus, push_mm, steps = random_moduli(mesh), 0.019 * HEIGHT_MM, 10
    (tmp_path / "body.inp").write_text(deck(mesh, modulus, push_mm, steps))
    subprocess.run([CALCULIX, "body"], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    rows = [line.split() for line in (tmp_path / "body.dat").read_text().splitlines()]
    printed = np.array([[float(v) for v in row] for row in rows if len(row) == 3 and row[0][-4:-2] in ("E+", "E-")])
    assert len(printed) == steps, "CalculiX answers 0 even when it failed"
    path = load(problem_of(mesh, modulus, platens(mesh), push_mm, 1e-6), tuple((np.arange(steps) + 1) / steps)).path
    ours = np.array([point.reaction_n[2] for point in path])
    # Both theories differ by the strain, 2e-5; six to seven digits are printed.
    np.testing.assert_allclose(printed[:, 2] / DECK_SCALE, ours, rtol=1e-5)
    assert path[-1].yielded_fraction > 0.2


def test_the_two_level_cycle_is_symmetric_positive_definite_and_close_to_the_elastic_inverse():
    mesh = brick((2, 2, 2), (SIDE_MM, SIDE_MM, HEIGHT_MM))
    problem = problem_of(mesh, random_moduli(mesh), platens(mesh), 1.0)
    free = np.flatnonzero(~problem.is_prescribed.ravel())
    units = np.eye(3 * mesh.node_count)[free].reshape(-1, mesh.node_count, 3)
    cycle = np.array([problem.precondition(unit).ravel()[free] for unit in units])
    still = respond(problem.body, np.zeros(mesh.nodes_mm.shape), problem.body.no_plastic_strain(), problem.workers)
    stiffness = np.array([tangent_product(problem.body, still, unit, problem.workers).ravel()[free] for unit in units])
    np.testing.assert_allclose(cycle, cycle.T, atol=1e-10 * np.abs(cycle).max())
    assert np.linalg.eigvalsh(cycle).min() > 0
    spectrum = np.linalg.eigvals(cycle @ stiffness).real
    assert spectrum.max() < 1 + 1e-8, "a symmetric cycle never overshoots"
    assert spectrum.min() > 0.05, "a condition below 20 with neighbours up to 30 times as stiff"


def test_the_integration_rule_is_that_of_the_elastic_stiffness():
    mesh = brick((1, 1, 1), (1.0, 1.0, 1.0))
    assert plastic_body(mesh, np.ones(6), NU, YIELD_STRAIN).point_count == len(STIFFNESS_RULE.weights)


@pytest.fixture(scope="module")
def vertebra():
    return synthetic_vertebra((2.0, 2.0, 2.0), tilt_deg=10, wedge_deg=6)


def strength(specimen, rho=None, mask=None, element_mm=5.0, **options):
    return vertebra_strength(
        specimen.rho_qct_mg_per_cm3 if rho is None else rho,
        specimen.mask if mask is None else mask,
        specimen.spacing_mm,
        "L3",
        element_mm=element_mm,
        **options,
    )


@pytest.fixture(scope="module")
def reference(vertebra):
    return strength(vertebra)


def test_the_strength_lies_between_the_weakest_core_and_a_confined_shell(vertebra, reference):
    area = reference.body_volume_mm3 / reference.endplates.height_mm
    core, shell = KOPPERDAHL_2002(np.array([130.0, 400.0]))
    assert 0.5 * area * core * YIELD_STRAIN < reference.failure_load_n < area * shell * YIELD_STRAIN
    assert reference.load_n[1] == pytest.approx(reference.stiffness_n_per_mm * reference.displacement_mm[1])
    assert (np.diff(reference.load_n) > 0).all()
    assert (np.diff(reference.yielded_fraction) >= 0).all()
    assert reference.shear_fraction < 0.2
    assert reference.facts.reaction_balance < 1e-3
    assert reference.facts.residual < VertebraSettings().tolerance


def test_a_mirrored_vertebra_is_as_strong():
    specimen = synthetic_vertebra((2.0, 2.0, 2.0), tilt_deg=10, wedge_deg=6, lean_deg=8)
    rho, mask = specimen.rho_qct_mg_per_cm3.copy(), specimen.mask
    rho[..., : rho.shape[2] // 2] *= 0.5  # no symmetry of its own between right and left
    one = strength(specimen, rho)
    mirrored = strength(specimen, rho[..., ::-1].copy(), mask[..., ::-1].copy())
    # Another mesh of the same body: meshes of 5 mm edges differ by about this much, their axes by 0.02.
    assert mirrored.failure_load_n == pytest.approx(one.failure_load_n, rel=0.03)
    assert mirrored.endplates.height_mm == pytest.approx(one.endplates.height_mm, rel=0.01)
    assert abs(one.endplates.axis[0]) > 0.1
    np.testing.assert_allclose(mirrored.endplates.axis, one.endplates.axis * np.array((-1, 1, 1)), atol=0.03)


def test_a_stiffer_law_is_stronger_in_proportion(vertebra, reference):
    law = replace(KOPPERDAHL_2002, slope_mpa=6460.0, intercept_mpa=-69.4, minimum_mpa=2.0, maximum_mpa=9620.0)
    double = strength(vertebra, settings=VertebraSettings(law=law))
    assert double.failure_load_n == pytest.approx(2 * reference.failure_load_n, rel=1e-5)


def test_the_number_of_load_steps_hardly_changes_the_strength(vertebra, reference):
    loads = [strength(vertebra, settings=VertebraSettings(steps=n, tolerance=1e-5)).failure_load_n for n in (3, 20)]
    assert loads[0] == pytest.approx(loads[1], rel=0.005)
    assert reference.failure_load_n == pytest.approx(loads[1], rel=0.002)


def test_the_same_input_gives_the_same_number(vertebra, reference):
    again = strength(vertebra)
    assert again.failure_load_n == pytest.approx(
        reference.failure_load_n, rel=1e-10
    )  # MKL sums in the order of threads


def test_a_whole_vertebra_is_about_as_strong_as_its_body():
    whole = synthetic_vertebra((2.0, 2.0, 2.0), has_arch=True)
    one = strength(whole, mask=whole.body)
    other = strength(whole)
    assert other.failure_load_n == pytest.approx(one.failure_load_n, rel=0.1)
    assert [flag.code for flag in other.flags] == [*(flag.code for flag in one.flags), "arch_cut"]


def test_smaller_elements_change_the_strength_by_a_few_percent(vertebra):
    coarse, fine = (strength(vertebra, element_mm=edge).failure_load_n for edge in (4.0, 3.0))
    assert coarse == pytest.approx(fine, rel=0.05)
