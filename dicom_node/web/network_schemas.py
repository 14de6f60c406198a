"""What the REST interface gives about the network and the audit."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class AssociationOut(BaseModel):
    """One association that has ended."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    calling_aet: str
    called_aet: str
    address: str
    started_at: datetime
    ended_at: datetime
    accepted: int
    refused: int
    received_bytes: int
    outcome: str
    is_tls: bool
    errors: str


class CallerOut(BaseModel):
    """What one caller did in the last 24 hours; ``busy_s`` is the time of its associations together."""

    model_config = ConfigDict(from_attributes=True)

    calling_aet: str
    associations: int
    rejected: int
    accepted: int
    refused: int
    received_bytes: int
    busy_s: float
    last_at: datetime


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


class AuditRowOut(BaseModel):
    """One event of the audit."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    at: datetime
    kind: str
    outcome: int
    who: str
    study_instance_uid: str
    patient: str
    sentence: str
    row_hash: str


class AuditState(BaseModel):
    """Where the chain ends, how far it was checked and sent, and what is the matter."""

    rows: int
    row_hash: str
    checked_rows: int
    checked_at: datetime | None
    receiver: str
    sent_rows: int
    sent_at: datetime | None
    kinds: dict[str, str]
    problems: list[str]
