"""Migrations on SQLite that are interrupted, or meet rows that refer to one another."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from dicom_node.db.session import BASES, alembic_config, open_engine

BEFORE_PROFILES = "14f6ec578d16"
"""The revision before ``peers`` is made anew."""
ROWS = {
    "peers (id, name, ae_title, host, port, may_send, receives_results, is_removed, allowed_hosts, uses_tls)": (
        "(1, 'PACS', 'PACS', 'pacs', 104, 1, 1, 0, '', 0)"
    ),
    "results (sop_instance_uid, sop_class_uid, job_id, attempt, kind, path)": "('1.2', '1.3', 'job', 1, 'sr', 'file')",
    "deliveries (id, job_id, peer_id, attempt, state, attempts, sentence, updated_at)": (
        "(1, 'job', 1, 1, 'SENT', 1, '', '2026-01-01')"
    ),
    "receipts (delivery_id, sop_instance_uid, status, received_at)": "(1, '1.2', 0, '2026-01-01')",
}


def test_a_node_that_has_delivered_can_be_upgraded_and_keeps_its_receipts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    config = alembic_config("hospital", url)
    command.upgrade(config, BEFORE_PROFILES)
    engine = open_engine(url)
    with engine.begin() as connection:
        for columns, values in ROWS.items():
            connection.exec_driver_sql(f"INSERT INTO {columns} VALUES {values}")
    command.upgrade(config, "head")
    with engine.connect() as connection:
        for table in ("peers", "results", "deliveries", "receipts"):
            assert connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 1, table


@pytest.mark.parametrize("name", sorted(BASES))
def test_an_interrupted_migration_leaves_the_database_as_it_was(name: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    config = alembic_config(name, url)

    class KilledError(Exception):
        pass

    def interrupt(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("UPDATE alembic_version"):
            raise KilledError

    sa.event.listen(sa.Engine, "before_cursor_execute", interrupt)
    try:
        if len(list(ScriptDirectory.from_config(config).walk_revisions())) > 1:
            with pytest.raises(KilledError):
                command.upgrade(config, "head")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", interrupt)
    assert sa.inspect(open_engine(url)).get_table_names() == []
    command.upgrade(config, "head")
    command.check(config)


def test_a_migration_that_would_leave_rows_without_what_they_refer_to_is_not_committed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    config = alembic_config("hospital", url)
    command.upgrade(config, BEFORE_PROFILES)
    with sa.create_engine(url).begin() as connection:
        columns, values = list(ROWS.items())[2]
        connection.exec_driver_sql(f"INSERT INTO {columns} VALUES {values}")
    with pytest.raises(RuntimeError, match="deliveries that refer to nothing"):
        command.upgrade(config, "head")
