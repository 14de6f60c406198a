"""Many patients at once: import of pseudonyms given elsewhere, and export of the map.

An import is one transaction: one line with a problem, and nothing is written.
"""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db import models
from dicom_node.db.session import transaction
from dicom_node.errors import ConfigurationError
from dicom_node.identity.audit import AuditEntry, write_audit
from dicom_node.identity.cipher import identity_index, unseal
from dicom_node.identity.keys import Keys
from dicom_node.identity.map import VALUES_PER_QUERY, new_subject, subject_row
from dicom_node.identity.person import Person, person_from_text
from dicom_node.identity.register import check_keys, hold
from dicom_node.identity.table_file import COLUMNS, FORMULA_STARTS, Line, Problem, read_lines


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What an import did, or would do."""

    new: int
    unchanged: int
    problems: tuple[Problem, ...]


def import_file(
    engine: sa.Engine, keys: Keys, path: Path, actor: str, now: datetime, *, dry_run: bool = False
) -> ImportOutcome:
    """Import a CSV of patients and pseudonyms.

    Parameters
    ----------
    engine, keys
        The identity map.
    path
        The file.
    actor
        Who does it, for the audit.
    now
        Time of the new rows and the audit row.
    dry_run
        Whether to check only.

    Returns
    -------
    ImportOutcome
        Nothing was written when it has problems, or on a dry run.

    Raises
    ------
    ConfigurationError
        When the file cannot be read at all, or the keys are not those of the map.
    """
    lines, problems = read_lines(path)
    with transaction(engine) as session:
        hold(session)
        check_keys(session, keys)
        indexes = {line.number: _index(keys, line) for line in lines}
        problems += _clashes_within(lines, indexes)
        found, unchanged = _clashes_with_map(session, keys, lines, indexes)
        problems += found
        new = [line for line in lines if line.number not in unchanged]
        if not problems and not dry_run:
            _insert(session, keys, new, now)
            detail: dict[str, str | int] = {"lines": len(lines), "new": len(new), "unchanged": len(unchanged)}
            write_audit(session, AuditEntry("import", actor, detail), now)
    return ImportOutcome(len(new), len(unchanged), tuple(sorted(set(problems))))


def _index(keys: Keys, line: Line) -> str:
    return identity_index(keys.index, line.mrn, line.issuer, line.project)


def _clashes_within(lines: list[Line], indexes: dict[int, str]) -> Iterator[Problem]:
    """Yield the lines that repeat a patient or a pseudonym of an earlier line."""
    patients: dict[str, int] = {}
    pseudonyms: dict[str, int] = {}
    for line in lines:
        first = patients.setdefault(indexes[line.number], line.number)
        if first != line.number:
            yield Problem(line.number, f"duplicate: the same patient and project as line {first}")
        first = pseudonyms.setdefault(line.pseudonym.upper(), line.number)
        if first != line.number:
            yield Problem(line.number, f"collision: the same pseudonym as line {first}")


def _clashes_with_map(
    session: Session, keys: Keys, lines: list[Line], indexes: dict[int, str]
) -> tuple[list[Problem], set[int]]:
    """Return the lines that contradict the map, and the numbers of those it holds already."""
    by_index: dict[str, str] = {}
    for version in keys.versions:
        wanted = {identity_index(version.index, line.mrn, line.issuer, line.project): line for line in lines}
        for blind, pseudonym in _pairs(session, models.Subject.blind_index, wanted):
            by_index[indexes[wanted[blind].number]] = pseudonym
    taken = {pseudonym for _, pseudonym in _pairs(session, models.Subject.pseudonym, {one.pseudonym for one in lines})}
    problems, unchanged = [], set()
    for line in lines:
        known = by_index.get(indexes[line.number])
        if known == line.pseudonym:
            unchanged.add(line.number)
        elif known is not None:
            problems.append(Problem(line.number, "collision: the map knows the patient by another pseudonym"))
        elif line.pseudonym in taken:
            problems.append(Problem(line.number, "collision: the pseudonym is taken by another patient of the map"))
    return problems, unchanged


def _pairs(
    session: Session, column: sa.orm.InstrumentedAttribute[str], values: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield (blind index, pseudonym) of the rows with one of the values."""
    remaining = iter(values)
    while chunk := list(islice(remaining, VALUES_PER_QUERY)):
        rows = session.execute(select(models.Subject.blind_index, models.Subject.pseudonym).where(column.in_(chunk)))
        yield from ((blind, pseudonym) for blind, pseudonym in rows)


def _insert(session: Session, keys: Keys, lines: list[Line], now: datetime) -> None:
    session.add_all(
        subject_row(
            keys,
            Person(line.mrn, line.issuer, "", "", ""),
            new_subject(line.pseudonym),
            line.project,
            now,
        )
        for line in lines
    )
    session.flush()


def export_file(engine: sa.Engine, keys: Keys, path: Path, project: str, actor: str, now: datetime) -> tuple[int, int]:
    """Write the patients of a project in the form an import reads, for its owner only to read.

    The audit row is committed before the file is written: there is no export without one.

    Returns
    -------
    tuple of int
        Rows written, and how many of them begin like a spreadsheet formula.

    Raises
    ------
    ConfigurationError
        When the project has no patients, the file exists or cannot be made, or a row does not decrypt.
    """
    with transaction(engine) as session:
        check_keys(session, keys)
        rows = session.scalars(
            select(models.Subject).where(models.Subject.project == project).order_by(models.Subject.pseudonym)
        ).all()
        if not rows:
            raise ConfigurationError("The map has no patients of this project; nothing was written.")
        table = [_export_row(keys, row) for row in rows]
        write_audit(session, AuditEntry("export", actor, {"project": project, "rows": len(table)}), now)
    _write_private(path, table)
    return len(table), sum(any(value.startswith(FORMULA_STARTS) for value in row) for row in table)


def _export_row(keys: Keys, row: models.Subject) -> tuple[str, str, str, str]:
    person = person_from_text(unseal(keys, row.identity, "subjects.identity", row.id, row.key_id))
    return person.patient_id, person.issuer, row.pseudonym, row.project


def _write_private(path: Path, table: list[tuple[str, str, str, str]]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(table)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigurationError(f"{path} exists; name a new file.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}).") from None
