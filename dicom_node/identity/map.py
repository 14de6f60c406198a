"""The map between patients and pseudonyms, and between original and clean UIDs."""

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa
from pydicom import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from deid_rules.pseudonyms import RANDOM_BYTES, pseudonym_from_bytes
from deid_rules.report import Subject, UidPair
from dicom_node.db import models
from dicom_node.db.session import transaction
from dicom_node.errors import JobRejected
from dicom_node.identity.cipher import blind_index, decrypt, encrypt
from dicom_node.identity.keys import Keys

OFFSET_WEEKS = (52, 520)
"""Range of the date shift into the past: one to ten years in whole weeks, so that weekdays stay."""


@dataclass(frozen=True, slots=True, repr=False)
class Person:
    """Who a patient is, as the source's header says."""

    patient_id: str
    issuer: str
    name: str
    birth_date: str
    sex: str


def person_from_header(header: Dataset) -> Person:
    """Read the identity of an instance.

    Raises
    ------
    JobRejected
        When there is no patient ID: an empty one would merge all such patients.
    """
    person = Person(
        patient_id=_text(header, "PatientID"),
        issuer=_text(header, "IssuerOfPatientID"),
        name=_text(header, "PatientName"),
        birth_date=_text(header, "PatientBirthDate"),
        sex=_text(header, "PatientSex"),
    )
    if not person.patient_id:
        raise JobRejected(
            "The study has no patient ID (0010,0020); it cannot be given a pseudonym. Correct it and resend."
        )
    return person


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()


def new_subject() -> Subject:
    """Return a random pseudonym with a random date shift; nothing about them comes from the patient."""
    weeks = OFFSET_WEEKS[0] + secrets.randbelow(OFFSET_WEEKS[1] - OFFSET_WEEKS[0] + 1)
    return Subject(pseudonym_from_bytes(secrets.token_bytes(RANDOM_BYTES)), -7 * weeks)


class IdentityMap:
    """Look-ups and additions; every one is a transaction of its own.

    Parameters
    ----------
    engine
        The identity database.
    keys
        The key set.
    project
        Pseudonym space: the same patient has unrelated pseudonyms in two projects.
    """

    def __init__(self, engine: sa.Engine, keys: Keys, project: str) -> None:
        self._engine = engine
        self._keys = keys
        self._project = project

    def subject(self, person: Person, now: datetime) -> Subject:
        """Return the patient's pseudonym and date shift, making them on first sight."""
        index = blind_index(self._keys.index, person.patient_id.upper(), person.issuer.upper(), self._project)
        with transaction(self._engine) as session:
            row = session.scalar(select(models.Subject).where(models.Subject.blind_index == index))
            if row is None:
                row = self._add_subject(session, index, person, now)
            offset = self._decrypt(row.date_offset, "subjects.date_offset", row.id)
            return Subject(pseudonym=row.pseudonym, date_offset_days=int(offset))

    def person(self, pseudonym: str) -> Person | None:
        """Return who a pseudonym is, or None."""
        with transaction(self._engine) as session:
            row = session.scalar(select(models.Subject).where(models.Subject.pseudonym == pseudonym))
            if row is None:
                return None
            return Person(**json.loads(self._decrypt(row.identity, "subjects.identity", row.id)))

    def record_uids(self, pseudonym: str, pairs: Iterable[UidPair]) -> None:
        """Store the way back of clean UIDs; those known already stay."""
        with transaction(self._engine) as session:
            subject = session.scalars(select(models.Subject).where(models.Subject.pseudonym == pseudonym)).one()
            wanted = {pair.clean_uid: pair for pair in pairs}
            known = set(session.scalars(select(models.UidRow.clean_uid).where(models.UidRow.subject_id == subject.id)))
            session.add_all(
                models.UidRow(
                    clean_uid=clean,
                    original_uid=self._encrypt(pair.original_uid, "uid_rows.original_uid", clean),
                    level=pair.level,
                    key_id=self._keys.key_id,
                    subject_id=subject.id,
                )
                for clean, pair in wanted.items()
                if clean not in known
            )

    def original_uid(self, clean_uid: str) -> str | None:
        """Return the original of a clean UID, or None when it is not ours."""
        with transaction(self._engine) as session:
            row = session.get(models.UidRow, clean_uid)
            return None if row is None else self._decrypt(row.original_uid, "uid_rows.original_uid", clean_uid)

    def _add_subject(self, session: Session, index: str, person: Person, now: datetime) -> models.Subject:
        row_id = secrets.token_hex(16)
        stranger = new_subject()
        row = models.Subject(
            id=row_id,
            blind_index=index,
            pseudonym=stranger.pseudonym,
            project=self._project,
            identity=self._encrypt(json.dumps(asdict(person)), "subjects.identity", row_id),
            date_offset=self._encrypt(str(stranger.date_offset_days), "subjects.date_offset", row_id),
            key_id=self._keys.key_id,
            created_at=now,
        )
        session.add(row)
        session.flush()
        return row

    def _encrypt(self, text: str, column: str, row_id: str) -> bytes:
        return encrypt(self._keys.column, text, f"{column}|{row_id}|{self._keys.key_id}")

    def _decrypt(self, value: bytes, column: str, row_id: str) -> str:
        return decrypt(self._keys.column, value, f"{column}|{row_id}|{self._keys.key_id}")
