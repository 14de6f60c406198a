"""Tables about the node's own work: what happened to a job and when, which processes run jobs, is the node paused."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column

from dicom_node.db.models import Research

JOB_EVENTS = (
    "began",
    "ended",
    "repeated",
    "lost",
    "rewound",
    "held",
    "released",
    "failed",
    "paused",
    "resumed",
    "cancelled",
    "discarded",
    "restarted",
    "prioritised",
)
"""What can happen to a job, in words that its timeline shows."""
BY_PEOPLE = ("released", "paused", "resumed", "cancelled", "discarded", "restarted", "prioritised")
"""What people do to a job; the others are done by a process."""


class JobEvent(Research):
    """One thing that happened to a job. Never changed; goes with its job."""

    __tablename__ = "job_events"
    __table_args__ = (CheckConstraint(f"kind IN {JOB_EVENTS!r}", name="kind"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[int]
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(16))
    step: Mapped[str] = mapped_column(String(16))
    seconds: Mapped[float | None]
    """How long the step took, for the kinds that end one."""
    executor: Mapped[str] = mapped_column(String(100), default="", server_default="")
    sentence: Mapped[str] = mapped_column(String(1000), default="", server_default="")


class Executor(Research):
    """A process that runs jobs, and its last sign of life. The id holds the host and a number of this start alone."""

    __tablename__ = "executors"
    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    workflow_schema: Mapped[str] = mapped_column(String(8))
    cpu_slots: Mapped[int]
    gpu_slots: Mapped[int]
    started_at: Mapped[datetime]
    beaten_at: Mapped[datetime]


class NodeControl(Research):
    """One row: whether the whole node is paused."""

    __tablename__ = "node_control"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    is_paused: Mapped[bool] = mapped_column(default=False, server_default=false())
    changed_at: Mapped[datetime]
