"""Queries on received instances and quarantine."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import BindParameter, Connection, Table, bindparam, func, insert, literal, select, union_all
from sqlalchemy.orm import Session

from dicom_node.db.models import Instance, Quarantined, Result

_INSTANCES, _RESULTS = cast("Table", Instance.__table__), cast("Table", Result.__table__)
_UIDS: BindParameter[Sequence[str]] = bindparam("uids", expanding=True)
_KNOWN = union_all(
    select(_INSTANCES.c.sop_instance_uid, _INSTANCES.c.sha256).where(_INSTANCES.c.sop_instance_uid.in_(_UIDS)),
    select(_RESULTS.c.sop_instance_uid, literal("")).where(_RESULTS.c.sop_instance_uid.in_(_UIDS)),
)
_ADD = insert(_INSTANCES)
"""Statements of the intake, made once: it runs them for every image, and making them costs more than they do."""


def known_instances(
    connection: Connection | Session, sop_instance_uids: Sequence[str]
) -> tuple[set[tuple[str, str]], set[str]]:
    """Return what is known of instances: (UID, SHA-256) of contents received before, and UIDs this node made."""
    rows = [(uid, sha256) for uid, sha256 in connection.execute(_KNOWN, {"uids": sop_instance_uids})]
    return {row for row in rows if row[1]}, {uid for uid, sha256 in rows if not sha256}


def kept_contents(connection: Connection | Session, sop_instance_uids: Sequence[str]) -> set[tuple[str, str]]:
    """Return the contents instances were received in before: pairs of SOP Instance UID and SHA-256."""
    return known_instances(connection, sop_instance_uids)[0]


def add_instances(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Add the rows of received instances."""
    connection.execute(_ADD, [dict(row) for row in rows])


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


def newest_arrival(connection: Connection) -> datetime | None:
    """Return when the newest instance arrived; None when there is none."""
    return connection.scalar(select(func.max(_INSTANCES.c.received_at)))


def paths_below(connection: Connection, start: str) -> set[str]:
    """Return the paths of instances that begin with these characters."""
    return set(
        connection.scalars(select(_INSTANCES.c.path).where(_INSTANCES.c.path.startswith(start, autoescape=True)))
    )
