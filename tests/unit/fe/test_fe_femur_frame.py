"""Landmarks and axes of synthetic femurs."""

import numpy as np
import pytest

from fe.errors import BadInput, HeadNotFound, LandmarkNotFound, TrochanterNotFound
from fe.femur_frame import find_femur_frame
from fe.gallery import NECK_SHAFT_DEG, synthetic_femur
from fe.voxel.grid import density_grid

VOXEL_MM = 2.5
LANDMARK_TOLERANCE_MM = 0.5
ANGLE_TOLERANCE_DEG = 3.0


def frame_of(side, element_mm=VOXEL_MM, **options):
    femur = synthetic_femur(side, (VOXEL_MM,) * 3, **options)
    grid = density_grid(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, element_mm)
    return femur, find_femur_frame(grid, side)


@pytest.mark.parametrize("side", ["R", "L"])
def test_the_head_is_found_to_a_fraction_of_a_voxel(side):
    femur, frame = frame_of(side)
    np.testing.assert_allclose(frame.head_centre_mm, femur.head_centre_mm, atol=LANDMARK_TOLERANCE_MM)
    assert frame.head_radius_mm == pytest.approx(femur.head_radius_mm, abs=LANDMARK_TOLERANCE_MM)


@pytest.mark.parametrize("side", ["R", "L"])
def test_the_axes_are_anatomical_on_both_sides(side):
    _, frame = frame_of(side)
    lateral = -1.0 if side == "R" else 1.0
    np.testing.assert_allclose(frame.lateral, (lateral, 0, 0), atol=0.03)
    np.testing.assert_allclose(frame.anterior, (0, -1, 0), atol=0.03)
    np.testing.assert_allclose(frame.proximal, (0, 0, 1), atol=0.03)
    assert frame.neck_shaft_deg == pytest.approx(NECK_SHAFT_DEG, abs=ANGLE_TOLERANCE_DEG)


def test_the_trochanter_is_the_most_lateral_surface():
    femur, frame = frame_of("R")
    x = np.flatnonzero(femur.mask.any(axis=(0, 1)))[0] * VOXEL_MM
    assert frame.trochanter_mm[0] == pytest.approx(x - VOXEL_MM / 2, abs=2.0)
    assert frame.trochanter_mm[2] < frame.head_centre_mm[2]


def test_left_is_the_mirror_image_of_right():
    femur, right = frame_of("R")
    _, left = frame_of("L")
    width_mm = (femur.mask.shape[2] - 1) * VOXEL_MM
    mirror = np.array([-1.0, 1, 1])
    for name in ("head_centre_mm", "trochanter_mm"):
        mirrored = np.array(getattr(right, name)) * mirror + (width_mm, 0, 0)
        np.testing.assert_allclose(getattr(left, name), mirrored, atol=1e-6)
    for name in ("lateral", "anterior", "proximal", "neck_axis"):
        np.testing.assert_allclose(getattr(left, name), np.array(getattr(right, name)) * mirror, atol=1e-6)


def test_a_tilted_shaft_is_followed():
    femur = synthetic_femur("R", (VOXEL_MM,) * 3, shaft_mm=200.0)
    # Shear the volume: every slice further down moves 1 voxel to the back per 10 slices.
    shift = (femur.mask.shape[0] - 1 - np.arange(femur.mask.shape[0])) // 10
    room = np.pad(femur.mask, ((0, 0), (0, int(shift.max())), (0, 0)))
    sheared = np.stack([np.roll(room[k], shift[k], axis=0) for k in range(len(room))])
    frame = find_femur_frame(density_grid(sheared * 500.0, sheared, femur.spacing_mm, VOXEL_MM), "R")
    assert frame.has_shaft_axis
    tilt_deg = np.degrees(np.arctan2(-frame.proximal[1], frame.proximal[2]))
    assert tilt_deg == pytest.approx(np.degrees(np.arctan(0.1)), abs=1.0)


def test_a_short_shaft_falls_back_on_the_scans_long_axis():
    _, frame = frame_of("R", shaft_mm=60.0)
    assert not frame.has_shaft_axis
    assert frame.proximal == (0.0, 0.0, 1.0)


def test_a_femur_taken_for_the_other_side_is_refused():
    femur = synthetic_femur("R", (VOXEL_MM,) * 3)
    grid = density_grid(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, VOXEL_MM)
    with pytest.raises(LandmarkNotFound, match="midline"):
        find_femur_frame(grid, "L")
    with pytest.raises(BadInput, match="R or L"):
        find_femur_frame(grid, "B")


def test_a_cylinder_or_a_box_has_no_head():
    z, y, x = np.indices((60, 30, 30))
    cylinder = (y - 15) ** 2 + (x - 15) ** 2 < 9**2
    for shape in (cylinder, (abs(y - 15) < 9) & (abs(x - 15) < 10) & (z > 5)):
        with pytest.raises(HeadNotFound):
            find_femur_frame(density_grid(shape * 500.0, shape, (2.5, 2.5, 2.5), 2.5), "R")


def test_a_head_and_neck_alone_have_no_trochanter():
    femur = synthetic_femur("R", (VOXEL_MM,) * 3)
    x_mm = np.arange(femur.mask.shape[2]) * VOXEL_MM
    cut = femur.mask & (x_mm > femur.head_centre_mm[0] - 33.0)
    with pytest.raises(TrochanterNotFound):
        find_femur_frame(density_grid(cut * 500.0, cut, femur.spacing_mm, VOXEL_MM), "R")
