"""Durable workflows on DBOS: a job goes on where it was after a kill -9, and runs once.

The port is small: ``Steps`` says what a job does, ``JobEngine`` runs it. The engine stores job ids, delivery ids
and our own sentences; nothing else reaches its tables.

DBOS on SQLite is for one process; more than one is refused at start (a lock on the data folder).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any, Literal

from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos import error as dbos_error
from sqlalchemy.exc import OperationalError

from dicom_node.errors import JobFailed, NodeError, Unavailable
from dicom_node.jobs.failure import describe_failure
from dicom_node.logs import log

LOG = log(__name__)
JOB_QUEUE = "jobs"
DELIVERY_QUEUE = "deliveries"
WORKFLOW_SCHEMA = "1"
"""Version of the workflows' step sequence. DBOS recovers only workflows of the same version: raise it when the
sequence changes, and drain first."""
PARALLEL_DELIVERIES = 4
LONGEST_BACKOFF_S = 3600.0
RECOVERY_ATTEMPTS = 20
"""Restarts a job may survive; one that kills the node every time must end in the dead letter queue."""

PATIENT_TRIES = 1000
"""For the steps that must not be lost: with doubled pauses, an hour at most (DBOS's own limit), weeks."""
GOING_ON = ("PENDING", "ENQUEUED", "DELAYED")
"""DBOS statuses of a workflow that runs or will run."""

Attempt = Literal["sent", "again", "failed"]


@dataclass(frozen=True, slots=True)
class Steps:
    """What the engine calls. Every function can be repeated without harm."""

    run: tuple[tuple[str, Callable[[str], object]], ...]
    """(name, function of the job id), in order."""
    fail: Callable[[str, str], None]
    """(job id, sentence): the job ends as failed."""
    finish: Callable[[str], list[int]]
    """Job id: the job is done; returns the ids of its deliveries."""
    deliver: Callable[[int, int], Attempt]
    """(delivery id, attempt of the job): one try to send the results of that attempt."""
    give_up: Callable[[int, int], None]
    """(delivery id, attempt of the job): no more tries."""


class JobEngine:
    """A running engine.

    Parameters
    ----------
    database_url
        Where DBOS keeps its tables.
    steps
        The work.
    parallel_jobs
        Jobs analysed at the same time.
    delivery_attempts, delivery_backoff_s
        Attempts per delivery, and the pause after the first, doubled each time.
    """

    def __init__(
        self,
        database_url: str,
        steps: Steps,
        *,
        parallel_jobs: int,
        delivery_attempts: int,
        delivery_backoff_s: float,
    ) -> None:
        config: DBOSConfig = {
            "name": "osteonode",
            "system_database_url": database_url,
            "application_version": WORKFLOW_SCHEMA,
            "executor_id": "local",
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 0.5,
        }
        DBOS(config=config)
        backoffs = [min(delivery_backoff_s * 2**n, LONGEST_BACKOFF_S) for n in range(delivery_attempts)]
        self._delivery = DBOS.workflow(name="delivery", max_recovery_attempts=RECOVERY_ATTEMPTS)(
            _delivery_workflow(steps, backoffs)
        )
        self._job = DBOS.workflow(name="job", max_recovery_attempts=RECOVERY_ATTEMPTS)(
            _job_workflow(steps, self._delivery)
        )
        self._parallel_jobs = parallel_jobs

    def start(self) -> None:
        """Create the engine's tables, take up interrupted workflows and begin to work."""
        DBOS.launch()
        DBOS.register_queue(JOB_QUEUE, worker_concurrency=self._parallel_jobs, polling_interval_sec=0.5)
        DBOS.register_queue(DELIVERY_QUEUE, polling_interval_sec=0.5)

    def submit(self, job_id: str, attempt: int) -> None:
        """Enqueue one attempt of a job; a second call for the same attempt does nothing."""
        with SetWorkflowID(f"{job_id}:{attempt}"):
            DBOS.enqueue_workflow(JOB_QUEUE, self._job, job_id, attempt)

    def has_ended(self, job_id: str, attempt: int) -> bool:
        """Tell whether an attempt will never go on: it returned, broke off, or is unknown here."""
        status = DBOS.get_workflow_status(f"{job_id}:{attempt}")
        return status is None or status.status not in GOING_ON

    def stop(self) -> None:
        """Stop working; what is unfinished goes on at the next start."""
        DBOS.destroy(destroy_registry=True)


def _job_workflow(steps: Steps, delivery: Callable[[int, int], None]) -> Callable[[str, int], None]:
    def job(job_id: str, attempt: int) -> None:
        try:
            for name, function in steps.run:
                _step(name, function, job_id)
            for delivery_id in _step("finish", steps.finish, job_id):
                with SetWorkflowID(f"delivery:{delivery_id}:{attempt}"):
                    DBOS.enqueue_workflow(DELIVERY_QUEUE, delivery, delivery_id, attempt)
        except NodeError as error:
            _step("fail", steps.fail, job_id, str(error), tries=PATIENT_TRIES)
        except dbos_error.DBOSMaxStepRetriesExceeded:
            sentence = "A resource the job needs stayed unavailable; run the job again later."
            _step("fail", steps.fail, job_id, sentence, tries=PATIENT_TRIES)

    return job


def _delivery_workflow(steps: Steps, backoffs: list[float]) -> Callable[[int, int], None]:
    sending = BoundedSemaphore(PARALLEL_DELIVERIES)

    def deliver(delivery_id: int, attempt: int) -> Attempt:
        with sending:
            return steps.deliver(delivery_id, attempt)

    def delivery(delivery_id: int, attempt: int) -> None:
        for tries, pause_s in enumerate(backoffs, start=1):
            if _try(deliver, delivery_id, attempt) != "again":
                return
            if tries < len(backoffs):
                DBOS.sleep(pause_s)
        _step("give_up", steps.give_up, delivery_id, attempt, tries=PATIENT_TRIES)

    return delivery


def _try(deliver: Callable[[int, int], Attempt], delivery_id: int, attempt: int) -> Attempt:
    """Make one try; whatever goes wrong in it, the next try may go well."""
    try:
        outcome: Attempt = _step("deliver", deliver, delivery_id, attempt)
    except (NodeError, dbos_error.DBOSMaxStepRetriesExceeded):
        return "again"
    return outcome


def _step(name: str, function: Callable[..., Any], *arguments: object, tries: int = 5) -> Any:
    """Run one checkpointed step; only errors of our own tree, whose sentences are safe, reach the engine.

    A database that is away is waited for, as every ``Unavailable`` is: ``tries`` times, with growing pauses.
    """

    def guarded() -> Any:
        began = time.monotonic()
        try:
            return function(*arguments)
        except NodeError as error:
            raise type(error)(str(error)) from None
        except OperationalError:
            raise Unavailable("A database did not answer.") from None
        except Exception as error:  # noqa: BLE001 - the boundary: any error becomes a job state
            LOG.error("step_failed", step=name, failure=describe_failure(error))
            raise JobFailed(f"Step {name} ended abnormally: {describe_failure(error)}.") from None
        finally:
            LOG.info("step_ended", step=name, subject=arguments[0], seconds=round(time.monotonic() - began, 2))

    options: Any = {
        "name": name,
        "retries_allowed": True,
        "max_attempts": tries,
        "interval_seconds": 2.0,
        "backoff_rate": 2.0,
        "should_retry": lambda error: isinstance(error, Unavailable),
    }
    return DBOS.run_step(options, guarded)
