"""Queries on jobs."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.db.models import Job
from dicom_node.errors import ConfigurationError, NotFound


def get_job(session: Session, job_id: str) -> Job | None:
    """Return a job, or None."""
    return session.get(Job, job_id)


def recent_jobs(session: Session, limit: int = 200) -> list[Job]:
    """Return the newest jobs first."""
    return list(session.scalars(select(Job).order_by(Job.created_at.desc()).limit(limit)))


def done_jobs_of(session: Session, pseudonym: str) -> list[Job]:
    """Return the finished jobs of a pseudonym, oldest first."""
    wanted = select(Job).where(Job.pseudonym == pseudonym, Job.state == "done")
    return list(session.scalars(wanted.order_by(Job.created_at)))


def submitted_jobs(session: Session) -> list[Job]:
    """Jobs that wait to be handed to the engine, oldest first."""
    return list(session.scalars(select(Job).where(Job.state == "submitted").order_by(Job.created_at)))


def silent_jobs(session: Session, since: datetime) -> list[Job]:
    """Jobs that should be going on but have not changed since a time."""
    wanted = select(Job).where(Job.state.in_(("pending", "processing")), Job.updated_at < since)
    return list(session.scalars(wanted))


def discard_waiting(session: Session, job_ids: list[str], now: datetime) -> None:
    """Discard jobs that have not begun: a newer version of their study has come."""
    sentence = "More images of the study arrived before this job began; the job of the newer version replaces it."
    session.execute(
        update(Job)
        .where(Job.id.in_(job_ids), Job.state.in_(("submitted", "pending")))
        .values(state="discarded", stage="discarded", sentence=sentence, updated_at=now)
    )


def mark_pending(session: Session, job_id: str, attempt: int, now: datetime) -> None:
    """Set a submitted job to pending, unless the engine has begun it already."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.attempts == attempt, Job.state == "submitted")
        .values(state="pending", stage="waiting for a free worker", updated_at=now)
    )


def resubmit(session: Session, job_id: str, now: datetime) -> Job:
    """Put a job that has ended, or never began, back to the start as a new attempt.

    Raises
    ------
    NotFound
        When there is no such job.
    ConfigurationError
        When it is running.
    """
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    if job.state not in ("done", "failed", "discarded"):
        raise ConfigurationError(f"Job {job_id} is {job.state}; only a job that has ended can be run again.")
    job.attempts += 1
    job.state, job.stage, job.progress, job.sentence, job.updated_at = "submitted", "submitted", 0.0, "", now
    return job


def update_job(session: Session, job_id: str, now: datetime, **values: object) -> None:
    """Set columns of a job and its time of change."""
    job = session.get_one(Job, job_id)
    for name, value in values.items():
        setattr(job, name, value)
    job.updated_at = now
