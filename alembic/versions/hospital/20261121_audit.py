"""audit."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000006"
down_revision = "a1c0de000005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_messages",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient", sa.String(length=64), nullable=False),
        sa.Column("sentence", sa.String(length=250), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("row_hash", sa.String(length=64), nullable=False),
        sa.CheckConstraint("outcome IN (0, 4, 8, 12)", name=op.f("ck_audit_messages_outcome")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_messages")),
        sa.UniqueConstraint("event_id", name=op.f("uq_audit_messages_event_id")),
        sa.UniqueConstraint("previous_hash", name=op.f("uq_audit_messages_previous_hash")),
    )
    with op.batch_alter_table("audit_messages", schema=None) as batch_op:
        for column in ("at", "kind", "study_instance_uid", "patient"):
            batch_op.create_index(batch_op.f(f"ix_audit_messages_{column}"), [column], unique=False)
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("row_hash", sa.String(length=64), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_cursors",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("row_hash", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sentence", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_audit_cursors")),
    )
    with op.batch_alter_table("associations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("is_tls", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("errors", sa.String(length=200), server_default="", nullable=False))
        batch_op.add_column(sa.Column("association_id", sa.String(length=32), server_default="", nullable=False))
        batch_op.add_column(sa.Column("is_audited", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.create_index(batch_op.f("ix_associations_is_audited"), ["is_audited"], unique=False)
    op.execute(sa.text("UPDATE associations SET is_audited = :yes").bindparams(sa.bindparam("yes", True, sa.Boolean())))
    op.execute(sa.text("INSERT INTO audit_head (id, rows, row_hash) VALUES (1, 0, '')"))
    for name in ("syslog", "check"):
        op.execute(
            sa.text(
                "INSERT INTO audit_cursors (name, number, row_hash, sentence) VALUES (:name, 0, '', '')"
            ).bindparams(name=name)
        )


def downgrade() -> None:
    with op.batch_alter_table("associations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_associations_is_audited"))
        batch_op.drop_column("is_audited")
        batch_op.drop_column("association_id")
        batch_op.drop_column("errors")
        batch_op.drop_column("is_tls")
    op.drop_table("audit_cursors")
    op.drop_table("audit_head")
    with op.batch_alter_table("audit_messages", schema=None) as batch_op:
        for column in ("patient", "study_instance_uid", "kind", "at"):
            batch_op.drop_index(batch_op.f(f"ix_audit_messages_{column}"))
    op.drop_table("audit_messages")
