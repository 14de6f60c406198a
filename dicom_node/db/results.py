"""Queries on result objects of one attempt after another."""

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_node.db.models import Result


def newest_attempt_with_results(session: Session, job_id: str) -> int:
    """Return the newest attempt of a job that has results; 0 where none has."""
    return session.scalar(select(func.max(Result.attempt)).where(Result.job_id == job_id)) or 0


def carry_over(session: Session, job_id: str, attempt: int) -> list[Result]:
    """Return an attempt's results; one that made none takes over those of the newest attempt before it."""
    made = select(Result).where(Result.job_id == job_id, Result.attempt == attempt).order_by(Result.path)
    rows = list(session.scalars(made))
    if rows:
        return rows
    newest = select(func.max(Result.attempt)).where(Result.job_id == job_id, Result.attempt < attempt).scalar_subquery()
    session.execute(
        update(Result)
        .where(Result.job_id == job_id, Result.attempt == newest)
        .values(attempt=attempt)
        .execution_options(synchronize_session="fetch")
    )
    return list(session.scalars(made))
