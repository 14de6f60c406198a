"""One rule for one tag: what an action is called, and which action the standard's table and its options give.

Where two columns of Table E.1-1 speak about one attribute, this order decides, the first that applies wins:

1. Dates that belong to a device (columns Retain Device Identity and Retain Longitudinal both have an entry)
   follow the basic profile unless device identity and full dates are both retained: a calibration date is
   known outside the hospital, so its shifted value would give the patient's offset away.
2. Retain (K) of an enabled option.
3. Modified dates (C), then cleaning (C) of an enabled option.
4. The basic action. A compound such as X/Z/D is resolved by the attribute's Type in the object's IOD:
   Type 3 takes the first letter, Type 2 the Z, Type 1 the D. Where the Type is not known the last one holds.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from pydicom.datadict import DicomDictionary

from deid_rules.options import METHOD_MEANINGS, Option
from deid_rules.tables import ProfileRow
from deid_rules.tables.attributes import (
    DROPPED_CHARACTERISTICS,
    EMPTIED_TEXT,
    FILLED_TEXT,
    KEPT_BULK,
    KEPT_TEXT,
)

Options = AbstractSet[Option]


class Action(StrEnum):
    """What happens to an element; the value is the name people read in reports."""

    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced by a dummy"
    SEQUENCE = "cleaned inside"
    MAP_UID = "mapped UID"
    DUMMY_CODE = "replaced by a dummy code"
    KEEP_UID = "kept UID"
    KEEP_SCHEME_UID = "kept coding scheme UID"
    SHIFT_DATE = "shifted date"
    SHIFT_DATETIME = "shifted date and time"
    KEEP_TIME = "kept time"
    KEEP_UTC_OFFSET = "kept UTC offset"
    KEEP_NUMBER = "kept number"
    KEEP_NUMBER_TEXT = "kept number in text form"
    KEEP_CODE = "kept code string"
    KEEP_TEXT = "kept text"
    KEEP_BULK = "kept binary value"
    CLEAN_TEXT = "text reduced to known words"
    CHARACTER_SET = "kept character set"
    PSEUDONYM = "replaced by the pseudonym"
    STUDY_ID = "replaced by a study code"
    CONTRAST = "replaced by a dummy where filled"
    AGE = "kept age"
    PIXELS = "kept pixels"
    SITE_VALUE = "replaced by the site's value"


VERBATIM = frozenset(
    {
        Action.KEEP_UID,
        Action.KEEP_SCHEME_UID,
        Action.KEEP_TIME,
        Action.KEEP_UTC_OFFSET,
        Action.KEEP_NUMBER,
        Action.KEEP_NUMBER_TEXT,
        Action.KEEP_CODE,
        Action.KEEP_TEXT,
        Action.KEEP_BULK,
        Action.CHARACTER_SET,
        Action.AGE,
        Action.PIXELS,
    }
)
"""Actions that may pass the element on as it is, so that its VR must be the dictionary's."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule for one tag.

    Attributes
    ----------
    action
        What to do.
    vr
        The dictionary's VR.
    basis
        Why, in words for the report.
    max_values
        The dictionary's upper limit of the multiplicity, 0 where it has none.
    shift_days
        Added to the patient's own shift of a date; None keeps the date as it is.
    value
        What a site's line writes, encoded.
    """

    action: Action
    vr: str
    basis: str
    max_values: int = 0
    shift_days: int | None = 0
    value: bytes = b""

    @property
    def label(self) -> str:
        """What is done and why, in words."""
        return f"{self.action.value} ({self.basis})"


RuleTable = dict[int, Rule]

_NUMBERS = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "AT", "UV", "SV", "US or SS"})
_BY_VR = {
    "SQ": Action.SEQUENCE,
    "UI": Action.MAP_UID,
    "CS": Action.KEEP_CODE,
    "DS": Action.KEEP_NUMBER_TEXT,
    "IS": Action.KEEP_NUMBER_TEXT,
    **dict.fromkeys(_NUMBERS, Action.KEEP_NUMBER),
}
_DATES = {"DA": Action.SHIFT_DATE, "DT": Action.SHIFT_DATETIME, "TM": Action.KEEP_TIME}
_RETAIN = {
    "U": Option.RETAIN_UIDS,
    "D": Option.RETAIN_DEVICE_IDENTITY,
    "P": Option.RETAIN_PATIENT_CHARACTERISTICS,
    "I": Option.RETAIN_INSTITUTION_IDENTITY,
}
_CLEAN = {
    "S": Option.CLEAN_STRUCTURED_CONTENT,
    "G": Option.CLEAN_GRAPHICS,
    "T": Option.CLEAN_DESCRIPTORS,
}
TEXT_VRS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})
_NAMED = {
    "SpecificCharacterSet": Action.CHARACTER_SET,
    "PatientName": Action.PSEUDONYM,
    "PatientID": Action.PSEUDONYM,
    "StudyID": Action.STUDY_ID,
    "ContrastBolusAgent": Action.CONTRAST,
    "CodingSchemeUID": Action.KEEP_SCHEME_UID,
    "PixelData": Action.PIXELS,
}
MARKERS = frozenset(
    {
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
        "LongitudinalTemporalInformationModified",
    }
)
"""Markers of an earlier de-identification: dropped, then written anew by the engine."""


def listed_rule(options: Options, row: ProfileRow, attribute_type: str | None) -> Rule:
    """Rule for a row of Table E.1-1."""
    basis = f"E.1-1 {row.basic}"
    if row.keyword in _NAMED:
        return Rule(_NAMED[row.keyword], row.vr, basis)
    if row.keyword in MARKERS:
        return Rule(Action.REMOVE, row.vr, basis)
    device_date = "M" in row.options and ("D" in row.options or "d" in row.options)
    both = {Option.RETAIN_FULL_DATES, Option.RETAIN_DEVICE_IDENTITY} <= options
    if not device_date or both:
        optional = _by_option(options, row)
        if optional is not None:
            return optional
    return Rule(_basic_action(row, resolve(row.basic, attribute_type)), row.vr, basis)


def _by_option(options: Options, row: ProfileRow) -> Rule | None:
    """Rule an enabled option gives, None where no enabled option speaks."""
    for letter, option in _RETAIN.items():
        if letter in row.options and option in options and row.keyword not in DROPPED_CHARACTERISTICS:
            return Rule(_retain_action(row), row.vr, f"{METHOD_MEANINGS[option]}, K", shift_days=_shift(options))
    for letter, option in (("F", Option.RETAIN_FULL_DATES), ("M", Option.RETAIN_MODIFIED_DATES)):
        action = Action.KEEP_UTC_OFFSET if row.keyword == "TimezoneOffsetFromUTC" else _DATES.get(row.vr)
        if letter in row.options and option in options and action is not None:
            return Rule(action, row.vr, METHOD_MEANINGS[option], shift_days=None if letter == "F" else 0)
    for letter, option in _CLEAN.items():
        if letter in row.options and option in options:
            action = _clean_action(row.vr)
            if action is not None:
                return Rule(action, row.vr, f"{METHOD_MEANINGS[option]}, C")
    return None


def _shift(options: Options) -> int | None:
    """Return what to add to the patient's shift: nothing, or None where dates are retained in full."""
    return None if Option.RETAIN_FULL_DATES in options else 0


