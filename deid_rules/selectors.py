"""Field selectors of the recipe language: which tags a line speaks about.

The forms are those of the `deid` package: a keyword, ``(gggg,eeee)`` or ``ggggeeee``, a private element
``(gggg,"CREATOR",ee)``, the expanders ``contains: startswith: endswith: except:`` with a regular expression,
``select:VR:xx``, ``select:GROUP:gggg`` and ``ALL``. A selector is resolved against the dictionary when the recipe
is read, not against a dataset, so that a misspelt one is found at once. An expression is searched for in the
keyword, the name and both ways of writing the tag.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from pydicom.datadict import DicomDictionary, keyword_dict

from deid_rules.rules import MARKERS

_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)|([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})")
_PRIVATE = re.compile(r'\(([0-9A-Fa-f]{4}),"([^"\\]{1,64})",([0-9A-Fa-f]{2})\)')
_SELECT = re.compile(r"select:(VR|GROUP):([A-Za-z0-9]+)")
_ANCHORS = {"contains": "{}", "startswith": "^({})", "endswith": "({})$", "except": "{}"}
_NOT_ELEMENTS = (0x0000, 0x0002, 0x0004)
"""Groups of commands, file meta information and directories: never the site's."""

IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID")
PROTECTED = frozenset(
    keyword_dict[keyword] for keyword in (*IDENTIFIERS, *MARKERS, "SpecificCharacterSet", "PixelData")
)
"""Without these an object is nobody's or unreadable: expanders pass them over, and only what equals the profile
may be written about them."""


class MalformedSelectorError(ValueError):
    """The text is no selector; the message says why."""


@dataclass(frozen=True, slots=True)
class Selector:
    """What a line speaks about.

    Attributes
    ----------
    tags
        Tags of the dictionary, sorted; empty for a private element.
    is_exact
        Whether one field was named, not a set of them.
    private
        (group, creator, low byte) of a private element.
    """

    tags: tuple[int, ...]
    is_exact: bool
    private: tuple[int, str, int] | None = None


def parse_selector(text: str) -> Selector:
    """Read one selector.

    Raises
    ------
    MalformedSelectorError
        Unknown field or form, or an expression that matches nothing.
    """
    for pattern, read in ((_PRIVATE, _private), (_TAG, _one_tag)):
        match = pattern.fullmatch(text)
        if match is not None:
            return read(match)
    if text == "ALL":
        return Selector(_choosable(), False)
    if ":" in text:
        return Selector(_expanded(text), False)
    if text not in keyword_dict:
        close = get_close_matches(text, keyword_dict, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise MalformedSelectorError(f"the dictionary knows no such field{hint}")
    return Selector((_checked(keyword_dict[text]),), True)


def _private(match: re.Match[str]) -> Selector:
    group = int(match[1], 16)
    if group % 2 == 0:
        raise MalformedSelectorError("a private element has an odd group")
    return Selector((), True, (group, match[2].strip(), int(match[3], 16)))


def _one_tag(match: re.Match[str]) -> Selector:
    tag = int("".join(part for part in match.groups() if part), 16)
    if tag >> 16 & 1:
        raise MalformedSelectorError('a private element is named with its creator: (gggg,"CREATOR",ee)')
    if tag not in DicomDictionary:
        raise MalformedSelectorError("the dictionary knows no such tag; unknown tags, overlays and curves are removed")
    return Selector((_checked(tag),), True)


def _checked(tag: int) -> int:
    if tag >> 16 in _NOT_ELEMENTS:
        raise MalformedSelectorError("file meta information, directories and commands are not the recipe's")
    return tag


def _expanded(text: str) -> tuple[int, ...]:
    """Return the tags an expander chooses."""
    match = _SELECT.fullmatch(text)
    chosen = _selected(match) if match else _searched(*text.split(":", 1))
    if not chosen:
        raise MalformedSelectorError("the selector matches no field of the dictionary")
    return chosen


def _selected(match: re.Match[str]) -> tuple[int, ...]:
    if match[1] == "VR":
        return tuple(tag for tag in _choosable() if match[2].upper() in DicomDictionary[tag][0].split(" or "))
    if not re.fullmatch("[0-9A-Fa-f]{4}", match[2]):
        raise MalformedSelectorError("select:GROUP: takes four hexadecimal digits")
    return tuple(tag for tag in _choosable() if tag >> 16 == int(match[2], 16))


def _searched(expander: str, expression: str) -> tuple[int, ...]:
    if expander not in _ANCHORS:
        known = ", ".join(f"{name}:" for name in (*_ANCHORS, "select"))
        raise MalformedSelectorError(f"no such selector; known are {known} and ALL")
    if not expression:
        raise MalformedSelectorError(f"{expander}: takes an expression")
    try:
        pattern = re.compile(_ANCHORS[expander].format(expression), re.IGNORECASE)
    except (re.error, OverflowError):
        raise MalformedSelectorError(f"the expression of {expander}: is no regular expression") from None
    wanted = expander != "except"
    return tuple(tag for tag in _choosable() if any(map(pattern.search, _spellings(tag))) is wanted)


@cache
def _choosable() -> tuple[int, ...]:
    """Return the tags expanders choose from."""
    return tuple(
        tag
        for tag in sorted(DicomDictionary)
        if tag >> 16 not in _NOT_ELEMENTS and tag & 0xFFFF and tag not in PROTECTED
    )


def _spellings(tag: int) -> tuple[str, ...]:
    _, _, name, _, keyword = DicomDictionary[tag]
    return keyword, name, f"({tag >> 16:04X},{tag & 0xFFFF:04X})", f"{tag:08X}"
