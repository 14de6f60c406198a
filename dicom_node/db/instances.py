"""Queries on received instances and quarantine."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.db.models import Instance, Quarantined, Result


def find_instance(session: Session, sop_instance_uid: str, sha256: str) -> Instance | None:
    """Return the identical instance received before, if there is one."""
    return session.scalar(
        select(Instance).where(Instance.sop_instance_uid == sop_instance_uid, Instance.sha256 == sha256)
    )


def is_own_result(session: Session, sop_instance_uid: str) -> bool:
    """Tell whether this node made the object."""
    return session.get(Result, sop_instance_uid) is not None


def study_instances(session: Session, study_instance_uid: str) -> list[Instance]:
    """Instances of a study that others made; of an instance received in several contents, the newest."""
    rows = session.scalars(
        select(Instance)
        .where(Instance.study_instance_uid == study_instance_uid, ~Instance.is_own)
        .order_by(Instance.received_at)
    )
    newest = {row.sop_instance_uid: row for row in rows}
    return list(newest.values())


def count_instances(session: Session) -> int:
    """Count every instance kept."""
    return session.scalar(select(func.count()).select_from(Instance)) or 0


def quarantined(session: Session) -> list[Quarantined]:
    """Everything in quarantine, newest first."""
    return list(session.scalars(select(Quarantined).order_by(Quarantined.received_at.desc())))
