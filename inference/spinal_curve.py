"""The spinal curve: a smooth line through the canal, its moving frame, and the trunk straightened along it.

Straightened, a scoliotic or lordotic spine is a ladder: discs and endplates lie nearly across, the vertebral
bodies in front of the line, the pedicles beside it. docs/methods/segmentation-spine.md, step 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.spinal_canal import Canal, WorkingGrid

SMOOTHING_MM = 8.0
"""Gaussian along the canal: a third of a vertebra, so that the line follows the curvature only. [m]."""

STEP_MM = 1.0
"""Distance of neighbouring points of the curve."""


@dataclass(frozen=True, slots=True)
class SpinalCurve:
    """A line through the canal, from the feet to the head, one point every ``STEP_MM``.

    All arrays are (n, 3) float64 with components along (head, back, left).

    Attributes
    ----------
    points_mm
        Grid mm.
    up, front, left
        Unit vectors along the line, to the front of the patient across it, and to the patient's left.
    """

    points_mm: NDArray[np.float64]
    up: NDArray[np.float64]
    front: NDArray[np.float64]
    left: NDArray[np.float64]

    def position_of(self, points_mm: NDArray[np.float64]) -> NDArray[np.int64]:
        """Index of the curve's point nearest to each of ``points_mm`` ((m, 3), grid mm)."""
        difference = points_mm[:, None, :] - self.points_mm[None]
        return np.asarray(np.argmin((difference**2).sum(axis=2), axis=1), dtype=np.int64)


def curve_through(canal: Canal) -> SpinalCurve:
    """Smooth the canal's path and give it a frame whose left stays across the line and near the patient's left."""
    smooth = _smoothed(canal.points_mm)
    steps_mm = np.linalg.norm(np.diff(smooth, axis=0), axis=1)
    arc_mm = np.concatenate([[0.0], np.cumsum(steps_mm)])
    at_mm = np.arange(0.0, arc_mm[-1], STEP_MM)
    points = np.stack([np.interp(at_mm, arc_mm, smooth[:, axis]) for axis in range(3)], axis=1)
    up = unit(ndimage.gaussian_filter1d(np.gradient(points, axis=0), SMOOTHING_MM / 2, axis=0, mode="nearest"))
    left = unit(np.array([0.0, 0.0, 1.0]) - up * up[:, 2:3])
    return SpinalCurve(points, up, np.cross(up, left), left)


def _smoothed(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth a path with Gaussian weights, extending both ends along their own direction first."""
    spacing_mm = float(abs(points_mm[1, 0] - points_mm[0, 0]))
    sigma = SMOOTHING_MM / spacing_mm
    pad = int(4 * sigma)
    span = min(pad, len(points_mm) - 1)
    before = (points_mm[0] - points_mm[span]) / span
    after = (points_mm[-1] - points_mm[-1 - span]) / span
    steps = np.arange(1, pad + 1)[:, None]
    extended = np.vstack([points_mm[0] + before * steps[::-1], points_mm, points_mm[-1] + after * steps])
    return np.asarray(ndimage.gaussian_filter1d(extended, sigma, axis=0)[pad:-pad])


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale vectors along the last axis to length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def straightened(
    grid: WorkingGrid, curve: SpinalCurve, front_mm: NDArray[np.float64], left_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample the grid in planes across the curve.

    Parameters
    ----------
    grid
        The working grid.
    curve
        The spinal curve.
    front_mm, left_mm : 1-D arrays
        Distances from the curve to the front and to the left, mm.

    Returns
    -------
    (curve point, front, left) float32 array
        CT numbers, HU; outside the volume its nearest voxel, so that the volume's edge is not a surface.
    """
    points = (
        curve.points_mm[:, None, None]
        + curve.front[:, None, None] * front_mm[None, :, None, None]
        + curve.left[:, None, None] * left_mm[None, None, :, None]
    )
    return sampled(grid.hu, points / grid.spacing_mm)


def sampled(hu: NDArray[np.float32], indices: NDArray[np.float64]) -> NDArray[np.float32]:
    """Read ``hu`` at fractional ``indices`` ((..., 3)) by trilinear interpolation, the nearest voxel outside."""
    coordinates = np.moveaxis(indices, -1, 0)
    return np.asarray(ndimage.map_coordinates(hu, coordinates, order=1, mode="nearest"), dtype=np.float32)
