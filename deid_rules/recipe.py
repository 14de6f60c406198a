"""The site's recipe, in the rule language of the `deid` package, read strictly.

The notation (`FORMAT dicom`, `%header`, `%filter`) is deid's; the parser is ours, because deid's skips what it does
not understand, and an identifier passes where a line is skipped. Here every line is understood or is a
`RecipeError` with its number: an unknown field, a misspelt action, a variable nobody binds, a value that
would be cut at a ``#``.

A recipe may make the profile stronger at will. To make it weaker a line must say which option of PS3.15
Annex E allows that, in a comment right above it, and Table E.1-1 must list the field under that option::

    # option: Retain Device Identity
    KEEP DeviceSerialNumber

Where several lines speak about one field: KEEP before REPLACE, JITTER, REMOVE and BLANK; among equals a line
that names the field before one with an expander, and a later line before an earlier one. Two lines that name the
same field are an error. ADD writes its value at the top level in any case.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from deid_rules.errors import RecipeError
from deid_rules.filters import FilterLabel, read_labels
from deid_rules.header_lines import HeaderLine, Verb, read_header_line
from deid_rules.options import METHOD_MEANINGS, Option
from deid_rules.pixels import REFUSED_WORDS
from deid_rules.rules import Rule
from deid_rules.site import PrivateElement, SiteRules

IMAGE_TYPES = "image-types"
"""Name of the %filter section whose labels the pixel gate lets pass."""

_PRAGMA = re.compile(r"#\s*option:\s*(.*)", re.IGNORECASE)
_SECTION = re.compile(r"%(\w+)(?:\s+([\w-]+))?\s*(?:#.*)?")
_OPTION_NAMES = {METHOD_MEANINGS[option].removesuffix(" Option").lower(): option for option in Option}
_SHORT_NAMES = {"retain full dates": Option.RETAIN_FULL_DATES, "retain modified dates": Option.RETAIN_MODIFIED_DATES}


@dataclass(slots=True)
class _Draft:
    """What has been read so far."""

    header: list[HeaderLine] = field(default_factory=list)
    filter_lines: list[tuple[int, str]] = field(default_factory=list)
    section: str = ""
    label: str = ""
    options: frozenset[Option] = frozenset()
    options_line: int = 0


def parse_recipe(text: str) -> SiteRules:
    """Read a recipe.

    Parameters
    ----------
    text
        The recipe.

    Returns
    -------
    SiteRules
        To be given to `Profile`.

    Raises
    ------
    RecipeError
        With the number of the first line that cannot be taken as it stands.
    """
    draft = _Draft()
    has_format = False
    for number, line in enumerate((line.strip() for line in text.splitlines()), start=1):
        if line.startswith("#"):
            _read_comment(draft, number, line)
        elif line and not has_format:
            if line.split() != ["FORMAT", "dicom"]:
                raise RecipeError(number, "a recipe begins with: FORMAT dicom")
            has_format = True
        elif line:
            _read_line(draft, number, line)
    if not has_format:
        raise RecipeError(0, "a recipe begins with: FORMAT dicom")
    _expect_used(draft)
    labels = read_labels(draft.filter_lines)
    return _assembled(text, draft.header, labels)


@cache
def default_recipe() -> SiteRules:
    """Return the recipe that comes with the package."""
    return parse_recipe(files("deid_rules").joinpath("site.deid").read_text(encoding="utf-8"))


def _read_comment(draft: _Draft, number: int, line: str) -> None:
    match = _PRAGMA.fullmatch(line)
    if match is None:
        return
    _expect_used(draft)
    draft.options, draft.options_line = _options(number, match[1]), number


def _options(number: int, names: str) -> frozenset[Option]:
    known = _OPTION_NAMES | _SHORT_NAMES | {option.value: option for option in Option}
    found = set()
    for name in names.split(","):
        option = known.get(name.strip().lower().removesuffix(" option"))
        if option is None:
            raise RecipeError(
                number, f"no option of PS3.15 has this name; known are {', '.join(sorted(_OPTION_NAMES))}"
            )
        found.add(option)
    return frozenset(found)


def _expect_used(draft: _Draft) -> None:
    """Complain about an option nobody has used."""
    if draft.options:
        raise RecipeError(draft.options_line, "an option stands right above the KEEP or JITTER line it is for")


def _read_line(draft: _Draft, number: int, line: str) -> None:
    if line.startswith("%"):
        _expect_used(draft)
        draft.section, draft.label = _section(number, line), ""
    if draft.section == "filter":
        _expect_used(draft)
        draft.filter_lines.append((number, line))
    elif line.startswith("%"):
        return
    elif draft.section != "header":
        raise RecipeError(number, "a rule stands below %header or %filter")
    elif line.split()[0] == "LABEL":
        draft.label = _label(number, line)
    else:
        draft.header.append(read_header_line(number, line, draft.options, draft.label))
        draft.options = frozenset()


def _section(number: int, line: str) -> str:
    match = _SECTION.fullmatch(line)
    if match is None or match[1] not in ("header", "filter"):
        raise RecipeError(number, "no such section; known are %header and %filter NAME")
    if bool(match[2]) is not (match[1] == "filter"):
        raise RecipeError(number, "%filter takes one name of letters, digits and hyphens, %header takes none")
    return match[1]


def _label(number: int, line: str) -> str:
    name = line.removeprefix("LABEL").strip()
    if not name or len(name) > 64 or not name.isprintable() or "#" in name:
        raise RecipeError(number, "a LABEL has a name of at most 64 printable characters without #")
    return name


def _assembled(text: str, header: list[HeaderLine], labels: tuple[FilterLabel, ...]) -> SiteRules:
    for earlier, later in _same_field(header):
        raise RecipeError(later.line_number, f"line {earlier.line_number} already decides about this field")
    rules: dict[int, Rule | None] = {}
    for line in sorted(header, key=lambda line: (-list(Verb).index(line.verb), line.is_exact, line.line_number)):
        rules.update(line.rules)
    private = _private(header)
    return SiteRules(
        text=text,
        rules=tuple((tag, rule) for tag, rule in rules.items() if rule is not None),
        additions=tuple((tag, rule) for line in header for tag, rule in line.additions),
        options=frozenset().union(*(line.options for line in header)),
        private_kept=private[Verb.KEEP],
        private_removed=private[Verb.REMOVE],
        labels=tuple(label for label in labels if label.group != IMAGE_TYPES),
        image_types=frozenset(_image_type(label) for label in labels if label.group == IMAGE_TYPES),
    )


def _same_field(header: list[HeaderLine]) -> Iterator[tuple[HeaderLine, HeaderLine]]:
    seen: dict[object, HeaderLine] = {}
    for line in header:
        if line.is_exact:
            if line.field in seen:
                yield seen[line.field], line
            seen[line.field] = line


def _private(header: list[HeaderLine]) -> dict[Verb, frozenset[PrivateElement]]:
    return {
        verb: frozenset(line.field for line in header if line.verb is verb and isinstance(line.field, tuple))
        for verb in (Verb.KEEP, Verb.REMOVE)
    }


def _image_type(label: FilterLabel) -> tuple[str, ...]:
    """Return the Image Type a label of the section ``image-types`` lets pass."""
    criteria = [criterion for line in label.lines for criterion in line]
    values = tuple(value.strip().upper() for value in criteria[0].value.split("\\"))
    if len(criteria) != 1 or (criteria[0].test, criteria[0].field) != ("equals", "ImageType") or label.rectangles:
        raise RecipeError(label.line_number, "a label of image-types is one line: equals ImageType A\\B\\C")
    if len(values) < 3 or not all(values):
        raise RecipeError(label.line_number, "an Image Type is given by at least its first three values")
    if not REFUSED_WORDS.isdisjoint(values):
        raise RecipeError(label.line_number, "no rule can let a localizer, capture or report pass the pixel gate")
    return values
