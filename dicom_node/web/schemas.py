"""What the REST interface takes and gives."""

from datetime import datetime
from ipaddress import ip_network
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

MAX_HOSTS_LENGTH = 500

ResultObject = Literal["sr", "seg", "sc", "pdf"]
"""Keys of ``dicom_node.db.models.RESULT_KINDS``."""
SrClass = Literal["auto", "comprehensive_3d", "comprehensive", "enhanced", "basic_text"]
"""``dicom_node.db.models.SR_CLASSES``."""
ALL_OBJECTS: tuple[ResultObject, ...] = get_args(ResultObject)


def objects_column(objects: list[ResultObject]) -> str:
    """Return chosen objects as the column holds them: all of them as empty, so that kinds to come are among them."""
    return "" if set(objects) == set(ALL_OBJECTS) else ",".join(key for key in ALL_OBJECTS if key in objects)


def objects_from_column(value: object) -> object:
    """Return what ``objects_column`` made as a list again; anything else as it is."""
    if not isinstance(value, str):
        return value
    return [part for part in value.replace(" ", "").split(",") if part] or list(ALL_OBJECTS)


def refuse_no_object(value: list[ResultObject] | None) -> list[ResultObject] | None:
    """Refuse an empty choice."""
    if value == []:
        raise ValueError("name at least one of sr, seg, sc, pdf; a peer that gets nothing has receives_results off")
    return value


class PeerProfile(BaseModel):
    """What of a peer's profile to set; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    objects: list[ResultObject] | None = None
    sr_class: SrClass | None = None

    _not_nothing = field_validator("objects")(refuse_no_object)

    def columns(self) -> dict[str, str]:
        """Return the columns of a peer to set."""
        chosen = {} if self.objects is None else {"objects": objects_column(self.objects)}
        return chosen if self.sr_class is None else {**chosen, "sr_class": self.sr_class}


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
    objects: list[ResultObject] = list(ALL_OBJECTS)
    sr_class: SrClass = "auto"

    _as_list = field_validator("objects", mode="before")(objects_from_column)
    _not_nothing = field_validator("objects")(refuse_no_object)

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
        lists = {"allowed_hosts": ",".join(self.allowed_hosts), "objects": objects_column(self.objects)}
        return {**self.model_dump(), **lists}


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
