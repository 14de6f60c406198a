"""The audit's tables, on the hospital side: messages in a chain, its end, how far it was sent and checked."""

from datetime import datetime

from sqlalchemy import CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.db.models import Hospital

CURSORS = ("syslog", "check")
"""What moves along the chain: sending it on, and checking it."""


class AuditMessage(Hospital):
    """One event as a message of PS3.15 A.5; no code changes or deletes a row.

    No two rows can follow the same one: a second one with the same number, or the same hash before it, is refused by
    the database itself.
    """

    __tablename__ = "audit_messages"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[str] = mapped_column(String(32), unique=True)
    """Random; an event that is written again after a crash is known by it."""
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    outcome: Mapped[int] = mapped_column(CheckConstraint("outcome IN (0, 4, 8, 12)", name="outcome"))
    who: Mapped[str] = mapped_column(String(64))
    """The party that is not this node."""
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    patient: Mapped[str] = mapped_column(String(64), index=True)
    """Keyed index of the patient's number and issuer; empty where it is about no patient."""
    sentence: Mapped[str] = mapped_column(String(250))
    message: Mapped[str] = mapped_column(Text)
    """The XML."""
    previous_hash: Mapped[str] = mapped_column(String(64), unique=True)
    row_hash: Mapped[str] = mapped_column(String(64))


class AuditHead(Hospital):
    """One row: how many messages there are and the last hash. Whoever writes one holds this row."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rows: Mapped[int]
    row_hash: Mapped[str] = mapped_column(String(64))


class AuditCursor(Hospital):
    """How far along the chain something has come, and what was the matter the last time."""

    __tablename__ = "audit_cursors"
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    number: Mapped[int]
    row_hash: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime | None]
    sentence: Mapped[str] = mapped_column(String(500))
