"""From classes to spine and hips: order, heights, sides, on made-up class maps."""

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.labels import BY_KEY
from inference.networks.bone_classes import GRID_MM, BoneClass
from inference.networks.hip_parts import coarse_hips, whole_hips
from inference.networks.spine_parts import canal_of, find_spine, instances_of
from inference.spinal_canal import WORKING_SPACING_MM, WorkingGrid
from inference.vertebra_levels import is_cut
from inference.volume import Volume

SHAPE = (70, 50, 60)
PITCH, BODY = 12, 9
"""Voxels from one body to the next, and of one body: bodies of 27 mm, discs of 9 mm."""

LEVELS = 4
CANAL_ROW, COLUMN = 32, 30


def ladder(gap: int = PITCH - BODY) -> NDArray[np.uint8]:
    """A sacrum with four bodies above it in front of a straight canal; body n starts at slice 20 + n * pitch."""
    classes = np.zeros(SHAPE, np.uint8)
    classes[8:64, CANAL_ROW - 2 : CANAL_ROW + 3, COLUMN - 3 : COLUMN + 4] = BoneClass.CANAL
    classes[2:17, CANAL_ROW - 14 : CANAL_ROW - 3, COLUMN - 16 : COLUMN + 17] = BoneClass.SACRUM
    for level in range(LEVELS):
        low = 20 + level * (BODY + gap)
        rows, columns = slice(CANAL_ROW - 14, CANAL_ROW - 3), slice(COLUMN - 7, COLUMN + 8)
        classes[low : low + BODY, rows, columns] = BoneClass.BODY_SHELL
        classes[low + 2 : low + BODY - 2, rows.start + 2 : rows.stop - 2, columns.start + 2 : columns.stop - 2] = (
            BoneClass.BODY_CORE
        )
    return classes


def working(shape: tuple[int, int, int] = SHAPE) -> WorkingGrid:
    cells = [int((n - 1) * GRID_MM / WORKING_SPACING_MM) + 1 for n in shape]
    return WorkingGrid(np.zeros(cells, np.float32))


def test_bodies_are_slabs_from_the_feet_to_the_head_with_their_heights() -> None:
    spine = find_spine(ladder(), working())
    assert spine is not None
    middles = [spine.curve.points_mm[int(slab.middle), 0] for slab in spine.slabs]
    expected = [(20 + level * PITCH + (BODY - 1) / 2) * GRID_MM for level in range(LEVELS)]
    np.testing.assert_allclose(middles, expected, atol=1.5)
    np.testing.assert_allclose([slab.height_mm for slab in spine.slabs], BODY * GRID_MM, atol=2.0)
    assert all(abs(slab.top.tilt_sagittal) < 0.02 for slab in spine.slabs)


def test_the_top_of_the_sacrum_lies_below_the_lowest_body() -> None:
    spine = find_spine(ladder(), working())
    assert spine is not None
    assert spine.sacrum_top is not None
    assert spine.curve.points_mm[spine.sacrum_top, 0] == pytest.approx(16 * GRID_MM, abs=GRID_MM)
    assert spine.slabs[0].bottom.position > spine.sacrum_top


def test_a_sternum_that_looks_like_a_sacrum_is_none() -> None:
    classes = ladder()
    sacrum = classes == BoneClass.SACRUM
    classes[sacrum] = 0
    classes[4:40, 0:8, 22:39] = BoneClass.SACRUM
    curve_end = find_spine(classes, working())
    assert curve_end is not None
    assert not curve_end.sacrum.any()
    assert curve_end.sacrum_top is None
    whole = find_spine(ladder(), working())
    assert whole is not None
    np.testing.assert_array_equal(whole.sacrum, sacrum)


def test_bodies_whose_shells_touch_are_still_two() -> None:
    numbered = instances_of(ladder(gap=0))
    assert numbered.max() == LEVELS
    sizes = np.bincount(numbered.ravel())[1:]
    assert sizes.min() > 0.9 * sizes.max()


