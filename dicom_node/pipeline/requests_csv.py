"""Batches of requests as CSV (RFC 4180): every problem is named by its line, and no written cell is a formula.

The file is text in UTF-8, with or without a byte order mark; commas, semicolons or tabs part its cells, as spreadsheets
write them. Its first line names the columns, which are the fields of `RequestIn`.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy.orm import Session

from dicom_node.db.request_tables import RequestBatch
from dicom_node.db.requests import add_all
from dicom_node.errors import ConfigurationError
from dicom_node.pipeline.requests_adding import Asked, check_requests
from dicom_node.pipeline.requests_input import Problem, RequestIn, problems_of
from dicom_node.settings import Settings
from dicom_node.storage.files import new_id

COLUMNS = tuple(RequestIn.model_fields)
NUMBERS = ("age_years", "weight_kg", "height_m", "height_cm")
MAX_BYTES = 20_000_000
MAX_ROWS = 20_000
"""More than the "thousands of imaging studies" of CT2S's batch mode [Benemerito2021]; a larger file is split."""
MAX_CELL = 500
MAX_PROBLEMS = 1000
"""Problems listed of one file; a file with more is broken as a whole."""
OTHER_FORMATS = (
    (b"PK\x03\x04", "is a spreadsheet's own file; save it as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "is a spreadsheet's own file; save it as CSV (UTF-8)"),
    (b"\xff\xfe", "is in UTF-16; save it as CSV (UTF-8)"),
    (b"\xfe\xff", "is in UTF-16; save it as CSV (UTF-8)"),
    (b"%PDF", "is a PDF; a CSV file is expected"),
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection)."""


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What became of a file: rows in it, requests written, the batch's id (empty: none), and every problem."""

    row_count: int
    added_count: int
    batch_id: str
    problems: tuple[Problem, ...]


def read_batch(content: bytes) -> tuple[list[Asked], list[Problem], int]:
    """Read a file; return its requests, its problems, and the number of its rows.

    Raises
    ------
    ConfigurationError
        When the file as a whole cannot be read: no text, no CSV, unknown columns, too large.
    """
    lines = _rows(_text(content))
    _, names = next(lines, (0, []))
    header = _header(names)
    asked: list[Asked] = []
    problems: list[Problem] = []
    count = 0
    for line, cells in lines:
        count += 1
        if count > MAX_ROWS:
            raise ConfigurationError(f"The file has more than {MAX_ROWS} rows; split it.")
        request = _request(line, header, cells)
        if isinstance(request, Asked):
            asked.append(request)
        elif len(problems) < MAX_PROBLEMS:
            problems += request
    if not count:
        raise ConfigurationError("The file has a header line and no row below it.")
    return asked, problems, count


def add_batch(
    session: Session,
    content: bytes,
    name: str,
    settings: Settings,
    now: datetime,
    *,
    dry_run: bool = False,
    skip_bad: bool = False,
) -> BatchOutcome:
    """Add the requests of a file, all or none of them.

    Parameters
    ----------
    session
        Of the hospital database.
    content
        The file.
    name
        What people call it.
    settings
        The node's settings.
    now
        Timezone-aware time.
    dry_run
        Only say what would be done.
    skip_bad
        Add the good rows of a file that has bad ones.

    Raises
    ------
    ConfigurationError
        As `read_batch`.
    """
    asked, unread, count = read_batch(content)
    checked = check_requests(session, asked, settings, now)
    problems = tuple(sorted([*unread, *checked.problems], key=lambda problem: problem.line)[:MAX_PROBLEMS])
    if dry_run or not checked.rows or (problems and not skip_bad):
        return BatchOutcome(count, 0, "", problems)
    batch = RequestBatch(id=new_id(), name=name[:128], row_count=len(checked.rows), created_at=now)
    add_all(session, [{**row, "batch_id": batch.id} for row in checked.rows], batch)
    return BatchOutcome(count, len(checked.rows), batch.id, problems)


def write_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Give a table as lines of CSV, line by line; no cell is taken for a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for row in (header, *rows):
        writer.writerow([harmless(cell) for cell in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def harmless(cell: object) -> str:
    """Return a cell as text that no spreadsheet takes for a formula."""
    text = "" if cell is None else str(cell).replace("\x00", "")
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _text(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"The file has more than {MAX_BYTES / 1e6:.0f} MB; split it.")
    for start, sentence in OTHER_FORMATS:
        if content.startswith(start):
            raise ConfigurationError(f"The file {sentence}.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"The file is not UTF-8 (line {line}); save it as CSV (UTF-8).") from None
    if "\x00" in text:
        raise ConfigurationError("The file is not text: it holds zero bytes.")
    return text


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Give line number and cells of every row that is not empty; the number is that of the row's first line."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    end = 0
    try:
        for cells in reader:
            start, end = end + 1, reader.line_num
            if any(cell.strip() for cell in cells):
                yield start, [cell.strip() for cell in cells]
    except csv.Error:
        raise ConfigurationError(f"Line {end + 1} is no CSV: a quote is not closed, or stands inside a cell.") from None


def _header(cells: list[str]) -> tuple[str, ...]:
    """Return the names of the columns, checked."""
    names = tuple(cell.lower() for cell in cells)
    if not any(name in COLUMNS for name in names):
        raise ConfigurationError(f"The first line names no column; possible are {', '.join(COLUMNS)}.")
    unknown = [str(number) for number, name in enumerate(names, start=1) if name not in COLUMNS]
    if unknown:
        raise ConfigurationError(f"Column {', '.join(unknown)} has a name that is none of {', '.join(COLUMNS)}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"The column {', '.join(twice)} is there more than once.")
    if "reference" not in names:
        raise ConfigurationError("The column reference is missing.")
    if not {"patient_id", "accession_number"} & set(names):
        raise ConfigurationError("The column patient_id or accession_number is missing; one of them is needed.")
    return names


def _request(line: int, header: tuple[str, ...], cells: list[str]) -> Asked | list[Problem]:
    if len(cells) != len(header):
        return [Problem(line, "", f"has {len(cells)} cells; the header has {len(header)}")]
    if any(len(cell) > MAX_CELL for cell in cells):
        return [Problem(line, "", f"has a cell of more than {MAX_CELL} characters")]
    values = {name: _value(name, cell) for name, cell in zip(header, cells, strict=True) if cell}
    try:
        return Asked(RequestIn.model_validate(values), line)
    except ValidationError as error:
        return problems_of(error.errors(include_input=False, include_url=False, include_context=False), line)


def _value(name: str, cell: str) -> str:
    """Take a decimal comma, as spreadsheets in many countries write it, for a point."""
    return cell.replace(",", ".") if name in NUMBERS else cell
