"""Measured against reference values, read from a CSV: one row a case, or a case and a structure."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_node.errors import ConfigurationError
from inference.agreement import Agreement, Decision, Roc, agree, decide, roc

COLUMNS = ("case", "measured", "reference")
OPTIONAL = ("group",)
MOST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison: its group (level, side, algorithm; empty for one group), measured and reference value."""

    case: str
    group: str
    measured: float
    reference: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """A decision made by a limit: ``below`` it, or above it, is positive."""

    limit: float
    is_below: bool

    @property
    def words(self) -> str:
        """For tables."""
        return f"{'below' if self.is_below else 'above'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What one group of cases gave."""

    group: str
    cases: tuple[Case, ...]
    agreement: Agreement
    decisions: tuple[tuple[Threshold, Decision, Roc | None], ...]


def read_cases(path: Path) -> tuple[Case, ...]:
    """Read the CSV: columns case, measured, reference and, if wanted, group.

    Raises
    ------
    ConfigurationError
        Naming the line and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read as text ({type(error).__name__}).") from None
    delimiter = ";" if text.split("\n", 1)[0].count(";") >= len(COLUMNS) - 1 else ","
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter)
    names = [name.strip().lower() for name in rows.fieldnames or []]
    if not set(COLUMNS) <= set(names) or set(names) - {*COLUMNS, *OPTIONAL} or len(names) != len(set(names)):
        raise ConfigurationError(
            f"{path.name}, line 1: expected the columns {', '.join(COLUMNS)} and, if wanted, group."
        )
    rows.fieldnames = names
    cases: list[Case] = []
    for row in rows:
        if len(cases) >= MOST_ROWS:
            raise ConfigurationError(f"{path.name} has more than {MOST_ROWS} rows.")
        cases.append(_case(row, f"{path.name}, line {rows.line_num}"))
    known: set[tuple[str, str]] = set()
    for case in cases:
        if (case.case, case.group) in known:
            raise ConfigurationError(f"{path.name}: the case {case.case} stands twice in one group.")
        known.add((case.case, case.group))
    return tuple(cases)


def evaluate(cases: Sequence[Case], thresholds: Sequence[Threshold] = ()) -> tuple[GroupResult, ...]:
    """Compare measured with reference values, group by group, then all together where there are several groups.

    Raises
    ------
    ConfigurationError
        Naming the group that cannot be compared, and why.
    """
    names = sorted({case.group for case in cases})
    groups = [(name, [case for case in cases if case.group == name]) for name in names]
    if len(names) > 1:
        groups.append(("all", list(cases)))
    if not groups:
        raise ConfigurationError("There is no case to evaluate.")
    return tuple(_group(name, some, thresholds) for name, some in groups)


def _group(name: str, cases: Sequence[Case], thresholds: Sequence[Threshold]) -> GroupResult:
    measured = np.array([case.measured for case in cases])
    reference = np.array([case.reference for case in cases])
    try:
        agreement = agree(measured, reference)
    except ValueError as error:
        raise ConfigurationError(f"Group {name or 'of all cases'}: {error}.") from None
    decisions = []
    for threshold in thresholds:
        sign = -1.0 if threshold.is_below else 1.0
        truth = sign * reference > sign * threshold.limit
        said = sign * measured > sign * threshold.limit
        curve = roc(sign * measured, truth) if truth.any() and not truth.all() else None
        decisions.append((threshold, decide(said, truth), curve))
    return GroupResult(name, tuple(cases), agreement, tuple(decisions))


def _case(row: dict[str, str], where: str) -> Case:
    numbers = {}
    for name in ("measured", "reference"):
        try:
            numbers[name] = float((row[name] or "").strip())
        except (ValueError, TypeError, AttributeError):
            raise ConfigurationError(f"{where}: {name} is no number.") from None
        if not np.isfinite(numbers[name]):
            raise ConfigurationError(f"{where}: {name} is not finite; leave the row out.")
    name = (row["case"] or "").strip()
    if not name or None in row:
        raise ConfigurationError(f"{where}: expected a name of the case and one value for each column.")
    return Case(name, (row.get("group") or "").strip(), numbers["measured"], numbers["reference"])
