"""Masks made elsewhere: read onto the series they were drawn on, each bone under its own name and side, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.pipeline.external_mask import EXTERNAL_NAME, read_mask, structure_named
from inference.labels import BY_KEY

SHAPE, SPACING_MM, ORIGIN_MM = (12, 40, 40), (3.0, 2.0, 2.0), (-40.0, -30.0, 100.0)


@pytest.fixture
def headers(tmp_path: Path) -> list[Dataset]:
    """Headers of a small series, head first: the analysis orders them itself."""
    rng = np.random.default_rng(0)
    scan = Scan(rng.normal(0, 20, SHAPE).astype(np.float32), SPACING_MM, ORIGIN_MM)
    return [
        dcmread(path, stop_before_pixels=True) for path in write_series(scan, tmp_path / "ct", FakePatient(), seed="m")
    ][::-1]


def box(key: str, columns: slice, rows: slice = slice(5, 20)) -> NDArray[np.uint8]:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:9, rows, columns] = BY_KEY[key].value
    return labels


def save_map(path: Path, labels: NDArray[np.uint8], flip: bool = False) -> Path:
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(SPACING_MM[::-1])
    image.SetOrigin(ORIGIN_MM)
    sitk.WriteImage(sitk.DICOMOrient(image, "RAS") if flip else image, str(path))
    return path


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Right femur", "femur_right"),
        ("femur_left", "femur_left"),
        ("Femur RT", "femur_right"),
        ("FEMUR L", "femur_left"),
        ("hip_right", "hip_right"),
        ("Pelvis LT", "hip_left"),
        ("vertebrae_L1", "L1"),
        ("L1 body", "L1"),
        ("t12", "T12"),
        ("Sacrum", "sacrum"),
        ("femur", None),
        ("femoral head right", None),
        ("femur right left", None),
        ("PTV L1", None),
        ("L6", None),
        ("", None),
        ("right", None),
    ],
)
def test_a_name_means_one_bone_or_none(name: str, key: str | None) -> None:
    found = structure_named(name)
    assert (None if found is None else found.key) == key


@pytest.mark.parametrize("flip", [False, True])
def test_a_label_map_lies_where_it_was_drawn_whatever_its_orientation(
    headers: list[Dataset], tmp_path: Path, flip: bool
) -> None:
    labels = box("femur_right", slice(3, 12)) + box("femur_left", slice(25, 36))
    found = read_mask(save_map(tmp_path / "m.nii.gz", labels, flip), headers, "osteonode")
    assert np.array_equal(found.labels, labels)
    assert found.identity.name == EXTERNAL_NAME
    assert len(found.checksum) == 64


def test_totalsegmentators_values_are_read_as_its_bones(headers: list[Dataset], tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:9, 5:20, 3:12], labels[2:9, 5:20, 25:36], labels[2:9, 25:30, 15:20], labels[0, 0, 0] = 76, 75, 31, 5
    found = read_mask(save_map(tmp_path / "m.mha", labels), headers, "totalsegmentator").labels
    assert set(np.unique(found)) == {0, *(BY_KEY[key].value for key in ("femur_right", "femur_left", "L1"))}
    # x grows to the patient's left: the right femur has the smaller columns.
    assert (
        np.argwhere(found == BY_KEY["femur_right"].value)[:, 2].max()
        < np.argwhere(found == BY_KEY["femur_left"].value)[:, 2].min()
    )


def structure_set(
    headers: list[Dataset], path: Path, regions: dict[str, list[NDArray[np.float64]]], frame: str = ""
) -> Path:
    """Write a structure set with contours given as LPS mm points."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        made.SOPClassUID,
        made.SOPInstanceUID,
    )
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = frame or headers[0].FrameOfReferenceUID
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
            drawn.ContourSequence.append(contour)
        made.StructureSetROISequence.append(roi)
        made.ROIContourSequence.append(drawn)
    made.save_as(path, enforce_file_format=True)
    return path


def square(slice_: float, row: float, column: float, half: float) -> NDArray[np.float64]:
    """A square contour around a pixel, LPS mm."""
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * half + [row, column]
    x, y = ORIGIN_MM[0] + corners[:, 1] * SPACING_MM[2], ORIGIN_MM[1] + corners[:, 0] * SPACING_MM[1]
    return np.column_stack([x, y, np.full(4, ORIGIN_MM[2] + slice_ * SPACING_MM[0])])


def test_contours_are_filled_on_their_slices_and_holes_stay_open(headers: list[Dataset], tmp_path: Path) -> None:
    contours = [square(one, 20, 10, 5.5) for one in (3, 4, 5)] + [square(4, 20, 10, 2.5)]
    path = structure_set(headers, tmp_path / "rt.dcm", {"Femur_R": contours, "Bladder": [square(3, 10, 30, 4)]})
    labels = read_mask(path, headers, "osteonode").labels
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[3:6, 15:26, 5:16] = BY_KEY["femur_right"].value
    expected[4, 18:23, 8:13] = 0
    assert np.array_equal(labels, expected)


def test_contours_between_slices_are_refused(headers: list[Dataset], tmp_path: Path) -> None:
    path = structure_set(headers, tmp_path / "rt.dcm", {"Femur_R": [square(3.5, 20, 10, 5)]})
    with pytest.raises(JobRejected, match="does not lie on a slice"):
        read_mask(path, headers, "osteonode")


def test_a_structure_set_of_another_frame_of_reference_is_refused(headers: list[Dataset], tmp_path: Path) -> None:
    path = structure_set(headers, tmp_path / "rt.dcm", {"Femur_R": [square(3, 20, 10, 5)]}, frame=generate_uid())
    with pytest.raises(JobRejected, match="another frame of reference"):
        read_mask(path, headers, "osteonode")


