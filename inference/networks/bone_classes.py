"""What the bone network tells apart, voxel by voxel, on its own grid. docs/methods/segmentation-network.md."""

from enum import IntEnum

GRID_MM = 3.0
"""Edge of the network's voxels: two voxels across the narrowest disc with cores apart, a trunk in 1.5 million."""

CORE_DEPTH_MM = 4.5
"""A body's core begins this deep, so that the cores of neighbouring bodies never touch: they are the instances."""

MIN_SACRUM_MM3 = 15000.0
"""Less is a mistaken fifth lumbar, or a sacrum at the very edge. Adults have 150 ml or more. [m] assumption."""


class BoneClass(IntEnum):
    """Classes of the network's output, in the order of its channels."""

    BACKGROUND = 0
    BODY_CORE = 1
    BODY_SHELL = 2
    POSTERIOR_ELEMENTS = 3
    SACRUM = 4
    HIP_RIGHT = 5
    HIP_LEFT = 6
    FEMUR_RIGHT = 7
    FEMUR_LEFT = 8
    RIB = 9
    CANAL = 10


CLASS_OF: dict[str, BoneClass] = {
    "femur_right": BoneClass.FEMUR_RIGHT,
    "femur_left": BoneClass.FEMUR_LEFT,
    "hip_right": BoneClass.HIP_RIGHT,
    "hip_left": BoneClass.HIP_LEFT,
    "sacrum": BoneClass.SACRUM,
}
"""Class of a structure of ``inference.labels``; vertebrae are instances of classes."""

MIRRORED: dict[BoneClass, BoneClass] = {
    BoneClass.HIP_RIGHT: BoneClass.HIP_LEFT,
    BoneClass.HIP_LEFT: BoneClass.HIP_RIGHT,
    BoneClass.FEMUR_RIGHT: BoneClass.FEMUR_LEFT,
    BoneClass.FEMUR_LEFT: BoneClass.FEMUR_RIGHT,
}
"""What a class becomes in a mirrored patient; the others stay."""
