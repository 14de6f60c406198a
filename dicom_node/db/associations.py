"""Queries on the association ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from dicom_node.db.models import AssociationRow, Instance
from dicom_node.db.routing_tables import ReceivingAssociation

FORGOTTEN_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class CallerSummary:
    """What one caller did since a time."""

    calling_aet: str
    associations: int
    rejected: int
    accepted: int
    refused: int
    received_bytes: int
    busy_s: float
    last_at: datetime


def recent_associations(
    session: Session, limit: int = 200, before: int | None = None, calling_aet: str = ""
) -> list[AssociationRow]:
    """Return the associations that ended last, newest first.

    Parameters
    ----------
    session
        Hospital side.
    limit
        At most so many.
    before
        Only those with a smaller id.
    calling_aet
        Only those of this caller; empty: of all.
    """
    query = select(AssociationRow).order_by(AssociationRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AssociationRow.id < before)
    if calling_aet:
        query = query.where(AssociationRow.calling_aet == calling_aet)
    return list(session.scalars(query))


def caller_summaries(session: Session, since: datetime) -> list[CallerSummary]:
    """Return what each caller did in associations that ended since a time, who sent most first."""
    rows = session.execute(
        select(
            AssociationRow.calling_aet,
            AssociationRow.outcome.in_(("released", "aborted")),
            AssociationRow.accepted,
            AssociationRow.refused,
            AssociationRow.received_bytes,
            AssociationRow.started_at,
            AssociationRow.ended_at,
        ).where(AssociationRow.ended_at >= since)
    )
    found: dict[str, CallerSummary] = {}
    for title, was_admitted, accepted, refused, received_bytes, started_at, ended_at in rows:
        old = found.get(title) or CallerSummary(title, 0, 0, 0, 0, 0, 0.0, ended_at)
        found[title] = CallerSummary(
            title,
            old.associations + was_admitted,
            old.rejected + (not was_admitted),
            old.accepted + accepted,
            old.refused + refused,
            old.received_bytes + received_bytes,
            old.busy_s + (ended_at - started_at).total_seconds(),
            max(old.last_at, ended_at),
        )
    return sorted(found.values(), key=lambda one: (-one.accepted, one.calling_aet))


def forget_associations(session: Session, before: datetime) -> int:
    """Delete audited associations that ended before a time, not too many at once; return how many."""
    old = select(AssociationRow.id).where(AssociationRow.ended_at < before, AssociationRow.is_audited)
    ids = session.scalars(old.limit(FORGOTTEN_AT_ONCE)).all()
    session.execute(delete(AssociationRow).where(AssociationRow.id.in_(ids)))
    return len(ids)


def unaudited_associations(session: Session, limit: int) -> list[AssociationRow]:
    """Return the associations that the audit does not tell of yet, oldest first."""
    query = select(AssociationRow).where(~AssociationRow.is_audited).order_by(AssociationRow.id).limit(limit)
    return list(session.scalars(query))


def mark_audited(session: Session, ids: Sequence[int]) -> bool:
    """Note that the audit tells of these associations; False, and nothing noted, when another process was faster."""
    query = select(AssociationRow.id).where(AssociationRow.id.in_(ids), ~AssociationRow.is_audited).with_for_update()
    if len(session.scalars(query).all()) < len(ids):
        return False
    session.execute(update(AssociationRow).where(AssociationRow.id.in_(ids)).values(is_audited=True))
    return True


def brought_instances(session: Session, association_id: str) -> dict[str, dict[str, int]]:
    """Return what an association brought that was not here: study -> SOP class -> number of instances."""
    return _by_study(session, Instance.association_id == association_id)


def _by_study(session: Session, condition: ColumnElement[bool]) -> dict[str, dict[str, int]]:
    rows = session.execute(
        select(Instance.study_instance_uid, Instance.sop_class_uid, func.count())
        .where(condition)
        .group_by(Instance.study_instance_uid, Instance.sop_class_uid)
    )
    found: dict[str, dict[str, int]] = {}
    for study, sop_class, count in rows:
        found.setdefault(study, {})[sop_class] = count
    return found


def arrived_instances(session: Session, calling_aet: str, since: datetime) -> dict[str, dict[str, int]]:
    """Return what came under a calling AE title since a time: study -> SOP class -> number of instances."""
    return _by_study(session, (Instance.calling_aet == calling_aet) & (Instance.received_at >= since))


def note_lost_associations(session: Session, now: datetime) -> int:
    """Put into the ledger what was open when the node's process died; return how many associations that were."""
    lost = session.scalars(select(ReceivingAssociation).where(ReceivingAssociation.outcome.is_(None))).all()
    for one in lost:
        brought = select(func.count(), func.sum(Instance.size_bytes)).where(Instance.association_id == one.id)
        count, size_bytes = session.execute(brought).one()
        session.add(
            AssociationRow(
                association_id=one.id,
                calling_aet=one.calling_aet,
                called_aet="",
                address="",
                started_at=one.opened_at,
                ended_at=now,
                accepted=count,
                refused=0,
                received_bytes=size_bytes or 0,
                outcome="lost",
            )
        )
    return len(lost)