def _retain_action(row: ProfileRow) -> Action:
    if row.keyword == "PatientAge":
        return Action.AGE
    if row.vr == "UI":
        return Action.KEEP_UID
    if row.vr in _DATES:
        return _DATES[row.vr]
    return _BY_VR.get(row.vr, Action.KEEP_TEXT)


def _clean_action(vr: str) -> Action | None:
    if vr == "SQ":
        return Action.SEQUENCE
    return Action.CLEAN_TEXT if vr in TEXT_VRS else None


def resolve(basic: str, attribute_type: str | None) -> str:
    """Resolve a compound action by the attribute's Type (PS3.15 E.3, notes to Table E.1-1).

    References (``X/Z/U*``) are always kept with mapped UIDs: the objects of a study stay linked.
    """
    if "U*" in basic:
        return "U"
    letters = basic.split("/")
    if len(letters) == 1 or attribute_type is None:
        return letters[-1]
    if attribute_type == "3":
        return letters[0]
    wanted = "D" if attribute_type.startswith("1") else "Z"
    return wanted if wanted in letters else letters[-1]


def _basic_action(row: ProfileRow, letter: str) -> Action:
    """Return the action of a resolved letter.

    A dummy for a sequence is the sequence with every item cleaned; only where its items are codes of
    persons or places, which the code rules would keep, does a dummy code take their place.
    """
    if letter == "X":
        return Action.REMOVE
    if letter == "Z":
        return Action.EMPTY
    if row.vr == "SQ":
        return Action.DUMMY_CODE if row.keyword.endswith("CodeSequence") else Action.SEQUENCE
    return Action.MAP_UID if row.vr == "UI" else Action.DUMMY


def _max_values(multiplicity: str) -> int:
    """Return the upper limit of a multiplicity such as ``1``, ``1-3`` or ``2-2n`` (PS3.6), 0 for none."""
    upper = multiplicity.split("-")[-1].split(" or ")[-1]
    return int(upper) if upper.isdecimal() else 0


def unlisted_rule(options: Options, tag: int) -> Rule:
    """Rule for an attribute of the dictionary that Table E.1-1 does not list."""
    vr, multiplicity, _, _, keyword = DicomDictionary[tag]
    basis = "not listed in E.1-1"
    if keyword in MARKERS:
        return Rule(Action.REMOVE, vr, "earlier marker")
    if keyword in _NAMED:
        return Rule(_NAMED[keyword], vr, basis)
    for keywords, action in _BY_KEYWORD:
        if keyword in keywords:
            return Rule(action, vr, basis)
    if vr in _DATES:
        dated = {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES} & options
        return Rule(_DATES[vr] if dated else Action.EMPTY, vr, basis, shift_days=_shift(options))
    return Rule(_BY_VR.get(vr, Action.REMOVE), vr, basis, _max_values(multiplicity))


_BY_KEYWORD = (
    (KEPT_TEXT, Action.KEEP_TEXT),
    (EMPTIED_TEXT, Action.EMPTY),
    (FILLED_TEXT, Action.DUMMY),
    (KEPT_BULK, Action.KEEP_BULK),
)
