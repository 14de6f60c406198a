"""From the network's classes to a spine: the canal's line, the bodies as slabs across it, the sacrum's top.

Everything that follows (names, native surfaces, flags) is what the classical segmenter uses: ``inference.spine``.
"""

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.networks.bone_classes import GRID_MM, MIN_SACRUM_MM3, BoneClass
from inference.spinal_canal import MIN_LENGTH_MM, WORKING_SPACING_MM, Canal, WorkingGrid
from inference.spinal_curve import STEP_MM, SpinalCurve, curve_through
from inference.vertebra_endplates import CORE_FRONT_MM, CORE_LEFT_MM, PIVOT_FRONT_MM, Plate, Slab

Classes = NDArray[np.uint8]

EXTENSION_MM, DIRECTION_MM = 40.0, 30.0
"""The line goes on beyond the canal that was seen, as far as the scan: into the sacrum, through a cut vertebra; its
direction there is that of the last part seen. [m] assumption."""

MIN_CORE_MM3 = 800.0
"""The core of a crushed small body; specks are smaller. [m] assumption."""

SHELL_REACH_MM = 12.0
"""A voxel of the shell is this near to its core, corners included. [m] assumption."""

SACRUM_TOP_PERCENTILE = 97.0
"""Of the first segment's voxels along the line: its endplate, but for stray voxels."""

SACRUM_ASIDE_MM, SACRUM_AHEAD_MM = 25.0, 60.0
"""How far the middle of a sacrum may be beside and before or behind the canal, continued straight. [m] assumption."""

SACRUM_LEFT_MM = 18.0
"""Half width of the first segment's body, inside the alae. [m] assumption."""


@dataclass(frozen=True, slots=True, eq=False)
class Spine:
    """What the network saw of a spine.

    Attributes
    ----------
    curve
        Through the canal.
    slabs
        From the feet to the head.
    sacrum : (slice, row, column) bool array
        On the network's grid; empty where none was seen.
    sacrum_top
        Position on the curve; None where no sacrum was seen.
    """

    curve: SpinalCurve
    slabs: tuple[Slab, ...]
    sacrum: NDArray[np.bool_]
    sacrum_top: int | None


def find_spine(classes: Classes, grid: WorkingGrid) -> Spine | None:
    """Read a spine from the network's classes.

    Parameters
    ----------
    classes : (slice, row, column) uint8 array
        ``BoneClass`` values on the network's grid.
    grid
        The working grid of the same volume.

    Returns
    -------
    Spine or None
        None where no canal is long enough.
    """
    canal = canal_of(classes, grid)
    if canal is None:
        return None
    curve = curve_through(canal)
    sacrum = sacrum_of(classes, curve)
    return Spine(curve, slabs_of(classes, curve), sacrum, _sacrum_top(sacrum, curve))


def canal_of(classes: Classes, grid: WorkingGrid) -> Canal | None:
    """Return the middle of the canal, one point a working slice, extended at both ends."""
    pieces = cc3d.connected_components(classes == BoneClass.CANAL, connectivity=26)
    if pieces.max() == 0:
        return None
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    heights = np.flatnonzero(largest.any(axis=(1, 2)))
    if (heights[-1] - heights[0]) * GRID_MM < MIN_LENGTH_MM:
        return None
    middles = np.array([np.argwhere(largest[z]).mean(axis=0) for z in heights]) * GRID_MM
    line = _extended(np.column_stack([heights * GRID_MM, middles]), (np.array(grid.hu.shape) - 1) * grid.spacing_mm)
    first, last = (int(f(line[i, 0] / WORKING_SPACING_MM)) for f, i in ((np.ceil, 0), (np.floor, -1)))
    at_mm = np.arange(first, last + 1) * WORKING_SPACING_MM
    points = np.column_stack([at_mm, *(np.interp(at_mm, line[:, 0], line[:, axis]) for axis in (1, 2))])
    cells = np.clip(np.rint(points / grid.spacing_mm).astype(int), 0, np.array(grid.hu.shape) - 1)
    return Canal(points, 1.0, float(np.median(grid.hu[tuple(cells.T)])))


