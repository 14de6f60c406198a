"""A mask made elsewhere, for ``osteonode analyse --mask``: DICOM Segmentation, RT Structure Set, or a label map.

It replaces the automatic segmentation as a whole. Vertebrae may be whole: their arches are cut off
(``inference.vertebra_cut``). Names that are no bone this node measures are left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import RTStructureSetStorage, SegmentationStorage
from skimage.draw import polygon

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.jobs.failure import describe_failure
from dicom_node.pipeline.corrections import grid_of, lay, read_correction
from dicom_node.pipeline.segmentation_object import laid_on_grid
from dicom_node.segmenters.foreign_labels import VOCABULARIES, structure_named
from dicom_node.strength.image_files import checksum, format_of, read_grid
from inference.corrected import CorrectedSegmenter
from inference.labels import BY_KEY, Structure
from sr_export.geometry import Grid

EXTERNAL_NAME = "Mask made elsewhere"
LIMIT_BYTES = 2 * 2**30
ON_SLICE = 0.2
"""Slices by which a contour may miss a slice: contours are drawn on slices, headers round."""


def read_mask(path: Path, headers: Sequence[Dataset], vocabulary: str) -> CorrectedSegmenter:
    """Read a mask onto the grid of a series.

    Parameters
    ----------
    path
        ``.nii``, ``.nii.gz``, ``.mha`` or ``.nrrd`` label map, or a DICOM Segmentation or RT Structure Set.
    headers
        Of the series that will be analysed, any order.
    vocabulary
        Key of ``VOCABULARIES``, for label maps.

    Raises
    ------
    ConfigurationError
        When there is no such file.
    JobRejected
        When it cannot be read, belongs to another series, or holds no bone this node measures.
    """
    if not path.is_file():
        raise ConfigurationError(f"There is no file {path}; name the mask.")
    grid = grid_of(headers)
    if format_of(path) is not None:
        labels = _from_map(path, grid, VOCABULARIES[vocabulary])
    else:
        kind = _class_of(path)
        if kind == SegmentationStorage:
            found = read_correction(path, headers)
            return CorrectedSegmenter(
                found.labels, found.affine_lps, found.checksum, EXTERNAL_NAME, cuts_vertebrae=True
            )
        if kind != RTStructureSetStorage:
            raise JobRejected("The mask is a DICOM file but neither a Segmentation nor an RT Structure Set.")
        labels = _from_structure_set(path, grid)
    if not labels.any():
        raise JobRejected("The mask holds no voxel of a bone this node measures; are its names or label values right?")
    return CorrectedSegmenter(labels, grid.affine_lps, checksum(path), EXTERNAL_NAME, cuts_vertebrae=True)


def _class_of(path: Path) -> str:
    try:
        return str(dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).get("SOPClassUID", ""))
    except Exception:  # noqa: BLE001 - a broken file fails in any way, in the library's code
        raise JobRejected(f"{path.name} is neither DICOM nor a label map (.nii, .nii.gz, .mha, .nrrd).") from None


def _from_map(path: Path, grid: Grid, names: Mapping[int, str]) -> NDArray[np.uint8]:
    found = read_grid(path, LIMIT_BYTES)
    values = found.values
    largest, smallest = float(values.max()), float(values.min())
    if smallest < 0 or largest > 255 or not np.array_equal(values, np.round(values)):
        raise JobRejected(f"{path.name} is no label map: expected whole labels from 0 to 255.")
    table = np.zeros(256, dtype=np.uint8)
    for value, key in names.items():
        table[value] = BY_KEY[key].value
    return laid_on_grid(table[values.astype(np.uint8)], found.affine_lps, grid.affine_lps, grid.shape)


def _from_structure_set(path: Path, grid: Grid) -> NDArray[np.uint8]:
    try:
        return _from_structures(dcmread(path), grid)
    except JobRejected:
        raise
    except Exception as error:  # noqa: BLE001 - a broken file fails in any way; its kind is all that may be said
        raise JobRejected(
            f"The mask cannot be read as an RT Structure Set ({describe_failure(error)}); is the file whole?"
        ) from None


def _from_structures(structures: Dataset, grid: Grid) -> NDArray[np.uint8]:
    """Fill the contours of every bone this node measures."""
    regions = structures.get("StructureSetROISequence", ())
    frames = {str(roi.get("ReferencedFrameOfReferenceUID", "")) for roi in regions}
    if grid.frame_of_reference_uid and frames - {grid.frame_of_reference_uid}:
        raise JobRejected("The structure set lies in another frame of reference than the series analysed.")
    bones = _bones_by_number(regions)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for item in structures.get("ROIContourSequence", ()):
        number = _number_of(item, "ReferencedROINumber")
        if number is None:
            raise JobRejected(
                "An item of the structure set's contours names no structure; a Referenced ROI Number (3006,0084) was "
                "expected in each."
            )
        if number in bones:
            lay(labels, bones[number], _filled(item.get("ContourSequence", ()), bones[number], grid))
    return labels


def _bones_by_number(regions: Sequence[Dataset]) -> dict[int, Structure]:
    """Return which ROI Number stands for which bone; a region that is no bone this node measures is left out."""
    bones: dict[int, Structure] = {}
    for roi in regions:
        structure = structure_named(str(roi.get("ROIName", "")))
        if structure is None:
            continue
        number = _number_of(roi, "ROINumber")
        if number is None:
            raise JobRejected(
                f"{structure.name} of the structure set has no ROI Number (3006,0022); a whole number was expected."
            )
        if number in bones:
            raise JobRejected(
                f"One ROI Number of the structure set stands for {bones[number].name} and {structure.name}; "
                "a number each was expected."
            )
        bones[number] = structure
    return bones


def _number_of(item: Dataset, keyword: str) -> int | None:
    """Return a whole number of an item, None where it is missing, empty or no number."""
    try:
        return int(item.get(keyword))
    except (TypeError, ValueError, OverflowError):
        return None


def _filled(contours: Sequence[Dataset], structure: Structure, grid: Grid) -> NDArray[np.bool_]:
    """Fill closed planar contours; one inside another of the same slice is a hole."""
    mask = np.zeros(grid.shape, dtype=np.bool_)
    inverse = np.linalg.inv(grid.affine_lps)
    for contour in contours:
        if str(contour.get("ContourGeometricType", "")) != "CLOSED_PLANAR":
            continue
        points = _points_mm(contour, structure)
        if not len(points):
            continue
        index = points @ inverse[:3, :3].T + inverse[:3, 3]
        slice_ = round(float(index[:, 0].mean()))
        if np.abs(index[:, 0] - slice_).max() > ON_SLICE or not 0 <= slice_ < grid.shape[0]:
            raise JobRejected(f"A contour of {structure.name} does not lie on a slice of the series analysed.")
        rows, columns = polygon(index[:, 1], index[:, 2], grid.shape[1:])
        mask[slice_, rows, columns] ^= True
    return mask


def _points_mm(contour: Dataset, structure: Structure) -> NDArray[np.float64]:
    """Return a contour's points, (n, 3) array of x, y, z, LPS mm; none where it is empty."""
    try:
        found = contour.get("ContourData")
        values = np.array([] if found is None or found == "" else found, dtype=np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise JobRejected(f"A contour of {structure.name} holds what is no number; coordinates in mm were expected.")
    if values.size % 3:
        raise JobRejected(
            f"A contour of {structure.name} has {values.size} number{'s' if values.size > 1 else ''}; three for each "
            "point (x, y, z) were expected."
        )
    return values.reshape(-1, 3)
