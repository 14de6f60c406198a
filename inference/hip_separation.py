"""Cut the bones of a pelvis apart around known femoral heads: femurs, hip bones, and everything else.

A seeded watershed on HU: what lies within the head's sphere or lateral to it is femur, what caps the sphere
or lies medial to it is hip bone, the midline is neither; the floods meet in the darkest surface between the
seeds (Beucher and Meyer 1993). The module does not decide whether the outcome is good enough to be used.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from inference.hip_joint import FemoralHead
from inference.labels import BY_KEY, Structure
from inference.morphology import (
    Box,
    FloatArray,
    Mask,
    WorkGrid,
    close_mask,
    component_at,
    fill_sections,
    open_mask,
    part,
)

BONE_ABOVE_SOFT_HU = 80.0
"""Bone starts this far above muscle: half of cancellous bone of 250 HU at its boundary. [m] assumption."""
SOFT_LIMITS_HU = (-20.0, 120.0)
"""Muscle and water-like tissue; its median is the reference of the bone threshold. [m] assumption."""
USUAL_SOFT_HU = 45.0
"""Muscle, where a scan shows none. [m] assumption."""
LEAST_SOFT_HU = 25.0
"""A phantom's plastic muscle may read less, but bone does not start lower for it. [m] assumption."""
RELIEF_HU = 700.0
"""The watershed sees no difference above this, so that metal is like cortex. [m] assumption."""
OTHER_BONE = 255
"""Flood label of bone that is neither femur nor hip bone."""
HEAD_MARGIN_MM = 2.0
"""Half the uncertainty of the sphere: inside it is femur, outside the cap is hip bone. [m] assumption."""
HIP_DEPTH_MM = 125.0
"""The hip bone reaches less far than this forwards and backwards of the head's centre. [m] assumption."""
HIP_DROP_MM = 95.0
"""Ischial tuberosity below the head's centre: 70 to 85 mm. [m] assumption, with margin."""
RIM_MM = 20.0
"""The acetabulum's rim stands out from the head's sphere by less. [m] assumption."""
TROCHANTER_RADII = 3.0
"""The trochanters lie within this of the head's centre. [m] assumption."""
HIP_HEIGHT_MM = 180.0
"""Iliac crest above the head's centre: 130 to 160 mm. [m] assumption, with margin."""
FEMUR_LENGTH_MM = 250.0
"""Proximal femur kept below the head's centre; the knee is never reached (femur 380 mm or more). [m]
assumption."""
FEMUR_WIDTH_MM = 95.0
"""Farthest bone of the proximal femur from the head's centre, lateral or in depth. [m] assumption."""
MIDLINE_HALF_MM = 28.0
"""Bone so near the mid-sagittal plane above the heads is sacrum, spine or coccyx. [m] assumption."""
CLOSING_MM = 4.5
"""Bridges a cortex that partial volume has opened, smaller than the joint's concavities. [m] assumption."""
HIP_CLOSING_MM = 3.0
"""The same for the thinner hip bone. [m] assumption."""
OPENING_MM = 2.0
"""Removes spurs and calcified tendons thinner than 4 mm. [m] assumption."""


@dataclass(frozen=True, slots=True)
class HipFrame:
    """Distances of every voxel in the frame of one femoral head, in head radii where unitless.

    Attributes
    ----------
    distance_mm : (z, y, x) float32 array
        From the centre of the head.
    lateral, up : broadcastable float32 arrays
        Towards the outside of the body and towards the head, in radii of the femoral head.
    depth_mm : broadcastable float32 array
        Towards the back, mm.
    """

    distance_mm: FloatArray
    lateral: FloatArray
    up: FloatArray
    depth_mm: FloatArray
    radius_mm: float


@dataclass(frozen=True, slots=True)
class SeparatedHip:
    """One hip on its part of the working grid.

    Attributes
    ----------
    head
        The head that the bones were grown from.
    box
        Where the part lies in the working grid.
    grid
        The part itself.
    femur, hip_bone : (z, y, x) bool arrays
        Solid bones; no voxel is in both.
    """

    head: FemoralHead
    box: Box
    grid: WorkGrid
    femur: Mask
    hip_bone: Mask

    @property
    def frame(self) -> HipFrame:
        """Coordinates of the head on ``grid``."""
        return hip_frame(self.grid, self.head)

    @property
    def femur_structure(self) -> Structure:
        """The femur's row in ``inference.labels``."""
        return structure_of("femur", self.head)

    @property
    def hip_structure(self) -> Structure:
        """The hip bone's row in ``inference.labels``."""
        return structure_of("hip", self.head)


