"""The material law integrated over elements."""

import numpy as np
import pytest

from fe.errors import BadDensity, BadMask, EmptyMask, OutsideVolume, UnsupportedModel
from fe.tetra.blocks import block_mesh
from fe.tetra.element import conical_rule, shape_functions
from fe.tetra.moduli import bone_volume, element_moduli

SPACING_MM = (2.0, 1.0, 1.5)
SHAPE = (12, 20, 14)


def linear(points):
    return 300 + points @ (7.0, -3.0, 5.0)


@pytest.fixture
def scan():
    """A scan whose values are a linear function of the place, and a mesh well inside its mask."""
    z, y, x = (np.arange(n) * s for n, s in zip(SHAPE, SPACING_MM, strict=True))
    places = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:10, 4:16, 2:12] = True
    return linear(places), mask, block_mesh((2, 2, 2), lambda p: (5, 6, 6) + p * (8, 7, 9))


def test_a_linear_law_of_a_linear_scan_is_the_value_at_the_centre(scan):
    values, mask, mesh = scan
    moduli = element_moduli(mesh, bone_volume(values, mask, SPACING_MM), lambda v: 10 * v)
    np.testing.assert_allclose(moduli.modulus_mpa, 10 * linear(mesh.centres_mm()), rtol=1e-6)
    assert moduli.range_mpa == (moduli.modulus_mpa.min(), moduli.modulus_mpa.max())
    assert moduli.within_mpa[0] < moduli.range_mpa[0]
    assert moduli.within_mpa[1] > moduli.range_mpa[1]


def test_the_law_is_averaged_not_the_scan(scan):
    values, mask, mesh = scan
    moduli = element_moduli(mesh, bone_volume(values, mask, SPACING_MM), lambda v: v**3)
    rule = conical_rule(4)
    points = np.einsum("pn,enc->epc", shape_functions(rule.places), mesh.nodes_mm[mesh.elements])
    np.testing.assert_allclose(moduli.modulus_mpa, linear(points) ** 3 @ rule.weights, rtol=1e-6)
    assert (moduli.modulus_mpa > linear(mesh.centres_mm()) ** 3).all()


def test_soft_tissue_outside_the_mask_never_dilutes_bone(scan):
    _, mask, _ = scan
    bone = np.where(mask, 500.0, -800.0)
    mesh = block_mesh(
        (4, 4, 4), lambda p: (2.3, 3.5, 3.0) + p * (14.9, 12.0, 16.0)
    )  # as far as the outer voxels' edges
    moduli = element_moduli(mesh, bone_volume(bone, mask, SPACING_MM), lambda v: v)
    np.testing.assert_allclose(moduli.modulus_mpa, 500, rtol=1e-9)


def test_values_outside_the_mask_are_never_read(scan):
    values, mask, mesh = scan
    with_nan = np.where(mask, values, np.nan)
    one, other = (element_moduli(mesh, bone_volume(v, mask, SPACING_MM), lambda v: v) for v in (values, with_nan))
    np.testing.assert_array_equal(one.modulus_mpa, other.modulus_mpa)


def test_a_mesh_outside_the_scan_or_beside_the_mask_is_refused(scan):
    values, mask, _ = scan
    volume = bone_volume(values, mask, SPACING_MM)
    with pytest.raises(OutsideVolume, match="outside of the scan"):
        element_moduli(block_mesh((2, 2, 2), lambda p: (15, 6, 6) + p * 9), volume, lambda v: v)
    corner = np.zeros(SHAPE, dtype=bool)
    corner[:2, :2, :2] = True
    beside = block_mesh((2, 2, 2), lambda p: (8, 8, 10) + p * 6)
    with pytest.raises(OutsideVolume, match="beside the mask"):
        element_moduli(beside, bone_volume(values, corner, SPACING_MM), lambda v: v)


@pytest.mark.parametrize("law", [lambda v: v * 0, lambda v: v * np.nan, lambda v: v - 1e4])
def test_a_law_without_a_positive_modulus_is_refused(scan, law):
    values, mask, mesh = scan
    with pytest.raises(UnsupportedModel, match="positive"):
        element_moduli(mesh, bone_volume(values, mask, SPACING_MM), law)


def test_a_scan_that_cannot_be_used_is_refused(scan):
    values, mask, _ = scan
    with pytest.raises(BadDensity, match="1 voxels"):
        bone_volume(
            np.where(np.arange(values.size).reshape(SHAPE) == np.flatnonzero(mask)[3], np.inf, values), mask, SPACING_MM
        )
    with pytest.raises(EmptyMask):
        bone_volume(values, mask & False, SPACING_MM)
    with pytest.raises(BadMask):
        bone_volume(values, mask[1:], SPACING_MM)
