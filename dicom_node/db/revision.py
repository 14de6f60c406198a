"""``python -m dicom_node.db.revision "what changes"``: write the migrations the tables ask for.

For developers. Each database is brought to its newest schema in a temporary file, compared with the tables, and
gets a new migration where they differ.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alembic import command

from dicom_node.db.session import BASES, alembic_config


def write_revisions(message: str) -> None:
    """Write one migration per database whose tables changed."""
    with TemporaryDirectory() as scratch:
        for name in BASES:
            config = alembic_config(name, f"sqlite:///{Path(scratch) / name}.db")
            command.upgrade(config, "head")
            command.revision(config, message=message, autogenerate=True, process_revision_directives=_drop_empty)


def _drop_empty(context: object, revision: object, directives: list[Any]) -> None:
    """Write no migration for a database whose tables did not change."""
    del context, revision
    if directives[0].upgrade_ops.is_empty():
        directives.clear()


if __name__ == "__main__":
    write_revisions(sys.argv[1])
