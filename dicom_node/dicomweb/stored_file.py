"""Files the node keeps, read for answers: headers without pixels, frames by their place, nothing larger than needed.

Deflated datasets (PS3.5 A.5) are inflated up to a limit: a small file may hold any number of zeros.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicom_node.errors import InstanceUnreadable
from dicom_node.storage.dicom_file import PREAMBLE_BYTES, PREFIX, read_meta
from dicom_node.storage.syntaxes import DEFLATED, EXPLICIT_BIG, IMPLICIT

PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
"""Pixel Data, Float Pixel Data, Double Float Pixel Data."""
META_BYTES = 8192
"""The file meta information the node writes is shorter."""
INFLATED_LIMIT_BYTES = 1 << 30
UNDEFINED = 0xFFFFFFFF
CHUNK_BYTES = 1 << 20
LAYOUTS_REMEMBERED = 4096
"""A viewer asks for a series slice by slice."""


@dataclass(frozen=True, slots=True)
class Header:
    """A dataset without its pixels, and where those begin in ``source``; ``pixel_tag`` is 0 where there are none."""

    dataset: Dataset
    syntax: UID
    pixel_tag: int
    pixel_start: int
    pixel_length: int


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """Where a file's frames are and what they are made of; lengths in bytes, ``start`` in the inflated file."""

    path: Path
    syntax: UID
    tag: int
    start: int
    length: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    frame_count: int
    photometric: str

    @property
    def is_encapsulated(self) -> bool:
        """Whether the frames are compressed."""
        return self.length == UNDEFINED

    @property
    def frame_bits(self) -> int:
        """Bits of one frame that is not compressed; 4:2:2 has half of both colour differences (PS3.3 C.7.6.3.1.2)."""
        samples = 2 if self.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422") else self.samples
        return self.rows * self.columns * samples * self.bits_allocated


def transfer_syntax(path: Path) -> str:
    """Return the transfer syntax a file is encoded in."""
    with path.open("rb") as file:
        return _meta(file)[0]


def read_header(path: Path) -> Header:
    """Read everything before the pixels.

    Raises
    ------
    InstanceUnreadable
        When the file is not what its meta information says.
    """
    with path.open("rb") as file:
        syntax, start = _meta(file)
        try:
            return _header(_plain(file, syntax, start), UID(syntax))
        except InstanceUnreadable:
            raise
        except Exception as error:  # noqa: BLE001 - hostile bytes fail in any way; the kind is all that may be said
            raise InstanceUnreadable(f"A kept instance cannot be read ({type(error).__name__}).") from None


def read_whole(path: Path) -> FileDataset:
    """Read a file with its pixels; the caller has asked ``pixel_layout`` how large they are."""
    with path.open("rb") as file:
        syntax, start = _meta(file)
        uid = UID(syntax)
        try:
            content = read_dataset(_plain(file, syntax, start), syntax in IMPLICIT, syntax != EXPLICIT_BIG)
        except Exception as error:  # noqa: BLE001 - as above
            raise InstanceUnreadable(f"A kept instance cannot be read ({type(error).__name__}).") from None
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid
    order = {"is_implicit_VR": syntax in IMPLICIT, "is_little_endian": syntax != EXPLICIT_BIG}
    return FileDataset(None, content, file_meta=meta, **order)


@lru_cache(maxsize=LAYOUTS_REMEMBERED)
def pixel_layout(path: Path) -> PixelLayout | None:
    """Return where the frames of a file are; None where it has none. Kept files never change."""
    header = read_header(path)
    if not header.pixel_tag:
        return None
    dataset = header.dataset
    return PixelLayout(
        path=path,
        syntax=header.syntax,
        tag=header.pixel_tag,
        start=header.pixel_start,
        length=header.pixel_length,
        rows=_number(dataset, "Rows", 0),
        columns=_number(dataset, "Columns", 0),
        samples=_number(dataset, "SamplesPerPixel", 1),
        bits_allocated=_number(dataset, "BitsAllocated", 16),
        frame_count=max(_number(dataset, "NumberOfFrames", 1), 1),
        photometric=str(dataset.get("PhotometricInterpretation", "")),
    )


