"""Durable workflows on DBOS: each step of a job, and each try of a delivery, survives a kill -9 and counts once.

The port is small: ``Steps`` says what is done, ``JobEngine`` runs it. This is the only module that imports DBOS. The
engine stores job ids, delivery ids and our own sentences; which job is next, and who may write for it, stands in the
table of jobs (``dicom_node.db.job_queue``). One workflow is one step: what follows is decided by the table again.

DBOS on SQLite is for one process (a lock on the data folder); more than one needs PostgreSQL (``dicom_node.worker``).
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID
from dbos import error as dbos_error

from dicom_node import clock
from dicom_node.db.job_queue import put_in_queue
from dicom_node.db.session import transaction
from dicom_node.errors import JobFailed, NodeError, Unavailable
from dicom_node.jobs.execution import AWAY, PATIENT_TRIES, Execution, Step
from dicom_node.jobs.failure import describe_failure
from dicom_node.jobs.feeder import Feeder, served_queues
from dicom_node.jobs.reaper import Reaper, Workflow
from dicom_node.logs import log
from dicom_node.storage.files import new_id

LOG = log(__name__)
DELIVERY_QUEUE = "deliveries"
WORKFLOW_SCHEMA = "2"
"""Version of the workflows. DBOS runs only workflows of its own version: raise it when one changes. What was under way
in an older version is taken up anew from our own tables (``dicom_node.jobs.reaper``)."""
PARALLEL_DELIVERIES = 2
"""To one peer at the same time; a peer that is away takes up these and no other peer's."""
RECOVERY_ATTEMPTS = 20
"""Restarts a workflow may survive; ``dicom_node.jobs.retries.LOSSES`` ends a job earlier."""
POLLING_S = 0.25
FEED_EVERY_S = 0.5
GOING_ON = ("PENDING", "ENQUEUED", "DELAYED")
"""DBOS statuses of a workflow that runs or will run."""
ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
KEPT_FOR = timedelta(days=1)
TIDIED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Steps:
    """What the engine calls. Every function can be repeated without harm."""

    run: tuple[Step, ...]
    """The steps of a job, in order; the job is done after the last."""
    deliver: Callable[[int, int], object]
    """(delivery id, number of the try): one try; whether and when there is a next one stands in the row."""
    put_off: Callable[[int, int], object]
    """(delivery id, number of the try): the try ended abnormally; the row gets a time for the next."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much this process runs, and when.

    Attributes
    ----------
    cpu_slots, gpu_slots
        Steps run at the same time.
    heartbeat_s, stale_s
        The pause between two signs of life, and how long one lasts.
    offpeak_hours
        When off-peak jobs may begin.
    """

    cpu_slots: int = 1
    gpu_slots: int = 0
    heartbeat_s: float = 5.0
    stale_s: float = 30.0
    offpeak_hours: str = ""


