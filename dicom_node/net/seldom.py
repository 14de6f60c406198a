"""Lines of the log that must not come often: about port scanners, and about a thousand images refused alike."""

import time
from collections.abc import Hashable
from threading import Lock

PAUSE_S = 60.0
"""[m assumption] Between two lines about the same thing."""
MAX_REMEMBERED = 1000


class Seldom:
    """Tells which line is due; safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def since_last(self, about: Hashable) -> int | None:
        """Return how often this happened unsaid since the last line about it; None: no line is due."""
        now = time.monotonic()
        with self._lock:
            if len(self._seen) >= MAX_REMEMBERED and about not in self._seen:
                self._seen.clear()
            told_s, count = self._seen.get(about, (now - PAUSE_S, 0))
            if now - told_s < PAUSE_S:
                self._seen[about] = (told_s, count + 1)
                return None
            self._seen[about] = (now, 0)
            return count
