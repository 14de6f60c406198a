"""``osteonode calibrate``: from a phantom's DICOM series to a record that fits scans of that scanner."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from dicom_node.cli import main
from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.pipeline.calibration import calibration_of, load_phantoms, load_records
from dicom_node.pipeline.scanner_calibration import add_record, calibrate_folder
from inference.calibration import choose_calibration
from inference.volume import Acquisition

sys.path.append(str(Path(__file__).parents[1] / "inference"))
from rod_phantom import RODS, Scene, scan


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digital phantom's scan as DICOM."""
    volume = scan(Scene(pixel_mm=1.2, slice_mm=4.0))
    origin = tuple(float(one) for one in volume.affine_lps[:3, 3])
    folder = tmp_path_factory.mktemp("phantom")
    write_series(
        Scan(volume.hu, volume.spacing_mm, (origin[0], origin[1], origin[2])), folder, FakePatient(), seed="rods"
    )
    return folder


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """The phantom's certificate as a file."""
    path = tmp_path / "phantoms.json"
    rods = [{"density_mg_per_cm3": density} for density in RODS.density_mg_per_cm3]
    path.write_text(json.dumps([{"name": RODS.name, "material": "HA", "rods": rods}]))
    return path


def test_the_command_makes_a_record_that_fits_the_scanner(series: Path, certificate: Path, tmp_path: Path) -> None:
    records, picture = tmp_path / "records.json", tmp_path / "phantom.png"
    words = [
        "calibrate",
        str(series),
        "--phantom",
        str(certificate),
        "--records",
        str(records),
        "--picture",
        str(picture),
    ]
    assert main(words) == 0
    (record,) = load_records(records)
    assert record.slope_mg_per_cm3_per_hu == pytest.approx(1 / 1.4, rel=0.005)
    assert record.intercept_mg_per_cm3 == pytest.approx(6 / 1.4, abs=1.0)
    assert record.measured_on is not None
    acquisition = Acquisition(record.manufacturer, record.model_name, record.kvp, record.convolution_kernel)
    assert choose_calibration(acquisition, [record], record.measured_on) == (record, ())
    assert Image.open(io.BytesIO(picture.read_bytes())).size[0] > 800


def test_a_dry_run_writes_nothing(series: Path, certificate: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert main(["calibrate", str(series), "--phantom", str(certificate), "--dry-run"]) == 0
    assert sorted(tmp_path.iterdir()) == before


def test_the_records_before_are_kept_and_a_name_is_used_once(series: Path, certificate: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.json"
    found = calibrate_folder(series, load_phantoms(certificate), valid_days=30)
    assert add_record(records, found.record) == 1
    first = records.read_bytes()
    with pytest.raises(ConfigurationError, match="already"):
        add_record(records, found.record)
    assert records.read_bytes() == first
    other = found.record.__class__(
        **{**{name: getattr(found.record, name) for name in found.record.__slots__}, "record_id": "b"}
    )
    assert add_record(records, other) == 2
    assert (tmp_path / "records.json.before").read_bytes() == first


def test_a_file_that_holds_something_else_is_not_touched(series: Path, certificate: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.json"
    records.write_text('{"a": 1}')
    found = calibrate_folder(series, load_phantoms(certificate), valid_days=30)
    with pytest.raises(ConfigurationError, match="would not be a file"):
        add_record(records, found.record)
    assert records.read_text() == '{"a": 1}'


def test_a_patient_without_a_phantom_is_refused_with_a_sentence(certificate: Path, tmp_path: Path) -> None:
    volume = scan(Scene(pixel_mm=2.0, slice_mm=4.0, has_phantom=False))
    write_series(Scan(volume.hu, volume.spacing_mm, (0.0, 0.0, 0.0)), tmp_path / "ct", FakePatient(), seed="none")
    with pytest.raises(JobRejected, match="No phantom was found"):
        calibrate_folder(tmp_path / "ct", load_phantoms(certificate), valid_days=30)


DATES = ("AcquisitionDate", "SeriesDate", "StudyDate")


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (dict.fromkeys(DATES, ""), "a record needs all five"),
        (dict.fromkeys(DATES, "2026.01.01"), "a record needs all five"),
        ({"ConvolutionKernel": ""}, "a record needs all five"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MONO_40_KEV"]}, "spectral"),
    ],
)
def test_a_scan_that_does_not_say_of_what_its_line_is_makes_no_record(
    series: Path, certificate: Path, tmp_path: Path, elements: dict[str, object], message: str
) -> None:
    for path in series.glob("*.dcm"):
        instance = dcmread(path)
        for name, value in elements.items():
            setattr(instance, name, value)
        instance.save_as(tmp_path / path.name)
    with pytest.raises(ConfigurationError, match=message):
        calibrate_folder(tmp_path, load_phantoms(certificate), valid_days=30)


@pytest.mark.parametrize("day", ["", "2026.01.01", "20269901"])
def test_a_scan_without_a_readable_date_has_no_record(series: Path, certificate: Path, day: str) -> None:
    record = calibrate_folder(series, load_phantoms(certificate), valid_days=30).record
    header = dcmread(next(series.glob("*.dcm")), stop_before_pixels=True)
    assert calibration_of(header, [record]) == (record, ())
    for name in DATES:
        setattr(header, name, day)
    chosen, (flag,) = calibration_of(header, [record])
    assert chosen.is_default
    assert flag.code == "uncalibrated"
    assert "no readable date" in flag.sentence


@pytest.mark.parametrize(
    "wrong", [{"material": ["HA"]}, {"material": {}}, {"shape": ["rods"]}, {"rods": "five"}, {"name": 5}]
)
def test_a_certificate_of_the_wrong_kind_is_a_clear_error(certificate: Path, wrong: dict[str, object]) -> None:
    (one,) = json.loads(certificate.read_text())
    certificate.write_text(json.dumps([{**one, **wrong}]))
    with pytest.raises(ConfigurationError, match="not usable"):
        load_phantoms(certificate)


def test_no_identity_is_printed(series: Path, certificate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(series), "--phantom", str(certificate), "--dry-run"]) == 0
    printed = "".join(capsys.readouterr())
    patient = FakePatient()
    assert not [word for word in (patient.name, patient.patient_id, patient.birth_date) if word in printed]


def test_a_certificate_file_that_is_none_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "phantoms.json"
    path.write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_phantoms(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_phantoms(tmp_path / "missing.json")
    assert load_phantoms(None) == ()
