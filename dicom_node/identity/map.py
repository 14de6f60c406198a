"""The map between patients and pseudonyms, and between original and clean UIDs.

A patient is a number with its issuer in a project; look-up is by keyed blind index. What contradicts what the map
knows raises a cause of quarantine, and nothing is added then. docs/identity-map.md defines every cause.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from deid_rules.pseudonyms import RANDOM_BYTES, pseudonym_from_bytes
from deid_rules.report import Subject, UidPair
from deid_rules.uids import UidMapper
from dicom_node.db import models
from dicom_node.db.session import transaction
from dicom_node.errors import ConfigurationError
from dicom_node.identity.audit import AuditEntry, write_audit
from dicom_node.identity.causes import ConflictingArrival, IssuerChanged, StudyUnderTwoPatients
from dicom_node.identity.cipher import encrypt, identity_index, number_index, seal, unseal
from dicom_node.identity.keys import Keys
from dicom_node.identity.person import Person, person_from_header, person_from_text, text_from_person
from dicom_node.identity.register import check_keys, hold

__all__ = ["IdentityMap", "Person", "new_subject", "person_from_header"]

OFFSET_WEEKS = (52, 520)
"""Range of the date shift into the past: one to ten years in whole weeks, so that weekdays stay."""
VALUES_PER_QUERY = 500
"""Well below SQLite's limit of bound parameters (sqlite.org/limits, 32766; 999 before 3.32)."""


def new_subject(pseudonym: str = "") -> Subject:
    """Return a pseudonym, random unless given, with a random date shift; nothing comes from the patient."""
    weeks = OFFSET_WEEKS[0] + secrets.randbelow(OFFSET_WEEKS[1] - OFFSET_WEEKS[0] + 1)
    return Subject(pseudonym or pseudonym_from_bytes(secrets.token_bytes(RANDOM_BYTES)), -7 * weeks)


