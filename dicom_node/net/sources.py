"""What it is to find studies at a peer and to retrieve them, in whatever language the peer speaks.

A search never trusts the peer's matching: wildcards are refused before they are sent, and every match is compared
with what was asked for. A retrieval says beforehand which instances the peer lists, so that what did not come is
known by name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from dicom_node.errors import RetrievalRefused
from dicom_node.storage.intake import Arrival
from dicom_node.uids import is_uid

MAX_MATCHES = 100
"""More studies than this for one request are no answer to it; the person has to ask more narrowly."""
FORBIDDEN = re.compile(r"[*?\\\x00-\x1f\x7f]")
r"""``*`` and ``?`` match others (PS3.4 C.2.2.2.4), ``\`` separates values (PS3.5 6.4); the rest is no text."""

Keep = Callable[[Arrival], object]
"""Makes an object durable, or raises an error of the node's tree."""

Watch = Callable[[int], None]
"""Told how many images came by another way than ``Keep``; raises `Stopped` to end the retrieval."""


class Stopped(Exception):  # noqa: N818 - a verdict: the request was cancelled, or the node stops
    """A retrieval was told to stop; raised by what it calls, and never seen by people."""


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """What is looked for. Patient ID and accession number are taken literally; one of them at least is given."""

    patient_id: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    date_from: date | None = None
    date_to: date | None = None
    modality: str = ""

    def __post_init__(self) -> None:
        if not (self.patient_id or self.accession_number):
            raise RetrievalRefused("A search without patient id and accession number would find everybody.")
        if FORBIDDEN.search(self.patient_id) or FORBIDDEN.search(self.accession_number):
            raise RetrievalRefused("A search with a wildcard or a backslash could find other patients.")

    @property
    def date_range(self) -> str:
        """The study date for range matching (PS3.4 C.2.2.2.5); empty where any will do."""
        if self.date_from is None and self.date_to is None:
            return ""
        return f"{_day(self.date_from)}-{_day(self.date_to)}"


@dataclass(frozen=True, slots=True)
class StudyMatch:
    """A study as a peer describes it; what the peer does not say is empty or None."""

    study_instance_uid: str
    patient_id: str = field(repr=False)
    accession_number: str = field(repr=False)
    study_date: str = field(repr=False)
    description: str = field(repr=False)
    modalities: tuple[str, ...] = ()
    instance_count: int | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a peer lists of one study.

    Attributes
    ----------
    series
        Series Instance UID -> the SOP Instance UIDs in it; empty where the peer does not list instances.
    counts
        Series Instance UID -> the number of instances in it.
    sop_classes
        The SOP classes among them, as far as the peer says.
    """

    series: Mapping[str, frozenset[str]]
    counts: Mapping[str, int]
    sop_classes: frozenset[str] = frozenset()

    @property
    def instance_count(self) -> int:
        """How many instances the peer lists."""
        return sum(self.counts.values())

    def missing(self, held: Mapping[str, AbstractSet[str]]) -> dict[str, int]:
        """Return series -> how many of its instances are not held; ``held`` is series -> SOP Instance UIDs."""
        everything: set[str] = set().union(*held.values()) if held else set()
        lacking = {
            one: len(self.series[one] - everything) if self.series.get(one) else count - len(held.get(one, ()))
            for one, count in self.counts.items()
        }
        return {one: number for one, number in lacking.items() if number > 0}


@dataclass(frozen=True, slots=True)
class Tally:
    """How the sub-operations of a retrieval ended (PS3.4 C.4.2.1.6 to C.4.2.1.9)."""

    completed: int = 0
    failed: int = 0
    warned: int = 0
    sentences: tuple[str, ...] = ()

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.completed + other.completed,
            self.failed + other.failed,
            self.warned + other.warned,
            tuple(dict.fromkeys((*self.sentences, *other.sentences))),
        )


class Source(Protocol):
    """A peer that can be asked for studies."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def is_direct(self) -> bool:
        """Whether the images come to ``keep``; else they come through the node's own receiver."""

    def find(self, query: StudyQuery) -> list[StudyMatch]:
        """Return the studies that answer, whatever the peer's own matching does."""

    def inventory(self, study_instance_uid: str) -> Inventory:
        """Return what the peer lists of a study."""

    def retrieve(self, study_instance_uid: str, series: str, inventory: Inventory, keep: Keep, watch: Watch) -> Tally:
        """Retrieve one series, or the whole study where ``series`` is empty."""


def answering(query: StudyQuery, found: Iterable[StudyMatch]) -> list[StudyMatch]:
    """Return the matches that really answer a query.

    A peer may ignore a key, match in either case, or say nothing about an attribute; whose study it is is checked in
    the images then. An accession number, which every peer has to return (PS3.4 table C.6-5), counts only where the peer
    says it: a peer that ignores the key would give another study. With it its study is returned even where the patient
    differs, so that the mistake can be told from a study that is not there.

    Raises
    ------
    RetrievalRefused
        When there are more than `MAX_MATCHES`, or one study is found under two patients.
    """
    answers: dict[str, StudyMatch] = {}
    for match in found:
        if not is_uid(match.study_instance_uid):
            continue
        if answers.setdefault(match.study_instance_uid, match).patient_id != match.patient_id:
            raise RetrievalRefused("The PACS holds one study under two patients; correct it there.")
    kept = [match for match in answers.values() if _answers(query, match)]
    if len(kept) > MAX_MATCHES:
        raise RetrievalRefused(f"More than {MAX_MATCHES} studies match; give an accession number or study dates.")
    return kept


def _answers(query: StudyQuery, match: StudyMatch) -> bool:
    if query.accession_number:
        if match.accession_number != query.accession_number:
            return False
    elif match.patient_id not in ("", query.patient_id):
        return False
    if query.modality and match.modalities and query.modality not in match.modalities:
        return False
    low, high = _day(query.date_from), _day(query.date_to)
    day = match.study_date
    return not day or ((not low or low <= day) and (not high or day <= high))


def _day(value: date | None) -> str:
    return "" if value is None else value.strftime("%Y%m%d")
