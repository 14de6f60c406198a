"""Room on the disk: whether instances are accepted, told by a watermark and a reserve.

Nothing more is accepted before the disk is full, and accepted again once there is clearly room: the state is kept in a
file of one byte, which every receiving process and the page read, and it is logged once when it changes.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import DiskFull
from dicom_node.logs import log

LOG = log(__name__)

STATE_FILE = "room.state"
OPEN, CLOSED = b"0", b"1"
RECOVERED_PERCENT = 1.0
"""[m assumption] Points below the watermark at which instances are accepted again."""
RECOVERED_RESERVE = 1.1
"""[m assumption] Times the reserve that must be free until they are accepted again."""


@dataclass(frozen=True, slots=True)
class Usage:
    """A file system as ``df`` counts it.

    Attributes
    ----------
    free_bytes
        Free to the node; what is reserved for the superuser is not.
    used_percent
        Used of what is used or free.
    """

    free_bytes: int
    used_percent: float


@dataclass(frozen=True, slots=True)
class Marks:
    """What has to stay free.

    Attributes
    ----------
    reserve_bytes
        Free space below which nothing is accepted.
    watermark_percent
        Part of the file system in use above which nothing is accepted.
    """

    reserve_bytes: int
    watermark_percent: float = 100.0


def usage_of(folder: Path) -> Usage:
    """Measure the file system a folder is on."""
    state = os.statvfs(folder)
    used, free = state.f_blocks - state.f_bfree, state.f_bavail
    return Usage(free * state.f_frsize, 100.0 * used / max(used + free, 1))


def accepts(usage: Usage, marks: Marks, *, was_accepting: bool) -> bool:
    """Decide; a node that had stopped accepting needs more room to begin again, so that it does not flutter."""
    if was_accepting:
        return usage.free_bytes >= marks.reserve_bytes and usage.used_percent <= marks.watermark_percent
    recovered_percent = marks.watermark_percent - (RECOVERED_PERCENT if marks.watermark_percent < 100 else 0)
    return usage.free_bytes >= RECOVERED_RESERVE * marks.reserve_bytes and usage.used_percent <= recovered_percent


class Room:
    """The state of one folder's file system, shared by every process that asks.

    Parameters
    ----------
    folder
        Exists and can be written to.
    marks
        What has to stay free.
    """

    def __init__(self, folder: Path, marks: Marks) -> None:
        self._folder = folder
        self._marks = marks
        self._state = folder / STATE_FILE
        self._is_open = False

    def look(self) -> bool:
        """Measure, tell whether instances are accepted, and say so in the log when it has changed."""
        usage = usage_of(self._folder)
        if self._is_open and accepts(usage, self._marks, was_accepting=False):
            return True  # clearly, and it was so before: the file need not be read for every image
        was_accepting = self._read() != CLOSED
        is_accepting = accepts(usage, self._marks, was_accepting=was_accepting)
        if is_accepting != was_accepting and self._change(OPEN if is_accepting else CLOSED):
            say = LOG.info if is_accepting else LOG.error
            say(
                "intake_resumed" if is_accepting else "intake_stopped",
                free_bytes=usage.free_bytes,
                used_percent=round(usage.used_percent, 1),
                reserve_bytes=self._marks.reserve_bytes,
                watermark_percent=self._marks.watermark_percent,
            )
        self._is_open = is_accepting
        return is_accepting

    def require(self) -> None:
        """Refuse to go on when there is no room.

        Raises
        ------
        DiskFull
            With the free space found and what is expected.
        """
        if not self.look():
            usage = usage_of(self._folder)
            raise DiskFull(
                f"{usage.free_bytes / 1e9:.1f} GB are free and {usage.used_percent:.1f} % are used; the reserve is "
                f"{self._marks.reserve_bytes / 1e9:.1f} GB and the watermark {self._marks.watermark_percent:.1f} %. "
                "Free some space."
            )

    def _read(self) -> bytes:
        try:
            return self._state.read_bytes()
        except FileNotFoundError:
            return OPEN

    def _change(self, state: bytes) -> bool:
        """Overwrite the one byte, which needs no room; tell whether this process was the one to do it."""
        try:
            with self._state.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if file.read(1) == state:
                    return False
                file.seek(0)
                file.write(state)
        except FileNotFoundError:
            self._state.write_bytes(state)
        return True
