"""Areal and volumetric density of a made femur: known from its shape, in any position, on either side."""

from functools import cache

import numpy as np
import pytest
from femur_shape import BUMP_ENDS_MM, rotation, scanned_femur, true_regions
from numpy.typing import NDArray
from test_densitometry_vertebra import RECORD

from inference.areal_density import ArealResult, areal_g_per_cm2, measure_areal, project
from inference.calibration import rho_qct_mg_per_cm3
from inference.densitometry import Density, measure_density
from inference.femoral_neck import find_head, find_neck
from inference.femoral_pose import Pose
from inference.femoral_regions import BELOW_LESSER_TROCHANTER_MM, HipRegions, hip_regions
from inference.labels import BY_KEY
from inference.quality import QualityFlag
from inference.volume import Box, Volume, crop

BONE_HU = 400.0
BONE_MG_PER_CM3 = float(rho_qct_mg_per_cm3(BONE_HU, RECORD))
AREAL_TOLERANCE = {1.5: 0.02, 3.0: 0.03}
"""Edges of a silhouette within a tenth of a voxel of 3 mm on both sides of a bone of 30 mm: 2 percent; a border of a
region that is turned by one degree over 30 mm adds 1 percent. At 1.5 mm half of the edges' part is left, and the
border's."""
WAIST_TOLERANCE_MM = 2.5
"""Shells are a voxel thick, and their middles lie up to 2 mm before the waist of a neck of 15 mm."""
AXIS_TOLERANCE_DEG = 2.0
"""Half a millimetre at the head and a part of a voxel at the neck, 36 mm apart."""
EDGE_SHARE = 2.0 / 15.0 / 8.0
"""A mask of voxels that hold half bone or more: in the shell of half a voxel h below the surface a quarter is soft
tissue on average, which is h/8 of the surface over volume, 2/r for a neck of r = 15 mm."""
VBMD_TOLERANCE_MG_PER_CM3 = 5.0
"""The regions are no cylinders: their surface over volume differs by a third."""

TURNS = [None, ("x", 20.0), ("x", -20.0), ("y", 20.0), ("y", -20.0), ("z", 20.0), ("z", -20.0)]
Mask = NDArray[np.bool_]


@cache
def made(voxel_mm: float, turn: tuple[str, float] | None = None) -> tuple[Volume, Mask]:
    """The scanned femur; nothing changes it, so each is made once."""
    return scanned_femur(voxel_mm, BONE_HU, None if turn is None else rotation(*turn))


def labelled(mask: Mask, key: str = "femur_right") -> NDArray[np.uint8]:
    return np.where(mask, BY_KEY[key].value, 0).astype(np.uint8)


def regions_of(volume: Volume, mask: Mask, key: str = "femur_right") -> HipRegions:
    head = find_head(volume, mask)
    assert head is not None
    neck = find_neck(volume, mask, head)
    assert neck is not None
    regions, _ = hip_regions(volume, mask, head, neck, key)
    assert regions is not None
    return regions


def areal(result: ArealResult) -> dict[str, float]:
    return {one.region: one.abmd_g_per_cm2 for one in result.densities}


def volumetric(densities: tuple[Density, ...]) -> dict[str, float]:
    return {one.region: one.vbmd_mg_per_cm3 for one in densities}


def below(volume: Volume, mask: Mask, cut_mm: float) -> tuple[Volume, Mask]:
    """Cut away what lies deeper than ``cut_mm`` below the head's centre, which is the origin."""
    first = int(np.ceil((-cut_mm - volume.affine_lps[2, 3]) / volume.spacing_mm[0]))
    box: Box = (slice(first, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2]))
    return crop(volume, box), mask[box]


def test_a_centimetre_of_a_gram_per_cubic_centimetre_is_a_gram_per_square_centimetre() -> None:
    assert areal_g_per_cm2(1000.0 * 10.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("voxel_mm", "turn"), [(3.0, turn) for turn in TURNS] + [(1.5, ("x", 20.0))])
