"""Fonts of the page: DejaVu Sans, which comes with matplotlib, and one with ideographs where installed.

A character that no installed font can draw becomes a question mark; a name is never a reason to fail.
"""

from functools import lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font

BASE_FAMILY = "DejaVu Sans"
"""Latin, Greek, Cyrillic, Arabic and Hebrew letters."""
WIDE_FAMILIES: tuple[str, ...] = (
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "Source Han Sans",
    "IPAexGothic",
    "IPAGothic",
    "TakaoGothic",
    "VL Gothic",
    "Noto Sans CJK KR",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
)
"""Fonts with ideographs that Linux distributions package."""


def font(words: str, size_pt: float, weight: str = "normal") -> FontProperties:
    """Return the page's font for some words, with the wide fonts behind it where the words need them."""
    if all(ord(character) in _covered_by((BASE_FAMILY,)) for character in words):
        return FontProperties(family=BASE_FAMILY, size=size_pt, weight=weight)
    return FontProperties(family=list(families()), size=size_pt, weight="normal")


@lru_cache(maxsize=1)
def families() -> tuple[str, ...]:
    """Return the families that are installed, in the order they are tried."""
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return (BASE_FAMILY, *(family for family in WIDE_FAMILIES if family in installed))


def drawable(text: str) -> str:
    """Return the text with a question mark for every character that no font has."""
    covered = _covered_by(families())
    return "".join(character if ord(character) in covered else "?" for character in text)


def is_drawable(text: str) -> bool:
    """Whether every character has a glyph."""
    return all(ord(character) in _covered_by(families()) for character in text)


@lru_cache(maxsize=4)
def _covered_by(names: tuple[str, ...]) -> frozenset[int]:
    """Code points that any of the fonts can draw."""
    points: set[int] = set()
    for family in names:
        path = font_manager.findfont(FontProperties(family=family), fallback_to_default=False)
        points.update(FT2Font(path).get_charmap())
    return frozenset(points)
