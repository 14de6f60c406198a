"""What the page and the REST interface show of jobs, read from the databases and the reports on disk."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from dicom_node import clock
from dicom_node.db.deliveries import deliveries_of_jobs
from dicom_node.db.executors import living
from dicom_node.db.job_control import paused_since
from dicom_node.db.jobs import count_by_state, events_of, get_job, recent_jobs
from dicom_node.db.models import Job
from dicom_node.db.node_tables import JobEvent
from dicom_node.db.session import Databases, transaction
from dicom_node.jobs.offpeak import in_window
from dicom_node.settings import Settings
from dicom_node.web.job_schemas import JobBoard, JobDetail, JobEventOut, JobOut, WorkerOut
from dicom_node.web.schemas import DeliveryOut

REPORTS_REMEMBERED = 200
VIEWED = ("waiting", "headline", "pictures", "deliveries", "events")
"""Fields of a job that are no columns."""


def board(databases: Databases, settings: Settings, states: Sequence[str], limit: int, offset: int) -> JobBoard:
    """Return one page of jobs, newest first, and the state of the whole."""
    with transaction(databases.research) as session:
        rows = recent_jobs(session, limit, offset, states)
        since, workers = paused_since(session), living(session, settings.stale_s)
        return JobBoard(
            jobs=_shown(databases, settings, session, rows, is_paused=since is not None),
            jobs_by_state=count_by_state(session),
            paused_since=since,
            workers=[WorkerOut.model_validate(one) for one in workers],
            offpeak_hours=settings.offpeak_hours,
        )


def jobs(databases: Databases, settings: Settings, states: Sequence[str], limit: int, offset: int) -> list[JobOut]:
    """Return jobs, newest first."""
    with transaction(databases.research) as session:
        rows = recent_jobs(session, limit, offset, states)
        return _shown(databases, settings, session, rows, is_paused=paused_since(session) is not None)


def job(databases: Databases, settings: Settings, job_id: str) -> JobDetail | None:
    """Return one job with its report and its whole timeline, or None."""
    with transaction(databases.research) as session:
        row = get_job(session, job_id)
        if row is None:
            return None
        (shown,) = _shown(databases, settings, session, [row], is_paused=paused_since(session) is not None)
        events = _events(events_of(session, [job_id]).get(job_id, []))
    return JobDetail(**{**shown.model_dump(), "events": events}, report=report_of(settings, row.id))


def picture_path(settings: Settings, job_id: str, name: str) -> Path | None:
    """Return a job's picture by the name its report lists; anything else is None."""
    listed = (report_of(settings, job_id) or {}).get("pictures", [])
    if name not in {picture["key"] for picture in listed}:
        return None
    return _report_folder(settings, job_id) / "pictures" / f"{name}.png"


def _shown(
    databases: Databases, settings: Settings, session: Session, rows: list[Job], *, is_paused: bool
) -> list[JobOut]:
    ids = [row.id for row in rows]
    events = events_of(session, ids)
    with transaction(databases.hospital) as hospital:
        sent = deliveries_of_jobs(hospital, ids)
    return [
        JobOut(
            **JobOut.model_validate(row).model_dump(exclude={*VIEWED}),
            waiting=_waiting(row, settings, is_paused=is_paused),
            events=_events([one for one in events.get(row.id, []) if one.attempt == row.attempts]),
            deliveries=[
                DeliveryOut(
                    peer=peer.name,
                    state=delivery.state,
                    attempts=delivery.attempts,
                    sentence=delivery.sentence,
                    updated_at=delivery.updated_at,
                )
                for delivery, peer in sent.get(row.id, [])
            ],
            **_findings(settings, row),
        )
        for row in rows
    ]


def _events(rows: list[JobEvent]) -> list[JobEventOut]:
    return [JobEventOut.model_validate(one) for one in rows]


def _findings(settings: Settings, row: Job) -> dict[str, Any]:
    """Return headline and pictures of a job whose report stands: a done one, or one an operator has to look at."""
    report = (report_of(settings, row.id) or {}) if row.state in ("done", "open") else {}
    return {
        "headline": report.get("headline", ""),
        "pictures": [picture["key"] for picture in report.get("pictures", [])],
    }


def _waiting(row: Job, settings: Settings, *, is_paused: bool) -> str:
    """Say why a job that waits does not begin."""
    if row.state not in ("submitted", "pending", "processing"):
        return ""
    if row.is_paused:
        return "Paused after this step." if row.state == "processing" else "Paused."
    if row.state == "processing":
        return ""
    if is_paused:
        return "The node is paused."
    now = clock.now()
    if row.due_at is not None and row.due_at > now:
        return f"Tried again at {_local(row.due_at)}."
    if row.priority == "offpeak" and row.progress == 0 and not in_window(now.astimezone(), settings.offpeak_hours):
        return f"Waits for the off-peak hours, {settings.offpeak_hours}."
    return "Waits for a free worker."


def _local(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S")


def report_of(settings: Settings, job_id: str) -> dict[str, Any] | None:
    """Return the report of a job as it is on disk, or None."""
    if not job_id.isalnum():
        return None
    path = _report_folder(settings, job_id) / "report.json"
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=REPORTS_REMEMBERED)
def _parsed(path: Path, modified_ns: int) -> dict[str, Any]:
    """Read a report; the page asks for the newest ones every few seconds, and a rerun changes the file's time."""
    del modified_ns
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def _report_folder(settings: Settings, job_id: str) -> Path:
    return settings.research_dir / "jobs" / job_id / "report"