class IdentityMap:
    """Look-ups and additions; every one is a transaction of its own.

    Parameters
    ----------
    engine
        The identity database.
    keys
        The keys.
    project
        Pseudonym space: the same patient has unrelated pseudonyms in two projects.
    """

    def __init__(self, engine: sa.Engine, keys: Keys, project: str) -> None:
        self._engine = engine
        self._keys = keys
        self._project = project

    def subject(self, person: Person, now: datetime, study_instance_uid: str = "") -> Subject:
        """Return the patient's pseudonym and date shift, making them on first sight.

        Parameters
        ----------
        person
            Who the headers say it is.
        now
            Time noted for a new patient.
        study_instance_uid
            The original study, to be checked against the map; empty checks none.

        Raises
        ------
        IssuerChanged, ConflictingArrival, StudyUnderTwoPatients
            When the map knows otherwise. Nothing is added then.
        ConfigurationError
            When the keys are not those of the map.
        """
        with transaction(self._engine) as session:
            check_keys(session, self._keys)
            row = self._find(session, person)
            if row is None:
                hold(session)
                check_keys(session, self._keys)
                row = self._find(session, person) or self._add(session, person, now)
            self._confirm(session, row, person)
            if study_instance_uid:
                self._check_study(session, row, study_instance_uid)
            return self._subject(row)

    def person(self, pseudonym: str) -> Person | None:
        """Return who a pseudonym is, or None."""
        with transaction(self._engine) as session:
            row = session.scalar(select(models.Subject).where(models.Subject.pseudonym == pseudonym))
            return None if row is None else self._person(row)

    def known_subject(self, pseudonym: str) -> Subject | None:
        """Return the pseudonym with its date shift, or None when the map does not know it."""
        with transaction(self._engine) as session:
            row = session.scalar(select(models.Subject).where(models.Subject.pseudonym == pseudonym))
            return None if row is None else self._subject(row)

    def record_uids(self, pseudonym: str, pairs: Iterable[UidPair]) -> None:
        """Store the way back of clean UIDs; those known already stay.

        Raises
        ------
        StudyUnderTwoPatients, ConflictingArrival
            When a study, or a series or instance, is recorded for another patient. A frame of reference may be shared:
            some scanners give all patients the same one.
        """
        wanted = {pair.clean_uid: pair for pair in pairs}
        with transaction(self._engine) as session:
            hold(session)
            check_keys(session, self._keys)
            subject = session.scalars(select(models.Subject).where(models.Subject.pseudonym == pseudonym)).one()
            known = {row.clean_uid: row for row in _uid_rows(session, list(wanted))}
            for row in known.values():
                _check_owner(row, subject.id)
            session.add_all(
                models.UidRow(
                    clean_uid=clean,
                    original_uid=seal(self._keys, pair.original_uid, "uid_rows.original_uid", clean),
                    level=pair.level,
                    key_id=self._keys.key_id,
                    subject_id=subject.id,
                )
                for clean, pair in wanted.items()
                if clean not in known
            )

    def original_uid(self, clean_uid: str, pseudonym: str = "") -> str | None:
        """Return the original of a clean UID.

        Parameters
        ----------
        clean_uid
            From the research side.
        pseudonym
            Whose it has to be; a frame of reference may be shared. Empty: anybody's.

        Returns
        -------
        str or None
            None when it is not in the map, or another patient's.
        """
        with transaction(self._engine) as session:
            row = session.get(models.UidRow, clean_uid)
            if row is None or (pseudonym and not _is_of(session, row, pseudonym)):
                return None
            return unseal(self._keys, row.original_uid, "uid_rows.original_uid", clean_uid, row.key_id)

    def correct(self, pseudonym: str, person: Person, actor: str, now: datetime) -> None:
        """Replace name, birth date and sex of a patient, as an administrator found them to be; audited.

        Raises
        ------
        ConfigurationError
            When the pseudonym is unknown, or the person has another number or issuer.
        """
        with transaction(self._engine) as session:
            hold(session)
            check_keys(session, self._keys)
            row = session.scalar(select(models.Subject).where(models.Subject.pseudonym == pseudonym))
            if row is None or row not in self._find_all(session, person):
                raise ConfigurationError("The header's patient number and issuer are not those of this pseudonym.")
            row.identity = self._sealed_person(row, person)
            write_audit(session, AuditEntry("correct", actor, {"pseudonym": pseudonym}), now)

    def move_study(self, person: Person, uids: Iterable[str], actor: str, now: datetime) -> tuple[str, int]:
        """Record the UIDs of a study under the patient they belong to now; audited.

        Parameters
        ----------
        person
            The patient, added where the map does not know it.
        uids
            Original study, series and instance UIDs; those the map does not know are passed over.
        actor, now
            Who does it, and when.

        Returns
        -------
        tuple
            The patient's pseudonym, and the number of UIDs moved to it.

        Raises
        ------
        IssuerChanged, ConflictingArrival
            When the map knows the patient otherwise.
        """
        with transaction(self._engine) as session:
            hold(session)
            check_keys(session, self._keys)
            row = self._find(session, person) or self._add(session, person, now)
            self._confirm(session, row, person)
            mappers = [UidMapper(key, self._project) for key in self._keys.uids]
            cleans = [mapper.map(uid) for uid in dict.fromkeys(uids) for mapper in mappers]
            moved = [known for known in _uid_rows(session, cleans) if known.subject_id != row.id]
            for known in moved:
                known.subject_id = row.id
            write_audit(session, AuditEntry("move-study", actor, {"pseudonym": row.pseudonym, "uids": len(moved)}), now)
            return row.pseudonym, len(moved)

    def _find(self, session: Session, person: Person) -> models.Subject | None:
        return next(iter(self._find_all(session, person)), None)

    def _find_all(self, session: Session, person: Person) -> Sequence[models.Subject]:
        indexes = [
            identity_index(keys.index, person.patient_id, person.issuer, self._project) for keys in self._keys.versions
        ]
        return session.scalars(select(models.Subject).where(models.Subject.blind_index.in_(indexes))).all()

    def _add(self, session: Session, person: Person, now: datetime) -> models.Subject:
        self._check_issuer(session, person)
        row = subject_row(self._keys, person, new_subject(), self._project, now)
        session.add(row)
        session.flush()
        return row

    def _check_issuer(self, session: Session, person: Person) -> None:
        """Refuse a number known under another issuer, unless birth dates show two people."""
        indexes = [number_index(keys.index, person.patient_id, self._project) for keys in self._keys.versions]
        for row in session.scalars(select(models.Subject).where(models.Subject.id_index.in_(indexes))):
            known = self._person(row).birth_date
            if not known or not person.birth_date or known == person.birth_date:
                raise IssuerChanged

    def _confirm(self, session: Session, row: models.Subject, person: Person) -> None:
        """Refuse another birth date; complete a patient of whom an import told the number only."""
        known = self._person(row)
        if known.birth_date and person.birth_date and known.birth_date != person.birth_date:
            raise ConflictingArrival
        if known.is_number_only and not person.is_number_only:
            row.identity = self._sealed_person(row, person)
            session.flush()

    def _check_study(self, session: Session, row: models.Subject, study_instance_uid: str) -> None:
        cleans = [UidMapper(key, self._project).map(study_instance_uid) for key in self._keys.uids]
        for known in _uid_rows(session, cleans):
            _check_owner(known, row.id)

    def _subject(self, row: models.Subject) -> Subject:
        offset = unseal(self._keys, row.date_offset, "subjects.date_offset", row.id, row.key_id)
        return Subject(pseudonym=row.pseudonym, date_offset_days=int(offset))

    def _person(self, row: models.Subject) -> Person:
        return person_from_text(unseal(self._keys, row.identity, "subjects.identity", row.id, row.key_id))

    def _sealed_person(self, row: models.Subject, person: Person) -> bytes:
        """Encrypt with the row's own key version, as its other columns are."""
        keys = self._keys.of(row.key_id)
        return encrypt(keys.column, text_from_person(person), f"subjects.identity|{row.id}|{row.key_id}")


