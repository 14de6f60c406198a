"""``osteonode deid``: a folder in, clean files out, and a report without a value of the input."""

import json
import logging
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from dicom_node.cli import main
from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.identity.keys import load_keys
from dicom_node.logs import configure_logging
from dicom_node.settings import Settings

PATIENT = FakePatient()
OTHER = FakePatient(name="Zzyx^Barnaby", patient_id="QX-5150", birth_date="19330303")


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of its own, and pytest's log handlers back afterwards."""
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "250")
    handlers = logging.getLogger().handlers[:]
    yield tmp_path / "data"
    configure_logging()
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., list[Path]]:
    """Return a factory of small CT studies in a folder named like a patient."""

    def make(patient: FakePatient, seed: str, count: int = 3, folder: str = "in/Quistgaard^Wilhelmine") -> list[Path]:
        array = np.random.default_rng(len(seed)).integers(-1000, 1000, (count, 16, 16))
        return write_series(Scan(array, (3.0, 1.0, 1.0), (0, 0, 0)), tmp_path / folder / seed, patient, seed=seed)

    return make


def change(path: Path, **values: object) -> None:
    ds = dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def run(tmp_path: Path, *more: str) -> tuple[int, dict[str, Any]]:
    report = tmp_path / "report.json"
    code = main(["deid", str(tmp_path / "in"), str(tmp_path / "out"), "--report", str(report), *more])
    return code, json.loads(report.read_text()) if report.exists() else {}