def structure_of(bone: str, head: FemoralHead) -> Structure:
    """Return the row of ``inference.labels`` for ``femur`` or ``hip`` on a head's side."""
    return BY_KEY[f"{bone}_{'right' if head.side == 'R' else 'left'}"]


def hip_frame(grid: WorkGrid, head: FemoralHead) -> HipFrame:
    """Return the coordinates of a working grid relative to a femoral head."""
    z, y, x = grid.axes_mm()
    dz, dy, dx = (axis - np.float32(centre) for axis, centre in zip((z, y, x), head.centre_mm, strict=True))
    radius = np.float32(head.radius_mm)
    return HipFrame(np.sqrt(dz * dz + dy * dy + dx * dx), dx * head.lateral / radius, dz / radius, dy, head.radius_mm)


def bone_threshold_hu(grid: WorkGrid) -> float:
    """Return the HU above which a voxel is bone: the scan's own muscle plus ``BONE_ABOVE_SOFT_HU``."""
    low, high = SOFT_LIMITS_HU
    soft = grid.hu[(grid.hu > low) & (grid.hu < high)]
    muscle = float(np.median(soft)) if soft.size > 1000 else USUAL_SOFT_HU
    return max(muscle, LEAST_SOFT_HU) + BONE_ABOVE_SOFT_HU


def separate_bones(
    grid: WorkGrid, heads: tuple[FemoralHead, ...], midline_mm: float, threshold_hu: float
) -> NDArray[np.uint8]:
    """Label the bone of a pelvis by the structure it belongs to.

    Parameters
    ----------
    grid
        The CT around the hips on cubic voxels.
    heads
        The femoral heads found.
    midline_mm
        x of the mid-sagittal plane.
    threshold_hu
        Bone is above it.

    Returns
    -------
    (z, y, x) uint8 array
        Values of ``inference.labels``; thresholded bone only, neither filled nor smoothed.
    """
    smooth = ndimage.gaussian_filter(grid.hu, 0.5)
    bone = smooth > threshold_hu
    for head in heads:
        bone |= hip_frame(grid, head).distance_mm < head.radius_mm - HEAD_MARGIN_MM
    seeds = np.zeros(grid.hu.shape, dtype=np.uint8)
    z, _, x = grid.axes_mm()
    top = min(head.centre_mm[0] + 0.5 * head.radius_mm for head in heads)
    seeds[bone & (np.abs(x - midline_mm) < MIDLINE_HALF_MM) & (z > top)] = OTHER_BONE
    for head in heads:
        _seed_hip(seeds, grid, bone, head, midline_mm)
    relief = -np.minimum(smooth, RELIEF_HU)
    levels = np.rint((relief - relief.min()) / 4.0).astype(np.int16)
    flooded = watershed(levels, seeds.astype(np.int32), mask=bone).astype(np.uint8)
    flooded[flooded == OTHER_BONE] = 0
    return flooded


def _seed_hip(seeds: NDArray[np.uint8], grid: WorkGrid, bone: Mask, head: FemoralHead, midline_mm: float) -> None:
    """Write the seeds of one femur and one hip bone into ``seeds``."""
    frame = hip_frame(grid, head)
    _, _, x = grid.axes_mm()
    own_side = (x - midline_mm) * head.lateral > 0
    ball = frame.distance_mm < head.radius_mm - HEAD_MARGIN_MM
    outside = bone & own_side & (frame.distance_mm > head.radius_mm + HEAD_MARGIN_MM) & (seeds == 0)
    hip_side = _hip_side(frame)
    connected = component_at(bone & ~(outside & hip_side), ball)
    femur = outside & _femur_side(frame) & connected
    cap = _behind_neck(grid, head, frame, femur)
    seeds[outside & (hip_side | cap) & _near_hip(frame) & ~femur] = structure_of("hip", head).value
    seeds[femur | ball] = structure_of("femur", head).value


def _hip_side(frame: HipFrame) -> Mask:
    """Where bone outside the head's sphere is never femur: medial of the head, and above it."""
    side: Mask = (frame.lateral < -0.3) | ((frame.up > 0.5) & (frame.lateral < 0.6)) | (frame.up > 1.2)
    return side


