"""The report in the SR class a destination takes, made when it is needed.

Most destinations take the report as it is, so no job waits for variants and their validators. One that is needed is a
function of the report (``sr_export.fallback``): every try, every destination and every rerun finds or makes the same
object. Its row is committed before it is sent, so that the node knows it for its own when it comes back.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Lock

from pydicom import Dataset, dcmread

from dicom_node.db.models import Peer, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import DeliveryRefused
from dicom_node.pipeline.validators import validate
from dicom_node.storage.files import new_id, write_durably
from sr_export.errors import ExportError
from sr_export.fallback import REPORT_CLASSES, ReportClass, fall_back, fallback_problems

MAKING = Lock()
"""Two destinations of one job may need the same variant at the same time."""


def classes_of(peer: Peer) -> tuple[ReportClass, ...]:
    """Return the SR classes to offer a peer, in order."""
    return tuple(REPORT_CLASSES.values()) if peer.sr_class == "auto" else (REPORT_CLASSES[peer.sr_class],)


def has_report(hospital_dir: Path, report: Result, classes: tuple[ReportClass, ...], receipted: set[str]) -> bool:
    """Tell whether one of these forms of a report is among the instances a peer has accepted."""
    if not receipted:
        return False
    if report.sop_instance_uid in receipted and any(row.kind == report.kind for row in classes):
        return True
    original = dcmread(hospital_dir / report.path)
    return any(uid in receipted for uid in _uids(original, classes))


def report_as(databases: Databases, hospital_dir: Path, report: Result, report_class: ReportClass) -> Result:
    """Return the row of a report in one class; a variant that is not there yet is made, judged and recorded.

    Raises
    ------
    DeliveryRefused
        When the variant cannot be made, or does not pass our own checks or an installed validator.
    """
    if report_class.kind == report.kind:
        return report
    with MAKING:
        source = hospital_dir / report.path
        original = dcmread(source)
        try:
            variant = _form(original, report_class)
        except ExportError as error:
            raise DeliveryRefused(f"The report could not be made as {report_class.name}. {error}") from None
        row = Result(
            sop_instance_uid=str(variant.SOPInstanceUID), sop_class_uid=str(variant.SOPClassUID), job_id=report.job_id,
            attempt=report.attempt, kind=report_class.kind,
            path=report.path.removesuffix(".dcm") + f"-{report_class.kind}.dcm",
        )  # fmt: skip
        with transaction(databases.hospital) as session:
            known = session.get(Result, row.sop_instance_uid)
            is_there = known is not None and known.path == row.path and (hospital_dir / row.path).is_file()
        if not is_there:
            _write_judged(original, variant, source, hospital_dir / row.path, report_class)
            with transaction(databases.hospital) as session:
                session.merge(row)
        return row


def _uids(report: Dataset, classes: tuple[ReportClass, ...]) -> Iterator[str]:
    """Yield the instance UID of every form that a report can have."""
    for row in classes:
        with suppress(ExportError):
            yield str(_form(report, row).SOPInstanceUID)


def _form(report: Dataset, report_class: ReportClass) -> Dataset:
    return report if report_class.kind == "sr" else fall_back(report, report_class)


def _write_judged(report: Dataset, variant: Dataset, source: Path, path: Path, report_class: ReportClass) -> None:
    """Write a variant; it has its name only when it passed the gate that its report passed.

    The report takes the place of the source images: what a validator says of patient and study in both was judged
    there.
    """
    draft = path.parent / f"draft-{new_id()}" / path.name
    content = _encoded(variant)
    try:
        write_durably(draft, [content])
        problems = fallback_problems(report, dcmread(draft)) or validate([draft], source)
    finally:
        shutil.rmtree(draft.parent, ignore_errors=True)
    if problems:
        raise DeliveryRefused(f"The report as {report_class.name} did not pass the checks: {'; '.join(problems)[:300]}")
    write_durably(path, [content])


def _encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
