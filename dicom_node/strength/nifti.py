"""What a NIfTI file has to hold before it is read: ITK fills a file that was cut off with zeros and says nothing.

Sources: nifti1.h and nifti2.h of the NIfTI Data Format Working Group; only the fields named in ``LAYOUTS`` are read.
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from dicom_node.errors import JobRejected

NIFTI_1, NIFTI_2 = 348, 540
"""Bytes of the two headers, which is also the first number in them."""

LAYOUTS: dict[int, dict[str, tuple[str, int]]] = {
    NIFTI_1: {
        "dim": ("8h", 40),
        "bitpix": ("h", 72),
        "pixdim": ("8f", 76),
        "offset": ("f", 108),
        "qform": ("h", 252),
        "sform": ("h", 254),
    },
    NIFTI_2: {
        "dim": ("8q", 16),
        "bitpix": ("h", 14),
        "pixdim": ("8d", 104),
        "offset": ("q", 168),
        "qform": ("i", 344),
        "sform": ("i", 348),
    },
}
"""Field -> (format of struct, byte), by length of the header."""

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Header:
    """The fields that decide whether a file can be trusted."""

    dim: tuple[int, ...]
    bitpix: int
    pixdim: tuple[float, ...]
    offset: int
    has_place: bool

    @property
    def file_bytes(self) -> int:
        """Bytes the whole file has, by its header."""
        voxels = int(np.prod([max(size, 1) for size in self.dim[1 : 1 + self.dim[0]]], dtype=object))
        return self.offset + voxels * self.bitpix // 8


def check_nifti(path: Path, limit_bytes: int) -> None:
    """Refuse a NIfTI file that is cut off, damaged, too large, or says no place in the patient.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``.
    limit_bytes
        Content that is refused, so that a small compressed file cannot fill the memory.

    Raises
    ------
    JobRejected
        With what was found and what was expected.
    """
    try:
        with _opened(path) as file:
            start = file.read(NIFTI_2)
            header = _header(start)
            if header.file_bytes > limit_bytes:
                raise JobRejected(
                    f"{path.name} holds {header.file_bytes / 2**20:.0f} MiB by its header, more than the memory limit "
                    f"of {limit_bytes / 2**20:.0f} MiB: crop the image or raise the limit."
                )
            held = len(start) + _rest(file, header.file_bytes)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged or cut off"
        raise JobRejected(f"{path.name} cannot be read as NIfTI: {reason}. Copy it again from its source.") from None
    if held < header.file_bytes:
        raise JobRejected(
            f"{path.name} is cut off: {held} bytes found, {header.file_bytes} expected. Copy it again from its source."
        )
    _check_place(header, path.name)


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _header(start: bytes) -> _Header:
    """Read the header in the byte order in which its own length makes sense."""
    for order in "<>":
        (size,) = struct.unpack_from(f"{order}i", start)
        if size in LAYOUTS:
            values = {name: struct.unpack_from(order + form, start, at) for name, (form, at) in LAYOUTS[size].items()}
            return _Header(
                dim=values["dim"],
                bitpix=values["bitpix"][0],
                pixdim=values["pixdim"],
                offset=int(values["offset"][0]),
                has_place=values["qform"][0] > 0 or values["sform"][0] > 0,
            )
    raise struct.error


def _rest(file: IO[bytes], enough: int) -> int:
    """Return how many bytes follow, counted no further than needed."""
    count = 0
    while count < enough and (chunk := file.read(CHUNK_BYTES)):
        count += len(chunk)
    return count


def _check_place(header: _Header, name: str) -> None:
    dimensions = header.dim[0]
    lengths = np.array(header.pixdim[1:4])
    if not 1 <= dimensions <= 7 or not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise JobRejected(f"{name} says no usable size of its voxels; expected three positive lengths in mm.")
    if not header.has_place:
        raise JobRejected(
            f"{name} does not say how the patient lies in it (qform and sform are 0): right and left would be a guess. "
            "Convert the scan again with its orientation."
        )
