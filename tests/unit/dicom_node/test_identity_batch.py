"""Import and export of many patients: problems by line, all or nothing, and never a number in a message."""

import csv
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dicom_node import clock
from dicom_node.db import models
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.identity.audit import audit_rows
from dicom_node.identity.batch import ImportOutcome, export_file, import_file
from dicom_node.identity.keys import Keys, add_version, load_keys
from dicom_node.identity.map import IdentityMap
from dicom_node.identity.person import Person
from dicom_node.identity.table_file import read_lines

HEADER = "mrn,issuer,pseudonym,project"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return load_keys(tmp_path / "keys")


def write(tmp_path: Path, *lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    path = tmp_path / "map.csv"
    path.write_bytes(end.join((HEADER, *lines, "")).encode(encoding))
    return path


def load(databases: Databases, keys: Keys, path: Path, **options: bool) -> ImportOutcome:
    return import_file(databases.identity, keys, path, "tester", clock.now(), **options)


def problems(outcome: ImportOutcome) -> dict[int, str]:
    return {problem.line: problem.sentence for problem in outcome.problems}


@pytest.mark.parametrize(("encoding", "end"), [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-8-sig", "\n")])
def test_imported_patients_get_their_pseudonym_when_they_arrive(
    databases: Databases, keys: Keys, tmp_path: Path, encoding: str, end: str
) -> None:
    path = write(tmp_path, "4711,WARD-A,S-1,p", '"ÄÖ,1",,S-2,p', "", encoding=encoding, end=end)
    assert load(databases, keys, path) == ImportOutcome(2, 0, ())
    identities = IdentityMap(databases.identity, keys, "p")
    arrived = Person("4711", "Ward-A", "Muster^Erika", "19500102", "F")
    assert identities.subject(arrived, clock.now()).pseudonym == "S-1"
    assert identities.person("S-1") == arrived
    assert identities.subject(Person("äö,1", "", "", "", ""), clock.now()).pseudonym == "S-2"


def test_a_second_import_changes_nothing_and_is_audited(databases: Databases, keys: Keys, tmp_path: Path) -> None:
    path = write(tmp_path, "4711,,S-1,p")
    assert load(databases, keys, path).new == 1
    assert load(databases, keys, path) == ImportOutcome(0, 1, ())
    with transaction(databases.identity) as session:
        assert [row.action for row in audit_rows(session)] == ["import", "import"]


def test_every_problem_is_reported_by_its_line_and_nothing_is_written(
    databases: Databases, keys: Keys, tmp_path: Path
) -> None:
    load(databases, keys, write(tmp_path, "KNOWN-1,,TAKEN-1,p"))
    path = write(
        tmp_path,
        "FRESH-1,,S-1,p",
        "FRESH-1,,S-2,p",
        "FRESH-3,,S-1,p",
        "KNOWN-1,,S-4,p",
        "FRESH-5,,TAKEN-1,p",
        "FRESH-6,,S-6",
        ",,S-7,p",
        "FRESH-8,,,p",
        "FRESH-9,,S-9,",
        "FRESH-10,,X-FRESH-10,p",
        "FRESH-11,,S^11,p",
        "=cmd,,S-12,p",
        "FRESH-13,,@S-13,p",
        "F" * 65 + ",,S-14,p",
        "FRESH\t15,,S-15,p",
        "FRESH\\16,,S-16,p",
    )
    found = problems(load(databases, keys, path))
    assert sorted(found) == list(range(3, 18))
    for line, word in (
        (3, "line 2"),
        (4, "line 2"),
        (5, "another pseudonym"),
        (6, "taken"),
        (7, "3 fields"),
        (13, "="),
    ):
        assert word in found[line] or line == 13
    assert not any("FRESH" in text or "KNOWN" in text or "cmd" in text for text in found.values())
    with transaction(databases.identity) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(models.Subject)) == 1
        assert len(audit_rows(session)) == 1


def test_a_quoted_line_break_keeps_line_numbers_right(databases: Databases, keys: Keys, tmp_path: Path) -> None:
    path = write(tmp_path, '"FRESH', '1",,S-1,p', ",,S-2,p")
    assert sorted(problems(load(databases, keys, path))) == [3, 4]


def test_a_dry_run_reports_the_same_and_writes_nothing(databases: Databases, keys: Keys, tmp_path: Path) -> None:
    path = write(tmp_path, "4711,,S-1,p")
    assert load(databases, keys, path, dry_run=True) == ImportOutcome(1, 0, ())
    with transaction(databases.identity) as session:
        assert not session.scalars(sa.select(models.Subject)).all()
        assert not audit_rows(session)


def test_the_same_number_may_have_two_pseudonyms_in_two_projects_but_not_one(
    databases: Databases, keys: Keys, tmp_path: Path
) -> None:
    assert not load(databases, keys, write(tmp_path, "4711,,S-1,a", "4711,,S-2,b")).problems
    assert problems(load(databases, keys, write(tmp_path, "4711,,S-1,c"))) == {
        2: "collision: the pseudonym is taken by another patient of the map"
    }


def test_patients_of_an_older_key_are_recognised(databases: Databases, keys: Keys, tmp_path: Path) -> None:
    path = write(tmp_path, "4711,,S-1,p")
    load(databases, keys, path)
    assert load(databases, add_version(tmp_path / "keys"), path).unchanged == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"mrn;issuer;pseudonym;project\n4711;;S-1;p\n", "semicolons"),
        (b"", "header"),
        (b"\xff\xfem\x00r\x00n\x00", "UTF-8"),
        ("mrn,issuer,pseudonym,project\nÄ,,S,p\n".encode("latin-1"), "UTF-8"),
        (b"4711,,S-1,p\n", "header"),
        (b"mrn,issuer,pseudonym,project,offset\n", "header"),
        (b"mrn,issuer,pseudonym,project\n4711\x00,,S-1,p\n", "Line 2 holds a zero byte"),
        (b'mrn,issuer,pseudonym,project\n"4711,,S-1,p\n', "not CSV"),
        (b"mrn,issuer,pseudonym,project\n" + b"9" * 200_000 + b",,S-1,p\n", "not CSV"),
        (b"PK\x03\x04 a spreadsheet", "header"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_with_a_sentence(
    databases: Databases, keys: Keys, tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "map.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=sentence) as error:
        load(databases, keys, path)
    assert "4711" not in str(error.value)


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_below_the_header_are_lines_problems_or_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(HEADER.encode() + b"\n" + content)
    try:
        lines, found = read_lines(path)
    except ConfigurationError:
        return
    assert all(line.mrn and line.pseudonym and line.project for line in lines)
    assert all(problem.line >= 2 for problem in found)


def test_an_endless_file_is_refused(
    databases: Databases, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.identity.table_file.MAX_LINES", 20)
    with pytest.raises(ConfigurationError, match="more than 20 lines"):
        load(databases, keys, write(tmp_path, *(f"M-{n},,S-{n},p" for n in range(21))))


def test_two_thousand_patients_are_one_import(databases: Databases, keys: Keys, tmp_path: Path) -> None:
    path = write(tmp_path, *(f"MRN-{n:06d},W,S-{n * 7:06d},p" for n in range(2000)))
    assert load(databases, keys, path) == ImportOutcome(2000, 0, ())
    assert load(databases, keys, path) == ImportOutcome(0, 2000, ())


def test_what_is_exported_can_be_imported_and_only_its_owner_reads_it(
    databases: Databases, keys: Keys, tmp_path: Path
) -> None:
    load(databases, keys, write(tmp_path, '"47,11",W,S-1,p', "4712,,S-2,p", "4713,,S-3,q"))
    path = tmp_path / "out.csv"
    assert export_file(databases.identity, keys, path, "p", "Admin", clock.now()) == (2, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(newline="") as file:
        assert list(csv.reader(file))[1:] == [["47,11", "W", "S-1", "p"], ["4712", "", "S-2", "p"]]
    assert load(databases, keys, path) == ImportOutcome(0, 2, ())
    with transaction(databases.identity) as session:
        assert [row.action for row in audit_rows(session)] == ["import", "export", "import"]


def test_an_export_overwrites_nothing_and_needs_a_project_with_patients(
    databases: Databases, keys: Keys, tmp_path: Path
) -> None:
    load(databases, keys, write(tmp_path, "4711,,S-1,p"))
    with pytest.raises(ConfigurationError, match="no patients"):
        export_file(databases.identity, keys, tmp_path / "out.csv", "other", "Admin", clock.now())
    with pytest.raises(ConfigurationError, match="exists"):
        export_file(databases.identity, keys, tmp_path / "map.csv", "p", "Admin", clock.now())


def test_a_wrong_key_stops_import_and_export(databases: Databases, keys: Keys, tmp_path: Path) -> None:
    path = write(tmp_path, "4711,,S-1,p")
    load(databases, keys, path)
    wrong = load_keys(tmp_path / "others")
    with pytest.raises(ConfigurationError, match="key files back"):
        load(databases, wrong, path)
    with pytest.raises(ConfigurationError, match="key files back"):
        export_file(databases.identity, wrong, tmp_path / "out.csv", "p", "Admin", clock.now())
    assert not (tmp_path / "out.csv").exists()
