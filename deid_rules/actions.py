"""What each action does to one element: one small function per action, and the table of them.

A function takes the pass, the rule and the element and returns the element to write, or None to leave it out.
The value of a kept element is checked against the grammar of its VR, not decoded: a name in a number's place
is a fault, and a faulty value is left out, counted as malformed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pydicom.charset import python_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from deid_rules import dates, vocabulary
from deid_rules.bits import clear_unused_bits
from deid_rules.elements import Element, ascii_text, made, text_of, value_bytes
from deid_rules.errors import tag_text
from deid_rules.profile import Action, Profile, Rule
from deid_rules.report import Subject
from deid_rules.residual import Pattern, repeats_identifier
from deid_rules.uids import CODING_SCHEMES, UidMapper, is_registered

MALFORMED = "malformed, left out:"
ECHO = "repeats an identifier, emptied:"

_CODE = re.compile(rb"(?!.*[0-9]{6})[A-Z0-9_ ]{0,16}(?:\\[A-Z0-9_ ]{0,16})*\0*", re.DOTALL)
_NUMBER_TEXT = re.compile(rb"[0-9+\-eE. \\]*\0*")
_NAME_BYTES = re.compile(rb"[A-Za-z0-9^ .,='-]{5,}\0*")
"""Text in a binary number's place. No double of a magnitude that is measured has such bytes throughout: its
highest byte is 3F, 40, BF or C0."""

_AGE = re.compile(r"(\d{3})([DWMY])", re.ASCII)
_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
_ITEM_BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "AT": 4, "FL": 4, "FD": 8, "UV": 8, "SV": 8, "US or SS": 2}
_DUMMIES = {
    "AS": b"000Y",
    "DA": b"19000101",
    "DT": b"19000101000000",
    "TM": b"000000",
    "DS": b"0",
    "IS": b"0",
    "UR": b"urn:anonymized",
    "US": bytes(2),
    "SS": bytes(2),
    "UL": bytes(4),
    "SL": bytes(4),
    "AT": bytes(4),
    "FL": bytes(4),
    "FD": bytes(8),
    "UV": bytes(8),
    "SV": bytes(8),
    **dict.fromkeys(("OB", "OW"), bytes(2)),
    **dict.fromkeys(("OF", "OL"), bytes(4)),
    **dict.fromkeys(("OD", "OV"), bytes(8)),
}
_DUMMY_TEXT = b"ANONYMIZED"


@dataclass(slots=True)
class Pass:
    """One run over one dataset: what the actions need to know, and the counts they keep."""

    dataset: Dataset
    subject: Subject
    profile: Profile
    uids: UidMapper
    little_endian: bool
    native_pixels: bool
    known: tuple[Pattern, ...]
    safe_private: frozenset[tuple[int, str, int]] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        """Count one element under ``what``."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def fault(self, element: Element) -> Element | None:
        """Leave an element out because its value breaks the grammar of its VR: count it and return None."""
        self.count(f"{MALFORMED} {tag_text(element.tag)}")
        return None


Handler = Callable[[Pass, Rule, Element], Element | None]


def _remove(_: Pass, __: Rule, ___: Element) -> None:
    return None


def _empty(_: Pass, rule: Rule, element: Element) -> Element:
    return made(element.tag, _plain(rule.vr), b"")


def _dummy(run: Pass, rule: Rule, element: Element) -> Element:
    if rule.vr == "UI":
        return _map_uid(run, rule, element)
    vr = _plain(rule.vr)
    return made(element.tag, vr, _DUMMIES.get(vr, _DUMMY_TEXT))


def _dummy_code(_run: Pass, _rule: Rule, element: Element) -> Element:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "ANONYMIZED", "99OSTEONODE", "Anonymized"
    return DataElement(element.tag, "SQ", Sequence([item]))


def _plain(vr: str) -> str:
    """Return one VR for an ambiguous pair, as both hold the same bytes."""
    return vr[-2:]


def _each(element: Element, vr: str, change: Callable[[str], str]) -> Element:
    values = ascii_text(element).split("\\")
    changed = "\\".join(change(value.strip("\0 ")) for value in values)
    return made(element.tag, vr, changed.encode("latin-1"))


def _map_uid(run: Pass, _rule: Rule, element: Element) -> Element:
    return _each(element, "UI", run.uids.map)


def _keep_uid(run: Pass, _rule: Rule, element: Element) -> Element | None:
    if all(_UID.fullmatch(part) for part in ascii_text(element).split("\\") if part):
        return element
    return run.fault(element)


def _keep_scheme_uid(run: Pass, _rule: Rule, element: Element) -> Element | None:
    uid = ascii_text(element)
    return element if uid in CODING_SCHEMES or is_registered(uid) else run.fault(element)


def _offset(run: Pass, rule: Rule) -> int:
    return 0 if rule.shift_days is None else run.subject.date_offset_days + rule.shift_days


def _shift_date(run: Pass, rule: Rule, element: Element) -> Element:
    days = _offset(run, rule)
    return _each(element, "DA", lambda value: dates.shift_date(value, days))


def _shift_datetime(run: Pass, rule: Rule, element: Element) -> Element:
    days = _offset(run, rule)
    return _each(element, "DT", lambda value: dates.shift_datetime(value, days))


