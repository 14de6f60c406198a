"""ZIP archives from strangers: looked at before they are unpacked, and unpacked one file at a time into memory.

Names inside an archive are never used as paths, so none can lead anywhere. Encrypted, damaged and nested archives, and
those that would unpack to far more than they are, are refused with a cause.
"""

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of an archive, and of an empty one."""
DIRECTORY_LIMIT_BYTES = 1 << 26
"""Largest list of files an archive may have; it is read as a whole."""
RATIO_LIMIT = 200
"""[m assumption] Unpacked an archive is at most this many times its size; CT packs to a half, masks to a hundredth."""
SMALL_BYTES = 1_000_000_000
"""An archive that unpacks to less is not held to the ratio."""
END_RECORD = struct.Struct("<4s4H2LH")
END_MAGIC = b"PK\x05\x06"
END64_RECORD = struct.Struct("<4sQ2H2L4Q")
END64_MAGIC = b"PK\x06\x06"
LOCATOR_BYTES = 20
COMMENT_LIMIT = 65536
ENCRYPTED = 0x1
CHUNK_BYTES = 1 << 20


class ArchiveRefusedError(Exception):
    """An archive, or a file in one, that is not unpacked; ``cause`` is one of ``dicom_node.storage.importing``'s."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Packed:
    """One file in an archive."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def size_bytes(self) -> int:
        """Its length as the archive states it; reading stops there."""
        return self.info.file_size

    def read(self, count: int | None = None) -> bytes:
        """Return the file, or its first bytes.

        Raises
        ------
        ArchiveRefusedError
            When it is encrypted, damaged, or packed in a way that is not known.
        """
        if self.info.flag_bits & ENCRYPTED:
            raise ArchiveRefusedError("encrypted")
        try:
            with self.archive.open(self.info) as stream:
                if count is not None:
                    return stream.read(count)
                content = bytearray()
                while chunk := stream.read(CHUNK_BYTES):
                    content += chunk
                return bytes(content)
        except Exception:  # noqa: BLE001 - every packing has errors of its own, and hostile bytes raise them all
            raise ArchiveRefusedError("damaged") from None


def is_archive(head: bytes) -> bool:
    """Tell from its first bytes whether a file is a ZIP archive."""
    return head.startswith(MAGIC)


def packed_files(path: Path) -> Iterator[Packed]:
    """Yield the files of an archive, which stays open until the last one was taken.

    Raises
    ------
    ArchiveRefusedError
        When it is damaged, or unpacks to far more than it is.
    """
    try:
        with path.open("rb") as file:
            if _directory_bytes(file) > DIRECTORY_LIMIT_BYTES:
                raise ArchiveRefusedError("bomb")
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        raise ArchiveRefusedError("damaged") from None
    with archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        unpacked = sum(info.file_size for info in files)
        if unpacked > max(SMALL_BYTES, RATIO_LIMIT * path.stat().st_size):
            raise ArchiveRefusedError("bomb")
        for info in files:
            yield Packed(archive, info)


def _directory_bytes(file: BinaryIO) -> int:
    """Return the length of an archive's list of files, as the record at its end states it."""
    size = file.seek(0, 2)
    file.seek(max(0, size - COMMENT_LIMIT - END_RECORD.size))
    tail = file.read()
    place = tail.rfind(END_MAGIC)
    if place < 0 or len(tail) - place < END_RECORD.size:
        raise zipfile.BadZipFile("no end record")
    length = int(END_RECORD.unpack_from(tail, place)[5])
    before = place - LOCATOR_BYTES - END64_RECORD.size
    if before >= 0 and tail[before : before + 4] == END64_MAGIC:
        length = max(length, int(END64_RECORD.unpack_from(tail, before)[8]))
    return 0 if length == 0xFFFFFFFF else length
