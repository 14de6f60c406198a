"""The audit as a file: a table (CSV), or the messages themselves (XML)."""

import csv
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from xml.sax.saxutils import quoteattr

from dicom_node.db.audit_tables import AuditMessage

COLUMNS = (
    "number",
    "at",
    "kind",
    "outcome",
    "who",
    "study_instance_uid",
    "patient",
    "sentence",
    "previous_hash",
    "row_hash",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula; an AE title may begin so."""


def csv_lines(rows: Iterable[AuditMessage]) -> Iterator[str]:
    """Yield a CSV table, its head first; a cell like a formula gets an apostrophe before it."""
    yield _csv_line(COLUMNS)
    for row in rows:
        yield _csv_line([_cell(getattr(row, name)) for name in COLUMNS])


def _cell(value: object) -> str:
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _csv_line(cells: Iterable[str]) -> str:
    line = StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def xml_lines(rows: Iterable[AuditMessage]) -> Iterator[str]:
    """Yield one XML document: every message as it was sent, in an element with its place in the chain."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<Audit>\n'
    for row in rows:
        hashes = f"previous={quoteattr(row.previous_hash)} hash={quoteattr(row.row_hash)}"
        yield f'<Row number="{row.number}" {hashes}>{row.message}</Row>\n'
    yield "</Audit>\n"


FORMATS: dict[str, Callable[[Iterable[AuditMessage]], Iterator[str]]] = {"csv": csv_lines, "xml": xml_lines}
