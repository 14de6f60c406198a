"""Results go under the slices they were measured on, and under no others."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage
from test_pipeline_results import TOOLS, findings

from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.errors import JobFailed
from dicom_node.pipeline.packaging import Before, correction_of, package
from dicom_node.pipeline.report_files import save_report
from dicom_node.pipeline.results import report_from
from inference.dicom_volume import volume_from_datasets
from inference.labels import BY_KEY
from inference.segmentation import Segmentation

SCAN = Scan(np.zeros((12, 30, 40), np.int16), (3.0, 3.0, 3.0), (-60.0, -45.0, 100.0))


def quiet(done: float, stage: str) -> None:
    """Nobody watches."""


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(SCAN, tmp_path / "ct", FakePatient(), seed="packaging")


@pytest.fixture
def report_folder(tmp_path: Path, series: list[Path]) -> Path:
    """A report measured on the series: right femur only, low columns."""
    volume = volume_from_datasets([dcmread(path) for path in series])
    labels = np.zeros(volume.hu.shape, np.uint8)
    labels[2:6, 8:20, 4:14] = BY_KEY["femur_right"].value
    labels[4:10, 8:20, 18:24] = BY_KEY["L1"].value
    base = findings()
    found = findings(volume=volume, segmentation=Segmentation(labels, base.segmentation.identity, ()))
    report, figures = report_from(found, TOOLS)
    save_report(report, tmp_path / "report", figures)
    return tmp_path / "report"


@pytest.fixture(autouse=True)
def _without_native_validators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.pipeline.packaging.validate", lambda paths, source: ())


def test_the_objects_carry_patient_study_and_side_of_the_originals(
    series: list[Path], report_folder: Path, tmp_path: Path
) -> None:
    objects = package(series, report_folder, tmp_path / "out", quiet)
    original = dcmread(series[0], stop_before_pixels=True)
    assert {one.kind for one in objects} == {"seg", "sr", "page", "pdf"}
    for one in objects:
        ds = dcmread(tmp_path / "out" / one.file)
        assert (ds.PatientID, ds.PatientName, ds.StudyInstanceUID) == (
            original.PatientID,
            original.PatientName,
            original.StudyInstanceUID,
        )
    seg = next(dcmread(tmp_path / "out" / one.file) for one in objects if one.kind == "seg")
    assert _centroid_x(seg, "Right femur") < _centroid_x(seg, "L1 vertebral body"), "LPS x grows to the left"


def _centroid_x(seg: Dataset, label: str) -> float:
    from highdicom.seg import Segmentation as Read

    volume = Read.from_dataset(seg).get_volume(combine_segments=False)
    number = next(one.SegmentNumber for one in seg.SegmentSequence if one.SegmentLabel == label)
    centre = np.argwhere(volume.array[..., number - 1]).mean(axis=0)
    return float(volume.map_indices_to_reference(centre[None])[0][0])


def test_slices_in_another_order_are_refused(series: list[Path], report_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="not the same"):
        package(series[::-1], report_folder, tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()


def test_slices_of_another_scan_are_refused(report_folder: Path, tmp_path: Path) -> None:
    moved = Scan(SCAN.array, SCAN.spacing_mm, (-60.0, -45.0, 103.0))
    other = write_series(moved, tmp_path / "other", FakePatient(), seed="other")
    with pytest.raises(JobFailed, match=r"3\.0 mm off"):
        package(other, report_folder, tmp_path / "out", quiet)


def corrected_file(path: Path, **values: str) -> Path:
    """Write the header of a Segmentation as far as packaging reads it."""
    seg = Dataset()
    seg.SOPClassUID, seg.SOPInstanceUID, seg.SeriesInstanceUID = SegmentationStorage, "2.25.501", "2.25.502"
    for keyword, value in values.items():
        setattr(seg, keyword, value)
    seg.file_meta = FileMetaDataset()
    seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seg.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("values", "operator", "reason"),
    [
        ({"ContentCreatorName": "A^B", "OperatorsName": "C^D", "ContentDescription": "why"}, "A^B", "why"),
        ({"OperatorsName": ["C^D", "E^F"], "ContentLabel": "NECK"}, "C^D", "NECK"),
        ({"ContentCreatorName": "", "ContentDescription": "", "SeriesDescription": "mended"}, "", "mended"),
        ({}, "", ""),
    ],
)
def test_who_corrected_and_why_is_read_from_the_first_attribute_that_says_it(
    values: dict[str, str], operator: str, reason: str, tmp_path: Path
) -> None:
    found = correction_of(corrected_file(tmp_path / "corrected.dcm", **values))
    assert (found.operator, found.reason) == (operator, reason)
    assert (found.sop_instance_uid, found.series_instance_uid) == ("2.25.501", "2.25.502")


def test_a_run_on_a_corrected_segmentation_says_so_and_may_reject_what_it_replaces(
    series: list[Path], report_folder: Path, tmp_path: Path
) -> None:
    first = package(series, report_folder, tmp_path / "first", quiet)
    old = tmp_path / "first" / next(one.file for one in first if one.kind == "sr")
    path = corrected_file(tmp_path / "corrected.dcm", ContentCreatorName="Corrector^Clara", ContentDescription="why")
    second = package(series, report_folder, tmp_path / "second", quiet, Before((old,), path, is_rejected=True))
    read = {one.kind: dcmread(tmp_path / "second" / one.file) for one in second}
    assert "corrected by Corrector Clara: why." in read["sr"].to_json()
    assert read["seg"].SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert read["sr"].PredecessorDocumentsSequence
    evidence = read["kos"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    rejected = {one.ReferencedSOPInstanceUID for row in evidence for one in row.ReferencedSOPSequence}
    assert rejected == {one.sop_instance_uid for one in first}
    third = package(series, report_folder, tmp_path / "third", quiet, Before((old,)))
    assert "kos" not in {one.kind for one in third}
