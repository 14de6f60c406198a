"""What a request says: its fields, their units, and what is refused with which sentence.

The fields are those of CT2S's submission form [Benemerito2021] (job reference, age, gender, weight, height, project,
ethnicity), and what finds the study in a PACS. A problem names the field and what is expected, never the value.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dicom_node.net.sources import FORBIDDEN
from dicom_node.pipeline.requests_subject import RANGES

AGE_YEARS, WEIGHT_KG, HEIGHT_M = RANGES["age_years"], RANGES["weight_kg"], RANGES["height_m"]
REFERENCE = re.compile(r"[^\W_][\w .:/+-]{0,63}")
ETHNICITY = re.compile(r"[^\W\d_](?:[^\W\d_]|[ /(),'-]){0,63}")
ROUNDED_NUMBER = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+")
"""A long number as a spreadsheet shows it: its digits are gone."""
SHORTEST_GIVEAWAY = 4
"""A reference may hold a patient id of fewer characters: it would be a number by chance."""
SEX_WORDS = {"": "", "f": "F", "female": "F", "w": "F", "m": "M", "male": "M", "o": "O", "other": "O"}


def _literal(value: str) -> str:
    if FORBIDDEN.search(value):
        raise ValueError(r"must have no * ? \ and no control character: they would match other patients")
    if value.startswith("="):
        raise ValueError("begins with =, as a spreadsheet's formula does; write the number itself")
    if ROUNDED_NUMBER.fullmatch(value):
        raise ValueError("looks like a number that a spreadsheet has rounded; format the column as text")
    return value


def _reference(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        raise ValueError("has 1 to 64 letters, digits, spaces and . : / + - _ and begins with a letter or digit")
    return value


def _ethnicity(value: str) -> str:
    if value and not ETHNICITY.fullmatch(value):
        raise ValueError("has letters, spaces and / ( ) , ' - only: it goes to the research side")
    return value


def _sex(value: object) -> object:
    return SEX_WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _blank(value: object) -> object:
    """Take an empty text, as a form or a CSV file has it, as nothing said."""
    return None if isinstance(value, str) and not value.strip() else value


def _day(value: object) -> object:
    """Take DICOM's form of a date beside the usual one."""
    if isinstance(value, str) and re.fullmatch(r"\d{8}", value.strip(), re.ASCII):
        return f"{value.strip()[:4]}-{value.strip()[4:6]}-{value.strip()[6:]}"
    return value


Day = Annotated[date | None, BeforeValidator(_day), BeforeValidator(_blank)]


class RequestIn(BaseModel):
    """A request as a clinician fills it in: age in years, weight in kg, height in m (or cm, by its own field)."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True)

    reference: Annotated[str, AfterValidator(_reference)] = Field(description="Job reference; goes to research too.")
    patient_id: Annotated[str, AfterValidator(_literal)] = Field("", max_length=64)
    accession_number: Annotated[str, AfterValidator(_literal)] = Field("", max_length=16)
    project: str = Field("", max_length=64, description="Empty: the node's own.")
    age_years: Annotated[int | None, BeforeValidator(_blank)] = Field(None, ge=AGE_YEARS[0], le=AGE_YEARS[1])
    sex: Annotated[Literal["", "F", "M", "O"], BeforeValidator(_sex)] = ""
    weight_kg: Annotated[float | None, BeforeValidator(_blank)] = Field(None, ge=WEIGHT_KG[0], le=WEIGHT_KG[1])
    height_m: Annotated[float | None, BeforeValidator(_blank)] = None
    height_cm: Annotated[float | None, BeforeValidator(_blank)] = None
    ethnicity: Annotated[str, AfterValidator(_ethnicity)] = ""
    priority: Annotated[Literal["urgent", "normal", "offpeak"], BeforeValidator(lambda value: value or "normal")] = (
        "normal"
    )
    study_date_from: Day = None
    study_date_to: Day = None
    modality: str = Field("CT", pattern=r"^[A-Z0-9_ ]{0,16}$", description="Empty: any.")
    source: str = Field("", max_length=64, description="Name of the one peer to ask; empty: every one that is queried.")

    @model_validator(mode="after")
    def _is_a_request(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        """Return what is wrong between fields, the most basic first."""
        low, high = HEIGHT_M
        height = self.height
        said = [
            (not (self.patient_id or self.accession_number), "patient_id or accession_number is needed"),
            (
                self._reference_tells(),
                "reference goes to research: it must not hold the patient id or accession number",
            ),
            (self.height_m is not None and self.height_cm is not None, "give height_m or height_cm, not both"),
            (
                self.height_m is not None and self.height_m > high,
                f"height_m is in metres, {low} to {high}; centimetres go to height_cm",
            ),
            (
                self.height_cm is not None and self.height_cm <= high,
                f"height_cm is in centimetres, {100 * low:.0f} to {100 * high:.0f}; metres go to height_m",
            ),
            (height is not None and not low <= height <= high, f"height is between {low} and {high} m"),
            (
                bool(self.study_date_from and self.study_date_to and self.study_date_from > self.study_date_to),
                "study_date_from lies after study_date_to",
            ),
        ]
        return [sentence for is_wrong, sentence in said if is_wrong]

    def _reference_tells(self) -> bool:
        told = self.reference.casefold()
        numbers = (self.patient_id.casefold(), self.accession_number.casefold())
        return any(number == told or (len(number) >= SHORTEST_GIVEAWAY and number in told) for number in numbers)

    @property
    def height(self) -> float | None:
        """The height in m, whichever field says it."""
        return self.height_m if self.height_cm is None else round(self.height_cm / 100, 4)

    def columns(self) -> dict[str, Any]:
        """Return the columns that the fields themselves are."""
        values = self.model_dump(exclude={"height_cm", "source"})
        return {**values, "height_m": self.height}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row cannot become a request; ``line`` is 0 for a request of its own."""

    line: int
    field: str
    sentence: str

    def __str__(self) -> str:
        """Return the problem as one line for people."""
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{f'{self.field}: ' if self.field else ''}{self.sentence}"


def problems_of(errors: Sequence[Any], line: int = 0) -> list[Problem]:
    """Turn pydantic's errors into problems; the value itself is in none of them."""
    return [
        Problem(line, ".".join(str(part) for part in error["loc"]), str(error["msg"]).removeprefix("Value error, "))
        for error in errors
    ]
