"""Factors and models: what they answer, and what they refuse."""

import gc

import numpy as np
import pytest
from scipy import sparse

from fe.errors import FactorisationFailed, NotConverged, UnsupportedModel
from fe.tetra.blocks import block_mesh
from fe.tetra.factor import Factor, factorise, has_pardiso
from fe.tetra.model import TetModel, reactions_n, solve, solve_many, tetra_model

BACKENDS = [
    pytest.param("PARDISO", marks=pytest.mark.skipif(not has_pardiso(), reason="PARDISO is not installed (extra fe)")),
    "SuperLU",
]


def chain(n=30, stiffness=2.0):
    """Springs in a row, the first one held: positive definite."""
    return sparse.csr_array(sparse.diags_array([np.full(n, stiffness), np.full(n - 1, -1.0)], offsets=[0, 1]))


@pytest.fixture(scope="module")
def model():
    mesh = block_mesh((2, 2, 2), lambda p: p * 10)
    fixed = np.repeat(np.isclose(mesh.nodes_mm[:, 2], 0)[None], 3, axis=0)
    return tetra_model(mesh, np.full(mesh.element_count, 1000.0), 0.3, fixed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_factor_solves_one_and_many_right_hand_sides(backend):
    upper = chain()
    whole = (upper + sparse.triu(upper, 1).T).toarray()
    rhs = np.random.default_rng(0).standard_normal((30, 4))
    with factorise(upper, backend=backend) as factor:
        assert factor.name == backend
        assert factor.stored_bytes > 0
        np.testing.assert_allclose(whole @ factor.solve(rhs), rhs, atol=1e-12)
        np.testing.assert_allclose(factor.solve(rhs[:, 1]), factor.solve(rhs)[:, 1], atol=1e-13)
        assert factor.solve(rhs[:, :0]).shape == (30, 0)
        with pytest.raises(ValueError, match="fit"):
            factor.solve(rhs[1:])
    with pytest.raises(ValueError, match="released"):
        factor.solve(rhs)


@pytest.mark.skipif(not has_pardiso(), reason="PARDISO is not installed (extra fe)")
def test_a_matrix_that_is_not_definite_is_refused():
    with pytest.raises(FactorisationFailed, match="move freely"):
        factorise(chain(stiffness=0.5), backend="PARDISO")


@pytest.mark.parametrize(
    "upper",
    [
        chain().tocsr()[:, :20],
        sparse.csr_array(chain().toarray() + chain().toarray().T),
        sparse.csr_array(np.triu(np.ones((3, 3)), 1)),
        chain() * np.nan,
    ],
    ids=["not square", "whole", "no diagonal", "not finite"],
)
def test_a_matrix_that_is_no_upper_triangle_is_refused(upper):
    with pytest.raises(FactorisationFailed):
        factorise(upper)


def test_the_memory_of_a_factor_is_given_back_with_it():
    released = []
    factor = Factor("SuperLU", 1, 8, lambda rhs: rhs, lambda: released.append(True))
    del factor
    gc.collect()
    assert released == [True]


def test_loads_on_held_degrees_of_freedom_are_ignored(model):
    force = np.zeros((3, model.mesh.node_count))
    force[2, -1] = -5.0
    more = force.copy()
    more[:, np.isclose(model.mesh.nodes_mm[:, 2], 0)] = 7.0
    one, other = (solve(model, f).displacement_mm for f in (force, more))
    np.testing.assert_array_equal(one, other)


def test_reactions_are_zero_on_free_nodes_and_answer_the_load(model):
    force = np.random.default_rng(1).standard_normal((3, model.mesh.node_count)) * ~model.is_fixed
    u = solve(model, force).displacement_mm[0]
    reaction = reactions_n(model, force, u)
    assert (reaction[~model.is_fixed] == 0).all()
    np.testing.assert_allclose(reaction.sum(axis=1), -force.sum(axis=1), atol=1e-10 * np.abs(force).sum())
    np.testing.assert_allclose(np.where(model.is_fixed, 0, model.forces(u)), force, atol=1e-10)


def test_the_field_of_a_model_holds_mesh_moduli_and_displacement(model):
    u = np.arange(3.0 * model.mesh.node_count).reshape(3, -1)
    field = model.field(u)
    assert field.cell_type == "quadratic_tetra"
    np.testing.assert_array_equal(field.cells, model.mesh.elements)
    np.testing.assert_array_equal(field.cell_values["youngs_modulus_mpa"], model.modulus_mpa)
    np.testing.assert_array_equal(field.point_values["displacement_mm"], u.T)
    assert not model.field().point_values


def test_a_load_that_is_none_or_not_finite_or_of_another_mesh_is_refused(model):
    shape = (1, 3, model.mesh.node_count)
    for force, words in (
        (np.zeros(shape), "No load"),
        (np.full(shape, np.nan), "finite"),
        (np.ones((1, 3, 5)), "expected"),
    ):
        with pytest.raises(UnsupportedModel, match=words):
            solve_many(model, force)


def test_a_factor_of_another_stiffness_is_caught_by_the_residual(model):
    wrong = TetModel(model.mesh, 2 * model.modulus_mpa, 0.3, model.is_fixed, model.pattern, model.factor)
    with pytest.raises(NotConverged) as caught:
        solve(wrong, np.ones((3, model.mesh.node_count)))
    assert caught.value.residual == pytest.approx(1.0)  # twice the stiffness answers with twice the force


@pytest.mark.parametrize(
    ("modulus", "poisson_ratio", "held", "words"),
    [
        (1.0, 0.3, False, "float"),
        (-1.0, 0.3, True, "positive modulus"),
        (np.nan, 0.3, True, "positive modulus"),
        (1.0, 0.5, True, "Poisson"),
        (1.0, 0.3, "all", "Every"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused(model, modulus, poisson_ratio, held, words):
    fixed = np.ones_like(model.is_fixed) if held == "all" else model.is_fixed & held
    with pytest.raises(UnsupportedModel, match=words):
        tetra_model(model.mesh, np.full(model.mesh.element_count, modulus), poisson_ratio, fixed)
