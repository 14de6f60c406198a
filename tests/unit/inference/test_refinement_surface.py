"""refine on bones of known surface, and the model of the blurred cortex on its own profiles."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from inference.cortex_edges import CORTEX_HU, CORTEX_MM, LEAST_STEP_HU, SPREAD
from inference.errors import SegmentationError
from inference.refinement import BAND_MM, refine
from inference.surface_kernels import fit_cortices
from inference.volume import Volume

SOFT_HU, CANCELLOUS_HU = 50.0, 150.0
SCANNER_BLUR_MM = 0.4
"""Standard deviation of a scanner's blur with a standard kernel; the mean over a voxel adds its share."""
BLUR_MM = 0.5
"""Both together for voxels of 1 mm: the root of 0.4^2 + 1/12, mm."""
COARSE_ERROR_MM = 2.0
"""By which the coarse surface is off: less than a voxel of the network's."""

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.uint8]


def blurred_bone(
    depth_mm: Array, cortex_mm: float = 1.0, inside_hu: float = CANCELLOUS_HU, blur_mm: Array | float = BLUR_MM
) -> Array:
    """CT number at signed distances from a bone's outer face, negative inside; exact for a plane."""
    inner, outer = ndtr(-(depth_mm + cortex_mm) / blur_mm), ndtr(-depth_mm / blur_mm)
    return np.asarray(SOFT_HU + (CORTEX_HU - SOFT_HU) * outer + (inside_hu - CORTEX_HU) * inner)


def grid_mm(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> tuple[Array, ...]:
    """Coordinates (z, y, x) of voxel centres from the middle of the grid."""
    axes = [(np.arange(n) - (n - 1) / 2) * length for n, length in zip(shape, spacing_mm, strict=True)]
    return tuple(np.meshgrid(*axes, indexing="ij"))


def ball(
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0), centre_x_mm: float = 0.0, radius_mm: float = 14.0
) -> Array:
    """Signed distance from a ball."""
    shape = tuple(round(48 / length) for length in spacing_mm)
    z, y, x = grid_mm((shape[0], shape[1], shape[2]), spacing_mm)
    return np.asarray(np.sqrt(z * z + y * y + (x - centre_x_mm) ** 2) - radius_mm)


def blur_of_ball(spacing_mm: tuple[float, float, float]) -> Array:
    """Standard deviation along the ball's normals: the scanner's blur and the mean over a voxel."""
    shape = tuple(round(48 / length) for length in spacing_mm)
    places = np.stack(grid_mm((shape[0], shape[1], shape[2]), spacing_mm), axis=-1)
    normals = places / np.linalg.norm(places, axis=-1, keepdims=True).clip(1e-6)
    return np.asarray(np.sqrt(SCANNER_BLUR_MM**2 + normals**2 @ (np.asarray(spacing_mm) ** 2 / 12)))


def volume_of(hu: Array, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    return Volume(hu.astype(np.float32), np.diag([*spacing_mm[::-1], 1.0])[:, [2, 1, 0, 3]])


def labels_of(mask: NDArray[np.bool_], value: int = 1) -> Labels:
    return np.where(mask, value, 0).astype(np.uint8)


def offset_mm(labels: Labels, depth_mm: Array, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> float:
    """By how much a ball-like label is larger than the ball, as a radius."""
    mm3 = float(np.prod(spacing_mm))
    radii = [(3 * mm3 * float(mask.sum()) / (4 * np.pi)) ** (1 / 3) for mask in (labels > 0, depth_mm < 0)]
    return float(radii[0] - radii[1])


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.7, 0.7), (3.0, 1.0, 1.0), (3.0, 3.0, 3.0)])
@pytest.mark.parametrize("error_mm", [-COARSE_ERROR_MM, COARSE_ERROR_MM])
def test_a_surface_that_is_off_comes_back_within_a_quarter_voxel(
    spacing_mm: tuple[float, float, float], error_mm: float
) -> None:
    depth = ball(spacing_mm)
    hu = blurred_bone(depth, blur_mm=blur_of_ball(spacing_mm))
    refined = refine(volume_of(hu, spacing_mm), labels_of(depth < error_mm))
    assert abs(offset_mm(refined, depth, spacing_mm)) < max(spacing_mm) / 4


