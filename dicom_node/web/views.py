"""What the pages and the REST interface show, read from the databases and the reports on disk."""

import json
import shutil
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from dicom_node import __version__
from dicom_node.db.deliveries import deliveries_of
from dicom_node.db.instances import count_instances, quarantined
from dicom_node.db.jobs import get_job, recent_jobs
from dicom_node.db.models import Job
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import arrivals, versions
from dicom_node.settings import Settings
from dicom_node.web.schemas import DeliveryOut, Health, JobDetail, JobOut, QuarantineOut, StudyOut

REPORTS_REMEMBERED = 200
"""As many as the page lists."""


def health(databases: Databases, settings: Settings, dicom_port: int) -> Health:
    """Return the node's state in figures."""
    with transaction(databases.hospital) as session:
        instance_count, quarantine_count = count_instances(session), len(quarantined(session))
    with transaction(databases.research) as session:
        states = Counter(job.state for job in recent_jobs(session))
    free = shutil.disk_usage(settings.data_dir).free
    is_accepting = free >= settings.reserve_bytes
    return Health(
        status="ok" if is_accepting else "disk full",
        version=__version__,
        ae_title=settings.ae_title,
        dicom_port=dicom_port,
        instance_count=instance_count,
        quarantine_count=quarantine_count,
        jobs_by_state=dict(states),
        free_bytes=free,
        reserve_bytes=settings.reserve_bytes,
        is_accepting=is_accepting,
    )


def studies(databases: Databases) -> list[StudyOut]:
    """Every study that has arrived, latest first."""
    with transaction(databases.hospital) as session:
        jobs: dict[str, list[str]] = {}
        for version in versions(session):
            jobs.setdefault(version.study_instance_uid, []).append(version.job_id)
        return [
            StudyOut(
                study_instance_uid=study.study_instance_uid,
                instance_count=study.instance_count,
                first_arrival=study.first_arrival,
                last_arrival=study.last_arrival,
                version=study.last_version,
                job_ids=jobs.get(study.study_instance_uid, []),
            )
            for study in arrivals(session)
        ]


def jobs(databases: Databases, settings: Settings) -> list[JobOut]:
    """Newest jobs first."""
    with transaction(databases.research) as session:
        rows = recent_jobs(session)
    return [JobOut(**_job_fields(databases, settings, row)) for row in rows]


def job(databases: Databases, settings: Settings, job_id: str) -> JobDetail | None:
    """One job with its report, or None."""
    with transaction(databases.research) as session:
        row = get_job(session, job_id)
    if row is None:
        return None
    return JobDetail(**_job_fields(databases, settings, row), report=_report(settings, row.id))


def quarantine(databases: Databases) -> list[QuarantineOut]:
    """Everything kept aside, newest first."""
    with transaction(databases.hospital) as session:
        return [QuarantineOut.model_validate(row) for row in quarantined(session)]


def picture_path(settings: Settings, job_id: str, name: str) -> Path | None:
    """Return a job's picture by the name its report lists; anything else is None."""
    listed = (_report(settings, job_id) or {}).get("pictures", [])
    if name not in {picture["key"] for picture in listed}:
        return None
    return _report_folder(settings, job_id) / "pictures" / f"{name}.png"


def _job_fields(databases: Databases, settings: Settings, row: Job) -> dict[str, Any]:
    report = (_report(settings, row.id) or {}) if row.state == "done" else {}
    with transaction(databases.hospital) as session:
        sent = [
            DeliveryOut(
                peer=peer.name,
                state=delivery.state,
                attempts=delivery.attempts,
                sentence=delivery.sentence,
                updated_at=delivery.updated_at,
            )
            for delivery, peer in deliveries_of(session, row.id)
        ]
    return {
        **JobOut.model_validate(row).model_dump(exclude={"headline", "pictures", "deliveries"}),
        "headline": report.get("headline", ""),
        "pictures": [picture["key"] for picture in report.get("pictures", [])],
        "deliveries": sent,
    }


def _report(settings: Settings, job_id: str) -> dict[str, Any] | None:
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
