"""job control."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000011"
down_revision = "eb02876e24fe"
branch_labels = None
depends_on = None

KINDS = (
    "'began', 'ended', 'repeated', 'lost', 'rewound', 'held', 'released', 'failed', 'paused', 'resumed', "
    "'cancelled', 'discarded', 'restarted', 'prioritised'"
)
COLUMNS = (
    "next_step",
    "is_paused",
    "is_released",
    "due_at",
    "queue",
    "ticket",
    "token",
    "executor",
    "tries",
    "losses",
)


def upgrade() -> None:
    op.execute(
        "ALTER TABLE jobs ADD COLUMN priority VARCHAR(16) DEFAULT 'normal' NOT NULL CONSTRAINT ck_jobs_priority "
        "CHECK (priority IN ('urgent', 'normal', 'offpeak'))"
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("next_step", sa.String(16), server_default="deidentify", nullable=False))
        batch_op.add_column(sa.Column("is_paused", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("is_released", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("queue", sa.String(8), server_default="", nullable=False))
        batch_op.add_column(sa.Column("ticket", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("token", sa.String(32), nullable=True))
        batch_op.add_column(sa.Column("executor", sa.String(100), server_default="", nullable=False))
        batch_op.add_column(sa.Column("tries", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("losses", sa.Integer(), server_default="0", nullable=False))
        batch_op.create_index(batch_op.f("ix_jobs_queue"), ["queue"], unique=False)
    op.create_table(
        "job_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("executor", sa.String(100), server_default="", nullable=False),
        sa.Column("sentence", sa.String(1000), server_default="", nullable=False),
        sa.CheckConstraint(f"kind IN ({KINDS})", name=op.f("ck_job_events_kind")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
    )
    op.create_index(op.f("ix_job_events_job_id"), "job_events", ["job_id"], unique=False)
    op.create_table(
        "executors",
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("workflow_schema", sa.String(8), nullable=False),
        sa.Column("cpu_slots", sa.Integer(), nullable=False),
        sa.Column("gpu_slots", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beaten_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executors")),
    )
    op.create_table(
        "node_control",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("is_paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_node_control_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node_control")),
    )


def downgrade() -> None:
    for table in ("node_control", "executors", "job_events"):
        op.drop_table(table)
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_queue"))
        for column in COLUMNS:
            batch_op.drop_column(column)
        batch_op.drop_constraint(batch_op.f("ck_jobs_priority"), type_="check")
        batch_op.drop_column("priority")
