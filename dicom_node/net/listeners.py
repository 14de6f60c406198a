"""Listening sockets, and the connections that have not asked for an association yet.

A connection costs a thread, and a caller that says nothing could hold as many as it likes. So those that wait are
few: when one more comes, the one that has said nothing for longest is closed. Health checks of load balancers, port
scanners and slow-loris callers keep nobody out, as an honest peer asks within milliseconds.
"""

import select
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dicom_node.logs import log

LOG = log(__name__)

BACKLOG = 128
PAUSE_S = 0.2
"""[m assumption] After a connection could not be accepted for want of descriptors."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One place to listen on: host, port (0 picks a free one), TLS where it is set, and the socket if it is open."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    opened: socket.socket | None = None

    def open(self) -> socket.socket:
        """Return a socket that listens.

        It may be shared: several processes that accept from one socket each get what they are ready for, and a
        process that dies leaves nobody in a queue of its own.

        Raises
        ------
        OSError
            When the port is taken or the address is not this machine's.
        """
        if self.opened is not None:
            return self.opened
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((self.host, self.port))
            opened.listen(BACKLOG)
            opened.setblocking(False)
        except OSError:
            opened.close()
            raise
        return opened


class WaitingRoom:
    """Connections that have not asked for an association; the longest waiting one makes place for a new one."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._waiting: OrderedDict[int, socket.socket] = OrderedDict()
        self.turned_out = 0

    def enter(self, connection: socket.socket) -> None:
        """Take a connection in."""
        with self._lock:
            while len(self._waiting) >= self._places:
                _, longest = self._waiting.popitem(last=False)
                self.turned_out += 1
                cut(longest)
            self._waiting[id(connection)] = connection

    def leave(self, connection: socket.socket) -> None:
        """Let a connection go: it has asked, or it has ended."""
        with self._lock:
            self._waiting.pop(id(connection), None)


class Doors:
    """Accepts connections on several sockets and gives each to a thread of its own.

    Parameters
    ----------
    listeners
        Where to listen.
    serve
        Called in the connection's thread with the connection, the caller's address and the listener.
    """

    def __init__(self, listeners: Sequence[Listener], serve: Callable[[socket.socket, str, Listener], None]) -> None:
        self._serve = serve
        self._stopping = False
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self.sockets: list[socket.socket] = []
        try:
            for listener in listeners:
                self.sockets.append(listener.open())
        except OSError:
            self._close_sockets()
            raise
        self._listeners = dict(zip(self.sockets, listeners, strict=True))
        self._thread = threading.Thread(target=self._run, name="dicom-accept", daemon=True)
        self._thread.start()

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports, in the order of the listeners."""
        return tuple(int(one.getsockname()[1]) for one in self.sockets)

    def close(self) -> None:
        """Stop accepting."""
        self._stopping = True
        self._wake_sender.send(b"\0")
        self._thread.join()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for one in (*self.sockets, self._wake_receiver, self._wake_sender):
            one.close()

    def _run(self) -> None:
        poll = select.poll()
        by_number = {one.fileno(): one for one in self.sockets}
        for number in (*by_number, self._wake_receiver.fileno()):
            poll.register(number, select.POLLIN)
        while not self._stopping:
            for number, _ in poll.poll():
                if number in by_number and not self._stopping:
                    self._accept(by_number[number])

    def _accept(self, door: socket.socket) -> None:
        try:
            connection, address = door.accept()
        except (BlockingIOError, ConnectionError):
            return  # another process was faster, or the caller has gone
        except OSError as error:
            LOG.error("connection_not_accepted", error=type(error).__name__, errno=error.errno)
            threading.Event().wait(PAUSE_S)
            return
        thread = threading.Thread(
            target=self._serve, args=(connection, str(address[0]), self._listeners[door]), name="dicom", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            LOG.error("connection_not_served", error=type(error).__name__)
            connection.close()


def cut(connection: socket.socket) -> None:
    """End a connection that another thread waits for; that thread closes it."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not TLS's own, which is not for two threads
    except OSError:
        return