def _keep_time(_run: Pass, _rule: Rule, element: Element) -> Element:
    if all(dates.is_time(part.strip()) for part in ascii_text(element).split("\\")):
        return element
    return made(element.tag, "TM", b"")


def _keep_utc_offset(run: Pass, _rule: Rule, element: Element) -> Element | None:
    return element if dates.is_utc_offset(ascii_text(element)) else run.fault(element)


def _keep_number(run: Pass, rule: Rule, element: Element) -> Element | None:
    value = element.value
    if isinstance(value, bytes):
        count, rest = divmod(len(value), _ITEM_BYTES[rule.vr])
        too_many = rule.max_values and count > rule.max_values
        is_name = len(value) >= (12 if rule.vr == "FL" else 8) and _NAME_BYTES.fullmatch(value)
        return run.fault(element) if rest or too_many or is_name else element
    return run.fault(element) if isinstance(value, str) else element


def _keep_number_text(run: Pass, _rule: Rule, element: Element) -> Element | None:
    return element if _NUMBER_TEXT.fullmatch(value_bytes(element)) else run.fault(element)


def _keep_code(run: Pass, _rule: Rule, element: Element) -> Element:
    value = value_bytes(element)
    if _CODE.fullmatch(value):
        return element
    run.fault(element)
    kept = [part if _CODE.fullmatch(part) else b"" for part in value.rstrip(b"\0").split(b"\\")]
    return made(element.tag, "CS", b"\\".join(kept) if any(kept) else b"")


def _keep_text(run: Pass, rule: Rule, element: Element) -> Element:
    if repeats_identifier(value_bytes(element), run.known):
        run.count(f"{ECHO} {tag_text(element.tag)}")
        return made(element.tag, rule.vr, b"")
    return element


def _keep_bulk(_: Pass, __: Rule, element: Element) -> Element:
    return element


def _clean_text(_: Pass, rule: Rule, element: Element) -> Element:
    kept = vocabulary.known_words(ascii_text(element))
    return made(element.tag, rule.vr, kept.encode("ascii"))


def _character_set(run: Pass, _rule: Rule, element: Element) -> Element | None:
    terms = ascii_text(element).split("\\")
    return element if all(term.strip() in python_encoding for term in terms) else run.fault(element)


def _pseudonym(run: Pass, rule: Rule, element: Element) -> Element:
    return made(element.tag, rule.vr, run.subject.pseudonym.encode("ascii"))


def _study_id(run: Pass, rule: Rule, element: Element) -> Element:
    study = text_of(run.dataset, 0x0020000D)
    return made(element.tag, rule.vr, run.uids.short_code("study-id/1", study).encode("ascii"))


def _site_value(_run: Pass, rule: Rule, element: Element) -> Element:
    return made(element.tag, rule.vr, rule.value)


def _contrast(_run: Pass, rule: Rule, element: Element) -> Element:
    return made(element.tag, rule.vr, b"CONTRAST" if value_bytes(element).strip(b"\0 ") else b"")


def _age(run: Pass, _rule: Rule, element: Element) -> Element:
    match = _AGE.fullmatch(ascii_text(element))
    if match is None:
        return made(element.tag, "AS", b"")
    cap = run.profile.age_cap_years
    if cap is not None and match[2] == "Y" and int(match[1]) > cap:
        return made(element.tag, "AS", f"{cap:03d}Y".encode("ascii"))
    return element


def _pixels(run: Pass, _rule: Rule, element: Element) -> Element:
    if not run.native_pixels or not isinstance(element.value, bytes):
        return element
    clean = clear_unused_bits(run.dataset, element.value, run.little_endian)
    if clean is None:
        return element
    run.count("unused pixel bits cleared")
    if element.is_raw:
        return element._replace(value=clean, length=len(clean))
    return DataElement(element.tag, element.VR, clean)


HANDLERS: dict[Action, Handler] = {
    Action.REMOVE: _remove,
    Action.EMPTY: _empty,
    Action.DUMMY: _dummy,
    Action.DUMMY_CODE: _dummy_code,
    Action.MAP_UID: _map_uid,
    Action.KEEP_UID: _keep_uid,
    Action.KEEP_SCHEME_UID: _keep_scheme_uid,
    Action.SHIFT_DATE: _shift_date,
    Action.SHIFT_DATETIME: _shift_datetime,
    Action.KEEP_TIME: _keep_time,
    Action.KEEP_UTC_OFFSET: _keep_utc_offset,
    Action.KEEP_NUMBER: _keep_number,
    Action.KEEP_NUMBER_TEXT: _keep_number_text,
    Action.KEEP_CODE: _keep_code,
    Action.KEEP_TEXT: _keep_text,
    Action.KEEP_BULK: _keep_bulk,
    Action.CLEAN_TEXT: _clean_text,
    Action.CHARACTER_SET: _character_set,
    Action.PSEUDONYM: _pseudonym,
    Action.STUDY_ID: _study_id,
    Action.CONTRAST: _contrast,
    Action.AGE: _age,
    Action.PIXELS: _pixels,
    Action.SITE_VALUE: _site_value,
}
"""Every action but SEQUENCE, which is the engine's own recursion."""
