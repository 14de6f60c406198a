"""routing."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000003"
down_revision = "a1c0de000002"
branch_labels = None
depends_on = None

VERSION_COLUMNS = (
    ("rule_name", sa.String(length=64), ""),
    ("rule_hash", sa.String(length=64), ""),
    ("pipelines", sa.String(length=32), "hip,spine"),
    ("priority", sa.String(length=16), "normal"),
    ("destinations", sa.Text(), ""),
    ("incomplete", sa.String(length=500), ""),
    ("forced_by", sa.String(length=64), ""),
)


def upgrade() -> None:
    op.create_table(
        "rule_revisions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("change", sa.String(length=200), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_rule_revisions")),
    )
    op.create_table(
        "study_routes",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sentence", sa.String(length=1000), nullable=False),
        sa.Column("rule_name", sa.String(length=64), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("last_arrival", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('arriving', 'waiting_series', 'waiting_pacs', 'incomplete', 'routed', 'no_rule', 'discarded', "
            "'own')",
            name=op.f("ck_study_routes_state"),
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_study_routes")),
    )
    op.create_index(op.f("ix_study_routes_due_at"), "study_routes", ["due_at"], unique=False)
    op.create_index(op.f("ix_study_routes_last_arrival"), "study_routes", ["last_arrival"], unique=False)
    op.create_table(
        "study_orders",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("rule_name", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("ordered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.CheckConstraint("action IN ('proceed', 'discard', 'wait')", name=op.f("ck_study_orders_action")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_orders")),
    )
    op.create_index(op.f("ix_study_orders_is_open"), "study_orders", ["is_open"], unique=False)
    op.create_index(op.f("ix_study_orders_study_instance_uid"), "study_orders", ["study_instance_uid"], unique=False)
    op.create_table(
        "pacs_answers",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("peer_id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("word", sa.String(length=16), nullable=False),
        sa.Column("pacs_count", sa.Integer(), nullable=False),
        sa.Column("here_count", sa.Integer(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("word IN ('agrees', 'differs', 'unknown', 'silent')", name=op.f("ck_pacs_answers_word")),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.id"], name=op.f("fk_pacs_answers_peer_id_peers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", "peer_id", name=op.f("pk_pacs_answers")),
    )
    op.create_table(
        "receiving_associations",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("calling_aet", sa.String(length=16), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receiving_associations")),
    )
    op.create_index(op.f("ix_receiving_associations_opened_at"), "receiving_associations", ["opened_at"], unique=False)
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.add_column(sa.Column("association_id", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("is_examined", sa.Boolean(), server_default=sa.false(), nullable=False))
    with op.batch_alter_table("study_versions", schema=None) as batch_op:
        for name, kind, default in VERSION_COLUMNS:
            batch_op.add_column(sa.Column(name, kind, server_default=default, nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("study_versions", schema=None) as batch_op:
        for name, _, _ in VERSION_COLUMNS:
            batch_op.drop_column(name)
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_column("is_examined")
        batch_op.drop_column("association_id")
    for table in ("receiving_associations", "pacs_answers", "study_orders", "study_routes", "rule_revisions"):
        op.drop_table(table)
