"""Anterior, middle and posterior height of a vertebral body, from its mask.

Height is measured along the body's own axis, the normal of the plane half-way between its endplates. Heights
are means over bands of the body, so that one voxel more or less does not decide. The three heights are those
of Genant's semiquantitative grading; the bands are ours [m] assumption.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.volume import Volume

BANDS = ((0.12, 0.35), (0.4, 0.6), (0.65, 0.88))
"""Anterior, middle and posterior band, as fractions of the body's depth from the front."""

SIDE_FRACTION = 0.4
"""Only this middle part of the body's width is measured: pedicles and rims lie outside."""

CORE_FRACTION = 0.4
"""The middle part of depth and width from which the tilt is read: there endplates end it, not walls."""

TILT_STEPS = 6
"""Refinements of the tilt; each removes most of what is left of a lordotic L5's 30 degrees."""


@dataclass(frozen=True, slots=True)
class VertebraHeights:
    """Heights of one body, mm."""

    anterior_mm: float
    middle_mm: float
    posterior_mm: float

    @property
    def ratio(self) -> float:
        """Smallest height by largest height, 0 to 1."""
        heights = (self.anterior_mm, self.middle_mm, self.posterior_mm)
        return min(heights) / max(heights) if max(heights) > 0 else 1.0

    @property
    def median_mm(self) -> float:
        """Median of the three heights, mm."""
        return float(np.median((self.anterior_mm, self.middle_mm, self.posterior_mm)))


def measure_heights(volume: Volume, mask: NDArray[np.bool_]) -> VertebraHeights:
    """Measure a vertebral body's heights in its middle.

    1. Fit a plane to the heights of the voxels in the body's core: it lies half-way between the endplates, and
       its normal is the body's axis. Begin with the patient's axis and repeat.
    2. Take depth and width of the body across the axis.
    3. Height of a band: volume of the body in it / its area; a voxel on its border counts in part.

    Parameters
    ----------
    volume
        Gives the grid, in canonical order.
    mask : (slice, row, column) bool array
        One vertebral body.

    Returns
    -------
    VertebraHeights
        Zeros for an empty mask.
    """
    where = np.argwhere(mask)
    if where.size == 0:
        return VertebraHeights(0.0, 0.0, 0.0)
    points = where @ volume.affine_lps[:3, :3].T
    points = points - points.mean(axis=0)
    axis = np.array([0.0, 0.0, 1.0])
    for _ in range(TILT_STEPS):
        axis = _refined(points, axis)
    aside, back = _across(axis)
    voxel_mm = volume.voxel_mm3 ** (1 / 3)
    deep, wide = points @ back, points @ aside
    depth_mm, width_mm = float(np.ptp(deep)) + voxel_mm, float(np.ptp(wide)) + voxel_mm
    side_mm = SIDE_FRACTION * width_mm
    inside = _share(wide, (_centre(wide) - side_mm / 2, _centre(wide) + side_mm / 2), voxel_mm)
    front_mm = _centre(deep) - depth_mm / 2
    heights = []
    for band in BANDS:
        ends_mm = (front_mm + band[0] * depth_mm, front_mm + band[1] * depth_mm)
        band_mm3 = float((inside * _share(deep, ends_mm, voxel_mm)).sum()) * volume.voxel_mm3
        heights.append(band_mm3 / (side_mm * (ends_mm[1] - ends_mm[0])))
    return VertebraHeights(*heights)


def _refined(points: NDArray[np.float64], axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn the axis to the normal of the plane through the middle of the body's core."""
    aside, back = _across(axis)
    deep, wide = points @ back, points @ aside
    core = np.abs(deep - _centre(deep)) <= CORE_FRACTION / 2 * np.ptp(deep)
    core &= np.abs(wide - _centre(wide)) <= CORE_FRACTION / 2 * np.ptp(wide)
    plane = np.column_stack([deep[core], wide[core], np.ones(np.count_nonzero(core))])
    slopes, *_ = np.linalg.lstsq(plane, points[core] @ axis, rcond=None)
    normal = axis - slopes[0] * back - slopes[1] * aside
    return np.asarray(normal / np.linalg.norm(normal))


def _across(axis: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions to the patient's left and back, perpendicular to the axis."""
    back = np.array([0.0, 1.0, 0.0]) - axis * axis[1]
    back = back / np.linalg.norm(back)
    return np.cross(back, axis), back


def _centre(places_mm: NDArray[np.float64]) -> float:
    """Middle between the first and the last place."""
    return float(places_mm.min() + places_mm.max()) / 2


def _share(places_mm: NDArray[np.float64], ends_mm: tuple[float, float], voxel_mm: float) -> NDArray[np.float64]:
    """Part of every voxel, 0 to 1, that lies between two ends, so that no voxel counts all or nothing."""
    start = np.maximum(places_mm - voxel_mm / 2, ends_mm[0])
    stop = np.minimum(places_mm + voxel_mm / 2, ends_mm[1])
    return np.clip((stop - start) / voxel_mm, 0.0, 1.0)
