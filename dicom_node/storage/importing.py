"""Import of files, folders and ZIP archives: everything that is DICOM goes the way of what is received.

What became of the files is counted by cause. Nothing of them but these counts is told: names of files may be names of
patients. An import can be repeated; what is there already is counted as a duplicate.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dicom_node.errors import IntakeError, NotDicom, Unavailable
from dicom_node.logs import log
from dicom_node.storage.archives import ArchiveRefusedError, is_archive, packed_files
from dicom_node.storage.dicom_file import PREAMBLE_BYTES, PREFIX, may_be_dicom, read_dicom_file
from dicom_node.storage.intake import Arrival

LOG = log(__name__)
CALLING_AET = "IMPORT"
"""What stands in the place of a calling AE title for imported instances."""
HEAD_BYTES = PREAMBLE_BYTES + len(PREFIX)
AT_ONCE = 4
"""Instances on their way to the disk at the same time: one sync serves several."""
IN_FLIGHT_BYTES = 64_000_000

CAUSES: dict[str, str] = {
    "imported": "imported",
    "duplicate": "here already",
    "directory": "DICOMDIR, not needed",
    "not_dicom": "no DICOM",
    "quarantined": "DICOM, but no instance of a study; in quarantine",
    "too_large": "larger than one instance may be",
    "encrypted": "encrypted in its archive",
    "damaged": "archive, or file in one, that is damaged",
    "nested": "archive inside an archive; unpack it first",
    "bomb": "archive that unpacks to far more than it is",
    "unreadable": "could not be read from the disk",
    "refused": "not kept: the node could not take it",
}
"""What can become of a file, in words."""
FAILURES = frozenset(CAUSES) - {"imported", "duplicate", "directory", "not_dicom"}
"""Of these a person has to know."""

Keep = Callable[[Arrival], bool]
"""Makes an object durable; tells whether it is new."""


class Source(Protocol):
    """A file to import."""

    @property
    def size_bytes(self) -> int:
        """Its length."""

    def read(self, count: int | None = None) -> bytes:
        """Return it, or its first bytes."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file of a folder."""

    path: Path

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self.path.stat().st_size

    def read(self, count: int | None = None) -> bytes:
        """Return it, or its first bytes."""
        with self.path.open("rb") as file:
            return file.read() if count is None else file.read(count)


@dataclass(slots=True)
class Tally:
    """How far an import has come.

    Attributes
    ----------
    counts
        Files by what became of them, a key of ``CAUSES``.
    found
        Files found so far, those inside archives too.
    sentence
        Why it stopped before its end; empty where it did not.
    """

    counts: Counter[str] = field(default_factory=Counter)
    found: int = 0
    sentence: str = ""

    @property
    def done(self) -> int:
        """Files that have become something."""
        return self.counts.total()

    @property
    def failed(self) -> int:
        """Files a person has to know of."""
        return sum(self.counts[cause] for cause in FAILURES)


def import_paths(
    paths: Sequence[Path],
    keep: Keep,
    instance_limit_bytes: int,
    show: Callable[[Tally], object] = lambda tally: None,  # noqa: ARG005 - a caller that shows nothing
    goes_on: Callable[[], bool] = lambda: True,
) -> Tally:
    """Import files, folders in depth, and ZIP archives.

    Parameters
    ----------
    paths
        Where to look.
    keep
        Called in several threads.
    instance_limit_bytes
        Files with more are not read.
    show
        Called with the tally after every file.
    goes_on
        Asked before every file; an import that is told to stop says so.
    """
    tally = Tally()
    files = list(_files(paths))
    tally.found = len(files)
    with ThreadPoolExecutor(AT_ONCE, "import") as pool:
        work = _Work(tally, keep, pool, show)
        for source in _sources(files, tally):
            if not goes_on():
                tally.sentence = "The import was interrupted; it can be repeated."
                break
            work.take(source, instance_limit_bytes)
            if tally.sentence:
                break
        work.end()
    return tally


class _Work:
    """Files on their way to the disk: few, and few bytes together."""

    def __init__(self, tally: Tally, keep: Keep, pool: ThreadPoolExecutor, show: Callable[[Tally], object]) -> None:
        self._tally = tally
        self._keep = keep
        self._pool = pool
        self._show = show
        self._waiting: dict[Future[str], int] = {}

    def take(self, source: Source | str, limit_bytes: int) -> None:
        """Begin with a file, or count a cause; return when there is room for another."""
        found = _arrival(source, limit_bytes)
        if isinstance(found, str):
            self._count(found)
            return
        self._waiting[self._pool.submit(self._outcome, found)] = found.size_bytes
        while len(self._waiting) >= 2 * AT_ONCE or sum(self._waiting.values()) > IN_FLIGHT_BYTES:
            self._collect()

    def end(self) -> None:
        """Wait for all of them."""
        while self._waiting:
            self._collect()

    def _collect(self) -> None:
        done, _ = wait(self._waiting, return_when=FIRST_COMPLETED)
        for one in done:
            del self._waiting[one]
            self._count(one.result())

    def _count(self, cause: str) -> None:
        self._tally.counts[cause] += 1
        self._show(self._tally)

    def _outcome(self, arrival: Arrival) -> str:
        """Keep one instance; what is away for a moment is tried once more, and ends the import when it stays away."""
        for is_last in (False, True):
            try:
                return "imported" if self._keep(arrival) else "duplicate"
            except IntakeError:
                return "quarantined"
            except Unavailable as error:
                if is_last:
                    self._tally.sentence = f"The import stopped. {error}"
            except Exception as error:  # noqa: BLE001 - the boundary: one file must not end the import
                LOG.error("instance_refused", error=type(error).__name__, calling_aet=CALLING_AET)
                break
        return "refused"


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files below some paths; links to folders are not followed, so there is no way in circles."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            yield from (Path(folder) / name for name in sorted(names))


def _sources(files: Sequence[Path], tally: Tally) -> Iterator[Source | str]:
    """Yield the files, and those inside archives; a cause in the place of one that cannot be opened."""
    for path in files:
        head = b""
        with suppress(OSError):
            head = OnDisk(path).read(4) if path.is_file() else b""
        if not is_archive(head):
            yield OnDisk(path)
            continue
        tally.found -= 1
        try:
            for packed in packed_files(path):
                tally.found += 1
                yield packed
        except ArchiveRefusedError as refused:
            tally.found += 1
            yield refused.cause


def _arrival(source: Source | str, limit_bytes: int) -> Arrival | str:
    """Read a file; return it as an arrival, or what became of it instead."""
    if isinstance(source, str):
        return source
    try:
        if isinstance(source, OnDisk) and not source.path.is_file():
            return "unreadable"
        head = source.read(HEAD_BYTES)
        if is_archive(head):
            return "nested"
        if not may_be_dicom(head):
            return "not_dicom"
        if source.size_bytes > limit_bytes:
            return "too_large"
        file = read_dicom_file(source.read(), CALLING_AET)
    except NotDicom:
        return "not_dicom"
    except ArchiveRefusedError as refused:
        return refused.cause
    except OSError:
        return "unreadable"
    return "directory" if file.is_directory else file.arrival
