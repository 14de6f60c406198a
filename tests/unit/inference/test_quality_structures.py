"""Metal, cement, cut and deformed bones are flagged on the bone they belong to, and on no other."""

import numpy as np
import pytest
from bone_phantoms import make_femur, make_spine, make_vertebra
from volume_factories import make_volume

from inference.labels import BY_KEY
from inference.quality import QualityFlag, forbids_density, forbids_strength
from inference.structure_checks import check_structures, metal_near
from inference.vertebra_shape import measure_heights
from inference.volume import Volume

VOXEL_MM = 1.0
"""Of the made vertebrae whose heights are measured: no height is known better."""


def two_femurs() -> tuple[Volume, np.ndarray]:
    """Make both femurs side by side; columns grow to the patient's left."""
    (right, right_mask), (left, left_mask) = make_femur(side=1), make_femur(side=-1)
    gap = np.full((*right.hu.shape[:2], 30), 40.0)
    hu = np.concatenate([right.hu, gap, left.hu], axis=2)
    labels = np.concatenate([right_mask * np.uint8(1), gap.astype(np.uint8) * 0, left_mask * np.uint8(2)], axis=2)
    return make_volume(np.pad(hu, 4), right.spacing_mm), np.pad(labels, 4)


def found(flags: tuple[QualityFlag, ...], code: str) -> list[str]:
    return [flag.subject for flag in flags if flag.code == code]


def test_clean_femurs_have_no_flag() -> None:
    assert check_structures(*two_femurs()) == ()


@pytest.mark.parametrize("flip", [False, True])
def test_a_nail_forbids_the_numbers_of_its_own_femur_alone(flip: bool) -> None:
    volume, labels = two_femurs()
    rows, columns = (int(np.median(axis)) for axis in np.nonzero(labels == BY_KEY["femur_left"].value)[1:])
    volume.hu[:40, rows - 2 : rows + 3, columns - 2 : columns + 3] = 3000.0
    if flip:  # the same patient with columns stored from left to right
        affine = volume.affine_lps.copy()
        affine[:3, 3] += affine[:3, 2] * (volume.hu.shape[2] - 1)
        affine[:3, 2] *= -1
        volume, labels = Volume(volume.hu[:, :, ::-1], affine), labels[:, :, ::-1]
    flags = check_structures(volume, labels)
    assert found(flags, "metal") == ["femur_left"]
    assert forbids_density(flags, "femur_left")
    assert forbids_strength(flags, "femur_left")
    assert not forbids_density(flags, "femur_right")
    assert not forbids_strength(flags, "femur_right")
    assert found(flags, "metal_elsewhere") == ["study"]


@pytest.mark.parametrize(("distance_mm", "counts"), [(6.0, True), (14.0, False)])
def test_metal_counts_up_to_ten_mm_beside_the_bone(distance_mm: float, counts: bool) -> None:
    hu, mask = np.full((30, 30, 60), 40.0), np.zeros((30, 30, 60), dtype=bool)
    mask[5:25, 5:25, 5:25] = True
    start = 24 + round(distance_mm)
    hu[10:20, 10:20, start : start + 3] = 2500.0
    evidence = metal_near(make_volume(hu, (1.0, 1.0, 1.0)), mask)
    assert evidence.inside_mm3 == 0.0
    assert (evidence.beside_mm3 > 0.0) == counts


def test_a_speck_of_calcium_is_no_metal() -> None:
    hu, mask = np.full((30, 30, 30), 40.0), np.ones((30, 30, 30), dtype=bool)
    hu[10:13, 10:13, 10:13] = 2500.0
    assert metal_near(make_volume(hu, (1.0, 1.0, 1.0)), mask).total_mm3 == 0.0


