"""The audit of the identity map: who used it for what, in a chain of hashes.

The chain is that of `dicom_node.audit.chain`; its head is in the map's state, and every row's hash goes to the log. It
is a chain of its own because it lies in the map's database: a change of the map and its row are one transaction. What
people do with the map is told in the node's audit too, without pseudonym or name (`dicom_node.audit`).
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.audit.chain import Head, Link, follow, row_hash
from dicom_node.db import models
from dicom_node.errors import ConfigurationError
from dicom_node.identity.register import hold
from dicom_node.logs import log

LOG = log(__name__)
MAX_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What is written: by whom, what, and figures about it; never an identity."""

    action: str
    actor: str
    detail: dict[str, str | int]


def require_name(text: str | None) -> str:
    """Return the name of the administrator who answers for an action.

    Raises
    ------
    ConfigurationError
        When there is none, or it is not 1 to 64 printable characters.
    """
    name = (text or "").strip()
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise ConfigurationError(
            "This needs an administrator: say who answers for it with --administrator NAME (1 to 64 characters). "
            "The name is kept in the audit."
        )
    return name


def write_audit(session: Session, entry: AuditEntry, now: datetime) -> str:
    """Append one row and return its hash; it is there when the session's transaction is."""
    hold(session)
    state = session.scalars(select(models.MapState)).one()
    session.refresh(state)
    row = models.AuditRow(
        number=state.audit_rows + 1,
        at=now,
        action=entry.action,
        actor=entry.actor,
        detail=json.dumps(entry.detail, sort_keys=True)[:500],
        previous_hash=state.audit_hash,
    )
    row.row_hash = _hash(row)
    session.add(row)
    state.audit_rows, state.audit_hash = row.number, row.row_hash
    session.flush()
    LOG.info("identity_map_used", action=row.action, audit_row=row.number, audit_hash=row.row_hash)
    return row.row_hash


def audit_rows(session: Session) -> list[models.AuditRow]:
    """Return every row, oldest first."""
    return list(session.scalars(select(models.AuditRow).order_by(models.AuditRow.number)))


def audit_faults(session: Session, expected_hash: str = "") -> list[str]:
    """Check the chain.

    Parameters
    ----------
    session
        Of the identity database.
    expected_hash
        A hash noted earlier: a row must have it.

    Returns
    -------
    list of str
        One sentence a fault; empty when the audit is whole.
    """
    rows = audit_rows(session)
    links = (Link(row.number, row.previous_hash, row.row_hash, _hash(row)) for row in rows)
    walk = follow(links, Head(), expected_hash)
    faults = list(walk.faults)
    state = session.scalars(select(models.MapState)).one()
    if (state.audit_rows, state.audit_hash) != (walk.last.number, walk.last.row_hash):
        end = f"The audit ends with row {walk.last.number}"
        faults.append(f"{end}; the map's state says {state.audit_rows} and another hash.")
    if not walk.has_expected:
        faults.append("No row has the hash that was expected.")
    return faults


def _hash(row: models.AuditRow) -> str:
    at = row.at.astimezone(UTC).isoformat(timespec="microseconds")
    return row_hash([row.number, at, row.action, row.actor, row.detail, row.previous_hash])