def test_every_region_has_the_density_the_femur_was_made_with(voxel_mm: float, turn: tuple[str, float] | None) -> None:
    volume, mask = made(voxel_mm, turn)
    regions = regions_of(volume, mask)
    result = measure_areal(volume, labelled(mask), RECORD)
    truth = true_regions(BUMP_ENDS_MM[0] - BELOW_LESSER_TROCHANTER_MM, round(regions.neck_mm, 1))
    expected = {key: areal_g_per_cm2(BONE_MG_PER_CM3 * one.path_mm) for key, one in truth.items()}
    assert areal(result) == pytest.approx(expected, rel=AREAL_TOLERANCE[voxel_mm])
    assert result.flags == ()
    densities, _ = measure_density(volume, labelled(mask), RECORD)
    soft = float(rho_qct_mg_per_cm3(40.0, RECORD))
    average = BONE_MG_PER_CM3 - EDGE_SHARE * voxel_mm * (BONE_MG_PER_CM3 - soft)
    found = volumetric(densities)
    assert list(found) == ["femoral_neck", "trochanter", "total_hip"]
    assert list(found.values()) == pytest.approx([average] * 3, abs=VBMD_TOLERANCE_MG_PER_CM3)


@pytest.mark.parametrize("turn", TURNS)
def test_the_pose_and_the_landmarks_are_those_the_femur_was_made_with(turn: tuple[str, float] | None) -> None:
    volume, mask = made(3.0, turn)
    regions = regions_of(volume, mask)
    own = np.eye(3) if turn is None else rotation(*turn)
    made_axes = [own @ np.array(one) for one in ([-1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0])]
    for found, truth in zip(regions.pose.axes, made_axes, strict=True):
        assert found @ truth > np.cos(np.radians(AXIS_TOLERANCE_DEG))
    assert regions.neck_mm == pytest.approx(35.5, abs=WAIST_TOLERANCE_MM)
    assert regions.bottom_mm == pytest.approx(BUMP_ENDS_MM[0] - BELOW_LESSER_TROCHANTER_MM, abs=4.0)  # a slice and more
    assert regions.pose.has_shaft


def test_left_and_its_mirrored_right_have_the_same_densities() -> None:
    turn = rotation("y", 8.0) @ rotation("z", 15.0)
    right, right_mask = scanned_femur(3.0, BONE_HU, turn, "R")
    left, left_mask = right.hu[:, :, ::-1].copy(), right_mask[:, :, ::-1].copy()
    affine = right.affine_lps.copy()
    affine[0, 3] = -(affine[0, 3] + affine[0, 2] * (left.shape[2] - 1))
    one = measure_areal(right, labelled(right_mask), RECORD)
    other = measure_areal(Volume(left, affine), labelled(left_mask, "femur_left"), RECORD)
    assert areal(one) == pytest.approx(areal(other), rel=1e-9)
    assert {density.structure for density in other.densities} == {"femur_left"}
    solid = measure_density(right, labelled(right_mask), RECORD)[0]
    mirrored = measure_density(Volume(left, affine), labelled(left_mask, "femur_left"), RECORD)[0]
    assert volumetric(solid) == pytest.approx(volumetric(mirrored), rel=1e-9)


def test_a_femur_under_the_other_sides_name_gets_no_number_and_a_flag() -> None:
    volume, mask = made(3.0)
    labels = labelled(mask, "femur_left")
    densities, flags = measure_density(volume, labels, RECORD)
    result = measure_areal(volume, labels, RECORD)
    assert densities == ()
    assert result.densities == ()
    assert [flag.code for flag in flags] == ["turned_patient"]
    assert flags[0].definition.forbids_density
    assert flags[0].definition.forbids_strength
    assert dict(flags[0].evidence)["outward_cosine"] == pytest.approx(-1.0, abs=0.01)


@pytest.mark.parametrize(
    ("cut_mm", "whole"), [(100.0, 3), (75.0, 2), (60.0, 2), (30.0, 0)], ids=["all", "bump", "in bump", "in neck"]
)
def test_only_what_is_whole_is_measured_and_the_rest_is_flagged(cut_mm: float, whole: int) -> None:
    volume, mask = below(*made(3.0), cut_mm)
    result = measure_areal(volume, labelled(mask), RECORD)
    assert [one.region for one in result.densities] == ["neck", "trochanter", "total_hip"][:whole]
    densities, flags = measure_density(volume, labelled(mask), RECORD)
    codes = [flag.code for flag in flags]
    if whole == 0:
        assert codes == ["neck_not_whole"]
        assert [one.region for one in densities] == ["proximal_femur"]
    elif whole < 3:
        (missing,) = (flag for flag in flags if flag.code == "hip_not_whole")
        assert dict(missing.evidence)["below_head_mm"] == pytest.approx(cut_mm, abs=3.0)
        assert dict(missing.evidence)["missing"] == "total hip"
        assert "pose_assumed" in codes


