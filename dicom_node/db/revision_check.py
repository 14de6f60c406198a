"""Whether the databases have the schema of this program: for a process that does not migrate them itself."""

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dicom_node.db.session import alembic_config, database_urls
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings


def require_newest_schema(settings: Settings) -> None:
    """Refuse databases that the node has not brought to this program's schema.

    Raises
    ------
    ConfigurationError
        When one has another schema, or does not answer.
    """
    for name, url in database_urls(settings).items():
        newest = ScriptDirectory.from_config(alembic_config(name, url)).get_current_head()
        engine = sa.create_engine(url)
        try:
            with engine.connect() as connection:
                found = MigrationContext.configure(connection).get_current_revision()
        except sa.exc.OperationalError:
            raise ConfigurationError(f"The {name} database does not answer; check {name}_database_url.") from None
        finally:
            engine.dispose()
        if found != newest:
            raise ConfigurationError(
                f"The {name} database has another schema than this program. Start the node of the same version first, "
                f"or run: osteonode migrate."
            )