def set_contour(seg: Dataset, values: Any) -> None:
    contour = seg.ROIContourSequence[0].ContourSequence[0]
    del contour.ContourData
    if values is not None:
        contour.ContourData = values


def drop_number(seg: Dataset) -> None:
    del seg.StructureSetROISequence[0].ROINumber


def drop_reference(seg: Dataset) -> None:
    del seg.ROIContourSequence[0].ReferencedROINumber


def share_number(seg: Dataset) -> None:
    seg.StructureSetROISequence[1].ROINumber = 1


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda seg: set_contour(seg, ["1", "2", "3", "4"]), "A contour of Right femur has 4 numbers"),
        (lambda seg: set_contour(seg, "5"), "A contour of Right femur has 1 number"),
        (lambda seg: set_contour(seg, ["1", "nan", "3"]), "A contour of Right femur holds what is no number"),
        (lambda seg: set_contour(seg, ["1", "inf", "3"]), "A contour of Right femur holds what is no number"),
        (drop_number, "Right femur of the structure set has no ROI Number"),
        (drop_reference, "names no structure"),
        (share_number, "One ROI Number .* Right femur and Left femur"),
    ],
)
def test_a_broken_structure_set_is_a_sentence_that_names_the_bone_and_nobody(
    headers: list[Dataset], tmp_path: Path, change: Callable[[Dataset], None], words: str
) -> None:
    regions = {"Femur_R": [square(3, 20, 10, 5)], "Femur_L": [square(3, 20, 30, 5)], "Doe": [square(3, 10, 30, 2)]}
    path = structure_set(headers, tmp_path / "rt.dcm", regions)
    broken = dcmread(path)
    change(broken)
    broken.save_as(path)
    with pytest.raises(JobRejected, match=words) as refusal:
        read_mask(path, headers, "osteonode")
    assert "Doe" not in str(refusal.value)


def test_a_number_that_is_none_is_a_sentence(headers: list[Dataset], tmp_path: Path) -> None:
    path = structure_set(headers, tmp_path / "rt.dcm", {"Femur_R": [square(3, 20, 10, 5)]})
    content = path.read_bytes()
    number = dcmread(path).ROIContourSequence[0].ContourSequence[0]["ContourData"].value[0].original_string.encode()
    path.write_bytes(content.replace(number + b"\\", b"x" * len(number) + b"\\"))
    with pytest.raises(JobRejected, match="A contour of Right femur holds what is no number"):
        read_mask(path, headers, "osteonode")


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_structure_set_cut_short_anywhere_is_a_sentence(headers: list[Dataset], tmp_path: Path) -> None:
    path = structure_set(headers, tmp_path / "rt.dcm", {"Femur_R": [square(3, 20, 10, 5)]})
    content = path.read_bytes()
    for size in range(len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(JobRejected):
            read_mask(path, headers, "osteonode")


@pytest.mark.parametrize("values", [None, "", []])
def test_an_empty_contour_and_a_number_nobody_uses_are_passed_over(
    headers: list[Dataset], tmp_path: Path, values: Any
) -> None:
    regions = {"Femur_R": [square(3, 2, 3, 1), square(3, 20, 10, 5)], "Bladder": [square(3, 10, 30, 4)]}
    path = structure_set(headers, tmp_path / "rt.dcm", regions)
    seg = dcmread(path)
    set_contour(seg, values)
    del seg.StructureSetROISequence[1].ROINumber
    seg.save_as(path)
    labels = read_mask(path, headers, "osteonode").labels
    assert (labels == BY_KEY["femur_right"].value).sum() == 11 * 11
    assert not labels[:, :10].any()


def test_two_bones_that_share_voxels_are_refused(headers: list[Dataset], tmp_path: Path) -> None:
    shared = [square(3, 20, 10, 5)]
    path = structure_set(headers, tmp_path / "rt.dcm", {"Femur_R": shared, "Hip right": shared})
    with pytest.raises(JobRejected, match="shares"):
        read_mask(path, headers, "osteonode")


def test_a_map_of_another_grid_is_refused(headers: list[Dataset], tmp_path: Path) -> None:
    path = save_map(tmp_path / "m.nii.gz", box("L1", slice(3, 12)))
    image = sitk.ReadImage(str(path))
    image.SetOrigin((-39.0, -30.0, 100.0))
    sitk.WriteImage(image, str(path))
    with pytest.raises(JobRejected, match="another one"):
        read_mask(path, headers, "osteonode")


def test_what_holds_no_bone_is_refused(headers: list[Dataset], tmp_path: Path) -> None:
    path = save_map(tmp_path / "m.nii.gz", np.full(SHAPE, 200, dtype=np.uint8))
    with pytest.raises(JobRejected, match="no voxel of a bone"):
        read_mask(path, headers, "osteonode")


def test_an_image_is_no_mask(headers: list[Dataset], tmp_path: Path) -> None:
    path = tmp_path / "m.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.full(SHAPE, -50.5, dtype=np.float32)), str(path))
    with pytest.raises(JobRejected, match="no label map"):
        read_mask(path, headers, "osteonode")


def test_files_of_other_kinds_are_clear_errors(headers: list[Dataset], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no file"):
        read_mask(tmp_path / "none.nii", headers, "osteonode")
    (tmp_path / "text.txt").write_text("no mask")
    with pytest.raises(JobRejected, match="neither DICOM nor a label map"):
        read_mask(tmp_path / "text.txt", headers, "osteonode")
    with pytest.raises(JobRejected, match="neither a Segmentation nor"):
        read_mask(next((tmp_path / "ct").glob("*.dcm")), headers, "osteonode")
