"""Step 1: choose the series, de-identify it and hand it to the research side.

This is the only module that sees an original header on one side and writes a research file on the other. An
instance crosses only after its pixels passed the gate and its bytes, read again from disk, held nothing known of
the patient.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy.orm import Session

from deid_rules import ocr
from deid_rules.blanking import blank_rectangles
from deid_rules.engine import deidentify
from deid_rules.errors import DeidError, OcrUnavailable
from deid_rules.pixels import gate, rectangles_for
from deid_rules.profile import Profile
from deid_rules.report import DeidReport, Subject, UidPair
from deid_rules.residual import KnownIdentifiers, find_residual, identifiers_of
from deid_rules.uids import UidMapper
from dicom_node.db import models
from dicom_node.errors import JobRejected
from dicom_node.identity.causes import (
    ConflictingArrival,
    IssuerChanged,
    NotDeidentifiable,
    PixelGateRefused,
    Quarantined,
    ResidualIdentifier,
    StudyUnderTwoPatients,
    Unreadable,
)
from dicom_node.identity.person import Person, person_from_header
from dicom_node.jobs.failure import describe_failure
from dicom_node.storage.files import sync_folder, write_durably
from inference.series import choose_series

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: a DICOMDIR."""
BLANKED = "rectangles of pixels erased"
"""Word of the report for what the filter rules for burned-in text did."""


@dataclass(frozen=True, slots=True)
class CleanSeries:
    """What crossed to the research side."""

    instance_count: int
    uid_pairs: tuple[UidPair, ...]


def read_headers(paths: Sequence[Path], *, skip_foreign: bool = False) -> list[tuple[Path, Dataset]]:
    """Read every header without pixel data.

    Parameters
    ----------
    paths
        Files of one study.
    skip_foreign
        Whether files that are not DICOM, and a DICOMDIR, are left out, as in a folder people have put things into.

    Raises
    ------
    Unreadable
        When a file cannot be read.
    JobRejected
        When none is DICOM.
    """
    headers = []
    for position, path in enumerate(paths, start=1):
        try:
            header = dcmread(path, stop_before_pixels=True)
            if not (skip_foreign and header.file_meta.get("MediaStorageSOPClassUID") == MEDIA_DIRECTORY):
                headers.append((path, header))
        except InvalidDicomError:
            if not skip_foreign:
                raise Unreadable(f"Instance {position} of {len(paths)} is not a DICOM file.") from None
        except Exception as error:  # noqa: BLE001 - a broken file fails in any way; its kind is all that may be said
            raise Unreadable(
                f"Instance {position} of {len(paths)} is not a readable DICOM file ({describe_failure(error)})."
            ) from None
    if not headers:
        raise JobRejected(f"None of {len(paths)} files is a DICOM file (PS3.10); name a folder with one study.")
    return headers


def select_series(headers: Sequence[tuple[Path, Dataset]]) -> list[Path]:
    """Return the files of the one CT series to analyse.

    Raises
    ------
    JobRejected
        When no series qualifies; the sentence says what each one was.
    """
    series: dict[str, list[Dataset]] = {}
    for _, header in headers:
        series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    choice = choose_series(series)
    if choice.series_instance_uid is None:
        reasons = Counter(rejection.sentence for rejection in choice.rejections)
        details = " ".join(f"({number}) {reason}" for reason, number in sorted(reasons.items()))
        raise JobRejected(f"{choice.reason} {details}")
    return [path for path, header in headers if header.get("SeriesInstanceUID") == choice.series_instance_uid]


def single_person(headers: Sequence[tuple[Path, Dataset]]) -> Person:
    """Return the one patient of a study.

    Raises
    ------
    MissingPatientId
        When an instance has no patient ID.
    StudyUnderTwoPatients, IssuerChanged, ConflictingArrival
        As `one_person`.
    """
    return one_person([person_from_header(header) for _, header in headers])


def one_person(people: Sequence[Person]) -> Person:
    """Return the one patient of a study's instances; the first that has a birth date, where some have none.

    Raises
    ------
    StudyUnderTwoPatients
        When the instances name several patient IDs.
    IssuerChanged
        When they name one patient ID with several issuers; none is an issuer of its own here.
    ConflictingArrival
        When they name one patient with several birth dates.
    """
    numbers = {person.patient_id for person in people}
    if len(numbers) != 1:
        raise StudyUnderTwoPatients(
            f"The study's instances name {len(numbers)} different patients; one is expected. Correct them in the PACS."
        )
    issuers = {person.issuer for person in people}
    if len(issuers) != 1:
        raise IssuerChanged(
            f"The study's instances name one patient number with {len(issuers)} issuers (0010,0021); one is expected. "
            "Correct them in the PACS."
        )
    dated = [person for person in people if person.birth_date]
    if len({person.birth_date for person in dated}) > 1:
        raise ConflictingArrival(
            "The study's instances name one patient with several birth dates (0010,0030). Correct them in the PACS."
        )
    return (dated or people)[0]


