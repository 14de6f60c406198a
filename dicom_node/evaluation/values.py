"""Measured against reference values, read from one CSV or from two: one row a case, or a case and a structure."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from inference.agreement import Agreement, Decision, Roc, agree, decide, roc

COLUMNS = ("case", "measured", "reference")
SINGLE = ("case", "value")
"""Of each file, where measured and reference values come in two."""

OPTIONAL = ("group",)
DELIMITERS = (",", ";", "\t")
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


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Cases by category: rows the reference's, columns the measured."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What one group of cases gave.

    Attributes
    ----------
    group, cases
        Its name, empty where there is one only; its cases.
    agreement
        None where it cannot be computed; ``reason`` says why.
    decisions
        By limit; no curve where the reference has one class only.
    confusion
        None without limits.
    """

    group: str
    cases: tuple[Case, ...]
    agreement: Agreement | None
    reason: str
    decisions: tuple[tuple[Threshold, Decision, Roc | None], ...]
    confusion: Confusion | None = field(default=None)


def read_cases(path: Path, references: Path | None = None) -> tuple[Case, ...]:
    """Read the cases.

    Parameters
    ----------
    path
        Columns case, measured, reference and, if wanted, group; or case, value and group where there is a second file.
    references
        The reference values in the same form: the same cases and groups, in any order.

    Raises
    ------
    ConfigurationError
        Naming the line and what is wrong with it, or the first case that only one of two files has.
    """
    if references is None:
        rows = _read(path, COLUMNS)
        return tuple(Case(*key, row["measured"], row["reference"]) for key, row in rows.items())
    ours, theirs = _read(path, SINGLE), _read(references, SINGLE)
    alone = [key for key in (*ours, *theirs) if (key in ours) != (key in theirs)]
    if alone:
        holder = path if alone[0] in ours else references
        raise ConfigurationError(
            f"{len(alone)} cases stand in one of the two files only; the first is {' '.join(alone[0]).strip()}, in "
            f"{holder.name}. Leave such cases out of it, so that none is left out unseen."
        )
    return tuple(Case(*key, row["value"], theirs[key]["value"]) for key, row in ours.items())


def evaluate(cases: Sequence[Case], thresholds: Sequence[Threshold] = ()) -> tuple[GroupResult, ...]:
    """Compare measured with reference values, group by group, then all together where there are several groups.

    Raises
    ------
    ConfigurationError
        When no group can be compared, and why.
    """
    names = sorted({case.group for case in cases})
    groups = [(name, [case for case in cases if case.group == name]) for name in names]
    if len(names) > 1:
        groups.append(("all", list(cases)))
    if not groups:
        raise ConfigurationError("There is no case to evaluate.")
    results = tuple(_group(name, some, thresholds) for name, some in groups)
    if not thresholds and all(one.agreement is None for one in results):
        raise ConfigurationError(f"No group can be compared; of the last: {results[-1].reason}.")
    return results


def _group(name: str, cases: Sequence[Case], thresholds: Sequence[Threshold]) -> GroupResult:
    measured = np.array([case.measured for case in cases])
    reference = np.array([case.reference for case in cases])
    agreement, reason = None, ""
    try:
        agreement = agree(measured, reference)
    except ValueError as error:
        reason = str(error)
    decisions = []
    for threshold in thresholds:
        sign = -1.0 if threshold.is_below else 1.0
        truth = sign * reference > sign * threshold.limit
        said = sign * measured > sign * threshold.limit
        curve = roc(sign * measured, truth) if truth.any() and not truth.all() else None
        decisions.append((threshold, decide(said, truth), curve))
    confusion = _confusion(measured, reference, thresholds) if thresholds else None
    return GroupResult(name, tuple(cases), agreement, reason, tuple(decisions), confusion)


def _confusion(
    measured: NDArray[np.float64], reference: NDArray[np.float64], thresholds: Sequence[Threshold]
) -> Confusion:
    """Count cases by the categories between the limits; a limit itself belongs to the side that is not positive."""
    ordered = sorted(thresholds, key=lambda one: (one.limit, not one.is_below))

    def place(values: NDArray[np.float64]) -> NDArray[np.int64]:
        passed = [values >= one.limit if one.is_below else values > one.limit for one in ordered]
        return np.asarray(np.sum(passed, axis=0), dtype=np.int64)

    counts = np.zeros((len(ordered) + 1,) * 2, dtype=np.int64)
    np.add.at(counts, (place(reference), place(measured)), 1)
    limits = [f"{one.limit:g}" for one in ordered]
    between = [f"{low} to {high}" for low, high in pairwise(limits)]
    lowest = f"{'below' if ordered[0].is_below else 'up to'} {limits[0]}"
    highest = f"{'from' if ordered[-1].is_below else 'above'} {limits[-1]}"
    return Confusion((lowest, *between, highest), counts)


def _read(path: Path, columns: tuple[str, ...]) -> dict[tuple[str, str], dict[str, float]]:
    """Return the numbers of every row by (case, group), in the order of the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read as text ({type(error).__name__}).") from None
    first = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    names = [name.strip().lower() for name in reader.fieldnames or []]
    if not set(columns) <= set(names) or set(names) - {*columns, *OPTIONAL} or len(names) != len(set(names)):
        raise ConfigurationError(
            f"{path.name}, line 1: expected the columns {', '.join(columns)} and, if wanted, group."
        )
    reader.fieldnames = names
    found: dict[tuple[str, str], dict[str, float]] = {}
    rows = [(reader.line_num, row) for row, _ in zip(reader, range(MOST_ROWS + 1), strict=False)]
    if len(rows) > MOST_ROWS:
        raise ConfigurationError(f"{path.name} has more than {MOST_ROWS} rows.")
    mark = _decimal_mark([row[name] or "" for _, row in rows for name in columns[1:]], path.name)
    for line, row in rows:
        where = f"{path.name}, line {line}"
        key = (row["case"] or "").strip(), (row.get("group") or "").strip()
        numbers = {name: _number(row[name] or "", name, where, mark) for name in columns[1:]}
        if not key[0] or None in row:
            raise ConfigurationError(f"{where}: expected a name of the case and one value for each column.")
        if key in found:
            raise ConfigurationError(f"{path.name}: the case {key[0]} stands twice in one group.")
        found[key] = numbers
    return found


def _decimal_mark(cells: Sequence[str], name: str) -> str:
    """Return the mark of decimals, 12.5 or 12,5.

    Raises
    ------
    ConfigurationError
        When both occur: one of the two marks thousands, and which is a guess.
    """
    comma, point = (any(mark in cell for cell in cells) for mark in ",.")
    if comma and point:
        raise ConfigurationError(f"{name} writes numbers with commas and with points; use one mark for decimals.")
    return "," if comma else "."


def _number(text: str, name: str, where: str, mark: str) -> float:
    try:
        value = float(text.strip().replace(mark, "."))
    except ValueError:
        raise ConfigurationError(f"{where}: {name} is no number.") from None
    if not np.isfinite(value):
        raise ConfigurationError(f"{where}: {name} is not finite; leave the row out.")
    return value
