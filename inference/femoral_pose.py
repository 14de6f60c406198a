"""The standard pose of a femur: neck in the plane of projection, shaft upright; and its lesser trochanter.

A femur lies in a scan as the patient does, its neck turned forwards and its shaft tilted. Projectional densitometry
turns the leg until the neck lies flat; here the coordinates are turned instead. Nothing is resampled: a pose maps
points. The shaft's axis is measured where enough of the shaft is seen, and is the patient's long axis otherwise.
Arrays are in canonical order. Definitions: docs/methods/vbmd.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.femoral_neck import FemoralHead, FemoralNeck, points_lps_mm
from inference.labels import Laterality
from inference.volume import Volume

SHAFT_SEARCH_RADII = (1.0, 5.0)
"""Sections this many head radii below the head's centre are looked at: from the neck's foot to the upper shaft, before
it bows forwards [m] assumption."""

LESSER_TROCHANTER_RADII = (1.8, 4.0)
"""Its lower end lies this many head radii below the head's centre. Measured on two real femurs and a shape model: 2.4
to 3.0."""

GROWTH_MM = 3.0
"""At the lower end of the lesser trochanter a section becomes this much wider, medially or backwards, ..."""

GROWTH_OVER_MM = 10.0
"""... than the section this far below it. Measured on a real femur: 1 mm in the shaft, 9 mm at its end."""

ROUND_RATIO = 1.3
"""Ratio of the axes of a section of the shaft, at most. Measured on two real femurs: 1.1 to 1.23 below the lesser
trochanter, 1.4 to 1.66 across it."""

AXIS_LENGTH_MM = 30.0
"""Shaft below the lesser trochanter from which its axis is fitted: an error of 0.5 mm at its ends is one degree."""

LEAST_POINTS = 20
"""Voxels of a section."""


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Where a femur's own axes point.

    Attributes
    ----------
    origin_mm : (3,) float64 array
        The head's centre, LPS.
    axes : (3, 3) float64 array
        Rows: unit vectors towards lateral, back and up (proximal along the shaft), LPS. The neck has no part along
        the second: that is the direction of projection. Left-handed for one side, as a mirror image is.
    neck_deg
        Angle between neck and shaft: 125 to 135 in adults.
    has_shaft
        Whether ``up`` is the shaft's measured axis; else it is the patient's long axis.
    """

    origin_mm: NDArray[np.float64]
    axes: NDArray[np.float64]
    neck_deg: float
    has_shaft: bool

    def local_mm(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, 3) LPS points as (lateral, back, up) from the head's centre, mm."""
        return (points_mm - self.origin_mm) @ self.axes.T

    def lps_mm(self, local_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, 3) points given as (lateral, back, up) in LPS, mm."""
        return local_mm @ self.axes + self.origin_mm


@dataclass(frozen=True, slots=True, eq=False)
class _Section:
    """One slice through the shaft: height and middle from the head's centre, and its width along a few directions."""

    height_mm: float
    middle_mm: NDArray[np.float64]
    widths_mm: NDArray[np.float64]
    ratio: float


@dataclass(frozen=True, slots=True, eq=False)
class LesserTrochanter:
    """Lower end of the lesser trochanter on the bone's surface: a point from the head's centre, LPS mm."""

    lower_end_mm: NDArray[np.float64]


def find_pose(
    volume: Volume, mask: NDArray[np.bool_], head: FemoralHead, neck: FemoralNeck, side: Laterality
) -> tuple[Pose, LesserTrochanter | None]:
    """Find the standard pose of a femur, and the lower end of its lesser trochanter.

    1. Up is the patient's long axis; lateral is the neck's direction across it; back follows from the side.
    2. Going up the shaft's sections, the lesser trochanter begins where one is 3 mm wider, medially or backwards,
       than the one 10 mm below, and those below are round.
    3. Where 30 mm of shaft are seen below it, up becomes the line through their middles, and 1 is done again.

    Parameters
    ----------
    volume
        Gives the grid; canonical order.
    mask : (slice, row, column) bool array
        One femur.
    head, neck
        Its head and neck.
    side
        ``R`` or ``L``.

    Returns
    -------
    pose : Pose
    lesser_trochanter : LesserTrochanter or None
        None where the scan ends above it or within it, or nothing like it is there.
    """
    upright = _pose(head, neck, np.array([0.0, 0.0, 1.0]), side, has_shaft=False)
    sections = _sections(volume, mask, head, upright)
    place = _lesser_trochanter(sections, head.radius_mm, _directions(upright))
    if place is None:
        return upright, None
    end_mm, below = place
    axis = _axis(below)
    pose = upright if axis is None else _pose(head, neck, axis, side, has_shaft=True)
    return pose, LesserTrochanter(end_mm)


