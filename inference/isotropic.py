"""From a volume's own grid to cubic voxels whose first centre is the volume's first centre."""

import numpy as np
from numpy.typing import NDArray


def cells_along(count: int, spacing_mm: float, step_mm: float) -> int:
    """Return how many cells of ``step_mm`` cover an axis of ``count`` voxel centres, one at least."""
    return max(int(np.floor((count - 1) * spacing_mm / step_mm + 1e-6)) + 1, 1)


def cubic(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], step_mm: float, clip_hu: tuple[float, float]
) -> NDArray[np.float32]:
    """Resample with triangular weights as wide as the coarser grid.

    Finer axes are averaged, so that noise falls as it would in thicker slices; coarser axes are interpolated.

    Parameters
    ----------
    hu : (slice, row, column) float32 array
        CT numbers, HU.
    spacing_mm
        Along (slice, row, column).
    step_mm
        Edge of a cell.
    clip_hu
        Lowest and highest CT number, applied first.

    Returns
    -------
    (slice, row, column) float32 array
    """
    values = np.clip(hu, *clip_hu)
    for axis in (2, 1, 0):
        weights = _weights(values.shape[axis], spacing_mm[axis], step_mm)
        values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values, dtype=np.float32)


def _weights(count: int, spacing_mm: float, step_mm: float) -> NDArray[np.float32]:
    """(cells, voxels) matrix of triangular weights; rows sum to 1."""
    cells = cells_along(count, spacing_mm, step_mm)
    offsets_mm = np.arange(cells)[:, None] * step_mm - np.arange(count)[None] * spacing_mm
    weights = np.clip(1 - np.abs(offsets_mm) / max(spacing_mm, step_mm), 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
