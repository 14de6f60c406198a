"""Whole vertebrae become bodies: checked against another network's bodies of a real patient."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.corrected import CorrectedSegmenter
from inference.labels import BY_KEY
from inference.metrics import dice
from inference.quality import forbids_density
from inference.vertebra_cut import cut_bodies
from inference.volume import Volume

WHOLE = {27: "L5", 28: "L4", 29: "L3", 30: "L2", 31: "L1"}
"""Vertebrae in the reference's values."""

LEAST_DICE = 0.95
"""Anchor of [Saillard2024] for vertebrae, reached here between two automatic references."""


def relabelled(reference: NDArray[Any]) -> NDArray[np.uint8]:
    labels = np.zeros(reference.shape, dtype=np.uint8)
    for value, key in WHOLE.items():
        labels[reference == value] = BY_KEY[key].value
    return labels


def test_bodies_cut_from_whole_vertebrae_are_those_of_a_reference(
    patient_ct: tuple[Volume, NDArray[Any]], patient_bodies: NDArray[Any]
) -> None:
    volume, reference = patient_ct
    labels, flags = cut_bodies(volume, relabelled(reference))
    assert not flags
    for value, key in WHOLE.items():
        expected = (patient_bodies > 0) & (reference == value)
        assert dice(labels == BY_KEY[key].value, expected) > LEAST_DICE, key


def test_a_body_without_arch_keeps_its_shape(
    patient_ct: tuple[Volume, NDArray[Any]], patient_bodies: NDArray[Any]
) -> None:
    volume, reference = patient_ct
    bodies = relabelled(np.where(patient_bodies > 0, reference, 0))
    labels, _ = cut_bodies(volume, bodies)
    for key in WHOLE.values():
        assert dice(labels == BY_KEY[key].value, bodies == BY_KEY[key].value) > 0.97, key


def test_a_vertebra_far_from_any_canal_is_left_out_with_a_flag(patient_ct: tuple[Volume, NDArray[Any]]) -> None:
    volume, _ = patient_ct
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    labels[50:60, 20:30, 10:25] = BY_KEY["L3"].value
    found, flags = cut_bodies(volume, labels)
    assert not found.any()
    assert [flag.code for flag in flags] == ["bone_not_separated"]
    assert forbids_density(flags, "L3")


def test_without_a_canal_no_body_is_made() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]]
    volume = Volume(np.zeros((60, 60, 60), dtype=np.float32), affine)
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    labels[20:30, 20:30, 20:30] = BY_KEY["L3"].value
    external = CorrectedSegmenter(labels, affine, "0" * 64, "Mask", cuts_vertebrae=True)
    found = external.segment(volume)
    assert not found.labels.any()
    assert found.flags[0].subject == "L3"
