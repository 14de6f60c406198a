"""The last earlier examination of the same patient, to say what has changed since.

Two studies are of one patient when their jobs carry one pseudonym and their headers one patient ID: a study that was
moved to another patient since keeps the pseudonym of its old jobs. The research side knows shifted dates only, so the
date comes from the original headers: this runs on the hospital side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.db.instances import study_instances
from dicom_node.db.jobs import done_jobs_of
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import version_of_job
from dicom_node.pipeline.report_files import load_report
from dicom_node.settings import Settings
from sr_export.inputs import PriorValue


@dataclass(frozen=True, slots=True)
class PriorReport:
    """Where an earlier examination's report lies, and the day of its study."""

    folder: Path
    study_date: date


def prior_report(databases: Databases, settings: Settings, job_id: str, pseudonym: str | None) -> PriorReport | None:
    """Return the report of the patient's last study before this one; None when there is none, or no dates.

    Of a study that was analysed several times, the newest analysis counts.
    """
    if pseudonym is None:
        return None
    with transaction(databases.research) as session:
        others = [job.id for job in done_jobs_of(session, pseudonym) if job.id != job_id]
    with transaction(databases.hospital) as session:
        study = version_of_job(session, job_id).study_instance_uid
        newest = {version_of_job(session, other).study_instance_uid: other for other in others}
        newest.pop(study, None)
        files = {
            uid: settings.hospital_dir / rows[0].path
            for uid in (study, *newest)
            if (rows := study_instances(session, uid))
        }
    headers = {uid: _header(path) for uid, path in files.items()}
    if study not in headers:
        return None
    patient = _patient(headers[study])
    dates = {
        uid: found
        for uid, header in headers.items()
        if _patient(header) == patient and (found := _study_date(header)) is not None
    }
    if study not in dates:
        return None
    earlier = [uid for uid in newest if uid in dates and dates[uid] < dates[study]]
    if not earlier:
        return None
    last = max(earlier, key=dates.__getitem__)
    folder = settings.research_dir / "jobs" / newest[last] / "report"
    return PriorReport(folder, dates[last]) if (folder / "report.json").exists() else None


def prior_values(prior: PriorReport) -> tuple[PriorValue, ...]:
    """Return every number of an earlier report."""
    return tuple(_values(prior))


def _values(prior: PriorReport) -> Iterator[PriorValue]:
    report = load_report(prior.folder)
    for group in report.groups:
        for one in group.measurements:
            yield PriorValue(
                concept=one.concept,
                structure=group.structure,
                laterality=group.laterality,
                value=one.value,
                study_date=prior.study_date,
                is_calibrated=report.calibration.is_calibrated,
            )


def _header(path: Path) -> Dataset:
    return dcmread(path, stop_before_pixels=True, specific_tags=["StudyDate", "PatientID", "IssuerOfPatientID"])


def _patient(header: Dataset) -> tuple[str, str]:
    return str(header.get("PatientID", "")).strip(), str(header.get("IssuerOfPatientID", "") or "").strip()


def _study_date(header: Dataset) -> date | None:
    """Return Study Date (0008,0020); None where it is missing or no date."""
    text = str(header.get("StudyDate", "") or "")
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        return None
