"""What one session of a training has to itself: its folder, and the end of the step it is in."""

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.errors import ConfigurationError

STOPS = (signal.SIGINT, signal.SIGTERM)
CANNOT_LOCK = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)
"""What flock(2) says on file systems that lock files opened for writing only, or nothing."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder; the lock ends with the process, however it ends.

    A file system that cannot lock a folder, as NFS, keeps nobody out.

    Raises
    ------
    ConfigurationError
        When another training is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"Another training is at work in {folder}; wait for it, or stop it.") from None
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
        yield
    finally:
        os.close(descriptor)


@contextmanager
def stop_between_steps() -> Iterator[Callable[[], bool]]:
    """Hold back Ctrl-C and SIGTERM; yields whether one came, and lets it act at the end. A second one acts at once."""
    came: list[int] = []

    def hold(number: int, _frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    earlier = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                earlier[number] = signal.signal(number, hold) or signal.SIG_DFL
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    for held in came:
        signal.raise_signal(held)
