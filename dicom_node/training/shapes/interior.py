"""The inside of bones: a cortex of varying thickness, trabeculae of varying density, the marrow canal.

The depth of a voxel below the surface is measured to finely sampled surface points, not to voxels, so a cortex
thinner than a voxel fills the right share of it. Thickness and density are functions of the place in the bone
(in its neutral frame, scaled to the mean size), times smooth random fields. The shapes of these functions
follow the anatomy of the femur (principal compressive group, Ward's triangle, calcar) in outline only; their
numbers are assumptions [m].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dicom_node.training.shapes.fields import smooth_field
from dicom_node.training.shapes.model import Surface
from dicom_node.training.shapes.tissues import TISSUE_VALUE
from dicom_node.training.shapes.voxels import Box, Grid

SAMPLE_MM = 4.0
"""Surface samples are no farther apart than this."""

Points = NDArray[np.float64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Architecture:
    """How one kind of bone is built.

    Attributes
    ----------
    cortex_mm
        Thickness of the cortex from the place (n, 3) in the bone's neutral frame, right bones mirrored to left.
    density
        Relative density of the trabeculae there; 0 is marrow alone.
    """

    cortex_mm: Callable[[Points], Values]
    density: Callable[[Points], Values]


@dataclass(frozen=True, slots=True)
class Interior:
    """What fills a bone's voxels, in the order of ``np.nonzero`` of its mask.

    Attributes
    ----------
    tissue : (n,) uint8
        Index into TISSUES.
    cortex_share : (n,) float32
        Share of the voxel that is cortex, 0 to 1.
    density : (n,) float32
        Relative density of the trabeculae in the rest of it.
    """

    tissue: NDArray[np.uint8]
    cortex_share: NDArray[np.float32]
    density: NDArray[np.float32]


def _bump(points: Points, centre: tuple[float, float, float], width_mm: float) -> Values:
    return np.exp(-((points - centre) ** 2).sum(axis=1) / width_mm**2)


def _band(
    points: Points, start: tuple[float, float, float], end: tuple[float, float, float], width_mm: float
) -> Values:
    """Fall-off from 1 on a segment to 0 away from it."""
    along = np.subtract(end, start)
    share = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
    return np.exp(-((points - start - share[:, None] * along) ** 2).sum(axis=1) / width_mm**2)


def _ramp(value: Values, low: float, high: float) -> Values:
    return np.clip((value - low) / (high - low), 0.0, 1.0)


def _femur_cortex_mm(place: Points) -> Values:
    below = -place[:, 2]
    shaft = _ramp(below, 45, 130) * (1 - _ramp(below, 270, 350))
    calcar = _band(place, (8, 5, -22), (22, 5, -60), 12.0)
    return 1.3 + 4.5 * shaft + 2.2 * calcar - 0.4 * _bump(place, (62, 10, -15), 25.0)


def _femur_density(place: Points) -> Values:
    below = -place[:, 2]
    head = np.exp(-((np.linalg.norm(place, axis=1) / 22.0) ** 4))
    compressive = _band(place, (-4, 0, 14), (18, 4, -50), 9.0)
    tensile = _band(place, (0, 0, 10), (45, 4, -10), 8.0)
    ward = _bump(place, (27, 4, -28), 13.0)
    proximal = 0.32 + 0.55 * head + 0.35 * compressive + 0.2 * tensile - 0.25 * ward
    canal = _ramp(below, 60, 105) * (1 - _ramp(below, 300, 360))
    return np.maximum(proximal * (1 - canal), 0.0) + 0.25 * _ramp(below, 300, 370)


def _hip_cortex_mm(place: Points) -> Values:
    return 1.1 + 1.3 * _bump(place, (75, -5, 35), 35.0)


def _hip_density(place: Points) -> Values:
    return 0.45 + 0.5 * _bump(place, (80, 0, 15), 45.0) + 0.2 * _bump(place, (45, 45, 80), 35.0)


def _sacrum_cortex_mm(place: Points) -> Values:
    return np.full(len(place), 0.9)


def _sacrum_density(place: Points) -> Values:
    return 0.35 + 0.4 * _bump(place, (0, 20, 95), 30.0)


ARCHITECTURES: dict[str, Architecture] = {
    "femur": Architecture(_femur_cortex_mm, _femur_density),
    "hip": Architecture(_hip_cortex_mm, _hip_density),
    "sacrum": Architecture(_sacrum_cortex_mm, _sacrum_density),
}

CORTEX_MM = (0.4, 8.0)
"""Limits of the cortex's thickness."""


