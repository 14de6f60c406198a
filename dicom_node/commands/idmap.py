"""``osteonode idmap ...``: the identity map. Only ``lookup`` and ``export`` ever show who a pseudonym is."""

import argparse
from datetime import UTC

import sqlalchemy as sa
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dicom_node import clock
from dicom_node.audit.events import Event, configuration_changed, exported, patient_record
from dicom_node.audit.recorder import record
from dicom_node.commands.operator import login_name, operator
from dicom_node.db.session import open_databases, prepare_databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.identity.audit import AuditEntry, audit_faults, audit_rows, require_name, write_audit
from dicom_node.identity.batch import export_file, import_file
from dicom_node.identity.keys import Keys, add_version, load_keys
from dicom_node.identity.map import IdentityMap
from dicom_node.identity.person import person_from_header
from dicom_node.identity.register import check_keys, hold
from dicom_node.identity.rotation import rewrite_rows, rows_behind
from dicom_node.pipeline.deid_folder import files_of
from dicom_node.pipeline.deidentification import read_headers, single_person
from dicom_node.settings import Settings

SHOWN_PROBLEMS = 50
STUDY_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def import_map(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Import pseudonyms from a CSV file."""
    engine = _engine(settings)
    keys = load_keys(settings.keys)
    outcome = import_file(engine, keys, options.file, login_name(), clock.now(), dry_run=options.dry_run)
    for problem in outcome.problems[:SHOWN_PROBLEMS]:
        console.print(f"line {problem.line}: {problem.sentence}", highlight=False, markup=False)
    if len(outcome.problems) > SHOWN_PROBLEMS:
        console.print(f"... and {len(outcome.problems) - SHOWN_PROBLEMS} more.", highlight=False)
    if outcome.problems:
        raise ConfigurationError(f"The file has {len(outcome.problems)} problems; nothing was imported.")
    if not options.dry_run:
        _tell(settings, patient_record(operator(), "C", f"Pseudonyms of {outcome.new} patients were imported."))
    verb = "would be added" if options.dry_run else "added"
    console.print(f"{outcome.new} patients {verb}, {outcome.unchanged} known already.", highlight=False)


def export_map(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Export a project's patients to a CSV file."""
    actor = _administrator(options)
    engine = _engine(settings)
    rows, formulas = export_file(engine, load_keys(settings.keys), options.file, options.project, actor, clock.now())
    _tell(settings, exported(operator(), "a file", f"The identity map of {rows} patients, for {actor},"))
    console.print(f"{rows} patients written to {options.file}, readable by you only.", highlight=False, markup=False)
    if formulas:
        console.print(f"{formulas} rows begin like a spreadsheet formula; open the file as text.", highlight=False)


def lookup(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print who a pseudonym is."""
    actor = _administrator(options)
    engine = _engine(settings)
    identities = IdentityMap(engine, load_keys(settings.keys), settings.project)
    person = identities.person(options.pseudonym)
    asked = options.pseudonym if person is not None else "unknown"
    _note(engine, AuditEntry("lookup", actor, {"pseudonym": asked}))
    found = "was looked up" if person is not None else "that the map does not know was asked for"
    _tell(settings, patient_record(operator(), "R", f"A pseudonym {found}, for {actor}.", person))
    if person is None:
        raise ConfigurationError("The map does not know this pseudonym.")
    table = Table("", "", show_header=False)
    for name, value in (
        ("Patient ID", person.patient_id),
        ("Issuer", person.issuer),
        ("Name", person.name),
        ("Birth date", person.birth_date),
        ("Sex", person.sex),
    ):
        table.add_row(name, value)
    console.print(table, markup=False, highlight=False)


def correct(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Take name, birth date and sex of a patient from the header of a corrected instance."""
    actor = _administrator(options)
    engine = _engine(settings)
    ((_, header),) = read_headers([options.file])
    identities = IdentityMap(engine, load_keys(settings.keys), settings.project)
    person = person_from_header(header)
    identities.correct(options.pseudonym, person, actor, clock.now())
    _tell(settings, patient_record(operator(), "U", f"Name, birth date and sex were corrected, for {actor}.", person))
    console.print(f"{options.pseudonym} has name, birth date and sex of the file now.", highlight=False, markup=False)


def move_study(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Record a study under the patient its files name now."""
    actor = _administrator(options)
    engine = _engine(settings)
    headers = read_headers(files_of(options.folder), skip_foreign=True)
    person = single_person(headers)
    if len({str(header.get("StudyInstanceUID", "")) for _, header in headers}) != 1:
        raise ConfigurationError("The folder holds several studies; one is expected.")
    uids = (str(header.get(keyword, "")) for _, header in headers for keyword in STUDY_UIDS)
    identities = IdentityMap(engine, load_keys(settings.keys), settings.project)
    pseudonym, moved = identities.move_study(person, uids, actor, clock.now())
    _tell(settings, patient_record(operator(), "U", f"A study was moved to another patient, for {actor}.", person))
    console.print(f"{moved} UIDs belong to {pseudonym} now.", highlight=False, markup=False)


def rotate_key(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Make new keys and re-encrypt the map; finish a rotation that was interrupted first."""
    engine = _engine(settings)
    keys = load_keys(settings.keys)
    behind = rows_behind(engine, keys)
    if behind:
        console.print(f"Finishing the rotation to key version {keys.key_id}.", highlight=False)
    else:
        keys = _begin_rotation(settings, engine, keys, new_uid_key=options.uid_key)
        behind = rows_behind(engine, keys)
    with Progress(console=console) as bar:
        task = bar.add_task("Re-encrypting", total=behind)
        rows = rewrite_rows(engine, keys, lambda done: bar.advance(task, done))
    sentence = f"Keys of the map were rotated to version {keys.key_id}, of UIDs {keys.uid_id}."
    _tell(settings, configuration_changed(operator(), "security", "keys", sentence))
    _note(engine, AuditEntry("rotate-key", login_name(), {"key": keys.key_id, "uid_key": keys.uid_id, "rows": rows}))
    console.print(
        f"{rows} rows are encrypted with key version {keys.key_id}. Back up the new key files and restart the node.",
        highlight=False,
    )


def _begin_rotation(settings: Settings, engine: sa.Engine, keys: Keys, *, new_uid_key: bool) -> Keys:
    """Make the new keys, and register them before anything is written with them."""
    with transaction(engine) as session:
        hold(session)
        check_keys(session, keys)
    keys = add_version(settings.keys, new_uid_key=new_uid_key)
    with transaction(engine) as session:
        hold(session)
        check_keys(session, keys)
    return keys


def audit(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """List the audit and check its chain."""
    with transaction(_engine(settings)) as session:
        rows = audit_rows(session)
        faults = audit_faults(session, options.expect or "")
    table = Table("row", "time (UTC)", "action", "by", "detail")
    for row in rows[-options.last :]:
        time = row.at.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
        table.add_row(str(row.number), time, row.action, row.actor, row.detail)
    console.print(table, markup=False, highlight=False)
    for fault in faults:
        console.print(fault, highlight=False, markup=False)
    if faults:
        raise ConfigurationError(f"The audit is not whole: {len(faults)} faults.")
    if rows:
        console.print(f"The chain of {len(rows)} rows is whole. Last hash: {rows[-1].row_hash}", highlight=False)


def _engine(settings: Settings) -> sa.Engine:
    return prepare_databases(settings).identity


def _tell(settings: Settings, event: Event) -> None:
    """Tell the node's audit too."""
    databases = open_databases(settings)
    record(databases, settings, event)
    databases.dispose()


def _note(engine: sa.Engine, entry: AuditEntry) -> None:
    with transaction(engine) as session:
        write_audit(session, entry, clock.now())


def _administrator(options: argparse.Namespace) -> str:
    """Return the named administrator and the user of the operating system who runs the command."""
    return f"{require_name(options.administrator)[:44]} ({login_name()})"[:64]
