"""Step 1: choose the series, de-identify it and hand it to the research side.

This is the only module that sees an original header on one side and writes a research file on the other. An
instance crosses only after its pixels passed the gate and its bytes, read again from disk, held nothing known of
the patient.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from deid_rules.engine import deidentify
from deid_rules.pixels import gate
from deid_rules.profile import Profile
from deid_rules.report import Subject, UidPair
from deid_rules.residual import find_residual, identifiers_of
from deid_rules.uids import UidMapper
from dicom_node.errors import JobRejected
from dicom_node.identity.map import Person, person_from_header
from dicom_node.jobs.failure import describe_failure
from dicom_node.storage.files import write_durably
from inference.series import choose_series


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
        Whether files that are not DICOM are left out, as in a folder people have put things into.

    Raises
    ------
    JobRejected
        When a file cannot be read, or none is DICOM.
    """
    headers = []
    for position, path in enumerate(paths, start=1):
        try:
            headers.append((path, dcmread(path, stop_before_pixels=True)))
        except InvalidDicomError:
            if not skip_foreign:
                raise JobRejected(f"Instance {position} of {len(paths)} is not a DICOM file.") from None
        except Exception as error:  # noqa: BLE001 - a broken file fails in any way; its kind is all that may be said
            raise JobRejected(
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
    JobRejected
        When there is no patient ID, or the instances name several patients.
    """
    people = {}
    for _, header in headers:
        person = person_from_header(header)
        people[person.patient_id, person.issuer] = person
    if len(people) != 1:
        raise JobRejected(
            f"The study's instances name {len(people)} different patients; one is expected. Correct them in the PACS."
        )
    return next(iter(people.values()))


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
    JobRejected
        When an instance cannot be de-identified safely. Nothing of the series stays on the research side then.
    """
    pairs: dict[str, UidPair] = {}
    withheld: Counter[str] = Counter()
    count = 0
    try:
        for position, (clean, report) in enumerate(_clean_instances(paths, subject, profile, uids, withheld)):
            write_durably(folder / f"{position:05d}.dcm", [clean])
            pairs.update({pair.clean_uid: pair for pair in report})
            count += 1
    except JobRejected:
        for leftover in folder.glob("*.dcm"):
            leftover.unlink()
        raise
    if count == 0:
        causes = "; ".join(f"{number} {cause}" for cause, number in sorted(withheld.items()))
        raise JobRejected(f"No instance of the series passed the pixel gate: {causes}.")
    return CleanSeries(count, tuple(pairs.values()))


def _clean_instances(
    paths: Sequence[Path], subject: Subject, profile: Profile, uids: UidMapper, withheld: Counter[str]
) -> Iterator[tuple[bytes, tuple[UidPair, ...]]]:
    for position, path in enumerate(paths, start=1):
        place = f"Instance {position} of {len(paths)} of the series"
        try:
            original = dcmread(path)
            verdict = gate(original)
            if not verdict.allowed:
                withheld[verdict.cause] += 1
                continue
            clean, report = deidentify(original, subject, profile, uids)
            encoded = _encode(clean)
        except Exception as error:  # noqa: BLE001 - fail closed: what cannot be cleaned does not cross
            raise JobRejected(
                f"{place} cannot be de-identified ({describe_failure(error)}); it was kept aside."
            ) from None
        residual = find_residual(encoded, identifiers_of(original))
        if residual:
            raise JobRejected(f"{place} still held the patient's {', '.join(residual)} after de-identification.")
        yield encoded, report.uid_pairs


def _encode(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
