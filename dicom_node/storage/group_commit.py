"""Group commit: what several threads want durable at the same time costs one commit.

There is no thread and no waiting for company: who comes first commits at once, and whoever comes meanwhile is
committed together by the next one. Alone, it costs nothing.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class GroupCommit(Generic[Entry]):
    """Commits entries together.

    Parameters
    ----------
    commit
        Makes a batch durable; returns an error for each entry that failed, None for the others. What it raises
        meets every entry of the batch.
    """

    def __init__(self, commit: Callable[[Sequence[Entry]], Sequence[Exception | None]]) -> None:
        self._commit = commit
        self._queue_lock, self._turn = Lock(), Lock()
        self._queue: list[_Ticket[Entry]] = []

    def __call__(self, entry: Entry) -> None:
        """Return when the entry is durable.

        Raises
        ------
        Exception
            As ``commit`` returned or raised it.
        """
        ticket = _Ticket(entry)
        with self._queue_lock:
            self._queue.append(ticket)
        with self._turn:
            if not ticket.is_done:
                self._commit_queue()
        if ticket.error is not None:
            raise ticket.error

    def _commit_queue(self) -> None:
        with self._queue_lock:
            batch, self._queue = self._queue, []
        try:
            errors = self._commit([ticket.entry for ticket in batch])
        except Exception as error:  # noqa: BLE001 - handed to every thread that waits
            errors = [error] * len(batch)
        for ticket, one in zip(batch, errors, strict=True):
            ticket.error, ticket.is_done = one, True


class _Ticket(Generic[Entry]):
    """An entry, and what became of it."""

    __slots__ = ("entry", "error", "is_done")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.error: Exception | None = None
        self.is_done = False