def quarantine_study(
    session: Session, job_id: str, instance: models.Instance, cause: Quarantined, now: datetime
) -> None:
    """Note in the quarantine table why a study is kept aside; its instances stay where they are.

    Parameters
    ----------
    session
        Of the hospital database.
    job_id
        The study's job; a second call for the same job replaces the row of the first.
    instance
        Any instance of the study.
    cause
        What was raised.
    now
        Time of the row.
    """
    session.merge(
        models.Quarantined(
            id=job_id,
            cause=cause.cause,
            sentence=str(cause)[:500],
            path=instance.path,
            calling_aet=instance.calling_aet,
            received_at=now,
        )
    )


def clean_series(
    paths: Sequence[Path], folder: Path, subject: Subject, profile: Profile, uids: UidMapper
) -> CleanSeries:
    """De-identify a series into a folder of the research side.

    Parameters
    ----------
    paths
        Original files of one series.
    folder
        Where the clean instances go; named by position, so that no name tells anything.
    subject, profile, uids
        Pseudonym and date shift, rules, and the keyed UID map.

    Raises
    ------
    Quarantined
        When one instance cannot be de-identified safely, or did not pass the pixel gate: a series with a hole, or with
        erased pixels, must not be measured. Nothing of it stays on the research side then.
    """
    pairs: dict[str, UidPair] = {}
    try:
        for position, path in enumerate(paths):
            report = _clean_slice(path, position, len(paths), folder, (subject, profile, uids))
            pairs.update({pair.clean_uid: pair for pair in report.uid_pairs})
    except JobRejected:
        for leftover in folder.glob("*.dcm"):
            leftover.unlink()
        raise
    sync_folder(folder)
    return CleanSeries(len(paths), tuple(pairs.values()))


def _clean_slice(
    path: Path, position: int, count: int, folder: Path, how: tuple[Subject, Profile, UidMapper]
) -> DeidReport:
    """De-identify one slice of a series that will be measured: none may be missing, none may have pixels erased."""
    try:
        report = clean_instance(path, folder / f"{position:05d}.dcm", *how)
        if BLANKED in report.counts:
            raise PixelGateRefused("A rule names places of burned-in text; with them erased it cannot be measured.")
    except Quarantined as refusal:
        place = f"Instance {position + 1} of {count} of the series was kept aside, and the series with it"
        raise type(refusal)(f"{place}: {refusal}") from None
    return report


def clean_instance(source: Path, target: Path, subject: Subject, profile: Profile, uids: UidMapper) -> DeidReport:
    """De-identify one file into another, which has its name only after it was read again and searched.

    Parameters
    ----------
    source
        The original.
    target
        The clean file; its name must tell nothing.
    subject, profile, uids
        As for `clean_series`.

    Returns
    -------
    DeidReport
        What was done, by rule.

    Raises
    ------
    Unreadable, PixelGateRefused, NotDeidentifiable, ResidualIdentifier
        The cause; there is no target then.
    """
    original = _read(source)
    try:
        verdict = gate(original, profile.site_rules.image_types)
        if not verdict.allowed:
            raise PixelGateRefused(verdict.cause)
        if profile.site_rules.image_types and not gate(original).allowed:
            _refuse_text(original)
        clean, report = deidentify(original, subject, profile, uids)
        rectangles = rectangles_for(original, profile.site_rules.labels)
        encoded = _encode(blank_rectangles(clean, rectangles))
        known = identifiers_of(original)
    except Quarantined:
        raise
    except DeidError as error:
        raise NotDeidentifiable(f"It cannot be de-identified: {error}.") from None
    except Exception as error:  # noqa: BLE001 - fail closed: what cannot be cleaned does not cross
        raise NotDeidentifiable(f"It cannot be de-identified ({describe_failure(error)}).") from None
    _write_searched(target, encoded, known)
    if not rectangles:
        return report
    return replace(report, counts=MappingProxyType({**report.counts, BLANKED: len(rectangles)}))


def _refuse_text(original: Dataset) -> None:
    """Search an image for text that only the site's own rule lets pass; without the extra ``ocr`` the rule stands.

    Raises
    ------
    PixelGateRefused
        When there is text in the pixels.
    """
    try:
        found = ocr.find_text(original)
    except OcrUnavailable:
        return
    if found:
        raise PixelGateRefused(f"{len(found)} pieces of text were found in the pixels")


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except Exception as error:  # noqa: BLE001 - a broken file fails in any way; its kind is all that may be said
        raise Unreadable(f"It is not a readable DICOM file ({describe_failure(error)}).") from None


def _write_searched(target: Path, encoded: bytes, known: KnownIdentifiers) -> None:
    """Write under a temporary name, read again, search, and only then give the file its name."""
    staged = target.with_name(f".{target.name}.part")
    try:
        write_durably(staged, [encoded])
        residual = find_residual(staged.read_bytes(), known)
        if residual:
            raise ResidualIdentifier(f"It still held the patient's {', '.join(residual)} after de-identification.")
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


def _encode(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
