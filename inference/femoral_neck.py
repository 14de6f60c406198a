"""The femoral head and neck, found from a femur's mask alone, and a slab of bone across the neck.

Head: the largest ball that fits into the mask's upper part, then the sphere through the surface beside it. Neck: of
the spherical shells around the head's centre, those that cut the least bone; the axis runs from the head's centre
through their middle. The slab is 15 mm wide along the axis, like the neck box of projectional densitometry
[IscdAtlas]. Where a step gives an implausible length there is no neck, and the caller must say so.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.hip_joint import fit_sphere
from inference.volume import Volume

HEAD_RADIUS_MM = (17.0, 32.0)
"""Plausible radius of an adult femoral head: 19 to 28 mm, and half a coarse voxel [m] assumption."""

LEAST_BALL_MM = 13.6
"""Radius of the largest ball in a mask with a head, four fifths of the least head's: the mask may fall short at the
joint. Measured on two real heads of 19 and 20 mm: 15.6 and 16.2."""

HEAD_SEARCH_MM = 60.0
"""The head's centre lies within this of the top of the femur: a head and a high trochanter [m] assumption."""

HEAD_SURFACE_MM = 4.0
"""Surface this far from the largest ball is the head's: more than a coarse voxel, less than the neck's waist [m]
assumption."""

HEAD_FITS = 3
"""How often the sphere is fitted to the surface beside the last one; it stands still after two."""

HEAD_SHIFT_MM = 6.0
"""A fitted centre farther from the largest ball's is no head's [m] assumption."""

LEAST_SURFACE_POINTS = 50
"""Fewer faces of voxels beside a ball are no head's surface: one of 3 mm voxels has some 400."""

NECK_REACH = (1.1, 2.2)
"""Shells are looked at from this to that many head radii: the neck ends near twice the radius [m]
assumption."""

NECK_AREA_FRACTION = 0.95
"""The narrowest shell has at most this part of the head's section: else nothing narrows [m] assumption."""

PLATEAU = 1.1
"""Shells up to this much larger than the narrowest are the neck too; the middle one of them is taken."""

SHELL_MM = 2.0
"""Thickness of a shell; at least one voxel."""

NECK_SLAB_MM = 15.0
"""Width of the slab along the neck axis: of Hologic's neck box, 15 lines [IscdAtlas] of about 1 mm [m]."""

NECK_ASIDE = 1.1
"""The slab ends this many head radii from the axis, so that it never reaches the trochanter's tip."""


@dataclass(frozen=True, slots=True, eq=False)
class FemoralHead:
    """The ball of a femur: its centre (LPS, mm) and radius."""

    centre_mm: NDArray[np.float64]
    radius_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class FemoralNeck:
    """A neck as found.

    Attributes
    ----------
    mask : (slice, row, column) bool array
        Voxels of the slab.
    axis : (3,) float64 array
        Unit vector from the head's centre down the neck, LPS.
    middle_mm
        From the head's centre to the middle of the slab, along the axis.
    aside_mm
        The slab ends this far from the axis.
    """

    mask: NDArray[np.bool_]
    axis: NDArray[np.float64]
    middle_mm: float
    aside_mm: float


def find_head(volume: Volume, mask: NDArray[np.bool_]) -> FemoralHead | None:
    """Find the largest ball in the upper part of a femur, and fit a sphere to the surface beside it.

    The ball's centre is a voxel's; the sphere's is known to a part of a voxel, as the neck's axis needs.

    Parameters
    ----------
    volume
        Gives the grid; any orientation.
    mask : (slice, row, column) bool array
        One femur on the volume's grid.

    Returns
    -------
    FemoralHead or None
        None where ball or sphere is too small or too large for an adult's head.
    """
    where = np.argwhere(mask)
    if len(where) == 0:
        return None
    points = points_lps_mm(where, volume)
    depth_mm = ndimage.distance_transform_edt(mask, sampling=volume.spacing_mm)[tuple(where.T)]
    depth_mm[points[:, 2] < points[:, 2].max() - HEAD_SEARCH_MM] = 0.0
    centre = int(np.argmax(depth_mm))
    radius_mm = float(depth_mm[centre])
    if not LEAST_BALL_MM <= radius_mm <= HEAD_RADIUS_MM[1]:
        return None
    return _fitted(FemoralHead(points[centre], radius_mm), surface_points_mm(mask, volume))


