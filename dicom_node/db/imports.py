"""Queries on imports that were uploaded."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db.dicomweb_tables import Import
from dicom_node.errors import ConfigurationError, NotFound

SHOWN = 20


def receiving(session: Session, import_id: str) -> Import:
    """Return an import that files may be added to.

    Raises
    ------
    NotFound
        When there is none.
    ConfigurationError
        When it has begun.
    """
    found = session.get(Import, import_id)
    if found is None:
        raise NotFound("There is no such import.")
    if found.state != "RECEIVING":
        raise ConfigurationError("This import has begun; begin another one for more files.")
    return found


def recent_imports(session: Session) -> list[Import]:
    """Return the newest imports."""
    return list(session.scalars(select(Import).order_by(Import.created_at.desc()).limit(SHOWN)))


def next_import(session: Session) -> Import | None:
    """Return the oldest import that waits, or that a process which has ended left running."""
    wanted = select(Import).where(Import.state.in_(("WAITING", "RUNNING"))).order_by(Import.created_at)
    return session.scalars(wanted.limit(1)).first()


def abandoned_imports(session: Session, before: datetime) -> list[Import]:
    """Return imports that were begun to be uploaded and have got nothing since then."""
    return list(session.scalars(select(Import).where(Import.state == "RECEIVING", Import.updated_at < before)))
