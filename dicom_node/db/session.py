"""Engines, sessions and migrations: how the three databases are opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.orm import DeclarativeBase, Session

import dicom_node.db.delivery_tables
import dicom_node.db.dicomweb_tables
import dicom_node.db.request_tables
import dicom_node.db.routing_tables  # noqa: F401 - their tables join the metadata
from dicom_node.db import audit_tables as _audit_tables  # noqa: F401 - its tables join the metadata
from dicom_node.db import node_tables as _node_tables  # noqa: F401 - its tables join the metadata
from dicom_node.db.models import Hospital, Identity, Research
from dicom_node.settings import Settings

BASES: dict[str, type[DeclarativeBase]] = {"hospital": Hospital, "identity": Identity, "research": Research}
"""Database name -> its tables. Each has its own folder of migrations."""
SILENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""How long PostgreSQL may be silent (libpq's parameters, s; the last one ms) where the URL does not say otherwise:
without them a server whose packets are dropped would hold a thread for hours."""


@dataclass(frozen=True, slots=True)
class Databases:
    """One engine per database."""

    hospital: sa.Engine
    identity: sa.Engine
    research: sa.Engine

    def dispose(self) -> None:
        """Close every pooled connection."""
        for engine in (self.hospital, self.identity, self.research):
            engine.dispose()


def open_databases(settings: Settings) -> Databases:
    """Open the three databases, creating folders for SQLite files; does not migrate."""
    return Databases(*(open_engine(url) for url in database_urls(settings).values()))


def database_urls(settings: Settings) -> dict[str, str]:
    """URL of each database by name."""
    return {
        "hospital": settings.hospital_url,
        "identity": settings.identity_url,
        "research": settings.research_url,
    }


def open_engine(url: str) -> sa.Engine:
    """Open one database; SQLite is told to fsync every commit and to enforce foreign keys."""
    is_sqlite = url.startswith("sqlite")
    limits = {} if is_sqlite else {key: value for key, value in SILENCE.items() if key not in sa.make_url(url).query}
    engine = sa.create_engine(url, pool_pre_ping=not is_sqlite, hide_parameters=True, connect_args=limits)
    if engine.dialect.name == "sqlite":
        if engine.url.database:
            Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
        sa.event.listen(engine, "connect", _tune_sqlite)
    return engine


def _tune_sqlite(connection: object, record: object) -> None:
    """WAL for readers beside one writer; FULL so that a committed row survives a power cut (sqlite.org/pragma)."""
    del record
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[Session]:
    """Open a session, commit at the end, roll back on an error."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


def migrations_dir() -> Path:
    """Folder of the migrations: inside the installed package, or ``alembic/`` of the source tree."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "alembic"


def alembic_config(name: str, url: str) -> Config:
    """Alembic's configuration for one of the three databases."""
    config = Config()
    folder = migrations_dir()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("version_locations", str(folder / "versions" / name).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(slug)s")
    config.attributes["database"] = name
    config.attributes["url"] = url
    return config


def migrate(settings: Settings) -> None:
    """Bring every database to the newest schema."""
    for name, url in database_urls(settings).items():
        open_engine(url).dispose()
        command.upgrade(alembic_config(name, url), "head")


def prepare_databases(settings: Settings) -> Databases:
    """Migrate and open the databases."""
    migrate(settings)
    return open_databases(settings)
