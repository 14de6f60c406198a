"""Strange scans through the node's own path: the right number, or a flag with a sentence, never a confident wrong one.

Two public scans, changed with headers that follow or that lie, and digital objects. Whatever is done to a scan: no
number under the name of another bone, and no density that moved without a reason. ``pytest -s`` prints the table.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from pydicom import Dataset

from inference.quality import FLAGS
from tests.strange_scans import (
    AIR_HU,
    Outcome,
    Strange,
    binned,
    cut,
    flipped,
    outcome_of,
    public_scan,
    resampled,
    rotation,
    sharpened,
    stacked,
    straight,
    swaying,
    transposed,
    turned_aside,
    unlabelled,
    with_arms,
    with_circle,
    with_prosthesis,
)

SAME_HU = 5.0
"""3.4 mg/cm3 on the default line: what half a voxel of another grid may change."""

DEEP_OVERSHOOT_HU = 25.0
"""An edge enhanced over 2 mm on pixels of 3 mm reaches the cores, and every cortex of a femur: hence the flag."""

THREE_ERRORS_HU = 18.0
"""Of the mean of 100 voxels, the fewest that are measured, under noise of 60 HU."""

OTHER_GRID_HU = 12.0
"""Twice the largest change measured where bones are resampled onto a turned grid of 3 mm."""

ALL = slice(None)
LUMBAR = {"L2", "L3", "L4", "L5"}
"""Levels of the patient that get a density unchanged; L1 is wedged and flagged."""
CHEST = {"T11", "T12", "L1", "L2"}


@cache
def patient() -> Strange:
    """Trunk of 3 mm, T11 to the femoral heads, a nail in the left femur."""
    return public_scan("patient", "example_ct.nii.gz", "example_seg_fast_force_split.nii.gz")


@cache
def chest() -> Strange:
    """Enhanced chest down to L3, pixels of 1.4 mm."""
    return binned(binned(public_scan("chest", "cxr.nii.gz", "mask.nii.gz"), 1, 2), 2, 2)


@cache
def usual(name: str) -> Outcome:
    """What comes out of a scan as it is."""
    return outcome_of(patient() if name == "patient" else chest())


@pytest.fixture(autouse=True)
def no_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the finite elements out: they cost most and see no more of the input."""
    monkeypatch.setattr("dicom_node.pipeline.analysis._strengths", lambda *_: ({}, {}, ()))


@dataclass(frozen=True, slots=True)
class Case:
    """A strange scan and what must come out of it.

    Attributes
    ----------
    make
        Makes the scan.
    structures
        What must get a density all the same, right and unchanged.
    refused
        Words of the sentence with which the whole scan is refused.
    flag
        A flag on the study.
    may_move_hu
        How far densities may move.
    of
        The scan it was made from, whose densities it is compared with.
    """

    make: Callable[[], Strange]
    structures: frozenset[str] | set[str] = frozenset()
    refused: str = ""
    flag: str = ""
    may_move_hu: float = SAME_HU
    of: str = "patient"


def padded_with(value: int, limit: int | None = None) -> Callable[[Dataset, int], None]:
    """Name a padding value in every header."""

    def change(dataset: Dataset, index: int) -> None:
        kind = "SS" if dataset.PixelRepresentation else "US"
        dataset.add_new("PixelPaddingValue", kind, value)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", kind, limit)

    return change


def raw(scan: Strange) -> Strange:
    """Store signed numbers that are HU themselves."""
    return replace(scan, intercept=0.0, signed=True)


def noise(shape: tuple[int, ...], sd_hu: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sd_hu, shape)


def without_slices(scan: Strange, first: int, stop: int) -> Strange:
    kept = np.r_[0:first, stop : len(scan.hu)]
    return replace(scan, hu=scan.hu[kept], truth=scan.truth[kept])


def in_turn(one: Strange, other: Strange) -> Strange:
    odd = (np.arange(len(one.hu)) % 2 > 0)[:, None, None]
    return replace(one, hu=np.where(odd, one.hu, other.hu), truth=np.where(odd, one.truth, other.truth))


def rolled_on_the_table(scan: Strange, degrees: float) -> Strange:
    """A patient who lies turned about the long axis; the scanner's header is right, as it knows the table only."""
    return replace(resampled(scan, tuple(scan.spacing_mm), rotation(2, degrees)), affine=scan.affine)


def like_mr(scan: Strange) -> Strange:
    """Fat bright, bone and air dark, nothing below zero."""
    fat, soft = (scan.hu > -200) & (scan.hu < -30), (scan.hu >= -30) & (scan.hu < 200)
    signal = np.where(fat, 900.0, np.where(soft, 400.0, 30.0))
    return replace(scan, hu=np.maximum(signal + noise(scan.hu.shape, 20.0), 0.0), intercept=0.0)


