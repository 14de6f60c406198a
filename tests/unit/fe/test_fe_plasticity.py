"""The elastic, perfectly plastic law on one element, against closed forms."""

import numpy as np
import pytest
from scipy.spatial import Delaunay

from fe.tetra.assembly import isotropic_stress, lame_constants
from fe.tetra.mesh import quadratic_mesh
from fe.tetra.plasticity import (
    equivalent_plastic_strain,
    equivalent_stress,
    plastic_body,
    respond,
    tangent_product,
)
from fe.voxel.workers import Workers

E_MPA, NU, YIELD_STRAIN = 800.0, 0.3, 0.015
G_MPA, K_MPA, YIELD_MPA = E_MPA / 2.6, E_MPA / 1.2, E_MPA * YIELD_STRAIN
ROUNDING = 1e-12

UNIT = {
    "tension": (1, -0.5, -0.5, 0, 0, 0),
    "compression": (-1, 0.5, 0.5, 0, 0, 0),
    "shear": (0, 0, 0, 1, 0, 0),
    "confined": (0, 0, -1, 0, 0, 0),
    "hydrostatic": (-1, -1, -1, 0, 0, 0),
    "mixed": (0.4, -0.9, 0.1, 0.6, -0.3, 0.8),
}
"""Directions of strain: xx, yy, zz, xy, yz, xz."""


@pytest.fixture(scope="module")
def element():
    corners = np.array([(0.1, 0.2, 0.0), (2.1, 0.1, 0.3), (0.3, 1.8, -0.2), (0.5, 0.4, 1.7)])
    mesh = quadratic_mesh(corners, np.array([[0, 1, 2, 3]]))
    return mesh, plastic_body(mesh, np.array([E_MPA]), NU, YIELD_STRAIN)


@pytest.fixture
def workers():
    return Workers(1)


def affine(mesh, strain):
    """Return the displacement with an even engineering strain."""
    xx, yy, zz, xy, yz, xz = strain
    gradient = np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])
    return mesh.nodes_mm @ gradient


def follow(element, workers, strains):
    """Return the responses along a path of even strains, one per increment."""
    mesh, body = element
    state, out = body.no_plastic_strain(), []
    for strain in strains:
        out.append(respond(body, affine(mesh, strain), state, workers))
        state = out[-1].plastic_strain
    return out


def stress_of(response):
    """Return the stress, which must be the same at all points."""
    np.testing.assert_allclose(response.stress_mpa[0], np.tile(response.stress_mpa[0, 0], (4, 1)), atol=1e-9)
    return response.stress_mpa[0, 0]


@pytest.mark.parametrize("name", UNIT)
def test_below_yield_the_stress_is_hookes(element, workers, name):
    strain = 0.005 * np.array(UNIT[name], dtype=float)
    (response,) = follow(element, workers, [strain])
    lame, shear = (np.asarray(v) for v in lame_constants(np.array(E_MPA), NU))
    np.testing.assert_allclose(stress_of(response), isotropic_stress(strain, lame, shear), atol=ROUNDING * E_MPA)
    assert not response.flow.any()
    assert not response.plastic_strain.any()


@pytest.mark.parametrize("sign", [1, -1])
def test_pure_shear_yields_at_the_yield_stress_over_root_three_and_stays_there(element, workers, sign):
    at_yield = YIELD_MPA / np.sqrt(3) / G_MPA
    gammas = sign * np.array([0.5, 0.999999, 1.000001, 1.5, 4.0]) * at_yield
    for gamma, response in zip(gammas, follow(element, workers, np.outer(gammas, UNIT["shear"])), strict=True):
        expected = np.sign(gamma) * min(G_MPA * abs(gamma), YIELD_MPA / np.sqrt(3))
        np.testing.assert_allclose(stress_of(response), [0, 0, 0, expected, 0, 0], atol=1e-9)
    last = response.plastic_strain[0, 0]
    np.testing.assert_allclose(last, [0, 0, 0, gammas[-1] - sign * at_yield, 0, 0], atol=ROUNDING)


