"""Alembic's entry point for all three databases; ``dicom_node.db.session`` says which one.

A migration is done or not done, whenever its process is killed. On SQLite that takes a transaction that Python's
driver does not open by itself before a CREATE, and foreign keys that are left alone while a table is made anew (its old
form is dropped, which would delete or refuse what refers to it; sqlite.org/lang_altertable.html 7); they are checked
before the commit.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context

from dicom_node.db.models import Utc
from dicom_node.db.session import BASES, open_engine


def render_item(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Write our timestamp type as the plain SQLAlchemy type, so that migrations import nothing of ours."""
    del autogen_context
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Utc) else False


def _without_foreign_keys(connection: Any, record: Any) -> None:
    """Let SQLAlchemy begin every transaction, and switch off what cannot be switched off within one."""
    del record
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=OFF")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_foreign_keys(connection: sa.Connection) -> None:
    """Refuse to commit rows that refer to nothing.

    Raises
    ------
    RuntimeError
        With the names of the tables.
    """
    broken = {row[0] for row in connection.exec_driver_sql("PRAGMA foreign_key_check")}
    if broken:
        raise RuntimeError(f"A migration would leave rows of {', '.join(sorted(broken))} that refer to nothing.")


name: str = context.config.attributes["database"]
engine = open_engine(context.config.attributes["url"])
is_sqlite = engine.dialect.name == "sqlite"
if is_sqlite:
    sa.event.listen(engine, "connect", _without_foreign_keys)
    sa.event.listen(engine, "begin", _begin)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=BASES[name].metadata,
        render_as_batch=True,
        compare_type=True,
        render_item=render_item,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
        if is_sqlite:
            _check_foreign_keys(connection)
engine.dispose()
