"""``osteonode import``."""

import argparse
import hashlib
import os

import sqlalchemy as sa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dicom_node import clock
from dicom_node.audit.transfers import tell_of_import
from dicom_node.commands.operator import operator
from dicom_node.db.instances import kept_contents
from dicom_node.db.session import prepare_databases, transaction
from dicom_node.errors import ConfigurationError, ImportFailed
from dicom_node.settings import Settings
from dicom_node.storage.header import HEAD_BYTES, read_header
from dicom_node.storage.importing import CALLING_AET, CAUSES, Keep, Tally, import_paths
from dicom_node.storage.intake import Arrival, Intake


def import_files(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Import files, folders and ZIP archives; the node may run or not.

    Raises
    ------
    ConfigurationError
        When a path is not there, or the data folder belongs to another user.
    ImportFailed
        When something was not imported that should have been, or nothing was found.
    """
    missing = [str(path) for path in options.paths if not path.exists()]
    if missing:
        raise ConfigurationError(f"Not there: {', '.join(missing)}.")
    _require_own(settings)
    databases = prepare_databases(settings)
    try:
        keep = _look(databases.hospital) if options.dry_run else _keep(databases.hospital, settings)
        with _bar(console) as bar:
            task = bar.add_task("Looking" if options.dry_run else "Importing", total=None)

            def show(tally: Tally) -> None:
                bar.update(task, completed=tally.done, total=tally.found)

            began_at = clock.now()
            tally = import_paths(options.paths, keep, settings.instance_limit_bytes, show)
        if not options.dry_run:
            tell_of_import(databases, settings, operator(), CALLING_AET, began_at)
    finally:
        databases.dispose()
    _print(tally, console, is_dry=options.dry_run)
    _require_success(tally)


def _require_own(settings: Settings) -> None:
    """Refuse to write files that the node could not read."""
    if settings.hospital_dir.exists() and settings.hospital_dir.stat().st_uid != os.geteuid():
        raise ConfigurationError("The data folder belongs to another user; run the import as the node's user.")


def _keep(engine: sa.Engine, settings: Settings) -> Keep:
    intake = Intake(engine, settings.hospital_dir, settings.reserve_bytes, settings.watermark_percent)
    return lambda arrival: intake.keep(arrival, clock.now())


def _look(engine: sa.Engine) -> Keep:
    """Return what only looks whether an instance would be new."""
    seen: set[tuple[str, str]] = set()

    def look(arrival: Arrival) -> bool:
        uid = read_header(arrival.dataset[:HEAD_BYTES], arrival.transfer_syntax_uid)["sop_instance_uid"]
        content = (uid, hashlib.sha256(arrival.dataset).hexdigest())
        with transaction(engine) as session:
            is_new = content not in seen and content not in kept_contents(session, [uid])
        seen.add(content)
        return is_new

    return look


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _print(tally: Tally, console: Console, *, is_dry: bool) -> None:
    table = Table("files", "what became of them" if not is_dry else "what would become of them")
    for cause, words in CAUSES.items():
        if tally.counts[cause]:
            table.add_row(str(tally.counts[cause]), words)
    console.print(table, markup=False, highlight=False)
    if is_dry:
        console.print("Nothing was imported.")


def _require_success(tally: Tally) -> None:
    if tally.sentence:
        raise ImportFailed(f"{tally.sentence} {tally.found - tally.done} files were not looked at.")
    if tally.failed:
        raise ImportFailed(f"{tally.failed} files were not imported; the table says why.")
    if not any(tally.counts[cause] for cause in ("imported", "duplicate")):
        raise ImportFailed("There is no DICOM instance among the files.")
