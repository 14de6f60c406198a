"""Tables of the request side: who asked for which study, where it was found, how far it has come.

They belong to the hospital side: a patient's number and an accession number stand here in clear, and nowhere else
outside the encrypted identity map.
"""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Date, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.db.models import PRIORITIES, Hospital

REQUEST_STATES = ("WAITING", "CHOOSE", "RETRIEVING", "RECEIVED", "DONE", "FAILED", "CANCELLED")
"""docs/requests.md says what each of them means and what follows it."""
OPEN_STATES = ("WAITING", "CHOOSE", "RETRIEVING", "RECEIVED")
"""States in which something is still to be done."""
WORKED_STATES = ("WAITING", "RETRIEVING")
"""States in which the node itself acts on a request when its time has come."""
SEXES = ("", "F", "M", "O")
"""Patient's Sex (PS3.3 C.7.1.1); empty where the request does not say."""


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class RequestBatch(Hospital):
    """One CSV file of requests."""

    __tablename__ = "request_batches"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    row_count: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(index=True)


class Request(Hospital):
    """One request: the study of one patient, to be found in a PACS, retrieved and analysed.

    ``due_at`` is when the node acts on it next; ``claimed_by`` and ``claimed_until`` say which process acts on it
    now; ``wait_until`` ends the waiting of the present phase, None before the phase began.
    """

    __tablename__ = "requests"
    __table_args__ = (
        CheckConstraint(_one_of("state", REQUEST_STATES), name="state"),
        CheckConstraint(_one_of("priority", PRIORITIES), name="priority"),
        CheckConstraint(_one_of("sex", SEXES), name="sex"),
        CheckConstraint("patient_id <> '' OR accession_number <> ''", name="sought"),
        Index("ix_requests_state_due_at", "state", "due_at"),
        Index("ix_requests_batch_id_state", "batch_id", "state"),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    batch_id: Mapped[str | None] = mapped_column(ForeignKey("request_batches.id", ondelete="RESTRICT"))
    batch_line: Mapped[int] = mapped_column(default=0, server_default="0")
    """Line of the batch's file; 0 for a request of its own."""
    reference: Mapped[str] = mapped_column(String(64), index=True)
    project: Mapped[str] = mapped_column(String(64))
    patient_id: Mapped[str] = mapped_column(String(64))
    accession_number: Mapped[str] = mapped_column(String(16))
    age_years: Mapped[int | None]
    sex: Mapped[str] = mapped_column(String(1))
    weight_kg: Mapped[float | None]
    height_m: Mapped[float | None]
    ethnicity: Mapped[str] = mapped_column(String(64))
    priority: Mapped[str] = mapped_column(String(16))
    study_date_from: Mapped[date | None] = mapped_column(Date)
    study_date_to: Mapped[date | None] = mapped_column(Date)
    modality: Mapped[str] = mapped_column(String(16))
    source_peer_id: Mapped[int | None] = mapped_column(ForeignKey("peers.id", ondelete="RESTRICT"))
    """The one peer to ask; None: every peer that is queried."""
    state: Mapped[str] = mapped_column(String(16))
    sentence: Mapped[str] = mapped_column(String(1000))
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    """The study that was found or chosen; empty before."""
    found_peer_id: Mapped[int | None] = mapped_column(ForeignKey("peers.id", ondelete="RESTRICT"))
    found_patient_id: Mapped[str] = mapped_column(String(64))
    """Whose the peer says the study is; what comes has to say the same."""
    expected_count: Mapped[int | None]
    received_count: Mapped[int]
    attempts: Mapped[int]
    """Times the present phase was tried."""
    wait_until: Mapped[datetime | None]
    due_at: Mapped[datetime]
    taken_at: Mapped[datetime | None] = mapped_column(index=True)
    """When a peer was last asked for it: the rate limit counts these."""
    claimed_by: Mapped[str] = mapped_column(String(32))
    claimed_until: Mapped[datetime | None]
    job_id: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]


class RequestMatch(Hospital):
    """One study that answers a request, for a person to choose."""

    __tablename__ = "request_matches"
    __table_args__ = (UniqueConstraint("request_id", "study_instance_uid"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id", ondelete="CASCADE"))
    peer_id: Mapped[int] = mapped_column(ForeignKey("peers.id", ondelete="RESTRICT"))
    study_instance_uid: Mapped[str] = mapped_column(String(64))
    patient_id: Mapped[str] = mapped_column(String(64))
    study_date: Mapped[str] = mapped_column(String(8))
    description: Mapped[str] = mapped_column(String(64))
    modalities: Mapped[str] = mapped_column(String(64))
    instance_count: Mapped[int | None]


class RequestEvent(Hospital):
    """One thing that happened to a request: its history, which nothing overwrites."""

    __tablename__ = "request_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16))
    sentence: Mapped[str] = mapped_column(String(1000))
