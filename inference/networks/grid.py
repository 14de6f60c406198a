"""Between a volume's own grid and the network's: isotropic voxels of ``GRID_MM``, first voxel centres together."""

import numpy as np
from numpy.typing import NDArray

from inference.networks.bone_classes import GRID_MM
from inference.volume import Volume

CLIP_HU = (-1024.0, 3000.0)


def grid_shape(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the shape of the network's grid that covers a volume's voxel centres."""
    a, b, c = (int((n - 1) * step / GRID_MM) + 1 for n, step in zip(shape, spacing_mm, strict=True))
    return a, b, c


def resampled(volume: Volume) -> NDArray[np.float32]:
    """Resample a canonical volume to the network's grid.

    Finer axes are averaged with triangular weights as wide as the coarser grid, so that noise falls as it would in
    thicker slices; coarser axes are interpolated.

    Returns
    -------
    (slice, row, column) float32 array
        HU, clipped to ``CLIP_HU``.
    """
    hu = np.clip(volume.hu, *CLIP_HU)
    counts = grid_shape(hu.shape, volume.spacing_mm)
    for axis in (2, 1, 0):
        weights = _weights(counts[axis], hu.shape[axis], volume.spacing_mm[axis])
        hu = np.moveaxis(np.tensordot(weights, hu, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(hu, dtype=np.float32)


def resampled_labels(labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Bring a label map to the network's grid by the nearest voxel."""
    counts = grid_shape(labels.shape, spacing_mm)
    index = [
        np.minimum(np.rint(np.arange(count) * GRID_MM / step).astype(int), n - 1)
        for count, step, n in zip(counts, spacing_mm, labels.shape, strict=True)
    ]
    return np.ascontiguousarray(labels[np.ix_(*index)])


def on_native_grid(
    values: NDArray[np.floating], shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Interpolate an array of the network's grid linearly on a volume's grid; beyond the last centre the nearest."""
    out = np.asarray(values, dtype=np.float32)
    for axis in range(3):
        at = np.arange(shape[axis]) * spacing_mm[axis] / GRID_MM
        low = np.clip(np.floor(at).astype(int), 0, out.shape[axis] - 1)
        high = np.minimum(low + 1, out.shape[axis] - 1)
        share = np.clip(at - low, 0.0, 1.0).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = np.take(out, low, axis) * (1 - share) + np.take(out, high, axis) * share
    return out


def _weights(cells: int, voxels: int, spacing_mm: float) -> NDArray[np.float32]:
    """(cells, voxels) matrix of triangular weights; rows sum to 1."""
    offsets_mm = np.arange(cells)[:, None] * GRID_MM - np.arange(voxels)[None] * spacing_mm
    weights = np.clip(1 - np.abs(offsets_mm) / max(spacing_mm, GRID_MM), 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
