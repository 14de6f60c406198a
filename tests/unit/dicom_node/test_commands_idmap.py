"""``osteonode idmap``: what people see, what they do not, and what the audit says afterwards."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from dicom_node.cli import main
from dicom_node.logs import configure_logging

MRN = "QX-774411"


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of its own, and pytest's log handlers back afterwards."""
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    handlers = logging.getLogger().handlers[:]
    yield tmp_path
    logging.getLogger().handlers[:] = handlers
    configure_logging()
    logging.getLogger().handlers[:] = handlers


def table(node: Path, *lines: str) -> str:
    path = node / "map.csv"
    path.write_text("\n".join(("mrn,issuer,pseudonym,project", *lines, "")))
    return str(path)


def test_import_look_up_export_and_audit(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["idmap", "import", table(node, f"{MRN},W,S-1,default"), "--dry-run"]) == 0
    assert main(["idmap", "import", table(node, f"{MRN},W,S-1,default")]) == 0
    output = capsys.readouterr()
    assert "1 patients would be added" in output.out
    assert "1 patients added" in output.out
    assert MRN not in output.out + output.err

    assert main(["idmap", "lookup", "S-1", "--administrator", "Dr. Who"]) == 0
    assert MRN in capsys.readouterr().out
    out = node / "out.csv"
    assert main(["idmap", "export", str(out), "--project", "default", "--administrator", "Dr. Who"]) == 0
    assert MRN in out.read_text()
    assert main(["idmap", "audit"]) == 0
    output = capsys.readouterr()
    assert [word in output.out for word in ("import", "lookup", "export", "Dr. Who", "chain of 3 rows is whole")] == (
        [True] * 5
    )
    assert MRN not in output.out + output.err


@pytest.mark.parametrize(
    "command",
    [["lookup", "S-1"], ["export", "x.csv", "--project", "default"], ["correct", "S-1", "x"], ["move-study", "x"]],
)
def test_without_an_administrator_nothing_is_shown(
    node: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    main(["idmap", "import", table(node, f"{MRN},W,S-1,default")])
    assert main(["idmap", *command]) == 1
    output = capsys.readouterr().out
    assert "--administrator" in output
    assert MRN not in output
    assert not Path("x.csv").exists()


def test_a_number_typed_in_a_pseudonyms_place_does_not_reach_the_audit(
    node: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["idmap", "lookup", MRN, "--administrator", "A"]) == 1
    main(["idmap", "audit"])
    output = capsys.readouterr()
    assert "unknown" in output.out
    assert MRN not in output.out + output.err


def test_problems_are_printed_by_line_and_the_exit_code_says_so(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{MRN}-{n},,S-1,default" for n in range(60)]
    assert main(["idmap", "import", table(node, *lines)]) == 1
    output = capsys.readouterr()
    assert "line 3: collision: the same pseudonym as line 2" in output.out
    assert "... and 9 more." in output.out
    assert "59 problems; nothing was imported" in output.out
    assert MRN not in output.out + output.err


def test_keys_are_rotated_twice_and_the_map_stays(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["idmap", "import", table(node, f"{MRN},W,S-1,default")])
    assert main(["idmap", "rotate-key"]) == 0
    assert main(["idmap", "rotate-key", "--uid-key"]) == 0
    keys = {path.name for path in (node / "data/hospital/keys").iterdir()}
    assert keys == {f"{kind}-{n}.key" for kind in ("column", "index") for n in (1, 2, 3)} | {"uid-1.key", "uid-2.key"}
    assert "1 rows are encrypted with key version 3" in capsys.readouterr().out
    assert main(["idmap", "lookup", "S-1", "--administrator", "A"]) == 0
    assert MRN in capsys.readouterr().out


def test_a_rotation_that_was_cut_off_is_finished_first(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dicom_node.identity.keys import add_version

    main(["idmap", "import", table(node, f"{MRN},W,S-1,default")])
    add_version(node / "data/hospital/keys")
    assert main(["idmap", "rotate-key"]) == 0
    assert "Finishing the rotation to key version 2" in capsys.readouterr().out
    assert not (node / "data/hospital/keys/column-3.key").exists()


def test_a_corrected_header_and_a_moved_study_are_taken_over(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["idmap", "import", table(node, f"{MRN},W,S-1,default")])
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientID, ds.IssuerOfPatientID, ds.PatientBirthDate = MRN, "W", "19500102"
    (node / "study").mkdir()
    ds.save_as(node / "study/x.dcm", implicit_vr=False, little_endian=True, enforce_file_format=False)
    file = node / "study/y.dcm"
    from dicom_node.storage.part10 import file_head

    head = file_head(ds.SOPClassUID, ds.SOPInstanceUID, "1.2.840.10008.1.2.1")
    file.write_bytes(head + (node / "study/x.dcm").read_bytes())
    (node / "study/x.dcm").unlink()
    assert main(["idmap", "correct", "S-1", str(file), "--administrator", "A"]) == 0
    assert main(["idmap", "move-study", str(file.parent), "--administrator", "A"]) == 0
    assert main(["idmap", "correct", "S-2", str(file), "--administrator", "A"]) == 1
    assert main(["idmap", "correct", "S-1", table(node), "--administrator", "A"]) == 1
    main(["idmap", "audit"])
    output = capsys.readouterr().out
    assert "0 UIDs belong to S-1 now" in output
    assert "chain of 3 rows is whole" in output
    assert MRN not in output


def test_every_command_is_in_the_document() -> None:
    page = (Path(__file__).parents[3] / "docs/identity-map.md").read_text()
    for action in ("import", "export", "lookup", "correct", "move-study", "rotate-key", "audit"):
        assert f"osteonode idmap {action}" in page
