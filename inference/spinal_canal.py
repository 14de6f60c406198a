"""The spinal canal: a soft tube enclosed by bone, tracked through an isotropic working grid.

The canal is the one part of the spine that is in every slice from the sacrum to the skull and that nothing
else in the trunk looks like, so everything else about the spine is found relative to it. This module knows
nothing about vertebrae. docs/methods/segmentation-spine.md, steps 1 and 2.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.isotropic import cubic
from inference.volume import Volume

WORKING_SPACING_MM = 2.0
"""Grid on which the spine is found; half the wall thickness of a pedicle (about 5 mm). [m] assumption."""

BONE_HU = 150.0
"""Cortex after partial volume at 2 to 3 mm; blood and organs stay below it without contrast. [m] assumption."""

SOFT_RANGE_HU = (-150.0, 130.0)
"""Epidural fat to enhanced veins: what the canal may hold. Intrathecal contrast is outside. [m] assumption."""

CANAL_CONTENT_RANGE_HU = (-40.0, 120.0)
"""Median along the canal: cord, fluid and some fat; fatty marrow of a long bone is below. [m] assumption."""

WALL_RANGE_MM = (6.0, 18.0)
"""Distance from the canal's middle to its wall. Lumbar canals are 15 to 25 mm deep, 20 to 30 mm wide. [m]."""

CORE_RADIUS_MM = 5.0
"""The middle of the canal that must be soft. [m] assumption."""

RAYS = 16
"""Directions in which a wall is looked for; number 0 is left, 4 back, 8 right, 12 front."""

FRONT_RAYS, BACK_RAYS, SIDE_RAYS = (10, 11, 12, 13, 14), (2, 3, 4, 5, 6), (15, 0, 1, 7, 8, 9)
FRONT_WEIGHT, BACK_WEIGHT, SIDE_WEIGHT = 0.3, 0.4, 0.3
"""Foramina open the sides and discs the front at half the levels; laminae overlap like tiles. [m] assumption."""

SCORE_THRESHOLD = 0.5
"""Enclosure below which a slice speaks against the path. [m] assumption."""

SHIFT_COST_BACK, SHIFT_COST_LATERAL = 0.03, 0.25
"""Cost of moving one cell between slices: the sacrum runs back at 60 degrees, scoliosis stays mild. [m]."""

MAX_SHIFT_BACK_CELLS = 3
"""Steepest path: three cells back per slice, about 70 degrees."""

LATERAL_LIMIT_MM = 45.0
"""Canals farther from the body's middle are not looked for: there the acetabula begin. [m] assumption."""

MIN_LENGTH_MM = 50.0
"""Shortest canal that is believed: one vertebra and its discs, with margin. [m] assumption."""

_T = TypeVar("_T", bound=np.generic)
_BODY_HU = -300.0
_RESAMPLE_RANGE_HU = (-1024.0, 1500.0)


@dataclass(frozen=True, slots=True)
class WorkingGrid:
    """The volume on an isotropic grid whose first voxel centre is the canonical volume's first voxel centre.

    Points on it are "grid mm": distances along (axis 0, axis 1, axis 2) from that first centre, mm, so that
    they serve on the native grid too.

    Attributes
    ----------
    hu : (head, back, left) float32 array
        CT numbers, clipped to -1024..1500 HU.
    spacing_mm
        Edge of a cell, mm.
    """

    hu: NDArray[np.float32]
    spacing_mm: float = WORKING_SPACING_MM


@dataclass(frozen=True, slots=True)
class Canal:
    """The tracked middle of the canal.

    Attributes
    ----------
    points_mm : (n, 3) float64 array
        Grid mm (head, back, left), one point per working slice, from the feet to the head.
    enclosure
        Mean enclosure score along the path, 0 to 1.
    content_hu
        Median CT number along the path, HU.
    """

    points_mm: NDArray[np.float64]
    enclosure: float
    content_hu: float


def working_grid(volume: Volume) -> WorkingGrid:
    """Resample a canonical volume to ``WORKING_SPACING_MM`` with a linear kernel as wide as the coarser grid."""
    return WorkingGrid(cubic(volume.hu, volume.spacing_mm, WORKING_SPACING_MM, _RESAMPLE_RANGE_HU))


def find_canal(grid: WorkingGrid) -> Canal | None:
    """Find the best canal-like path.

    Parameters
    ----------
    grid
        The working grid.

    Returns
    -------
    Canal or None
        None where no path is long and enclosed enough or its content is not that of a canal.
    """
    columns = _central_columns(grid)
    hu = np.ascontiguousarray(grid.hu[:, :, columns])
    if min(hu.shape) < 2 * WALL_RANGE_MM[1] / grid.spacing_mm:
        return None
    score = enclosure(hu, grid.spacing_mm)
    margin = round(WALL_RANGE_MM[1] / grid.spacing_mm)
    score[:, :, :margin] = score[:, :, -margin:] = 0
    path = _best_path(score)
    if (len(path) - 1) * grid.spacing_mm < MIN_LENGTH_MM:
        return None
    values = score[tuple(path.T)]
    content_hu = float(np.median(hu[tuple(path.T)]))
    if not CANAL_CONTENT_RANGE_HU[0] <= content_hu <= CANAL_CONTENT_RANGE_HU[1]:
        return None
    points = (path + np.array([0, 0, columns.start])) * grid.spacing_mm
    return Canal(points.astype(np.float64), float(values.mean()), content_hu)