def find_neck(volume: Volume, mask: NDArray[np.bool_], head: FemoralHead) -> FemoralNeck | None:
    """Find the neck of one femur.

    1. Area of the mask in shells around the head's centre; the neck is the middle one of the narrow shells.
    2. The axis runs from the centre through the centroid of that shell.
    3. The slab holds the voxels within 7.5 mm of that centroid along the axis.

    Parameters
    ----------
    volume
        Gives the grid; any orientation.
    mask : (slice, row, column) bool array
        One femur on the volume's grid.
    head
        Its head.

    Returns
    -------
    FemoralNeck or None
        None where nothing narrows to a neck, or the scan ends within it.
    """
    where = np.argwhere(mask)
    away = points_lps_mm(where, volume) - head.centre_mm
    shell = _narrowest_shell(np.linalg.norm(away, axis=1), head.radius_mm, volume)
    if shell is None:
        return None
    middle = away[shell].mean(axis=0)
    axis = middle / np.linalg.norm(middle)
    along = away @ axis
    aside = np.linalg.norm(away - along[:, None] * axis, axis=1)
    middle_mm, aside_mm = float(middle @ axis), NECK_ASIDE * head.radius_mm
    inside = (np.abs(along - middle_mm) < NECK_SLAB_MM / 2) & (aside < aside_mm)
    if is_cut_by_edge(where[inside], mask.shape):
        return None
    slab = np.zeros(mask.shape, dtype=np.bool_)
    slab[tuple(where[inside].T)] = True
    return FemoralNeck(slab, axis, middle_mm, aside_mm)


def points_lps_mm(where: NDArray[np.int64], volume: Volume) -> NDArray[np.float64]:
    """Return the centres of voxels given by (n, 3) indices, LPS mm."""
    return where @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3]


def surface_points_mm(mask: NDArray[np.bool_], volume: Volume) -> NDArray[np.float64]:
    """Return the middles of the faces between a mask and what is not in it, (n, 3) LPS mm; the array's edge is none."""
    middles = []
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 0.5
        middles.append(np.argwhere(np.diff(mask, axis=axis)) + step)
    return np.concatenate(middles) @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3]


def is_cut_by_edge(where: NDArray[np.int64], shape: tuple[int, ...]) -> bool:
    """Whether any of the (n, 3) indices lies in the first or last plane of an axis."""
    return bool(((where == 0) | (where == np.asarray(shape) - 1)).any())


def _fitted(ball: FemoralHead, surface_mm: NDArray[np.float64]) -> FemoralHead | None:
    """Return the sphere through the surface beside a ball; None where it is none of a head's size around the ball."""
    head = ball
    for _ in range(HEAD_FITS):
        beyond_mm = np.abs(np.linalg.norm(surface_mm - head.centre_mm, axis=1) - head.radius_mm)
        near = surface_mm[beyond_mm < HEAD_SURFACE_MM]
        if len(near) < LEAST_SURFACE_POINTS:
            return None
        head = FemoralHead(*fit_sphere(near))
    is_near = np.linalg.norm(head.centre_mm - ball.centre_mm) <= HEAD_SHIFT_MM
    return head if is_near and HEAD_RADIUS_MM[0] <= head.radius_mm <= HEAD_RADIUS_MM[1] else None


def _narrowest_shell(distance_mm: NDArray[np.float64], radius_mm: float, volume: Volume) -> NDArray[np.bool_] | None:
    """Mark the points of the shell with the smallest area; None where nothing narrows to a neck."""
    thickness_mm = max(SHELL_MM, *volume.spacing_mm)
    reach_mm = np.arange(NECK_REACH[0] * radius_mm, NECK_REACH[1] * radius_mm, SHELL_MM / 2)
    shells = [np.abs(distance_mm - reach) < thickness_mm / 2 for reach in reach_mm]
    areas_mm2 = np.array([np.count_nonzero(shell) for shell in shells]) * volume.voxel_mm3 / thickness_mm
    least_mm2 = float(areas_mm2.min())
    if not 0 < least_mm2 < NECK_AREA_FRACTION * np.pi * radius_mm**2:
        return None
    narrow = np.flatnonzero(areas_mm2 <= PLATEAU * least_mm2)
    return shells[int(narrow[len(narrow) // 2])]