def test_bone_darker_inside_than_muscle_is_found_by_its_cortex() -> None:
    depth = ball()
    refined = refine(volume_of(blurred_bone(depth, inside_hu=-20.0)), labels_of(depth < COARSE_ERROR_MM))
    assert abs(offset_mm(refined, depth)) < 0.25


def test_noise_does_not_move_the_surface() -> None:
    depth = ball()
    noise = np.random.default_rng(1).normal(0.0, 50.0, depth.shape)
    refined = refine(volume_of(blurred_bone(depth) + noise), labels_of(depth < -COARSE_ERROR_MM))
    assert abs(offset_mm(refined, depth)) < 0.25
    assert np.abs(depth[(refined > 0) != (depth < 0)]).max() < 1.0


def test_a_vessel_beside_the_bone_is_not_bone() -> None:
    depth = ball()
    vessel = ball(centre_x_mm=14.0 + 1.5 + 3.0, radius_mm=3.0)
    hu = np.maximum(blurred_bone(depth), SOFT_HU + 300.0 * ndtr(-vessel / BLUR_MM))
    refined = refine(volume_of(hu), labels_of((depth < 0.5) | ((vessel < 0) & (depth < 3.0))))
    assert (refined[vessel < 0] > 0).mean() < 0.05


def test_neighbours_across_a_gap_stay_apart() -> None:
    left, right = ball(centre_x_mm=-11.0, radius_mm=9.5), ball(centre_x_mm=11.0, radius_mm=9.5)
    hu = np.maximum(blurred_bone(left), blurred_bone(right))
    coarse = labels_of(left < 2.0)
    coarse[(right < -1.0) & (coarse == 0)] = 2
    refined = refine(volume_of(hu), coarse)
    for value, depth in ((1, left), (2, right)):
        assert 2 * ((refined == value) & (depth < 0)).sum() / ((refined == value).sum() + (depth < 0).sum()) > 0.96
    assert not ((refined[:, :, 1:] == 2) & (refined[:, :, :-1] == 1)).any()


def test_without_an_edge_the_surface_stays() -> None:
    depth = ball()
    coarse = labels_of(depth < 0)
    refined = refine(volume_of(np.full(depth.shape, CANCELLOUS_HU)), coarse)
    assert np.abs(depth[refined != coarse]).max(initial=0.0) < 1.0


def test_near_metal_the_surface_stays() -> None:
    depth = ball()
    hu = np.where(depth < -3.0, 3000.0, blurred_bone(depth))
    coarse = labels_of(depth < COARSE_ERROR_MM)
    assert abs(offset_mm(refine(volume_of(hu), coarse), depth) - offset_mm(coarse, depth)) < 0.25


def test_the_border_between_parts_of_one_bone_stays_where_it_was() -> None:
    depth = ball()
    z = grid_mm((48, 48, 48), (1.0, 1.0, 1.0))[0]
    coarse = np.where(depth < COARSE_ERROR_MM, np.where(z > 0, 7, 5), 0).astype(np.uint8)
    refined = refine(volume_of(blurred_bone(depth)), coarse, bones=((7, 5),))
    assert abs(offset_mm(refined, depth)) < 0.25
    assert set(np.unique(refined)) == {0, 5, 7}
    assert (refined[(z > 0) & (refined > 0)] == 7).mean() > 0.99
    assert (refined[(z < 0) & (refined > 0)] == 5).mean() > 0.99