def cylinder(
    radius_mm: float, wall_hu: float, filling_hu: float, shape: tuple[int, int, int] = (60, 100, 100)
) -> Strange:
    """A round phantom with a wall of 6 mm, in air."""
    rows, columns = (axis * 3.0 - 150.0 for axis in np.mgrid[: shape[1], : shape[2]])
    away_mm = np.hypot(rows, columns)
    image = np.where(away_mm < radius_mm - 6, filling_hu, np.where(away_mm < radius_mm, wall_hu, AIR_HU))
    return unlabelled(image[None] + noise(shape, 10.0), (3.0, 3.0, 3.0))


def head() -> Strange:
    """A skull of 80 mm around brain in a scalp."""
    away_mm = np.sqrt(sum((axis * 3.0 - 90.0) ** 2 for axis in np.mgrid[:60, :60, :60]))
    hu = np.select([away_mm < 72, away_mm < 80, away_mm < 86], [35.0, 900.0, 40.0], AIR_HU)
    return unlabelled(hu + noise(hu.shape, 10.0), (3.0, 3.0, 3.0))


def legs() -> Strange:
    """Two thighs: muscle around a shaft with marrow."""
    rows, columns = (axis * 3.0 for axis in np.mgrid[:60, :110])
    image = np.full(rows.shape, AIR_HU)
    for middle_mm in (85.0, 245.0):
        away_mm = np.hypot(rows - 90.0, columns - middle_mm)
        for radius_mm, value in ((75.0, 50.0), (15.0, 1100.0), (8.0, -60.0)):
            image[away_mm < radius_mm] = value
    return unlabelled(image[None] + noise((100, *image.shape), 10.0), (3.0, 3.0, 3.0))


def rods_alone() -> Strange:
    """A calibration phantom on the table, nobody above it."""
    rows, columns = (axis * 1.5 for axis in np.mgrid[:80, :160])
    image = np.where((np.abs(rows - 60) < 14) & (np.abs(columns - 120) < 105), 20.0, AIR_HU)
    for number, hu in enumerate((-6.0, 64.0, 134.0, 274.0, 554.0)):
        image[np.hypot(rows - 60, columns - 120 - 38 * (number - 2)) < 8] = hu
    return unlabelled(image[None] + noise((80, *image.shape), 10.0), (2.0, 1.5, 1.5))


HIP = {"femur_right"}
"""The patient's only femur that gets a density: the other holds a nail."""

