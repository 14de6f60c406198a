"""``osteonode deid``: de-identify a folder, or say what would be done."""

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from deid_rules.profile import Profile
from deid_rules.uids import UidMapper
from dicom_node import clock
from dicom_node.audit.events import exported
from dicom_node.audit.recorder import record
from dicom_node.commands.operator import operator
from dicom_node.db.session import prepare_databases
from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.identity.keys import load_keys
from dicom_node.identity.map import IdentityMap
from dicom_node.pipeline.deid_folder import (
    CLEAN,
    REFUSED,
    FolderTools,
    Outcome,
    deidentify_folder,
    files_of,
    report_of,
    sources_of,
)
from dicom_node.pipeline.deid_preview import preview
from dicom_node.pipeline.site_profile import load_profile
from dicom_node.settings import Settings
from dicom_node.storage.files import new_id

SHOWN_REFUSALS = 50


def deid(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """De-identify a folder of files; with ``--what-if`` print what would be done."""
    profile = load_profile(options.recipe or settings.recipe_file)
    if options.what_if:
        _say_what_if(files_of(options.folder), profile, console)
        return
    if options.out is None or options.report is None:
        raise ConfigurationError("Name an output folder and --report FILE, or ask with --what-if.")
    paths = files_of(options.folder, options.out)
    now = clock.now()
    keys = load_keys(settings.keys)
    databases = prepare_databases(settings)
    try:
        with _bar(console) as bar:
            task = bar.add_task("De-identifying", total=len(paths))
            tools = FolderTools(
                IdentityMap(databases.identity, keys, settings.project),
                UidMapper(keys.uid, settings.project),
                profile,
                now,
                lambda: bar.advance(task),
            )
            outcomes = deidentify_folder(paths, options.out, tools)
        clean = sum(outcome.kind == CLEAN for outcome in outcomes)
        record(databases, settings, exported(operator(), "a folder", f"De-identified: {clean} instances"))
    finally:
        databases.dispose()
    sources = options.sources or settings.hospital_dir / "deid" / f"{new_id()}.json"
    _write_private(sources, sources_of(outcomes))
    _write(options.report, report_of(outcomes, profile, now))
    _print_outcomes(outcomes, console)
    console.print(f"Report: {options.report}", highlight=False, markup=False)
    console.print(f"Which input file is which (hospital side only): {sources}", highlight=False, markup=False)
    if not any(outcome.kind == CLEAN for outcome in outcomes):
        raise JobRejected("No file could be de-identified; the report says why.")


def _say_what_if(paths: list[Path], profile: Profile, console: Console) -> None:
    with _bar(console) as bar:
        task = bar.add_task("Looking", total=len(paths))
        found = preview(paths, profile, lambda: bar.advance(task))
    table = Table("element", "name", "what would happen", "files")
    for (tags, name, rule), number in found.planned:
        table.add_row(tags, name, rule, str(number))
    console.print(table, markup=False, highlight=False)
    for (cause, sentence), number in found.refusals:
        console.print(f"{number} files would be refused, {cause}: {sentence}", highlight=False, markup=False)
    console.print("Nothing was written.")


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _print_outcomes(outcomes: list[Outcome], console: Console) -> None:
    """Print the totals, and the refused files by the names their operator knows."""
    table = Table("outcome", "cause", "files")
    for (kind, cause), number in sorted(Counter((one.kind, one.cause) for one in outcomes).items()):
        table.add_row(kind, cause, str(number))
    console.print(table, markup=False, highlight=False)
    refused = sorted((one for one in outcomes if one.kind == REFUSED), key=lambda one: one.source)
    for one in refused[:SHOWN_REFUSALS]:
        console.print(f"{one.source}: {one.sentence}", highlight=False, markup=False)
    if len(refused) > SHOWN_REFUSALS:
        console.print(f"... and {len(refused) - SHOWN_REFUSALS} more; see the report.", highlight=False)


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}).") from None


def _write_private(path: Path, content: dict[str, str]) -> None:
    """Write a file that only its owner can read; never overwrite one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}).") from None