def stored_frame(layout: PixelLayout, number: int) -> bytes:
    """Return one frame as it is stored, little endian where it is not compressed.

    Parameters
    ----------
    layout
        The file's.
    number
        From 1.

    Raises
    ------
    InstanceUnreadable
        When the file ends before the frame does.
    """
    with _opened(layout) as file:
        if layout.is_encapsulated:
            file.seek(layout.start)
            try:
                return bytes(get_frame(file, number - 1, number_of_frames=layout.frame_count))
            except Exception as error:  # noqa: BLE001 - as above
                raise InstanceUnreadable(f"A frame cannot be found ({type(error).__name__}).") from None
        first_bit = (number - 1) * layout.frame_bits
        end_bit = first_bit + layout.frame_bits
        start, end = first_bit // 8, -(-end_bit // 8)
        if end > layout.length:
            raise InstanceUnreadable("The pixel data end before the frame does.")
        file.seek(layout.start + start)
        content = file.read(end - start)
    if len(content) < end - start:
        raise InstanceUnreadable("The file ends before the frame does.")
    return _whole_bytes(layout, content, first_bit % 8)


def pixel_chunks(layout: PixelLayout) -> Iterator[bytes]:
    """Yield the whole pixel data: as stored, or frame by frame one after another where they are compressed."""
    if layout.is_encapsulated or layout.syntax == EXPLICIT_BIG:
        for number in range(1, layout.frame_count + 1):
            yield stored_frame(layout, number)
        return
    with _opened(layout) as file:
        file.seek(layout.start)
        left = layout.length
        while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file as it is."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _whole_bytes(layout: PixelLayout, content: bytes, first_bit: int) -> bytes:
    """Return a frame that begins in its first byte, in little endian order."""
    if layout.bits_allocated == 1 and (first_bit or layout.frame_bits % 8):
        bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
        return np.packbits(bits[first_bit : first_bit + layout.frame_bits], bitorder="little").tobytes()
    if layout.syntax == EXPLICIT_BIG and layout.bits_allocated in (16, 32, 64):
        word = f"u{layout.bits_allocated // 8}"
        return np.frombuffer(content, f">{word}").astype(f"<{word}").tobytes()
    return content


def _opened(layout: PixelLayout) -> BinaryIO:
    file = layout.path.open("rb")
    if layout.syntax not in DEFLATED:
        return file
    with file:
        syntax, start = _meta(file)
        return _plain(file, syntax, start)


def _meta(file: BinaryIO) -> tuple[str, int]:
    meta, start = read_meta(file.read(META_BYTES), PREAMBLE_BYTES + len(PREFIX))
    return meta.get("transfer_syntax_uid", ""), start


def _plain(file: BinaryIO, syntax: str, start: int) -> BinaryIO:
    """Return the dataset as a stream at its beginning, inflated where it is deflated."""
    file.seek(start)
    if syntax not in DEFLATED:
        return file
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(file.read(), INFLATED_LIMIT_BYTES)
    except zlib.error:
        raise InstanceUnreadable("A deflated instance cannot be inflated.") from None
    if inflater.unconsumed_tail:
        raise InstanceUnreadable("A deflated instance is larger than this node inflates.")
    return BytesIO(content)


def _header(source: BinaryIO, syntax: UID) -> Header:
    dataset = read_dataset(
        source,
        syntax in IMPLICIT,
        syntax != EXPLICIT_BIG,
        stop_when=lambda tag, vr, length: tag in PIXEL_TAGS,  # noqa: ARG005 - pydicom's signature
    )
    order: Literal["little", "big"] = "big" if syntax == EXPLICIT_BIG else "little"
    head = source.read(12)
    if len(head) < 8:
        return Header(dataset, syntax, 0, 0, 0)
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    length = int.from_bytes(head[4:8] if syntax in IMPLICIT else head[8:12], order)
    if syntax in IMPLICIT:
        source.seek(-4, 1)
    return Header(dataset, syntax, tag, source.tell(), length)


def _number(dataset: Dataset, keyword: str, default: int) -> int:
    value: Any = dataset.get(keyword)
    try:
        return default if value in (None, "") else int(value)
    except (TypeError, ValueError):
        raise InstanceUnreadable(f"{keyword} is no number.") from None
