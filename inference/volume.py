"""The CT volume: one array order and one patient frame. ``inference.dicom_volume`` makes it from DICOM.

Array order is ``[slice, row, column]``. Patient coordinates are LPS in mm, points as (x, y, z): x grows to
the patient's left, y to the back, z to the head.
"""

from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Scalar = TypeVar("Scalar", bound=np.generic)

Box = tuple[slice, slice, slice]
"""Part of an array, along (slice, row, column)."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Technical attributes that quality checks and calibration need. None where the header is silent."""

    manufacturer: str = ""
    model_name: str = ""
    kvp: float | None = None
    convolution_kernel: str = ""
    slice_thickness_mm: float | None = None
    contrast_agent: str = ""
    image_type: tuple[str, ...] = ()
    patient_position: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """A CT series as numbers.

    Attributes
    ----------
    hu : (slice, row, column) float32 array
        CT numbers after rescale, HU.
    affine_lps : (4, 4) float64 array
        Maps homogeneous (slice, row, column) indices of voxel centres to LPS mm.
    instance_uids
        SOP Instance UID of every slice in array order; empty when the volume is not from DICOM.
    frame_of_reference_uid
        Empty when the volume is not from DICOM.
    acquisition
        Technical attributes of the series.
    frame_numbers
        For slices of multi-frame instances, the frame number of every slice in array order, from 1, within
        the instance that ``instance_uids`` names at the same place. Empty for single-frame series.
    """

    hu: NDArray[np.float32] = field(repr=False)
    affine_lps: NDArray[np.float64]
    instance_uids: tuple[str, ...] = field(default=(), repr=False)
    frame_of_reference_uid: str = field(default="", repr=False)
    acquisition: Acquisition = Acquisition()
    frame_numbers: tuple[int, ...] = ()

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel, mm3."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3])))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel spacing along (slice, row, column), mm."""
        lengths = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))


@dataclass(frozen=True, slots=True)
class Orientation:
    """How an array was permuted and flipped to reach canonical order; undo it with ``restore``.

    ``axes`` permutes the array's axes, then ``flips`` reverses those that are True.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return ``array`` ([slice, row, column]) in canonical order (a view)."""
        turned = array.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def restore(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return a canonical ``array`` in the original [slice, row, column] order (a view)."""
        unflipped = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return unflipped.transpose(np.argsort(self.axes))

    def restore_box(self, box: Box, shape: tuple[int, int, int]) -> tuple[tuple[int, int, int], Box]:
        """Return the original array's shape, and where a canonical box lies in it.

        ``box`` and ``shape`` belong to the canonical array; both results to the original one.
        """
        spans = [
            slice(length - span.stop, length - span.start) if flip else span
            for span, length, flip in zip(box, shape, self.flips, strict=True)
        ]
        first, second, third = (int(axis) for axis in np.argsort(self.axes))
        return (shape[first], shape[second], shape[third]), (spans[first], spans[second], spans[third])


def canonical(volume: Volume) -> tuple[Volume, Orientation]:
    """Reorder a volume so that array axes grow (to the head, to the back, to the left), without resampling.

    Parameters
    ----------
    volume
        Any axis-aligned or oblique volume; each array axis goes to the patient axis it is nearest to.

    Returns
    -------
    canonical : Volume
        Same voxels; axis 0 grows with LPS z, axis 1 with y, axis 2 with x. ``instance_uids`` and
        ``frame_numbers`` are emptied when axis 0 is no longer the slice axis, reversed when it was flipped.
    orientation : Orientation
        Brings label arrays back with ``orientation.restore``.
    """
    directions = volume.affine_lps[:3, :3] / np.asarray(volume.spacing_mm)
    axes = _nearest_axes(directions)
    flips = tuple(bool(directions[2 - target, axes[target]] < 0) for target in range(3))
    orientation = Orientation(axes, (flips[0], flips[1], flips[2]))
    affine = np.eye(4)
    origin = volume.affine_lps[:3, 3].copy()
    for target in range(3):
        step = volume.affine_lps[:3, axes[target]]
        if flips[target]:
            origin += step * (volume.hu.shape[axes[target]] - 1)
            step = -step
        affine[:3, target] = step
    affine[:3, 3] = origin
    uids = volume.instance_uids if axes[0] == 0 else ()
    numbers = volume.frame_numbers if axes[0] == 0 else ()
    turned = replace(
        volume,
        hu=np.ascontiguousarray(orientation.apply(volume.hu)),
        affine_lps=affine,
        instance_uids=tuple(reversed(uids)) if flips[0] else uids,
        frame_numbers=tuple(reversed(numbers)) if flips[0] else numbers,
    )
    return turned, orientation


def boxes_of(labels: NDArray[np.uint8], margin: int = 1) -> dict[int, Box]:
    """Bound every label of a label array.

    Parameters
    ----------
    labels : (slice, row, column) uint8 array
    margin
        Voxels added on every side, as far as the array goes. With 1 or more, a mask touches the edge of its box
        only where it touches the edge of the array.

    Returns
    -------
    dict
        Label value to box, for every value but 0 that occurs.
    """
    boxes: dict[int, Box] = {}
    for value, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is not None:
            spans = [
                slice(max(0, span.start - margin), min(length, span.stop + margin))
                for span, length in zip(found, labels.shape, strict=True)
            ]
            boxes[value] = (spans[0], spans[1], spans[2])
    return boxes


def crop(volume: Volume, box: Box) -> Volume:
    """Cut a box out of a volume, as a view with the patient coordinates it had.

    ``instance_uids`` and ``frame_numbers`` follow the slices.
    """
    affine = volume.affine_lps.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([span.start for span in box], dtype=np.float64)
    return replace(
        volume,
        hu=volume.hu[box],
        affine_lps=affine,
        instance_uids=volume.instance_uids[box[0]],
        frame_numbers=volume.frame_numbers[box[0]],
    )


def _nearest_axes(directions: NDArray[np.float64]) -> tuple[int, int, int]:
    """Array axis nearest to patient z, y and x, each used once. ``directions`` is (xyz, axis)."""
    weight = np.abs(directions)
    axes: dict[int, int] = {}
    for _ in range(3):
        row, column = np.unravel_index(int(np.argmax(weight)), weight.shape)
        axes[2 - int(row)] = int(column)
        weight[row, :] = -1
        weight[:, column] = -1
    return (axes[0], axes[1], axes[2])
