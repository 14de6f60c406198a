"""The profile: which options of PS3.15 Annex E are in force, compiled into one rule for every tag.

A `Profile` is what a site chooses. `compile_rules` turns it, together with the object's SOP class, into two
tables (top level and inside sequences) that the engine looks up once per element. What they do not name is
removed: private elements, unknown tags, repeating groups, free text.

Where two columns of Table E.1-1 speak about one attribute, this order decides, the first that applies wins:

1. Dates that belong to a device (columns Retain Device Identity and Retain Longitudinal both have an entry)
   follow the basic profile unless device identity and full dates are both retained: a calibration date is
   known outside the hospital, so its shifted value would give the patient's offset away.
2. Retain (K) of an enabled option.
3. Modified dates (C), then cleaning (C) of an enabled option.
4. The basic action. A compound such as X/Z/D is resolved by the attribute's Type in the object's IOD:
   Type 3 takes the first letter, Type 2 the Z, Type 1 the D. Where the Type is not known the last one holds.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from pydicom.datadict import DicomDictionary

from deid_rules.errors import InvalidProfile
from deid_rules.tables import ProfileRow, attribute_types, profile_rows
from deid_rules.tables.attributes import (
    DROPPED_CHARACTERISTICS,
    EMPTIED_TEXT,
    FILLED_TEXT,
    KEPT_BULK,
    KEPT_TEXT,
)


class Option(StrEnum):
    """Options of the Basic Application Level Confidentiality Profile; the value is its code in CID 7050."""

    CLEAN_GRAPHICS = "113103"
    CLEAN_STRUCTURED_CONTENT = "113104"
    CLEAN_DESCRIPTORS = "113105"
    RETAIN_FULL_DATES = "113106"
    RETAIN_MODIFIED_DATES = "113107"
    RETAIN_PATIENT_CHARACTERISTICS = "113108"
    RETAIN_DEVICE_IDENTITY = "113109"
    RETAIN_UIDS = "113110"
    RETAIN_SAFE_PRIVATE = "113111"
    RETAIN_INSTITUTION_IDENTITY = "113112"


BASIC_PROFILE_CODE = "113100"

METHOD_MEANINGS = {
    BASIC_PROFILE_CODE: "Basic Application Confidentiality Profile",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}
"""Code meanings of CID 7050 De-identification Method."""

DEFAULT_OPTIONS = frozenset({Option.RETAIN_PATIENT_CHARACTERISTICS, Option.RETAIN_MODIFIED_DATES})


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


@dataclass(frozen=True, slots=True)
class Profile:
    """A site's choice, immutable and hashable.

    Attributes
    ----------
    options
        Enabled options beside the basic profile.
    private_elements
        Private elements to keep under Retain Safe Private: (group, creator, low byte of the element).
    age_cap_years
        Ages above are written as this one, None keeps them. 90: 45 CFR 164.514(b)(2)(i)(C).
    implementation_class_uid, implementation_version_name
        Written into the file meta information (PS3.10 7.1).

    Raises
    ------
    InvalidProfile
        Full and modified dates together; private elements without Retain Safe Private; an even group.
    """

    options: frozenset[Option] = DEFAULT_OPTIONS
    private_elements: frozenset[tuple[int, str, int]] = frozenset()
    age_cap_years: int | None = 90
    implementation_class_uid: str = "2.25.308885869134936699302955066951878939275"
    implementation_version_name: str = "OSTEONODE_DEID_1"

    def __post_init__(self) -> None:
        if {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES} <= self.options:
            raise InvalidProfile("dates are either retained in full or modified, not both")
        if self.private_elements and Option.RETAIN_SAFE_PRIVATE not in self.options:
            raise InvalidProfile("private elements are listed but Retain Safe Private is not enabled")
        if any(group % 2 == 0 or not 0 <= element <= 0xFF for group, _, element in self.private_elements):
            raise InvalidProfile("a private element has an odd group and an element of one byte")


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
    """

    action: Action
    vr: str
    basis: str
    max_values: int = 0


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
_TEXT_VRS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})
_NAMED = {
    "SpecificCharacterSet": Action.CHARACTER_SET,
    "PatientName": Action.PSEUDONYM,
    "PatientID": Action.PSEUDONYM,
    "StudyID": Action.STUDY_ID,
    "ContrastBolusAgent": Action.CONTRAST,
    "CodingSchemeUID": Action.KEEP_SCHEME_UID,
    "PixelData": Action.PIXELS,
}
_OURS = frozenset(
    {
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
        "LongitudinalTemporalInformationModified",
    }
)
"""Markers of an earlier de-identification: dropped, then written anew by the engine."""