def subject_row(keys: Keys, person: Person, subject: Subject, project: str, now: datetime) -> models.Subject:
    """Make the row of a new patient."""
    row_id = secrets.token_hex(16)
    return models.Subject(
        id=row_id,
        blind_index=identity_index(keys.index, person.patient_id, person.issuer, project),
        id_index=number_index(keys.index, person.patient_id, project),
        pseudonym=subject.pseudonym,
        project=project,
        identity=seal(keys, text_from_person(person), "subjects.identity", row_id),
        date_offset=seal(keys, str(subject.date_offset_days), "subjects.date_offset", row_id),
        key_id=keys.key_id,
        created_at=now,
    )


def _uid_rows(session: Session, clean_uids: Sequence[str]) -> Iterator[models.UidRow]:
    for start in range(0, len(clean_uids), VALUES_PER_QUERY):
        chunk = clean_uids[start : start + VALUES_PER_QUERY]
        yield from session.scalars(select(models.UidRow).where(models.UidRow.clean_uid.in_(chunk)))


def _is_of(session: Session, row: models.UidRow, pseudonym: str) -> bool:
    owner = session.get_one(models.Subject, row.subject_id)
    return row.level == "frame_of_reference" or owner.pseudonym == pseudonym


def _check_owner(row: models.UidRow, subject_id: str) -> None:
    """Refuse a UID recorded for another patient."""
    if row.subject_id == subject_id or row.level == "frame_of_reference":
        return
    if row.level == "study":
        raise StudyUnderTwoPatients
    raise ConflictingArrival(
        "The map knows a series or instance of this study under another patient. Correct the patient in the PACS."
    )