def _central_columns(grid: WorkingGrid) -> slice:
    """Columns within ``LATERAL_LIMIT_MM`` of the body's middle."""
    weight = (grid.hu > _BODY_HU).sum(axis=(0, 1)).astype(float)
    if weight.sum() == 0:
        return slice(0, 0)
    middle = float((weight * np.arange(weight.size)).sum() / weight.sum())
    reach = (LATERAL_LIMIT_MM + WALL_RANGE_MM[1]) / grid.spacing_mm
    return slice(max(round(middle - reach), 0), min(round(middle + reach) + 1, weight.size))


def enclosure(hu: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float32]:
    """Score how much every cell looks like the middle of the canal in its axial slice, 0 to 1.

    Parameters
    ----------
    hu : (head, back, left) array
        CT numbers, HU.
    spacing_mm
        Edge of a cell, mm.

    Returns
    -------
    (head, back, left) float32 array
        Weighted share of the rays that meet bone within ``WALL_RANGE_MM``, times the share of soft cells
        within ``CORE_RADIUS_MM``; 0 where bone is within 4 mm.
    """
    bone = hu > BONE_HU
    weights = _ray_weights()
    score = np.zeros(hu.shape, dtype=np.float32)
    radii = np.arange(WALL_RANGE_MM[0], WALL_RANGE_MM[1] + 0.1, spacing_mm) / spacing_mm
    for ray, weight in enumerate(weights):
        angle = 2 * np.pi * ray / RAYS
        met = np.zeros(hu.shape, dtype=bool)
        for radius in radii:
            met |= _shifted(bone, round(np.sin(angle) * radius), round(np.cos(angle) * radius), False)
        score += np.float32(weight) * met
    soft = ((hu > SOFT_RANGE_HU[0]) & (hu < SOFT_RANGE_HU[1])).astype(np.float32)
    core = _disk(CORE_RADIUS_MM / spacing_mm)[None]
    score *= ndimage.convolve(soft, core / core.sum(), mode="constant")
    score[ndimage.maximum_filter(bone, footprint=_disk(2.1)[None])] = 0
    return score


def _ray_weights() -> NDArray[np.float64]:
    weights = np.zeros(RAYS)
    for rays, weight in ((FRONT_RAYS, FRONT_WEIGHT), (BACK_RAYS, BACK_WEIGHT), (SIDE_RAYS, SIDE_WEIGHT)):
        weights[list(rays)] = weight / len(rays)
    return weights


def _disk(radius_cells: float) -> NDArray[np.float32]:
    reach = int(np.floor(radius_cells))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return (np.hypot(rows, columns) <= radius_cells).astype(np.float32)


def _shifted(array: NDArray[_T], back: int, left: int, fill: float) -> NDArray[_T]:
    """Array whose cell (.., y, x) holds ``array[.., y + back, x + left]``, ``fill`` outside."""
    result = np.full_like(array, fill)
    rows, columns = array.shape[-2:]
    into = (slice(max(0, -back), rows - max(0, back)), slice(max(0, -left), columns - max(0, left)))
    out_of = (slice(max(0, back), rows - max(0, -back)), slice(max(0, left), columns - max(0, -left)))
    result[..., into[0], into[1]] = array[..., out_of[0], out_of[1]]
    return result


def _best_path(score: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n, 3) cells of the path through consecutive slices with the largest sum of (score - threshold - shifts).

    Viterbi's recursion with a free start and end: a path restarts where its sum would be negative.
    """
    reach = range(-MAX_SHIFT_BACK_CELLS, MAX_SHIFT_BACK_CELLS + 1)
    steps = [(back, left) for back in reach for left in (-1, 0, 1)]
    total = np.zeros(score.shape[1:], dtype=np.float32)
    totals = np.empty_like(score)
    came_by = np.full(score.shape, -1, dtype=np.int8)
    for z, layer in enumerate(score):
        best = np.zeros_like(total)
        for index, (back, left) in enumerate(steps):
            cost = SHIFT_COST_BACK * abs(back) + SHIFT_COST_LATERAL * abs(left)
            candidate = _shifted(total, back, left, -np.inf) - np.float32(cost)
            better = candidate > best
            best[better] = candidate[better]
            came_by[z][better] = index
        total = best + layer - np.float32(SCORE_THRESHOLD)
        totals[z] = total
    return _backtrack(totals, came_by, steps)


def _backtrack(
    totals: NDArray[np.float32], came_by: NDArray[np.int8], steps: list[tuple[int, int]]
) -> NDArray[np.int64]:
    z, y, x = (int(i) for i in np.unravel_index(int(totals.argmax()), totals.shape))
    path = [(z, y, x)]
    while came_by[z, y, x] >= 0 and z > 0:
        back, left = steps[came_by[z, y, x]]
        z, y, x = z - 1, y + back, x + left
        path.append((z, y, x))
    return np.array(path[::-1], dtype=np.int64)
