"""Routing rules as documents: their typed, validated form, the rules of a fresh install, and their files.

A rule is data: fields, operators and values from the tables below, no program text. What a rule means for a study is
``dicom_node.pipeline.routing``'s business; where rules are kept is ``dicom_node.db.routing``'s.
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydicom.datadict import dictionary_VR, keyword_dict

from dicom_node.errors import ConfigurationError
from dicom_node.settings import SegmenterName

Kind = Literal["text", "number"]
Operator = Literal["is", "is_not", "one_of", "like", "not_like", "at_least", "at_most", "between", "present", "absent"]
Pipeline = Literal["hip", "spine"]
Priority = Literal["urgent", "normal", "offpeak"]
"""``dicom_node.db.models.PRIORITIES``."""

FIELDS: dict[str, tuple[Kind, str]] = {
    "modality": ("text", "Modality (0008,0060)"),
    "calling_aet": ("text", "Calling AE title that sent the series"),
    "body_part": ("text", "Body Part Examined (0018,0015)"),
    "study_description": ("text", "Study Description (0008,1030)"),
    "series_description": ("text", "Series Description (0008,103E)"),
    "protocol_name": ("text", "Protocol Name (0018,1030)"),
    "kernel": ("text", "Convolution Kernel (0018,1210)"),
    "image_type": ("text", "one value of Image Type (0008,0008)"),
    "manufacturer": ("text", "Manufacturer (0008,0070)"),
    "model": ("text", "Manufacturer's Model Name (0008,1090)"),
    "station": ("text", "Station Name (0008,1010)"),
    "patient_sex": ("text", "Patient's Sex (0010,0040)"),
    "patient_age_years": ("number", "Patient's Age (0010,1010), or study date less birth date, years"),
    "slice_thickness_mm": ("number", "Slice Thickness (0018,0050), mm"),
    "kvp": ("number", "KVP (0018,0060)"),
    "series_instances": ("number", "instances of the series that are here"),
    "series_slices": ("number", "slices of the series: its instances, times their frames"),
    "ct_instances": ("number", "CT instances of the series that are here"),
}
"""What a condition may ask of a series; ``tag:KEYWORD`` asks for any other attribute by its keyword."""
TAG = "tag:"
TEXT_OPERATORS = ("is", "is_not", "one_of", "like", "not_like")
NUMBER_OPERATORS = ("is", "is_not", "at_least", "at_most", "between")
PRESENCE = ("present", "absent")
OPERATORS: dict[Operator, str] = {
    "is": "is",
    "is_not": "is not",
    "one_of": "is one of",
    "like": "is like",
    "not_like": "is not like",
    "at_least": "is at least",
    "at_most": "is at most",
    "between": "lies between",
    "present": "is there",
    "absent": "is not there",
}
"""Operators and how they read; ``like`` knows ``*`` for any characters and ``?`` for one, and nothing more."""

Text = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w .,()+-]+$")]


def _allowed(field: str) -> tuple[str, ...]:
    if field.startswith(TAG):
        return tuple(dict.fromkeys((*TEXT_OPERATORS, *NUMBER_OPERATORS)))
    return NUMBER_OPERATORS if FIELDS[field][0] == "number" else TEXT_OPERATORS


def _is_plain(keyword: str) -> bool:
    """Tell whether an attribute holds words or numbers: no sequence and no bytes."""
    return not dictionary_VR(keyword).startswith(("SQ", "O", "UN", "AT"))


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Condition(_Document):
    """One thing asked of a series."""

    field: str = Field(max_length=80)
    operator: Operator
    value: Number | Text | tuple[Number | Text, ...] | None = None

    @field_validator("field")
    @classmethod
    def _is_known(cls, value: str) -> str:
        keyword = value.removeprefix(TAG)
        if value in FIELDS or (value.startswith(TAG) and keyword in keyword_dict and _is_plain(keyword)):
            return value
        raise ValueError(f"is one of {', '.join(FIELDS)}, or tag: with the keyword of an attribute with plain values")

    @model_validator(mode="after")
    def _fits(self) -> "Condition":
        if self.operator in PRESENCE:
            if self.value is not None:
                raise ValueError(f"{self.operator} takes no value")
            return self
        wanted = _allowed(self.field)
        if self.operator not in wanted:
            raise ValueError(f"{self.field} takes {', '.join(wanted)}, {' or '.join(PRESENCE)}")
        self._check_value()
        return self

    def _check_value(self) -> None:
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        is_many = self.operator in ("one_of", "between")
        if is_many != isinstance(self.value, tuple) or (is_many and not values):
            raise ValueError(f"{self.operator} takes {'a list of values' if is_many else 'one value'}")
        if self.is_numeric:
            if not all(isinstance(one, float) for one in values):
                raise ValueError(f"{self.operator} takes a number for {self.field}")
        elif not all(isinstance(one, str) for one in values):
            raise ValueError(f"{self.operator} takes words for {self.field}")
        if self.operator == "between" and (len(values) != 2 or not values[0] <= values[1]):  # type: ignore[operator]  # both are floats, as checked above
            raise ValueError("between takes two numbers, the smaller first")

    @property
    def is_numeric(self) -> bool:
        """Whether it compares numbers."""
        if self.field in FIELDS:
            return FIELDS[self.field][0] == "number"
        return self.operator in ("at_least", "at_most", "between")

    @property
    def words(self) -> str:
        """The condition as people read it."""
        if self.value is None:
            return f"{self.field} {OPERATORS[self.operator]}"
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        joint = " and " if self.operator == "between" else ", "
        said = joint.join(f"{one:g}" if isinstance(one, float) else one for one in values)
        return f"{self.field} {OPERATORS[self.operator]} {said}"


class RequiredSeries(_Document):
    """A series the study needs before it is complete: one that satisfies every condition."""

    name: Name
    conditions: tuple[Condition, ...] = Field(min_length=1, max_length=20)


class Completeness(_Document):
    """What completeness means for the studies of a rule.

    ``pacs``: which of its series the PACS's counts must agree with: CT series (``ct``), every object (``all``), or none
    (``off``). ``wait_s`` and ``then``: as the settings ``completeness_wait_s`` and ``completeness_policy`` when left
    out.
    """

    pacs: Literal["ct", "all", "off"] = "ct"
    wait_s: float | None = Field(None, ge=0, le=7 * 86_400)
    then: Literal["proceed", "hold"] | None = None


class Rule(_Document):
    """Which studies are analysed, how, and where their results go.

    A rule takes a study when one of its series satisfies every one of ``conditions``, and none of its series satisfies
    any of ``unless``.
    """

    name: Name
    is_enabled: bool = True
    conditions: tuple[Condition, ...] = Field((), max_length=20)
    unless: tuple[Condition, ...] = Field((), max_length=20)
    pipelines: tuple[Pipeline, ...] = get_args(Pipeline)
    segmenter: SegmenterName | Literal[""] = ""
    """What finds the bones; empty: as the setting says when the study is analysed."""
    priority: Priority = "normal"
    required_series: tuple[RequiredSeries, ...] = Field((), max_length=10)
    destinations: tuple[Name, ...] = Field((), max_length=20)
    completeness: Completeness = Completeness()

    @field_validator("pipelines")
    @classmethod
    def _are_some(cls, value: tuple[Pipeline, ...]) -> tuple[Pipeline, ...]:
        if not value:
            raise ValueError("name hip, spine or both")
        return tuple(one for one in get_args(Pipeline) if one in value)

    @property
    def hash(self) -> str:
        """SHA-256, hexadecimal, of what the rule says; its name and whether it is enabled are left out.

        A rule without a segmenter has the hash it had before rules could name one.
        """
        unsaid = {"name", "is_enabled"} if self.segmenter else {"name", "is_enabled", "segmenter"}
        said = self.model_dump(mode="json", exclude=unsaid)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @property
    def tags(self) -> frozenset[str]:
        """Keywords of the attributes its conditions ask for beside the named fields."""
        asked = (*self.conditions, *self.unless, *(one for need in self.required_series for one in need.conditions))
        return frozenset(one.field.removeprefix(TAG) for one in asked if one.field.startswith(TAG))


EVERY_CT = Rule(name="Every CT", conditions=(Condition(field="ct_instances", operator="at_least", value=1.0),))
"""The rule of a fresh install: hips and spine of every study that has a CT series."""
DEFAULT_RULES: tuple[Rule, ...] = (EVERY_CT,)
MAX_RULES = 200
_RULES = TypeAdapter(tuple[Rule, ...])


def rules_from_json(text: str) -> tuple[Rule, ...]:
    """Read rules that ``json_from_rules`` wrote, or a person did.

    Raises
    ------
    ConfigurationError
        When it is no JSON, a rule is not valid, or two have one name; the sentence says which and why.
    """
    try:
        return checked(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"The rules are no JSON ({type(error).__name__}).") from None


def rules_from_toml(text: str) -> tuple[Rule, ...]:
    """Read rules from TOML: one ``[[rule]]`` each.

    Raises
    ------
    ConfigurationError
        As `rules_from_json`.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"The rules are no TOML ({error}).") from None
    if set(document) - {"rule"}:
        raise ConfigurationError("A file of rules holds [[rule]] tables and nothing else.")
    return checked(document.get("rule", []))