def _femur_side(frame: HipFrame) -> Mask:
    """Where bone joined to the head is never hip bone: lateral of the joint, and below it to the side."""
    lateral = (frame.lateral > 1.2) & (frame.up < 0.4)
    below = (frame.up < -1.3) & (frame.lateral > 0.3)
    near = (frame.distance_mm < FEMUR_LENGTH_MM) & (np.abs(frame.depth_mm) < FEMUR_WIDTH_MM)
    side: Mask = (lateral | below) & near & (frame.lateral * frame.radius_mm < FEMUR_WIDTH_MM)
    return side


def _near_hip(frame: HipFrame) -> Mask:
    """Where the hip bone of a head can lie at all; medially and high up begins the sacrum."""
    height_mm = frame.up * frame.radius_mm
    blade = (frame.up < 1.2) | (frame.lateral > -0.8)
    near: Mask = (
        blade & (height_mm < HIP_HEIGHT_MM) & (height_mm > -HIP_DROP_MM) & (np.abs(frame.depth_mm) < HIP_DEPTH_MM)
    )
    return near


def _behind_neck(grid: WorkGrid, head: FemoralHead, frame: HipFrame, femur: Mask) -> Mask:
    """Where the rim of the acetabulum lies: near the sphere, in the half that faces away from the trochanter."""
    index = np.argwhere(femur & (frame.distance_mm < TROCHANTER_RADII * head.radius_mm))
    if len(index) == 0:
        return np.zeros(femur.shape, dtype=bool)
    neck = grid.position_mm(index.mean(axis=0)) - head.centre_mm
    offsets = [axis - np.float32(place) for axis, place in zip(grid.axes_mm(), head.centre_mm, strict=True)]
    along = sum(offset * np.float32(part_mm) for offset, part_mm in zip(offsets, neck, strict=True))
    behind: Mask = (along < 0) & (frame.distance_mm < head.radius_mm + RIM_MM)
    return behind


def solid_femur(flooded: Mask, frame: HipFrame, forbidden: Mask, step_mm: float) -> Mask:
    """Turn thresholded bone of a femur into the whole bone with its marrow.

    Parameters
    ----------
    flooded : (z, y, x) bool array
        Bone of this femur.
    frame
        Coordinates of its head.
    forbidden : (z, y, x) bool array
        Bone of other structures, never entered.
    step_mm
        Edge of a voxel.
    """
    ball = frame.distance_mm < frame.radius_mm - HEAD_MARGIN_MM
    kept = component_at(flooded, ball) & (frame.up * frame.radius_mm > -FEMUR_LENGTH_MM)
    closed = close_mask(kept, CLOSING_MM, step_mm) & ~forbidden
    filled = fill_sections(closed) & ~forbidden
    opened = open_mask(filled, OPENING_MM, step_mm)
    return component_at(opened | (ball & filled), ball)


def solid_hip(flooded: Mask, frame: HipFrame, forbidden: Mask, step_mm: float) -> Mask:
    """Turn thresholded bone of a hip bone into the whole bone that caps the head, with its marrow."""
    cap = frame.distance_mm < frame.radius_mm + 3.0 * CLOSING_MM
    closed = close_mask(component_at(flooded, cap), HIP_CLOSING_MM, step_mm) & ~forbidden
    filled = fill_sections(closed, axes=(0,)) & ~forbidden
    return component_at(open_mask(filled, step_mm, step_mm), cap)


def solid_bones(grid: WorkGrid, flooded: NDArray[np.uint8], head: FemoralHead) -> SeparatedHip:
    """Make the femur and the hip bone of one side solid, within a box of their own.

    Parameters
    ----------
    grid
        The working grid.
    flooded : (z, y, x) uint8 array
        From ``separate_bones``.
    head
        One of the heads it was made with.
    """
    femur_value, hip_value = structure_of("femur", head).value, structure_of("hip", head).value
    both = (flooded == femur_value) | (flooded == hip_value)
    box: Box = ndimage.find_objects(both.astype(np.uint8))[0]
    small, own = flooded[box], part(grid, box)
    frame = hip_frame(own, head)
    taken = (small != 0) & (small != femur_value)
    femur = solid_femur(small == femur_value, frame, taken, grid.step_mm)
    taken = ((small != 0) & (small != hip_value)) | femur
    return SeparatedHip(head, box, own, femur, solid_hip(small == hip_value, frame, taken, grid.step_mm))
