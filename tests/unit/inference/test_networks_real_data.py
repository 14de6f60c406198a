"""The shipped network on the scans it learned from: that weights, grids and sides fit together, not how good it is."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import SegmentationError
from inference.labels import BY_KEY
from inference.metrics import dice
from inference.networks import segmenter
from inference.networks.segmenter import NetworkSegmenter
from inference.second_opinion import SecondOpinion
from inference.segmentation import ClassicalSegmenter
from inference.volume import Volume

LEVELS = {"L5": 27, "L4": 28, "L3": 29, "L2": 30, "L1": 31, "T12": 32, "T11": 33}
HIPS = {"femur_right": 76, "femur_left": 75, "hip_right": 78, "hip_left": 77}
SACRUM = (25, 26)
"""Values of TotalSegmentator, task total; the first sacral segment has its own."""

MIN_DICE, MIN_SHARE_INSIDE = 0.85, 0.85


@pytest.mark.real_data
def test_a_patients_bones_have_their_names_and_sides(patient_ct: tuple[Volume, NDArray[Any]]) -> None:
    volume, reference = patient_ct
    found = NetworkSegmenter().segment(volume)
    for key, value in HIPS.items():
        assert dice(found.labels == BY_KEY[key].value, reference == value) >= MIN_DICE, key
    sacrum = found.labels == BY_KEY["sacrum"].value
    assert dice(sacrum, np.isin(reference, SACRUM)) >= MIN_DICE
    for level in ("L5", "L4", "L3", "L2", "L1"):
        body = found.labels == BY_KEY[level].value
        assert body.any(), level
        assert (reference[body] == LEVELS[level]).mean() >= MIN_SHARE_INSIDE, level
    assert ("truncated_bone", "T12") in {(flag.code, flag.subject) for flag in found.flags}


@pytest.mark.real_data
def test_the_right_femur_of_mirrored_pixels_is_the_other_one(patient_ct: tuple[Volume, NDArray[Any]]) -> None:
    volume, reference = patient_ct
    column = int(np.argmax(np.abs(volume.affine_lps[0, :3])))
    mirrored = Volume(np.ascontiguousarray(np.flip(volume.hu, column)), volume.affine_lps)
    labels = NetworkSegmenter().segment(mirrored).labels
    turned = np.flip(reference, column)
    for key, value in (("femur_right", HIPS["femur_left"]), ("femur_left", HIPS["femur_right"])):
        mask = labels == BY_KEY[key].value
        assert mask.any(), key
        assert (turned[mask] == value).mean() >= MIN_SHARE_INSIDE, key


@pytest.mark.real_data
def test_both_segmenters_name_a_chest_alike(chest_ct: tuple[Volume, NDArray[Any]]) -> None:
    found = SecondOpinion(ClassicalSegmenter(), NetworkSegmenter()).segment(chest_ct[0])
    named = {level for level in LEVELS if (found.labels == BY_KEY[level].value).any()}
    assert named == {"T11", "T12", "L1", "L2"}
    assert not {flag.code for flag in found.flags} & {"named_otherwise", "no_second_opinion"}


def test_weights_that_are_missing_or_damaged_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(np.zeros((20, 20, 20), np.float32), np.eye(4))
    segmenter.shipped.cache_clear()
    monkeypatch.setattr(segmenter, "WEIGHTS", "none.pt")
    with pytest.raises(SegmentationError, match="no trained bone network"):
        NetworkSegmenter().segment(volume)
    monkeypatch.setattr(segmenter, "weights_content", lambda: b"broken")
    with pytest.raises(SegmentationError, match="damaged"):
        NetworkSegmenter().segment(volume)
    segmenter.shipped.cache_clear()


def test_air_holds_no_bone() -> None:
    found = NetworkSegmenter().segment(Volume(np.full((40, 40, 40), -1000, np.float32), np.diag([2.0, 2.0, 2.0, 1.0])))
    assert not found.labels.any()
    assert {flag.code for flag in found.flags} == {"not_found"}
