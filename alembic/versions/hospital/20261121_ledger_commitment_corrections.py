"""ledger, commitment and corrected segmentations."""

import sqlalchemy as sa
from alembic import op

revision = "14f6ec578d16"
down_revision = "d93444d03cca"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "associations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("calling_aet", sa.String(length=16), nullable=False),
        sa.Column("called_aet", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("received_bytes", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_associations")),
    )
    with op.batch_alter_table("associations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_associations_ended_at"), ["ended_at"], unique=False)

    op.create_table(
        "commitments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("calling_aet", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("reference_list", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sentence", sa.String(length=500), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('WAITING', 'REPORTED', 'FAILED')", name=op.f("ck_commitments_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitments")),
        sa.UniqueConstraint("calling_aet", "transaction_uid", name=op.f("uq_commitments_calling_aet")),
    )
    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_commitments_state"), ["state"], unique=False)

    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.add_column(sa.Column("is_correction", sa.Boolean(), nullable=True))

    with op.batch_alter_table("peers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("allowed_hosts", sa.String(length=500), server_default="", nullable=False))
        batch_op.add_column(sa.Column("max_associations", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("uses_tls", sa.Boolean(), server_default=sa.false(), nullable=False))

    with op.batch_alter_table("study_versions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("correction_id", sa.String(length=32), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("study_versions", schema=None) as batch_op:
        batch_op.drop_column("correction_id")

    with op.batch_alter_table("peers", schema=None) as batch_op:
        batch_op.drop_column("uses_tls")
        batch_op.drop_column("max_associations")
        batch_op.drop_column("allowed_hosts")

    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_column("is_correction")

    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_commitments_state"))

    op.drop_table("commitments")
    with op.batch_alter_table("associations", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_associations_ended_at"))

    op.drop_table("associations")
