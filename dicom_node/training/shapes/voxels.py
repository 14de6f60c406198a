"""From closed surfaces to voxels: which voxel centres lie inside, and how deep.

Arrays are [slice, row, column] with slices towards the head, rows towards the back and columns towards the
left, so an index grows with z, y and x of LPS. A voxel is inside when its centre has a winding number other
than 0: rays along the slices count the signed crossings.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom_node.training.shapes.model import Surface

NUDGE = (1.73e-4, 1.37e-4, 2.11e-4)
"""Surfaces are moved by so many voxels (slices, rows, columns), so that no ray meets an edge and no face a centre."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where voxels are.

    Attributes
    ----------
    shape
        Voxels (slices, rows, columns).
    spacing_mm
        Size of a voxel (slice, row, column).
    origin_mm
        Centre of voxel (0, 0, 0) as (z, y, x), LPS.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def indices(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points (x, y, z) as fractional indices (slice, row, column), both (n, 3)."""
        return (points_mm[:, ::-1] - self.origin_mm) / self.spacing_mm

    def axes_mm(self, box: Box | None = None) -> tuple[NDArray[np.float32], ...]:
        """Return z, y and x of the voxel centres, shaped to broadcast over the grid or a box of it."""
        box = box or (slice(None), slice(None), slice(None))
        axes = []
        for axis, part in enumerate(box):
            line = np.arange(*part.indices(self.shape[axis])) * self.spacing_mm[axis] + self.origin_mm[axis]
            axes.append(line.astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)]))
        return tuple(axes)

    def box_around(self, points_mm: NDArray[np.float64], margin_mm: float = 0.0) -> Box:
        """Return the part of the grid that holds the points with a margin; empty where they are outside."""
        index = self.indices(points_mm)
        margin = margin_mm / np.asarray(self.spacing_mm)
        low = np.floor(index.min(axis=0) - margin).astype(int)
        high = np.ceil(index.max(axis=0) + margin).astype(int) + 1
        z, y, x = (
            slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n))) for a, b, n in zip(low, high, self.shape, strict=True)
        )
        return z, y, x


def inside(surface: Surface, grid: Grid) -> tuple[NDArray[np.bool_], Box]:
    """Return which voxel centres of a box of the grid lie inside a closed surface, and the box."""
    box = grid.box_around(surface.points_mm)
    shape = tuple(part.stop - part.start for part in box)
    if min(shape) == 0:
        return np.zeros(shape, dtype=bool), box
    corners = grid.indices(surface.points_mm)[surface.triangles] - [part.start for part in box] - NUDGE
    rows, columns, depth, sign = _crossings(corners, shape[1], shape[2])
    first = np.clip(np.ceil(depth).astype(np.intp), 0, shape[0])
    flat = (first * shape[1] + rows) * shape[2] + columns
    steps = np.bincount(flat, sign, (shape[0] + 1) * shape[1] * shape[2]).reshape(shape[0] + 1, *shape[1:])
    return np.cumsum(steps[:-1], axis=0, dtype=np.float32) > 0.5, box


def _crossings(
    corners: NDArray[np.float64], row_count: int, column_count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return where rays along the slices cross triangles (t, 3, 3), in indices: row, column, depth, +1 for entering."""
    flat = corners[:, :, 1:]
    low = np.maximum(np.ceil(flat.min(axis=1)).astype(np.intp), 0)
    high = np.minimum(np.floor(flat.max(axis=1)).astype(np.intp), (row_count - 1, column_count - 1))
    size = np.maximum(high - low + 1, 0)
    count = size[:, 0] * size[:, 1]
    triangle = np.repeat(np.arange(len(corners)), count)
    nth = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    rows = low[triangle, 0] + nth // size[triangle, 1]
    columns = low[triangle, 1] + nth % size[triangle, 1]
    a, b, c = (flat[triangle, k] - np.column_stack([rows, columns]) for k in range(3))
    weights = np.column_stack([_area(b, c), _area(c, a), _area(a, b)])
    total = weights.sum(axis=1)
    hit = (np.all(weights >= 0, axis=1) | np.all(weights <= 0, axis=1)) & (total != 0)
    depth = np.einsum("ij,ij->i", weights[hit], corners[triangle[hit], :, 0]) / total[hit]
    return rows[hit], columns[hit], depth, np.sign(total[hit])


def _area(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the signed area that the origin spans with two points (row, column)."""
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def tube_value(line_mm: NDArray[np.float64], radius_mm: float, grid: Grid, box: Box) -> NDArray[np.float32]:
    """Return the distance to a polyline (n, 3) of points (x, y, z), less a radius, over a box of the grid."""
    z, y, x = grid.axes_mm(box)
    line = line_mm.astype(np.float32)
    nearest = np.full([part.stop - part.start for part in box], np.inf, dtype=np.float32)
    for start, end in pairwise(line):
        along = end - start
        dx, dy, dz = x - start[0], y - start[1], z - start[2]
        share = (dx * along[0] + dy * along[1] + dz * along[2]) / max(along @ along, np.float32(1e-6))
        share = np.clip(share, 0, 1)
        squared = (dx - share * along[0]) ** 2 + (dy - share * along[1]) ** 2 + (dz - share * along[2]) ** 2
        np.minimum(nearest, squared, out=nearest)
    value: NDArray[np.float32] = np.sqrt(nearest) - np.float32(radius_mm)
    return value
