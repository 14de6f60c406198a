"""What the REST interface takes and gives."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class PeerIn(BaseModel):
    """A peer to add."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w .-]+$")
    ae_title: str = Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
    host: str = Field(min_length=1, max_length=255, pattern=r"^[\w.:-]+$")
    port: int = Field(ge=1, le=65535)
    may_send: bool = True
    receives_results: bool = True


class PeerOut(PeerIn):
    """A configured peer."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class DeliveryOut(BaseModel):
    """One job's results on their way to one peer."""

    peer: str
    state: str
    attempts: int
    sentence: str
    updated_at: datetime


class JobOut(BaseModel):
    """One job."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    pipeline: str
    pseudonym: str | None
    state: str
    stage: str
    progress: float
    sentence: str
    attempts: int
    created_at: datetime
    updated_at: datetime
    headline: str = ""
    pictures: list[str] = []
    deliveries: list[DeliveryOut] = []


class JobDetail(JobOut):
    """One job with its whole report (values only; no identifier)."""

    report: dict[str, Any] | None = None


class StudyOut(BaseModel):
    """One study as it has arrived."""

    study_instance_uid: str
    instance_count: int
    first_arrival: datetime
    last_arrival: datetime
    version: int
    job_ids: list[str]


class QuarantineOut(BaseModel):
    """One object kept aside."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    cause: str
    sentence: str
    calling_aet: str
    received_at: datetime


class Health(BaseModel):
    """Whether the node is well."""

    status: str
    version: str
    ae_title: str
    dicom_port: int
    instance_count: int
    quarantine_count: int
    jobs_by_state: dict[str, int]
    free_bytes: int
    reserve_bytes: int
    is_accepting: bool