def clean_files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_no_identifier_is_in_a_file_a_path_or_the_report(
    tmp_path: Path, make_study: Callable[..., list[Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    make_study(PATIENT, "a")
    make_study(OTHER, "b", folder="in/QX-5150")
    code, report = run(tmp_path)
    assert code == 0
    assert report["totals"]["outcomes"] == {"clean": 6}
    files = clean_files(tmp_path)
    assert sorted(one["file"] for one in report["files"]) == sorted(
        str(path.relative_to(tmp_path / "out")) for path in files
    )
    content = b"".join(path.read_bytes() + str(path.relative_to(tmp_path)).encode() for path in files)
    content += (tmp_path / "report.json").read_bytes()
    for identifier in (*PATIENT.identifiers, *OTHER.identifiers):
        assert identifier.encode() not in content
    assert "Wilhelmine" not in (log := capfd.readouterr().err)
    assert "QX-5150" not in log


def test_one_patient_has_one_pseudonym_and_two_have_two(tmp_path: Path, make_study: Callable[..., list[Path]]) -> None:
    for patient, seed in ((PATIENT, "a"), (PATIENT, "b"), (OTHER, "c")):
        make_study(patient, seed)
    run(tmp_path)
    pseudonyms = [str(dcmread(path).PatientID) for path in clean_files(tmp_path)]
    assert sorted(pseudonyms.count(one) for one in set(pseudonyms)) == [3, 6]
    assert all(int(path.stem) < 3 for path in clean_files(tmp_path))


def test_which_file_is_which_is_for_the_owner_on_the_hospital_side_only(
    tmp_path: Path, data_dir: Path, make_study: Callable[..., list[Path]]
) -> None:
    sources = make_study(PATIENT, "a")
    (tmp_path / "in" / "notes.txt").write_text("seen by Hallvardsson")
    _, report = run(tmp_path)
    (private,) = (data_dir / "hospital/deid").iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    names = {one.get("file") or one["id"] for one in report["files"]}
    mapping = json.loads(private.read_text())
    assert set(mapping) == names
    assert set(mapping.values()) == {str(path) for path in sources} | {str(tmp_path / "in" / "notes.txt")}


def test_each_mistake_is_refused_with_its_cause_and_the_rest_goes_on(
    tmp_path: Path, make_study: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(FakePatient(patient_id=""), "empty")
    change(make_study(PATIENT, "two")[0], PatientID=OTHER.patient_id)
    change(make_study(OTHER, "issuer")[0], IssuerOfPatientID="")
    twins = make_study(PATIENT, "twins")
    shutil.copy(twins[0], twins[0].with_name("copy.dcm"))
    shutil.copy(twins[1], twins[1].with_name("twin.dcm"))
    change(twins[1], SeriesNumber=99)
    change(make_study(PATIENT, "scout")[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    make_study(FakePatient(birth_date="19991231"), "z-born-again")
    broken = make_study(PATIENT, "broken")[0]
    broken.write_bytes(broken.read_bytes()[:400])
    (tmp_path / "in" / "empty").write_bytes(b"")
    code, report = run(tmp_path)
    assert code == 0
    causes = report["totals"]["causes"]
    assert causes.pop("unreadable") >= 1
    assert causes == {
        "missing_patient_id": causes["missing_patient_id"],
        "study_under_two_patients": 3,
        "issuer_changed": 3,
        "conflicting_arrival": 3 + 2,
        "pixel_gate": 1,
    }
    assert causes["missing_patient_id"] in (3, 4)
    assert report["totals"]["outcomes"]["duplicate"] == 1
    assert len(clean_files(tmp_path)) == report["totals"]["outcomes"]["clean"] == 2 + 2 + 2
    text = (tmp_path / "report.json").read_text()
    assert not [word for word in (*PATIENT.identifiers, *OTHER.identifiers, str(tmp_path)) if word in text]
    assert "scout" in capsys.readouterr().out


def test_a_dicomdir_is_no_instance(tmp_path: Path, make_study: Callable[..., list[Path]]) -> None:
    make_study(PATIENT, "a", count=1)
    source = get_testdata_file("DICOMDIR")
    assert isinstance(source, str)
    shutil.copy(source, tmp_path / "in" / "DICOMDIR")
    assert run(tmp_path)[1]["totals"]["causes"] == {"not_deidentifiable": 1}


def test_a_study_known_under_another_patient_leaves_no_file(
    tmp_path: Path, make_study: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(PATIENT, "a")
    run(tmp_path)
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "in")
    make_study(OTHER, "a")
    code, report = run(tmp_path)
    assert code == 1
    assert report["totals"]["causes"] == {"study_under_two_patients": 3}
    assert clean_files(tmp_path) == []
    assert "No file could be de-identified" in capsys.readouterr().out


def test_a_series_known_under_another_patient_leaves_no_file(
    tmp_path: Path, make_study: Callable[..., list[Path]]
) -> None:
    make_study(PATIENT, "a")
    run(tmp_path)
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "in")
    for path in make_study(OTHER, "a"):
        change(path, StudyInstanceUID="1.2.840.77.99")
    assert run(tmp_path)[1]["totals"]["causes"] == {"conflicting_arrival": 3}
    assert clean_files(tmp_path) == []


def test_a_planted_identifier_is_found_when_the_file_is_read_again(
    tmp_path: Path, make_study: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom_node.pipeline import deidentification

    make_study(PATIENT, "a", count=2)
    encode = deidentification._encode
    monkeypatch.setattr(deidentification, "_encode", lambda ds: encode(ds) + b"Quistgaard")
    code, report = run(tmp_path)
    assert code == 1
    assert report["totals"]["causes"] == {"residual_identifier": 2}
    assert "name" in report["files"][0]["sentence"]
    assert clean_files(tmp_path) == []


def test_a_file_damaged_on_its_way_to_the_disk_is_searched_as_it_is_there(
    tmp_path: Path, make_study: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom_node.pipeline import deidentification

    def write(path: Path, chunks: list[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(chunks) + PATIENT.patient_id.encode())

    make_study(PATIENT, "a", count=1)
    monkeypatch.setattr(deidentification, "write_durably", write)
    assert run(tmp_path)[1]["totals"]["causes"] == {"residual_identifier": 1}


def test_what_if_says_what_would_happen_and_writes_nothing(
    tmp_path: Path, data_dir: Path, make_study: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(PATIENT, "a")
    change(make_study(OTHER, "b")[0], ImageType=["DERIVED", "SECONDARY"])
    assert main(["deid", str(tmp_path / "in"), "--what-if"]) == 0
    output = capsys.readouterr().out
    assert "PatientName" in output
    assert "replaced by the pseudonym" in output
    assert "1 files would be refused, pixel_gate" in output
    assert not [word for word in (*PATIENT.identifiers, *OTHER.identifiers) if word in output]
    assert not data_dir.exists()


def test_a_recipe_is_obeyed_and_a_wrong_one_is_refused_with_its_line(
    tmp_path: Path, make_study: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(PATIENT, "a")
    recipe = tmp_path / "site.deid"
    recipe.write_text("FORMAT dicom\n\n%header\n\nREMOVE KVP\n")
    code, report = run(tmp_path, "--recipe", str(recipe))
    assert code == 0
    assert report["recipe_sha256"]
    assert not any("KVP" in dcmread(path) for path in clean_files(tmp_path))
    recipe.write_text("FORMAT dicom\n\n%header\n\nREMOOVE KVP\n")
    shutil.rmtree(tmp_path / "out")
    assert run(tmp_path, "--recipe", str(recipe))[0] == 1
    assert "line 5" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_sites_rectangle_is_erased_and_counted(
    tmp_path: Path, make_study: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    sources = make_study(PATIENT, "a", count=1)
    recipe = tmp_path / "site.deid"
    recipe.write_text(
        "FORMAT dicom\n\n%filter graylist\n\nLABEL text in the corner\n"
        "contains Manufacturer Demonstration\ncoordinates 0,0,8,4\n"
    )
    _, report = run(tmp_path, "--recipe", str(recipe))
    assert report["totals"]["counts"]["rectangles of pixels erased"] == 1
    (clean,) = clean_files(tmp_path)
    pixels, original = dcmread(clean).pixel_array, dcmread(sources[0]).pixel_array
    assert not pixels[:4, :8].any()
    assert (pixels[4:] == original[4:]).all()
    assert main(["deid", str(tmp_path / "in"), "--what-if", "--recipe", str(recipe)]) == 0
    assert "rectangles of pixels erased" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["in", "in/below", ".", "used"])
def test_an_output_folder_in_the_way_is_refused_before_anything_is_done(
    tmp_path: Path, make_study: Callable[..., list[Path]], out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(PATIENT, "a")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(["deid", str(tmp_path / "in"), str(tmp_path / out), "--report", str(tmp_path / "r.json")]) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert "name a" in capsys.readouterr().out


def test_without_report_or_output_the_sentence_says_what_is_missing(
    tmp_path: Path, make_study: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(PATIENT, "a")
    assert main(["deid", str(tmp_path / "in")]) == 1
    assert "--report" in capsys.readouterr().out


def test_keys_of_another_map_stop_the_run(
    tmp_path: Path, make_study: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(PATIENT, "a")
    run(tmp_path)
    shutil.rmtree(Settings().keys)
    load_keys(Settings().keys)
    shutil.rmtree(tmp_path / "out")
    assert run(tmp_path)[0] == 1
    assert "key files back" in capsys.readouterr().out
    assert clean_files(tmp_path) == []


def test_every_option_is_in_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs/deidentification.md").read_text()
    with pytest.raises(SystemExit):
        main(["deid", "--help"])
    options = {word.strip("[],") for word in capsys.readouterr().out.split() if word.startswith(("--", "[--"))}
    assert {"--report", "--recipe", "--what-if", "--sources"} <= options
    assert all(option in page for option in options - {"--help"})
