"""What people do to jobs: pause, resume, cancel, restart, release, prioritise; and the same for the whole node.

These are intentions written into the table. The engine reads it before every step, and a running step looks every
half second whether it still holds the job.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db.job_queue import add_event, locked_job
from dicom_node.db.models import PRIORITIES, Job
from dicom_node.db.node_tables import NodeControl
from dicom_node.errors import ConfigurationError, NotFound

STEPS = ("deidentify", "analyse", "package", "deliver")
"""The steps of a job in order."""
GOING = ("submitted", "pending", "processing")
ENDED = ("done", "failed", "discarded")
CANCELLED = "Cancelled by a person. It can be restarted."


def pause_job(session: Session, job_id: str, now: datetime) -> Job:
    """Let no further step of a job begin; one that runs is finished.

    Raises
    ------
    NotFound, ConfigurationError
        When there is no such job, or it has ended.
    """
    job = _job_in(session, job_id, GOING, "paused")
    if not job.is_paused:
        job.is_paused, job.updated_at = True, now
        add_event(session, job, "paused", now)
    return job


def resume_job(session: Session, job_id: str, now: datetime) -> Job:
    """Let a paused job go on where it was.

    Raises
    ------
    NotFound, ConfigurationError
        When there is no such job, or it has ended.
    """
    job = _job_in(session, job_id, GOING, "resumed")
    if job.is_paused:
        job.is_paused, job.updated_at = False, now
        add_event(session, job, "resumed", now)
    return job


def cancel_job(session: Session, job_id: str, now: datetime) -> Job:
    """End a job that has not ended. A running step is stopped at once, and writes nothing any more.

    Raises
    ------
    NotFound, ConfigurationError
        When there is no such job, or it has ended.
    """
    job = _job_in(session, job_id, (*GOING, "open"), "cancelled")
    _end(session, job, now, "cancelled", CANCELLED)
    return job


def discard_job(session: Session, job_id: str, now: datetime) -> Job:
    """End a job that waits for an operator, without sending anything.

    Raises
    ------
    NotFound, ConfigurationError
        When there is no such job, or it does not wait for anybody.
    """
    job = _job_in(session, job_id, ("open",), "discarded by an operator")
    _end(session, job, now, "discarded", "Discarded by an operator; nothing was sent.")
    return job


def release_job(session: Session, job_id: str, now: datetime) -> Job:
    """Let a job that waits for an operator go on.

    Raises
    ------
    NotFound, ConfigurationError
        When there is no such job, or it does not wait for anybody.
    """
    job = _job_in(session, job_id, ("open",), "released")
    job.state, job.stage, job.sentence, job.updated_at = "pending", "released by an operator", "", now
    job.is_released = True
    add_event(session, job, "released", now)
    return job


def prioritise_job(session: Session, job_id: str, priority: str, now: datetime) -> Job:
    """Set the priority of a job that has not ended; it counts from the next step on.

    Raises
    ------
    NotFound, ConfigurationError
        When there is no such job or priority, or the job has ended.
    """
    if priority not in PRIORITIES:
        raise ConfigurationError(f"There is no priority {priority}; there are {', '.join(PRIORITIES)}.")
    job = _job_in(session, job_id, (*GOING, "open"), "given another priority")
    if job.priority != priority:
        job.priority, job.updated_at = priority, now
        add_event(session, job, "prioritised", now, sentence=f"Now {priority}.")
    return job


def resubmit(session: Session, job_id: str, now: datetime, first_step: str = STEPS[0]) -> Job:
    """Run a job that has ended again from a step on, as a new attempt.

    What the steps before it left is used where it is still there; where it is not, the job begins earlier and says so.

    Raises
    ------
    NotFound
        When there is no such job.
    ConfigurationError
        When it has not ended, or there is no such step.
    """
    if first_step not in STEPS:
        raise ConfigurationError(f"There is no step {first_step}; there are {', '.join(STEPS)}.")
    job = _locked(session, job_id)
    if job.state not in ENDED:
        raise ConfigurationError(f"Job {job_id} is {job.state}; only a job that has ended can be run again.")
    job.attempts += 1
    job.state, job.stage, job.progress, job.sentence, job.updated_at = "submitted", "submitted", 0.0, "", now
    job.next_step, job.is_paused, job.is_released, job.due_at = first_step, False, False, None
    job.queue, job.token, job.tries, job.losses, job.executor = "", None, 0, 0, ""
    add_event(session, job, "restarted", now)
    return job


def pause_node(session: Session, now: datetime, *, is_paused: bool) -> None:
    """Let no step begin on the whole node, or let them begin again. Intake and deliveries go on."""
    row = session.get(NodeControl, 1)
    if row is None:
        session.add(NodeControl(id=1, is_paused=is_paused, changed_at=now))
    elif row.is_paused != is_paused:
        row.is_paused, row.changed_at = is_paused, now


def paused_since(session: Session) -> datetime | None:
    """Return since when the node is paused, or None."""
    row = session.get(NodeControl, 1)
    return row.changed_at if row is not None and row.is_paused else None


def cancel_queue(session: Session, now: datetime) -> int:
    """Cancel every job that has not ended; return how many."""
    ids = session.scalars(select(Job.id).where(Job.state.in_(GOING)).order_by(Job.id)).all()
    going = [job for job_id in ids if (job := locked_job(session, job_id)) is not None and job.state in GOING]
    for job in going:
        _end(session, job, now, "cancelled", CANCELLED)
    return len(going)


def _end(session: Session, job: Job, now: datetime, kind: str, sentence: str) -> None:
    job.state, job.stage, job.sentence, job.updated_at = "discarded", "discarded", sentence, now
    job.is_paused, job.queue, job.token, job.due_at = False, "", None, None
    add_event(session, job, kind, now)


def _job_in(session: Session, job_id: str, states: tuple[str, ...], done: str) -> Job:
    job = _locked(session, job_id)
    if job.state not in states:
        raise ConfigurationError(f"Job {job_id} is {job.state} and cannot be {done}.")
    return job


def _locked(session: Session, job_id: str) -> Job:
    job = locked_job(session, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job
