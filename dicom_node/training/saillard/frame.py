"""The reference femur and the grid around it, on which every femur is laid before a network sees it [Saillard2024]."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from dicom_node.training.saillard.halves import Half
from inference.volume import Box

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Matrix = NDArray[np.float64]

AIR_HU = -1024.0
"""Outside the scan."""
MARGIN_MM = 25.0
"""Of the grid around the reference femur: what a registration may miss, and the socket [m] assumption."""
MULTIPLE = 16
"""Of the grid's edges: a U-Net of five levels halves them four times."""
BLUR_REACH = 3.0
"""Standard deviations at which a blur ends."""
HU_WINDOW = (-200.0, 1300.0)
"""Brought to -1..1: fat to dense cortex. The paper says that volumes are normalised, and not how [m] assumption."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The reference femur.

    Attributes
    ----------
    hu : (slice, row, column) int16 array
        Its scan, a right femur in the middle.
    mask : (slice, row, column) bool array
        Its label.
    affine : (4, 4) array
        Index to mm, axis-aligned.
    """

    hu: NDArray[np.int16] = field(repr=False)
    mask: Mask = field(repr=False)
    affine: Matrix

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid."""
        one, two, three = self.hu.shape
        return (one, two, three)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Along (slice, row, column)."""
        return (float(self.affine[2, 0]), float(self.affine[1, 1]), float(self.affine[0, 2]))

    def tensors(self) -> dict[str, Tensor]:
        """Return it as tensors, to be kept with the weights of a network."""
        return {
            "frame_hu": torch.from_numpy(self.hu.copy()),
            "frame_mask": torch.from_numpy(self.mask.astype(np.uint8)),
            "frame_affine": torch.from_numpy(self.affine.copy()),
        }


def frame_from_tensors(weights: Mapping[str, Tensor]) -> Frame:
    """Return the frame that was kept with weights.

    Raises
    ------
    KeyError
        When they hold none.
    """
    return Frame(
        weights["frame_hu"].cpu().numpy(),
        weights["frame_mask"].cpu().numpy().astype(np.bool_),
        weights["frame_affine"].cpu().numpy(),
    )


def frame_around(half: Half, mask: Mask, spacing_mm: tuple[float, float, float]) -> Frame:
    """Make the frame of a reference femur.

    Parameters
    ----------
    half
        Shows it.
    mask : (slice, row, column) bool array
        Its label on the half's grid, not empty.
    spacing_mm
        Of the grid, along (slice, row, column).
    """
    index = np.argwhere(mask)
    points = index @ half.affine[:3, :3].T + half.affine[:3, 3]
    low, high = points.min(axis=0)[::-1] - MARGIN_MM, points.max(axis=0)[::-1] + MARGIN_MM
    shape = [
        max(2 * MULTIPLE, MULTIPLE * math.ceil(length / step / MULTIPLE))
        for length, step in zip(high - low, spacing_mm, strict=True)
    ]
    start = (low + high - np.multiply(np.subtract(shape, 1), spacing_mm)) / 2
    affine = axis_aligned(start, spacing_mm)
    size = (shape[0], shape[1], shape[2])
    hu = resampled(half.volume.hu, half.affine, affine, size, AIR_HU)
    found = resampled(mask.astype(np.float32), half.affine, affine, size, 0.0) >= 0.5
    return Frame(np.rint(hu).astype(np.int16), found, affine)


def laid(half: Half, pose: Matrix, frame: Frame) -> Array:
    """Lay a half's CT numbers on the frame.

    Parameters
    ----------
    half
        The scan.
    pose : (4, 4) array
        Frame mm to the half's mm, from the registration.
    frame
        The grid.

    Returns
    -------
    (slice, row, column) float32 array
        HU; ``AIR_HU`` outside the scan.
    """
    return resampled(half.volume.hu, half.affine, pose @ frame.affine, frame.shape, AIR_HU)


def laid_mask(mask: Mask, half: Half, pose: Matrix, frame: Frame) -> Mask:
    """Lay a mask on the half's grid on the frame."""
    return resampled(mask.astype(np.float32), half.affine, pose @ frame.affine, frame.shape, 0.0) >= 0.5


