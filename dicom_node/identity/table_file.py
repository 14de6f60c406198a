"""The CSV of the identity map: ``mrn,issuer,pseudonym,project``, strictly read.

A problem names its line, never a value: such a file is full of patients.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deid_rules.errors import InvalidSubject
from deid_rules.report import Subject
from dicom_node.errors import ConfigurationError

COLUMNS = ("mrn", "issuer", "pseudonym", "project")
MAX_LINES = 1_000_000
"""[m] assumption: more patients than one hospital gives to a project; a longer file is a mistake."""
MAX_CHARACTERS = 64
"""Length of an LO, which Patient ID and its issuer are (PS3.5 6.2), and of a project's name."""
FORMULA_STARTS = ("=", "+", "-", "@")
"""A spreadsheet runs a cell that begins so (OWASP, CSV injection)."""
SHORTEST_MRN_IN_PSEUDONYM = 4
"""[m] assumption: a shorter number occurs in a pseudonym by chance."""


@dataclass(frozen=True, slots=True)
class Line:
    """One patient of the file."""

    number: int
    mrn: str = field(repr=False)
    issuer: str = field(repr=False)
    pseudonym: str
    project: str


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong with a line."""

    line: int
    sentence: str


def read_lines(path: Path) -> tuple[list[Line], list[Problem]]:
    """Read the file.

    Returns
    -------
    tuple
        The well-formed lines, and the problems of the others.

    Raises
    ------
    ConfigurationError
        When the file cannot be read at all: not UTF-8, another header, too long.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _sorted_out(_records(csv.reader(_without_nul(file), strict=True)))
    except UnicodeDecodeError:
        raise ConfigurationError("The file is not UTF-8; save it as CSV UTF-8.") from None
    except OSError as error:
        raise ConfigurationError(f"The file cannot be read ({error.strerror}).") from None
    except csv.Error:
        raise ConfigurationError(
            "The file is not CSV: a quotation mark is not closed, or a field is too long."
        ) from None


def _without_nul(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\x00" in line:
            raise ConfigurationError(f"Line {number} holds a zero byte: this is no text file.")
        yield line


def _records(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields, after the header."""
    header = next(reader, [])
    if any(";" in name for name in header):
        raise ConfigurationError("The columns are separated by semicolons; save the file with commas.")
    if tuple(name.strip().lower() for name in header) != COLUMNS:
        raise ConfigurationError(f"The first line is not the header {','.join(COLUMNS)}.")
    for count, fields in enumerate(reader, start=1):
        if count > MAX_LINES:
            raise ConfigurationError(f"The file has more than {MAX_LINES} lines; split it.")
        yield reader.line_num, fields  # type: ignore[attr-defined]


def _sorted_out(records: Iterator[tuple[int, list[str]]]) -> tuple[list[Line], list[Problem]]:
    lines, problems = [], []
    for number, fields in records:
        fault = _fault(fields)
        if fault:
            problems.append(Problem(number, fault))
        elif fields:
            lines.append(Line(number, *(one.strip() for one in fields)))
    return lines, problems


def _fault(fields: list[str]) -> str:
    """Return what is wrong with the fields of a line; an empty line is nothing."""
    if not fields:
        return ""
    if len(fields) != len(COLUMNS):
        return f"has {len(fields)} fields; {len(COLUMNS)} are expected"
    mrn, issuer, pseudonym, project = (one.strip() for one in fields)
    for name, value in (("mrn", mrn), ("pseudonym", pseudonym), ("project", project)):
        if not value:
            return f"the {name} is empty"
    for name, value in zip(COLUMNS, (mrn, issuer, pseudonym, project), strict=True):
        if len(value) > MAX_CHARACTERS:
            return f"the {name} has more than {MAX_CHARACTERS} characters"
        if not value.isprintable() or "\\" in value:
            return f"the {name} holds a control character or a backslash"
        if value.startswith(FORMULA_STARTS):
            return f"the {name} begins like a spreadsheet formula"
    return _pseudonym_fault(mrn, pseudonym)


def _pseudonym_fault(mrn: str, pseudonym: str) -> str:
    try:
        Subject(pseudonym, 0)
    except InvalidSubject as error:
        return f"the pseudonym cannot be used: {error}"
    told = mrn.upper() == pseudonym.upper() or (
        len(mrn) >= SHORTEST_MRN_IN_PSEUDONYM and mrn.upper() in pseudonym.upper()
    )
    return "the pseudonym holds the mrn" if told else ""
