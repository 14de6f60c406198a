"""What the REST interface of studies and rules takes and gives."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dicom_node.pipeline.routing_rules import Rule

Actor = str


class VersionOut(BaseModel):
    """One version of a study: what was given to a job, by which rule."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    job_id: str
    created_at: datetime
    instance_count: int
    rule_name: str
    rule_hash: str
    pipelines: str
    segmenter: str
    priority: str
    destinations: str
    incomplete: str
    forced_by: str


class AnswerOut(BaseModel):
    """What a peer said last of its counts."""

    peer: str
    word: str
    pacs_count: int
    here_count: int
    asked_at: datetime


class OrderOut(BaseModel):
    """What an operator ordered."""

    model_config = ConfigDict(from_attributes=True)

    action: str
    rule_name: str
    actor: str
    ordered_at: datetime
    is_open: bool


class StudyOut(BaseModel):
    """One study as it has arrived, and where it stands."""

    study_instance_uid: str
    instance_count: int
    own_count: int | None
    first_arrival: datetime | None
    last_arrival: datetime
    version: int
    job_ids: list[str]
    state: str
    sentence: str
    rule_name: str
    since: datetime | None
    is_open: bool
    can_be_ordered: bool
    """Whether there is something no version covers."""
    versions: list[VersionOut]
    answers: list[AnswerOut]
    order: OrderOut | None


class OrderIn(BaseModel):
    """What an operator orders for a study."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["proceed", "discard", "wait"]
    actor: str = Field(max_length=200)
    rule_name: str = Field("", max_length=64)


class FindingOut(BaseModel):
    """One condition on one series."""

    model_config = ConfigDict(from_attributes=True)

    holds: bool
    sentence: str


class SeriesTrialOut(BaseModel):
    """One series under every condition of a rule."""

    model_config = ConfigDict(from_attributes=True)

    title: str
    holds: bool
    findings: list[FindingOut]


class TrialOut(BaseModel):
    """One rule on a study."""

    name: str
    takes: bool
    reason: str
    series: list[SeriesTrialOut]
    lacking: list[str]


class FieldOut(BaseModel):
    """A field a condition may ask for."""

    name: str
    kind: str
    meaning: str


class RulesOut(BaseModel):
    """The rules in force, and what rules may be made of."""

    number: int
    rules: list[Rule]
    hashes: list[str]
    fields: list[FieldOut]
    operators: dict[str, str]
    peers: list[str]
    segmenters: list[str]


class Change(BaseModel):
    """Who changes the rules, having looked at which revision."""

    model_config = ConfigDict(extra="forbid")

    actor: str = Field(max_length=200)
    based_on: int | None = None


class RuleIn(Change):
    """A rule to add, or to put in the place of another."""

    rule: Rule


class MoveIn(Change):
    """A place for a rule, the first being 1."""

    place: int = Field(ge=1)


class SwitchIn(Change):
    """Whether a rule is to be switched on."""

    is_enabled: bool


class ImportIn(Change):
    """Rules as a file holds them, in place of those in force."""

    text: str = Field(max_length=1_000_000)
    form: Literal["json", "toml"] = "toml"
    dry_run: bool = False


class ImportOut(BaseModel):
    """What an import does, or would do."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    unchanged: list[str]


class RevisionOut(BaseModel):
    """One entry of the history."""

    number: int
    change: str
    actor: str
    made_at: datetime | None
    rules: list[str]
