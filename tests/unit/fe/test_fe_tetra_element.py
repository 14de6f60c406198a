"""Shape functions, gradients and quadrature of the tetrahedron against their definitions."""

from itertools import product
from math import factorial

import numpy as np
import pytest

from fe.errors import BadMesh
from fe.tetra.element import (
    NODE_PLACES,
    conical_rule,
    gradients_per_mm,
    quadrature,
    shape_functions,
    shape_slopes,
    stiffness_matrices,
    strain_matrices,
)
from fe.tetra.mesh import quadratic_mesh
from fe.voxel.element import elasticity_matrix

CORNERS = np.array([(0.1, 0.2, 0.0), (2.1, 0.1, 0.3), (0.3, 1.8, -0.2), (0.5, 0.4, 1.7)])
ROUNDING = 1e-12


def some_places(count=7, seed=0):
    cuts = np.sort(np.random.default_rng(seed).random((count, 3)), axis=1)
    return np.diff(np.column_stack((np.zeros(count), cuts, np.ones(count))), axis=1)


@pytest.fixture
def element():
    mesh = quadratic_mesh(CORNERS, np.array([[0, 1, 2, 3]]))
    return mesh.nodes_mm[mesh.elements]


@pytest.mark.parametrize("rule", [*(quadrature(d) for d in range(1, 9)), conical_rule(6)], ids=lambda r: f"{r.degree}")
def test_a_rule_integrates_every_monomial_of_its_degree(rule):
    assert (rule.weights > 0).all()
    assert (rule.places > 0).all()
    for a, b, c in product(range(rule.degree + 1), repeat=3):
        if a + b + c <= rule.degree:
            exact = 6 * factorial(a) * factorial(b) * factorial(c) / factorial(a + b + c + 3)
            found = rule.weights @ (rule.places[:, 1] ** a * rule.places[:, 2] ** b * rule.places[:, 3] ** c)
            assert found == pytest.approx(exact, rel=ROUNDING)


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_a_tabulated_rule_is_not_better_than_it_says(degree):
    rule = quadrature(degree)
    worse = [
        abs(rule.weights @ rule.places[:, 1] ** a - 6 * factorial(a) / factorial(a + 3))
        for a in (degree + 1, degree + 2)
    ]
    assert max(worse) > 1e-6


@pytest.mark.parametrize("node_count", [4, 10])
def test_each_function_is_one_at_its_node_and_zero_at_the_others(node_count):
    found = shape_functions(NODE_PLACES[:node_count], node_count)
    np.testing.assert_allclose(found, np.eye(node_count), atol=ROUNDING)
    np.testing.assert_allclose(shape_functions(some_places(), node_count).sum(axis=1), 1, rtol=ROUNDING)


@pytest.mark.parametrize("node_count", [4, 10])
def test_slopes_are_the_derivatives_of_the_functions(node_count):
    places, step = some_places(), 1e-6
    slopes = shape_slopes(places, node_count)
    for n, axis in enumerate(np.eye(4)):
        ahead, back = (shape_functions(places + sign * step * axis, node_count) for sign in (1, -1))
        np.testing.assert_allclose(slopes[:, :, n], (ahead - back) / (2 * step), atol=1e-8)


def test_gradients_of_a_quadratic_field_are_exact(element):
    a = np.array([[0.3, 0.1, -0.2], [0.1, 0.5, 0.4], [-0.2, 0.4, -0.1]])
    b = np.array([1.0, -2.0, 0.5])
    values = np.einsum("eni,ij,enj->en", element, a, element) + element @ b
    places = some_places()
    gradients, volume = gradients_per_mm(element, places)
    points = shape_functions(places) @ element[0]
    np.testing.assert_allclose(np.einsum("epnd,en->epd", gradients, values)[0], 2 * points @ a + b, atol=1e-12)
    np.testing.assert_allclose(volume, np.linalg.det(CORNERS[1:] - CORNERS[0]) / 6)


def test_strain_matrices_give_engineering_strains(element):
    slope = np.array([[1.0, 2.0, 3.0], [5.0, 7.0, 11.0], [13.0, 17.0, 19.0]])
    gradients, _ = gradients_per_mm(element, some_places(1))
    strain = strain_matrices(gradients)[0, 0] @ (element[0] @ slope.T).ravel()
    np.testing.assert_allclose(strain, (1, 7, 19, 2 + 5, 11 + 17, 3 + 13), rtol=1e-10)


@pytest.mark.parametrize("node_count", [4, 10])
def test_an_element_has_six_motions_without_force_and_stores_the_energy_of_an_even_strain(element, node_count):
    elasticity = elasticity_matrix(0.3)
    points = element[:, :node_count]
    stiffness = stiffness_matrices(points, elasticity, quadrature(2))[0]
    values = np.linalg.eigvalsh(stiffness)
    assert (np.abs(values[:6]) < ROUNDING * values[-1]).all()
    assert values[6] > 1e-4 * values[-1]
    slope = np.random.default_rng(1).standard_normal((3, 3))
    strain = np.array([slope[0, 0], slope[1, 1], slope[2, 2], *(slope + slope.T)[(0, 1, 0), (1, 2, 2)]])
    u = (points[0] @ slope.T).ravel()
    volume = np.linalg.det(CORNERS[1:] - CORNERS[0]) / 6
    assert u @ stiffness @ u == pytest.approx(volume * strain @ elasticity @ strain)


def test_four_points_are_enough_for_straight_edges_and_one_is_not(element):
    four, many, one = (stiffness_matrices(element, elasticity_matrix(0.3), quadrature(d))[0] for d in (2, 5, 1))
    np.testing.assert_allclose(four, many, atol=ROUNDING * np.abs(many).max())
    assert np.abs(one - many).max() > 0.01 * np.abs(many).max()


def test_an_element_inside_out_or_flat_is_refused(element):
    for broken in (element[:, (1, 0, 2, 3)], element[:, :4] * (1, 1, 0)):
        with pytest.raises(BadMesh, match="inside out"):
            gradients_per_mm(broken, some_places())