@pytest.mark.parametrize("name", ["tension", "compression"])
def test_stretch_at_constant_volume_yields_at_the_yield_stress_in_tension_and_compression(element, workers, name):
    at_yield = YIELD_MPA / (3 * G_MPA)
    factors = np.array([0.5, 0.999999, 1.000001, 3.0])
    for factor, response in zip(
        factors, follow(element, workers, np.outer(factors * at_yield, UNIT[name])), strict=True
    ):
        stress = stress_of(response)
        sign = UNIT[name][0]
        assert stress[0] - stress[1] == pytest.approx(sign * YIELD_MPA * min(factor, 1), rel=1e-9)
        assert stress[:3].sum() == pytest.approx(0, abs=1e-9)
    expected = (factors[-1] - 1) * at_yield * np.array(UNIT[name], dtype=float)
    np.testing.assert_allclose(response.plastic_strain[0, 0], expected, atol=ROUNDING)
    assert equivalent_plastic_strain(response.plastic_strain)[0, 0] == pytest.approx(2.0 * at_yield)


def test_confined_compression_goes_on_with_the_bulk_modulus_after_yield(element, workers):
    at_yield = YIELD_MPA / (2 * G_MPA)
    strains = np.array([0.7, 1.5, 3.0]) * at_yield
    stresses = [stress_of(r) for r in follow(element, workers, np.outer(strains, UNIT["confined"]))]
    assert stresses[0][2] == pytest.approx(-(K_MPA + 4 * G_MPA / 3) * strains[0])
    for strain, stress in zip(strains[1:], stresses[1:], strict=True):
        assert stress[2] == pytest.approx(-(K_MPA * strain + 2 * YIELD_MPA / 3))
        assert stress[0] == pytest.approx(-(K_MPA * strain - YIELD_MPA / 3))


def test_pressure_alone_never_yields(element, workers):
    (response,) = follow(element, workers, [0.5 * np.array(UNIT["hydrostatic"], dtype=float)])
    np.testing.assert_allclose(stress_of(response), [-3 * K_MPA * 0.5] * 3 + [0] * 3, atol=ROUNDING * K_MPA)
    assert not response.plastic_strain.any()


def test_unloading_is_elastic_and_reloading_yields_where_it_left_off(element, workers):
    at_yield = YIELD_MPA / np.sqrt(3) / G_MPA
    gammas = np.array([3.0, 2.5, 1.2, 2.999999, 3.5]) * at_yield
    shear = [stress_of(r)[3] for r in follow(element, workers, np.outer(gammas, UNIT["shear"]))]
    top = YIELD_MPA / np.sqrt(3)
    np.testing.assert_allclose(shear[:3], [top, top - 0.5 * G_MPA * at_yield, top - 1.8 * G_MPA * at_yield])
    np.testing.assert_allclose(shear[3:], [top * (1 - 1e-6), top])


def test_reversed_shear_yields_at_the_same_size_because_nothing_hardens(element, workers):
    at_yield = YIELD_MPA / np.sqrt(3) / G_MPA
    shear = [
        stress_of(r)[3] for r in follow(element, workers, np.outer(np.array([3.0, -3.0]) * at_yield, UNIT["shear"]))
    ]
    np.testing.assert_allclose(shear, [YIELD_MPA / np.sqrt(3), -YIELD_MPA / np.sqrt(3)])


