"""The migrations make exactly the tables the code has."""

from pathlib import Path

import alembic
import pytest
from alembic import command

from dicom_node.db.session import BASES, alembic_config, database_urls, migrate
from dicom_node.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", sorted(BASES))
def test_no_table_differs_from_its_migrations(name: str, settings: Settings) -> None:
    migrate(settings)
    command.check(alembic_config(name, database_urls(settings)[name]))


@pytest.mark.parametrize("name", sorted(BASES))
def test_migrations_can_be_undone(name: str, settings: Settings) -> None:
    migrate(settings)
    config = alembic_config(name, database_urls(settings)[name])
    command.downgrade(config, "base")
    command.upgrade(config, "head")


def test_the_folder_of_migrations_does_not_shadow_the_library() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
    assert not str(alembic.__file__).startswith(str(ROOT / "alembic"))
