"""One line of the ``%header`` section: an action, a field selector, and for some actions a value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from pydicom import config
from pydicom.datadict import DicomDictionary
from pydicom.valuerep import validate_value

from deid_rules.errors import RecipeError, tag_text
from deid_rules.options import Option
from deid_rules.rules import TEXT_VRS, VERBATIM, Action, Rule, listed_rule, unlisted_rule
from deid_rules.selectors import PROTECTED, MalformedSelectorError, Selector, parse_selector
from deid_rules.tables import ProfileRow, profile_rows


class Verb(Enum):
    """Actions of the language, the one that wins first."""

    KEEP = "KEEP"
    ADD = "ADD"
    REPLACE = "REPLACE"
    JITTER = "JITTER"
    REMOVE = "REMOVE"
    BLANK = "BLANK"


VARIABLES = {"pseudonym": Action.PSEUDONYM, "study_code": Action.STUDY_ID}
"""``var:NAME`` of REPLACE and ADD. JITTER has one of its own, `OFFSET`."""

OFFSET = "date_offset_days"
"""The patient's own shift."""

FUNCTIONS = {"mapped_uid": Action.MAP_UID, "dummy": Action.DUMMY}
"""``func:NAME`` of REPLACE."""

_VRS_OF = {
    Action.PSEUDONYM: (TEXT_VRS | {"PN"}) - {"SH"},
    Action.STUDY_ID: TEXT_VRS,
    Action.MAP_UID: frozenset({"UI"}),
}
_LITERAL_VRS = TEXT_VRS | {"PN", "CS", "AS", "DA", "DT", "TM", "DS", "IS", "AE"}
_SHIFTS = {"DA": Action.SHIFT_DATE, "DT": Action.SHIFT_DATETIME}
_WITH_VALUE = frozenset({Verb.ADD, Verb.REPLACE, Verb.JITTER})
_UNCHANGED = (VERBATIM - {Action.AGE}) | {Action.SEQUENCE}
"""Actions of the basic profile that a KEEP does not weaken."""

_TRAPS = re.compile(r"[#\\\"']|[^ -~]|  ")
"""deid cuts a value at #, drops an unpaired quote and joins runs of blanks; a backslash separates values."""

