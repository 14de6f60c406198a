"""Images and label maps in one file: NIfTI, MetaImage, NRRD. SimpleITK reads them, and RAS stops at this door.

A header that points to a second file is refused: the checksum of a result covers the one file named.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_node.errors import JobRejected, NotFound
from dicom_node.strength.nifti import check_nifti

HEADER_BYTES = 1 << 16
"""Text headers of MetaImage and NRRD end long before [m assumption]."""


@dataclass(frozen=True, slots=True, eq=False)
class GridFile:
    """An array of a file, with its place in the patient.

    Attributes
    ----------
    values : (slice, row, column) array
        As stored, scaled as the header says.
    affine_lps : (4, 4) array
        Homogeneous (slice, row, column) index to LPS mm.
    kind
        ``nifti``, ``metaimage``, ``nrrd``, ``dicom_ct`` or ``dicom_seg``.
    sha256
        Of the file; of a folder, of its files' checksums in sorted order.
    """

    values: NDArray[np.generic] = field(repr=False)
    affine_lps: NDArray[np.float64]
    kind: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Format:
    """A row of the table of formats: ITK's reader, and what is checked before it runs."""

    kind: str
    reader: str
    check: Callable[[Path, int], None]


def _check_metaimage(path: Path, limit_bytes: int) -> None:
    del limit_bytes
    found = re.search(rb"^ElementDataFile\s*=\s*(\S+)", _start(path), re.MULTILINE)
    if found is None or found.group(1).upper() != b"LOCAL":
        raise JobRejected(f"{path.name} is no MetaImage in one file (ElementDataFile = LOCAL).")


def _check_nrrd(path: Path, limit_bytes: int) -> None:
    del limit_bytes
    header = _start(path).split(b"\n\n")[0]
    if not header.startswith(b"NRRD") or re.search(rb"^data ?file:", header, re.MULTILINE | re.IGNORECASE):
        raise JobRejected(f"{path.name} is no NRRD in one file.")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)


NIFTI = Format("nifti", "NiftiImageIO", check_nifti)
FORMATS: dict[str, Format] = {
    ".nii": NIFTI,
    ".nii.gz": NIFTI,
    ".mha": Format("metaimage", "MetaImageIO", _check_metaimage),
    ".nrrd": Format("nrrd", "NrrdImageIO", _check_nrrd),
}
"""By the end of the file's name."""


def format_of(path: Path) -> Format | None:
    """Return the format that a file's name says, or None."""
    name = path.name.lower()
    return next((row for suffix, row in FORMATS.items() if name.endswith(suffix)), None)


def read_grid(path: Path, limit_bytes: int) -> GridFile:
    """Read an image or a label map.

    Parameters
    ----------
    path
        A file whose name ends as in ``FORMATS``.
    limit_bytes
        Larger content is refused before it is read.

    Raises
    ------
    NotFound
        When there is no such file.
    JobRejected
        When the file is none of these formats, cut off, or not one three-dimensional image of numbers.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    row = format_of(path)
    if row is None:
        raise JobRejected(f"{path.name} is of no known kind; expected a name ending in {', '.join(FORMATS)}.")
    try:
        row.check(path, limit_bytes)
        sha256 = checksum(path)
    except OSError as error:
        raise JobRejected(f"{path.name} cannot be read: {error.strerror}.") from None
    image = _image(path, row, limit_bytes)
    return GridFile(sitk.GetArrayFromImage(image), _affine_lps(image), row.kind, sha256)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _image(path: Path, row: Format, limit_bytes: int) -> sitk.Image:
    """Read header, then voxels, with ITK's own messages kept to ITK."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(row.reader)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != 3 or min(size) < 2 or reader.GetNumberOfComponents() != 1:
            extents = " x ".join(map(str, size))
            raise JobRejected(
                f"{path.name} holds {extents} values of {reader.GetNumberOfComponents()} components; expected one "
                "three-dimensional image of one number a voxel."
            )
        if np.prod(size, dtype=object) > limit_bytes:
            raise JobRejected(
                f"{path.name} says it holds {np.prod(size, dtype=object)} voxels, more than fit in memory."
            )
        return reader.Execute()
    except (RuntimeError, MemoryError):
        raise JobRejected(
            f"{path.name} cannot be read as {row.kind}: damaged, cut off, or with axes that are not perpendicular."
        ) from None


def _affine_lps(image: sitk.Image) -> NDArray[np.float64]:
    """Return the index to LPS matrix; ITK's index order is (column, row, slice), its frame LPS."""
    directions = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine
