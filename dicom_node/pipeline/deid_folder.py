"""``osteonode deid``: a tree of DICOM files in, clean files out, and a report that may go with them.

Names in the output are random for studies and positions for instances. The report names refused files by random
ids; which input file an id or a clean file was, is a second file for the hospital side.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import FileDataset, dcmread
from pydicom.uid import MediaStorageDirectoryStorage

from deid_rules.profile import BASIC_PROFILE_CODE, Profile
from deid_rules.report import UidPair
from deid_rules.uids import UidMapper
from dicom_node.errors import ConfigurationError
from dicom_node.identity.causes import ConflictingArrival, NotDeidentifiable, Quarantined, Unreadable
from dicom_node.identity.map import IdentityMap
from dicom_node.identity.person import Person, person_from_header
from dicom_node.jobs.failure import describe_failure
from dicom_node.pipeline.deidentification import clean_instance, one_person

REPORT_FORMAT = "osteonode-deid-report/1"
HEADER_TAGS = (
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
)
CLEAN, DUPLICATE, REFUSED = "clean", "duplicate", "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Attributes
    ----------
    source
        The input file; for the hospital side only.
    name
        Path below the output folder, or a random id where there is no clean file.
    kind
        ``clean``, ``duplicate`` or ``refused``.
    cause, sentence
        Of a refusal.
    counts
        Elements by what was done, of a clean file.
    """

    source: Path
    name: str
    kind: str
    cause: str = ""
    sentence: str = ""
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FolderTools:
    """What a run needs: the map, the UID mapper, the profile, the time, and whom to tell after each file."""

    identities: IdentityMap
    uids: UidMapper
    profile: Profile
    now: datetime
    on_file: Callable[[], object]


@dataclass(frozen=True, slots=True, repr=False)
class _Seen:
    """What the survey keeps of a file."""

    path: Path
    study_instance_uid: str
    sop_instance_uid: str
    person: Person