_NUMBER = re.compile(r"[+-]?\d{1,5}", re.ASCII)
_PREFIX = re.compile(r"\s*(var|func|deid_func)\s*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """What one line says.

    Attributes
    ----------
    line_number, verb
        Where and what.
    field
        The one tag or private element that is named, None for an expander.
    rules
        Rule by tag; None where the profile's own stays.
    additions
        Rules of what is written at the top level in any case.
    options
        Options that allow it.
    """

    line_number: int
    verb: Verb
    field: int | tuple[int, str, int] | None
    rules: Mapping[int, Rule | None]
    additions: tuple[tuple[int, Rule], ...]
    options: frozenset[Option]

    @property
    def is_exact(self) -> bool:
        """Whether the line names one field."""
        return self.field is not None


@dataclass(frozen=True, slots=True)
class _Line:
    """A line taken apart."""

    number: int
    verb: Verb
    selector: Selector
    value: str
    options: frozenset[Option]
    basis: str

    def fault(self, sentence: str) -> RecipeError:
        """Make the error for this line."""
        return RecipeError(self.number, sentence)


def read_header_line(number: int, text: str, options: frozenset[Option], label: str) -> HeaderLine:
    """Read one line.

    Parameters
    ----------
    number, text
        The line.
    options
        Options named right above it.
    label
        The LABEL it stands under, empty for none.

    Raises
    ------
    RecipeError
        The line cannot be taken as it stands.
    """
    line = _taken_apart(number, text, options, label)
    if line.options and line.verb not in (Verb.KEEP, Verb.JITTER):
        raise line.fault(f"{line.verb.value} does not weaken the profile, so that it takes no option")
    private = line.selector.private
    if private is not None:
        return HeaderLine(number, line.verb, _private(line, private), {}, (), options)
    rules = {tag: _RULE_OF[line.verb](line, tag) for tag in line.selector.tags}
    named = line.selector.tags[0] if line.selector.is_exact else None
    if line.verb is not Verb.ADD:
        return HeaderLine(number, line.verb, named, rules, (), options)
    additions = tuple((tag, rule) for tag, rule in rules.items() if rule is not None)
    return HeaderLine(number, line.verb, named, {}, additions, options)


def _taken_apart(number: int, text: str, options: frozenset[Option], label: str) -> _Line:
    match = re.fullmatch(r'(\S+)\s+((?:[^\s"]|"[^"]*")+)(?:\s+(.*))?', text)
    words = [match[1], match[2], match[3] or ""] if match else [text.split()[0], "", ""]
    if words[0] not in Verb.__members__:
        raise RecipeError(number, f"no such action; known are {', '.join(Verb.__members__)}, in capitals")
    verb = Verb[words[0]]
    if not words[1]:
        raise RecipeError(number, f"{verb.value} takes a field")
    try:
        selector = parse_selector(words[1])
    except MalformedSelectorError as error:
        raise RecipeError(number, str(error)) from None
    if bool(words[2]) is not (verb in _WITH_VALUE):
        raise RecipeError(number, f"{verb.value} takes a field and {'a' if verb in _WITH_VALUE else 'no'} value")
    if _TRAPS.search(words[2]):
        raise RecipeError(number, "a value is plain ASCII without # \\ quotes, control characters and double blanks")
    if verb is Verb.ADD and not (selector.is_exact and selector.private is None):
        raise RecipeError(number, "ADD names one field of the standard")
    basis = f"site's line {number}" + (f": {label}" if label else "")
    return _Line(number, verb, selector, words[2], options, basis)


def _private(line: _Line, element: tuple[int, str, int]) -> tuple[int, str, int]:
    if line.verb is Verb.KEEP and line.options != {Option.RETAIN_SAFE_PRIVATE}:
        raise line.fault("a private element is kept under the option Retain Safe Private")
    if line.verb not in (Verb.KEEP, Verb.REMOVE):
        raise line.fault("a private element is kept or removed, nothing else")
    return element


@cache
def _rows() -> dict[int, ProfileRow]:
    return {row.tag: row for row in profile_rows()}


def _basic(options: frozenset[Option], tag: int) -> Rule:
    """Return the rule of the profile with these options alone; where the Type decides, the mildest."""
    row = _rows().get(tag)
    return unlisted_rule(options, tag) if row is None else listed_rule(options, row, None)


def _keep(line: _Line, tag: int) -> Rule | None:
    basic = _basic(frozenset(), tag)
    if not line.options and basic.action in _UNCHANGED:
        return None
    if not line.options:
        raise line.fault(f"the profile does not keep {tag_text(tag)}; name the option of PS3.15 that allows it")
    allowed = _basic(line.options, tag)
    if tag not in _rows() and Option.CLEAN_DESCRIPTORS in line.options and allowed.vr in TEXT_VRS:
        return Rule(Action.CLEAN_TEXT, allowed.vr, line.basis)
    if (allowed.action, allowed.basis) == (basic.action, basic.basis):
        raise line.fault(f"the option named does not speak about {tag_text(tag)} in Table E.1-1")
    return Rule(allowed.action, allowed.vr, line.basis, allowed.max_values, allowed.shift_days)


def _jitter(line: _Line, tag: int) -> Rule:
    vr = DicomDictionary[tag][0]
    if vr not in _SHIFTS:
        raise line.fault(f"JITTER moves dates; {tag_text(tag)} is none")
    if line.options != {Option.RETAIN_MODIFIED_DATES}:
        raise line.fault("JITTER keeps a date, if moved; name the option Retain Modified Dates")
    if tag in _rows() and _basic(line.options, tag).action is not _SHIFTS[vr]:
        raise line.fault(f"the option named does not speak about {tag_text(tag)} in Table E.1-1")
    if line.value == f"var:{OFFSET}":
        return Rule(_SHIFTS[vr], vr, line.basis)
    if not _NUMBER.fullmatch(line.value):
        raise line.fault(f"JITTER takes a whole number of days or var:{OFFSET}")
    return Rule(_SHIFTS[vr], vr, line.basis, shift_days=int(line.value))


def _remove(line: _Line, tag: int) -> Rule:
    _check_protected(line, tag, Action.REMOVE)
    return Rule(Action.REMOVE, DicomDictionary[tag][0], line.basis)


def _blank(line: _Line, tag: int) -> Rule:
    _check_protected(line, tag, Action.EMPTY)
    return Rule(Action.EMPTY, DicomDictionary[tag][0], line.basis)


def _replace(line: _Line, tag: int) -> Rule:
    vr = DicomDictionary[tag][0]
    action = _named_value(line)
    _check_protected(line, tag, action)
    if action is Action.SITE_VALUE:
        return Rule(action, vr, line.basis, value=_literal(line, tag, vr))
    if vr == "SQ" or vr not in _VRS_OF.get(action, {vr}):
        raise line.fault(f"{line.value} cannot be written into {tag_text(tag)}, which is {vr}")
    if action is Action.MAP_UID and _basic(frozenset(), tag).action is not Action.MAP_UID:
        raise line.fault(f"the profile does not keep {tag_text(tag)}, not even mapped")
    return Rule(action, vr, line.basis)


def _named_value(line: _Line) -> Action:
    """Return the action of a variable or function, SITE_VALUE for a literal."""
    match = _PREFIX.match(line.value)
    if match is None:
        return Action.SITE_VALUE
    known = {f"var:{name}": action for name, action in VARIABLES.items()}
    if line.verb is Verb.REPLACE:
        known.update({f"func:{name}": action for name, action in FUNCTIONS.items()})
    if line.value not in known:
        raise line.fault(f"nothing of this name is bound; {line.verb.value} knows {', '.join(known)}")
    return known[line.value]


def _literal(line: _Line, tag: int, vr: str) -> bytes:
    if vr not in _LITERAL_VRS:
        raise line.fault(f"{tag_text(tag)} is {vr}; a recipe writes no value of this kind")
    try:
        validate_value(vr, line.value, config.RAISE)
    except ValueError:
        raise line.fault(f"the value is none of {tag_text(tag)}, which is {vr}") from None
    return line.value.encode("ascii")


def _check_protected(line: _Line, tag: int, action: Action) -> None:
    if tag in PROTECTED and _basic(frozenset(), tag).action is not action:
        raise line.fault(f"{tag_text(tag)} cannot be changed by a recipe: an object is nothing without it")


_RULE_OF = {
    Verb.KEEP: _keep,
    Verb.ADD: _replace,
    Verb.REPLACE: _replace,
    Verb.JITTER: _jitter,
    Verb.REMOVE: _remove,
    Verb.BLANK: _blank,
}
