"""Queries on jobs: lists of them, one of them, and what dispatching changes."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_node.db.job_queue import add_event, locked_job
from dicom_node.db.models import Job
from dicom_node.db.node_tables import JobEvent

WAITING = ("submitted", "pending", "open")
"""States of a job that has not ended and none of whose steps runs."""


def get_job(session: Session, job_id: str) -> Job | None:
    """Return a job, or None."""
    return session.get(Job, job_id)


def recent_jobs(session: Session, limit: int = 200, offset: int = 0, states: Sequence[str] = ()) -> list[Job]:
    """Return the newest jobs first, of some states alone where they are named."""
    wanted = select(Job).order_by(Job.created_at.desc(), Job.id).limit(limit).offset(offset)
    return list(session.scalars(wanted.where(Job.state.in_(states)) if states else wanted))


def count_by_state(session: Session) -> dict[str, int]:
    """Count the jobs of every state there is."""
    rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
    return {row[0]: row[1] for row in rows}


def events_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[JobEvent]]:
    """Return what happened to each of these jobs, oldest first."""
    found: dict[str, list[JobEvent]] = {}
    for event in session.scalars(select(JobEvent).where(JobEvent.job_id.in_(job_ids)).order_by(JobEvent.id)):
        found.setdefault(event.job_id, []).append(event)
    return found


def any_is_done(session: Session, job_ids: Sequence[str]) -> bool:
    """Tell whether one of these jobs is done."""
    return session.scalar(select(Job.id).where(Job.id.in_(job_ids), Job.state == "done").limit(1)) is not None


def newest_attempt_that_ended(session: Session, job_id: str, step: str) -> int:
    """Return the newest attempt of a job that finished a step; 0 where none is known to have."""
    ended = JobEvent.job_id == job_id, JobEvent.step == step, JobEvent.kind == "ended"
    return session.scalar(select(func.max(JobEvent.attempt)).where(*ended)) or 0


def done_jobs_of(session: Session, pseudonym: str) -> list[Job]:
    """Return the finished jobs of a pseudonym, oldest first."""
    wanted = select(Job).where(Job.pseudonym == pseudonym, Job.state == "done")
    return list(session.scalars(wanted.order_by(Job.created_at)))


def submitted_jobs(session: Session) -> list[Job]:
    """Jobs that wait to be handed to the engine, oldest first."""
    return list(session.scalars(select(Job).where(Job.state == "submitted").order_by(Job.created_at)))


def discard_waiting(session: Session, job_ids: Iterable[str], now: datetime) -> None:
    """Discard jobs none of whose steps runs, also those that wait for an operator: a newer version has come."""
    sentence = "A newer version of the study came while this job waited; the newer version's job replaces it."
    for job_id in sorted(job_ids):
        job = locked_job(session, job_id)
        if job is None or job.state not in WAITING:
            continue
        job.state, job.stage, job.sentence, job.updated_at = "discarded", "discarded", sentence, now
        job.is_paused, job.queue, job.token, job.due_at = False, "", None, None
        add_event(session, job, "discarded", now, sentence=sentence)


def mark_pending(session: Session, job_id: str, attempt: int, now: datetime) -> None:
    """Set a submitted job to pending, unless the engine has begun it already."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.attempts == attempt, Job.state == "submitted")
        .values(state="pending", stage="waiting for a free worker", updated_at=now)
    )
