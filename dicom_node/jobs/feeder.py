"""Hands jobs to the engine: only as many as the living processes can run now, the most urgent first.

A job that waits stays in the table, so that its priority, its pause and the off-peak hours count until a place is
free. Every process may feed; a ticket can be drawn once.

A queue of the engine is named by its kind and by the places that each of its processes has (``cpu4``): the engine
keeps one number of places a queue, and hosts differ.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

import sqlalchemy as sa

from dicom_node.db.executors import living
from dicom_node.db.job_queue import Waiting, count_handed, hand_over, is_node_paused, waiting_jobs
from dicom_node.db.node_tables import Executor
from dicom_node.db.session import transaction
from dicom_node.jobs.execution import Step
from dicom_node.jobs.offpeak import in_window

KINDS = ("gpu", "cpu")


def served_queues(cpu_slots: int, gpu_slots: int) -> dict[str, int]:
    """Return the queues that a process with so many places serves, and its places in each."""
    return {f"{kind}{slots}": slots for kind, slots in zip(KINDS, (gpu_slots, cpu_slots), strict=True) if slots}


def capacities(executors: list[Executor]) -> dict[str, int]:
    """Return the places of every queue that a living process serves."""
    places: dict[str, int] = {}
    for one in executors:
        for queue, slots in served_queues(one.cpu_slots, one.gpu_slots).items():
            places[queue] = places.get(queue, 0) + slots
    return places


class Feeder:
    """One pass after another over the table.

    Parameters
    ----------
    research
        The database of jobs.
    steps
        The steps, to know which can use a GPU.
    enqueue
        Gives (job id, attempt, ticket) to a queue of the engine.
    stale_s
        A process without a sign of life for so long counts no more.
    offpeak_hours
        When off-peak jobs may begin.
    """

    def __init__(
        self,
        research: sa.Engine,
        steps: tuple[Step, ...],
        enqueue: Callable[[str, str, int, int], None],
        *,
        stale_s: float,
        offpeak_hours: str,
    ) -> None:
        self._research = research
        self._steps = steps
        self._enqueue = enqueue
        self._stale_s = stale_s
        self._offpeak_hours = offpeak_hours

    def __call__(self, now: datetime) -> int:
        """Make one pass; return how many jobs were handed over."""
        is_offpeak = in_window(now.astimezone(), self._offpeak_hours)
        with transaction(self._research) as session:
            if is_node_paused(session):
                return 0
            places = capacities(living(session, self._stale_s))
            free = {queue: count - count_handed(session, queue) for queue, count in places.items()}
            chosen: list[tuple[Waiting, str]] = []
            for kind in KINDS:
                open_queues = {queue: n for queue, n in free.items() if n > 0 and queue.startswith(kind)}
                if open_queues:
                    steps = self._steps_for(kind, has_gpu=any(queue.startswith("gpu") for queue in places))
                    waiting = waiting_jobs(
                        session, now, is_offpeak=is_offpeak, steps=steps, limit=sum(open_queues.values())
                    )
                    chosen += zip(waiting, _spread(open_queues), strict=False)
        return sum(self._hand(one, queue, now) for one, queue in chosen)

    def _steps_for(self, kind: str, *, has_gpu: bool) -> list[str]:
        """Return the steps a kind of queue takes: those that can use a GPU go to one where there is one."""
        return [step.name for step in self._steps if (has_gpu and step.can_use_gpu) == (kind == "gpu")]

    def _hand(self, one: Waiting, queue: str, now: datetime) -> bool:
        with transaction(self._research) as session:
            ticket = hand_over(session, one, queue, now)
        if ticket is None:
            return False
        self._enqueue(queue, one.job_id, one.attempt, ticket)
        return True


def _spread(free: dict[str, int]) -> Iterator[str]:
    """Yield a queue for every free place, always one with the most places left."""
    left = dict(free)
    while any(left.values()):
        queue = max(left, key=lambda name: left[name])
        left[queue] -= 1
        yield queue
