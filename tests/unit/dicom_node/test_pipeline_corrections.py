"""A segmentation that a person corrected: read onto its own slices and sides, or refused with a sentence."""

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.errors import JobRejected
from dicom_node.pipeline.corrections import (
    Segment,
    is_correction,
    load_correction,
    read_correction,
    save_correction,
    segments_of,
)
from inference.corrected import CORRECTED_NAME, CorrectedSegmenter
from inference.dicom_volume import volume_from_datasets
from inference.errors import SegmentationError
from inference.labels import BY_KEY
from inference.metrics import dice
from inference.volume import Volume
from sr_export.codes import ANATOMICAL_STRUCTURE, LATERALITIES, STRUCTURES

SCAN = Scan(np.zeros((10, 24, 32), np.int16), (3.0, 2.0, 2.0), (-60.0, -45.0, 100.0))
LIVER = Code("10200004", "SCT", "Liver")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
TISSUE_OF_OHIF = Code("T-D0050", "SRT", "Tissue")
"""OHIF 3.13 writes it for every segment, whatever it was before."""
GENERIC = (TISSUE_OF_OHIF, Code("85756007", "SCT", "Tissue"), ANATOMICAL_STRUCTURE, Code("113343008", "SCT", "Organ"))


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


def holding(item: Dataset) -> Dataset:
    """Return the header of a Segmentation of one segment."""
    seg = Dataset()
    seg.SegmentSequence = [item]
    return seg


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
VALUES = {"L5": 27, "L4": 28, "L3": 29, "L2": 30, "L1": 31}
"""TotalSegmentator's values, of the patient's reference labels."""


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


@pytest.mark.parametrize("code", GENERIC, ids=str)
def test_a_viewer_that_codes_everything_alike_is_read_by_the_names(
    tmp_path: Path, series: list[Dataset], code: Code
) -> None:
    parts = [("Right femur edited", code, "", RIGHT), ("Left femur", code, "", LEFT), ("L1 (2)", code, "", L1)]
    labels = read_correction(write_seg(tmp_path / "seg.dcm", series, parts), series).labels
    for key, mask in (("femur_right", RIGHT), ("femur_left", LEFT), ("L1", L1)):
        np.testing.assert_array_equal(labels == BY_KEY[key].value, mask, err_msg=key)


@pytest.mark.parametrize(
    "label",
    [
        "L1 metastasis",
        "T12 rib left",
        "L3 nerve root",
        "L2 pedicle screw",
        "L1-2",
        "L1 - 2",
        "L1/L2 disc",
        "L1 trabecular VOI",
        "Left femur nail",
        "Right femur fracture",
        "Right femur, head",
        "Left femur body",
        "Right femur left",
        "Left right femur",
        "Femur",
    ],
)
def test_what_lies_in_or_at_a_bone_is_not_the_bone(tmp_path: Path, series: list[Dataset], label: str) -> None:
    assert not is_correction(write_seg(tmp_path / "seg.dcm", series, [(label, TISSUE_OF_OHIF, "", L1)]))
    if label not in {"L1 - 2", "Right femur left", "Left right femur", "Femur"}:
        side = {"L": "R", "R": "L"}.get(label[0], "") if "femur" in label else ""
        key = "femur" if "femur" in label else label[:2]
        coded = segment(1, label, STRUCTURES[{"T1": "T12"}.get(key, key)], side)
        assert segments_of(holding(coded)) == [Segment(1, label, None)]


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("L1 vertebral body", "L1"),
        ("L1 body", "L1"),
        ("l1 vertebra corrected", "L1"),
        ("T12 v2", "T12"),
        ("Right femur copy", "femur_right"),
        ("Right femur 2", "femur_right"),
        ("RIGHT FEMUR, corrected", "femur_right"),
        ("femur_left edited", "femur_left"),
        ("Left hip bone (3)", "hip_left"),
    ],
)
def test_few_words_beside_its_name_leave_a_bone_what_it_is(label: str, key: str) -> None:
    (found,) = segments_of(holding(segment(1, label, TISSUE_OF_OHIF, "")))
    assert found.structure is BY_KEY[key]


@pytest.mark.parametrize("label", ["L1", "L1 vertebral body", "Right femur", "Left femur"])
def test_a_code_of_something_else_counts_more_than_a_bones_name(
    tmp_path: Path, series: list[Dataset], label: str
) -> None:
    assert not is_correction(write_seg(tmp_path / "seg.dcm", series, [(label, NEOPLASM, "", L1)]))


@pytest.mark.parametrize(
    ("value", "side", "key"), [("T-12710", "G-A100", "femur_right"), ("T-12710", "G-A101", "femur_left")]
)
def test_a_bone_in_the_codes_of_older_programs_is_known(value: str, side: str, key: str) -> None:
    item = segment(1, "any name", Code(value, "SRT", "Femur"), "")
    item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
        hd.sr.CodedConcept(side, "SRT", "side")
    ]
    assert segments_of(holding(item))[0].structure is BY_KEY[key]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([("Left femur", FEMUR, "R", RIGHT)], "named Left femur and coded as Right femur"),
        ([("Left femur corrected", FEMUR, "R", RIGHT)], "named Left femur and coded as Right femur"),
        ([("L1", STRUCTURES["L2"], "", L1)], "named L1 vertebral body and coded as L2"),
        ([("Right femur", TISSUE_OF_OHIF, "L", RIGHT)], "named Right femur and coded as Left femur"),
        ([("Right hip bone", FEMUR, "R", RIGHT)], "named Right hip bone and coded as Right femur"),
        ([("Femur L", FEMUR, "R", RIGHT)], "for the other side and coded as Right femur"),
        ([("femur right", FEMUR, "L", RIGHT)], "for the other side and coded as Left femur"),
        ([("a", FEMUR, "R", RIGHT), ("b", FEMUR, "R", LEFT)], "twice"),
        ([(f"Right femur, part {n} of 2", FEMUR, "R", mask) for n, mask in ((1, RIGHT), (2, LEFT))], "twice"),
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


