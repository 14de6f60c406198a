"""segmenter of a rule."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000008"
down_revision = "a1c0de000007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("study_versions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("segmenter", sa.String(length=32), server_default="", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("study_versions", schema=None) as batch_op:
        batch_op.drop_column("segmenter")