@lru_cache(maxsize=32)
def compile_rules(profile: Profile, sop_class_uid: str) -> tuple[RuleTable, RuleTable]:
    """Compile a profile for one kind of object.

    Parameters
    ----------
    profile
        The site's choice.
    sop_class_uid
        Decides the Type of attributes; an unknown class resolves compounds to their last letter.

    Returns
    -------
    top, nested : dict of tag to rule
        Rules for the dataset itself and for the items of its sequences. A tag in neither is removed.
    """
    types = attribute_types().get(sop_class_uid, {})
    nested = {tag: _unlisted(profile, tag) for tag in DicomDictionary}
    nested.update((row.tag, _listed(profile, row, None)) for row in profile_rows())
    top = dict(nested)
    top.update((row.tag, _listed(profile, row, types.get(row.keyword))) for row in profile_rows() if "/" in row.basic)
    for rules in (top, nested):
        for tag in [tag for tag in rules if tag >> 16 in (0x0000, 0x0002, 0x0004) or not tag & 0xFFFF]:
            rules[tag] = Rule(Action.REMOVE, rules[tag].vr, "command, file meta, directory or group length")
    return top, {tag: _for_items(rule) for tag, rule in nested.items()}


def _for_items(rule: Rule) -> Rule:
    """Inside a sequence the patient may be another one, and pixels are icons or presentation."""
    if rule.action is Action.PSEUDONYM:
        return Rule(Action.EMPTY, rule.vr, rule.basis)
    if rule.action is Action.PIXELS:
        return Rule(Action.REMOVE, rule.vr, "pixels inside a sequence")
    return rule


def _listed(profile: Profile, row: ProfileRow, attribute_type: str | None) -> Rule:
    """Rule for a row of Table E.1-1."""
    basis = f"E.1-1 {row.basic}"
    if row.keyword in _NAMED:
        return Rule(_NAMED[row.keyword], row.vr, basis)
    if row.keyword in _OURS:
        return Rule(Action.REMOVE, row.vr, basis)
    device_date = "M" in row.options and ("D" in row.options or "d" in row.options)
    both = {Option.RETAIN_FULL_DATES, Option.RETAIN_DEVICE_IDENTITY} <= profile.options
    if not device_date or both:
        optional = _by_option(profile, row)
        if optional is not None:
            return optional
    return Rule(_basic_action(row, resolve(row.basic, attribute_type)), row.vr, basis)


def _by_option(profile: Profile, row: ProfileRow) -> Rule | None:
    """Rule an enabled option gives, None where no enabled option speaks."""
    for letter, option in _RETAIN.items():
        if letter in row.options and option in profile.options and row.keyword not in DROPPED_CHARACTERISTICS:
            return Rule(_retain_action(row), row.vr, f"{METHOD_MEANINGS[option]}, K")
    for letter, option in (("F", Option.RETAIN_FULL_DATES), ("M", Option.RETAIN_MODIFIED_DATES)):
        action = Action.KEEP_UTC_OFFSET if row.keyword == "TimezoneOffsetFromUTC" else _DATES.get(row.vr)
        if letter in row.options and option in profile.options and action is not None:
            return Rule(action, row.vr, METHOD_MEANINGS[option])
    for letter, option in _CLEAN.items():
        if letter in row.options and option in profile.options:
            action = _clean_action(row.vr)
            if action is not None:
                return Rule(action, row.vr, f"{METHOD_MEANINGS[option]}, C")
    return None


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
    return Action.CLEAN_TEXT if vr in _TEXT_VRS else None


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


def _unlisted(profile: Profile, tag: int) -> Rule:
    """Rule for an attribute of the dictionary that Table E.1-1 does not list."""
    vr, multiplicity, _, _, keyword = DicomDictionary[tag]
    basis = "not listed in E.1-1"
    if keyword in _OURS:
        return Rule(Action.REMOVE, vr, "earlier marker")
    if keyword in _NAMED:
        return Rule(_NAMED[keyword], vr, basis)
    for keywords, action in _BY_KEYWORD:
        if keyword in keywords:
            return Rule(action, vr, basis)
    if vr in _DATES:
        dated = {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES} & profile.options
        return Rule(_DATES[vr] if dated else Action.EMPTY, vr, basis)
    return Rule(_BY_VR.get(vr, Action.REMOVE), vr, basis, _max_values(multiplicity))


_BY_KEYWORD = (
    (KEPT_TEXT, Action.KEEP_TEXT),
    (EMPTIED_TEXT, Action.EMPTY),
    (FILLED_TEXT, Action.DUMMY),
    (KEPT_BULK, Action.KEEP_BULK),
)