def _extended(line_mm: NDArray[np.float64], end_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Continue a line of (head, back, left) points straight on at both ends, inside the volume."""
    span = max(int(DIRECTION_MM / GRID_MM), 1)
    span = min(span, len(line_mm) - 1)
    steps = np.arange(1, int(EXTENSION_MM / GRID_MM) + 1)[:, None]
    below = line_mm[0] - steps * (line_mm[span] - line_mm[0]) / span
    above = line_mm[-1] + steps * (line_mm[-1] - line_mm[-1 - span]) / span
    below, above = (part[((part >= 0) & (part <= end_mm)).all(axis=1)] for part in (below, above))
    return np.vstack([below[::-1], line_mm, above])


def instances_of(classes: Classes) -> NDArray[np.uint8]:
    """Give every vertebral body a number: every core is one, every shell voxel belongs to the nearest core."""
    cores = cc3d.connected_components(classes == BoneClass.BODY_CORE, connectivity=6)
    sizes = np.bincount(cores.ravel())
    kept = [piece for piece in range(1, len(sizes)) if sizes[piece] * GRID_MM**3 >= MIN_CORE_MM3][:254]
    table = np.zeros(len(sizes), np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    numbered = table[cores]
    away_mm, nearest = ndimage.distance_transform_edt(numbered == 0, sampling=GRID_MM, return_indices=True)
    body = np.isin(classes, (BoneClass.BODY_CORE, BoneClass.BODY_SHELL)) & (away_mm <= SHELL_REACH_MM)
    return np.where(body, numbered[tuple(nearest)], 0).astype(np.uint8) if kept else np.zeros_like(classes)


def slabs_of(classes: Classes, curve: SpinalCurve) -> tuple[Slab, ...]:
    """Return the bodies as slabs between two planes, from the feet to the head."""
    numbered = instances_of(classes)
    slabs = []
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        if box is None:
            continue
        cells = np.argwhere(numbered[box] == number) + [span.start for span in box]
        slab = _slab(*_along(cells, curve), len(curve.points_mm) - 1)
        if slab is not None:
            slabs.append(slab)
    return tuple(sorted(slabs, key=lambda slab: slab.middle))


def _along(
    cells: NDArray[np.int64], curve: SpinalCurve
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Position along the curve, distance in front of it and to its left, mm, of cells of the network's grid."""
    points = cells.astype(np.float64) * GRID_MM
    near = curve.position_of(points)
    away = points - curve.points_mm[near]
    along = near * STEP_MM + (away * curve.up[near]).sum(axis=1)
    return along, (away * curve.front[near]).sum(axis=1), (away * curve.left[near]).sum(axis=1)


def _slab(
    along_mm: NDArray[np.float64], front_mm: NDArray[np.float64], left_mm: NDArray[np.float64], last: int
) -> Slab | None:
    """Fit planes to the lowest and highest voxels of a body's middle columns; the curve ends at position ``last``."""
    middle = (front_mm >= CORE_FRONT_MM[0]) & (front_mm <= CORE_FRONT_MM[1]) & (np.abs(left_mm) <= CORE_LEFT_MM)
    if middle.sum() < 10:
        return None
    columns = np.rint(np.column_stack([front_mm, left_mm])[middle] / GRID_MM).astype(int)
    unique, index = np.unique(columns, axis=0, return_inverse=True)
    index = index.ravel()
    top, bottom = np.full(len(unique), -np.inf), np.full(len(unique), np.inf)
    np.maximum.at(top, index, along_mm[middle])
    np.minimum.at(bottom, index, along_mm[middle])
    place = unique * GRID_MM - [PIVOT_FRONT_MM, 0.0]
    lower, upper = _plate(place, bottom - GRID_MM / 2, last), _plate(place, top + GRID_MM / 2, last)
    return Slab(lower, upper) if upper.position > lower.position else None


def _plate(place_mm: NDArray[np.float64], height_mm: NDArray[np.float64], last: int) -> Plate:
    """Fit height = a + b front + c left by least squares, farther points counting less."""
    design = np.column_stack([np.ones(len(place_mm)), place_mm])
    weights = np.ones(len(place_mm))
    for _ in range(3):
        fit = np.linalg.lstsq(design * weights[:, None], height_mm * weights, rcond=None)[0]
        weights = 1 / np.sqrt(1 + ((height_mm - design @ fit) / GRID_MM) ** 2)
    position = min(max(round(float(fit[0]) / STEP_MM), 0), last)
    return Plate(position, float(fit[1]), float(fit[2]))


def sacrum_of(classes: Classes, curve: SpinalCurve) -> NDArray[np.bool_]:
    """Return the largest piece of sacrum that lies at the canal; a sternum may look like one, but lies elsewhere."""
    pieces = cc3d.connected_components(classes == BoneClass.SACRUM, connectivity=26)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    for piece in np.argsort(sizes)[::-1]:
        if sizes[piece] * GRID_MM**3 < MIN_SACRUM_MM3:
            break
        _, front_mm, left_mm = _along(np.argwhere(pieces == piece), curve)
        if abs(np.median(left_mm)) <= SACRUM_ASIDE_MM and abs(np.median(front_mm)) <= SACRUM_AHEAD_MM:
            return np.asarray(pieces == piece)
    return np.zeros(classes.shape, dtype=np.bool_)


def _sacrum_top(sacrum: NDArray[np.bool_], curve: SpinalCurve) -> int | None:
    """Position of the sacrum's upper endplate on the curve."""
    if not sacrum.any():
        return None
    along_mm, front_mm, left_mm = _along(np.argwhere(sacrum), curve)
    first = (np.abs(left_mm) <= SACRUM_LEFT_MM) & (front_mm > CORE_FRONT_MM[0])
    if not first.any():
        return None
    top = int(np.percentile(along_mm[first], SACRUM_TOP_PERCENTILE) / STEP_MM)
    return min(max(top, 0), len(curve.points_mm) - 1)
