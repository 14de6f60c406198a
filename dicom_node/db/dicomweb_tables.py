"""What DICOMweb searches: attributes of studies, series and instances, read from their files when first needed.

All of it can be made again from the files. It holds identity as the headers do, and stays on the hospital side.
"""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.db.models import Hospital

TEXT_LENGTH = 200
"""Longest text that is searched; what the standard allows is shorter (PS3.5 6.2)."""


class CatalogueStudy(Hospital):
    """A study and its patient, as the series that was seen last names them."""

    __tablename__ = "catalogue_studies"
    study_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_date: Mapped[str] = mapped_column(String(8), index=True)
    study_time: Mapped[str] = mapped_column(String(6))
    accession_number: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    study_id: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    study_description: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    referring_physician_name: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    patient_id: Mapped[str] = mapped_column(String(TEXT_LENGTH), index=True)
    patient_name: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    patient_birth_date: Mapped[str] = mapped_column(String(8))
    patient_sex: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    attributes: Mapped[str] = mapped_column(Text)
    """DICOM JSON of everything of this level; the columns above are for matching, names in lower case."""


class CatalogueSeries(Hospital):
    """A series; ``seen_at`` is the arrival of the instance it was read from."""

    __tablename__ = "catalogue_series"
    study_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    modality: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    series_number: Mapped[int | None]
    series_description: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    body_part_examined: Mapped[str] = mapped_column(String(TEXT_LENGTH))
    performed_procedure_step_start_date: Mapped[str] = mapped_column(String(8))
    performed_procedure_step_start_time: Mapped[str] = mapped_column(String(6))
    is_made: Mapped[bool]
    seen_at: Mapped[datetime] = mapped_column(index=True)
    attributes: Mapped[str] = mapped_column(Text)


class CatalogueInstance(Hospital):
    """An instance; ``source`` is the row of the received one, or the job of a result the node made."""

    __tablename__ = "catalogue_instances"
    __table_args__ = (Index("ix_catalogue_instances_study_instance_uid", "study_instance_uid", "series_instance_uid"),)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    instance_number: Mapped[int | None]
    source: Mapped[str] = mapped_column(String(32))
    path: Mapped[str] = mapped_column(String(255))
    is_made: Mapped[bool]
    attributes: Mapped[str] = mapped_column(Text)


class Import(Hospital):
    """Files that were uploaded to be imported. No file name: names of files may be names of patients."""

    __tablename__ = "imports"
    __table_args__ = (CheckConstraint("state IN ('RECEIVING', 'WAITING', 'RUNNING', 'DONE', 'FAILED')", name="state"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    received_bytes: Mapped[int] = mapped_column(BigInteger)
    file_count: Mapped[int]
    """Files found so far, those inside archives too."""
    done_count: Mapped[int]
    counts: Mapped[str] = mapped_column(Text)
    """JSON: what became of how many."""
    sentence: Mapped[str] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]
