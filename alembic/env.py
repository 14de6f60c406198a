"""Alembic's entry point for all three databases; ``dicom_node.db.session`` says which one."""

from typing import Any

from alembic import context

from dicom_node.db.models import Utc
from dicom_node.db.session import BASES, open_engine


def render_item(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Write our timestamp type as the plain SQLAlchemy type, so that migrations import nothing of ours."""
    del autogen_context
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Utc) else False


name: str = context.config.attributes["database"]
engine = open_engine(context.config.attributes["url"])
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=BASES[name].metadata,
        render_as_batch=True,
        compare_type=True,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
