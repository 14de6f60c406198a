"""Rules for burned-in text: which kind of image has it, and where (the ``%filter`` sections of a recipe).

A label is a list of criteria on the header and a list of rectangles. The notation, and the rule base that
`base_labels` reads from the installed `deid` package, come from the RSNA Clinical Trial Processor.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Literal

from pydicom.datadict import keyword_dict
from pydicom.dataset import Dataset

from deid_rules.elements import ascii_text, small_number
from deid_rules.errors import RecipeError

Texts = tuple[str, ...] | None
"""The lower-case values of a field, None where it is absent."""

FieldValues = Callable[[str], Texts]
"""Field of a criterion -> its values in one header."""

HEADERS_REMEMBERED = 64
"""Slices of a series differ in no field that the rule base reads; a few series may be in work at once."""

EDGE = 2**31 - 1
"""Right or bottom of a rectangle that reaches to the edge of the image."""

Test = Literal["contains", "notcontains", "equals", "notequals", "missing", "present", "empty"]
_WITH_VALUE = frozenset({"contains", "notcontains", "equals", "notequals"})
_TESTS = _WITH_VALUE | {"missing", "present", "empty"}
_COORDINATES = {
    "coordinates": (False, False),
    "keepcoordinates": (False, True),
    "ctpcoordinates": (True, False),
    "ctpkeepcoordinates": (True, True),
}
"""Whether the last two numbers are a size rather than a corner, and whether the rectangle is kept."""

_FIELDS = {**keyword_dict, "OverlayDescription": 0x60000022}
"""The dictionary has no keyword for repeating groups; the rule base names one of them."""

_MISSPELT = {"Manfacturer": "Manufacturer", "Manufacture": "Manufacturer"}
"""Fields of the rule base of deid 0.4.13 that no dictionary knows."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Part of an image, in pixels from the left and the top; right and bottom are the first pixels outside.

    Attributes
    ----------
    left, top, right, bottom
        Edges, 0 <= left <= right and 0 <= top <= bottom.
    is_kept
        Whether it is taken out of what earlier rectangles blank, instead of being blanked.
    """

    left: int
    top: int
    right: int
    bottom: int
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Criterion:
    """One test of one field, and how it is joined to what stands before it."""

    joint: Literal["and", "or"]
    test: Test
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class FilterLabel:
    """A named kind of image, and the rectangles of it that carry text.

    Attributes
    ----------
    name, group
        The label and the ``%filter`` section it stands in.
    lines
        Criteria line by line; the first joint of a line joins the whole line.
    rectangles
        In the order of the recipe.
    line_number
        Of the heading.
    """

    name: str
    group: str
    lines: tuple[tuple[Criterion, ...], ...]
    rectangles: tuple[Rectangle, ...]
    line_number: int

    def matches(self, dataset: Dataset) -> bool:
        """Tell whether a header fulfils the criteria, read from left to right and from top to bottom."""
        return self.accepts(lambda field: _texts(dataset, _FIELDS[field]))

    def accepts(self, values: FieldValues) -> bool:
        """Tell whether the values of fields fulfil the criteria."""
        return _joined((line[0].joint, _joined((c.joint, _holds(c, values)) for c in line)) for line in self.lines)


def _joined(parts: Iterable[tuple[str, bool]]) -> bool:
    """Join truth values from left to right; the joint of the first is ignored. Nothing is true."""
    result: bool | None = None
    for joint, value in parts:
        result = value if result is None else (result or value) if joint == "or" else (result and value)
    return result is not False


def _holds(criterion: Criterion, values: FieldValues) -> bool:
    """Decide one criterion; letters match in both cases, as in CTP."""
    texts = values(criterion.field)
    wanted = criterion.value.lower()
    match criterion.test:
        case "missing":
            return texts is None
        case "present":
            return texts is not None
        case "empty":
            return texts is not None and not any(texts)
        case "contains" | "notcontains":
            found = any(re.search(wanted, text) for text in texts or ())
            return found is (criterion.test == "contains")
        case _:
            return (wanted in (texts or ())) is (criterion.test == "equals")


def _texts(dataset: Dataset, tag: int) -> Texts:
    """Return the values of a field; numbers in decimal."""
    source = getattr(dataset, "file_meta", None) if tag >> 16 == 2 else dataset
    if source is None or tag not in source:
        return None
    element = source.get_item(tag)
    if element.VR in ("US", "SS") or (element.VR is None and tag >> 16 == 0x28):
        number = small_number(source, tag)
        return () if number is None else (str(number),)
    return tuple(value.strip().lower() for value in ascii_text(element).split("\\"))


def parse_label(group: str, heading: tuple[int, str], lines: list[tuple[int, str]]) -> FilterLabel:
    """Read one label: its heading, then criteria and coordinates, each with its line number.

    Raises
    ------
    RecipeError
        A label without a name or content, an unknown test or field, a malformed expression or rectangle.
    """
    number, text = heading
    name = text.removeprefix("LABEL").split("#")[0].strip()
    if not name:
        raise RecipeError(number, "a LABEL has a name")
    criteria, rectangles = [], []
    for line_number, line in lines:
        if line.split(" ")[0].lower() in _COORDINATES:
            rectangles.append(_rectangle(line_number, line))
        else:
            criteria.append(_criteria(line_number, line))
    if not criteria:
        raise RecipeError(number, "a LABEL has at least one criterion; a rule for every image is a mistake")
    return FilterLabel(name, group, tuple(criteria), tuple(rectangles), number)


def _rectangle(number: int, line: str) -> Rectangle:
    word, _, rest = line.partition(" ")
    has_size, is_kept = _COORDINATES[word.lower()]
    if rest.strip() == "all":
        return Rectangle(0, 0, EDGE, EDGE, is_kept)
    parts = [part.strip() for part in rest.split(",")]
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise RecipeError(number, f"{word} takes four whole numbers with commas between them, or all")
    left, top, right, bottom = map(int, parts)
    if has_size:
        right, bottom = left + right, top + bottom
    if right <= left or bottom <= top:
        raise RecipeError(number, f"{word} describe an empty rectangle")
    return Rectangle(left, top, right, bottom, is_kept)


def _criteria(number: int, line: str) -> tuple[Criterion, ...]:
    """Read a line such as ``+ contains Modality CT || equals Rows 512``."""
    joint: Literal["and", "or"] = "or" if line.startswith("||") else "and"
    rest = line.removeprefix("||").removeprefix("+").strip()
    words = "|".join(sorted(_TESTS))
    parts = re.split(rf"\s*(\|\||\+)\s*(?=(?:{words})\s)", rest)
    found = [_criterion(number, joint, parts[0])]
    for mark, part in zip(parts[1::2], parts[2::2], strict=True):
        found.append(_criterion(number, "or" if mark == "||" else "and", part))
    return tuple(found)


def _criterion(number: int, joint: Literal["and", "or"], text: str) -> Criterion:
    test, _, rest = text.partition(" ")
    field, _, value = rest.strip().partition(" ")
    if test not in _TESTS:
        raise RecipeError(number, f"no such test; known are {', '.join(sorted(_TESTS))}")
    if field not in _FIELDS:
        raise RecipeError(number, "the dictionary knows no such field")
    if bool(value.strip()) is not (test in _WITH_VALUE):
        raise RecipeError(number, f"{test} takes a field{' and a value' if test in _WITH_VALUE else ' and no value'}")
    if "contains" in test:
        try:
            re.compile(value.strip().lower())
        except re.error:
            raise RecipeError(number, f"the value of {test} is no regular expression") from None
    return Criterion(joint, test, field, value.strip())  # type: ignore[arg-type]  # a member of _TESTS


@cache
def base_labels() -> tuple[FilterLabel, ...]:
    """Return the rule base of the installed `deid` package, about 120 kinds of image."""
    text = files("deid.data").joinpath("deid.dicom").read_text(encoding="utf-8")
    for wrong, right in _MISSPELT.items():
        text = re.sub(rf"\b{wrong}\b", right, text)
    return read_labels(list(enumerate(text.split("%header")[0].splitlines(), start=1)))


def matching_base_labels(dataset: Dataset) -> tuple[FilterLabel, ...]:
    """Return the labels of the rule base that a header fulfils; equal headers are decided once."""
    return _matching_base_labels(tuple(_texts(dataset, _FIELDS[field]) for field in _base_fields()))


@cache
def _base_fields() -> tuple[str, ...]:
    return tuple(sorted({c.field for label in base_labels() for line in label.lines for c in line}))


@lru_cache(maxsize=HEADERS_REMEMBERED)
def _matching_base_labels(values: tuple[Texts, ...]) -> tuple[FilterLabel, ...]:
    value_of = dict(zip(_base_fields(), values, strict=True))
    return tuple(label for label in base_labels() if label.accepts(value_of.__getitem__))


def read_labels(lines: list[tuple[int, str]]) -> tuple[FilterLabel, ...]:
    """Read ``%filter`` sections; comments and empty lines are passed over.

    Raises
    ------
    RecipeError
        A line outside of a label, or what `parse_label` raises.
    """
    group = ""
    blocks: list[tuple[str, tuple[int, str], list[tuple[int, str]]]] = []
    for number, line in ((number, line.strip()) for number, line in lines):
        if line.startswith("%filter"):
            group = line.removeprefix("%filter").split("#")[0].strip()
        elif line.startswith("LABEL"):
            blocks.append((group, (number, line), []))
        elif line and not line.startswith("#") and group:
            if not blocks or blocks[-1][0] != group:
                raise RecipeError(number, "a criterion stands below a LABEL of its section")
            blocks[-1][2].append((number, line))
    return tuple(parse_label(*block) for block in blocks)
