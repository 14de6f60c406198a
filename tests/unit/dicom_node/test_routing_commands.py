"""``osteonode rule`` and ``osteonode study``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_node import clock
from dicom_node.cli import main
from dicom_node.db.routing import orders_of
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import arrivals
from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.pipeline.routing_store import rules_in_force
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake

PATIENT = FakePatient()


@pytest.fixture
def run(
    settings: Settings, databases: Databases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return what runs the command on a node's data; returns its exit code and what it printed."""
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(settings.data_dir))

    def command(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(words)
        return code, " ".join(capsys.readouterr().out.split())

    return command


def names(databases: Databases) -> list[str]:
    with transaction(databases.hospital) as session:
        return [rule.name for rule in rules_in_force(session).rules]


def test_rules_are_added_listed_moved_switched_removed_and_brought_back(
    run: Callable[..., tuple[int, str]], databases: Databases
) -> None:
    add = (
        "rule",
        "add",
        "Thin hips",
        "--when",
        "slice_thickness_mm",
        "at_most",
        "1.5",
        "--when",
        "body_part",
        "one_of",
    )
    code, said = run(
        *add, "HIP,PELVIS", "--unless", "tag:ContrastBolusAgent", "present", "--pipelines", "hip", "--place", "1"
    )
    assert (code, names(databases)) == (0, ["Thin hips", "Every CT"]), said
    _, said = run("rule", "list")
    assert "body_part is one of HIP, PELVIS" in said
    run("rule", "disable", "Thin hips", "--administrator", "Olga")
    assert "(off)" in run("rule", "list")[1]
    run("rule", "move", "Thin hips", "2")
    assert names(databases) == ["Every CT", "Thin hips"]
    run("rule", "remove", "Every CT")
    assert names(databases) == ["Thin hips"]
    _, said = run("rule", "history")
    assert "Olga" in said
    assert "Removed Every CT." in said
    assert run("rule", "restore", "0")[0] == 0
    assert names(databases) == ["Every CT"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rule", "remove", "Nowhere"), "no rule named Nowhere"),
        (("rule", "add", "R", "--when", "modality"), "A condition is a field"),
        (("rule", "add", "R", "--when", "modality", "at_least", "3"), "modality takes"),
        (("rule", "add", "R", "--pipelines", "knee"), "'hip' or 'spine'"),
        (("rule", "add", "R", "--to", "Nowhere"), "no peer named Nowhere"),
        (("rule", "restore", "7"), "no revision 7"),
        (("rule", "import", "/nowhere.toml"), "cannot be read"),
        (("rule", "test", "1.2.3"), "No image"),
        (("study", "proceed", "1.2.3"), "No image"),
    ],
)
def test_what_cannot_be_done_is_said(run: Callable[..., tuple[int, str]], words: tuple[str, ...], said: str) -> None:
    code, printed = run(*words)
    assert code == 1
    assert said in printed


def test_rules_are_exported_and_imported_and_a_dry_run_changes_nothing(
    run: Callable[..., tuple[int, str]], databases: Databases, tmp_path: Path
) -> None:
    run("rule", "add", "R", "--priority", "urgent")
    for name in ("rules.toml", "rules.json"):
        assert run("rule", "export", str(tmp_path / name))[0] == 0
        assert run("rule", "export", str(tmp_path / name))[0] == 1, "a file that is there stays"
        run("rule", "remove", "R")
        code, said = run("rule", "import", str(tmp_path / name), "--dry-run")
        assert "added: R" in said
        assert (code, names(databases)) == (0, ["Every CT"])
        run("rule", "import", str(tmp_path / name))
        assert names(databases) == ["Every CT", "R"]


def test_a_folder_is_tried_and_nobody_is_named(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    scan = Scan(np.zeros((3, 4, 4)), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    write_series(scan, tmp_path / "ct", PATIENT, seed="folder")
    (tmp_path / "ct" / "notes.txt").write_text("no DICOM")
    run("rule", "add", "Thin", "--when", "slice_thickness_mm", "at_most", "1.5", "--place", "1")
    run("rule", "add", "Words", "--when", "study_description", "like", "*knee*", "--place", "2")
    code, said = run("rule", "test", str(tmp_path / "ct"), "--calling-aet", "PACS")
    assert code == 0
    assert "Thin: does not take it." in said
    assert "slice_thickness_mm is at most 1.5: it is 3" in said
    assert "Every CT: takes it." in said
    assert not [word for word in PATIENT.identifiers if word in said]
    write_series(scan, tmp_path / "ct" / "more", PATIENT, seed="other study")
    code, said = run("rule", "test", str(tmp_path / "ct"))
    assert (code, "2 studies; one is expected" in said) == (1, True)


def test_a_study_is_listed_and_told_what_to_do(
    run: Callable[..., tuple[int, str]],
    databases: Databases,
    settings: Settings,
    make_arrival: Callable[..., Arrival],
) -> None:
    Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0).keep(
        make_arrival(StudyInstanceUID="1.2.3"), clock.now()
    )
    assert "1.2.3" in run("study", "list")[1]
    assert "Every CT: takes it" in run("rule", "test", "1.2.3")[1]
    assert run("study", "discard", "1.2.3", "--administrator", "Olga")[0] == 0
    with transaction(databases.hospital) as session:
        (order,) = orders_of(session, "1.2.3")
        assert (order.action, order.actor) == ("discard", "Olga")
        assert len(arrivals(session)) == 1
