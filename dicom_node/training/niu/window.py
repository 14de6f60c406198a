"""The box around T12 to L2 that the segmentation and the density network see, and the way back to the scan [Niu2023].

[Niu2023] cuts columns 180 to 330 and rows 200 to 420 out of 512 x 512 pixels, and five slices of 1.25 mm more than the
limits above and below; what lies outside the limits is filled with 0. Here the same box is laid in millimetres about
the field of view's centre, so that another matrix or slice thickness shows the networks the same picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.volume import Volume

LEVEL_HU, WIDTH_HU = 0.0, 400.0
"""[Niu2023]: grey 0 to 1 is -200 to 200 HU. Voxels above 200 HU, which young people's cores hold, all look alike."""

BEHIND_CENTRE = 54.0
"""Pixels by which the published window's middle row, 310, lies behind the field of view's middle, 256."""

CENTRE_COLUMN = -1.0
"""Pixels by which its middle column, 255, lies to the right of the middle."""

SLICES_BEYOND = 5
"""Slices beyond either limit that are still shown."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of the box.

    Attributes
    ----------
    slices, rows, columns
        Voxels.
    slice_mm, pixel_mm
        Their length. [Niu2023] names 1.25 mm slices and no pixel size; 0.7 mm is that of a field of 360 mm [m
        assumption].
    """

    slices: int = 120
    rows: int = 220
    columns: int = 150
    slice_mm: float = 1.25
    pixel_mm: float = 0.7

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slice, row, column)."""
        return (self.slices, self.rows, self.columns)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Along (slice, row, column)."""
        return (self.slice_mm, self.pixel_mm, self.pixel_mm)


PUBLISHED = Frame()
SLICE_MM, PIXEL_MM = PUBLISHED.slice_mm, PUBLISHED.pixel_mm


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A box laid on a volume.

    Attributes
    ----------
    frame
        Its size.
    shown : (slice,) bool array
        Slices of the box within the limits and the slices beyond them; the others are empty.
    start
        Volume index (slice, row, column), with fraction, of the box's first voxel's centre.
    step
        Volume voxels a box voxel.
    """

    frame: Frame
    shown: NDArray[np.bool_]
    start: NDArray[np.float64]
    step: NDArray[np.float64]


def lay(upright: Volume, low_mm: float, high_mm: float, frame: Frame) -> Window:
    """Lay the box so that the limits' middle is its middle slice.

    Parameters
    ----------
    upright
        In canonical order.
    low_mm, high_mm
        Limits of T12 to L2 above the volume's lower face.
    frame
        Of the box.
    """
    spacing_mm, voxels = np.array(upright.spacing_mm), np.array(upright.hu.shape)
    middle_mm = spacing_mm * voxels / 2 + np.array([0.0, BEHIND_CENTRE * PIXEL_MM, CENTRE_COLUMN * PIXEL_MM])
    middle_mm[0] = (low_mm + high_mm) / 2
    size_mm = np.array(frame.shape) * np.array(frame.spacing_mm)
    step = np.array(frame.spacing_mm) / spacing_mm
    start = (middle_mm - size_mm / 2) / spacing_mm + step / 2 - 0.5
    away_mm = np.abs(np.arange(frame.slices) + 0.5 - frame.slices / 2) * frame.slice_mm
    return Window(frame, away_mm <= (high_mm - low_mm) / 2 + SLICES_BEYOND * SLICE_MM, start, step)


def widened(window: Window, extra: NDArray[np.int64]) -> Window:
    """Add voxels (slice, row, column) on both sides of every axis, and show all slices."""
    frame = window.frame
    slices, rows, columns = (length + 2 * int(more) for length, more in zip(frame.shape, extra, strict=True))
    larger = Frame(slices, rows, columns, frame.slice_mm, frame.pixel_mm)
    return Window(larger, np.ones(slices, dtype=np.bool_), window.start - window.step * extra, window.step)


def grey_in(upright: Volume, window: Window) -> NDArray[np.float32]:
    """Return the box's grey values, 0 to 1; 0 outside the limits and the scan.

    Returns
    -------
    (slice, row, column) float32 array
    """
    hu = hu_in(upright, window)
    grey = (hu - (LEVEL_HU - WIDTH_HU / 2)) / WIDTH_HU
    return np.where(window.shown[:, None, None], np.clip(grey, 0.0, 1.0), 0.0).astype(np.float32)


def hu_in(upright: Volume, window: Window) -> NDArray[np.float32]:
    """Return the box's HU, air outside the scan."""
    box, inside = _around(upright.hu.shape, window)
    if box is None:
        return np.full(window.frame.shape, -1000.0, dtype=np.float32)
    sigma = 0.5 * np.sqrt(np.maximum(window.step**2 - 1.0, 0.0))
    smooth = ndimage.gaussian_filter(upright.hu[box], sigma, mode="nearest")
    return ndimage.affine_transform(
        smooth, window.step, inside, window.frame.shape, order=1, mode="grid-constant", cval=-1000.0
    )


def mask_in(mask: NDArray[np.bool_], window: Window) -> NDArray[np.bool_]:
    """Return a mask of the volume in the box: where at least half of the voxel is mask."""
    box, inside = _around(mask.shape, window)
    if box is None:
        return np.zeros(window.frame.shape, dtype=np.bool_)
    sigma = 0.5 * np.sqrt(np.maximum(window.step**2 - 1.0, 0.0))
    part = ndimage.gaussian_filter(mask[box].astype(np.float32), sigma, mode="nearest")
    share = ndimage.affine_transform(part, window.step, inside, window.frame.shape, order=1, mode="grid-constant")
    return np.asarray(share >= 0.5)


def back(values: NDArray[np.float32], window: Window, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Bring the box's values to the volume's grid, 0 outside the box.

    Parameters
    ----------
    values : (slice, row, column) float32 array
        In the box.
    window
        Where it lies.
    shape
        Of the canonical volume.
    """
    found = np.zeros(shape, dtype=np.float32)
    reach = window.start + window.step * (np.array(values.shape) - 1)
    first = np.maximum(np.ceil(window.start - window.step / 2), 0).astype(int)
    last = np.minimum(np.floor(reach + window.step / 2), np.array(shape) - 1).astype(int)
    if (last < first).any():
        return found
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    found[box] = ndimage.affine_transform(
        values,
        1.0 / window.step,
        (first - window.start) / window.step,
        tuple(last - first + 1),
        order=1,
        mode="nearest",
    )
    return found


def _around(shape: tuple[int, ...], window: Window) -> tuple[tuple[slice, slice, slice] | None, NDArray[np.float64]]:
    """Return the part of the volume that the box needs, and the box's start in it; None where they do not meet."""
    last = window.start + window.step * (np.array(window.frame.shape) - 1)
    reach = np.ceil(3 * window.step)
    first = np.maximum(np.floor(window.start) - reach, 0).astype(int)
    end = np.minimum(np.ceil(last) + reach + 1, shape).astype(int)
    if (end <= first).any():
        return None, window.start
    spans = [slice(int(a), int(b)) for a, b in zip(first, end, strict=True)]
    return (spans[0], spans[1], spans[2]), window.start - first
