"""peer services."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000001"
down_revision = "47b93ea08748"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("peers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("url", sa.String(length=500), server_default="", nullable=False))
        batch_op.add_column(sa.Column("credentials_file", sa.String(length=500), server_default="", nullable=False))
        batch_op.add_column(sa.Column("is_queried", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("requests_per_minute", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("wants_commitment", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("is_checked", sa.Boolean(), server_default=sa.false(), nullable=False))
    # In words of SQL: SQLite takes a CHECK with a new column, but not by itself in a table that others refer to.
    op.execute(
        "ALTER TABLE peers ADD COLUMN kind VARCHAR(16) DEFAULT 'dimse' NOT NULL CONSTRAINT ck_peers_kind "
        "CHECK (kind IN ('dimse', 'dicomweb', 'orthanc'))"
    )
    op.execute(
        "ALTER TABLE peers ADD COLUMN retrieve_by VARCHAR(8) DEFAULT 'get' NOT NULL CONSTRAINT ck_peers_retrieve_by "
        "CHECK (retrieve_by IN ('get', 'move'))"
    )


def downgrade() -> None:
    with op.batch_alter_table("peers", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("ck_peers_kind"), type_="check")
        batch_op.drop_constraint(batch_op.f("ck_peers_retrieve_by"), type_="check")
        for column in (
            "kind",
            "retrieve_by",
            "url",
            "credentials_file",
            "is_queried",
            "requests_per_minute",
            "wants_commitment",
            "is_checked",
        ):
            batch_op.drop_column(column)
