"""From files to one bone: the mask belongs to the image, sides and labels are stated, densities have a source."""

import json
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.errors import ConfigurationError, JobRejected, NodeError, NotFound
from dicom_node.strength.bone import Bone, Sources, read_bone, read_scan
from tests.unit.dicom_node.fe_files import blob, write_image

RECORD = {
    "record_id": "ward 3",
    "manufacturer": "SIEMENS",
    "model_name": "Example",
    "kvp": 120,
    "convolution_kernel": "",
    "material": "HA",
    "phantom": "European Spine Phantom",
    "slope_mg_per_cm3_per_hu": 0.8,
    "intercept_mg_per_cm3": 10.0,
    "measured_on": "2026-01-01",
    "valid_until": "2026-12-31",
}
RIGHT_ANTERIOR_FEET = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)


def sources_of(image: Path, mask: Path, **changes: object) -> Sources:
    plain = Sources(image, mask, None, None, None, "HA", True, 2**30)
    return replace(plain, **changes)


def bone_of(image: Path, mask: Path, kind: str = "vertebra", side: str = "", **changes: object) -> Bone:
    sources = sources_of(image, mask, **{"label": 3, **changes})
    return read_bone(read_scan(sources), sources, kind, side, "L1" if kind == "vertebra" else "")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "image.nii.gz", 100.0 * blob().astype(np.float32) + 7.0)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return write_image(tmp_path / "mask.nii.gz", blob())


def test_the_bone_is_cut_out_with_its_place_in_the_patient(image: Path, mask: Path) -> None:
    bone = bone_of(image, mask)
    assert bone.mask.sum() == 3 * 4 * 5
    assert bone.volume_mm3 == pytest.approx(60 * 8.0)
    np.testing.assert_array_equal(bone.rho_qct_mg_per_cm3[bone.mask], 307.0)
    first = np.argwhere(bone.mask)[0]
    # Voxel (2, 3, 3) of 2 mm from the origin (10, -20, 30), as ITK placed it.
    np.testing.assert_allclose(bone.to_patient(first[None, ::-1] * 2.0)[0], (16, -14, 34))


def test_a_mask_stored_in_another_orientation_is_the_same_bone(image: Path, mask: Path, tmp_path: Path) -> None:
    labels = blob()
    far = (10.0 + 2 * 11, -20.0 + 2 * 9, 30.0 + 2 * 7)
    turned = write_image(
        tmp_path / "turned.nrrd", labels[::-1, ::-1, ::-1].copy(), origin_mm=far, directions=RIGHT_ANTERIOR_FEET
    )
    np.testing.assert_array_equal(bone_of(image, turned).labels, bone_of(image, mask).labels)
    turned_image = write_image(
        tmp_path / "image.nrrd", 100.0 * labels[::-1, ::-1, ::-1], origin_mm=far, directions=RIGHT_ANTERIOR_FEET
    )
    bone = bone_of(turned_image, mask)
    np.testing.assert_array_equal(bone.labels, bone_of(image, mask).labels)
    np.testing.assert_array_equal(bone.rho_qct_mg_per_cm3[bone.mask], 300.0)


