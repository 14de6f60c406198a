"""A femur of a ball, a waisted neck, a trochanter, a bump and a shaft, in any position, with its true areal density."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from inference.femoral_neck import NECK_ASIDE, NECK_SLAB_MM
from inference.volume import Volume

HEAD_MM, NECK_DEG, WAIST_MM, WAIST_AT_MM = 24.0, 130.0, 15.0, 38.0
SHAFT_MM, SHAFT_AT_MM, DEEPEST_MM = 15.0, 52.0, 400.0
BUMP_ENDS_MM = (-68.0, -48.0)
"""The lesser trochanter begins and ends abruptly, so that its lower end is known."""

SOFT_HU = 40.0
Array = NDArray[np.float64]


def signed_distance_mm(lateral: Array, back: Array, up: Array) -> Array:
    """Distance from the femur's surface, negative inside; exact enough within a voxel of it."""
    angle = np.radians(NECK_DEG)
    along = lateral * np.sin(angle) + up * np.cos(angle)
    across = up * np.sin(angle) - lateral * np.cos(angle)
    waist = WAIST_MM + (along - WAIST_AT_MM) ** 2 / 150.0
    slope = np.abs(along - WAIST_AT_MM) / 75.0
    neck = np.maximum((np.hypot(across, back) - waist) / np.sqrt(1 + slope**2), np.abs(along - 35.0) - 20.0)
    head = np.sqrt(lateral**2 + back**2 + up**2) - HEAD_MM
    stretched = np.sqrt((lateral - SHAFT_AT_MM) ** 2 + back**2 + ((up + 28.0) / 1.3) ** 2) - 20.0
    shaft = np.maximum(np.hypot(lateral - SHAFT_AT_MM, back) - SHAFT_MM, np.maximum(up + 40.0, -up - DEEPEST_MM))
    low, high = BUMP_ENDS_MM
    bump = np.maximum(np.hypot(lateral - SHAFT_AT_MM + 12.0, back - 12.0) - 9.0, np.maximum(up - high, low - up))
    return np.minimum.reduce([head, neck, stretched, shaft, bump])


def scanned_femur(
    voxel_mm: float,
    bone_hu: float,
    turn: Array | None = None,
    side: str = "R",
    below_head_mm: float = 140.0,
    soft_hu: float = SOFT_HU,
) -> tuple[Volume, NDArray[np.bool_]]:
    """Scan the femur of uniform ``bone_hu`` with cubic voxels that average what they hold.

    ``turn`` is a rotation of (x, y, z) about the head's centre, made after the side is. The mask holds the voxels that
    are bone by half or more; the scan ends ``below_head_mm`` under the head.
    """
    inner, outer = (-135.0, 45.0) if side == "R" else (-45.0, 135.0)
    x, y, z = (
        np.arange(low, high, voxel_mm) + 0.37 * voxel_mm
        for low, high in ((inner, outer), (-75.0, 75.0), (-below_head_mm, 35.0))
    )
    points = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1]).reshape(3, -1)
    own = (np.eye(3) if turn is None else turn.T) @ points
    lateral = -own[0] if side == "R" else own[0]
    distance = signed_distance_mm(lateral, own[1], own[2]).reshape(z.size, y.size, x.size)
    share = np.clip(0.5 - distance / voxel_mm, 0.0, 1.0)
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = voxel_mm
    affine[:, 3] = x[0], y[0], z[0], 1.0
    hu = (soft_hu + share * (bone_hu - soft_hu)).astype(np.float32)
    return Volume(hu, affine), share >= 0.5


@dataclass(frozen=True, slots=True)
class Truth:
    """Mean path through the bone, mm, and projected area, cm2, of a region."""

    path_mm: float
    area_cm2: float


@cache
def true_regions(bottom_mm: float, neck_mm: float) -> dict[str, Truth]:
    """Integrate the shape itself over the regions, cut at given places along the axes it was made with."""
    step = 0.5
    lateral, up = (np.arange(low, high, step) + step / 2 for low, high in ((-30.0, 80.0), (bottom_mm, 30.0)))
    wide, high = np.meshgrid(lateral, up)
    path = np.zeros(wide.shape)
    bone = np.zeros(wide.shape, dtype=np.bool_)
    for back in np.arange(-28.0, 28.0, step) + step / 2:
        distance = signed_distance_mm(wide, np.full(wide.shape, back), high)
        path += np.clip(0.5 - distance / step, 0.0, 1.0) * step
        bone |= distance < 0
    angle = np.radians(NECK_DEG)
    along, across = (
        wide * np.sin(angle) + high * np.cos(angle) - neck_mm,
        high * np.sin(angle) - wide * np.cos(angle),
    )
    beside = np.abs(across) < NECK_ASIDE * HEAD_MM
    neck = beside & (np.abs(along) < NECK_SLAB_MM / 2)
    total = neck | ~(beside & (along < NECK_SLAB_MM / 2))
    regions = {"neck": neck, "trochanter": total & ~neck & (across > 0), "total_hip": total}
    return {
        key: Truth(float(path[mask].sum() / (mask & bone).sum()), float((mask & bone).sum()) * (step / 10) ** 2)
        for key, mask in regions.items()
    }


def rotation(axis: str, degrees: float) -> Array:
    """Return a rotation about a patient axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]
