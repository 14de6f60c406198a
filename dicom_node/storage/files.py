"""Durable files: a file that has its final name has its full content on disk.

Write to a temporary name, fsync the file, rename, fsync the folder. Names are random, so no path says whose
file it is, and two writers never meet.
"""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from dicom_node.errors import DiskFull


def new_id() -> str:
    """Return a random 128-bit id in hexadecimal, fit for a file name."""
    return uuid.uuid4().hex


def write_durably(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file so that it survives a power cut once this returns.

    Parameters
    ----------
    path
        Final name; its folder is made if needed.
    chunks
        The content.

    Raises
    ------
    DiskFull
        When the disk is full. Nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{new_id()}.part")
    try:
        make_folder(path.parent)
        with temporary.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskFull(f"A file could not be written ({error.strerror}); free some space.") from None


def make_folder(folder: Path) -> None:
    """Make a folder whose name, and the names above it that are new, survive a power cut."""
    if folder.exists():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(folder: Path) -> int:
    """Delete what writers that died left half-written; return how many files went."""
    leftovers = list(folder.rglob(".*.part"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)
