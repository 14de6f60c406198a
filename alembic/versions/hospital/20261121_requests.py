"""requests."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000002"
down_revision = "a1c0de000001"
branch_labels = None
depends_on = None

STATES = "'WAITING', 'CHOOSE', 'RETRIEVING', 'RECEIVED', 'DONE', 'FAILED', 'CANCELLED'"


def upgrade() -> None:
    op.create_table(
        "request_batches",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_batches")),
    )
    op.create_index(op.f("ix_request_batches_created_at"), "request_batches", ["created_at"])
    op.create_table(
        "requests",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("batch_id", sa.String(length=32), nullable=True),
        sa.Column("batch_line", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("accession_number", sa.String(length=16), nullable=False),
        sa.Column("age_years", sa.Integer(), nullable=True),
        sa.Column("sex", sa.String(length=1), nullable=False),
        sa.Column("weight_kg", sa.Double(), nullable=True),
        sa.Column("height_m", sa.Double(), nullable=True),
        sa.Column("ethnicity", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("study_date_from", sa.Date(), nullable=True),
        sa.Column("study_date_to", sa.Date(), nullable=True),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("source_peer_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sentence", sa.String(length=1000), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("found_peer_id", sa.Integer(), nullable=True),
        sa.Column("found_patient_id", sa.String(length=64), nullable=False),
        sa.Column("expected_count", sa.Integer(), nullable=True),
        sa.Column("received_count", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("wait_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_by", sa.String(length=32), nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("ck_requests_state")),
        sa.CheckConstraint("priority IN ('urgent', 'normal', 'offpeak')", name=op.f("ck_requests_priority")),
        sa.CheckConstraint("sex IN ('', 'F', 'M', 'O')", name=op.f("ck_requests_sex")),
        sa.CheckConstraint("patient_id <> '' OR accession_number <> ''", name=op.f("ck_requests_sought")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["request_batches.id"], name=op.f("fk_requests_batch_id_request_batches"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["source_peer_id"], ["peers.id"], name=op.f("fk_requests_source_peer_id_peers"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["found_peer_id"], ["peers.id"], name=op.f("fk_requests_found_peer_id_peers"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    for name, columns in REQUEST_INDEXES.items():
        op.create_index(op.f(name), "requests", columns)
    op.create_table(
        "request_matches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column("peer_id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("study_date", sa.String(length=8), nullable=False),
        sa.Column("description", sa.String(length=64), nullable=False),
        sa.Column("modalities", sa.String(length=64), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.id"], name=op.f("fk_request_matches_request_id_requests"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["peer_id"], ["peers.id"], name=op.f("fk_request_matches_peer_id_peers"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_matches")),
        sa.UniqueConstraint("request_id", "study_instance_uid", name=op.f("uq_request_matches_request_id")),
    )
    op.create_table(
        "request_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sentence", sa.String(length=1000), nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.id"], name=op.f("fk_request_events_request_id_requests"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_events")),
    )
    op.create_index(op.f("ix_request_events_request_id"), "request_events", ["request_id"])


REQUEST_INDEXES = {
    "ix_requests_batch_id_state": ["batch_id", "state"],
    "ix_requests_created_at": ["created_at"],
    "ix_requests_reference": ["reference"],
    "ix_requests_state_due_at": ["state", "due_at"],
    "ix_requests_study_instance_uid": ["study_instance_uid"],
    "ix_requests_taken_at": ["taken_at"],
}


def downgrade() -> None:
    for table in ("request_events", "request_matches", "requests", "request_batches"):
        op.drop_table(table)
