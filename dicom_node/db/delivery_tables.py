"""What is known of an object on its way to a peer beside its receipt: refusals, and the commitments asked for."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.db.models import Hospital

ASKED_STATES = ("OPEN", "ANSWERED", "EXPIRED")


class Refusal(Hospital):
    """Why a peer did not take an object at the last try; a receipt takes its place."""

    __tablename__ = "refusals"
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("results.sop_instance_uid", ondelete="CASCADE"), primary_key=True
    )
    status: Mapped[int | None]
    """DIMSE status or failure reason; None: it was never offered, or the answer named none."""
    sentence: Mapped[str] = mapped_column(String(500))
    times: Mapped[int]
    """Refused so often in a row."""
    refused_at: Mapped[datetime]


class AskedCommitment(Hospital):
    """A request for storage commitment of this node to a peer; committed before it is sent."""

    __tablename__ = "asked_commitments"
    __table_args__ = (CheckConstraint(f"state IN ({', '.join(repr(state) for state in ASKED_STATES)})", name="state"),)
    transaction_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), index=True)
    instance_uids: Mapped[str] = mapped_column(Text)
    """JSON: the SOP Instance UIDs that it names."""
    state: Mapped[str] = mapped_column(String(16))
    asked_at: Mapped[datetime]
    due_at: Mapped[datetime]
    """Without a report by then it is asked anew, in another transaction; a late report counts all the same."""
    answered_at: Mapped[datetime | None]
