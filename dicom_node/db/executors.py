"""Queries on the processes that run jobs: their signs of life, and how much they can run."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from dicom_node import clock
from dicom_node.db.node_tables import Executor


def database_now(session: Session) -> datetime:
    """Return the database's time, the one clock that processes on several hosts share; SQLite's is this machine's."""
    if session.get_bind().dialect.name == "sqlite":
        return clock.now()
    now: datetime = session.execute(select(func.now())).scalar_one()
    return now.astimezone(UTC)


def beat(session: Session, executor_id: str, workflow_schema: str, slots: tuple[int, int]) -> None:
    """Write a sign of life of a process with so many slots on the CPU and on the GPU."""
    now = database_now(session)
    row = session.get(Executor, executor_id)
    if row is None:
        row = Executor(id=executor_id, workflow_schema=workflow_schema, started_at=now)
        session.add(row)
    row.cpu_slots, row.gpu_slots, row.beaten_at = *slots, now


def living(session: Session, stale_s: float) -> list[Executor]:
    """Return the processes with a sign of life within so many seconds, oldest first."""
    since = database_now(session) - timedelta(seconds=stale_s)
    return list(session.scalars(select(Executor).where(Executor.beaten_at >= since).order_by(Executor.started_at)))


def forget(session: Session, executor_ids: list[str]) -> None:
    """Delete processes that have ended."""
    session.execute(delete(Executor).where(Executor.id.in_(executor_ids)))


def forget_others(session: Session, executor_id: str) -> None:
    """Delete every process but one: for SQLite, where there is only ever one."""
    session.execute(delete(Executor).where(Executor.id != executor_id))


def forget_dead(session: Session, stale_s: float) -> list[str]:
    """Delete the processes without a sign of life for so many seconds; return their ids."""
    since = database_now(session) - timedelta(seconds=stale_s)
    dead = delete(Executor).where(Executor.beaten_at < since).returning(Executor.id)
    return list(session.scalars(dead))