def test_every_increment_ends_on_the_yield_surface_along_the_trial_stress(element, workers):
    rng = np.random.default_rng(5)
    state = np.zeros((1, 4, 6))
    mesh, body = element
    for _ in range(20):
        strain = 0.05 * rng.standard_normal(6)
        response = respond(body, affine(mesh, strain), state, workers)
        lame, shear = (np.asarray(v) for v in lame_constants(np.array(E_MPA), NU))
        trial = isotropic_stress(strain - state[0, 0], lame, shear)
        stress = response.stress_mpa[0, 0]
        assert equivalent_stress(trial) > YIELD_MPA
        assert equivalent_stress(stress) == pytest.approx(YIELD_MPA, rel=1e-10)
        assert stress[:3].sum() == pytest.approx(trial[:3].sum())
        ratio = YIELD_MPA / equivalent_stress(trial)
        np.testing.assert_allclose(stress[3:], ratio * trial[3:], atol=1e-9)
        assert response.plastic_strain[0, 0, :3].sum() == pytest.approx(0, abs=1e-15)
        state = response.plastic_strain


@pytest.mark.parametrize("name", ["tension", "shear", "confined", "mixed"])
@pytest.mark.parametrize("size", [0.004, 0.06])
def test_the_tangent_is_the_slope_of_the_forces(element, workers, name, size):
    mesh, body = element
    rng = np.random.default_rng(3)
    state = body.no_plastic_strain()
    start = affine(mesh, size * np.array(UNIT[name], dtype=float))
    response = respond(body, start, state, workers)
    assert response.flow.any(axis=2).all() == (size > 0.03)
    direction = rng.standard_normal(start.shape)
    # Central differences: truncation h^2 |f'''| with f''' ~ E / strain^2, rounding eps E / h; both below 1e-6 at 1e-6.
    h = 1e-6
    forces = [respond(body, start + s * h * direction, state, workers).force_n for s in (1, -1)]
    product = tangent_product(body, response, direction, workers)
    np.testing.assert_allclose(product, (forces[0] - forces[1]) / (2 * h), atol=1e-5 * np.abs(product).max())


def test_the_tangent_is_symmetric_and_never_stiffer_than_the_elastic_stiffness(element, workers):
    mesh, body = element
    state = body.no_plastic_strain()
    response = respond(body, affine(mesh, 0.05 * np.array(UNIT["mixed"])), state, workers)
    elastic = respond(body, np.zeros((10, 3)), state, workers)
    units = np.eye(30).reshape(30, 10, 3)
    plastic, stiff = (
        np.array([tangent_product(body, r, unit, workers).ravel() for unit in units]) for r in (response, elastic)
    )
    np.testing.assert_allclose(plastic, plastic.T, atol=1e-10 * E_MPA)
    assert np.linalg.eigvalsh(stiff - plastic).min() > -1e-10 * E_MPA
    assert np.linalg.eigvalsh(plastic).min() > -1e-10 * E_MPA


def test_forces_balance_and_do_not_depend_on_the_number_of_threads(workers):
    rng = np.random.default_rng(8)
    mesh = cloud(rng)
    body = plastic_body(mesh, rng.uniform(100, 900, mesh.element_count), NU, YIELD_STRAIN)
    displacement = 0.05 * rng.standard_normal(mesh.nodes_mm.shape)
    one = respond(body, displacement, body.no_plastic_strain(), workers)
    three = respond(body, displacement, body.no_plastic_strain(), Workers(3))
    np.testing.assert_array_equal(one.force_n, three.force_n)
    np.testing.assert_allclose(one.force_n.sum(axis=0), 0, atol=1e-9 * np.abs(one.force_n).max())
    moment = np.cross(mesh.nodes_mm, one.force_n).sum(axis=0)
    np.testing.assert_allclose(moment, 0, atol=1e-8 * np.abs(one.force_n).max())


def cloud(rng):
    """Return a mesh of the tetrahedra between random points."""
    points = rng.random((60, 3)) * 10
    corners = Delaunay(points).simplices
    edges = points[corners[:, 1:]] - points[corners[:, :1]]
    volume = np.abs(np.linalg.det(edges)) / 6
    return quadratic_mesh(points, corners[volume > 1e-2 * volume.max()])