def test_a_bone_cut_by_the_edge_of_the_scan_stays_open_there() -> None:
    depth = ball()
    hu, coarse = blurred_bone(depth)[24:], labels_of(depth < COARSE_ERROR_MM)[24:]
    refined = refine(volume_of(hu), coarse)
    assert np.abs(depth[24][(refined[0] > 0) != (depth[24] < 0)]).max(initial=0.0) < 1.0


def test_labels_are_neither_invented_nor_changed_in_place() -> None:
    depth = ball()
    coarse = labels_of(depth < COARSE_ERROR_MM, 44)
    before = coarse.copy()
    volume = volume_of(blurred_bone(depth))
    once, twice = refine(volume, coarse), refine(volume, coarse)
    np.testing.assert_array_equal(coarse, before)
    np.testing.assert_array_equal(once, twice)
    assert set(np.unique(once)) == {0, 44}
    assert once.dtype == np.uint8
    assert depth[once > 0].max() < COARSE_ERROR_MM + BAND_MM


@pytest.mark.parametrize(
    "coarse",
    [np.zeros((6, 7, 8)), np.eye(1, 6 * 7 * 8, 100).reshape(6, 7, 8), np.ones((6, 7, 8)), np.ones((1, 7, 8))],
    ids=["nothing", "one voxel", "everything", "one slice"],
)
def test_labels_too_small_or_too_large_for_a_surface_are_returned_as_they_are(coarse: Array) -> None:
    labels = coarse.astype(np.uint8)
    np.testing.assert_array_equal(refine(volume_of(np.full(coarse.shape, 100.0)), labels), labels)


def test_labels_of_another_grid_or_type_are_refused() -> None:
    volume = volume_of(np.zeros((4, 4, 4)))
    with pytest.raises(SegmentationError, match="expected"):
        refine(volume, np.zeros((4, 4, 5), dtype=np.uint8))
    with pytest.raises(SegmentationError, match="uint8"):
        refine(volume, np.zeros((4, 4, 4), dtype=np.int32))


def test_a_value_cannot_belong_to_two_bones() -> None:
    with pytest.raises(SegmentationError, match="one bone"):
        refine(volume_of(np.zeros((4, 4, 4))), np.zeros((4, 4, 4), dtype=np.uint8), bones=((1, 2), (2, 3)))


@pytest.mark.parametrize("cortex_mm", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("edge_mm", [-0.8, 0.3])
def test_the_fitted_edge_is_the_outer_face_where_half_of_the_maximum_is_not(cortex_mm: float, edge_mm: float) -> None:
    offsets = np.arange(-7.0, 7.1, 0.5)
    profile = blurred_bone(offsets - edge_mm, cortex_mm)
    found, fall = np.empty(1), np.empty(1)
    expected = np.array([CORTEX_MM, CORTEX_HU])
    rays = profile[None].astype(np.float32), offsets, np.zeros(1), np.full(1, BLUR_MM)
    fit_cortices(*rays, expected, SPREAD, LEAST_STEP_HU, found, fall)
    fine = np.linspace(-7.0, 7.0, 14001)
    curve = blurred_bone(fine - edge_mm, cortex_mm)
    half = (curve.max() + SOFT_HU) / 2
    half_mm = fine[np.flatnonzero(curve > half)[-1]]
    assert abs(found[0] - edge_mm) < 0.12
    assert cortex_mm > 1.5 or half_mm - edge_mm > 0.15


def test_a_profile_without_a_fall_keeps_its_place() -> None:
    offsets = np.arange(-7.0, 7.1, 0.5)
    found, fall = np.empty(1), np.empty(1)
    flat = np.full((1, len(offsets)), SOFT_HU, dtype=np.float32)
    expected = np.array([CORTEX_MM, CORTEX_HU])
    fit_cortices(flat, offsets, np.full(1, 0.4), np.ones(1), expected, SPREAD, LEAST_STEP_HU, found, fall)
    assert (found[0], fall[0]) == (0.4, 0.0)