def brought_back(share: Array, half: Half, pose: Matrix, frame: Frame) -> Mask:
    """Bring an answer from the frame back to the half's own grid: the inverse of ``laid``.

    Parameters
    ----------
    share : (slice, row, column) float32 array
        On the frame, 0 to 1; bone is where it is at least a half.
    half, pose, frame
        As for ``laid``.

    Returns
    -------
    (slice, row, column) bool array
        On the half's grid.
    """
    mask = np.zeros(half.volume.hu.shape, dtype=np.bool_)
    matrix = np.linalg.inv(half.affine) @ pose @ frame.affine
    box = _reached(matrix, frame.shape, mask.shape, np.ones(3, dtype=int))
    shape = tuple(span.stop - span.start for span in box)
    if min(shape) <= 0:
        return mask
    corner = half.affine.copy()
    corner[:3, 3] += corner[:3, :3] @ np.array([span.start for span in box], dtype=np.float64)
    found = resampled(share, pose @ frame.affine, corner, (shape[0], shape[1], shape[2]), 0.0)
    mask[box] = found >= 0.5
    return mask


def normalised(hu: NDArray[np.generic]) -> Array:
    """Bring HU to -1..1."""
    low, high = HU_WINDOW
    return ((np.clip(hu.astype(np.float32), low, high) - low) * (2.0 / (high - low)) - 1.0).astype(np.float32)


def axis_aligned(start_mm: NDArray[np.float64], spacing_mm: tuple[float, float, float]) -> Matrix:
    """Return index to mm for a grid along the patient's axes; ``start_mm`` along (z, y, x)."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing_mm)[::-1]
    affine[:3, 3] = start_mm[::-1]
    return affine


def resampled(values: Array, affine: Matrix, target: Matrix, shape: tuple[int, int, int], outside: float) -> Array:
    """Interpolate linearly on another grid, after a blur where that grid is coarser.

    Parameters
    ----------
    values : (slice, row, column) float32 array
    affine, target : (4, 4) arrays
        Index to mm, of the values and of the wanted grid.
    shape
        Of the wanted grid.
    outside
        Value beyond the edges.

    Returns
    -------
    (slice, row, column) float32 array
        Of the wanted shape.
    """
    matrix = np.linalg.inv(affine) @ target
    steps = np.abs(matrix[:3, :3]).max(axis=1)
    # A box filter of n samples has a variance of (n^2 - 1) / 12.
    sigma = np.sqrt(np.maximum(steps**2 - 1.0, 0.0) / 12.0)
    reach = np.ceil(BLUR_REACH * sigma).astype(int) + 2
    box = _reached(matrix, shape, values.shape, reach)
    if any(span.stop <= span.start for span in box):
        return np.full(shape, outside, dtype=np.float32)
    # A voxel has an extent: one at the edge of the scan counts for a voxel's length beyond its centre.
    part = np.pad(values[box], 1, mode="edge")
    if sigma.max() > 0:
        part = ndimage.gaussian_filter(part, sigma, mode="nearest", truncate=BLUR_REACH)
    start = matrix[:3, 3] - [span.start - 1 for span in box]
    found: Array = ndimage.affine_transform(
        part, matrix[:3, :3], start, shape, np.float32, order=1, mode="constant", cval=outside
    )
    return found


def _reached(matrix: Matrix, shape: tuple[int, ...], size: tuple[int, ...], reach: NDArray[np.int_]) -> Box:
    """Return the part of an array that a grid reaches, with more around it; empty where it reaches none."""
    corners = np.array(np.meshgrid(*[(0.0, length - 1.0) for length in shape], indexing="ij")).reshape(3, -1)
    index = matrix[:3, :3] @ corners + matrix[:3, 3:]
    low = np.maximum(np.floor(index.min(axis=1)).astype(int) - reach, 0)
    high = np.minimum(np.ceil(index.max(axis=1)).astype(int) + 1 + reach, size)
    one, two, three = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return (one, two, three)
