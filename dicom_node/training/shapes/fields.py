"""Smooth random fields: coarse white noise, smoothed by a cubic B-spline along each axis in turn."""

import numpy as np
from numpy.typing import NDArray


def smooth_field(
    generator: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    length_mm: tuple[float, float, float] | float,
) -> NDArray[np.float32]:
    """Return a random field of mean about 0 and standard deviation about 1.

    Parameters
    ----------
    generator
        The source of all randomness.
    shape, spacing_mm
        The grid.
    length_mm
        Distance between independent values, for each axis or one for all.
    """
    lengths = np.broadcast_to(np.asarray(length_mm, dtype=float), (3,))
    weights = [_spline_weights(n, h / length) for n, h, length in zip(shape, spacing_mm, lengths, strict=True)]
    coarse = generator.standard_normal([matrix.shape[1] for matrix in weights], dtype=np.float32)
    for axis, matrix in enumerate(weights):
        coarse = np.moveaxis(np.tensordot(matrix, coarse, (1, axis)), 0, axis)
    return np.ascontiguousarray(coarse) / np.float32(SPLINE_SD**3)


SPLINE_SD = float(np.sqrt(151 / 315))
"""Standard deviation along one axis after cubic B-spline smoothing of unit noise, over all places between nodes."""


def _spline_weights(count: int, step: float) -> NDArray[np.float32]:
    """Return the uniform cubic B-spline's weights of coarse nodes at ``count`` points ``step`` nodes apart."""
    position = np.arange(count) * step + 1.0
    nodes = np.arange(int(np.floor(position[-1])) + 3)
    distance = np.abs(position[:, None] - nodes)
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)
