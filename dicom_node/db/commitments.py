"""Queries on requests for storage commitment."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db.models import Commitment, Instance

QUERY_SIZE = 500
"""UIDs in one query; SQLite allows 999 values in older versions."""


def find_commitment(session: Session, calling_aet: str, transaction_uid: str) -> Commitment | None:
    """Return a request by who asked and its transaction."""
    return session.scalar(
        select(Commitment).where(Commitment.calling_aet == calling_aet, Commitment.transaction_uid == transaction_uid)
    )


def due_commitments(session: Session, now: datetime) -> list[int]:
    """Return the ids of requests whose report is due, oldest first."""
    due = select(Commitment.id).where(Commitment.state == "WAITING", Commitment.due_at <= now)
    return list(session.scalars(due.order_by(Commitment.received_at)))


def recent_commitments(session: Session, limit: int = 200) -> list[Commitment]:
    """Return the newest requests first."""
    return list(session.scalars(select(Commitment).order_by(Commitment.received_at.desc()).limit(limit)))


def kept_instances(session: Session, sop_instance_uids: Sequence[str]) -> list[Instance]:
    """Return the rows of instances, in every content they were received in."""
    rows: list[Instance] = []
    for start in range(0, len(sop_instance_uids), QUERY_SIZE):
        part = sop_instance_uids[start : start + QUERY_SIZE]
        rows += session.scalars(select(Instance).where(Instance.sop_instance_uid.in_(part)))
    return rows
