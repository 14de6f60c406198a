"""dicomweb and imports."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000007"
down_revision = "a1c0de000006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "catalogue_studies",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_date", sa.String(length=8), nullable=False),
        sa.Column("study_time", sa.String(length=6), nullable=False),
        sa.Column("accession_number", sa.String(length=200), nullable=False),
        sa.Column("study_id", sa.String(length=200), nullable=False),
        sa.Column("study_description", sa.String(length=200), nullable=False),
        sa.Column("referring_physician_name", sa.String(length=200), nullable=False),
        sa.Column("patient_id", sa.String(length=200), nullable=False),
        sa.Column("patient_name", sa.String(length=200), nullable=False),
        sa.Column("patient_birth_date", sa.String(length=8), nullable=False),
        sa.Column("patient_sex", sa.String(length=200), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_catalogue_studies")),
    )
    op.create_index(op.f("ix_catalogue_studies_study_date"), "catalogue_studies", ["study_date"])
    op.create_index(op.f("ix_catalogue_studies_patient_id"), "catalogue_studies", ["patient_id"])
    op.create_table(
        "catalogue_series",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("modality", sa.String(length=200), nullable=False),
        sa.Column("series_number", sa.Integer(), nullable=True),
        sa.Column("series_description", sa.String(length=200), nullable=False),
        sa.Column("body_part_examined", sa.String(length=200), nullable=False),
        sa.Column("performed_procedure_step_start_date", sa.String(length=8), nullable=False),
        sa.Column("performed_procedure_step_start_time", sa.String(length=6), nullable=False),
        sa.Column("is_made", sa.Boolean(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid", name=op.f("pk_catalogue_series")),
    )
    op.create_index(op.f("ix_catalogue_series_seen_at"), "catalogue_series", ["seen_at"])
    op.create_table(
        "catalogue_instances",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("instance_number", sa.Integer(), nullable=True),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("is_made", sa.Boolean(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_catalogue_instances")),
    )
    op.create_index(
        op.f("ix_catalogue_instances_study_instance_uid"),
        "catalogue_instances",
        ["study_instance_uid", "series_instance_uid"],
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("received_bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_count", sa.Integer(), nullable=False),
        sa.Column("done_count", sa.Integer(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("sentence", sa.String(length=500), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('RECEIVING', 'WAITING', 'RUNNING', 'DONE', 'FAILED')", name=op.f("ck_imports_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.create_index(op.f("ix_imports_created_at"), "imports", ["created_at"])


def downgrade() -> None:
    for table in ("imports", "catalogue_instances", "catalogue_series", "catalogue_studies"):
        op.drop_table(table)
