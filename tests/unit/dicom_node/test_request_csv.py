"""Batches as CSV: every bad row by its line, all or nothing, hostile files refused, nothing a spreadsheet would run."""

import time

import pytest
from request_fakes import NOON, add_queried_peer

from dicom_node.db.requests import list_requests, requests_of_batch
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.pipeline.requests_csv import MAX_ROWS, BatchOutcome, add_batch, harmless, read_batch, write_table
from dicom_node.settings import Settings

HEADER = "reference,patient_id,age_years,sex,weight_kg,height_m,ethnicity,priority"


def rows(count: int) -> bytes:
    lines = [f"T-{n:05d},P{n:06d},74,F,61.5,1.63,White,normal" for n in range(count)]
    return "\n".join([HEADER, *lines, ""]).encode()


@pytest.fixture
def load(databases: Databases, settings: Settings):
    add_queried_peer(databases)

    def run(content: bytes, **options: bool) -> BatchOutcome:
        with transaction(databases.hospital) as session:
            return add_batch(session, content, "file.csv", settings, NOON, **options)

    return run


def test_a_file_becomes_requests_in_its_order(load, databases: Databases) -> None:
    outcome = load(rows(3))
    assert (outcome.row_count, outcome.added_count, outcome.problems) == (3, 3, ())
    with transaction(databases.hospital) as session:
        found = requests_of_batch(session, outcome.batch_id)
    assert [(row.batch_line, row.reference, row.weight_kg) for row in found] == [
        (2, "T-00000", 61.5), (3, "T-00001", 61.5), (4, "T-00002", 61.5)
    ]  # fmt: skip


def test_every_bad_row_is_listed_and_nothing_is_written(load, databases: Databases) -> None:
    content = f"{HEADER}\nT-1,P1,74,F,61.5,1.63,,\nT-2,P2*,74,F,61.5,163,,\nT-3,,74,Q,61.5,1.63,,\nT-4,P4,74\n".encode()
    outcome = load(content)
    assert outcome.added_count == 0
    assert [(one.line, one.field) for one in outcome.problems] == [(3, "patient_id"), (4, "sex"), (5, "")]
    assert "P2" not in " ".join(map(str, outcome.problems))
    with transaction(databases.hospital) as session:
        assert list_requests(session) == []


def test_the_good_rows_are_written_where_that_is_asked_for(load) -> None:
    content = f"{HEADER}\nT-1,P1,74,F,61.5,1.63,,\nT-2,P2,74,F,61.5,163,,\n".encode()
    outcome = load(content, skip_bad=True)
    assert (outcome.added_count, len(outcome.problems)) == (1, 1)


def test_a_dry_run_writes_nothing(load, databases: Databases) -> None:
    assert load(rows(2), dry_run=True).problems == ()
    with transaction(databases.hospital) as session:
        assert list_requests(session) == []


def test_rows_that_ask_twice_are_found_in_the_file_and_in_the_database(load) -> None:
    outcome = load(f"{HEADER}\nT-1,P1,,,,,,\nT-1,P2,,,,,,\nT-3,P1,,,,,,\n".encode())
    assert [str(one) for one in outcome.problems] == [
        "line 3: reference: line 2 has it already",
        "line 4: line 2 asks for the same study already",
    ]
    assert load(rows(2)).added_count == 2
    again = load(rows(3))
    assert [(one.line, one.field) for one in again.problems] == [(2, "reference"), (3, "reference")]
    assert again.added_count == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column"),
        (b"\n\n", "no column"),
        (HEADER.encode(), "no row below"),
        (b"name,birthday\nA,B\n", "names no column"),
        (b"reference,patient_id,name\nT,P,N\n", "Column 3 has a name that is none of"),
        (b"reference,patient_id,patient_id\nT,P,N\n", "more than once"),
        (b"patient_id\nP1\n", "column reference is missing"),
        (b"reference\nT-1\n", "patient_id or accession_number is missing"),
        (b"PK\x03\x04aaaa", "spreadsheet's own file"),
        ("\ufeffreference,patient_id\n".encode("utf-16"), "UTF-16"),
        (b"reference,patient_id\nT-1,M\xfcller\n", "not UTF-8 (line 2)"),
        (b"reference,patient_id\nT-1,P\x001\n", "zero bytes"),
        (b'reference,patient_id\nT-1,"P1\n', "a quote is not closed"),
        (b'reference,patient_id\nT-1,"P"1\n', "stands inside a cell"),
        (bytes(range(256)) * 50, "not UTF-8 (line 2)"),
        (b"\xef\xbb\xbfreference,patient_id\n", "no row below"),
    ],
)
def test_what_is_no_table_of_requests_is_refused_with_the_reason(content: bytes, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_batch(content)
    assert words in str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spreadsheets_of_every_country_are_read(delimiter: str, start: str, end: str) -> None:
    lines = ["Reference,PATIENT_ID,weight_kg,ethnicity", 'T-1,P1,61.5,"A, B"', "", "T-2,P2,70,"]
    text = end.join(lines).replace(",", delimiter).replace(f"A{delimiter} B", "A, B")
    asked, problems, count = read_batch((start + text).encode())
    assert (problems, count) == ([], 2)
    assert (asked[0].request.weight_kg, asked[0].request.ethnicity, asked[1].line) == (61.5, "A, B", 4)


def test_a_decimal_comma_is_a_point() -> None:
    asked, _, _ = read_batch(b"reference;patient_id;weight_kg;height_m\nT-1;P1;61,5;1,63\n")
    assert (asked[0].request.weight_kg, asked[0].request.height_m) == (61.5, 1.63)


def test_a_cell_of_several_lines_does_not_shift_the_numbers() -> None:
    _, problems, _ = read_batch(b'reference,patient_id,ethnicity\nT-1,P1,"A\nB"\nT-2,P2*,\n')
    assert [one.line for one in problems] == [2, 4]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_written_cell_is_a_formula(cell: str) -> None:
    assert harmless(cell).startswith("'")
    assert "".join(write_table(["a"], [[cell]])).splitlines()[1].lstrip('"').startswith("'")


def test_a_file_of_a_hundred_thousand_rows_is_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(ConfigurationError, match=f"more than {MAX_ROWS} rows"):
        read_batch(rows(100_000))
    assert time.process_time() - began < 20, "it is not read to its end"


def test_five_thousand_rows_are_asked_for_in_seconds(load, databases: Databases) -> None:
    began = time.process_time()
    assert load(rows(5000)).added_count == 5000
    assert time.process_time() - began < 10
    assert len(load(rows(5000)).problems) == 1000, "and found again, as far as a person reads"


@pytest.mark.parametrize("project", ["other", "DEFAULT"])
def test_another_project_is_refused_and_not_ignored(load, project: str) -> None:
    (problem,) = load(f"reference,patient_id,project\nT-1,P1,{project}\n".encode()).problems
    assert "one project default" in problem.sentence
