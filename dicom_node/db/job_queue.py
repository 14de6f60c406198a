"""What the engine asks of and writes into the table of jobs: who is next, who may run it, how a step ended.

The order of work is decided here and not in the engine, so that priority, pause and off-peak hours count up to the
moment a step begins. ``ticket`` names the last hand-over to the engine: an older workflow of the job begins nothing.
``token`` names the execution that may write: whoever was declared dead and wakes up finds another one there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import case, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.db.models import PRIORITIES, Job
from dicom_node.db.node_tables import BY_PEOPLE, JobEvent, NodeControl
from dicom_node.db.session import transaction
from dicom_node.errors import ClaimLost

HOLD_LIMIT_S = 30
"""PostgreSQL ends a transaction that holds a job for so long without a word: its process is stopped or gone."""
RANK = case({name: rank for rank, name in enumerate(PRIORITIES)}, value=Job.priority, else_=len(PRIORITIES))
"""Urgent first."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one execution to run one step of a job, and to write for it."""

    job_id: str
    attempt: int
    step: str
    token: str
    tries: int = 0
    losses: int = 0
    is_released: bool = False
    rewinds: int = 0
    """Times this attempt went back to an earlier step."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that can be handed to the engine now."""

    job_id: str
    attempt: int
    ticket: int
    step: str
    priority: str


def is_node_paused(session: Session) -> bool:
    """Tell whether no step may begin on the whole node."""
    return bool(session.scalar(select(NodeControl.is_paused)))


def put_in_queue(session: Session, job_id: str, attempt: int, priority: str, now: datetime) -> bool:
    """Make a submitted attempt wait for a free worker; tell whether it was submitted."""
    done = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.attempts == attempt, Job.state == "submitted")
        .values(state="pending", stage="waiting for a free worker", priority=priority, updated_at=now)
    )
    return _count(done) > 0


def waiting_jobs(
    session: Session, now: datetime, *, is_offpeak: bool, steps: Sequence[str], limit: int
) -> list[Waiting]:
    """Return the jobs that may be handed over next for one of these steps: by priority, then the oldest first."""
    wanted = select(Job).where(
        Job.state == "pending",
        Job.queue == "",
        Job.is_paused.is_(False),
        or_(Job.due_at.is_(None), Job.due_at <= now),
        Job.next_step.in_(steps),
    )
    if not is_offpeak:  # what has begun goes on: the hours say when a job may begin
        wanted = wanted.where(or_(Job.priority != "offpeak", Job.progress > 0))
    rows = session.scalars(wanted.order_by(RANK, Job.created_at, Job.id).limit(limit))
    return [Waiting(row.id, row.attempts, row.ticket, row.next_step, row.priority) for row in rows]


def hand_over(session: Session, one: Waiting, queue: str, now: datetime) -> int | None:
    """Give a waiting job its next ticket for a queue of the engine; None when somebody else was quicker."""
    done = session.execute(
        update(Job)
        .where(Job.id == one.job_id, Job.attempts == one.attempt, Job.ticket == one.ticket)
        .where(Job.state == "pending", Job.queue == "", Job.is_paused.is_(False))
        .values(queue=queue, ticket=one.ticket + 1, due_at=None, updated_at=now)
    )
    return one.ticket + 1 if _count(done) else None


def count_handed(session: Session, queue: str) -> int:
    """Count the jobs a queue of the engine has, running or not begun."""
    return session.scalar(select(func.count()).select_from(Job).where(Job.queue == queue)) or 0


def handed_jobs(session: Session, before: datetime) -> list[Job]:
    """Return the jobs that the engine has and that have not changed since a time."""
    return list(session.scalars(select(Job).where(Job.queue != "", Job.updated_at < before)))


def begin(
    session: Session, job_id: str, attempt: int, ticket: int, token: str, executor: str, now: datetime
) -> Claim | None:
    """Begin the step a ticket is for; None when it is out of date, or nothing may begin now.

    A ticket that meets a pause gives the job back to the table. A step that was running already has lost its process:
    its token holds no more.
    """
    job = locked_job(session, job_id)
    is_current = job is not None and (job.attempts, job.ticket) == (attempt, ticket) and job.queue != ""
    if job is None or not is_current or job.state not in ("pending", "processing"):
        return None
    if job.state == "processing":
        _give_back(session, job, now, "The process that ran the step was lost.", is_loss=True)
    if job.is_paused or is_node_paused(session):
        job.queue = ""
        return None
    job.state, job.stage, job.token, job.executor, job.updated_at = "processing", job.next_step, token, executor, now
    add_event(session, job, "began", now)
    rewound = JobEvent.job_id == job_id, JobEvent.attempt == attempt, JobEvent.kind == "rewound"
    rewinds = session.scalar(select(func.count()).where(*rewound)) or 0
    return Claim(job_id, attempt, job.next_step, token, job.tries, job.losses, job.is_released, rewinds)


