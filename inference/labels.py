"""The bone structures the node knows, and the label value of each.

One table serves segmentation, densitometry, finite elements and the result objects. A label volume is
a uint8 array in which every voxel carries the ``value`` of one structure, or 0.
"""

from dataclasses import dataclass
from typing import Literal

Laterality = Literal["R", "L", ""]


@dataclass(frozen=True, slots=True)
class Structure:
    """One bone, or part of a bone, that a segmenter can label.

    Attributes
    ----------
    key
        Stable name used in results and file names, for example ``femur_right``.
    value
        The label value, 1 to 255.
    name
        The name people read, side first, for example ``Right femur``.
    laterality
        ``R``, ``L``, or empty for an unpaired structure.
    """

    key: str
    value: int
    name: str
    laterality: Laterality = ""


STRUCTURES: tuple[Structure, ...] = (
    Structure("femur_right", 1, "Right femur", "R"),
    Structure("femur_left", 2, "Left femur", "L"),
    Structure("hip_right", 3, "Right hip bone", "R"),
    Structure("hip_left", 4, "Left hip bone", "L"),
    Structure("sacrum", 5, "Sacrum"),
    Structure("T10", 40, "T10 vertebral body"),
    Structure("T11", 41, "T11 vertebral body"),
    Structure("T12", 42, "T12 vertebral body"),
    Structure("L1", 43, "L1 vertebral body"),
    Structure("L2", 44, "L2 vertebral body"),
    Structure("L3", 45, "L3 vertebral body"),
    Structure("L4", 46, "L4 vertebral body"),
    Structure("L5", 47, "L5 vertebral body"),
)

BY_KEY: dict[str, Structure] = {structure.key: structure for structure in STRUCTURES}
BY_VALUE: dict[int, Structure] = {structure.value: structure for structure in STRUCTURES}

FEMURS: tuple[str, ...] = ("femur_right", "femur_left")
VERTEBRAE: tuple[str, ...] = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
"""Cranial to caudal."""