def checked(document: object) -> tuple[Rule, ...]:
    """Validate a list of rules.

    Raises
    ------
    ConfigurationError
        When a rule is not valid, two have one name, or there are too many; the sentence says which and why.
    """
    if isinstance(document, dict) and set(document) == {"rules"}:
        document = document["rules"]
    try:
        rules = _RULES.validate_python(document)
    except ValidationError as error:
        raise ConfigurationError(" ".join(_problem(one, document) for one in error.errors()[:5])) from None
    names = [rule.name.lower() for rule in rules]
    twice = sorted({rule.name for rule in rules if names.count(rule.name.lower()) > 1})
    if twice:
        raise ConfigurationError(f"Two rules have the name {twice[0]}; names are unique.")
    if len(rules) > MAX_RULES:
        raise ConfigurationError(f"{len(rules)} rules; at most {MAX_RULES} are kept.")
    return rules


def json_from_rules(rules: Sequence[Rule], *, indent: int | None = None) -> str:
    """Write rules as JSON."""
    return json.dumps([rule.model_dump(mode="json") for rule in rules], indent=indent, ensure_ascii=False)


def toml_from_rules(rules: Sequence[Rule]) -> str:
    """Write rules as TOML, one ``[[rule]]`` each."""
    tables = []
    for rule in rules:
        said = rule.model_dump(mode="json", exclude_none=True)
        lines = [f"{key} = {_toml(value)}" for key, value in said.items()]
        tables.append("\n".join(["[[rule]]", *lines]))
    return "\n\n".join(tables) + "\n"


def _toml(value: Any) -> str:
    """Write a value of a rule inline; TOML's basic strings, numbers and booleans are those of JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _problem(error: Any, document: object) -> str:
    """Say which rule is wrong and why; the input's own words are not repeated."""
    place = list(error["loc"])
    name = ""
    if place and isinstance(place[0], int) and isinstance(document, (list, tuple)):
        rule = document[place.pop(0)]
        name = str(rule.get("name", ""))[:64] if isinstance(rule, dict) else ""
    where = ".".join(
        str(one) for one in place if isinstance(one, int) or not str(one).startswith(("function", "tuple"))
    )
    said = error["msg"].removeprefix("Value error, ")
    return f"Rule {name or 'without a name'}{', ' + where if where else ''}: {said}."
