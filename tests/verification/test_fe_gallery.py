"""Model problems with closed-form answers."""

import numpy as np
import pytest

from fe.criterion import centroid_strains, principal_strains
from fe.gallery import bar_elongation_mm, cantilever_deflection_mm
from fe.voxel.numbering import number_voxels
from fe.voxel.solver import elastic_model, solve

MODULUS_MPA = 12_000.0
NU = 0.3
FORCE_N = 500.0
CLAMP_EFFECT = 0.01
"""The clamped end of the brick model also holds the cross-section's Poisson contraction, which the beam's does not:
stiffer over about half a height of ten, times nu squared over one minus nu squared."""


def test_a_pulled_bar_with_free_sides_is_exact():
    shape, size_mm = (24, 5, 4), (1.25, 1.0, 2.0)
    modulus = np.full(shape, MODULUS_MPA)
    numbering = number_voxels(modulus > 0)
    z, y, x = numbering.node_places.T
    held = np.stack((x == 0, y == 0, z == 0))
    force = np.zeros((3, numbering.node_count))
    top = z == shape[0]
    # Consistent nodal loads of a uniform traction: an edge node carries half, a corner a quarter.
    share = np.where((y == 0) | (y == shape[1]), 0.5, 1.0) * np.where((x == 0) | (x == shape[2]), 0.5, 1.0)
    force[2, top] = FORCE_N * share[top] / share[top].sum()
    solution = solve(elastic_model(modulus, size_mm, NU, held), force, tolerance=1e-11)
    length, area = shape[0] * size_mm[0], shape[1] * size_mm[1] * shape[2] * size_mm[2]
    elongation = bar_elongation_mm(FORCE_N, length, area, MODULUS_MPA)
    np.testing.assert_allclose(solution.displacement_mm[2, top], elongation, rtol=1e-8)
    strain = elongation / length
    largest, smallest = principal_strains(centroid_strains(numbering, solution.displacement_mm, size_mm))
    np.testing.assert_allclose(largest, strain, rtol=1e-7)
    np.testing.assert_allclose(smallest, -NU * strain, rtol=1e-7)


def cantilever_deflection(n):
    """Mean tip deflection of a 10 x 1 x 1 cantilever with n elements over its height."""
    shape, size_mm = (10 * n, n, n), (10.0 / n,) * 3
    modulus = np.full(shape, MODULUS_MPA)
    numbering = number_voxels(modulus > 0)
    z, y, x = numbering.node_places.T
    held = np.zeros((3, numbering.node_count), dtype=bool)
    held[:, z == 0] = True
    tip = z == shape[0]
    share = np.where((y == 0) | (y == n), 0.5, 1.0) * np.where((x == 0) | (x == n), 0.5, 1.0)
    force = np.zeros(held.shape)
    force[1, tip] = FORCE_N * share[tip] / share[tip].sum()
    solution = solve(elastic_model(modulus, size_mm, NU, held), force, tolerance=1e-9)
    return float((solution.displacement_mm[1, tip] * share[tip]).sum() / share[tip].sum())


def test_a_cantilever_converges_with_second_order_to_the_beam():
    meshes = [cantilever_deflection(n) for n in (4, 8, 16)]
    order = np.log2((meshes[1] - meshes[0]) / (meshes[2] - meshes[1]))
    assert 1.7 < order < 2.3
    limit = meshes[2] + (meshes[2] - meshes[1]) / (2**order - 1)
    beam = cantilever_deflection_mm(FORCE_N, 100.0, 10.0, 10.0, MODULUS_MPA, NU)
    assert limit == pytest.approx(beam, rel=CLAMP_EFFECT)
    assert limit < beam
