"""The migrations on a real PostgreSQL."""

import pytest
from alembic import command
from postgresql_server import PostgresqlServer

from dicom_node.db.session import BASES, alembic_config

pytestmark = pytest.mark.needs_binary


@pytest.mark.parametrize("name", sorted(BASES))
def test_every_migration_works_forth_and_back(postgresql: PostgresqlServer, name: str) -> None:
    config = alembic_config(name, postgresql.fresh(f"check_{name}"))
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
