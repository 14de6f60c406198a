"""What the REST interface takes and gives."""

from datetime import datetime
from ipaddress import ip_network
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

MAX_HOSTS_LENGTH = 500


class PeerIn(BaseModel):
    """A peer to add."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w .-]+$")
    ae_title: str = Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
    host: str = Field(min_length=1, max_length=255, pattern=r"^[\w.:-]+$")
    port: int = Field(ge=1, le=65535)
    may_send: bool = True
    receives_results: bool = True
    allowed_hosts: list[str] = []
    max_associations: int | None = Field(None, ge=1, le=1000)
    uses_tls: bool = False

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _one_by_one(cls, value: object) -> object:
        """Take the column's own form too: addresses with commas between them."""
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        for one in value:
            try:
                ip_network(one, strict=False)
            except ValueError:
                raise ValueError("each is an IP address or a network such as 10.1.0.0/16, no host name") from None
        if len(",".join(value)) > MAX_HOSTS_LENGTH:
            raise ValueError(f"all together may have {MAX_HOSTS_LENGTH} characters")
        return value

    def row(self) -> dict[str, Any]:
        """Return the columns of a peer."""
        return {**self.model_dump(), "allowed_hosts": ",".join(self.allowed_hosts)}


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


class AssociationOut(BaseModel):
    """One association that has ended."""

    model_config = ConfigDict(from_attributes=True)

    calling_aet: str
    called_aet: str
    address: str
    started_at: datetime
    ended_at: datetime
    accepted: int
    refused: int
    received_bytes: int
    outcome: str


class CommitmentOut(BaseModel):
    """One request for storage commitment."""

    model_config = ConfigDict(from_attributes=True)

    calling_aet: str
    transaction_uid: str
    state: str
    attempts: int
    sentence: str
    received_at: datetime
    due_at: datetime


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
