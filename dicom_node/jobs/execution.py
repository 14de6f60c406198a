"""One step of a job, from the moment a process takes it to the row that says how it ended.

Nothing here knows the engine. ``work`` and ``record`` are two functions so that the engine can keep the outcome of the
first: when the process dies between them, only the second is repeated.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from threading import Event
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, OperationalError

from dicom_node import clock
from dicom_node.db.job_queue import Claim, begin, end_step
from dicom_node.db.session import transaction
from dicom_node.errors import ClaimLost, InputGone, JobFailed, JobHeld, NodeError, Unavailable
from dicom_node.jobs.failure import describe_failure
from dicom_node.jobs.retries import LOSSES, retry_of
from dicom_node.logs import log
from dicom_node.storage.files import new_id

LOG = log(__name__)
AWAY = (OperationalError, InterfaceError)
"""What SQLAlchemy raises when a database is away."""
LONGEST_PAUSE_S = 10.0
PATIENT_TRIES = 1000
"""A database is waited for almost three hours; then the step is given back."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, what it does, and whether it can use a GPU. ``run`` returns a sentence for people, or ""."""

    name: str
    run: Callable[[Claim], str]
    can_use_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended: a kind of ``JOB_EVENTS``, a sentence, and what follows."""

    kind: str
    sentence: str = ""
    next_step: str = ""
    pause_s: float = 0.0


class Execution:
    """Runs steps for one process.

    Parameters
    ----------
    research
        The database of jobs.
    steps
        The steps in order.
    executor_id
        The process's name in the tables.
    stopping
        Set when the process stops: nothing is waited for any more.
    """

    def __init__(self, research: sa.Engine, steps: tuple[Step, ...], executor_id: str, stopping: Event) -> None:
        self._research = research
        self._steps = {step.name: step for step in steps}
        self._order = [step.name for step in steps]
        self._executor_id = executor_id
        self._stopping = stopping

    def work(self, job_id: str, attempt: int, ticket: int) -> dict[str, dict[str, object]] | None:
        """Take the step a ticket is for and run it; return claim and outcome as JSON, None when there is none to take.

        Never raises an error: each becomes an outcome.
        """
        claim = self._patiently(lambda: self._begin(job_id, attempt, ticket))
        if claim is None:
            return None
        began = time.monotonic()
        outcome = self._judged(claim)
        seconds = round(time.monotonic() - began, 2)
        LOG.info("step_ended", step=claim.step, job_id=job_id, outcome=outcome.kind, seconds=seconds)
        return {"claim": asdict(claim), "outcome": asdict(outcome)}

    def record(self, done: dict[str, dict[str, object]]) -> None:
        """Write how a step ended, if nobody has taken the job over meanwhile. Can be repeated."""
        claim, outcome = Claim(**done["claim"]), Outcome(**done["outcome"])  # type: ignore[arg-type]
        try:
            self._patiently(lambda: self._write(claim, outcome))
        except ClaimLost:
            LOG.warning("step_disowned", job_id=claim.job_id, step=claim.step)

    def _begin(self, job_id: str, attempt: int, ticket: int) -> Claim | None:
        with transaction(self._research) as session:
            return begin(session, job_id, attempt, ticket, new_id(), self._executor_id, clock.now())

    def _judged(self, claim: Claim) -> Outcome:
        """Run the step; whatever goes wrong in it is an outcome."""
        try:
            return self._run(claim)
        except InputGone as error:
            is_allowed = claim.rewinds < _repeats(InputGone) and self._order.index(error.step) < self._order.index(
                claim.step
            )
            return Outcome("rewound", str(error), next_step=error.step) if is_allowed else Outcome("failed", str(error))
        except JobHeld as error:
            return Outcome("held", str(error))
        except NodeError as error:
            return _outcome_of(error, claim.tries)

    def _run(self, claim: Claim) -> Outcome:
        """Run the step; only errors of our own tree, whose sentences are safe, leave it.

        A DICOM library's exception may quote the value it could not read; that must not reach a database or a log.
        """
        if claim.losses > LOSSES:
            raise JobFailed(
                f"The process that ran the step {claim.step} was lost {claim.losses} times; the job may be the cause."
            )
        try:
            sentence = self._steps[claim.step].run(claim)
        except NodeError:
            raise
        except AWAY:
            raise Unavailable("A database did not answer.") from None
        except Exception as error:  # noqa: BLE001 - the boundary: any error becomes a job state
            LOG.error("step_failed", step=claim.step, job_id=claim.job_id, failure=describe_failure(error))
            raise JobFailed(f"Step {claim.step} ended abnormally: {describe_failure(error)}.") from None
        following = self._order[self._order.index(claim.step) + 1 :]
        return Outcome("ended", sentence, next_step=following[0] if following else "")

    def _write(self, claim: Claim, outcome: Outcome) -> None:
        now = clock.now()
        values: dict[str, object] = {}
        if outcome.kind in ("repeated", "rewound"):
            values |= {"state": "pending", "tries": claim.tries + 1, "stage": f"{claim.step} is to be repeated"}
            values |= {"due_at": now + timedelta(seconds=outcome.pause_s)}
        if outcome.kind == "rewound":
            values |= {"next_step": outcome.next_step, "stage": f"goes back to {outcome.next_step}", "tries": 0}
        if outcome.kind == "ended":
            values |= {"tries": 0, "losses": 0}
            values |= _onward(outcome.next_step)
        if outcome.kind == "held":
            values |= {"state": "open", "stage": "waits for an operator", "tries": 0, "losses": 0}
        if outcome.kind == "failed":
            values |= {"state": "failed", "stage": "failed", "is_paused": False}
        with transaction(self._research) as session:
            end_step(session, claim, now, outcome.kind, outcome.sentence, **values)
        if outcome.kind == "failed":
            LOG.warning("job_failed", job_id=claim.job_id, step=claim.step, sentence=outcome.sentence)

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do something that needs the database, and wait for one that is away.

        Raises
        ------
        Unavailable
            When the process stops, or the patience is at its end.
        """
        pause_s = 0.2
        for _ in range(PATIENT_TRIES):
            try:
                return action()
            except AWAY:
                LOG.warning("database_awaited", pause_s=pause_s)
            if self._stopping.wait(pause_s):
                break
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        raise Unavailable("A database did not answer.")


def _outcome_of(error: NodeError, tries: int) -> Outcome:
    row = retry_of(type(error))
    if row is None:
        return Outcome("failed", str(error))
    if tries < row.repeats:
        return Outcome("repeated", str(error), pause_s=row.pause(tries).total_seconds())
    return Outcome("failed", f"{error} It was tried {tries + 1} times; run the job again later.")


def _repeats(error: type[NodeError]) -> int:
    row = retry_of(error)
    return row.repeats if row is not None else 0


def _onward(next_step: str) -> dict[str, object]:
    if next_step:
        return {"state": "pending", "next_step": next_step, "stage": "waiting for a free worker"}
    return {"state": "done", "stage": "done", "progress": 1.0, "is_paused": False}