def test_an_oblique_image_gives_points_of_the_patient(tmp_path: Path) -> None:
    angle = np.radians(12)
    c, s = np.cos(angle), np.sin(angle)
    directions = (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)
    image, mask = (write_image(tmp_path / name, blob(), directions=directions) for name in ("i.nii", "m.nii"))
    bone = bone_of(image, mask)
    first = np.argwhere(bone.mask)[0]
    expected = np.array([10, -20, 30]) + np.reshape(directions, (3, 3)) @ (2.0 * np.array([3, 3, 2]))
    np.testing.assert_allclose(bone.to_patient(first[None, ::-1] * 2.0)[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"array": blob((9, 10, 12))}, "9 x 10 x 12 voxels"),
        ({"spacing_mm": (2.0, 2.0, 2.2)}, "measure 2 x 2 x 2.2 mm"),
        ({"origin_mm": (10.0, -20.0, 31.0)}, "1.00 mm away"),
        ({"origin_mm": (0.0, 0.0, 0.0)}, "mm away"),
        ({"directions": (0.9962, -0.0872, 0.0, 0.0872, 0.9962, 0.0, 0.0, 0.0, 1.0)}, "turned by 5.0 degrees"),
    ],
)
def test_a_mask_of_another_image_is_refused_with_what_differs(
    image: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    other = write_image(tmp_path / "other.nii", **{"array": blob(), **change})
    with pytest.raises(JobRejected, match=words):
        bone_of(image, other)


def test_rounding_of_a_header_is_no_other_image(image: Path, tmp_path: Path) -> None:
    rounded = write_image(tmp_path / "r.nii", blob(), (2.0, 2.0, 2.000004), (10.0004, -20.0, 30.0))
    assert bone_of(image, rounded).mask.any()


@pytest.mark.parametrize(
    ("label", "words"), [(None, "labels 3, 5 and no --label"), (4, "no voxel has --label 4"), (0, "no voxel has")]
)
def test_a_label_that_is_missing_or_not_named_is_told_with_the_labels_there_are(
    image: Path, mask: Path, label: int | None, words: str
) -> None:
    with pytest.raises(JobRejected, match=words):
        bone_of(image, mask, label=label)


def test_the_only_label_needs_no_name_and_all_labels_of_a_specimen_count(image: Path, tmp_path: Path) -> None:
    one = write_image(tmp_path / "one.nii", np.where(blob() == 3, 3.0, 0.0).astype(np.float32))
    assert bone_of(image, one, label=None).label == 3
    both = write_image(tmp_path / "both.nii", blob())
    specimen = bone_of(image, both, "specimen", label=None, needs_density=False)
    assert specimen.label is None
    assert set(np.unique(specimen.labels)) == {0, 3, 5}


def test_an_empty_mask_and_one_of_fractions_are_refused(image: Path, tmp_path: Path) -> None:
    empty = write_image(tmp_path / "empty.nii", np.zeros((8, 10, 12), np.uint8))
    with pytest.raises(JobRejected, match="empty"):
        bone_of(image, empty)
    fractions = write_image(tmp_path / "fractions.nii", blob() * np.float32(0.3))
    with pytest.raises(JobRejected, match="fractions"):
        bone_of(image, fractions)
    hu = write_image(tmp_path / "hu.nii", blob().astype(np.int16) - 5)
    with pytest.raises(JobRejected, match="negative"):
        bone_of(image, hu)
    with pytest.raises(NotFound):
        bone_of(image, tmp_path / "none.nii")
    with pytest.raises(NotFound):
        bone_of(tmp_path / "none.nii", fractions)


def test_a_femur_needs_its_side(image: Path, mask: Path) -> None:
    with pytest.raises(ConfigurationError, match="--side R"):
        bone_of(image, mask, "femur")
    assert bone_of(image, mask, "femur", "L").key == "femur_left"


def test_without_a_record_the_default_line_is_used_and_flagged(image: Path, mask: Path) -> None:
    bone = bone_of(image, mask, density_material=None)
    assert bone.scan.record.is_default
    assert "uncalibrated" in [flag.code for flag in bone.flags]
    assert bone.caution.startswith("Research use only.")
    assert "UNCALIBRATED" in bone.caution


def test_a_record_is_named_where_the_image_names_no_scanner(image: Path, mask: Path, tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    file.write_text(json.dumps([RECORD]))
    bone = bone_of(image, mask, density_material=None, calibration_file=file)
    np.testing.assert_allclose(bone.rho_qct_mg_per_cm3[bone.mask], 10 + 0.8 * 307)
    assert bone.to_ash(np.array([100.0]))[0] == pytest.approx(0.839 * 100 + 69.8)
    assert "uncalibrated" not in [flag.code for flag in bone.flags]
    assert "UNCALIBRATED" not in bone.caution
    file.write_text(json.dumps([RECORD, {**RECORD, "record_id": "ward 4", "slope_mg_per_cm3_per_hu": 0.7}]))
    with pytest.raises(ConfigurationError, match="ward 3, ward 4"):
        bone_of(image, mask, density_material=None, calibration_file=file)
    named = bone_of(image, mask, density_material=None, calibration_file=file, record_id="ward 4")
    assert named.scan.record.record_id == "ward 4"


SHAPE = (30, 48, 48)


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 8:40, 8:40] = 40
    hu[10:20, 20:28, 30:38] = 400
    scan = Scan(hu, (2.5, 2.5, 2.5), (-60.0, -60.0, 100.0))
    return write_series(scan, tmp_path / "ct", FakePatient(), seed="fe")


def write_seg(series: list[Path], path: Path, frame_of_reference: str | None = None) -> Path:
    headers = [dcmread(file) for file in series]
    if frame_of_reference:
        for header in headers:
            header.FrameOfReferenceUID = frame_of_reference
    mask = np.zeros((*SHAPE, 1), np.uint8)
    mask[10:20, 20:28, 30:38] = 1
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Left femur",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=Code("71341001", "SCT", "Femur"),
        algorithm_type="MANUAL",
    )
    side = Dataset()
    side.CodeValue, side.CodingSchemeDesignator, side.CodeMeaning = "7771000", "SCT", "Left"
    description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    seg = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=mask,
        segmentation_type="BINARY",
        segment_descriptions=[description],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(path)
    return path


