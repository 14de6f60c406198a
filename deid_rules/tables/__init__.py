"""The standard's tables as packaged data, and their loaders."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One attribute of PS3.15 Table E.1-1.

    Attributes
    ----------
    tag
        32-bit tag.
    vr
        Value representation (PS3.6); ``??`` where the dictionary in use does not know it.
    basic
        Action of the basic profile: X, Z, D, U, or a compound such as ``X/Z/D``.
    options
        One letter for each option column that has an entry: F retain full dates (K), M retain modified
        dates (C), U retain UIDs (K), D and d retain device identity (K, C), P and p retain patient
        characteristics (K, C), I retain institution identity (K), T clean descriptors (C), G clean
        graphics (C), S clean structured content (C).
    keyword
        Attribute keyword (PS3.6).
    """

    tag: int
    vr: str
    basic: str
    options: str
    keyword: str


@cache
def profile_rows() -> tuple[ProfileRow, ...]:
    """Return Table E.1-1, by tag, without repeating groups and private elements: the engine removes those."""
    return tuple(
        ProfileRow(int(tag, 16), vr, basic, options, keyword)
        for tag, vr, basic, options, keyword in _load("e1_1.json")["rows"]
    )


@cache
def profile_edition() -> str:
    """Return the edition of Table E.1-1 that is packaged."""
    return str(_load("e1_1.json")["edition"])


@cache
def attribute_types() -> dict[str, dict[str, str]]:
    """Return, by SOP class UID, the Type (1, 1C, 2, 2C, 3) of attributes at the top level, by keyword."""
    return {
        sop_class_uid: dict(iod["types"])
        for iod in _load("iod_types.json")["iods"].values()
        for sop_class_uid in iod["sop_classes"]
    }


def _load(name: str) -> dict[str, Any]:
    return dict(json.loads(files(__name__).joinpath(name).read_text(encoding="utf-8")))
