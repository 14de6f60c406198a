"""Coronal maximum-intensity projections, and where T12 to L2 lie on them [Niu2023].

Places are millimetres above the lower face of a canonical volume, and to the patient's left of its first column's
outer face; they mean the same on the projection and in the volume. [Niu2023] works on the scanner's own pixels; here
the pixels are square and of one size, so that one detector fits any slice thickness and field of view.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.volume import Volume

DARK_HU, BRIGHT_HU = -200.0, 1200.0
"""Grey values 0 and 1: fat, and dense cortex; metal is no brighter. [Niu2023] does not say [m assumption]."""


@dataclass(frozen=True, slots=True)
class Place:
    """A rectangle on the projection.

    Attributes
    ----------
    low_mm, high_mm
        Above the lower face of the volume.
    first_mm, last_mm
        To the patient's left of the outer face of the first column.
    """

    low_mm: float
    high_mm: float
    first_mm: float
    last_mm: float


def project(upright: Volume, pixel_mm: float) -> NDArray[np.float32]:
    """Take the brightest voxel along every line from front to back.

    Parameters
    ----------
    upright
        In canonical order.
    pixel_mm
        Side of the projection's pixels.

    Returns
    -------
    (row, column) float32 array
        0 to 1; rows grow to the head, columns to the patient's left.
    """
    grey = (upright.hu.max(axis=1) - DARK_HU) / (BRIGHT_HU - DARK_HU)
    spacing_mm = upright.spacing_mm[::2]
    ratio = np.array([pixel_mm / length for length in spacing_mm])
    smooth = ndimage.gaussian_filter(
        np.clip(grey, 0.0, 1.0).astype(np.float32), 0.5 * np.sqrt(np.maximum(ratio**2 - 1, 0))
    )
    shape = tuple(max(1, round(count / step)) for count, step in zip(grey.shape, ratio, strict=True))
    return ndimage.affine_transform(smooth, ratio, 0.5 * ratio - 0.5, shape, order=1, mode="nearest")


def place_of(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], margin_mm: float) -> Place | None:
    """Bound a mask on the projection.

    Parameters
    ----------
    mask : (slice, row, column) bool array
        In canonical order.
    spacing_mm
        Along (slice, row, column).
    margin_mm
        Added on all four sides.

    Returns
    -------
    Place or None
        None where the mask is empty.
    """
    flat = np.asarray(mask.any(axis=1))
    if not flat.any():
        return None
    slices, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return Place(
        slices[0] * spacing_mm[0] - margin_mm,
        (slices[-1] + 1) * spacing_mm[0] + margin_mm,
        columns[0] * spacing_mm[2] - margin_mm,
        (columns[-1] + 1) * spacing_mm[2] + margin_mm,
    )


def overlap(one: Place, other: Place) -> float:
    """Intersection over union along the body's axis, 0 to 1."""
    shared = min(one.high_mm, other.high_mm) - max(one.low_mm, other.low_mm)
    whole = max(one.high_mm, other.high_mm) - min(one.low_mm, other.low_mm)
    return max(0.0, shared) / whole
