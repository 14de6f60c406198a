"""Looks after one child process while its parent listens: time, memory, and whether it is still wanted."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from dicom_node.errors import ClaimLost, JobFailed, NodeError
from dicom_node.jobs.failure import describe_failure
from dicom_node.jobs.family import end_family, resident_bytes
from dicom_node.logs import log

LOG = log(__name__)
LOOK_EVERY_S = 0.25
ASK_EVERY_S = 0.5
"""How often the owner is asked and the memory measured. A cancelled step ends within a second: one pause, one question,
one kill."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child and its own children may use; 0 bytes: any."""

    time_s: float
    memory_bytes: int


class Watch:
    """A context in which a thread ends a family, by its leader and mark, as soon as there is a verdict on it.

    Attributes
    ----------
    verdict
        Why it was ended; None when the watch did not end it.
    """

    def __init__(self, pid: int, mark: str, limits: Limits, is_wanted: Callable[[], bool]) -> None:
        self.verdict: NodeError | None = None
        self._pid = pid
        self._mark = mark
        self._limits = limits
        self._is_wanted = is_wanted
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="child-watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        began = asked = time.monotonic()
        while not self._over.wait(min(LOOK_EVERY_S, self._limits.time_s)):
            now = time.monotonic()
            verdict = self._of_time(now - began)
            if verdict is None and now - asked >= ASK_EVERY_S:
                asked = now
                verdict = self._of_memory() or self._of_owner()
            if verdict is not None:
                self.verdict = verdict
                end_family(self._pid, self._mark)
                return

    def _of_time(self, seconds: float) -> NodeError | None:
        limit_s = self._limits.time_s
        return JobFailed(f"The step passed its time limit of {limit_s:.0f} s.") if seconds >= limit_s else None

    def _of_memory(self) -> NodeError | None:
        limit = self._limits.memory_bytes
        if not limit or resident_bytes(self._pid) <= limit:
            return None
        return JobFailed(f"The step passed its memory limit of {limit / 1e9:.1f} GB.")

    def _of_owner(self) -> NodeError | None:
        try:
            is_wanted = self._is_wanted()
        except Exception as error:  # noqa: BLE001 - the boundary: a database that is away does not end a step
            LOG.warning("owner_not_asked", failure=describe_failure(error))
            return None
        return None if is_wanted else ClaimLost("The step was cancelled, or another process has taken it over.")
