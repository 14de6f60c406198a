"""``osteonode request``: what it takes, prints and writes."""

import csv
import io
from pathlib import Path

import pytest
from request_fakes import add_queried_peer

from dicom_node.cli import main
from dicom_node.db.session import Databases
from dicom_node.settings import Settings


@pytest.fixture
def run(databases: Databases, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(settings.data_dir))
    add_queried_peer(databases)

    def command(*words: str, code: int = 0) -> str:
        assert main(["request", *words]) == code
        return capsys.readouterr().out

    return command


def test_a_request_is_asked_for_shown_cancelled_and_begun_again(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("4711-Z\n"))
    told = run("add", "TRIAL-1", "--patient-id", "-", "--height-cm", "163", "--sex", "F")
    request_id = told.split("request ")[1].strip(" .\n")
    assert "4711" not in told
    assert "TRIAL-1" in run("list", "--state", "waiting")
    run("cancel", request_id)
    assert "CANCELLED" in run("show", request_id)
    run("retry", request_id)
    assert "WAITING" in run("show", request_id)
    assert "no match 3" in run("choose", request_id, "3", code=1)


def test_a_wrong_request_is_refused_in_words(run) -> None:
    told = run("add", "TRIAL-1", "--patient-id", "SECRET*", "--height-m", "163", code=1)
    assert "would match other patients" in told
    assert "SECRET" not in told


def test_a_file_is_checked_asked_for_and_its_results_are_written(run, tmp_path: Path) -> None:
    file, bad, results = tmp_path / "good.csv", tmp_path / "bad.csv", tmp_path / "results.csv"
    file.write_text("reference,patient_id\nT-1,P1\nT-2,P2\n")
    bad.write_text("reference,patient_id\nT-8,P8\nT-9,P9*\n")
    assert "2 rows, all right" in run("batch", str(file), "--dry-run")
    told = run("batch", str(bad), code=1)
    assert "line 3: patient_id" in told
    assert "nothing was written" in told
    assert "1 of 2 rows asked for" in run("batch", str(bad), "--skip-bad")
    batch_id = run("batch", str(file)).split("batch ")[1].strip(" .\n")
    run("results", batch_id, str(results))
    assert [row["reference"] for row in csv.DictReader(results.open())] == ["T-1", "T-2"]
    assert "exists; name a new file" in run("results", batch_id, str(results), code=1)
    assert "2 requests of the batch cancelled" in run("cancel", batch_id, "--batch")
    assert "cannot be read" in run("batch", str(tmp_path / "none.csv"), code=1)
