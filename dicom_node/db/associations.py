"""Queries on the association ledger."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db.models import AssociationRow


def recent_associations(session: Session, limit: int = 200) -> list[AssociationRow]:
    """Return the associations that ended last, newest first."""
    return list(session.scalars(select(AssociationRow).order_by(AssociationRow.ended_at.desc()).limit(limit)))