def _pose(head: FemoralHead, neck: FemoralNeck, up: NDArray[np.float64], side: Laterality, *, has_shaft: bool) -> Pose:
    """Build the pose with a given upward direction."""
    cosine = float(neck.axis @ up)
    lateral = neck.axis - cosine * up
    lateral /= np.linalg.norm(lateral)
    back = np.cross(lateral, up) if side == "R" else np.cross(up, lateral)
    return Pose(head.centre_mm, np.stack([lateral, back, up]), float(np.degrees(np.arccos(cosine))), has_shaft)


def _directions(pose: Pose) -> NDArray[np.float64]:
    """Return medial, half way, and back, (3, 3) LPS."""
    lateral, back = pose.axes[0], pose.axes[1]
    return np.stack([-lateral, (back - lateral) / np.sqrt(2.0), back])


def _sections(volume: Volume, mask: NDArray[np.bool_], head: FemoralHead, pose: Pose) -> list[_Section]:
    """Return the sections below the head from the lowest up, one a slice."""
    directions = _directions(pose)[:, :2]
    near, far = (radii * head.radius_mm for radii in SHAFT_SEARCH_RADII)
    found = []
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        where = np.argwhere(mask[index])
        points = points_lps_mm(np.insert(where, 0, index, axis=1), volume) - head.centre_mm
        middle = points.mean(axis=0)
        if len(points) < LEAST_POINTS or not -far <= middle[2] <= -near:
            continue
        spread = np.cov(points[:, :2].T)
        widths_mm = 4.0 * np.sqrt(np.einsum("di,ij,dj->d", directions, spread, directions))  # of a disc: its diameter
        least, most = np.linalg.eigvalsh(spread)
        found.append(_Section(float(middle[2]), middle, widths_mm, float(np.sqrt(most / least))))
    return found


def _lesser_trochanter(
    sections: list[_Section], radius_mm: float, directions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[_Section, ...]] | None:
    """Return the point of the surface where it begins and the sections below; None where there is no such place."""
    if len(sections) < 2:
        return None
    heights_mm = np.array([one.height_mm for one in sections])
    widths_mm = np.array([one.widths_mm for one in sections])
    under_mm = np.stack([np.interp(heights_mm - GROWTH_OVER_MM, heights_mm, column) for column in widths_mm.T], axis=1)
    growths_mm = widths_mm - under_mm
    growth_mm = growths_mm.max(axis=1)
    near, far = (radii * radius_mm for radii in LESSER_TROCHANTER_RADII)
    known = heights_mm - GROWTH_OVER_MM >= heights_mm[0]
    wider = np.flatnonzero(known & (growth_mm >= GROWTH_MM) & (-far <= heights_mm) & (heights_mm <= -near))
    if not wider.size or wider[0] == 0 or not known[wider[0] - 1]:
        return None
    at = int(wider[0])
    share = (GROWTH_MM - growth_mm[at - 1]) / (growth_mm[at] - growth_mm[at - 1])
    height_mm = float(heights_mm[at - 1] + share * (heights_mm[at] - heights_mm[at - 1]))
    below = tuple(one for one in sections if one.height_mm < height_mm)
    nearest = [one.ratio for one in below if one.height_mm > height_mm - GROWTH_OVER_MM]
    if max(nearest, default=np.inf) > ROUND_RATIO or growth_mm[at - 1] >= GROWTH_MM:
        return None
    middles = np.array([one.middle_mm for one in sections])
    middle_mm = np.array([np.interp(height_mm, heights_mm, column) for column in middles.T])
    side = int(np.argmax(growths_mm[at]))
    half_mm = float(np.interp(height_mm, heights_mm, widths_mm[:, side])) / 2.0
    return middle_mm + half_mm * directions[side], below


def _axis(below: tuple[_Section, ...]) -> NDArray[np.float64] | None:
    """Fit a line through the middles of sections; None where they are too few to tell its direction."""
    middles_mm = np.array([one.middle_mm for one in below])
    if middles_mm[-1, 2] - middles_mm[0, 2] < AXIS_LENGTH_MM:
        return None
    slopes = np.polyfit(middles_mm[:, 2], middles_mm[:, :2], 1)[0]
    axis = np.array([slopes[0], slopes[1], 1.0])
    return np.asarray(axis / np.linalg.norm(axis))