def fill(
    posed: Surface,
    neutral: Surface,
    architecture: Architecture,
    mask: NDArray[np.bool_],
    box: Box,
    grid: Grid,
    generator: np.random.Generator,
    quality: float = 1.0,
) -> Interior:
    """Return what fills a bone's voxels.

    Parameters
    ----------
    posed, neutral
        The bone's surface where it lies, and in its neutral frame (points in the same order).
    architecture
        How this kind of bone is built; its places are those of a left bone.
    mask
        The bone's voxels within ``box`` of ``grid``.
    generator
        The source of all randomness.
    quality
        Multiplies cortex and density: 1 is young, 0.4 severely osteoporotic.
    """
    where = np.nonzero(mask)
    if not len(where[0]):
        nothing = np.zeros(0, dtype=np.float32)
        return Interior(nothing.astype(np.uint8), nothing, nothing)
    axes = grid.axes_mm(box)
    points = np.column_stack([axes[2].ravel()[where[2]], axes[1].ravel()[where[1]], axes[0].ravel()[where[0]]]).astype(
        float
    )
    depth_mm = depths(posed, points)
    place = _places(points, posed, neutral)
    variation = smooth_field(generator, mask.shape, grid.spacing_mm, 25.0)[where]
    texture = smooth_field(generator, mask.shape, grid.spacing_mm, 7.0)[where]
    thickness_mm = np.clip(architecture.cortex_mm(place) * quality * np.exp(0.25 * variation), *CORTEX_MM)
    share = cortex_share(depth_mm, thickness_mm, float(np.mean(grid.spacing_mm)))
    density = architecture.density(place) * quality * (1 + 0.12 * texture + 0.1 * variation)
    soft = np.where(density > 0.06, TISSUE_VALUE["trabecular"], TISSUE_VALUE["marrow"])
    tissue = np.where(share > 0.5, TISSUE_VALUE["cortical"], soft).astype(np.uint8)
    return Interior(tissue, share.astype(np.float32), np.maximum(density, 0).astype(np.float32))


def cortex_share(depth_mm: Values, thickness_mm: Values, voxel_mm: float) -> Values:
    """Return how much of a voxel's part of the bone is cortex, its centre being so deep below the surface.

    The voxel reaches half its size up and down; what reaches out of the bone does not count.
    """
    top = np.maximum(depth_mm - voxel_mm / 2, 0.0)
    bottom = depth_mm + voxel_mm / 2
    return np.clip((np.minimum(bottom, thickness_mm) - top) / (bottom - top), 0.0, 1.0)


def depths(surface: Surface, points_mm: Points) -> Values:
    """Return how far points inside a surface are from it, in mm, (n,)."""
    samples, normals = _samples(surface)
    distance, nearest = cKDTree(samples).query(points_mm)
    across = np.abs(np.einsum("ij,ij->i", points_mm - samples[nearest], normals[nearest]))
    return np.where(across > distance / 2, across, distance)


def _samples(surface: Surface) -> tuple[Points, Points]:
    """Return points on every triangle at most about SAMPLE_MM apart, and the triangles' normals there."""
    corners = surface.points_mm[surface.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    pieces = np.clip(np.ceil(longest / SAMPLE_MM).astype(int), 1, 10)
    found: list[Points] = []
    facing: list[Points] = []
    for count in np.unique(pieces):
        chosen = pieces == count
        steps = [(i + 1 / 3, j + 1 / 3) for i in range(count) for j in range(count - i)]
        weights = np.array([(i / count, j / count, 1 - (i + j) / count) for i, j in steps])
        found.append(np.einsum("sk,tkd->tsd", weights, corners[chosen]).reshape(-1, 3))
        facing.append(np.repeat(normals[chosen], len(steps), axis=0))
    return np.concatenate(found), np.concatenate(facing)


def _places(points_mm: Points, posed: Surface, neutral: Surface) -> Points:
    """Return where posed points are in the neutral frame, by the best affine map of the surface's points."""
    system = np.column_stack([posed.points_mm, np.ones(len(posed.points_mm))])
    affine, *_ = np.linalg.lstsq(system, neutral.points_mm, rcond=None)
    return np.column_stack([points_mm, np.ones(len(points_mm))]) @ affine