def said_of(path: Path, kind: str, name: str = "", source: str = "") -> Path:
    """Say of every segment who made it."""
    seg = dcmread(path)
    for item in seg.SegmentSequence:
        item.SegmentAlgorithmType, item.SegmentAlgorithmName = kind, name
        if source:
            maker = Dataset()
            maker.AlgorithmName, maker.AlgorithmVersion, maker.AlgorithmSource = name, "1", source
            maker.AlgorithmFamilyCodeSequence = [hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence")]
            item.SegmentationAlgorithmIdentificationSequence = [maker]
    seg.save_as(path)
    return path


@pytest.mark.parametrize(
    ("kind", "name", "source", "expected"),
    [
        ("MANUAL", "", "", True),
        ("SEMIAUTOMATIC", "Grow from seeds", "", True),
        ("AUTOMATIC", "OsteoNode classical, checked by OsteoNode network", "", True),
        ("AUTOMATIC", "TotalSegmentator total", "OsteoNode", True),
        ("AUTOMATIC", "TotalSegmentator", "", False),
        ("AUTOMATIC", "OsteoNodeless", "Somebody", False),
        ("", "", "", False),
    ],
)
def test_only_what_a_person_made_or_the_node_did_before_is_a_correction(
    tmp_path: Path, series: list[Dataset], kind: str, name: str, source: str, expected: bool
) -> None:
    """Viewers may keep the AUTOMATIC of what the node made, with the algorithm's name, after a person changed it."""
    path = write_seg(tmp_path / "seg.dcm", series, [("Right femur", TISSUE_OF_OHIF, "", RIGHT)])
    assert is_correction(said_of(path, kind, name, source)) is expected
    assert (read_correction(path, series).labels == BY_KEY["femur_right"].value).sum() == RIGHT.sum()


def test_a_contradiction_another_program_made_by_itself_starts_no_job(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("Left femur", FEMUR, "R", RIGHT)])
    assert not is_correction(said_of(path, "AUTOMATIC", "Somebody's"))


def test_a_tumour_drawn_by_a_person_makes_no_correction_of_another_programs_bones(
    tmp_path: Path, series: list[Dataset]
) -> None:
    parts = [("Right femur", FEMUR, "R", RIGHT), ("Tumour", NEOPLASM, "", L1)]
    path = said_of(write_seg(tmp_path / "seg.dcm", series, parts), "AUTOMATIC", "Somebody's")
    seg = dcmread(path)
    seg.SegmentSequence[1].SegmentAlgorithmType = "MANUAL"
    seg.save_as(path)
    assert not is_correction(path)


@pytest.mark.parametrize(
    ("labels", "is_cut"),
    [
        (("L1 vertebral body", "T12 body edited"), False),
        (("Right femur", "L1 vertebral body"), False),
        (("L1 vertebral body", "T12"), True),
        (("L1 vertebra",), True),
        (("any name",), True),
    ],
)
def test_vertebrae_are_cut_to_bodies_unless_their_labels_say_they_are(
    tmp_path: Path, series: list[Dataset], labels: tuple[str, ...], is_cut: bool
) -> None:
    codes = {"T": STRUCTURES["T12"], "R": FEMUR}
    parts = [
        (label, codes.get(label[0], STRUCTURES["L1"]), "R" if label[0] == "R" else "", (L1, RIGHT)[n])
        for n, label in enumerate(labels)
    ]
    correction = read_correction(write_seg(tmp_path / "seg.dcm", series, parts), series)
    save_correction(correction, tmp_path / "job")
    loaded = load_correction(tmp_path / "job")
    assert loaded is not None
    assert (correction.cuts_vertebrae, loaded.cuts_vertebrae) == (is_cut, is_cut)
    assert loaded.identity.name == CORRECTED_NAME


@pytest.mark.real_data
def test_a_body_beside_a_whole_vertebra_stays_voxel_for_voxel_as_it_was_drawn(
    patient_ct: tuple[Volume, NDArray[Any]], patient_bodies: NDArray[Any]
) -> None:
    volume, reference = patient_ct
    labels = np.zeros(reference.shape, dtype=np.uint8)
    labels[reference == VALUES["L3"]] = BY_KEY["L3"].value
    for key in ("L1", "L2", "L4", "L5"):
        labels[(reference == VALUES[key]) & (patient_bodies > 0)] = BY_KEY[key].value
    found = CorrectedSegmenter(labels, volume.affine_lps, "0" * 64, cuts_vertebrae=True).segment(volume)
    assert not found.flags
    for key in ("L1", "L2", "L4", "L5"):
        np.testing.assert_array_equal(found.labels == BY_KEY[key].value, labels == BY_KEY[key].value, err_msg=key)
    whole, body = labels == BY_KEY["L3"].value, found.labels == BY_KEY["L3"].value
    assert body.sum() < 0.8 * whole.sum()
    assert dice(body, whole & (patient_bodies > 0)) > 0.95


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
