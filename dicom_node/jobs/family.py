"""A process and everything it started: found through ``/proc``, ended together, measured together.

A child may start children, those may leave its process group, and their parent may end before them. On Linux they are
found all the same: by who started them, and by a mark in the environment that they inherit. Elsewhere the process group
has to do.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "OSTEONODE_FAMILY"
"""Environment variable that every member of a family inherits."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ROUNDS = 20
"""A family that starts processes while it is being ended is looked for again, so many times at most."""


def end_family(leader: int, mark: str) -> None:
    """Kill a process that leads a process group, the group, and all it started; one that has ended is no error.

    The processes are stopped before they are killed, so that none starts another one meanwhile. The process that calls
    this is spared, also where it is a member.

    Parameters
    ----------
    leader
        The process.
    mark
        Value of ``MARK`` in its environment.
    """
    known = {os.getpid()}
    for _ in range(ROUNDS):
        found = {leader, *descendants(leader), *_marked(mark)} - known
        if not found:
            break
        known |= found
        for pid in found:
            _send(pid, signal.SIGSTOP)
    for pid in known - {os.getpid()}:
        _send(pid, signal.SIGKILL)
    if leader != os.getpid():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def descendants(pid: int) -> Iterator[int]:
    """Yield the descendants of a process, without itself."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    waiting = children.pop(pid, [])
    while waiting:
        child = waiting.pop()
        yield child
        waiting += children.pop(child, [])


def resident_bytes(leader: int) -> int:
    """Return the memory a process and its descendants have in use together; shared pages count for each."""
    return sum(_resident_bytes(pid) for pid in (leader, *descendants(leader)))


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process of the machine and its parent. The name in ``stat`` may hold anything, brackets too."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def _marked(mark: str) -> Iterator[int]:
    """Yield the processes that inherited a mark; those of other users cannot be read."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
