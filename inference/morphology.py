"""Grids and masks: the cubic working grid of a CT, how a mask becomes solid and returns to the CT's grid.

It knows nothing of anatomy. Coordinates are millimetres from the centre of the CT's first voxel along the
array axes (z to the head, y to the back, x to the left); lengths therefore ignore the obliquity of the scan.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

AIR_HU = -1000.0
"""CT number of air by definition of the Hounsfield scale."""
GAP_HU = -200.0
"""Below all soft tissue and fat (fat -120..-80 HU, [m] assumption): inside a bone's surroundings only air
reads this."""
GAP_THICKNESS_MM = 9.0
"""Thickest plane of air that is bridged, along the slice axis. [m] assumption: a slab gap plus its blur."""
GAP_WIDTH_MM = 60.0
"""A plane of air is at least this wide in both in-plane directions. [m] assumption: no bowel gas is so
wide and so thin."""
FAR_MM = 10.0
"""Distances are told up to here; surfaces move by far less."""

FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class WorkGrid:
    """A CT resampled to cubic voxels.

    Attributes
    ----------
    hu : (z, y, x) float32 array
        CT numbers, HU.
    step_mm
        Edge of a voxel.
    origin_mm : (3,) float64 array
        Centre of voxel (0, 0, 0), in (z, y, x) from the centre of the CT's first voxel.
    """

    hu: FloatArray
    step_mm: float
    origin_mm: NDArray[np.float64]

    def position_mm(self, index: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the (z, y, x) position of voxel indices, ``(..., 3)``."""
        return np.asarray(index, dtype=np.float64) * self.step_mm + self.origin_mm

    def index(self, position_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the fractional index of (z, y, x) positions, ``(..., 3)``."""
        return (np.asarray(position_mm, dtype=np.float64) - self.origin_mm) / self.step_mm

    def axes_mm(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return z, y and x of the voxel centres, shaped to broadcast over ``hu``."""
        z, y, x = (
            (np.arange(count, dtype=np.float32) * np.float32(self.step_mm) + np.float32(start))
            for count, start in zip(self.hu.shape, self.origin_mm, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]


def work_grid(
    hu: FloatArray,
    spacing_mm: tuple[float, float, float],
    step_mm: float,
    box: Box | None = None,
) -> WorkGrid:
    """Resample a CT to cubic voxels: means over whole voxels where it is finer, linear where it is coarser.

    Parameters
    ----------
    hu : (slice, row, column) float32 array
        CT numbers, HU, at least one voxel along each axis.
    spacing_mm
        Voxel spacing in the same order.
    step_mm
        Edge of the cubic voxels.
    box
        The part of the CT that is wanted; all of it if not given.
    """
    wanted = box or (slice(0, hu.shape[0]), slice(0, hu.shape[1]), slice(0, hu.shape[2]))
    start = np.array([span.start for span in wanted]) * np.asarray(spacing_mm)
    image = _image(hu[wanted], np.asarray(spacing_mm), start)
    factors = [
        int(min(count, max(1, np.floor(step_mm / length + 0.01))))
        for count, length in zip(image.GetSize(), image.GetSpacing(), strict=True)
    ]
    image = sitk.BinShrink(image, factors)
    size = [
        int((count - 1) * length / step_mm + 1e-6) + 1
        for count, length in zip(image.GetSize(), image.GetSpacing(), strict=True)
    ]
    cubic = sitk.Resample(
        image,
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        [step_mm] * 3,
        image.GetDirection(),
        AIR_HU,
    )
    return WorkGrid(sitk.GetArrayFromImage(cubic), step_mm, np.array(cubic.GetOrigin()[::-1]))


def part(grid: WorkGrid, box: Box) -> WorkGrid:
    """Return the voxels of ``box`` as a grid of its own (a view)."""
    start = np.array([span.start for span in box], dtype=np.float64)
    return WorkGrid(grid.hu[box], grid.step_mm, grid.position_mm(start))


def resample_to(
    field: FloatArray,
    grid: WorkGrid,
    box: Box,
    spacing_mm: tuple[float, float, float],
    outside: float,
) -> FloatArray:
    """Interpolate a field of the working grid linearly at the CT's own voxels.

    Parameters
    ----------
    field : (z, y, x) float32 array
        On the working grid.
    grid
        That grid.
    box
        The CT's voxels that are wanted.
    spacing_mm
        Voxel spacing of the CT.
    outside
        Value beyond the working grid.
    """
    image = _image(field, np.full(3, grid.step_mm), grid.origin_mm)
    identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    native = sitk.Resample(
        image,
        [int(span.stop - span.start) for span in box[::-1]],
        sitk.Transform(),
        sitk.sitkLinear,
        [float(span.start * length) for span, length in zip(box[::-1], spacing_mm[::-1], strict=True)],
        [float(length) for length in spacing_mm[::-1]],
        identity,
        outside,
    )
    result: FloatArray = sitk.GetArrayFromImage(native)
    return result


def _image(array: FloatArray, spacing_mm: NDArray[np.float64], origin_mm: NDArray[np.float64]) -> sitk.Image:
    """Wrap a (z, y, x) array as an axis-aligned image."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=np.float32))
    image.SetSpacing([float(length) for length in spacing_mm[::-1]])
    image.SetOrigin([float(start) for start in origin_mm[::-1]])
    return image


def bridge_air_gaps(grid: WorkGrid) -> tuple[FloatArray, Mask]:
    """Replace wide thin planes of air across the slice axis by what lies above and below them.

    Parameters
    ----------
    grid
        The CT on cubic voxels.

    Returns
    -------
    hu : (z, y, x) float32 array
        CT numbers with the gaps closed; the input itself where there are none.
    gaps : (z, y, x) bool array
        Voxels that were replaced.
    """
    length = int(np.ceil(GAP_THICKNESS_MM / grid.step_mm)) | 1
    none = np.zeros(grid.hu.shape, dtype=bool)
    if grid.hu.shape[0] <= length:
        return grid.hu, none
    closed = ndimage.grey_closing(grid.hu, size=(length, 1, 1), mode="nearest")
    thin = (grid.hu < GAP_HU) & (closed > GAP_HU)
    labels, count = ndimage.label(thin, structure=np.ones((3, 3, 3)))
    wide = [
        number
        for number, box in enumerate(ndimage.find_objects(labels, count), start=1)
        if min(box[1].stop - box[1].start, box[2].stop - box[2].start) * grid.step_mm >= GAP_WIDTH_MM
    ]
    if not wide:
        return grid.hu, none
    gaps = ndimage.binary_dilation(np.isin(labels, wide), structure=np.ones((3, 1, 1)), iterations=2)
    gaps &= closed - grid.hu > -GAP_HU / 4
    return np.where(gaps, closed, grid.hu), gaps


def bounds(mask: Mask, reach: int = 0) -> Box:
    """Return the box around a mask, widened by ``reach`` voxels within the array; empty for no mask."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    spans = [
        slice(max(0, span.start - reach), min(count, span.stop + reach))
        for span, count in zip(found[0], mask.shape, strict=True)
    ]
    return (spans[0], spans[1], spans[2])


def close_mask(mask: Mask, radius_mm: float, step_mm: float) -> Mask:
    """Close a mask with a ball, by distances; the borders of the array neither add nor remove."""
    if not mask.any():
        return mask.copy()
    reach = int(np.ceil(radius_mm / step_mm)) + 1
    box = bounds(mask, reach)
    padded = np.pad(mask[box], reach, mode="edge")
    grown = ndimage.distance_transform_edt(~padded) * step_mm <= radius_mm
    kept = ndimage.distance_transform_edt(grown) * step_mm > radius_mm
    result = mask.copy()
    result[box] |= kept[(slice(reach, -reach),) * 3]
    return result


def open_mask(mask: Mask, radius_mm: float, step_mm: float) -> Mask:
    """Open a mask with a ball, by distances; the borders of the array neither add nor remove."""
    if not mask.any():
        return mask.copy()
    reach = int(np.ceil(radius_mm / step_mm)) + 1
    box = bounds(mask, reach)
    padded = np.pad(mask[box], reach, mode="edge")
    core = ndimage.distance_transform_edt(padded) * step_mm > radius_mm
    grown = ndimage.distance_transform_edt(~core) * step_mm <= radius_mm
    result = np.zeros_like(mask)
    result[box] = grown[(slice(reach, -reach),) * 3] & mask[box]
    return result


def fill_sections(mask: Mask, axes: tuple[int, ...] = (0, 1, 2)) -> Mask:
    """Fill the holes of every section across each of the given axes in turn."""
    filled = mask.copy()
    for axis in axes:
        sections = np.moveaxis(filled, axis, 0)
        for section in sections:
            if section.any():
                section |= ndimage.binary_fill_holes(section)
    return filled


def signed_distance_mm(mask: Mask, step_mm: float) -> FloatArray:
    """Return the distance to a mask's surface, negative inside; the array's borders are no surface.

    Farther than ``FAR_MM`` outside the mask's box the distance reads ``FAR_MM``.
    """
    result = np.full(mask.shape, FAR_MM, dtype=np.float32)
    if not mask.any():
        return result
    box = bounds(mask, int(np.ceil(FAR_MM / step_mm)))
    padded = np.pad(mask[box], 1, mode="edge")
    inner = (slice(1, -1),) * 3
    outside = ndimage.distance_transform_edt(~padded)[inner]
    inside = ndimage.distance_transform_edt(padded)[inner]
    result[box] = (np.maximum(outside - 0.5, 0.0) - np.maximum(inside - 0.5, 0.0)) * step_mm
    return result


def component_at(mask: Mask, seed: Mask) -> Mask:
    """Return the component of ``mask`` that shares most voxels with ``seed``; empty when none does."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.zeros_like(mask)
    shared = np.bincount(labels[seed & mask], minlength=count + 1)
    shared[0] = 0
    if shared.max() == 0:
        return np.zeros_like(mask)
    result: Mask = labels == int(np.argmax(shared))
    return result
