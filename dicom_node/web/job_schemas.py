"""What the REST interface takes and gives about jobs."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dicom_node.web.schemas import DeliveryOut

JobState = Literal["submitted", "pending", "processing", "open", "done", "failed", "discarded"]
"""``dicom_node.db.models.JOB_STATES``."""
Priority = Literal["urgent", "normal", "offpeak"]
"""``dicom_node.db.models.PRIORITIES``."""
JobStep = Literal["deidentify", "analyse", "package", "deliver"]
"""``dicom_node.db.job_control.STEPS``."""


class JobEventOut(BaseModel):
    """One thing that happened to a job."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    attempt: int
    kind: str
    step: str
    seconds: float | None
    executor: str
    sentence: str


class JobOut(BaseModel):
    """One job."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    pipeline: str
    priority: Priority
    pseudonym: str | None
    state: JobState
    stage: str
    progress: float
    sentence: str
    attempts: int
    next_step: str
    is_paused: bool
    due_at: datetime | None
    executor: str
    created_at: datetime
    updated_at: datetime
    waiting: str = ""
    """Why a job that waits does not begin, in words."""
    headline: str = ""
    pictures: list[str] = []
    deliveries: list[DeliveryOut] = []
    events: list[JobEventOut] = []
    """Of the newest attempt, in the list of jobs; of all attempts, for one job."""


class JobDetail(JobOut):
    """One job with its whole report (values only; no identifier)."""

    report: dict[str, Any] | None = None


class WorkerOut(BaseModel):
    """A process that runs jobs."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    cpu_slots: int
    gpu_slots: int
    started_at: datetime
    beaten_at: datetime


class JobBoard(BaseModel):
    """One page of jobs, and what stands above it."""

    jobs: list[JobOut]
    jobs_by_state: dict[str, int]
    paused_since: datetime | None
    workers: list[WorkerOut]
    offpeak_hours: str


class NodePause(BaseModel):
    """Whether the whole node is paused."""

    model_config = ConfigDict(extra="forbid")

    is_paused: bool


class PriorityIn(BaseModel):
    """The priority to give."""

    model_config = ConfigDict(extra="forbid")

    priority: Priority


class Cancelled(BaseModel):
    """How many jobs were cancelled."""

    count: int
