"""One line of a benchmark, the table of them, and the file they are kept in."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; smaller is better.

    Attributes
    ----------
    name
        What is measured.
    ours, peer
        In ``unit``; the peer's is None where there is none.
    peer_name
        Name and version, or why it is missing.
    unit
        Of both.
    goal
        What ours must not exceed, None where no goal is set.
    """

    name: str
    ours: float
    peer: float | None
    peer_name: str
    unit: str
    goal: float | None

    @property
    def ratio(self) -> float | None:
        """How many times ours the peer needs."""
        return None if self.peer is None or not self.ours else self.peer / self.ours

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met."""
        return None if self.goal is None else self.ours <= self.goal

    def as_record(self) -> dict[str, Any]:
        """Return the line as it is kept."""
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}


_HEAD = ("what", "ours", "peer", "ratio", "goal", "holds", "unit", "beside")


def table_of(rows: Sequence[Row]) -> str:
    """Lay the lines out in columns."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}"

    ratio = "-" if row.ratio is None else f"{row.ratio:.1f}x"
    holds = {None: "-", True: "yes", False: "NO"}[row.holds]
    return (row.name, number(row.ours), number(row.peer), ratio, number(row.goal), holds, row.unit, row.peer_name)


def append(rows: Sequence[Row], path: Path) -> None:
    """Add the lines to the list a file holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    path.write_text(json.dumps([*earlier, *(row.as_record() for row in rows)], indent=1) + "\n", encoding="utf-8")
