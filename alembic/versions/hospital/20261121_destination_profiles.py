"""destination profiles."""

import sqlalchemy as sa
from alembic import op

revision = "47b93ea08748"
down_revision = "14f6ec578d16"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("peers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("objects", sa.String(length=64), server_default="", nullable=False))
    # In words of SQL: SQLite takes a CHECK with a new column, but not by itself in a table that others refer to.
    op.execute(
        "ALTER TABLE peers ADD COLUMN sr_class VARCHAR(16) DEFAULT 'auto' NOT NULL CONSTRAINT ck_peers_sr_class "
        "CHECK (sr_class IN ('auto', 'comprehensive_3d', 'comprehensive', 'enhanced', 'basic_text'))"
    )


def downgrade() -> None:
    with op.batch_alter_table("peers", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("ck_peers_sr_class"), type_="check")
        batch_op.drop_column("sr_class")
        batch_op.drop_column("objects")