def locked_job(session: Session, job_id: str) -> Job | None:
    """Return a job that nobody else changes before this transaction ends, or None."""
    session.execute(update(Job).where(Job.id == job_id).values(ticket=Job.ticket))  # SQLite: take the lock to write
    return session.get(Job, job_id, populate_existing=True, with_for_update=True)


def _give_back(session: Session, job: Job, now: datetime, sentence: str, *, is_loss: bool) -> None:
    """Give a job back to the table; a step that ran is lost, which may count against the job."""
    if job.state == "processing":
        job.losses += is_loss
        add_event(session, job, "lost", now, sentence=sentence)
    job.state, job.stage, job.token, job.updated_at = "pending", "waiting for a free worker", None, now


def is_held_by(session: Session, claim: Claim) -> bool:
    """Tell whether a claim still holds."""
    return session.scalar(select(Job.token).where(Job.id == claim.job_id)) == claim.token


def write_held(session: Session, claim: Claim, now: datetime, **values: object) -> Job:
    """Set columns of a job in the name of a claim; the row stays locked to the end of the transaction.

    Raises
    ------
    ClaimLost
        When the claim does not hold any more; nothing was written.
    """
    done = session.execute(
        update(Job).where(Job.id == claim.job_id, Job.token == claim.token).values(updated_at=now, **values)
    )
    if not _count(done):
        raise ClaimLost("The step was cancelled, or another process has taken it over.")
    return session.get_one(Job, claim.job_id, populate_existing=True)


@contextmanager
def holding(research: sa.Engine, claim: Claim, now: datetime) -> Iterator[Session]:
    """Hold the job while results are put in their place: nobody can take it over meanwhile.

    Raises
    ------
    ClaimLost
        When the claim does not hold any more; the body has not run.
    """
    with transaction(research) as session:
        limit_silence(session)
        write_held(session, claim, now)
        yield session


def limit_silence(session: Session) -> None:
    """Let PostgreSQL end this transaction when its process is stopped in the middle of it."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.text(f"SET LOCAL idle_in_transaction_session_timeout = '{HOLD_LIMIT_S}s'"))


def end_step(session: Session, claim: Claim, now: datetime, kind: str, sentence: str, **values: object) -> Job:
    """Write how a step ended, and give the job back: to the table, to a person, or to nobody.

    Raises
    ------
    ClaimLost
        When the claim does not hold any more; nothing was written.
    """
    job = write_held(session, claim, now, token=None, queue="", sentence=sentence[:1000], **values)
    add_event(session, job, kind, now, step=claim.step, sentence=sentence, seconds=_seconds(session, claim, now))
    return job


def _seconds(session: Session, claim: Claim, now: datetime) -> float | None:
    began = select(func.max(JobEvent.at)).where(
        JobEvent.job_id == claim.job_id, JobEvent.attempt == claim.attempt, JobEvent.kind == "began"
    )
    at = session.scalar(began)
    return round((now - at).total_seconds(), 2) if at is not None else None


def take_back(
    session: Session, job_id: str, ticket: int, now: datetime, sentence: str, *, is_loss: bool = False
) -> bool:
    """Take a handed-over job back into the table: its workflow will not go on. Tell whether the ticket was current."""
    job = locked_job(session, job_id)
    if job is None or job.ticket != ticket or job.state not in ("pending", "processing"):
        return False
    _give_back(session, job, now, sentence, is_loss=is_loss)
    job.queue = ""
    return True


def untracked_jobs(session: Session) -> list[tuple[str, int]]:
    """Return id and ticket of jobs that run without having been handed over: from before there were tickets."""
    wanted = select(Job.id, Job.ticket).where(Job.state == "processing", Job.queue == "")
    return [(job_id, ticket) for job_id, ticket in session.execute(wanted)]


def add_event(
    session: Session,
    job: Job,
    kind: str,
    now: datetime,
    *,
    step: str | None = None,
    sentence: str = "",
    seconds: float | None = None,
) -> None:
    """Write what happened to a job into its timeline."""
    session.add(
        JobEvent(
            job_id=job.id,
            attempt=job.attempts,
            at=now,
            kind=kind,
            step=step or job.next_step,
            seconds=seconds,
            executor="" if kind in BY_PEOPLE else job.executor,
            sentence=sentence[:1000],
        )
    )


def _count(result: sa.Result[tuple[object]]) -> int:
    assert isinstance(result, sa.CursorResult)
    return result.rowcount