def test_the_volume_of_metal_is_measured() -> None:
    hu, mask = np.full((30, 30, 30), 40.0), np.zeros((30, 30, 30), dtype=bool)
    mask[:, :, :15] = True
    hu[10:20, 10:20, 10:20] = 3000.0
    evidence = metal_near(make_volume(hu, (2.0, 1.0, 1.0)), mask)
    assert (evidence.inside_mm3, evidence.beside_mm3, evidence.largest_hu) == (1000.0, 1000.0, 3000.0)


def test_cement_in_a_body_is_flagged_on_its_level() -> None:
    volume, labels = make_spine({"L1": 120.0, "L2": 120.0}, spacing_mm=(2.0, 2.0, 2.0))
    where = np.argwhere(labels == BY_KEY["L2"].value)
    centre = where.mean(axis=0).astype(int)
    part = tuple(slice(place - 3, place + 3) for place in centre)
    volume.hu[part] = 1200.0
    assert found(check_structures(volume, labels), "metal") == ["L2"]


@pytest.mark.parametrize(("axis", "place"), [(0, 0), (0, -1), (1, 0), (1, -1), (2, 0), (2, -1)])
def test_a_body_cut_by_any_face_is_truncated(axis: int, place: int) -> None:
    volume, mask = make_vertebra(spacing_mm=(2.0, 2.0, 2.0))
    half = mask.shape[axis] // 2
    keep = [slice(None)] * 3
    keep[axis] = slice(half, None) if place == 0 else slice(0, half)
    part = make_volume(volume.hu[tuple(keep)], volume.spacing_mm)
    labels = (mask[tuple(keep)] * BY_KEY["L3"].value).astype(np.uint8)
    assert found(check_structures(part, labels), "truncated_bone") == ["L3"]


def test_a_femur_may_end_below_and_nowhere_else() -> None:
    volume, mask = make_femur()
    assert found(check_structures(volume, mask.astype(np.uint8)), "truncated_bone") == []
    cut = mask[:-20]
    assert cut[-1].any()
    flags = check_structures(make_volume(volume.hu[:-20], volume.spacing_mm), cut.astype(np.uint8))
    assert found(flags, "truncated_bone") == ["femur_right"]


@pytest.mark.parametrize("tilt_deg", [0.0, 15.0, 30.0])
@pytest.mark.parametrize("heights_mm", [(28.0, 28.0), (22.0, 30.0)])
def test_heights_of_a_body_are_found_at_any_lordosis(tilt_deg: float, heights_mm: tuple[float, float]) -> None:
    volume, mask = make_vertebra(tilt_deg=tilt_deg, heights_mm=heights_mm, spacing_mm=(1.0, 1.0, 1.0))
    heights = measure_heights(volume, mask)
    front, back = heights_mm
    at = [front + (back - front) * part for part in (0.235, 0.5, 0.765)]  # middles of the three bands
    assert [heights.anterior_mm, heights.middle_mm, heights.posterior_mm] == pytest.approx(at, abs=VOXEL_MM)


@pytest.mark.parametrize(("front_mm", "flagged"), [(28.0, False), (24.0, False), (12.0, True)])
def test_a_wedge_is_flagged_as_deformed(front_mm: float, flagged: bool) -> None:
    volume, mask = make_vertebra(heights_mm=(front_mm, 28.0), spacing_mm=(2.0, 2.0, 2.0))
    flags = check_structures(volume, (mask * BY_KEY["L1"].value).astype(np.uint8))
    assert (found(flags, "deformed_vertebra") == ["L1"]) == flagged


def test_a_body_crushed_against_both_neighbours_is_flagged() -> None:
    parts = [make_vertebra(heights_mm=(height, height), spacing_mm=(2.0, 2.0, 2.0)) for height in (28.0, 18.0, 28.0)]
    hu = np.concatenate([part.hu for part, _ in parts])
    labels = np.concatenate(
        [mask * np.uint8(BY_KEY[key].value) for key, (_, mask) in zip(("L3", "L2", "L1"), parts, strict=True)]
    )
    assert found(check_structures(make_volume(hu, (2.0, 2.0, 2.0)), labels), "deformed_vertebra") == ["L2"]
