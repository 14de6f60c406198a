"""DICOM Segmentations that others made: opened, and each segment laid onto the grid of the images it was drawn on."""

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import SegmentationStorage

from dicom_node.errors import JobRejected
from dicom_node.jobs.failure import describe_failure

ON_GRID = 0.05
"""Voxels by which a frame may miss the images' grid: rounding of decimal strings stays far below."""


def open_segmentation(path: Path) -> Any:
    """Open a Segmentation with highdicom.

    Raises
    ------
    JobRejected
        When the file is no readable Segmentation.
    """
    try:
        if dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).SOPClassUID != SegmentationStorage:
            raise JobRejected("The segmentation is a DICOM file but no Segmentation.")
        return hd.seg.segread(path)
    except JobRejected:
        raise
    except Exception as error:  # noqa: BLE001 - a broken file fails in any way; its kind is all that may be said
        raise JobRejected(
            f"The segmentation cannot be read as a DICOM Segmentation ({describe_failure(error)})."
        ) from None


def segment_on_grid(
    seg: Any, number: int, affine_lps: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Return one segment on a grid; its frames may be any of the grid's slices, in any order.

    Parameters
    ----------
    seg
        From ``open_segmentation``.
    number
        Of the segment.
    affine_lps : (4, 4) array
        Grid: (slice, row, column) index to LPS mm.
    shape
        Of the grid.

    Returns
    -------
    (slice, row, column) bool array

    Raises
    ------
    JobRejected
        When the frames are no stack of slices, or do not lie on the grid, voxel on voxel.
    """
    try:
        found = seg.get_volume(segment_numbers=[number], combine_segments=True, relabel=True, skip_overlap_checks=True)
    except (ValueError, RuntimeError, KeyError) as error:
        raise JobRejected(
            f"Segment {number} of the segmentation is no regular stack of slices ({describe_failure(error)})."
        ) from None
    return laid_on_grid(
        np.asarray(found.array) > 0, np.asarray(found.affine, dtype=np.float64), affine_lps, shape
    ).astype(bool)


def laid_on_grid(
    values: NDArray[Any], own_affine_lps: NDArray[np.float64], affine_lps: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Lay labels drawn on some of a grid's slices, in any orientation, onto the whole grid.

    Parameters
    ----------
    values : (slice, row, column) array
        Labels 0 to 255.
    own_affine_lps, affine_lps : (4, 4) arrays
        Where they were drawn, and the grid: (slice, row, column) index to LPS mm.
    shape
        Of the grid.

    Raises
    ------
    JobRejected
        When the labels do not lie on the grid, voxel on voxel.
    """
    places = np.argwhere(values)
    to_grid = np.linalg.inv(affine_lps) @ own_affine_lps
    steps = np.abs(to_grid[:3, :3])
    same_voxels = np.abs(steps - np.rint(steps)).max() * max(shape) <= ON_GRID and np.rint(steps).sum() == 3
    at = places @ to_grid[:3, :3].T + to_grid[:3, 3]
    nearest = np.rint(at).astype(np.int64)
    inside = bool(((nearest >= 0) & (nearest < np.array(shape))).all())
    if not (inside and same_voxels and np.abs(at - nearest).max(initial=0.0) <= ON_GRID):
        raise JobRejected("The segmentation does not lie on the slices of this image; it was drawn on another one.")
    laid = np.zeros(shape, dtype=np.uint8)
    laid[tuple(nearest.T)] = values[tuple(places.T)]
    return laid
