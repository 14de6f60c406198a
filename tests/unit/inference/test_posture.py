"""Bones that lie otherwise than the header says are flagged, and ordinary ones are not."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from volume_factories import make_volume

from inference.labels import BY_KEY
from inference.posture import check_posture
from inference.structure_checks import check_structures

SPACING_MM = 4.0
SHAPE = (50, 50, 80)
SOFT_HU, BONE_HU = 40.0, 400.0

Arrays = tuple[NDArray[np.float32], NDArray[np.uint8]]


def pelvis(*, sacrum: bool = True, symphysis: bool = True, bladder_hu: float = SOFT_HU) -> Arrays:
    """Draw two femurs, a sacrum behind and above their heads, pubic bones in front and below; right is at column 0."""
    up, back, left = (axis * SPACING_MM for axis in np.indices(SHAPE))
    hu, labels = np.full(SHAPE, SOFT_HU, dtype=np.float32), np.zeros(SHAPE, dtype=np.uint8)
    for key, middle_mm in (("femur_right", 80.0), ("femur_left", 240.0)):
        femur = (np.hypot(back - 100, left - middle_mm) < 20) & (up < 100)
        hu[femur], labels[femur] = BONE_HU, BY_KEY[key].value
    middle = np.abs(left - 160) < 30
    if sacrum:
        hu[middle & (up > 100) & (up < 160) & (back > 140) & (back < 160)] = BONE_HU
    if symphysis:
        hu[middle & (up > 30) & (up < 60) & (back > 55) & (back < 75)] = BONE_HU
    hu[middle & (up > 100) & (up < 140) & (back > 40) & (back < 80)] = bladder_hu
    return hu, labels


def renamed(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Name each femur by the side it lies on, as a segmenter does that believes the header."""
    right, left = BY_KEY["femur_right"].value, BY_KEY["femur_left"].value
    return np.where(labels == right, left, np.where(labels == left, right, 0)).astype(np.uint8)


def flag_of(arrays: Arrays) -> str | None:
    hu, labels = arrays
    flag = check_posture(make_volume(hu, (SPACING_MM,) * 3), labels)
    return None if flag is None else flag.code


WHOLE: dict[str, Callable[[], Arrays]] = {
    "both": pelvis,
    "no sacrum in view": lambda: pelvis(sacrum=False),
    "no symphysis in view": lambda: pelvis(symphysis=False),
    "neither": lambda: pelvis(sacrum=False, symphysis=False),
    "a bladder full of contrast agent": lambda: pelvis(bladder_hu=BONE_HU),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_patient_on_the_back_is_not_flagged(name: str) -> None:
    assert flag_of(WHOLE[name]()) is None


@pytest.mark.parametrize("name", ["both", "no sacrum in view", "no symphysis in view"])
@pytest.mark.parametrize("only", [None, "femur_left", "femur_right"])
def test_a_patient_turned_by_half_a_turn_under_an_unchanged_header_is_flagged(name: str, only: str | None) -> None:
    hu, labels = WHOLE[name]()
    turned = renamed(labels[:, ::-1, ::-1])
    if only is not None:
        turned[turned != BY_KEY[only].value] = 0
    assert flag_of((hu[:, ::-1, ::-1], turned)) == "turned_patient"


def test_a_patient_lying_on_the_side_under_an_unchanged_header_is_flagged() -> None:
    hu, labels = pelvis()
    assert flag_of((np.swapaxes(hu, 1, 2), np.swapaxes(labels, 1, 2))) == "turned_patient"


def test_the_flag_forbids_every_number_and_reaches_the_study() -> None:
    hu, labels = pelvis()
    volume = make_volume(hu[:, ::-1, ::-1], (SPACING_MM,) * 3)
    (flag,) = [one for one in check_structures(volume, renamed(labels[:, ::-1, ::-1])) if one.code == "turned_patient"]
    assert flag.concerns("L1")
    assert flag.definition.forbids_density
    assert flag.definition.forbids_strength


def test_a_scan_without_femurs_says_nothing_about_posture() -> None:
    assert flag_of((pelvis()[0], np.zeros(SHAPE, dtype=np.uint8))) is None
