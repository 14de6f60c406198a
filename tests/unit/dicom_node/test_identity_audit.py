"""The audit's chain: what was changed, and what is missing, shows."""

import pytest
import sqlalchemy as sa

from dicom_node import clock
from dicom_node.db import models
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.identity.audit import AuditEntry, _hash, audit_faults, audit_rows, require_name, write_audit


@pytest.fixture
def audited(databases: Databases) -> Databases:
    for number in range(4):
        with transaction(databases.identity) as session:
            write_audit(session, AuditEntry("lookup", "Admin", {"pseudonym": f"S-{number}"}), clock.now())
    return databases


def faults(databases: Databases, expected: str = "") -> list[str]:
    with transaction(databases.identity) as session:
        return audit_faults(session, expected)


def test_an_untouched_audit_is_whole(audited: Databases) -> None:
    assert faults(audited) == []
    with transaction(audited.identity) as session:
        rows = audit_rows(session)
    assert [row.number for row in rows] == [1, 2, 3, 4]
    assert faults(audited, rows[1].row_hash) == []


@pytest.mark.parametrize("column", ["action", "actor", "detail", "at", "previous_hash", "row_hash"])
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_changed_row_shows(audited: Databases, column: str, number: int) -> None:
    value = clock.now() if column == "at" else "changed"
    with transaction(audited.identity) as session:
        session.execute(sa.update(models.AuditRow).where(models.AuditRow.number == number).values({column: value}))
    assert faults(audited)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_missing_row_shows(audited: Databases, number: int) -> None:
    with transaction(audited.identity) as session:
        session.execute(sa.delete(models.AuditRow).where(models.AuditRow.number == number))
    found = faults(audited)
    assert found
    assert number == 4 or f"Between row {number - 1} and row {number + 1} rows are missing." in found


def test_a_row_changed_together_with_its_own_hash_shows_in_the_next(audited: Databases) -> None:
    with transaction(audited.identity) as session:
        row = session.get_one(models.AuditRow, 2)
        row.actor = "somebody else"
        row.row_hash = _hash(row)
    assert faults(audited) == ["Row 3 does not follow row 2: one of them was changed."]


def test_a_rewritten_chain_shows_against_a_hash_noted_elsewhere(audited: Databases) -> None:
    with transaction(audited.identity) as session:
        noted = audit_rows(session)[-1].row_hash
        session.execute(sa.delete(models.AuditRow))
        session.execute(sa.update(models.MapState).values(audit_rows=0, audit_hash=""))
    with transaction(audited.identity) as session:
        write_audit(session, AuditEntry("lookup", "Admin", {}), clock.now())
    assert faults(audited) == []
    assert faults(audited, noted) == ["No row has the hash that was expected."]


def test_writers_at_the_same_time_make_one_chain(databases: Databases) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def write(number: int) -> None:
        with transaction(databases.identity) as session:
            write_audit(session, AuditEntry("lookup", "Admin", {"number": number}), clock.now())

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(24)))
    assert faults(databases) == []


@pytest.mark.parametrize("name", [None, "", "  ", "x" * 65, "a\nb"])
def test_an_action_of_the_administrator_needs_a_name(name: str | None) -> None:
    with pytest.raises(ConfigurationError, match="--administrator"):
        require_name(name)
