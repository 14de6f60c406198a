"""A segmentation that a person corrected: read onto its own slices and sides, or refused with a sentence."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.errors import JobRejected
from dicom_node.pipeline.corrections import is_correction, load_correction, read_correction, save_correction
from inference.dicom_volume import volume_from_datasets
from inference.errors import SegmentationError
from inference.labels import BY_KEY
from sr_export.codes import ANATOMICAL_STRUCTURE, LATERALITIES, STRUCTURES

SCAN = Scan(np.zeros((10, 24, 32), np.int16), (3.0, 2.0, 2.0), (-60.0, -45.0, 100.0))
LIVER = Code("10200004", "SCT", "Liver")


@pytest.fixture
def series(tmp_path: Path) -> list[Dataset]:
    return [dcmread(path) for path in write_series(SCAN, tmp_path / "ct", FakePatient(), seed="corrections")]


def box(*bounds: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros((10, 24, 32), bool)
    mask[tuple(slice(low, high) for low, high in bounds)] = True
    return mask


RIGHT = box((2, 6), (4, 12), (3, 9))
LEFT = box((3, 7), (4, 12), (20, 26))
L1 = box((7, 10), (5, 9), (14, 18))


def segment(number: int, label: str, code: Code, side: str) -> Dataset:
    description = hd.seg.SegmentDescription(number, label, ANATOMICAL_STRUCTURE, code, "MANUAL")
    if side:
        item = description.SegmentedPropertyTypeCodeSequence[0]
        item.SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept(LATERALITIES[side].value, "SCT", LATERALITIES[side].meaning)
        ]
    return description


def write_seg(path: Path, series: list[Dataset], parts: list[tuple[str, Code, str, NDArray[np.bool_]]]) -> Path:
    """Write what a viewer would: one segment a part, frames in the order of the images given."""
    stacked = np.stack([mask for *_, mask in parts], axis=-1)
    seg = hd.seg.Segmentation(
        source_images=series,
        pixel_array=stacked.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[segment(n, label, code, side) for n, (label, code, side, _) in enumerate(parts, 1)],
        series_instance_uid=generate_uid(),
        series_number=50,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Viewer",
        manufacturer_model_name="Viewer",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(path)
    return path


FEMUR = STRUCTURES["femur"]


@pytest.mark.parametrize("backwards", [False, True])
def test_every_bone_comes_back_on_its_slices_and_its_side(
    tmp_path: Path, series: list[Dataset], backwards: bool
) -> None:
    parts = [
        ("any name", FEMUR, "R", RIGHT),
        ("Left femur", FEMUR, "L", LEFT),
        ("L1 vertebral body", STRUCTURES["L1"], "", L1),
        ("L1 trabecular VOI", STRUCTURES["L1"], "", box((8, 9), (6, 8), (15, 17))),
        ("Liver", LIVER, "", box((0, 2), (0, 9), (0, 9))),
    ]
    images = series[::-1] if backwards else series
    drawn = [(*words, mask[::-1] if backwards else mask) for *words, mask in parts]
    path = write_seg(tmp_path / "seg.dcm", images, drawn)
    assert is_correction(path)
    correction = read_correction(path, series[3:] + series[:3])
    volume = volume_from_datasets(series)
    labels = correction.segment(volume).labels
    for key, mask in (("femur_right", RIGHT), ("femur_left", LEFT), ("L1", L1)):
        np.testing.assert_array_equal(labels == BY_KEY[key].value, mask, err_msg=key)
    assert set(np.unique(labels)) == {0, 1, 2, 43}
    right = np.argwhere(labels == BY_KEY["femur_right"].value).mean(axis=0)
    left = np.argwhere(labels == BY_KEY["femur_left"].value).mean(axis=0)
    x = [float((volume.affine_lps @ [*index, 1])[0]) for index in (right, left)]
    assert x[0] < x[1], "the patient's right has the smaller x (LPS)"


def test_a_bone_without_code_is_known_by_the_name_people_read(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("right femur", FEMUR, "", RIGHT)])
    assert (read_correction(path, series).labels == BY_KEY["femur_right"].value).sum() == RIGHT.sum()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([("Left femur", FEMUR, "R", RIGHT)], "named Left femur and coded as Right femur"),
        ([("Left femur corrected", FEMUR, "R", RIGHT)], "named Left femur and coded as Right femur"),
        ([("L1", STRUCTURES["L2"], "", L1)], "named L1 vertebral body and coded as L2"),
        ([("a", FEMUR, "R", RIGHT), ("b", FEMUR, "R", LEFT)], "twice"),
        ([("a", FEMUR, "R", RIGHT), ("b", FEMUR, "L", RIGHT)], "shares"),
    ],
)
def test_a_contradiction_is_a_sentence(
    tmp_path: Path, series: list[Dataset], parts: list[tuple[str, Code, str, NDArray[np.bool_]]], words: str
) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, parts)
    assert is_correction(path), "its job has to say what is wrong"
    with pytest.raises(JobRejected, match=words):
        read_correction(path, series)


def test_a_segmentation_of_another_scan_is_refused(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("Right femur", FEMUR, "R", RIGHT)])
    with pytest.raises(JobRejected, match="does not lie"):
        read_correction(path, series[6:])
    for ds in series:
        ds.FrameOfReferenceUID = "1.2.3"
    with pytest.raises(JobRejected, match="frame of reference"):
        read_correction(path, series)


def test_a_shifted_or_coarser_grid_is_refused(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("Right femur", FEMUR, "R", RIGHT)])
    for change in (shift, widen):
        moved = [dcmread(ds.filename) for ds in series]
        for ds in moved:
            change(ds)
        with pytest.raises(JobRejected, match="does not lie"):
            read_correction(path, moved)


def shift(ds: Dataset) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x + 1.0, y, z]


def widen(ds: Dataset) -> None:
    ds.PixelSpacing = [2.2, 2.2]


def test_the_segmentation_of_a_node_is_no_correction_wherever_it_comes_from(
    tmp_path: Path, series: list[Dataset]
) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("Right femur", FEMUR, "R", RIGHT)])
    seg = dcmread(path)
    seg.Manufacturer, seg.ManufacturerModelName = "OsteoNode", "osteonode"
    seg.save_as(path)
    assert not is_correction(path), "two nodes behind one PACS would answer each other for ever"


@pytest.mark.parametrize("content", [b"", b"no dicom", b"\0" * 200])
def test_what_cannot_be_read_is_no_correction(tmp_path: Path, series: list[Dataset], content: bytes) -> None:
    path = tmp_path / "seg.dcm"
    path.write_bytes(content)
    assert not is_correction(path)
    with pytest.raises(JobRejected, match="cannot be read"):
        read_correction(path, series)


def test_the_segmentation_of_another_organ_is_no_correction(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("Liver", LIVER, "", RIGHT)])
    assert not is_correction(path)
    with pytest.raises(JobRejected, match="no voxel"):
        read_correction(path, series)


def test_what_crosses_to_the_research_side_is_an_array_and_a_checksum(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("Right femur", FEMUR, "R", RIGHT)])
    correction = read_correction(path, series)
    save_correction(correction, tmp_path / "job")
    loaded = load_correction(tmp_path / "job")
    assert loaded is not None
    np.testing.assert_array_equal(loaded.labels, correction.labels)
    written = b"".join(one.read_bytes() for one in (tmp_path / "job").iterdir())
    for secret in (str(series[0].PatientName), str(series[0].PatientID), str(series[0].StudyInstanceUID)):
        assert secret.encode() not in written
    assert load_correction(tmp_path) is None


def test_labels_of_another_volume_are_refused_by_the_analysis(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("Right femur", FEMUR, "R", RIGHT)])
    correction = read_correction(path, series)
    with pytest.raises(SegmentationError, match="another series"):
        correction.segment(volume_from_datasets(series[:-1]))


def test_a_frame_in_more_segments_than_one_is_read_for_each(tmp_path: Path, series: list[Dataset]) -> None:
    upper, lower = box((4, 6), (0, 8), (0, 8)), box((4, 6), (8, 16), (0, 8))
    path = write_seg(tmp_path / "seg.dcm", series, [("a", FEMUR, "R", upper), ("b", FEMUR, "L", lower)])
    labels = read_correction(path, series).labels
    assert (labels == 1).sum() == upper.sum()
    assert (labels == 2).sum() == lower.sum()
