"""``osteonode job ...`` and ``osteonode worker``."""

import argparse
import os
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node import clock
from dicom_node.db import job_control
from dicom_node.db.jobs import count_by_state, events_of, get_job, recent_jobs
from dicom_node.db.models import JOB_STATES, Job
from dicom_node.db.session import open_databases, transaction
from dicom_node.errors import ConfigurationError, NotFound
from dicom_node.settings import Settings

ALL = "all"
"""In the place of a job's id: the whole node."""


def list_jobs(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the newest jobs, and how many there are of each state."""
    table = Table("job", "state", "priority", "attempt", "step", "progress", "changed", "what it says")
    with transaction(open_databases(settings).research) as session:
        states = (options.state,) if options.state else ()
        rows = recent_jobs(session, limit=options.last, states=states)
        counts = count_by_state(session)
        since = job_control.paused_since(session)
    for job in rows:
        changed = job.updated_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        progress = f"{100 * job.progress:.0f} %"
        table.add_row(
            job.id, _state(job), job.priority, str(job.attempts), job.stage, progress, changed, escape(job.sentence)
        )
    console.print(table)
    console.print(", ".join(f"{counts[state]} {state}" for state in JOB_STATES if state in counts) or "No jobs yet.")
    if since is not None:
        console.print(f"The node is paused since {since.astimezone():%Y-%m-%d %H:%M}. Resume: osteonode job resume all")


def show(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print one job with its timeline."""
    with transaction(open_databases(settings).research) as session:
        job = get_job(session, options.job)
        events = events_of(session, [options.job]).get(options.job, [])
    if job is None:
        raise NotFound(f"There is no job {options.job}.")
    console.print(f"Job {job.id}: {_state(job)}, {job.priority}, attempt {job.attempts}. {escape(job.sentence)}")
    table = Table("time", "attempt", "step", "what happened", "seconds", "process", "sentence")
    for one in events:
        at = one.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        seconds = f"{one.seconds:.1f}" if one.seconds is not None else ""
        table.add_row(at, str(one.attempt), one.step, one.kind, seconds, one.executor, escape(one.sentence))
    console.print(table)


def pause(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Let no further step of a job, or of the node, begin."""
    with transaction(open_databases(settings).research) as session:
        if options.job == ALL:
            job_control.pause_node(session, clock.now(), is_paused=True)
        else:
            job_control.pause_job(session, options.job, clock.now())
    console.print("Paused. A step that runs is finished; intake and deliveries go on.")


def resume(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Let a job, or the node, go on."""
    with transaction(open_databases(settings).research) as session:
        if options.job == ALL:
            job_control.pause_node(session, clock.now(), is_paused=False)
        else:
            job_control.resume_job(session, options.job, clock.now())
    console.print("Resumed.")


def cancel(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """End a job, or every job that waits or runs."""
    with transaction(open_databases(settings).research) as session:
        if options.job == ALL and not options.yes:
            counts = count_by_state(session)
            going = sum(counts.get(state, 0) for state in job_control.GOING)
            raise ConfigurationError(f"This would cancel {going} jobs. Say --yes if that is meant.")
        if options.job == ALL:
            console.print(f"{job_control.cancel_queue(session, clock.now())} jobs cancelled.")
            return
        job_control.cancel_job(session, options.job, clock.now())
    console.print(f"Cancelled. Undo: osteonode job restart {options.job}", highlight=False)


def restart(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Run a job that has ended again from a step on, as a new attempt."""
    with transaction(open_databases(settings).research) as session:
        job = job_control.resubmit(session, options.job, clock.now(), options.step)
        attempt, step = job.attempts, job.next_step
    console.print(f"Submitted as attempt {attempt}, from {step} on.")


def release(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Let a job that waits for an operator go on, or discard it."""
    with transaction(open_databases(settings).research) as session:
        if options.discard:
            job_control.discard_job(session, options.job, clock.now())
        else:
            job_control.release_job(session, options.job, clock.now())
    console.print("Discarded; nothing was sent." if options.discard else "Released.")


def prioritise(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Set the priority of a job."""
    with transaction(open_databases(settings).research) as session:
        job_control.prioritise_job(session, options.job, options.priority, clock.now())
    console.print(f"Now {options.priority}; it counts from the next step on.")


def work(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Run jobs beside the node, until told to stop."""
    from dicom_node import worker  # the whole pipeline: the other commands do without

    del options
    console.print("OsteoNode worker: runs jobs, receives nothing.", highlight=False)
    worker.work(settings)
    sys.stdout.flush()
    os._exit(0)  # a step under way would hold the interpreter; another process takes it over


def _state(job: Job) -> str:
    return f"{job.state} (paused)" if job.is_paused else job.state
