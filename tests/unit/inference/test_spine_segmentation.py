"""The spine segmenter on a drawn trunk whose every body is known exactly."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from spine_phantom import AIR_HU, CORTEX_HU, MUSCLE_HU, SHAPE, SPACING_MM, Trunk, draw

from inference.labels import BY_KEY
from inference.metrics import dice
from inference.quality import QualityFlag
from inference.spinal_canal import find_canal, working_grid
from inference.spinal_curve import curve_through
from inference.spine import LUMBAR, segment_spine
from inference.structure_checks import check_structures
from inference.vertebra_endplates import find_slabs
from inference.vertebra_levels import Levels, name_levels
from inference.vertebra_shape import measure_heights
from inference.volume import Volume

MIN_DICE = 0.9
"""A quarter of a 2 mm voxel all around a body of 46 x 32 x 26 mm costs 0.05 of overlap; twice that is allowed."""

MAX_CENTROID_MM = 2.0
"""One voxel."""

MAX_HEIGHT_ERROR_MM = 2.0
"""One voxel."""

Result = tuple[Volume, NDArray[np.uint8], NDArray[np.uint8], tuple[QualityFlag, ...]]


@pytest.fixture(scope="module")
def whole() -> Result:
    volume, truth = draw(Trunk())
    return volume, truth, *segment_spine(volume)


def centroid_mm(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.argwhere(mask).mean(axis=0) * SPACING_MM)


def levels_of(volume: Volume) -> Levels:
    grid = working_grid(volume)
    canal = find_canal(grid)
    assert canal is not None
    curve = curve_through(canal)
    return name_levels(grid, curve, find_slabs(grid, curve))


def codes_of(flags: tuple[QualityFlag, ...]) -> set[tuple[str, str]]:
    return {(flag.code, flag.subject) for flag in flags}


def of_hu(hu: NDArray[np.float32]) -> Volume:
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])[[2, 1, 0, 3]]
    return Volume(hu.astype(np.float32), affine)


def head_like() -> NDArray[np.float32]:
    """A skull of 160 mm around brain."""
    axes = np.meshgrid(*(np.arange(-50, 50) * SPACING_MM,) * 3, indexing="ij")
    radius_mm = np.sqrt(sum(axis**2 for axis in axes))
    hu = np.full(radius_mm.shape, AIR_HU, dtype=np.float32)
    hu[radius_mm < 86] = MUSCLE_HU
    hu[radius_mm < 80] = CORTEX_HU
    hu[radius_mm < 74] = 35.0
    return hu


@pytest.mark.parametrize("level", LUMBAR)
def test_every_lumbar_body_is_found_under_its_own_level(whole: Result, level: str) -> None:
    _, truth, labels, _ = whole
    true, found = truth == BY_KEY[level].value, labels == BY_KEY[level].value
    assert dice(true, found) >= MIN_DICE
    assert np.linalg.norm(centroid_mm(true) - centroid_mm(found)) <= MAX_CENTROID_MM


def test_a_whole_healthy_lumbar_spine_raises_no_flag(whole: Result) -> None:
    assert {subject for _, subject in codes_of(whole[3])} & set(LUMBAR) == set()


def test_a_body_that_the_scan_cuts_is_flagged_and_not_labelled(whole: Result) -> None:
    _, truth, labels, flags = whole
    assert (truth[-1] == BY_KEY["T11"].value).any()
    assert not (labels == BY_KEY["T11"].value).any()
    assert ("truncated_bone", "T11") in codes_of(flags)


def test_a_mirrored_patient_gives_mirrored_masks(whole: Result) -> None:
    volume, _, labels, _ = whole
    mirrored, _ = segment_spine(replace(volume, hu=np.ascontiguousarray(volume.hu[:, :, ::-1])))
    for level in LUMBAR:
        value = BY_KEY[level].value
        assert dice(mirrored[:, :, ::-1] == value, labels == value) >= 0.97


def test_a_compressed_body_keeps_its_level_and_is_flagged_deformed() -> None:
    volume, truth = draw(Trunk(heights_mm=(("L2", 15.0),)))
    labels, _ = segment_spine(volume)
    value = BY_KEY["L2"].value
    assert dice(truth == value, labels == value) >= MIN_DICE
    flags = check_structures(volume, labels)
    assert [pair for pair in codes_of(flags) if pair[0] == "deformed_vertebra"] == [("deformed_vertebra", "L2")]
    heights = measure_heights(volume, labels == value)
    assert heights.median_mm == pytest.approx(15.0, abs=MAX_HEIGHT_ERROR_MM)


def test_without_sacrum_and_ribs_no_body_is_labelled() -> None:
    volume, _ = draw(Trunk(has_sacrum=False, rib_levels=()))
    labels, flags = segment_spine(volume)
    assert not labels.any()
    assert codes_of(flags) == {("level_uncertain", level) for level in LUMBAR}


def test_the_last_ribs_alone_name_the_same_levels_as_the_sacrum_alone() -> None:
    by_ribs = levels_of(draw(Trunk(has_sacrum=False))[0])
    by_sacrum = levels_of(draw(Trunk(rib_levels=()))[0])
    keys = [[key for _, key in levels.names] for levels in (by_ribs, by_sacrum)]
    assert keys[0] == keys[1] == ["L5", "L4", "L3", "L2", "L1", "T12", "T11"]


@pytest.mark.parametrize("rib_levels", [("L1", "T12", "T11"), ("T11",)])
def test_ribs_that_contradict_the_sacrum_leave_the_levels_uncertain(rib_levels: tuple[str, ...]) -> None:
    levels = levels_of(draw(Trunk(rib_levels=rib_levels))[0])
    assert levels.names == ()
    assert not levels.is_absent


@pytest.mark.parametrize(("left", "both"), [("L1", ("T12", "T11")), ("T11", ())])
def test_one_rib_contradicts_the_sacrum_as_well_as_two(left: str, both: tuple[str, ...]) -> None:
    levels = levels_of(draw(Trunk(rib_levels=both, left_rib_levels=(left,)))[0])
    assert levels.names == ()
    assert "last rib and the sacrum" in levels.reason


def test_one_twelfth_rib_agrees_with_the_sacrum_but_names_nothing_alone() -> None:
    one = {"rib_levels": ("T11",), "left_rib_levels": ("T12",)}
    assert levels_of(draw(Trunk(**one))[0]).names == levels_of(draw(Trunk())[0]).names != ()
    assert levels_of(draw(Trunk(has_sacrum=False, **one))[0]).names == ()


def test_last_ribs_longer_than_those_above_are_not_taken_for_the_twelfth() -> None:
    levels = levels_of(draw(Trunk(has_sacrum=False, rib_levels=("L1", "T12", "T11")))[0])
    assert levels.names == ()


def test_a_field_of_view_that_cuts_bodies_in_front_labels_none_of_them() -> None:
    volume, truth = draw(Trunk())
    first_row = 32
    labels, flags = segment_spine(of_hu(volume.hu[:, first_row:]))
    cut = {level for level in LUMBAR if (truth[:, first_row - 1] == BY_KEY[level].value).any()}
    labelled = {level for level in LUMBAR if (labels == BY_KEY[level].value).any()}
    assert cut
    assert not cut & labelled
    assert cut <= {subject for code, subject in codes_of(flags) if code in {"truncated_bone", "not_found"}}


@pytest.mark.parametrize("first_slice", [45, 60, 90])
def test_a_scan_that_begins_higher_up_never_shifts_a_level(first_slice: int) -> None:
    volume, truth = draw(Trunk())
    labels, _ = segment_spine(of_hu(volume.hu[first_slice:]))
    true = truth[first_slice:]
    assert set(np.unique(true[labels > 0])) <= set(np.unique(labels))
    assert np.mean(true[labels > 0] == labels[labels > 0]) >= 0.9 if labels.any() else True


WITHOUT_LUMBAR_BODIES = {
    "air": lambda: np.full((40, 60, 60), AIR_HU),
    "three slices": lambda: np.full((3, 60, 60), MUSCLE_HU),
    "one voxel": lambda: np.full((1, 1, 1), MUSCLE_HU),
    "pelvis": lambda: draw(Trunk())[0].hu[:38],
    "head": head_like,
}


@pytest.mark.parametrize("name", WITHOUT_LUMBAR_BODIES)
def test_a_scan_without_lumbar_bodies_says_so(name: str) -> None:
    hu = WITHOUT_LUMBAR_BODIES[name]()
    labels, flags = segment_spine(of_hu(hu))
    assert labels.shape == hu.shape
    assert not labels.any()
    assert codes_of(flags) == {("not_found", level) for level in LUMBAR}


def test_slices_of_another_spacing_give_the_same_bodies() -> None:
    volume, truth = draw(Trunk(rib_levels=()))
    thin = of_hu(volume.hu[:, ::1, ::1])
    affine = thin.affine_lps.copy()
    affine[2, 0] *= 2
    labels, _ = segment_spine(Volume(np.ascontiguousarray(thin.hu[::2]), affine))
    assert labels.shape == (SHAPE[0] // 2, SHAPE[1], SHAPE[2])
    for level in LUMBAR:
        value = BY_KEY[level].value
        assert dice(truth[::2] == value, labels == value) >= 0.85
