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
"""The middle part of depth and width from which the tilt is read: its columns end at endplates, not at
walls."""

TILT_STEPS = 6
"""Refinements of the tilt; each removes most of what is left of a lordotic L5's 30 degrees."""

CELL_MM = 3.0
"""Width of a column of the body; at least one voxel."""


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


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Columns of a body along its axis: place forward to back and aside, mean height, length; all mm."""

    back_mm: NDArray[np.float64]
    aside_mm: NDArray[np.float64]
    middle_mm: NDArray[np.float64]
    length_mm: NDArray[np.float64]


def measure_heights(volume: Volume, mask: NDArray[np.bool_]) -> VertebraHeights:
    """Measure a vertebral body's heights in its middle.

    1. Cut the body into columns of 3 x 3 mm along its axis, at first the patient's.
    2. Fit a plane to the middles of the columns in the body's core; its normal is the new axis. Repeat.
    3. Height of a band: mean length of its columns, those of half the median length or less left out as rims.

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
    cell_mm = max(CELL_MM, *volume.spacing_mm)
    axis = np.array([0.0, 0.0, 1.0])
    for _ in range(TILT_STEPS):
        axis = _refined(_columns(points, axis, cell_mm, volume.voxel_mm3), axis)
    columns = _columns(points, axis, cell_mm, volume.voxel_mm3)
    depth = _fraction(columns.back_mm, cell_mm)
    whole = columns.length_mm > np.median(columns.length_mm) / 2
    middle = whole & (np.abs(_fraction(columns.aside_mm, cell_mm) - 0.5) <= SIDE_FRACTION / 2)
    heights = [_mean(columns.length_mm[middle & (depth >= front) & (depth < back)]) for front, back in BANDS]
    return VertebraHeights(heights[0], heights[1], heights[2])


def _columns(points: NDArray[np.float64], axis: NDArray[np.float64], cell_mm: float, voxel_mm3: float) -> _Columns:
    """Sort the body's voxels into columns along an axis."""
    aside, back = _across(axis)
    cells = np.rint(np.column_stack([points @ back, points @ aside]) / cell_mm).astype(np.int64)
    first, width = cells.min(axis=0), int(np.ptp(cells[:, 1])) + 1
    numbers = (cells[:, 0] - first[0]) * width + cells[:, 1] - first[1]
    counts = np.bincount(numbers).astype(np.float64)
    sums_mm = np.bincount(numbers, weights=points @ axis)
    filled = np.flatnonzero(counts)
    return _Columns(
        back_mm=(filled // width + first[0]) * cell_mm,
        aside_mm=(filled % width + first[1]) * cell_mm,
        middle_mm=sums_mm[filled] / counts[filled],
        length_mm=counts[filled] * (voxel_mm3 / cell_mm**2),
    )


def _refined(columns: _Columns, axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn the axis to the normal of the plane through the middles of the core's columns."""
    near_back = np.abs(columns.back_mm) <= CORE_FRACTION / 2 * np.ptp(columns.back_mm)
    core = near_back & (np.abs(columns.aside_mm) <= CORE_FRACTION / 2 * np.ptp(columns.aside_mm))
    plane = np.column_stack([columns.back_mm[core], columns.aside_mm[core], np.ones(np.count_nonzero(core))])
    slopes, *_ = np.linalg.lstsq(plane, columns.middle_mm[core], rcond=None)
    aside, back = _across(axis)
    normal = axis - slopes[0] * back - slopes[1] * aside
    return np.asarray(normal / np.linalg.norm(normal))


def _across(axis: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions to the patient's left and back, perpendicular to the axis."""
    back = np.array([0.0, 1.0, 0.0]) - axis * axis[1]
    back = back / np.linalg.norm(back)
    return np.cross(back, axis), back


def _fraction(places_mm: NDArray[np.float64], cell_mm: float) -> NDArray[np.float64]:
    """Places from 0 to 1 between the first and the last column, their widths included."""
    return np.asarray((places_mm - places_mm.min() + cell_mm / 2) / (np.ptp(places_mm) + cell_mm))


def _mean(values: NDArray[np.float64]) -> float:
    """Average, 0 of nothing."""
    return float(values.mean()) if values.size else 0.0
