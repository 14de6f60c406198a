"""The migrations on a real PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command

from dicom_node.db.session import BASES, alembic_config

pytestmark = pytest.mark.needs_binary


@pytest.fixture(scope="module")
def postgresql(binary: Callable[[str], str]) -> Iterator[Callable[[str], str]]:
    """Start a private server and return a factory of fresh databases. PostgreSQL refuses to run as root."""
    binary("psql")
    tools = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    folder = Path(tempfile.mkdtemp(prefix="osteonode-postgresql-"))
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres")

    def run(*words: str) -> None:
        subprocess.run([*user, *words], check=True, capture_output=True, cwd=folder)

    run(str(tools / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    run(str(tools / "pg_ctl"), "-D", str(folder / "data"), "-l", str(folder / "log"), "-w", "-o", options, "start")

    def fresh(name: str) -> str:
        run("psql", "-h", str(folder), "-U", "postgres", "-c", f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={folder}"

    yield fresh
    run(str(tools / "pg_ctl"), "-D", str(folder / "data"), "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", sorted(BASES))
def test_every_migration_works_forth_and_back(postgresql: Callable[[str], str], name: str) -> None:
    config = alembic_config(name, postgresql(f"check_{name}"))
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