def test_a_segmentation_gives_mask_and_side_on_the_series_of_a_folder(series: list[Path], tmp_path: Path) -> None:
    seg = write_seg(series, tmp_path / "mask.dcm")
    bone = bone_of(series[0].parent, seg, "femur", label=None, density_material=None)
    assert (bone.key, bone.label, bone.mask_file.kind) == ("femur_left", 1, "dicom_seg")
    assert bone.mask.sum() == 10 * 8 * 8
    expected = np.array([-60 + 30 * 2.5, -60 + 20 * 2.5, 100 + 10 * 2.5])
    np.testing.assert_allclose(bone.to_patient(np.argwhere(bone.mask)[:1, ::-1] * 2.5)[0], expected)
    with pytest.raises(ConfigurationError, match="side L"):
        bone_of(series[0].parent, seg, "femur", "R", label=None, density_material=None)
    with pytest.raises(JobRejected, match="1 Left femur"):
        bone_of(series[0].parent, seg, "femur", "L", label=2, density_material=None)


def test_a_segmentation_of_another_scan_is_refused(series: list[Path], tmp_path: Path) -> None:
    seg = write_seg(series, tmp_path / "mask.dcm", frame_of_reference=generate_uid())
    with pytest.raises(JobRejected, match="another frame of reference"):
        bone_of(series[0].parent, seg, "femur", label=None, density_material=None)


def test_a_series_and_its_conversion_to_nifti_give_the_same_bone(series: list[Path], tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:20, 20:28, 30:38] = 3
    values = np.where(labels, 400.0, 40.0).astype(np.float32)
    place = {"spacing_mm": (2.5,) * 3, "origin_mm": (-60.0, -60.0, 100.0)}
    mask = write_image(tmp_path / "mask.nii.gz", labels, **place)
    image = write_image(tmp_path / "image.nii.gz", values, **place)
    one = bone_of(series[0].parent, mask, density_material=None)
    other = bone_of(image, mask, density_material=None)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.rho_qct_mg_per_cm3[one.mask], other.rho_qct_mg_per_cm3[other.mask])
    np.testing.assert_allclose(one.affine_lps, other.affine_lps, atol=1e-4)


def test_a_ct_slice_is_no_mask(series: list[Path]) -> None:
    with pytest.raises(JobRejected, match="no Segmentation"):
        bone_of(series[0].parent, series[3], "femur", "L", density_material=None)


def test_the_checksum_of_a_folder_does_not_depend_on_names(series: list[Path], tmp_path: Path) -> None:
    seg = write_seg(series, tmp_path / "mask.dcm")
    before = bone_of(series[0].parent, seg, "femur", label=None, density_material=None)
    for number, path in enumerate(series):
        path.rename(path.with_name(f"renamed{900 - number}"))
    after = bone_of(series[0].parent, seg, "femur", label=None, density_material=None)
    assert after.scan.file.sha256 == before.scan.file.sha256


def test_two_patients_in_one_folder_are_refused(series: list[Path], tmp_path: Path) -> None:
    other = dcmread(series[5])
    other.PatientID = "somebody else"
    other.save_as(series[5])
    with pytest.raises(NodeError, match="2 patients"):
        bone_of(series[0].parent, series[0], density_material=None)
