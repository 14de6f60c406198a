"""The wire of an association that a peer opened (PS3.8 9.3): heads of PDUs, pieces of what follows, time limits.

Whatever length a peer announces, one buffer is all that is held of it, and no peer holds a thread by sending slowly.
What the bytes mean is the business of ``acceptor`` and ``dimse``.
"""

import socket
import struct
import time
from collections.abc import Iterator

from dicom_node.errors import AssociationLost

SMALL_BYTES, BUFFER_BYTES = 1 << 12, 1 << 18
"""Buffer of a stranger, and of an association: a CT slice comes in two or three reads."""

HEAD = struct.Struct(">BxL")
"""Type and length of a PDU (PS3.8 9.3.1)."""
SEND_TIMEOUT_S = 30.0
"""[m assumption] Answers are small: a peer that takes none for so long is gone."""
SHORTEST_WAIT_S = 1e-3
LINGER_S, LINGER_BYTES = 2.0, 1 << 20
"""[m assumption] How long the end of a connection is waited for, so that the last PDU sent is not lost with it, and how
much that still comes is let pass meanwhile."""


class Wire:
    """One connection, read through a buffer.

    Parameters
    ----------
    connection
        Connected socket; TLS is shaken hands on already.
    slowest_bytes_per_s
        A peer that sends slower than this uses up the time it was given.
    """

    def __init__(self, connection: socket.socket, slowest_bytes_per_s: float) -> None:
        self._connection = connection
        self._gain_s = 1.0 / slowest_bytes_per_s
        self._buffer = memoryview(bytearray(SMALL_BYTES))
        self._start = self._end = 0
        self._allowed_s = self._left_s = 0.0
        self._gains = False

    def widen(self) -> None:
        """Use the large buffer from now on."""
        rest = bytes(self._buffer[self._start : self._end])
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

    def allow(self, seconds: float, *, gains: bool = True) -> None:
        """Give the peer time for what comes next; only waiting for it counts.

        Parameters
        ----------
        seconds
            Time without a byte, at most; and time in all, unless it ``gains``.
        gains
            Whether every byte prolongs the time, by as much as the slowest rate allows for it.
        """
        self._allowed_s = self._left_s = seconds
        self._gains = gains

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Yield the next ``count`` bytes in pieces; each is valid until the next one is asked for.

        Raises
        ------
        AssociationLost
            When the connection breaks, or the peer's time is up.
        """
        while count:
            if self._start == self._end:
                self._fill()
            piece = self._buffer[self._start : min(self._end, self._start + count)]
            self._start += len(piece)
            count -= len(piece)
            yield piece

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes; the caller has bounded them.

        Raises
        ------
        AssociationLost
            As ``pieces``.
        """
        if self._end - self._start >= count:
            self._start += count
            return bytes(self._buffer[self._start - count : self._start])
        return b"".join(bytes(piece) for piece in self.pieces(count))

    def read_head(self) -> tuple[int, int]:
        """Return type and length of the next PDU.

        Raises
        ------
        AssociationLost
            As ``pieces``.
        """
        kind, length = HEAD.unpack(self.read(HEAD.size))
        return int(kind), int(length)

    def send(self, content: bytes) -> None:
        """Send everything.

        Raises
        ------
        AssociationLost
            When the connection breaks, or the peer does not take it.
        """
        try:
            self._connection.settimeout(SEND_TIMEOUT_S)
            self._connection.sendall(content)
        except OSError:
            raise AssociationLost("connection_broken") from None

    def hang_up(self) -> None:
        """Say that nothing more comes and let the peer close: closing first would take the last PDU from it."""
        end, passed = time.monotonic() + LINGER_S, 0
        try:
            self._connection.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0 and passed < LINGER_BYTES:
                self._connection.settimeout(left)
                got = self._connection.recv_into(self._buffer)
                passed += got
                if not got:
                    return
        except (OSError, ValueError):
            return

    def _fill(self) -> None:
        before = time.monotonic()
        try:
            self._connection.settimeout(max(self._left_s, SHORTEST_WAIT_S))
            got = self._connection.recv_into(self._buffer)
        except TimeoutError:
            raise AssociationLost("silent_or_too_slow") from None
        except (OSError, ValueError):
            raise AssociationLost("connection_broken") from None
        if not got:
            raise AssociationLost("connection_closed")
        self._start, self._end = 0, got
        self._left_s -= time.monotonic() - before
        if self._gains:
            self._left_s = min(self._left_s + got * self._gain_s, self._allowed_s)
        elif self._left_s <= 0:
            raise AssociationLost("silent_or_too_slow")
