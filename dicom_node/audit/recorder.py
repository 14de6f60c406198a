"""Writing events: into the chain or, while the database cannot be written, into a file that is taken up later.

`record` never raises: an audit that fails must not lose an image. A failure is logged, and `/health` tells it for as
long as anything waits (`dicom_node.audit.upkeep.problems`).
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy.orm import Session

from dicom_node import clock
from dicom_node.audit import codes
from dicom_node.audit.events import THIS_NODE, Actor, Event, Party
from dicom_node.audit.message import AuditSource, Message, Participant, ParticipantObject, clean, xml_of
from dicom_node.audit.patients import UNKNOWN, index_of_file, patient_index
from dicom_node.db.audit import Entry, append, path_of_study
from dicom_node.db.session import Databases, transaction
from dicom_node.identity.keys import load_keys
from dicom_node.logs import log
from dicom_node.settings import Settings
from dicom_node.storage.files import new_id

LOG = log(__name__)
WAITING_FILE = "audit-waiting.jsonl"
TAKEN_AT_ONCE = 200
PATIENT_NAME = "keyed index of the patient number"
"""Stands where PS3.15 allows the patient's name; the schema wants a name or a query."""
PATIENT_KINDS = ("patient_record", "export", "import", "transfer_begun", "instances_transferred", "instances_accessed")
"""Kinds whose message has a patient, known or not (PS3.15 A.5.3)."""


def record(databases: Databases, settings: Settings, *events: Event) -> None:
    """Write events, in a transaction of their own, in this order."""
    if not events:
        return
    now = clock.now()
    entries = [entry_of(databases, settings, event, now) for event in events]
    try:
        with transaction(databases.hospital) as session:
            write(session, entries)
    except Exception as error:  # noqa: BLE001 - whatever happens to the audit, what it tells of must go on
        LOG.error("audit_not_written", error=type(error).__name__, kinds=sorted({one.kind for one in entries}))
        _put_aside(settings, entries)


def write(session: Session, entries: list[Entry]) -> None:
    """Append entries within the caller's transaction."""
    head = append(session, entries)
    LOG.info("audit_written", audit_row=head.number, audit_hash=head.row_hash, kinds=[one.kind for one in entries])


def entry_of(databases: Databases, settings: Settings, event: Event, now: datetime) -> Entry:
    """Return an event as the chain takes it: this node named, the patient as a keyed index, the message as XML."""
    patient = _patient(databases, settings, event)
    node = Party(settings.ae_title, settings.ae_title, socket.gethostname())
    message = Message(
        event=event.kind.event,
        types=(event.kind.type,) if event.kind.type else (),
        action=event.action,
        at=now,
        outcome=event.outcome,
        outcome_text="" if event.outcome == codes.SUCCESS else event.sentence,
        participants=tuple(_participant(actor, node) for actor in event.actors),
        source=AuditSource(settings.ae_title, settings.audit_site),
        objects=(*_study_objects(event), *_patient_objects(patient), *event.objects),
    )
    return Entry(
        event_id=new_id(),
        at=now,
        kind=event.kind.key,
        outcome=event.outcome,
        who=clean(event.other.name, 64),
        study_instance_uid=clean(event.study.study_instance_uid, 64) if event.study else "",
        patient=patient,
        sentence=clean(event.sentence),
        message=xml_of(message),
    )


def _participant(actor: Actor, node: Party) -> Participant:
    party = node if actor.party == THIS_NODE else actor.party
    return Participant(
        user_id=party.name or "unknown",
        alternative_user_id=f"AETITLES={party.ae_title}" if party.ae_title else "",
        user_name="osteonode" if party is node else "",
        is_requestor=actor.is_requestor,
        role=actor.role,
        access_point=party.address,
        media=actor.media,
    )


def _study_objects(event: Event) -> Iterator[ParticipantObject]:
    if event.study is not None:
        yield ParticipantObject(
            codes.STUDY_UID,
            event.study.study_instance_uid or "unknown",
            codes.SYSTEM_OBJECT,
            codes.REPORT_ROLE,
            "Study",
            sop_classes=tuple(sorted(event.study.counts.items())),
        )


def _patient_objects(patient: str) -> Iterator[ParticipantObject]:
    if patient:
        yield ParticipantObject(codes.PATIENT_NUMBER, patient, codes.PERSON, codes.PATIENT_ROLE, PATIENT_NAME)


def _patient(databases: Databases, settings: Settings, event: Event) -> str:
    """Return the keyed index of the patient an event is about; empty for a kind that has none."""
    if event.person is None and event.study is None:
        return UNKNOWN if event.kind.key in PATIENT_KINDS else ""
    try:
        keys = load_keys(settings.keys)
        if event.person is not None:
            return patient_index(keys, event.person.patient_id, event.person.issuer)
        assert event.study is not None
        with transaction(databases.hospital) as session:
            path = path_of_study(session, event.study.study_instance_uid)
        return UNKNOWN if path is None else index_of_file(keys, settings.hospital_dir / path)
    except Exception as error:  # noqa: BLE001 - an event without its patient is better than none
        LOG.error("audit_patient_unknown", error=type(error).__name__)
        return UNKNOWN


def waiting(settings: Settings) -> int:
    """Return how many events wait to be written."""
    try:
        with _waiting_file(settings).open("rb") as stream:
            return sum(1 for _ in stream)
    except FileNotFoundError:
        return 0


def take_up(databases: Databases, settings: Settings) -> int:
    """Write the events that wait, and return how many there were; after a crash none is written twice."""
    if not waiting(settings):
        return 0
    with _locked(_waiting_file(settings)) as stream:
        entries = list(_entries(stream))
        for start in range(0, len(entries), TAKEN_AT_ONCE):
            with transaction(databases.hospital) as session:
                write(session, entries[start : start + TAKEN_AT_ONCE])
        stream.truncate(0)
        os.fsync(stream.fileno())
    LOG.info("audit_taken_up", count=len(entries))
    return len(entries)


def _put_aside(settings: Settings, entries: list[Entry]) -> None:
    """Append entries to the waiting file, durably."""
    try:
        with _locked(_waiting_file(settings)) as stream:
            content = stream.read()
            stream.write(b"" if content.endswith(b"\n") or not content else b"\n")  # a crash may have cut a line off
            for entry in entries:
                line = json.dumps({**asdict(entry), "at": entry.at.isoformat()})
                stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        LOG.error("audit_event_lost", error=type(error).__name__, kinds=[one.kind for one in entries])


def _entries(stream: IO[bytes]) -> Iterator[Entry]:
    """Read the waiting file; a last line that a crash cut off tells nothing."""
    for line in stream:
        try:
            values = json.loads(line)
            yield replace(Entry(**values), at=datetime.fromisoformat(values["at"]))
        except (ValueError, TypeError, KeyError):
            LOG.error("audit_event_lost", error="TornLine")


def _waiting_file(settings: Settings) -> Path:
    return settings.hospital_dir / WAITING_FILE


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading and writing that no other process or thread writes meanwhile."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream
