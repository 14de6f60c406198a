"""Queries on jobs: lists of them, one of them, and what dispatching changes."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_node.db.models import Job
from dicom_node.db.node_tables import JobEvent


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


def done_jobs_of(session: Session, pseudonym: str) -> list[Job]:
    """Return the finished jobs of a pseudonym, oldest first."""
    wanted = select(Job).where(Job.pseudonym == pseudonym, Job.state == "done")
    return list(session.scalars(wanted.order_by(Job.created_at)))


def submitted_jobs(session: Session) -> list[Job]:
    """Jobs that wait to be handed to the engine, oldest first."""
    return list(session.scalars(select(Job).where(Job.state == "submitted").order_by(Job.created_at)))


def discard_waiting(session: Session, job_ids: list[str], now: datetime) -> None:
    """Discard jobs none of whose steps runs: a newer version of their study has come."""
    sentence = "More images of the study arrived while this job waited; the job of the newer version replaces it."
    session.execute(
        update(Job)
        .where(Job.id.in_(job_ids), Job.state.in_(("submitted", "pending")))
        .values(state="discarded", stage="discarded", sentence=sentence, updated_at=now, queue="", token=None)
    )


def mark_pending(session: Session, job_id: str, attempt: int, now: datetime) -> None:
    """Set a submitted job to pending, unless the engine has begun it already."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.attempts == attempt, Job.state == "submitted")
        .values(state="pending", stage="waiting for a free worker", updated_at=now)
    )
