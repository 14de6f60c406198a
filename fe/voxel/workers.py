"""Threads for the compiled loops.

The kernels release Python's lock, so plain threads run them side by side. A thread that waits sleeps: on a machine
that is busy with other work this costs little, where the spinning threads of OpenMP made a solve ten times slower
(measured). Which thread does which part never changes a result.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Workers:
    """A fixed number of threads, the calling one included."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = available_cores() if threads is None else threads
        self._pool = ThreadPoolExecutor(self.threads - 1, "fe") if self.threads > 1 else None

    def run(self, count: int, least: int, work: Callable[[int, int], None]) -> None:
        """Call ``work(begin, end)`` for parts of ``range(count)``, none smaller than ``least``, and wait for all."""
        parts = min(self.threads, count // least) if self._pool is not None else 1
        if self._pool is None or parts <= 1:
            work(0, count)
            return
        bounds = [part * count // parts for part in range(parts + 1)]
        others = [self._pool.submit(work, bounds[part], bounds[part + 1]) for part in range(1, parts)]
        work(bounds[0], bounds[1])
        for other in others:
            other.result()


ALONE = Workers(1)
"""The calling thread and no other."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)
