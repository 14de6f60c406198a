"""The counts as a table and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.ledger import Counts

COLUMNS = (
    "reached",
    "acknowledged",
    "lost",
    "processed_twice",
    "results",
    "results_missing",
    "duplicated",
    "sent_again",
)
PROMISES = (
    ("instants tried", "tried", ""),
    ("instants reached", "reached", ""),
    ("studies", "studies", ""),
    ("study versions", "versions", ""),
    ("instances acknowledged", "acknowledged", ""),
    ("instances lost", "lost", "0"),
    ("versions processed twice", "processed_twice", "0"),
    ("versions not processed", "not_processed", "0"),
    ("results in the PACS", "results", ""),
    ("results missing in the PACS", "results_missing", "0"),
    ("receipts missing", "receipts_missing", "0"),
    ("results duplicated in the PACS", "duplicated", "0"),
    ("identical results sent again", "sent_again", ""),
    ("reports of commitment missing", "commitments_missing", "0"),
    ("files left over", "left_over", "0"),
)


def print_counts(title: str, counts: Counts) -> None:
    """Print one run's counts, and its failures."""
    table = Table("", "found", "promised", title=title, title_justify="left")
    for words, name, promised in PROMISES:
        table.add_row(words, str(getattr(counts, name)), promised)
    table.add_row("seconds", f"{counts.seconds:.0f}", "")
    console = Console(width=140)
    console.print(table)
    for failure in counts.failures:
        console.print(f"FAILED {failure}", markup=False, highlight=False)


def line(name: str, counts: Counts) -> str:
    """Return one part's counts in one line."""
    values = ", ".join(f"{column.replace('_', ' ')} {getattr(counts, column)}" for column in COLUMNS)
    return f"{'ok  ' if counts.is_clean else 'FAIL'} {counts.seconds:5.1f} s  {name}: {values}"


def save(path: Path, parts: Sequence[tuple[str, Counts]], total: Counts, seed: int) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"seed": seed, "total": asdict(total), "parts": [{"name": name, **asdict(one)} for name, one in parts]}
    path.write_text(json.dumps(report, indent=1))