CASES: dict[str, Case] = {
    "prone": Case(lambda: flipped(patient(), 1, 2, PatientPosition="HFP"), LUMBAR | HIP),
    "prone under a supine header": Case(lambda: flipped(patient(), 1, 2, lying=True), flag="turned_patient"),
    "feet first": Case(lambda: flipped(patient(), 0, 2, PatientPosition="FFS"), LUMBAR | HIP),
    "feet first under a header of head first": Case(lambda: flipped(patient(), 0, 2, lying=True), refused="hip"),
    "on the side": Case(lambda: turned_aside(patient(), lying=False, PatientPosition="HFDR"), LUMBAR | HIP),
    "on the side under a supine header": Case(lambda: turned_aside(patient(), lying=True), refused="hip"),
    "rolled by 15 degrees": Case(lambda: rolled_on_the_table(patient(), 15.0), HIP, may_move_hu=OTHER_GRID_HU),
    "slices sent from the head down": Case(lambda: flipped(patient(), 0), LUMBAR | HIP),
    "slices reversed under the same positions": Case(lambda: flipped(patient(), 0, lying=True), refused="hip"),
    "front and back exchanged": Case(lambda: flipped(patient(), 1, lying=True), flag="turned_patient"),
    "5 mm slices": Case(lambda: resampled(patient(), (5.0, 3.0, 3.0)), LUMBAR | HIP, flag="thick_slices"),
    "6 mm slices": Case(lambda: binned(patient(), 0, 2), refused="6.0 mm thick"),
    "one slice": Case(lambda: cut(patient(), slice(50, 51), ALL, ALL), refused="1 slices"),
    "three slices": Case(lambda: cut(patient(), slice(50, 53), ALL, ALL), refused="6.0 mm"),
    "unsigned with an intercept of -8192": Case(
        lambda: with_circle(replace(patient(), intercept=-8192.0), -3024.0), LUMBAR | HIP
    ),
    "a padding range": Case(
        lambda: with_circle(replace(chest(), intercept=-8192.0, change=padded_with(0, 6000)), -6000.0),
        CHEST,
        of="chest",
    ),
    "a padding value that is water": Case(
        lambda: with_circle(replace(raw(chest()), change=padded_with(0)), 0.0), CHEST, of="chest"
    ),
    "a padding value of cancellous bone": Case(
        lambda: replace(raw(chest()), change=padded_with(150)), CHEST, of="chest"
    ),
    "pixels twice as wide as high": Case(lambda: binned(chest(), 2, 2), CHEST, flag="coarse_voxels", of="chest"),
    "two bodies under one header": Case(lambda: stacked(patient(), patient()), flag="broken_stack"),
    "another body above": Case(lambda: stacked(patient(), chest()), flag="broken_stack"),
    "two bodies in turn": Case(lambda: in_turn(patient(), flipped(patient(), 0, 1)), refused="not in the order"),
    "ten slices lacking under regular positions": Case(lambda: without_slices(patient(), 70, 80), flag="broken_stack"),
    "60 HU too high": Case(lambda: replace(patient(), hu=patient().hu + 60), flag="implausible_hu"),
    "1024 HU too high": Case(lambda: replace(patient(), hu=patient().hu + 1024), refused="Hounsfield"),
    "1024 HU too low": Case(lambda: raw(replace(patient(), hu=patient().hu - 1024)), refused="Hounsfield"),
    "ten times HU": Case(lambda: raw(replace(patient(), hu=patient().hu * 10)), refused="Hounsfield"),
    "MR under a CT header": Case(lambda: like_mr(patient()), refused="Hounsfield"),
    "all zero": Case(lambda: unlabelled(np.zeros((60, 128, 128)), (3.0, 3.0, 3.0)), refused="Hounsfield"),
    "lung kernel": Case(
        lambda: sharpened(patient(), 1.5, 2.0, 30.0).said(ConvolutionKernel="B80f"),
        flag="sharp_kernel",
        may_move_hu=DEEP_OVERSHOOT_HU,
    ),
    "noise of 60 HU": Case(
        lambda: replace(patient(), hu=patient().hu + noise(patient().hu.shape, 60.0)), may_move_hu=THREE_ERRORS_HU
    ),
    "arms beside the trunk": Case(lambda: with_arms(patient()), LUMBAR | HIP),
    "scoliosis of 15 mm": Case(lambda: swaying(patient(), 15.0, 300.0), refused="neither"),
    "a hip prosthesis": Case(lambda: with_prosthesis(patient(), "femur_right"), LUMBAR, flag="metal_elsewhere"),
    "a field of 180 mm": Case(lambda: cut(patient(), ALL, slice(20, 80), slice(31, 91)), LUMBAR),
    "sagittal slices": Case(lambda: transposed(patient(), 2, 0, 1), refused="turned by 90 degrees"),
    "oblique slices, 15 degrees": Case(
        lambda: resampled(patient(), (3.0, 3.0, 3.0), rotation(0, 15.0)), may_move_hu=OTHER_GRID_HU
    ),
    "oblique slices, 25 degrees": Case(
        lambda: resampled(patient(), (3.0, 3.0, 3.0), rotation(0, 25.0)), refused="turned by 25 degrees"
    ),
    "above the tenth thoracic vertebra": Case(
        lambda: cut(chest(), slice(55, None), ALL, ALL), refused="neither", of="chest"
    ),
    "neither ribs nor sacrum": Case(lambda: cut(patient(), slice(62, 92), ALL, ALL), refused="sacrum"),
    "pixels half their size": Case(lambda: replace(patient(), affine=straight((3.0, 1.5, 1.5))), refused="neither"),
    "a head": Case(head, refused="neither"),
    "legs only": Case(legs, refused="neither"),
    "a cylinder of water": Case(lambda: cylinder(100.0, 120.0, 0.0), refused="neither"),
    "a calibration phantom alone": Case(rods_alone, refused="neither"),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", CASES)
def test_a_strange_scan_gives_the_right_number_or_a_sentence(name: str) -> None:
    case = CASES[name]
    outcome = outcome_of(case.make())
    normal = usual(case.of)
    moved = {key: hu - normal.hu_means.get(key, hu) for key, hu in outcome.hu_means.items()}
    print(f"\n| {name} | {outcome.rejected or sorted(outcome.hu_means)} | {_rounded(moved)} |")
    assert outcome.wrong == {}
    assert case.refused in outcome.rejected
    assert bool(case.refused) == bool(outcome.rejected)
    assert case.structures <= set(outcome.hu_means)
    assert all(abs(shift_hu) <= case.may_move_hu for shift_hu in moved.values())
    if case.flag:
        assert (case.flag, "study") in outcome.flags
        assert not (FLAGS[case.flag].forbids_density and outcome.hu_means)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 1) for key, value in values.items()}