def test_no_cut_through_the_shaft_or_the_trochanters_gives_another_total_hip() -> None:
    whole = areal(measure_areal(*_measurable(140.0)))["total_hip"]
    for cut_mm in (52, 58, 64, 70, 76):
        found = areal(measure_areal(*_measurable(float(cut_mm)))).get("total_hip", whole)
        assert found == pytest.approx(whole, rel=AREAL_TOLERANCE[3.0])


def _measurable(cut_mm: float) -> tuple[Volume, NDArray[np.uint8], object]:
    volume, mask = below(*made(3.0), cut_mm)
    return volume, labelled(mask), RECORD


@pytest.mark.parametrize("soft_hu", [-100.0, 40.0])
def test_the_soft_tissue_around_does_not_count(soft_hu: float) -> None:
    volume, mask = scanned_femur(3.0, BONE_HU, soft_hu=soft_hu)
    truth = true_regions(BUMP_ENDS_MM[0] - BELOW_LESSER_TROCHANTER_MM, round(regions_of(volume, mask).neck_mm, 1))
    expected = {key: areal_g_per_cm2(BONE_MG_PER_CM3 * one.path_mm) for key, one in truth.items()}
    found = areal(measure_areal(volume, labelled(mask), RECORD))
    assert found == pytest.approx(expected, rel=AREAL_TOLERANCE[3.0])


@pytest.mark.parametrize("turn_deg", [0.0, 20.0])
def test_a_stack_of_plates_projects_to_the_sum_of_density_times_thickness(turn_deg: float) -> None:
    densities = np.repeat([900.0, 150.0, 150.0, 600.0], 5)  # mg/cm3, plates of 5 mm
    mask = np.zeros((60, 50, 60), dtype=np.bool_)
    mask[:, 15:35, :] = True
    rho = np.zeros(mask.shape)
    rho[:, 15:35, :] = densities[:, None]
    hu = (rho - RECORD.intercept_mg_per_cm3) / RECORD.slope_mg_per_cm3_per_hu
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[::-1]
    affine[:3, 3] = -30.0, -25.0, -30.0
    axes = np.array([[-1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]) @ rotation("z", turn_deg)
    regions = HipRegions(Pose(np.zeros(3), axes, 130.0, has_shaft=True), 0.0, 20.0, -25.0, ("neck",))
    projection = project(Volume(hu.astype(np.float32), affine), labelled(mask), "femur_right", regions, RECORD)
    middle = tuple(slice(count // 2 - 3, count // 2 + 4) for count in projection.bone.shape)
    expected = areal_g_per_cm2(densities.sum() / np.cos(np.radians(turn_deg)))
    assert projection.abmd_g_per_cm2[middle].mean() == pytest.approx(expected, rel=1e-3)
    assert expected == pytest.approx(0.9 / np.cos(np.radians(turn_deg)))  # (900 + 2 x 150 + 600) mg/cm3 over 5 mm


@pytest.mark.parametrize("code", ["metal", "turned_patient"])
def test_a_flag_that_forbids_density_forbids_areal_density(code: str) -> None:
    volume, mask = made(3.0)
    result = measure_areal(volume, labelled(mask), RECORD, (QualityFlag(code, "femur_right", "Made."),))
    assert result.densities == ()
    assert result.projections == ()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 40, 40), (40, 40, 40)])
def test_masks_that_are_no_femur_give_nothing_and_do_not_fail(shape: tuple[int, int, int]) -> None:
    volume = Volume(np.full(shape, BONE_HU, dtype=np.float32), made(3.0)[0].affine_lps)
    for mask in (np.ones(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)):
        assert measure_areal(volume, labelled(mask), RECORD).densities == ()
