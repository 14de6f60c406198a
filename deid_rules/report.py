"""Whose dataset it is, and what was done to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from deid_rules.errors import InvalidSubject

Level = Literal["study", "series", "frame_of_reference", "instance"]

MAX_PSEUDONYM_CHARACTERS = 64
"""Length of the LO of Patient ID (PS3.5 6.2)."""


@dataclass(frozen=True, slots=True)
class Subject:
    r"""What replaces the patient.

    Attributes
    ----------
    pseudonym
        Written as Patient ID and Patient's Name; printable ASCII without ``\``, ``^`` and ``=``.
    date_offset_days
        Added to every date; whole weeks, negative is into the past.

    Raises
    ------
    InvalidSubject
        The pseudonym is empty, too long or has other characters; the offset is not whole weeks.
    """

    pseudonym: str = field(repr=False)
    date_offset_days: int = field(repr=False)

    def __post_init__(self) -> None:
        text = self.pseudonym
        if not text.strip() or len(text) > MAX_PSEUDONYM_CHARACTERS:
            raise InvalidSubject(f"a pseudonym has 1 to {MAX_PSEUDONYM_CHARACTERS} characters, got {len(text)}")
        if not text.isascii() or not text.isprintable() or set(text) & set("\\^="):
            raise InvalidSubject("a pseudonym is printable ASCII without backslash, caret and equals sign")
        if self.date_offset_days % 7:
            raise InvalidSubject("the date offset is not a whole number of weeks")


@dataclass(frozen=True, slots=True)
class UidPair:
    """An original UID and its clean one. The original stays on the hospital side; a repr does not show it."""

    original_uid: str = field(repr=False)
    clean_uid: str = field(repr=False)
    level: Level


@dataclass(frozen=True, slots=True)
class DeidReport:
    """What was done to one dataset. For the hospital side only.

    Attributes
    ----------
    counts
        Number of elements by what was done, at every depth; the keys are words, never values.
    uid_pairs
        The dataset's own study, series, frame of reference and instance: what the way back needs.
    """

    counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    uid_pairs: tuple[UidPair, ...] = field(default=(), repr=False)
