"""What the REST interface gives of requests; what it takes is `dicom_node.pipeline.requests_input.RequestIn`."""

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict


class MatchOut(BaseModel):
    """One study that answers a request."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    peer: str
    study_instance_uid: str
    study_date: str
    description: str
    modalities: str
    instance_count: int | None


class EventOut(BaseModel):
    """One line of a request's history."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    state: str
    sentence: str


class RequestOut(BaseModel):
    """One request and how far it has come. For the hospital side: it names the patient."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    reference: str
    project: str
    patient_id: str
    accession_number: str
    age_years: int | None
    sex: str
    weight_kg: float | None
    height_m: float | None
    ethnicity: str
    priority: str
    study_date_from: date | None
    study_date_to: date | None
    modality: str
    source: str = ""
    batch_id: str | None
    batch_line: int
    state: str
    sentence: str
    study_instance_uid: str
    found_at: str = ""
    expected_count: int | None
    received_count: int
    due_at: datetime
    created_at: datetime
    updated_at: datetime
    job_id: str
    job_state: str = ""
    job_stage: str = ""
    job_progress: float = 0.0
    matches: list[MatchOut] = []


class RequestDetail(RequestOut):
    """One request with its history."""

    history: list[EventOut] = []


class BatchOut(BaseModel):
    """One batch and how many of its requests are where."""

    id: str
    name: str
    row_count: int
    created_at: datetime
    waiting: int
    running: int
    done: int
    failed: int
    cancelled: int
    to_choose: int


class ProblemOut(BaseModel):
    """Why a line of a file cannot become a request."""

    model_config = ConfigDict(from_attributes=True)

    line: int
    field: str
    sentence: str


class BatchResult(BaseModel):
    """What became of a file of requests."""

    row_count: int
    added_count: int
    batch_id: str
    problems: list[ProblemOut]


class RequestPage(BaseModel):
    """What the page shows: the newest requests, every state's count, and the newest batches."""

    requests: list[RequestOut]
    counts: dict[str, int]
    batches: list[BatchOut]
    sources: list[str]
    offpeak_hours: str
    is_offpeak: bool
