"""Queries on the audit: appending to its chain, pages of it, how far it was sent and checked.

No function here changes or deletes a message.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.audit.chain import Head, Link, row_hash
from dicom_node.db.audit_tables import AuditCursor, AuditHead, AuditMessage
from dicom_node.db.models import Instance, StudyVersion

READ_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as it goes into the chain; values are those of `AuditMessage`."""

    event_id: str
    at: datetime
    kind: str
    outcome: int
    who: str
    study_instance_uid: str
    patient: str
    sentence: str
    message: str


def append(session: Session, entries: Sequence[Entry]) -> Head:
    """Append messages and return the new head; they are there when the session's transaction is.

    Every other writer, in this process or another one, waits until the transaction ends. An entry that is there
    already is passed over.
    """
    session.execute(update(AuditHead).values(rows=AuditHead.rows))
    state = session.scalars(select(AuditHead).execution_options(populate_existing=True)).one()
    identifiers = [entry.event_id for entry in entries]
    known = set(session.scalars(select(AuditMessage.event_id).where(AuditMessage.event_id.in_(identifiers))))
    for entry in entries:
        if entry.event_id not in known:
            row = AuditMessage(number=state.rows + 1, previous_hash=state.row_hash, **_columns(entry))
            row.row_hash = hash_of(row)
            session.add(row)
            state.rows, state.row_hash = row.number, row.row_hash
    session.flush()
    return Head(state.rows, state.row_hash)


def _columns(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in Entry.__slots__}


def hash_of(row: AuditMessage) -> str:
    """Return what the hash of a row has to be."""
    return row_hash(
        [
            row.number,
            row.event_id,
            row.at.astimezone(UTC).isoformat(timespec="microseconds"),
            row.kind,
            row.outcome,
            row.who,
            row.study_instance_uid,
            row.patient,
            row.sentence,
            row.message,
            row.previous_hash,
        ]
    )


def head(session: Session) -> Head:
    """Return how many messages there are, and the last hash."""
    state = session.scalars(select(AuditHead).execution_options(populate_existing=True)).one()
    return Head(state.rows, state.row_hash)


def messages_after(session: Session, number: int, limit: int | None = None) -> Iterator[AuditMessage]:
    """Yield messages in the order of the chain, a few at a time from the database."""
    while limit is None or limit > 0:
        at_once = READ_AT_ONCE if limit is None else min(limit, READ_AT_ONCE)
        query = select(AuditMessage).where(AuditMessage.number > number).order_by(AuditMessage.number).limit(at_once)
        rows = session.scalars(query).all()
        for row in rows:
            session.expunge(row)
            yield row
        if len(rows) < at_once:
            return
        number = rows[-1].number
        limit = None if limit is None else limit - len(rows)


def links_after(session: Session, number: int, limit: int | None = None) -> Iterator[Link]:
    """Yield rows as the chain sees them."""
    for row in messages_after(session, number, limit):
        yield Link(row.number, row.previous_hash, row.row_hash, hash_of(row))


def page_of_messages(
    session: Session,
    limit: int,
    before: int | None = None,
    kinds: Sequence[str] = (),
    patients: Sequence[str] = (),
    study_instance_uid: str = "",
) -> list[AuditMessage]:
    """Return messages, newest first.

    Parameters
    ----------
    session
        Hospital side.
    limit
        At most so many.
    before
        Only those with a smaller number.
    kinds, patients, study_instance_uid
        Only those of these kinds, patients (keyed indexes), this study; empty: of all.
    """
    query = select(AuditMessage).order_by(AuditMessage.number.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditMessage.number < before)
    if kinds:
        query = query.where(AuditMessage.kind.in_(kinds))
    if patients:
        query = query.where(AuditMessage.patient.in_(patients))
    if study_instance_uid:
        query = query.where(AuditMessage.study_instance_uid == study_instance_uid)
    return list(session.scalars(query))


def find_message(session: Session, number: int) -> AuditMessage | None:
    """Return one message, None where there is none."""
    return session.get(AuditMessage, number) if number <= head(session).number else None


def cursor(session: Session, name: str, *, hold: bool = False) -> AuditCursor | None:
    """Return how far something has come along the chain.

    Parameters
    ----------
    session
        Hospital side.
    name
        One of `CURSORS`.
    hold
        Keep it from other processes until the transaction ends; None when another one has it. SQLite has one node
        only, and does nothing here.
    """
    query = select(AuditCursor).where(AuditCursor.name == name).execution_options(populate_existing=True)
    return session.scalars(query.with_for_update(skip_locked=True) if hold else query).one_or_none()


def study_of_job(session: Session, job_id: str) -> str:
    """Return the study a job is about; empty when nobody knows the job."""
    return session.scalar(select(StudyVersion.study_instance_uid).where(StudyVersion.job_id == job_id)) or ""


def path_of_study(session: Session, study_instance_uid: str) -> str | None:
    """Return the path of one received instance of a study, the newest; None when there is none."""
    query = select(Instance.path).where(Instance.study_instance_uid == study_instance_uid)
    return session.scalars(query.order_by(Instance.received_at.desc()).limit(1)).first()
