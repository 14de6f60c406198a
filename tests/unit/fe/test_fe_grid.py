"""Resampling of density and mask to elements."""

import numpy as np
import pytest

from fe.errors import BadDensity, BadMask, BadSpacing, EmptyMask
from fe.voxel.grid import density_grid

SPACING = (3.0, 2.0, 1.0)


def block(shape=(12, 14, 20), margin=3):
    mask = np.zeros(shape, dtype=bool)
    mask[margin:-margin, margin:-margin, margin:-margin] = True
    return mask


@pytest.mark.parametrize("element_mm", [0.7, 1.0, 1.5, 3.0, 4.0])
def test_a_constant_density_stays_constant_at_any_element_size(element_mm):
    mask = block()
    grid = density_grid(np.where(mask, 123.0, -900.0), mask, SPACING, element_mm)
    np.testing.assert_allclose(grid.rho_qct_mg_per_cm3[grid.is_bone], 123.0, rtol=1e-12)


@pytest.mark.parametrize("element_mm", [0.5, 1.0, 2.0])
def test_a_linear_density_is_reproduced_at_the_elements_centres_inside_the_bone(element_mm):
    mask = block()
    z, y, x = np.indices(mask.shape)
    rho = 100 + 5.0 * z * SPACING[0] + 3.0 * y * SPACING[1] - 2.0 * x * SPACING[2]
    grid = density_grid(rho, mask, SPACING, element_mm)
    points = grid.points_mm(np.argwhere(grid.is_bone))
    inner_mm = element_mm / 2 + np.array(SPACING)[::-1]
    low, high = points.min(axis=0), points.max(axis=0)
    inner = ((points > low + inner_mm) & (points < high - inner_mm)).all(axis=1)
    expected = 100 + 5.0 * points[:, 2] + 3.0 * points[:, 1] - 2.0 * points[:, 0]
    assert inner.sum() > 20
    np.testing.assert_allclose(grid.rho_qct_mg_per_cm3[grid.is_bone][inner], expected[inner], rtol=1e-9)


def test_elements_of_the_voxels_size_on_the_voxels_grid_are_the_voxels():
    rng = np.random.default_rng(1)
    rho, mask = rng.uniform(0, 900, (9, 8, 7)), np.zeros((9, 8, 7), dtype=bool)
    mask[1:8, 1:7, 1:6] = True
    grid = density_grid(rho, mask, (2.0, 2.0, 2.0), 2.0)
    assert grid.element_count >= 0.6 * mask.sum()
    assert grid.is_bone.shape == (7, 6, 5)
    np.testing.assert_allclose(grid.points_mm(np.zeros((1, 3)))[0], (2.0, 2.0, 2.0))


def test_the_volume_of_the_bone_is_kept_when_the_elements_are_small():
    z, y, x = np.ogrid[-15:16, -15:16, -15:16]
    ball = z * z + y * y + x * x < 12**2
    grid = density_grid(ball.astype(float), ball, (2.0, 2.0, 2.0), 1.0)
    assert grid.element_count * 1.0 == pytest.approx(ball.sum() * 8.0, rel=0.02)


def test_a_bone_cut_by_the_volumes_edge_keeps_its_last_slice():
    mask = np.zeros((10, 9, 9), dtype=bool)
    mask[0:6, 2:7, 2:7] = True
    grid = density_grid(mask * 100.0, mask, (3.0, 3.0, 3.0), 1.5)
    assert grid.is_bone[0, 4, 4]
    assert grid.points_mm(np.zeros((1, 3)))[0, 2] == pytest.approx(-0.75)


def test_soft_tissue_outside_the_mask_never_dilutes_the_bone():
    mask = block()
    grids = [density_grid(np.where(mask, 400.0, outside), mask, SPACING, 1.3) for outside in (-900.0, np.nan)]
    for grid in grids:
        np.testing.assert_allclose(grid.rho_qct_mg_per_cm3[grid.is_bone], 400.0)


def test_islands_are_dropped_and_counted():
    mask = block((20, 14, 20))
    mask[0, 0:3, 0:3] = True
    mask[19, 13, 18:20] = True
    grid = density_grid(mask * 100.0, mask, (1.0, 1.0, 1.0), 0.5)
    whole = density_grid(block((20, 14, 20)) * 100.0, block((20, 14, 20)), (1.0, 1.0, 1.0), 0.5)
    assert grid.islands == 2
    assert grid.dropped_elements > 0
    assert grid.element_count == whole.element_count


def test_parts_that_touch_in_an_edge_only_are_islands():
    mask = np.zeros((8, 8, 8), dtype=bool)
    mask[:, :4, :4] = True
    mask[:5, 4:, 4:] = True
    grid = density_grid(mask * 1.0, mask, (3.0, 3.0, 3.0), 3.0)
    assert grid.islands == 1


def test_a_mirrored_volume_gives_a_mirrored_grid():
    rng = np.random.default_rng(2)
    mask = rng.random((9, 10, 11)) > 0.2
    rho = rng.uniform(0, 900, mask.shape)
    plain = density_grid(rho, mask, SPACING, 1.3)
    mirrored = density_grid(rho[..., ::-1], mask[..., ::-1], SPACING, 1.3)
    np.testing.assert_array_equal(plain.is_bone, mirrored.is_bone[..., ::-1])
    np.testing.assert_allclose(plain.rho_qct_mg_per_cm3, mirrored.rho_qct_mg_per_cm3[..., ::-1], rtol=1e-9)


def test_a_density_with_nan_inside_the_bone_is_refused():
    mask = block()
    rho = np.where(mask, 100.0, 0.0)
    rho[5, 6, 7] = np.nan
    with pytest.raises(BadDensity, match="1 voxels"):
        density_grid(rho, mask, SPACING, 1.0)


def test_a_density_in_the_wrong_unit_is_refused():
    with pytest.raises(BadDensity, match="mg/cm3"):
        density_grid(np.full((12, 14, 20), 1.2e6), block(), SPACING, 1.0)


@pytest.mark.parametrize(("spacing", "element_mm"), [((3.0, 0.0, 1.0), 1.0), (SPACING, -1.0), (SPACING, np.nan)])
def test_a_length_that_is_not_positive_is_refused(spacing, element_mm):
    with pytest.raises(BadSpacing):
        density_grid(np.zeros((12, 14, 20)), block(), spacing, element_mm)


def test_an_empty_mask_and_one_thinner_than_the_elements_are_refused():
    with pytest.raises(EmptyMask):
        density_grid(np.zeros((4, 4, 4)), np.zeros((4, 4, 4), dtype=bool), SPACING, 1.0)
    thread = np.zeros((9, 9, 9), dtype=bool)
    thread[:, 4, 4] = True
    with pytest.raises(EmptyMask, match="thinner"):
        density_grid(thread * 1.0, thread, (1.0, 1.0, 1.0), 4.0)


def test_a_mask_of_another_shape_or_type_is_refused():
    with pytest.raises(BadMask):
        density_grid(np.zeros((4, 4, 5)), np.ones((4, 4, 4), dtype=bool), SPACING, 1.0)
    with pytest.raises(BadMask):
        density_grid(np.zeros((4, 4, 4)), np.ones((4, 4, 4)), SPACING, 1.0)
