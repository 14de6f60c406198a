"""Rows from older keys to the keys in force.

Every batch is a transaction, and every row says which key it was written with: a crash at any point leaves every
row readable, and the next call goes on where it was.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_node.db import models
from dicom_node.db.session import transaction
from dicom_node.identity.cipher import identity_index, number_index, seal, unseal
from dicom_node.identity.keys import Keys
from dicom_node.identity.person import person_from_text
from dicom_node.identity.register import check_keys, hold

BATCH_ROWS = 500
TABLES = (models.Subject, models.UidRow)


def rows_behind(engine: sa.Engine, keys: Keys) -> int:
    """Count the rows that are still written with older keys."""
    with transaction(engine) as session:
        counts = (
            session.scalar(select(func.count()).select_from(table).where(table.key_id != keys.key_id))
            for table in TABLES
        )
        return sum(count or 0 for count in counts)


def rewrite_rows(engine: sa.Engine, keys: Keys, on_rows: Callable[[int], object]) -> int:
    """Re-encrypt and re-index every row of older keys.

    Parameters
    ----------
    engine
        The identity database.
    keys
        With the older versions the rows need.
    on_rows
        Called after each committed batch with its number of rows.

    Returns
    -------
    int
        Rows rewritten.
    """
    total = 0
    while True:
        with transaction(engine) as session:
            hold(session)
            check_keys(session, keys)
            rows = _rewrite_subjects(session, keys) or _rewrite_uids(session, keys)
        if not rows:
            return total
        total += rows
        on_rows(rows)


def _rewrite_subjects(session: Session, keys: Keys) -> int:
    table = models.Subject
    rows = session.scalars(select(table).where(table.key_id != keys.key_id).order_by(table.id).limit(BATCH_ROWS)).all()
    if rows:
        session.execute(update(table), [_new_subject(row, keys) for row in rows])
    return len(rows)


def _new_subject(row: models.Subject, keys: Keys) -> dict[str, Any]:
    identity = unseal(keys, row.identity, "subjects.identity", row.id, row.key_id)
    offset = unseal(keys, row.date_offset, "subjects.date_offset", row.id, row.key_id)
    person = person_from_text(identity)
    return {
        "id": row.id,
        "key_id": keys.key_id,
        "identity": seal(keys, identity, "subjects.identity", row.id),
        "date_offset": seal(keys, offset, "subjects.date_offset", row.id),
        "blind_index": identity_index(keys.index, person.patient_id, person.issuer, row.project),
        "id_index": number_index(keys.index, person.patient_id, row.project),
    }


def _rewrite_uids(session: Session, keys: Keys) -> int:
    table = models.UidRow
    rows = session.scalars(
        select(table).where(table.key_id != keys.key_id).order_by(table.clean_uid).limit(BATCH_ROWS)
    ).all()
    if rows:
        session.execute(update(table), [_new_uid(row, keys) for row in rows])
    return len(rows)


def _new_uid(row: models.UidRow, keys: Keys) -> dict[str, Any]:
    original = unseal(keys, row.original_uid, "uid_rows.original_uid", row.clean_uid, row.key_id)
    return {
        "clean_uid": row.clean_uid,
        "key_id": keys.key_id,
        "original_uid": seal(keys, original, "uid_rows.original_uid", row.clean_uid),
    }