def test_a_tilted_body_gives_a_tilted_slab() -> None:
    classes = ladder()
    sheared = np.zeros_like(classes)
    for row in range(SHAPE[1]):
        sheared[:, row] = np.roll(classes[:, row], (CANAL_ROW - 7 - row) // 4, axis=0)
    sheared[classes == BoneClass.CANAL] = BoneClass.CANAL
    spine = find_spine(sheared, working())
    assert spine is not None
    assert spine.slabs[1].top.tilt_sagittal == pytest.approx(0.25, abs=0.07)


def test_a_canal_of_one_vertebra_is_no_spine() -> None:
    classes = ladder()
    classes[:50][classes[:50] == BoneClass.CANAL] = 0
    assert canal_of(classes, working()) is None
    assert find_spine(np.zeros(SHAPE, np.uint8), working()) is None


def test_the_line_goes_on_to_the_end_of_the_scan_and_not_beyond() -> None:
    classes = ladder()
    classes[58:][classes[58:] == BoneClass.CANAL] = 0
    canal = canal_of(classes, working())
    assert canal is not None
    assert canal.points_mm[-1, 0] <= (SHAPE[0] - 1) * GRID_MM
    assert canal.points_mm[-1, 0] > 57 * GRID_MM + 20


def test_a_body_cut_by_the_scan_ends_where_the_curve_ends() -> None:
    for classes in (ladder()[: 20 + 3 * PITCH + 4], ladder()[24:]):
        spine = find_spine(classes, working(classes.shape))
        assert spine is not None
        last = len(spine.curve.points_mm) - 1
        assert all(0 <= plate.position <= last for slab in spine.slabs for plate in (slab.bottom, slab.top))
        assert any(is_cut(spine.curve, slab) for slab in spine.slabs)


def pelvis() -> tuple[NDArray[np.uint8], Volume]:
    """Two simple femurs, balls with a neck and a shaft, in their sockets; canonical: columns grow to the left."""
    shape = (70, 50, 110)
    z, y, x = (np.arange(n)[i] * GRID_MM for n, i in zip(shape, np.ix_(*map(np.arange, shape)), strict=True))
    classes, hu = np.zeros(shape, np.uint8), np.full(shape, 40.0, np.float32)
    middle = (shape[2] - 1) / 2 * GRID_MM
    for sign, femur, hip in (
        (-1, BoneClass.FEMUR_RIGHT, BoneClass.HIP_RIGHT),
        (1, BoneClass.FEMUR_LEFT, BoneClass.HIP_LEFT),
    ):
        head = np.array([150.0, 75.0, middle + sign * 85])
        away = np.sqrt((z - head[0]) ** 2 + (y - head[1]) ** 2 + (x - head[2]) ** 2)
        socket = (away < 42) & (away > 27) & ((x - head[2]) * sign < 10) & (z > head[0] - 10)
        along = ((x - head[2]) * sign * 0.75 - (z - head[0]) * 0.66).clip(0, 60)
        off = np.sqrt(
            (z - head[0] + 0.66 * along) ** 2 + (y - head[1]) ** 2 + ((x - head[2]) * sign - 0.75 * along) ** 2
        )
        shaft = (np.hypot(y - head[1], (x - head[2]) * sign - 45) < 15) & (z < head[0] - 20)
        thigh = (away < 23) | ((off < 16) & (along > 0) & (along < 60)) | shaft
        classes[socket], classes[thigh] = hip, femur
        hu[socket | thigh] = 400.0
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * GRID_MM
    return classes, Volume(hu, affine)


def test_the_right_femur_is_the_one_on_the_low_side_of_the_columns() -> None:
    classes, volume = pelvis()
    labels = coarse_hips(classes, volume)
    where = {key: np.argwhere(labels == BY_KEY[key].value)[:, 2].mean() for key in ("femur_right", "femur_left")}
    assert where["femur_right"] < volume.hu.shape[2] / 2 < where["femur_left"]
    kept, flags = whole_hips(labels, volume)
    assert {flag.code for flag in flags} <= {"short_shaft"}
    np.testing.assert_array_equal(kept, labels)


def test_a_femur_on_the_wrong_side_is_refused() -> None:
    classes, volume = pelvis()
    swapped = classes.copy()
    for one, other in ((BoneClass.FEMUR_RIGHT, BoneClass.FEMUR_LEFT), (BoneClass.HIP_RIGHT, BoneClass.HIP_LEFT)):
        swapped[classes == one], swapped[classes == other] = other, one
    kept, flags = whole_hips(coarse_hips(swapped, volume), volume)
    assert not kept.any()
    assert {flag.subject for flag in flags if flag.definition.forbids_strength} == {"femur_right", "femur_left"}


def test_a_femur_of_two_minds_about_its_side_is_left_out() -> None:
    classes, volume = pelvis()
    femur = np.argwhere(classes == BoneClass.FEMUR_RIGHT)
    classes[tuple(femur[::3].T)] = BoneClass.FEMUR_LEFT
    labels = coarse_hips(classes, volume)
    assert not (labels == BY_KEY["femur_right"].value).any()
    assert (labels == BY_KEY["femur_left"].value).any()


def test_hips_that_are_not_there_are_said_to_be_missing() -> None:
    _, volume = pelvis()
    kept, flags = whole_hips(coarse_hips(np.zeros(volume.hu.shape, np.uint8), volume), volume)
    assert not kept.any()
    assert [flag.code for flag in flags] == ["not_found", "not_found"]
