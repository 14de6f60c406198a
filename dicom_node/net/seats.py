"""Seats: how many associations are open in all and of each peer, counted across every receiving process.

The count is a small table in a file that each process maps into its memory. A process that dies leaves its seats
taken; who watches over the processes gives them back.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

_TICKETS = struct.Struct("<Q")
_SEAT = struct.Struct("<QL16s")
"""Ticket (0: the seat is free), process id, calling AE title."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat taken.

    Attributes
    ----------
    number
        Of the seat.
    earlier
        Seats that were taken before under the same calling AE title, and still are.
    """

    number: int
    earlier: int


class Seats:
    """The table.

    Parameters
    ----------
    count
        Seats there are.
    file
        Of the table; None: it is this process's own.
    """

    def __init__(self, count: int, file: Path | None = None) -> None:
        self.count = count
        self._within = Lock()
        size = _TICKETS.size + count * _SEAT.size
        self._descriptor = -1 if file is None else os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        if file is not None and os.fstat(self._descriptor).st_size < size:
            os.ftruncate(self._descriptor, size)
        self._table = mmap.mmap(self._descriptor, size)

    def take(self, calling_aet: str) -> Seat | None:
        """Take a seat; None: all are taken."""
        with self._locked():
            rows = self._rows()
            free = next((number for number, row in enumerate(rows) if row[0] == 0), None)
            if free is None:
                return None
            name = calling_aet.encode("ascii", "replace")[:16].ljust(16, b"\0")
            (ticket,) = _TICKETS.unpack_from(self._table, 0)
            _TICKETS.pack_into(self._table, 0, ticket + 1)
            self._put(free, ticket + 1, os.getpid(), name)
            return Seat(free, sum(row[0] != 0 and row[2] == name for row in rows))

    def give_back(self, seat: Seat) -> None:
        """Give a seat back."""
        with self._locked():
            self._put(seat.number, 0, 0, b"")

    def give_back_all_of(self, process_id: int) -> int:
        """Give back what a process that has ended left taken; return how many seats those were."""
        with self._locked():
            left = [number for number, row in enumerate(self._rows()) if row[0] and row[1] == process_id]
            for number in left:
                self._put(number, 0, 0, b"")
        return len(left)

    def clear(self) -> None:
        """Give back every seat: no process of this node is running yet."""
        with self._locked():
            for number in range(self.count):
                self._put(number, 0, 0, b"")

    @property
    def taken(self) -> int:
        """Associations open now."""
        with self._locked():
            return sum(row[0] != 0 for row in self._rows())

    def close(self) -> None:
        """Let go of the file."""
        self._table.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _rows(self) -> list[tuple[int, int, bytes]]:
        return [_SEAT.unpack_from(self._table, _TICKETS.size + number * _SEAT.size) for number in range(self.count)]

    def _put(self, number: int, ticket: int, process_id: int, name: bytes) -> None:
        _SEAT.pack_into(self._table, _TICKETS.size + number * _SEAT.size, ticket, process_id, name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep out other threads, and other processes; the table is held for microseconds."""
        with self._within:
            if self._descriptor >= 0:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if self._descriptor >= 0:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