def files_of(folder: Path, output: Path | None = None) -> list[Path]:
    """Return the files below a folder, sorted.

    Raises
    ------
    ConfigurationError
        When it is no folder or holds no files, or the output is in use or one lies within the other.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder; name a folder with DICOM files.")
    if output is not None:
        inside = output.resolve().is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(output.resolve())
        if inside:
            raise ConfigurationError("One of the two folders lies within the other; name an output folder elsewhere.")
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise ConfigurationError(f"{output} is in use; name a new folder, so that no result is mixed with another.")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise ConfigurationError(f"{folder} holds no files.")
    return paths


def deidentify_folder(paths: Sequence[Path], output: Path, tools: FolderTools) -> list[Outcome]:
    """De-identify files study by study.

    Parameters
    ----------
    paths
        The input files.
    output
        A new folder.
    tools
        See there.

    Returns
    -------
    list of Outcome
        One a file. A study with an identity that contradicts itself or the map is refused as a whole.
    """
    outcomes: list[Outcome] = []
    studies: dict[str, list[_Seen]] = {}
    for path in paths:
        try:
            seen = _survey(path)
        except Quarantined as refusal:
            outcomes.append(_refused(path, refusal))
            tools.on_file()
        else:
            studies.setdefault(seen.study_instance_uid or secrets.token_hex(8), []).append(seen)
    output.mkdir(parents=True, exist_ok=True)
    for files in studies.values():
        outcomes += _study(files, output, tools)
    return sorted(outcomes, key=lambda outcome: outcome.name)


def _survey(path: Path) -> _Seen:
    header = _header(path)
    if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise NotDeidentifiable("A DICOMDIR is not de-identified; the files it lists are.")
    return _Seen(
        path,
        str(header.get("StudyInstanceUID") or ""),
        str(header.get("SOPInstanceUID") or ""),
        person_from_header(header),
    )


def _header(path: Path) -> FileDataset:
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
        for keyword in HEADER_TAGS:
            header.get(keyword)
    except Exception as error:  # noqa: BLE001 - a broken file fails in any way; its kind is all that may be said
        raise Unreadable(f"It is not a readable DICOM file ({describe_failure(error)}).") from None
    return header


def _study(files: list[_Seen], output: Path, tools: FolderTools) -> list[Outcome]:
    """De-identify the files of one study, all or none where its identity is at fault."""
    folder = output / secrets.token_hex(8)
    outcomes: list[Outcome] = []
    try:
        person = one_person([one.person for one in files])
        subject = tools.identities.subject(person, tools.now, files[0].study_instance_uid)
        pairs: dict[str, UidPair] = {}
        for outcome, found in _instances(files, folder, tools, subject):
            outcomes.append(outcome)
            pairs.update({pair.clean_uid: pair for pair in found})
            tools.on_file()
        tools.identities.record_uids(subject.pseudonym, pairs.values())
    except Quarantined as refusal:
        for path in folder.glob("*.dcm"):
            path.unlink()
        for _ in range(len(files) - len(outcomes)):
            tools.on_file()
        outcomes = [_refused(one.path, refusal) for one in files]
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    return outcomes


def _instances(
    files: list[_Seen], folder: Path, tools: FolderTools, subject: Any
) -> Iterator[tuple[Outcome, tuple[UidPair, ...]]]:
    repeated, contradicting = _repeated(files)
    for position, one in enumerate(files):
        name = f"{position:05d}.dcm"
        if one.path in repeated:
            yield Outcome(one.path, secrets.token_hex(8), DUPLICATE), ()
            continue
        try:
            if one.sop_instance_uid in contradicting:
                raise ConflictingArrival("Several files have this instance's UID and different contents.")
            report = clean_instance(one.path, folder / name, subject, tools.profile, tools.uids)
        except Quarantined as refusal:
            yield _refused(one.path, refusal), ()
        else:
            yield Outcome(one.path, f"{folder.name}/{name}", CLEAN, counts=dict(report.counts)), report.uid_pairs


def _repeated(files: list[_Seen]) -> tuple[set[Path], set[str]]:
    """Return the files that are copies of an earlier one, and the instance UIDs that come with several contents."""
    by_uid: dict[str, list[Path]] = {}
    for one in files:
        by_uid.setdefault(one.sop_instance_uid, []).append(one.path)
    copies: set[Path] = set()
    contradicting: set[str] = set()
    for uid, paths in by_uid.items():
        if len(paths) > 1 and uid:
            if len({hashlib.sha256(path.read_bytes()).digest() for path in paths}) > 1:
                contradicting.add(uid)
            else:
                copies.update(paths[1:])
    return copies, contradicting


def _refused(path: Path, refusal: Quarantined) -> Outcome:
    return Outcome(path, secrets.token_hex(8), REFUSED, refusal.cause, str(refusal))


def report_of(outcomes: Sequence[Outcome], profile: Profile, now: datetime) -> dict[str, Any]:
    """Return the report as plain values: figures, words and random names, nothing of the input."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    return {
        "format": REPORT_FORMAT,
        "created": now.isoformat(timespec="seconds"),
        "profile": [BASIC_PROFILE_CODE, *sorted(option.value for option in profile.options_in_force)],
        "recipe_sha256": hashlib.sha256(profile.site_rules.text.encode()).hexdigest()
        if profile.site_rules.text
        else "",
        "totals": {
            "files": len(outcomes),
            "outcomes": dict(sorted(Counter(outcome.kind for outcome in outcomes).items())),
            "causes": dict(sorted(Counter(outcome.cause for outcome in outcomes if outcome.cause).items())),
            "counts": dict(sorted(counts.items())),
        },
        "files": [_file_report(outcome) for outcome in outcomes],
    }


def _file_report(outcome: Outcome) -> dict[str, Any]:
    if outcome.kind == CLEAN:
        return {"file": outcome.name, "outcome": CLEAN, "counts": dict(sorted(outcome.counts.items()))}
    refusal = {"cause": outcome.cause, "sentence": outcome.sentence} if outcome.kind == REFUSED else {}
    return {"id": outcome.name, "outcome": outcome.kind, **refusal}


def sources_of(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return which input file each name or id was, for the hospital side."""
    return {outcome.name: str(outcome.source) for outcome in outcomes}
