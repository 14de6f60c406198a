"""Datasets on their way to disk: written piece by piece as they come, hashed, and never whole in memory.

A spooled dataset lies in a folder of its own under a temporary name that says which process writes it. It gets its
final name, and is durable, by ``place``; or it is discarded, as when its association breaks.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from dicom_node.errors import DiskFull
from dicom_node.storage.files import new_id

SPOOL_FOLDER = "incoming"
ROOM_CHECK_BYTES = 1 << 26
"""[m assumption] A long object is asked anew whether there is room for it every 64 MiB."""


class Spooled:
    """One DICOM file that is being written.

    Parameters
    ----------
    folder
        Spool folder; on the file system where the file will lie.
    head
        Bytes of the file before the dataset.
    require_room
        Raises when there is no room for more.

    Raises
    ------
    DiskFull
        When it cannot be begun.
    """

    def __init__(self, folder: Path, head: bytes, require_room: Callable[[], None] = lambda: None) -> None:
        self._require_room = require_room
        self._head_bytes = len(head)
        self._unchecked_bytes = 0
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._path: Path | None = folder / f"{os.getpid()}-{new_id()}.part"
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _full(error) from None
        try:
            self._write(memoryview(head))
        except BaseException:
            self.discard()
            raise

    @property
    def sha256(self) -> str:
        """Of the dataset, in hexadecimal."""
        return self._sha256.hexdigest()

    def write(self, piece: memoryview) -> None:
        """Add a piece of the dataset.

        Raises
        ------
        DiskFull
            When there is no room; what was written is gone then.
        """
        self._sha256.update(piece)
        try:
            self._write(piece)
            self._unchecked_bytes += len(piece)
            if self._unchecked_bytes >= ROOM_CHECK_BYTES:
                self._unchecked_bytes = 0
                self._require_room()
        except DiskFull:
            self.discard()
            raise
        self.size_bytes += len(piece)

    def first(self, count: int) -> bytes:
        """Return the first bytes of the dataset."""
        return os.pread(self._descriptor, count, self._head_bytes)

    def sync(self) -> None:
        """Make the content durable; the name follows.

        Raises
        ------
        DiskFull
            When the disk does not take it.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _full(error) from None

    def place(self, path: Path) -> None:
        """Give the file its final name; its folder is synced by the caller, once for all that arrive together.

        Raises
        ------
        DiskFull
            When the folder does not take it.
        """
        assert self._path is not None, "a spooled dataset is placed once"
        try:
            self._path.rename(path)
        except OSError as error:
            raise _full(error) from None
        self._path = None
        self._close()

    def discard(self) -> None:
        """Remove it, unless it was placed; it may be called again."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
        self._close()

    def _write(self, piece: memoryview) -> None:
        try:
            while len(piece):
                piece = piece[os.write(self._descriptor, piece) :]
        except OSError as error:
            raise _full(error) from None

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _full(error: OSError) -> DiskFull:
    return DiskFull(f"A received object could not be written ({error.strerror}); free some space.")


def sweep_spool(folder: Path, process_id: int | None = None) -> int:
    """Delete what processes that have died left in a spool folder; return how many files went.

    Parameters
    ----------
    folder
        Spool folder.
    process_id
        Of the process that has died; None: no process writes there now.
    """
    pattern = "*.part" if process_id is None else f"{process_id}-*.part"
    leftovers = list(folder.glob(pattern))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)