class JobEngine:
    """A running engine.

    Parameters
    ----------
    database_url
        Where DBOS keeps its tables.
    research
        The database of jobs.
    steps
        The work.
    capacity
        How much of it this process does.
    """

    def __init__(
        self,
        database_url: str,
        research: sa.Engine,
        steps: Steps,
        capacity: Capacity,
        *,
        workflow_schema: str = WORKFLOW_SCHEMA,
    ) -> None:
        self.executor_id = f"{socket.gethostname()[:60]}:{new_id()[:12]}"
        config: DBOSConfig = {
            "name": "osteonode",
            "system_database_url": database_url,
            "application_version": workflow_schema,
            "executor_id": self.executor_id,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 0.5,
        }
        DBOS(config=config)
        self._research = research
        self._capacity = capacity
        self._stopping = threading.Event()
        self._wake = threading.Event()
        execution = Execution(research, steps.run, self.executor_id, self._stopping)
        self._running: set[str] = set()
        self._delivery = _workflow("delivery", self._tracked(_delivery_workflow(steps)))
        self._step = _workflow("step", self._tracked(_step_workflow(execution, self._wake)))
        self._feeder = Feeder(
            research, steps.run, self.enqueue, stale_s=capacity.stale_s, offpeak_hours=capacity.offpeak_hours
        )
        self._reaper = Reaper(
            research,
            self,
            self.executor_id,
            workflow_schema,
            (capacity.cpu_slots, capacity.gpu_slots),
            heartbeat_s=capacity.heartbeat_s,
            stale_s=capacity.stale_s,
        )
        self._stack = ExitStack()

    def start(self) -> None:
        """Create the engine's tables, take up interrupted workflows and begin to work."""
        served = served_queues(self._capacity.cpu_slots, self._capacity.gpu_slots)
        DBOS.listen_queues([*served, DELIVERY_QUEUE])
        DBOS.launch()
        for queue, count in served.items():
            DBOS.register_queue(queue, worker_concurrency=count, polling_interval_sec=POLLING_S)
        DBOS.register_queue(
            DELIVERY_QUEUE, partition_worker_concurrency=PARALLEL_DELIVERIES, polling_interval_sec=2 * POLLING_S
        )
        self._reaper.first_beat()
        self._stack.enter_context(
            self._repeat("heartbeat", lambda: self._reaper(clock.now()), self._capacity.heartbeat_s)
        )
        self._stack.enter_context(self._repeat("feeder", lambda: self._feeder(clock.now()), FEED_EVERY_S, self._wake))

    def submit(self, job_id: str, attempt: int, priority: str = "normal") -> None:
        """Let one attempt of a job wait for a free worker; a second call for the same attempt does nothing."""
        with transaction(self._research) as session:
            put_in_queue(session, job_id, attempt, priority, clock.now())
        self._wake.set()

    def deliver(self, delivery_id: int, number: int, peer_id: int) -> None:
        """Enqueue one try of a delivery; a second call for the same try does nothing."""
        with SetWorkflowID(_try_id(delivery_id, number)), SetEnqueueOptions(queue_partition_key=str(peer_id)):
            DBOS.enqueue_workflow(DELIVERY_QUEUE, self._delivery, delivery_id, number)

    def has_tried(self, delivery_id: int, number: int) -> bool:
        """Tell whether a try will never go on: it returned, broke off, or is unknown here."""
        return not _is_going_on(_try_id(delivery_id, number))

    def stop(self) -> None:
        """Stop working; what is unfinished goes on at the next start, or in another process."""
        self._stopping.set()
        self._stack.close()
        DBOS.destroy(destroy_registry=True)
        try:
            self._reaper.leave()
        except AWAY:
            LOG.warning("executor_not_signed_off")

    def enqueue(self, queue: str, job_id: str, attempt: int, ticket: int) -> None:
        """Enqueue a step; a second call for the same ticket does nothing."""
        with SetWorkflowID(f"{job_id}:{attempt}:{ticket}"):
            DBOS.enqueue_workflow(queue, self._step, job_id, attempt, ticket)

    def is_going_on(self, job_id: str, attempt: int, ticket: int) -> bool | None:
        """Tell whether the workflow of a ticket goes on; None when there is none."""
        return _is_going_on(f"{job_id}:{attempt}:{ticket}")

    def going_on(self) -> list[Workflow]:
        """Return every workflow that runs or will run."""
        found = DBOS.list_workflows(status=list(GOING_ON), load_input=False, load_output=False)
        return [
            Workflow(one.workflow_id, one.executor_id or "", one.app_version or "", one.status == "PENDING")
            for one in found
        ]

    def runs_here(self, workflow_id: str) -> bool:
        """Tell whether a workflow really runs in this process."""
        return workflow_id in self._running

    def _tracked(self, function: Callable[..., None]) -> Callable[..., None]:
        """Make a workflow's function known as running for as long as it does."""

        def tracked(*arguments: object) -> None:
            workflow_id = str(DBOS.workflow_id)
            self._running.add(workflow_id)
            try:
                function(*arguments)
            finally:
                self._running.discard(workflow_id)

        return tracked

    def repeat(self, executor_ids: list[str]) -> None:
        """Have the running workflows of these processes repeated by others.

        DBOS has no public function for it (3.4); tests/integration/test_job_contract.py holds this one to what it does.
        """
        DBOS._recover_pending_workflows(executor_ids)

    def drop(self, workflow_ids: list[str]) -> None:
        """Let these workflows never go on."""
        DBOS.cancel_workflows(workflow_ids)

    def tidy(self, now: datetime) -> None:
        """Delete workflows that ended long ago: what they were for stands in our own tables."""
        before = (now - KEPT_FOR).isoformat()
        ended = DBOS.list_workflows(
            status=list(ENDED), end_time=before, limit=TIDIED_AT_ONCE, load_input=False, load_output=False
        )
        if ended:
            DBOS.delete_workflows([one.workflow_id for one in ended])
            LOG.info("workflows_deleted", count=len(ended))

    @contextmanager
    def _repeat(
        self, name: str, action: Callable[[], object], every_s: float, wake: threading.Event | None = None
    ) -> Iterator[None]:
        """Call ``action`` in a thread of its own until the engine stops; an error is logged and the next call made."""

        def loop() -> None:
            while not self._stopping.is_set():
                try:
                    action()
                except Exception as error:  # noqa: BLE001 - the boundary: one bad pass must not end the engine
                    LOG.error("pass_failed", loop=name, failure=describe_failure(error))
                (wake or self._stopping).wait(every_s)
                if wake is not None:
                    wake.clear()

        thread = threading.Thread(target=loop, name=name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            if wake is not None:
                wake.set()
            thread.join(timeout=30)


def _try_id(delivery_id: int, number: int) -> str:
    return f"delivery:{delivery_id}:try{number}"


def _is_going_on(workflow_id: str) -> bool | None:
    status = DBOS.get_workflow_status(workflow_id)
    return None if status is None else status.status in GOING_ON


def _workflow(name: str, function: Callable[..., None]) -> Callable[..., None]:
    workflow: Callable[..., None] = DBOS.workflow(name=name, max_recovery_attempts=RECOVERY_ATTEMPTS)(function)
    return workflow


def _step_workflow(execution: Execution, wake: threading.Event) -> Callable[[str, int, int], None]:
    def step(job_id: str, attempt: int, ticket: int) -> None:
        done = DBOS.run_step({"name": "work"}, execution.work, job_id, attempt, ticket)
        if done is not None:
            DBOS.run_step({"name": "record"}, execution.record, done)
        wake.set()

    return step


def _delivery_workflow(steps: Steps) -> Callable[[int, int], None]:
    def delivery(delivery_id: int, number: int) -> None:
        try:
            _try("deliver", steps.deliver, delivery_id, number, tries=5)
        except (NodeError, dbos_error.DBOSMaxStepRetriesExceeded):
            _try("put_off", steps.put_off, delivery_id, number, tries=PATIENT_TRIES)

    return delivery


def _try(name: str, function: Callable[[int, int], object], delivery_id: int, number: int, tries: int) -> None:
    """Run one checkpointed step; only errors of our own tree, whose sentences are safe, reach the engine.

    A DICOM library's exception may quote the value it could not read; DBOS would pickle it, traceback and all.
    """

    def guarded() -> None:
        began = time.monotonic()
        try:
            function(delivery_id, number)
        except NodeError as error:
            raise type(error)(str(error)) from None
        except AWAY:
            raise Unavailable("A database did not answer.") from None
        except Exception as error:  # noqa: BLE001 - the boundary: any error becomes a state of the delivery
            LOG.error("step_failed", step=name, failure=describe_failure(error))
            raise JobFailed(f"Step {name} ended abnormally: {describe_failure(error)}.") from None
        finally:
            LOG.info("step_ended", step=name, subject=delivery_id, seconds=round(time.monotonic() - began, 2))

    options: Any = {
        "name": name,
        "retries_allowed": True,
        "max_attempts": tries,
        "interval_seconds": 2.0,
        "backoff_rate": 2.0,
        "should_retry": lambda error: isinstance(error, Unavailable),
    }
    DBOS.run_step(options, guarded)
