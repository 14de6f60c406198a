"""deliveries."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000005"
down_revision = "a1c0de000003"
branch_labels = None
depends_on = None


OLD_STATES = "'PENDING', 'SENT', 'COMMITTED', 'FAILED'"
STATES = "'PENDING', 'SENT', 'COMMITTED', 'CONFIRMED', 'FAILED'"


def upgrade() -> None:
    with _receipts_aside(new=True):
        with op.batch_alter_table("deliveries", schema=None) as batch_op:
            batch_op.add_column(sa.Column("number", sa.Integer(), server_default="1", nullable=False))
            batch_op.add_column(sa.Column("submitted", sa.Integer(), server_default="0", nullable=False))
            batch_op.add_column(sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True))
            batch_op.add_column(sa.Column("given_up_from", sa.String(length=16), server_default="", nullable=False))
            batch_op.drop_constraint(batch_op.f("ck_deliveries_state"), type_="check")
            batch_op.create_check_constraint(batch_op.f("ck_deliveries_state"), sa.text(f"state IN ({STATES})"))
            batch_op.create_index(batch_op.f("ix_deliveries_next_try_at"), ["next_try_at"], unique=False)
        op.execute("UPDATE deliveries SET next_try_at = updated_at WHERE state = 'PENDING'")
    op.create_table(
        "refusals",
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("sentence", sa.String(length=500), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=False),
        *_to_delivery_and_result("refusals"),
        sa.PrimaryKeyConstraint("delivery_id", "sop_instance_uid", name=op.f("pk_refusals")),
    )
    op.create_table(
        "asked_commitments",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("instance_uids", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('OPEN', 'ANSWERED', 'EXPIRED')", name=op.f("ck_asked_commitments_state")),
        _to_delivery_and_result("asked_commitments")[0],
        sa.PrimaryKeyConstraint("transaction_uid", name=op.f("pk_asked_commitments")),
    )
    op.create_index(op.f("ix_asked_commitments_delivery_id"), "asked_commitments", ["delivery_id"], unique=False)


def downgrade() -> None:
    op.drop_table("asked_commitments")
    op.drop_table("refusals")
    with _receipts_aside(new=False):
        op.execute("UPDATE deliveries SET state = 'SENT' WHERE state = 'CONFIRMED'")
        with op.batch_alter_table("deliveries", schema=None) as batch_op:
            batch_op.drop_index(batch_op.f("ix_deliveries_next_try_at"))
            batch_op.drop_constraint(batch_op.f("ck_deliveries_state"), type_="check")
            batch_op.create_check_constraint(batch_op.f("ck_deliveries_state"), sa.text(f"state IN ({OLD_STATES})"))
            for column in ("number", "submitted", "next_try_at", "given_up_from"):
                batch_op.drop_column(column)


@contextmanager
def _receipts_aside(*, new: bool) -> Iterator[None]:
    """Put the receipts by while the table they refer to is made anew: on SQLite they would go with the old one."""
    op.execute("CREATE TABLE receipts_kept AS SELECT delivery_id, sop_instance_uid, status, received_at FROM receipts")
    op.drop_table("receipts")
    yield
    added = [
        sa.Column("sendings", sa.Integer(), server_default="1", nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("commitment_status", sa.Integer(), nullable=True),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_lost", sa.Boolean(), server_default=sa.false(), nullable=False),
    ]
    op.create_table(
        "receipts",
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        *(added if new else []),
        *_to_delivery_and_result("receipts"),
        sa.PrimaryKeyConstraint("delivery_id", "sop_instance_uid", name=op.f("pk_receipts")),
    )
    op.execute(
        "INSERT INTO receipts (delivery_id, sop_instance_uid, status, received_at) "
        "SELECT delivery_id, sop_instance_uid, status, received_at FROM receipts_kept"
    )
    op.drop_table("receipts_kept")


def _to_delivery_and_result(table: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.id"], name=op.f(f"fk_{table}_delivery_id_deliveries"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sop_instance_uid"], ["results.sop_instance_uid"], name=op.f(f"fk_{table}_sop_instance_uid_results"),
            ondelete="CASCADE",
        ),
    ]  # fmt: skip
