"""The receiving side of a node: listening sockets, the receiver behind them, and as many processes as are set.

With one receiving process it is the node's own. With more, each is a child that only receives; they share the
listening sockets, the table of seats, the databases and the disk, and nothing else. All of them accept from the same
sockets, rather than each from one of its own with SO_REUSEPORT: the kernel would deal connections out by a hash of
their addresses, so that four associations of one PACS often meet in one process, and would drop those that wait in
the queue of a process that dies.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dicom_node.db.session import Databases, open_databases
from dicom_node.errors import ConfigurationError
from dicom_node.logs import configure_logging, log
from dicom_node.net.scp import Receiver
from dicom_node.net.seats import Seats
from dicom_node.receiver import close_listeners, listeners_of, make_receiver, open_listeners
from dicom_node.settings import Settings
from dicom_node.storage.spool import SPOOL_FOLDER, sweep_spool

LOG = log(__name__)

SEATS_FILE = "associations.seats"
START_S = 60.0
"""[m assumption] A process that has not said after so long that it receives has failed."""
STOP_S = 15.0
"""[m assumption] A process that has not ended so long after it was asked to is killed."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""[m assumption] Before a process that ended is started again; doubled each time it ends soon."""


class Receiving:
    """Everything that receives over DICOM in a node.

    Parameters
    ----------
    settings
        The node's settings.
    databases
        Its databases.

    Raises
    ------
    ConfigurationError
        When a port cannot be listened on, or a receiving process does not start.
    """

    def __init__(self, settings: Settings, databases: Databases) -> None:
        settings.hospital_dir.mkdir(parents=True, exist_ok=True)
        self.swept = sweep_spool(settings.hospital_dir / SPOOL_FOLDER)
        self._seats = Seats(settings.max_associations, settings.hospital_dir / SEATS_FILE)
        self._seats.clear()
        self._listeners = open_listeners(settings)
        sockets = [one.opened for one in self._listeners if one.opened is not None]
        self.ports = tuple(int(one.getsockname()[1]) for one in sockets)
        self._receiver: Receiver | None = None
        self._processes: list[_ReceivingProcess] = []
        if settings.receiving_processes == 1:
            self._receiver = make_receiver(settings, databases, self._listeners, self._seats)
            return
        count = settings.receiving_processes
        self._processes = [_ReceivingProcess(settings, sockets, self._seats) for _ in range(count)]
        try:
            for process in self._processes:
                process.wait_until_ready()
        except ConfigurationError:
            self.close()
            raise

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The receiving processes."""
        return tuple(one.process_id for one in self._processes) or (os.getpid(),)

    def close(self) -> None:
        """Stop receiving."""
        for process in self._processes:
            process.ask_to_stop()
        for process in self._processes:
            process.wait_until_ended()
        if self._receiver is not None:
            self._receiver.close()
        close_listeners(self._listeners)
        self._seats.close()


class _ReceivingProcess:
    """A child process that receives, watched over by a thread: when it ends, another takes its place."""

    def __init__(self, settings: Settings, sockets: Sequence[socket.socket], seats: Seats) -> None:
        self._settings = settings
        self._sockets = sockets
        self._seats = seats
        self._changing = threading.Lock()
        self._is_stopping = threading.Event()
        self._is_decided = threading.Event()
        self._has_received = False
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, name="receiving-process", daemon=True)
        self._thread.start()

    @property
    def process_id(self) -> int:
        """Of the process that receives now."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Wait until it receives.

        Raises
        ------
        ConfigurationError
            When it does not.
        """
        self._is_decided.wait(START_S)
        if not self._has_received:
            raise ConfigurationError("A receiving process did not start; the log says why.")

    def ask_to_stop(self) -> None:
        """Ask it to end, by closing what it listens to."""
        with self._changing:
            self._is_stopping.set()
            assert self._process.stdin is not None
            self._process.stdin.close()

    def wait_until_ended(self) -> None:
        """Wait for its end, and make sure of it."""
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join(STOP_S)

    def _start(self) -> "subprocess.Popen[str]":
        numbers = [one.fileno() for one in self._sockets]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=numbers,
        )
        assert process.stdin is not None
        task = {"settings": self._settings.model_dump(mode="json"), "sockets": numbers}
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            LOG.error("receiving_process_not_started", process_id=process.pid)
        return process

    def _watch(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            assert self._process.stdout is not None
            self._has_received |= bool(self._process.stdout.readline())
            self._is_decided.set()
            code = self._process.wait()
            process_id = self._process.pid
            self._clean_up_after(process_id)
            if self._is_stopping.is_set():
                return
            has_lasted = time.monotonic() - began > LONGEST_PAUSE_S
            pause_s = FIRST_PAUSE_S if has_lasted else min(pause_s * 2, LONGEST_PAUSE_S)
            LOG.error("receiving_process_ended", process_id=process_id, exit_code=code, next_in_s=pause_s)
            self._is_stopping.wait(pause_s)
            with self._changing:
                if self._is_stopping.is_set():
                    return
                self._process = self._start()

    def _clean_up_after(self, process_id: int) -> None:
        """Give back what a process that has ended held: its seats, its half-written files, its pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        seats = self._seats.give_back_all_of(process_id)
        files = sweep_spool(self._settings.hospital_dir / SPOOL_FOLDER, process_id)
        if seats or files:
            LOG.warning("receiving_process_cleaned_up_after", process_id=process_id, seats=seats, files=files)


def _serve_as_child() -> None:
    """Be a receiving process: read the task, receive until the parent closes the pipe or dies."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a stop of the node comes through the pipe, in its turn
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    settings = Settings(**task["settings"])
    configure_logging(settings.log_level, settings.log_format)
    sockets = [socket.socket(fileno=number) for number in task["sockets"]]
    listeners = [replace(one, opened=opened) for one, opened in zip(listeners_of(settings), sockets, strict=True)]
    databases = open_databases(settings)
    seats = Seats(settings.max_associations, settings.hospital_dir / SEATS_FILE)
    receiver = make_receiver(settings, databases, listeners, seats)
    channel.write("ready\n")
    sys.stdin.read()
    receiver.close()
    databases.dispose()
    os._exit(0)


if __name__ == "__main__":
    _serve_as_child()
