"""What other programs call the bones this node measures, and how their labels become its own.

One table of values serves the adapters and ``osteonode analyse --mask``. Labels that are no bone this node measures are
left out. What a network labelled is checked for what can only be a wrong orientation: sides and levels out of order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.errors import ConfigurationError
from inference.errors import SegmentationError
from inference.labels import BY_KEY, STRUCTURES, VERTEBRAE, Structure
from inference.segmentation import Segmentation, SegmenterIdentity, check_labels
from inference.vertebra_cut import cut_bodies
from inference.volume import Volume, boxes_of, canonical

TOTALSEGMENTATOR: Mapping[int, str] = {
    25: "sacrum", 27: "vertebrae_L5", 28: "vertebrae_L4", 29: "vertebrae_L3", 30: "vertebrae_L2", 31: "vertebrae_L1",
    32: "vertebrae_T12", 33: "vertebrae_T11", 34: "vertebrae_T10",
    75: "femur_left", 76: "femur_right", 77: "hip_left", 78: "hip_right",
}  # fmt: skip
"""Bones among the classes of TotalSegmentator's task ``total``, version 2 (its ``map_to_binary.py``)."""

SIDES = {"right": "right", "rt": "right", "r": "right", "left": "left", "lt": "left", "l": "left"}
PAIRED = {"femur": "femur", "hip": "hip", "pelvis": "hip"}
VERTEBRA_WORDS = frozenset({"vertebra", "vertebrae", "vertebral", "body", "vb"})
BODY_WORDS = frozenset({"body", "vb"})
PAIRS = (("femur_right", "femur_left"), ("hip_right", "hip_left"))
NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Another program's label values as structures.

    Attributes
    ----------
    structures
        Value to structure, for the values this node measures.
    left_out
        Names of the others.
    cuts_vertebrae
        Whether a vertebra among them may be whole, so that its arch is cut off.
    """

    structures: Mapping[int, Structure]
    left_out: tuple[str, ...]
    cuts_vertebrae: bool

    def translated(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return values of ``inference.labels`` for another program's, voxel by voxel."""
        table = np.zeros(max(int(values.max(initial=0)), *self.structures) + 1, dtype=np.uint8)
        for value, structure in self.structures.items():
            table[value] = structure.value
        return table[values]


def structure_named(name: str) -> Structure | None:
    """Return the structure a person or program means by a name, or None.

    Understood are ``Right femur``, ``femur_r``, ``Femur RT``, ``vertebrae_L1``, ``L1``, ``L1 body``, ``sacrum``, ...;
    a name with a further word (``femoral head``, ``PTV L1``) means something else.
    """
    words = _words(name)
    sides = {SIDES[word] for word in words if word in SIDES}
    rest = [word for word in words if word not in SIDES and word not in VERTEBRA_WORDS]
    if len(rest) != 1:
        return None
    if rest[0] in PAIRED and len(sides) == 1 and not VERTEBRA_WORDS & set(words):
        return BY_KEY[f"{PAIRED[rest[0]]}_{sides.pop()}"]
    return next((one for one in STRUCTURES if one.key.lower() == rest[0] and not one.laterality and not sides), None)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


VOCABULARIES: Mapping[str, Mapping[int, str]] = {
    "osteonode": {one.value: one.key for one in STRUCTURES},
    "totalsegmentator": {
        value: found.key for value, name in TOTALSEGMENTATOR.items() if (found := structure_named(name)) is not None
    },
}
"""Label values of a map by who made it, as keys of ``inference.labels``."""


def label_map(names: Mapping[int, str], said: Mapping[str, str] | None = None) -> LabelMap:
    """Find the bones this node measures among another program's labels.

    Parameters
    ----------
    names
        Label value, 1 and more, to name.
    said
        Names that a site gave a meaning: to a key of ``inference.labels``, or to nothing.

    Raises
    ------
    ConfigurationError
        When a site's meaning is none, or not one label is a bone this node measures.
    """
    said = said or {}
    wrong = sorted(key for key in said.values() if key and key not in BY_KEY)
    strange = sorted(set(said) - set(names.values()))
    if wrong or strange:
        what = f"means nothing here: {wrong[0]}" if wrong else f"is no label of the model: {strange[0]}"
        raise ConfigurationError(
            f"A name under labels {what}. The model has {_listed(list(names.values()))}; meanings are "
            f"{', '.join(BY_KEY)}."
        )
    structures: dict[int, Structure] = {}
    for value, name in names.items():
        found = BY_KEY.get(said[name]) if name in said else structure_named(name)
        if found is not None:
            structures[value] = found
    if not structures:
        raise ConfigurationError(
            f"No label of the model is a bone this node measures; found {_listed(list(names.values()))}, expected "
            "names as femur_left, hip_right, sacrum, vertebrae_L1."
        )
    left_out = tuple(name for value, name in names.items() if value not in structures)
    vertebrae = [names[value] for value, one in structures.items() if one.key in VERTEBRAE]
    return LabelMap(structures, left_out, any(not BODY_WORDS & set(_words(name)) for name in vertebrae))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{', '.join(name[:64] for name in names[:NAMES_SHOWN])}{more}"


def bones_from(
    volume: Volume, values: NDArray[np.generic], labels: LabelMap, identity: SegmenterIdentity
) -> Segmentation:
    """Make a segmentation of a network's labels.

    Of every bone the largest piece is kept; whole vertebrae are cut to their bodies.

    Parameters
    ----------
    volume
        The CT, any orientation.
    values : (slice, row, column) array of integers
        The network's labels on its grid.
    labels
        What they mean.
    identity
        Of the segmenter.

    Raises
    ------
    SegmentationError
        When the labels do not fit the volume, or sides or levels lie where no patient has them.
    """
    if values.shape != volume.hu.shape:
        raise SegmentationError(f"Found labels of shape {values.shape}; expected {volume.hu.shape}.")
    found = _whole_pieces(labels.translated(values))
    check_labels(found, volume)
    _check_places(volume, found)
    bones, flags = cut_bodies(volume, found) if labels.cuts_vertebrae else (found, ())
    return Segmentation(bones, identity, flags)


def _whole_pieces(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the largest connected piece of every label."""
    for value, box in boxes_of(labels, margin=0).items():
        part = labels[box]
        pieces, count = ndimage.label(part == value)
        if count > 1:
            largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
            part[(pieces > 0) & (pieces != largest)] = 0
    return labels


def _check_places(volume: Volume, labels: NDArray[np.uint8]) -> None:
    """Refuse right bones on the left of left ones, and levels out of order: the image was given the wrong way round."""
    upright, orientation = canonical(volume)
    turned = orientation.apply(labels)
    middles = {}
    for structure in STRUCTURES:
        cells = np.argwhere(turned == structure.value)
        if cells.size:
            middles[structure.key] = cells.mean(axis=0) * np.array(upright.spacing_mm)
    for right, left in PAIRS:
        if right in middles and left in middles and middles[right][2] >= middles[left][2]:
            raise SegmentationError(
                f"The network labelled the {BY_KEY[right].name.lower()} on the left of the {BY_KEY[left].name.lower()}."
                " It was trained on images of another orientation than stated, or with sides mirrored."
            )
    levels = [key for key in VERTEBRAE if key in middles]
    for upper, lower in pairwise(levels):
        if middles[upper][0] <= middles[lower][0]:
            raise SegmentationError(
                f"The network labelled {upper} below {lower}. It was trained on images of another orientation than "
                "stated, or counts levels wrongly here."
            )
