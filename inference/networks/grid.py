"""Between a volume's own grid and the network's: isotropic voxels of ``GRID_MM``, first voxel centres together."""

import numpy as np
from numpy.typing import NDArray

from inference.isotropic import cells_along, cubic
from inference.networks.bone_classes import GRID_MM
from inference.volume import Box, Volume

CLIP_HU = (-1024.0, 3000.0)


def grid_shape(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the shape of the network's grid that covers a volume's voxel centres."""
    a, b, c = (cells_along(n, step, GRID_MM) for n, step in zip(shape, spacing_mm, strict=True))
    return a, b, c


def resampled(volume: Volume) -> NDArray[np.float32]:
    """Resample a canonical volume to the network's grid; HU, clipped to ``CLIP_HU``, (slice, row, column)."""
    return cubic(volume.hu, volume.spacing_mm, GRID_MM, CLIP_HU)


def resampled_labels(labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Bring a label map to the network's grid by the nearest voxel."""
    counts = grid_shape(labels.shape, spacing_mm)
    index = [
        np.minimum(np.rint(np.arange(count) * GRID_MM / step).astype(int), n - 1)
        for count, step, n in zip(counts, spacing_mm, labels.shape, strict=True)
    ]
    return np.ascontiguousarray(labels[np.ix_(*index)])


def on_native_grid(
    values: NDArray[np.floating], box: Box, spacing_mm: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Interpolate an array of the network's grid linearly in a box of a volume; beyond the last centre the nearest."""
    out = np.asarray(values, dtype=np.float32)
    for axis, (span, step_mm) in enumerate(zip(box, spacing_mm, strict=True)):
        at = np.arange(span.start, span.stop) * step_mm / GRID_MM
        low = np.clip(np.floor(at).astype(int), 0, out.shape[axis] - 1)
        high = np.minimum(low + 1, out.shape[axis] - 1)
        share = np.clip(at - low, 0.0, 1.0).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = np.take(out, low, axis) * (1 - share) + np.take(out, high, axis) * share
    return out


def native_box(box: Box, grid_shape: tuple[int, ...], volume: Volume) -> Box:
    """Return the part of a volume that interpolation from a box of the network's grid can reach."""
    spans = [
        slice(
            max(0, int((span.start - 1) * GRID_MM / step_mm)),
            voxels if span.stop >= cells else min(voxels, int(span.stop * GRID_MM / step_mm) + 1),
        )
        for span, cells, voxels, step_mm in zip(box, grid_shape, volume.hu.shape, volume.spacing_mm, strict=True)
    ]
    return (spans[0], spans[1], spans[2])
