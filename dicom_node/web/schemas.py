"""What the REST interface takes and gives."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class DeliveryOut(BaseModel):
    """One job's results on their way to one peer."""

    peer: str
    state: str
    attempts: int
    sentence: str
    updated_at: datetime


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
    used_percent: float
    watermark_percent: float
    is_accepting: bool
    audit_problems: list[str] = []
