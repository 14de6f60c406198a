"""A CT series from a folder, and a mask from a DICOM Segmentation."""

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.errors import JobRejected
from dicom_node.pipeline.calibration import scan_date
from dicom_node.pipeline.deidentification import read_headers, select_series
from dicom_node.pipeline.segmentation_object import open_segmentation, segment_on_grid
from dicom_node.strength.image_files import GridFile, checksum
from inference.dicom_volume import volume_from_datasets
from inference.errors import InferenceError
from inference.labels import Laterality
from inference.volume import Volume

MAGIC_AT, MAGIC = 128, b"DICM"
"""A DICOM file has these four bytes after its preamble (PS3.10 7.1)."""

SIDES: dict[str, Laterality] = {"24028007": "R", "7771000": "L"}
"""SNOMED CT codes of a segment's laterality (PS3.16 CID 244)."""


@dataclass(frozen=True, slots=True)
class SegmentMask:
    """One segment on the grid of an image.

    Attributes
    ----------
    mask : (slice, row, column) bool array
        On the image's own grid.
    side
        As the segment says, empty where it says nothing.
    label
        Number of the segment.
    file
        Kind and checksum.
    """

    mask: NDArray[np.bool_]
    side: Laterality
    label: int
    file: GridFile


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its preamble."""
    with path.open("rb") as file:
        return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC


def read_ct_folder(folder: Path) -> tuple[Volume, str, date | None]:
    """Read the one CT series of a folder that is fit for a model.

    Returns
    -------
    volume : Volume
        In HU.
    sha256 : str
        SHA-256 of the sorted SHA-256 digests of the series' files, so that names and order do not matter.
    scanned : date or None
        Day of the scan, which decides about the calibration.

    Raises
    ------
    JobRejected
        When there is no such series, or images of two patients.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise JobRejected(f"{folder} holds no files.")
    headers = read_headers(paths, skip_foreign=True)
    patients = len({(str(ds.get("PatientID", "")), str(ds.get("IssuerOfPatientID", ""))) for _, ds in headers})
    if patients > 1:
        raise JobRejected(f"The folder holds images of {patients} patients; name a folder with one study.")
    chosen = select_series(headers)
    try:
        volume = volume_from_datasets([dcmread(path) for path in chosen])
    except InferenceError as error:
        raise JobRejected(str(error)) from None
    digests = sorted(bytes.fromhex(checksum(path)) for path in chosen)
    header = next(header for path, header in headers if path == chosen[0])
    return volume, hashlib.sha256(b"".join(digests)).hexdigest(), scan_date(header)


def read_segment(path: Path, label: int | None, image: Volume) -> SegmentMask:
    """Read one segment of a DICOM Segmentation onto the grid of an image.

    Parameters
    ----------
    path
        The object.
    label
        Number of the segment; may be left out where there is one.
    image
        Where the mask has to fit.

    Raises
    ------
    JobRejected
        When the object is no segmentation, has no such segment, or belongs to another image.
    """
    seg = open_segmentation(path)
    numbers = {int(item.SegmentNumber): str(item.SegmentLabel) for item in seg.SegmentSequence}
    if label is None and len(numbers) == 1:
        label = next(iter(numbers))
    if label not in numbers:
        listed = ", ".join(f"{number} {name}" for number, name in sorted(numbers.items()))
        asked = "no --label was given" if label is None else f"it has no segment {label}"
        raise JobRejected(f"The segmentation holds {len(numbers)} segments and {asked}; expected one of: {listed}.")
    if image.frame_of_reference_uid and str(seg.get("FrameOfReferenceUID", "")) != image.frame_of_reference_uid:
        raise JobRejected(
            "The segmentation lies in another frame of reference than the images: it is of another scan or patient."
        )
    mask = segment_on_grid(seg, label, image.affine_lps, image.hu.shape)
    return SegmentMask(mask, _side_of(seg, label), label, GridFile(mask, image.affine_lps, "dicom_seg", checksum(path)))


def _side_of(seg: Dataset, label: int) -> Laterality:
    """Return the side a segment states by its property's modifier."""
    item = next(item for item in seg.SegmentSequence if int(item.SegmentNumber) == label)
    for code in item.get("SegmentedPropertyTypeCodeSequence", []):
        for modifier in code.get("SegmentedPropertyTypeModifierCodeSequence", []):
            if str(modifier.get("CodeValue", "")) in SIDES:
                return SIDES[str(modifier.CodeValue)]
    return ""
