"""``osteonode audit ...``: list, check and export the audit. Listing and exporting it are events of it themselves."""

import argparse
import os
from datetime import UTC
from getpass import getpass

from rich.console import Console
from rich.table import Table

from dicom_node import clock
from dicom_node.audit.check import check_all
from dicom_node.audit.codes import OUTCOMES
from dicom_node.audit.events import audit_read
from dicom_node.audit.export import FORMATS
from dicom_node.audit.patients import patient_indexes
from dicom_node.audit.recorder import record
from dicom_node.audit.upkeep import problems
from dicom_node.commands.operator import operator
from dicom_node.db.audit import messages_after, page_of_messages
from dicom_node.db.session import prepare_databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.identity.keys import load_keys
from dicom_node.settings import Settings


def list_audit(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """List events, the newest last."""
    databases = prepare_databases(settings)
    patients = _patient_indexes(settings) if options.patient else []
    record(databases, settings, audit_read(operator(), f"the last {options.last} rows"))
    with transaction(databases.hospital) as session:
        rows = page_of_messages(
            session, options.last, kinds=options.kind or [], patients=patients, study_instance_uid=options.study or ""
        )
    table = Table("row", "time (UTC)", "kind", "who", "what", "outcome")
    for row in reversed(rows):
        time = row.at.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
        table.add_row(str(row.number), time, row.kind, row.who, row.sentence, OUTCOMES[row.outcome])
    console.print(table, markup=False, highlight=False)


def verify_audit(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Check the chain of hashes from its start."""
    databases = prepare_databases(settings)
    with transaction(databases.hospital) as session:
        check = check_all(session, options.expect or "")
    for sentence in (*check.faults, *problems(databases, settings, clock.now())):
        console.print(sentence, highlight=False, markup=False)
    if check.faults:
        raise ConfigurationError(f"The audit is not whole: {len(check.faults)} faults.")
    if check.last.number:
        console.print(
            f"The chain of {check.last.number} rows is whole. Last hash: {check.last.row_hash}", highlight=False
        )
    else:
        console.print("The audit is empty.")


def export_audit(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Write the audit, or its newer part, to a new file, mode 0600."""
    databases = prepare_databases(settings)
    first = options.from_row
    record(databases, settings, audit_read(operator(), f"rows from {first} on, to a file ({options.format})"))
    try:
        descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(f"The file {options.file} cannot be made ({error.strerror}).") from None
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file, transaction(databases.hospital) as session:
        file.writelines(FORMATS[options.format](messages_after(session, first - 1)))
    console.print(f"The audit from row {first} on is in {options.file}.", highlight=False, markup=False)


def _patient_indexes(settings: Settings) -> list[str]:
    """Ask for a patient, so that the number is in no list of processes or history of commands."""
    number = getpass("Patient ID (not shown): ")
    issuer = getpass("Issuer, empty for none (not shown): ")
    return patient_indexes(load_keys(settings.keys), number, issuer)
