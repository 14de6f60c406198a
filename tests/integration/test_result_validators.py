"""Result objects under the three validators that are not ours, and under DCMTK's renderers."""

import subprocess
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage
from result_factory import make_enhanced, make_report, make_source, peripheral_report, regions

from dicom_node.pipeline.validators import (
    ALLOWED,
    PIXELMED_CLASS,
    PIXELMED_JARS,
    PIXELMED_OPTIONS,
    findings,
    missing_validators,
    validate,
)
from sr_export.build import build_results
from sr_export.check import check_results
from sr_export.inputs import Correction

pytestmark = pytest.mark.needs_binary

ODD_NAMES = [
    ("ISO_IR 100", "Mäkinen^Åsa"),
    ("ISO_IR 192", "Παπαδοπούλου^Μαρία"),
    ("ISO_IR 144", "Иванова^Анна"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
]


@pytest.fixture(autouse=True)
def validators(binary):
    """Need all three; a missing one fails under CI=true and skips elsewhere."""
    for name in ("dciodvfy", "dcentvfy", "java"):
        binary(name)
    if missing_validators():
        pytest.skip("PixelMed is not installed")


def written(datasets, folder: Path) -> list[Path]:
    paths = []
    for number, dataset in enumerate(datasets):
        path = folder / f"{number}-{dataset.Modality}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def source_file(source: list[Dataset], folder: Path) -> Path:
    path = folder / "source.dcm"
    header = deepcopy(source[0])
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("case", "values"),
    [
        ("measured", {}),
        ("uncalibrated", {"is_calibrated": False}),
        ("nothing measured", {"groups": (), "regions": (), "pictures": ()}),
    ],
)
def test_objects_pass_all_three_validators_without_any_error_or_warning(tmp_path, case, values):
    source, report = make_source(), make_report(**values)
    results = build_results(source, report)
    paths = written(results.datasets, tmp_path)
    assert findings(paths, source_file(source, tmp_path)) == ()


@pytest.mark.parametrize(("charset", "name"), ODD_NAMES)
def test_objects_of_any_character_set_pass_and_keep_the_name(tmp_path, charset, name):
    source = make_source(slices=4, charset=charset, PatientName=name)
    report = make_report(groups=(), regions=(), pictures=())
    path = source_file(source, tmp_path)
    stored = [dcmread(path)]
    results = build_results(stored, report)
    paths = written(results.datasets, tmp_path)
    assert validate(paths, path) == ()
    read = [dcmread(one) for one in paths]
    assert {str(one.PatientName) for one in read} == {name}
    assert all(one["PatientName"].value.original_string == stored[0].PatientName.original_string for one in read)
    assert check_results(stored, results, report) == ()


def test_objects_with_crowded_groups_and_of_a_multi_frame_source_pass(tmp_path):
    report = make_report(pictures=())
    crowded = replace(report, groups=(replace(report.groups[2], measurements=report.groups[2].measurements * 3),))
    source = [make_enhanced()]
    results = build_results(source, crowded)
    assert check_results(source, results, crowded) == ()
    assert findings(written(results.datasets, tmp_path), source_file(source, tmp_path)) == ()


def test_objects_on_a_matrix_that_fills_no_whole_bytes_pass(tmp_path):
    source = make_source(Rows=63, Columns=51)
    cut = tuple(replace(region, mask=region.mask[:, :63, :51]) for region in regions())
    results = build_results(source, make_report(regions=cut, groups=(), pictures=()))
    assert findings(written(results.datasets, tmp_path), source_file(source, tmp_path)) == ()


def test_objects_of_a_replaced_report_pass(tmp_path):
    source, report = make_source(), make_report(pictures=())
    first = build_results(source, report)
    second = build_results(source, make_report(groups=(), regions=(), pictures=()), previous=[first.sr])
    assert validate(written(second.datasets, tmp_path), source_file(source, tmp_path)) == ()


def test_objects_of_a_corrected_segmentation_pass(tmp_path):
    source, report = make_source(), make_report(pictures=())
    correction = Correction("Corrector^Clara", "neck was cut off", SegmentationStorage, "2.25.501", "2.25.502")
    results = build_results(source, report, correction=correction)
    assert check_results(source, results, report, correction) == ()
    assert findings(written(results.datasets, tmp_path), source_file(source, tmp_path)) == ()


def test_objects_of_a_peripheral_bone_pass(tmp_path):
    source, report = make_source(), peripheral_report("metacarpal_2", "L")
    results = build_results(source, report)
    assert findings(written(results.datasets, tmp_path), source_file(source, tmp_path)) == ()


def test_a_rejection_note_passes_also_its_own_template(tmp_path, binary):
    source, report = make_source(), make_report(pictures=())
    first = build_results(source, report)
    second = build_results(source, replace(report, job_reference="job-0002"), [first.sr], superseded=first.datasets)
    paths = written(second.datasets, tmp_path)
    assert validate(paths, source_file(source, tmp_path)) == ()
    jars = ":".join(map(str, PIXELMED_JARS))
    command = [binary("java"), *PIXELMED_OPTIONS, "-cp", jars, PIXELMED_CLASS, str(paths[-1])]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = (said.stdout + said.stderr).splitlines()
    assert any("Found Root Template TID_2010" in line for line in lines)
    assert [line for line in lines if line.startswith(("Error", "Warning"))] == []


def test_the_wrong_patient_is_refused(tmp_path):
    source = make_source(slices=4)
    results = build_results(source, make_report(groups=(), regions=(), pictures=()))
    results.sr.PatientID = "ANON-7F3A"
    found = validate(written(results.datasets, tmp_path), source_file(source, tmp_path))
    assert any("Different PatientID for same StudyInstanceUID" in one for one in found)
    assert not any("ANON" in one or "PACS" in one for one in found)


def test_a_document_that_breaks_its_template_is_refused(tmp_path):
    source = make_source(slices=4)
    results = build_results(source, make_report(groups=(), regions=(), pictures=()))
    results.sr.ContentSequence = [i for i in results.sr.ContentSequence if i.ValueType != "CONTAINER"]
    found = validate(written([results.sr], tmp_path), source_file(source, tmp_path))
    assert any(one.startswith("PixelMed") for one in found)


def test_an_error_of_the_source_about_the_patient_is_not_held_against_the_result(tmp_path):
    source = make_source(slices=4, PatientWeight="0")
    source[0].PatientAge = source[1].PatientAge = "74"
    results = build_results(source, make_report(groups=(), regions=(), pictures=()))
    assert validate(written(results.datasets, tmp_path), source_file(source, tmp_path)) == ()


def test_dcmtk_renders_every_number_with_its_name(tmp_path, binary):
    source = make_source()
    results = build_results(source, make_report(pictures=()))
    path = written([results.sr], tmp_path)[0]
    html = tmp_path / "sr.html"
    subprocess.run([binary("dsr2html"), "+U8", path, html], check=True, capture_output=True)
    text = html.read_text()
    for expected in ("Right femur strength, fall, min (CT-FE)", "2660", "L1 trabecular vBMD", "104", "Osteopenia"):
        assert expected in text, expected
    dumped = subprocess.run([binary("dsrdump"), path], check=True, capture_output=True, text=True).stdout
    assert "RESEARCH USE ONLY" in dumped


def test_every_allowance_has_a_reason():
    assert all(allowance.reason.endswith(".") for allowance in ALLOWED)
