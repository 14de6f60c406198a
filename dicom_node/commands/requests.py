"""``osteonode request ...``."""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from dicom_node import clock
from dicom_node.db.requests import cancel, cancel_batch, choose_match, retry
from dicom_node.db.session import prepare_databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.pipeline.requests_adding import add_request
from dicom_node.pipeline.requests_csv import add_batch
from dicom_node.pipeline.requests_input import Problem, RequestIn, problems_of
from dicom_node.settings import Settings
from dicom_node.storage.files import write_durably
from dicom_node.web import request_views as views

FIELDS = tuple(name for name in RequestIn.model_fields if name != "reference")
FROM_INPUT = "-"
"""A patient id or accession number given so is read from standard input: no shell remembers it."""


def add(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Ask for one study."""
    values = {name: getattr(options, name) for name in FIELDS if getattr(options, name) is not None}
    for name in ("patient_id", "accession_number"):
        if values.get(name) == FROM_INPUT:
            values[name] = sys.stdin.readline().strip()
    try:
        asked = RequestIn.model_validate({"reference": options.reference, **values})
    except ValidationError as error:
        _refuse(problems_of(error.errors(include_input=False, include_url=False, include_context=False)))
    with transaction(prepare_databases(settings).hospital) as session:
        request_id = add_request(session, asked, settings, clock.now())
    console.print(f"Asked for {asked.reference}: request {request_id}.", highlight=False, markup=False)


def list_all(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the newest requests, and the batches."""
    databases = prepare_databases(settings)
    page = views.page(databases, settings, (options.state or "").upper(), options.batch or "", options.last)
    if page.batches and not options.batch:
        batches = Table("batch", "file", "rows", "waiting", "to choose", "running", "done", "failed", "cancelled")
        for one in page.batches:
            numbers = (one.row_count, one.waiting, one.to_choose, one.running, one.done, one.failed, one.cancelled)
            batches.add_row(one.id, one.name, *map(str, numbers))
        console.print(batches)
    table = Table("request", "reference", "state", "images", "job", "what happened")
    for row in page.requests:
        images = f"{row.received_count}/{row.expected_count}" if row.expected_count else ""
        table.add_row(row.id, row.reference, row.state, images, row.job_state, row.sentence)
    console.print(table)


def show(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print one request: the studies to choose from, and its history."""
    row = views.request(prepare_databases(settings), options.request)
    console.print(f"{row.reference}: {row.state}. {row.sentence}", highlight=False, markup=False)
    if row.matches:
        table = Table("match", "date", "modalities", "description", "images", "in")
        for match in row.matches:
            number = "?" if match.instance_count is None else str(match.instance_count)
            table.add_row(str(match.id), match.study_date, match.modalities, match.description, number, match.peer)
        console.print(table)
    for event in row.history:
        console.print(f"{_time(event.at)} {event.state} {event.sentence}", highlight=False, markup=False)


def choose(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Choose the study that is meant."""
    with transaction(prepare_databases(settings).hospital) as session:
        row = choose_match(session, options.request, options.match, clock.now())
    console.print(f"{row.reference} is retrieved.", highlight=False, markup=False)


def end(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Cancel a request, or the rest of a batch."""
    databases = prepare_databases(settings)
    with transaction(databases.hospital) as session:
        if options.batch:
            count = cancel_batch(session, options.request, clock.now())
            console.print(f"{count} requests of the batch cancelled.", highlight=False)
            return
        row = cancel(session, options.request, clock.now())
    console.print(f"{row.reference} cancelled.", highlight=False, markup=False)


def again(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Begin requests that failed or were cancelled again."""
    with transaction(prepare_databases(settings).hospital) as session:
        rows = [retry(session, one, clock.now()) for one in options.request]
    console.print(f"{len(rows)} requests begun again.", highlight=False)


def batch(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Ask for every study of a CSV file."""
    content = _content(options.file)
    with transaction(prepare_databases(settings).hospital) as session:
        outcome = add_batch(
            session,
            content,
            options.file.name,
            settings,
            clock.now(),
            dry_run=options.dry_run,
            skip_bad=options.skip_bad,
        )
    for problem in outcome.problems:
        console.print(str(problem), highlight=False, markup=False)
    if outcome.added_count:
        console.print(f"{outcome.added_count} of {outcome.row_count} rows asked for: batch {outcome.batch_id}.")
    elif outcome.problems:
        raise ConfigurationError(f"{outcome.row_count} rows, {len(outcome.problems)} problems: nothing was written.")
    else:
        console.print(f"{outcome.row_count} rows, all right; nothing was written.")


def results(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Write the results of a batch to a CSV file, by reference."""
    if options.file.exists():
        raise ConfigurationError(f"{options.file} exists; name a new file.")
    lines = views.result_lines(prepare_databases(settings), options.batch)
    write_durably(options.file, (line.encode() for line in lines))
    console.print(f"Results written to {options.file}.", highlight=False, markup=False)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}).") from None


def _refuse(problems: Sequence[Problem]) -> NoReturn:
    raise ConfigurationError("; ".join(map(str, problems)))


def _time(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
