"""A QIDO-RS search as conditions on the catalogue (PS3.18 8.3.4, PS3.4 C.2.2.2)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import HTTPException
from pydicom.datadict import dictionary_has_tag, keyword_for_tag

from dicom_node.db.dicomweb import Condition, Level
from dicom_node.dicomweb.attributes import KEYS, Key, tag_of
from dicom_node.dicomweb.catalogue import comparable
from dicom_node.uids import is_uid

PAGE = 1000
"""Results of one answer at most; the rest is asked for with ``offset``."""
VALUES_LIMIT = 1000
VALUE_LENGTH = 4096
OFFSET_LIMIT = 10**9
ORDER: tuple[Level, ...] = ("study", "series", "instance")
CONTROLS = ("limit", "offset", "includefield", "fuzzymatching", "accept", "charset", "emptyvaluematching")
NO_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
"""In the words of PS3.18 8.3.4.2."""


@dataclass(frozen=True, slots=True)
class Search:
    """A parsed search.

    Attributes
    ----------
    level
        What is looked for.
    conditions
        All of them hold.
    included
        Tags to give beside those always given, as eight hexadecimal digits; None for all there are.
    limit, offset
        Which of the matches.
    warnings
        What the asker has to know about how it was understood.
    """

    level: Level
    conditions: tuple[Condition, ...]
    included: frozenset[str] | None
    limit: int
    offset: int
    warnings: tuple[str, ...]

    def uids_of(self, level: Level) -> tuple[str, ...]:
        """Return the study or series UIDs it is confined to; none where it is not."""
        column = f"{level}_instance_uid"
        found = [one.values for one in self.conditions if one.level == level and one.column == column]
        return found[0] if found else ()


def parse_search(level: Level, parameters: Iterable[tuple[str, str]], path: dict[str, str]) -> Search:
    """Parse a search.

    Parameters
    ----------
    level
        What is looked for.
    parameters
        The query's names and values, in order.
    path
        UIDs named by the address, by keyword.

    Raises
    ------
    HTTPException
        400 when a parameter cannot be understood, with the reason and never the value.
    """
    pairs = list(parameters)
    controls: dict[str, list[str]] = {name: [] for name in CONTROLS}
    conditions = [_condition(keyword, KEYS[keyword], uid) for keyword, uid in path.items()]
    warnings = []
    for name, value in pairs:
        if len(value) > VALUE_LENGTH * 16:
            raise HTTPException(400, "A value of the search is too long.")
        if name in controls:
            controls[name].append(value)
            continue
        keyword = _keyword(name)
        key = KEYS.get(keyword)
        if key is None or _is_below(key, level):
            warnings.append(f"The attribute {keyword} is not matched; results may be more.")
        else:
            conditions.append(_condition(keyword, key, value))
    if "true" in [value.lower() for value in controls["fuzzymatching"]]:
        warnings.append(NO_FUZZY)
    asked = _whole(controls["limit"], "limit", OFFSET_LIMIT, PAGE)
    return Search(
        level=level,
        conditions=tuple(one for one in conditions if one is not None),
        included=_included(controls["includefield"]),
        limit=min(asked, PAGE),
        offset=_whole(controls["offset"], "offset", OFFSET_LIMIT, 0),
        warnings=tuple(warnings),
    )


def _is_below(key: Key, level: Level) -> bool:
    """Tell whether a key cannot be matched at a level: studies by their series can, nothing by its instances."""
    return key.level == "instance" and level != "instance"


def _keyword(name: str) -> str:
    """Return the keyword of an attribute named by keyword or tag; of one in a sequence, its path.

    Raises
    ------
    HTTPException
        400 when the dictionary does not have it.
    """
    parts = name.split(".")
    words = [_one_keyword(part) for part in parts]
    if len(parts) > 4 or not all(words):
        raise HTTPException(400, "The search names something that is neither a parameter nor an attribute.")
    return ".".join(words)


def _one_keyword(name: str) -> str:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        tag = int(name, 16)
        return keyword_for_tag(tag) or (name.upper() if dictionary_has_tag(tag) or (tag >> 16) % 2 else "")
    return name if name.isalnum() and tag_of(name) else ""


def _condition(keyword: str, key: Key, value: str) -> Condition | None:
    """Return the condition of one attribute; None where an empty value matches everything (PS3.4 C.2.2.2.3)."""
    text = value.strip()
    if len(text) > VALUE_LENGTH and key.kind not in ("uid", "code"):
        raise HTTPException(400, f"The value of {keyword} is too long.")
    if not text.strip("*") and key.kind != "uid":
        return None
    if "\0" in text:
        raise HTTPException(400, f"The value of {keyword} holds a character that no value may.")
    if key.kind in ("uid", "code"):
        return _list(keyword, key, text)
    if key.kind in ("date", "time"):
        return _range(keyword, key, text)
    if key.kind == "number":
        return Condition(key.level, key.column, "one_of", (_whole([text], keyword, 2**31 - 1, 0, lowest=-(2**31)),))
    if key.kind == "name":
        text = text.casefold().rstrip("^= ")
    how = "like" if "*" in text or "?" in text else "one_of"
    return Condition(key.level, key.column, "like" if how == "like" else "one_of", (text,))


def _list(keyword: str, key: Key, text: str) -> Condition | None:
    values = tuple(part.strip() for part in re.split(r"[,\\]", text) if part.strip())
    if not values:
        return None
    if len(values) > VALUES_LIMIT:
        raise HTTPException(400, f"{keyword} has more than {VALUES_LIMIT} values.")
    if key.kind == "uid" and not all(is_uid(one) for one in values):
        raise HTTPException(400, f"{keyword} is not a UID.")
    if len(values) == 1 and set("*?") & set(values[0]):
        return Condition(key.level, key.column, "like", values)
    return Condition(key.level, key.column, "one_of", values)


def _range(keyword: str, key: Key, text: str) -> Condition:
    """Return a range of dates or times; a single one is the range from itself to itself."""
    low, dash, high = text.partition("-")
    high = high if dash else low
    ends = (_end(key, low.strip(), "0000"), _end(key, high.strip(), "5959"))
    if not (low or high) or None in ends or "-" in high:
        form = "YYYYMMDD" if key.kind == "date" else "HHMMSS"
        raise HTTPException(400, f"{keyword} is neither {form} nor a range of two.")
    return Condition(key.level, key.column, "range", ends)


def _end(key: Key, text: str, padding: str) -> str | None:
    """Return one end of a range as it is compared; empty for an open one, None where it is none."""
    if not text:
        return ""
    plain = text.replace(":", "").partition(".")[0]
    if key.kind == "time" and len(plain) in (2, 4):
        plain += padding[: 6 - len(plain)]
    return comparable(key.kind, plain) or None


def _included(values: list[str]) -> frozenset[str] | None:
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    if len(names) > VALUES_LIMIT:
        raise HTTPException(400, f"includefield has more than {VALUES_LIMIT} values.")
    if "all" in names:
        return None
    return frozenset(tag_of(word) or word for word in (_keyword(name).split(".")[0] for name in names))


def _whole(values: list[str], name: str, highest: int, default: int, lowest: int = 0) -> int:
    if not values:
        return default
    text = values[-1].strip()
    if not re.fullmatch(r"-?\d{1,12}", text) or not lowest <= int(text) <= highest:
        raise HTTPException(400, f"{name} is no whole number from {lowest} to {highest}.")
    return int(text)
