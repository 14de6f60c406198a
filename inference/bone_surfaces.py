"""A bone's surface as points that can be moved, and the signed distance from it on a coarse cubic lattice.

Marching cubes on the bone's share of every lattice cell gives the points; the distance from moved points is that from
the tangent planes of the nearest ones [Hoppe1992]. All bones of a CT share one lattice, so that their distances can be
compared cell by cell. Positions are (z, y, x) in mm from the centre of the CT's first voxel, along the array's axes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

from inference.surface_kernels import claim_voxels, label_shares
from inference.volume import Box

STEP_MM = 1.5
"""Edge of a lattice cell. Between cells the distance is interpolated: on a radius of 5 mm that errs by h^2/(8 r), below
0.06 mm."""
FINE = 3
"""Points per axis at which a cell looks up labels."""
STAIR_MM = 1.2
"""Blur of the coarse mask: it hides the stairs of 3 mm voxels and keeps plates thicker than 1.35 times itself. [m]
assumption."""
FAR_MM = 30.0
"""Distance told where nothing is near."""
NEAREST_POINTS = 3
"""Tangent planes that are averaged."""
PLANE_MM2 = 0.1
"""Squared distance below which nearer planes weigh no more. [m] assumption."""
LEAST_TURN = 0.2
"""Cosine: a normal turned farther from the coarse one than this belongs to a fold, and is not used. [m] assumption."""

FloatArray = NDArray[np.float32]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Patch:
    """A box of the lattice.

    Attributes
    ----------
    first
        Lattice index (z, y, x) of its first cell; may be negative.
    shape
        Cells along each axis.
    """

    first: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def origin_mm(self) -> Points:
        """Centre of the first cell, (3,)."""
        return np.array(self.first, dtype=np.float64) * STEP_MM

    def shared_with(self, other: "Patch") -> tuple[Box, Box] | None:
        """Return the cells that both patches have, in this patch and in the other; None without any."""
        first, theirs = np.array(self.first), np.array(other.first)
        low = np.maximum(first, theirs)
        high = np.minimum(first + self.shape, theirs + other.shape)
        if (high <= low).any():
            return None
        return _box(low - first, high - first), _box(low - theirs, high - theirs)


@dataclass(frozen=True, slots=True, eq=False)
class BoneSurface:
    """The surface of one bone, and where it was coarse.

    Attributes
    ----------
    patch
        Cells around the bone.
    coarse_mm : (z, y, x) float32 array
        Signed distance from the coarse surface at the cells, negative inside; within half a cell.
    points, normals : (point, 3) float64 arrays
        The surface now, and its unit normals, outward.
    faces : (face, 3) int array
        Triangles.
    neighbours
        (point, point) sparse matrix that takes the mean over the points joined to each by an edge.
    """

    patch: Patch
    coarse_mm: FloatArray
    points: Points
    normals: Points
    faces: NDArray[np.int64]
    neighbours: sparse.csr_matrix

    def moved(self, by_mm: NDArray[np.floating]) -> "BoneSurface":
        """Return the surface with every point moved along its normal by ``by_mm`` (point,)."""
        points = self.points + np.asarray(by_mm, dtype=np.float64)[:, None] * self.normals
        normals = _unit(_face_normals(points, self.faces))
        normals = _unit(normals + 0.5 * (self.neighbours @ normals))
        folded = (normals * self.normals).sum(axis=1) < LEAST_TURN
        normals[folded] = self.normals[folded]
        return BoneSurface(self.patch, self.coarse_mm, points, normals, self.faces, self.neighbours)

    def distance_mm(self, reach_mm: float) -> FloatArray:
        """Return the signed distance from the surface at the patch's cells, negative inside.

        Cells farther than ``reach_mm`` from the coarse surface keep its side and read ``FAR_MM``.
        """
        far = np.where(self.coarse_mm < 0, -FAR_MM, FAR_MM).astype(np.float32)
        near = np.argwhere(np.abs(self.coarse_mm) < reach_mm)
        if len(near) == 0 or len(self.points) < NEAREST_POINTS:
            return far
        places = near * STEP_MM + self.patch.origin_mm
        away, index = KDTree(self.points).query(places, k=NEAREST_POINTS)
        planes = np.einsum("pkc,pkc->pk", places[:, None] - self.points[index], self.normals[index])
        weights = 1.0 / (away**2 + PLANE_MM2)
        far[tuple(near.T)] = (planes * weights).sum(axis=1) / weights.sum(axis=1)
        return far


def surface_of(
    labels: NDArray[np.uint8],
    values: tuple[int, ...],
    box: Box,
    spacing_mm: tuple[float, float, float],
    reach_mm: float,
) -> BoneSurface:
    """Find the smoothed surface of a coarse mask.

    Parameters
    ----------
    labels : (slice, row, column) uint8 array
        Coarse labels on the CT's grid.
    values
        The label values of the bone.
    box
        Bounds the bone in ``labels``.
    spacing_mm
        Of the CT.
    reach_mm
        The patch goes so far beyond the bone.

    Returns
    -------
    BoneSurface
        Without points where the bone is too small for the lattice. At the array's edge the bone goes on.
    """
    patch = patch_around(box, spacing_mm, reach_mm)
    share = ndimage.gaussian_filter(shares(labels, values, spacing_mm, patch), STAIR_MM / STEP_MM)
    inside = share > 0.5
    coarse_mm = signed_distance_mm(inside)
    if not inside.any() or inside.all():
        return BoneSurface(patch, coarse_mm, np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), int), _means(0, None))
    places, faces, _, _ = marching_cubes(share, 0.5)
    points = places.astype(np.float64) * STEP_MM + patch.origin_mm
    faces = faces.astype(np.int64)
    normals = _unit(_face_normals(points, faces))
    return BoneSurface(patch, coarse_mm, points, normals, faces, _means(len(points), faces))


def patch_around(box: Box, spacing_mm: tuple[float, float, float], reach_mm: float) -> Patch:
    """Return the lattice cells of a box of voxels and ``reach_mm`` around it."""
    first = [
        int(np.floor((span.start * length - reach_mm) / STEP_MM)) for span, length in zip(box, spacing_mm, strict=True)
    ]
    last = [
        int(np.ceil(((span.stop - 1) * length + reach_mm) / STEP_MM))
        for span, length in zip(box, spacing_mm, strict=True)
    ]
    count = [high - low + 1 for low, high in zip(first, last, strict=True)]
    return Patch((first[0], first[1], first[2]), (count[0], count[1], count[2]))


def shares(
    labels: NDArray[np.uint8], values: tuple[int, ...], spacing_mm: tuple[float, float, float], patch: Patch
) -> FloatArray:
    """Return the share of every cell of a patch that some label values fill, 0 to 1."""
    wanted = np.zeros(256, dtype=np.bool_)
    wanted[list(values)] = True
    result = np.empty(patch.shape, dtype=np.float32)
    label_shares(labels, np.array(spacing_mm), wanted, patch.origin_mm, STEP_MM, FINE, result)
    return result


def signed_distance_mm(inside: NDArray[np.bool_]) -> FloatArray:
    """Return the distance of lattice cells from the surface of a mask of cells, negative inside."""
    if not inside.any():
        return np.full(inside.shape, FAR_MM, dtype=np.float32)
    outer, inner = (ndimage.distance_transform_edt(mask) - 0.5 for mask in (~inside, inside))
    return ((np.maximum(outer, 0.0) - np.maximum(inner, 0.0)) * STEP_MM).astype(np.float32)


def voxels_within(patch: Patch, spacing_mm: tuple[float, float, float], shape: tuple[int, ...]) -> Box:
    """Return the voxels of the CT whose centres lie between cells of a patch."""
    low = np.clip(np.ceil(patch.origin_mm / spacing_mm), 0, shape).astype(np.int64)
    top = patch.origin_mm + (np.array(patch.shape) - 1) * STEP_MM
    return _box(low, np.clip(np.floor(top / spacing_mm) + 1, low, shape).astype(np.int64))


def claim(
    depth_mm: FloatArray,
    patch: Patch,
    spacing_mm: tuple[float, float, float],
    value: int,
    box: Box,
    best_mm: FloatArray,
    owner: NDArray[np.uint8],
) -> None:
    """Write ``value`` into the voxels in which a distance is negative and the smallest so far.

    Parameters
    ----------
    depth_mm : (z, y, x) float32 array
        Signed distance at the cells of ``patch``.
    spacing_mm
        Of the CT.
    box
        The voxels that may be written.
    best_mm, owner : arrays
        The box's part of the smallest distance so far (0 at first) and of the values; both are changed.
    """
    start = np.array([span.start for span in box])
    claim_voxels(depth_mm, patch.origin_mm, STEP_MM, np.array(spacing_mm), start, np.uint8(value), best_mm, owner)


def _box(low: NDArray[np.int64], high: NDArray[np.int64]) -> Box:
    return (
        slice(int(low[0]), int(high[0])),
        slice(int(low[1]), int(high[1])),
        slice(int(low[2]), int(high[2])),
    )


def _face_normals(points: Points, faces: NDArray[np.int64]) -> Points:
    """Sum of the area vectors of the triangles at every point."""
    corners = points[faces]
    area = np.cross(corners[:, 2] - corners[:, 0], corners[:, 1] - corners[:, 0])
    normals = np.empty_like(points)
    for axis in range(3):
        normals[:, axis] = np.bincount(faces.ravel(), np.repeat(area[:, axis], 3), len(points))
    return normals


def _unit(vectors: Points) -> Points:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _means(count: int, faces: NDArray[np.int64] | None) -> sparse.csr_matrix:
    """Matrix of the mean over joined points."""
    if faces is None:
        return sparse.csr_matrix((count, count), dtype=np.float32)
    one = faces[:, [0, 1, 2, 1, 2, 0]].ravel()
    other = faces[:, [1, 2, 0, 0, 1, 2]].ravel()
    joined = sparse.csr_matrix((np.ones(len(one), dtype=np.float32), (one, other)), shape=(count, count))
    joined.data[:] = 1.0
    number = np.asarray(joined.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags((1.0 / np.maximum(number, 1.0)).astype(np.float32)) @ joined)
