"""job control."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000011"
down_revision = "eb02876e24fe"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE jobs ADD COLUMN priority VARCHAR(16) DEFAULT 'normal' NOT NULL CONSTRAINT ck_jobs_priority "
        "CHECK (priority IN ('urgent', 'normal', 'offpeak'))"
    )


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("ck_jobs_priority"), type_="check")
        batch_op.drop_column("priority")
