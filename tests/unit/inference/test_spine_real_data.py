"""The spine segmenter on real patients, against TotalSegmentator's labels (automatic, not an expert's)."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.labels import BY_KEY
from inference.metrics import dice
from inference.spine import LUMBAR, segment_spine
from inference.volume import Volume, canonical

pytestmark = pytest.mark.real_data

TOTALSEGMENTATOR_VALUE = {"L5": 27, "L4": 28, "L3": 29, "L2": 30, "L1": 31, "T12": 32, "T11": 33}
TOTALSEGMENTATOR_CHEST_VALUE = {"L3": 29, "L2": 30, "L1": 31, "T12": 32, "T11": 33}
MIN_DICE, MAX_CENTROID_MM = 0.85, 4.0
MIN_SHARE_INSIDE = 0.9
"""Of a body inside the reference of the whole vertebra; the rest is the half voxel on its surface."""


def test_a_patients_lumbar_bodies_agree_with_the_reference(
    patient_ct: tuple[Volume, NDArray[Any]], patient_bodies: NDArray[Any]
) -> None:
    volume, orientation = canonical(patient_ct[0])
    vertebrae, bodies = orientation.apply(patient_ct[1]), orientation.apply(patient_bodies) == 1
    labels, flags = segment_spine(volume)
    for level in LUMBAR:
        found = labels == BY_KEY[level].value
        reference = bodies & (vertebrae == TOTALSEGMENTATOR_VALUE[level])
        assert dice(found, reference) >= MIN_DICE, level
        assert distance_mm(found, reference, volume.spacing_mm) <= MAX_CENTROID_MM, level
    assert ("truncated_bone", "T12") in {(flag.code, flag.subject) for flag in flags}
    np.testing.assert_array_equal(segment_spine(volume)[0], labels)


def test_a_chest_scan_gets_its_levels_from_the_twelfth_ribs(chest_ct: tuple[Volume, NDArray[Any]]) -> None:
    volume, orientation = canonical(chest_ct[0])
    vertebrae = orientation.apply(chest_ct[1])
    labels, flags = segment_spine(volume)
    found = {level for level in TOTALSEGMENTATOR_CHEST_VALUE if (labels == BY_KEY[level].value).any()}
    assert found == {"T11", "T12", "L1", "L2"}
    for level in found:
        inside = vertebrae[labels == BY_KEY[level].value] == TOTALSEGMENTATOR_CHEST_VALUE[level]
        assert inside.mean() >= MIN_SHARE_INSIDE, level
    assert {("not_found", level) for level in ("L3", "L4", "L5")} <= {(flag.code, flag.subject) for flag in flags}


@pytest.mark.parametrize("first_slice", [10, 25])
def test_a_chest_scan_that_ends_higher_never_shifts_a_level(
    chest_ct: tuple[Volume, NDArray[Any]], first_slice: int
) -> None:
    volume, orientation = canonical(chest_ct[0])
    vertebrae = orientation.apply(chest_ct[1])[first_slice:]
    labels, _ = segment_spine(Volume(np.ascontiguousarray(volume.hu[first_slice:]), volume.affine_lps))
    for level, value in TOTALSEGMENTATOR_CHEST_VALUE.items():
        body = labels == BY_KEY[level].value
        if body.any():
            assert (vertebrae[body] == value).mean() >= MIN_SHARE_INSIDE, level


def distance_mm(mask: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> float:
    apart = np.argwhere(mask).mean(axis=0) - np.argwhere(reference).mean(axis=0)
    return float(np.linalg.norm(apart * np.asarray(spacing_mm)))
