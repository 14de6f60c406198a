"""A small CT series' headers with a complete fake identity, and a report about it; everything asymmetric."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from sr_export.build import ResultSet
from sr_export.concepts import HR_PQCT
from sr_export.corrected import with_correction
from sr_export.geometry import grid_from_headers
from sr_export.inputs import (
    Algorithm,
    CalibrationStatement,
    Correction,
    Equipment,
    Finding,
    Group,
    Laterality,
    Measurement,
    Picture,
    Region,
    Report,
    Statement,
)
from sr_export.kos import build_kos
from sr_export.pdf import build_pdf
from sr_export.sc import build_pages
from sr_export.seg import build_segs
from sr_export.sr import build_sr

SLICES, ROWS, COLUMNS = 24, 64, 56
ROW_MM, COLUMN_MM, SLICE_MM = 1.5, 2.0, 3.0
CREATED = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)

IDENTITY: dict[str, Any] = {
    "PatientName": "Example^Erika",
    "PatientID": "PACS-000123",
    "IssuerOfPatientID": "HOSPITAL",
    "PatientBirthDate": "19520314",
    "PatientSex": "F",
    "PatientAge": "074Y",
    "PatientSize": "1.63",
    "PatientWeight": "64",
    "StudyDate": "20261118",
    "StudyTime": "101500",
    "StudyID": "1",
    "AccessionNumber": "ACC20261118",
    "ReferringPhysicianName": "Ref^Doctor",
    "StudyDescription": "CT Abdomen/Pelvis",
    "StudyInstanceUID": "2.25.1001",
}


def _header(index: int, cosines: tuple[float, ...], charset: str | list[str], drop: tuple[str, ...]) -> Dataset:
    normal = np.cross(cosines[:3], cosines[3:])
    position = np.array([-55.0, -80.0, -400.0]) + index * SLICE_MM * normal
    header = Dataset()
    header.SpecificCharacterSet = charset
    for keyword, value in IDENTITY.items():
        setattr(header, keyword, value)
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = f"2.25.2{index:04d}"
    header.SeriesInstanceUID, header.FrameOfReferenceUID = "2.25.1002", "2.25.1003"
    header.PositionReferenceIndicator = ""
    header.Modality, header.Manufacturer, header.ManufacturerModelName = "CT", "Scanner Works", "CT-1"
    header.SeriesNumber, header.InstanceNumber = 2, index + 1
    header.SeriesDate, header.SeriesTime = "20261118", "101500"
    header.Rows, header.Columns = ROWS, COLUMNS
    header.PixelSpacing, header.SliceThickness = [ROW_MM, COLUMN_MM], SLICE_MM
    header.ImageOrientationPatient = [f"{cosine:.9f}"[:15] for cosine in cosines]
    header.ImagePositionPatient = [f"{value:.6f}" for value in position]
    for keyword in drop:
        header.pop(keyword, None)
    return header


def make_source(
    *,
    cosines: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    charset: str | list[str] = "ISO_IR 192",
    drop: tuple[str, ...] = (),
    slices: int = SLICES,
    **values: Any,
) -> list[Dataset]:
    """Return headers of slices from the feet up: 64 rows of 1.5 mm, 56 columns of 2 mm, 3 mm apart."""
    headers = [_header(index, cosines, charset, drop) for index in range(slices)]
    for header in headers:
        for keyword, value in values.items():
            setattr(header, keyword, value)
    return headers


def make_enhanced(order: Iterable[int] = range(SLICES)) -> Dataset:
    """Return the header of one Enhanced CT with the slices of ``make_source``, in another order of frames."""
    slices = make_source()
    frames = [slices[index] for index in order]
    enhanced = Dataset()
    enhanced.update(slices[0])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del enhanced[keyword]
    enhanced.SOPClassUID, enhanced.SOPInstanceUID = EnhancedCTImageStorage, "2.25.77"
    enhanced.NumberOfFrames = len(frames)
    enhanced.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    shared = enhanced.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence = [_only(slices[0], "ImageOrientationPatient")]
    shared.PixelMeasuresSequence = [_only(slices[0], "PixelSpacing", "SliceThickness")]
    enhanced.PerFrameFunctionalGroupsSequence = Sequence([_groups_of(frame) for frame in frames])
    return enhanced


def _only(header: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        item[keyword] = header[keyword]
    return item


def _groups_of(frame: Dataset) -> Dataset:
    groups = Dataset()
    groups.PlanePositionSequence = [_only(frame, "ImagePositionPatient")]
    return groups


def _box(slices: slice, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((SLICES, ROWS, COLUMNS), bool)
    mask[slices, rows, columns] = True
    return mask


def regions() -> tuple[Region, ...]:
    """Right femur at low columns (low LPS x is right), left femur smaller, L1 above with a VOI inside."""
    return (
        Region("femur_right", "Right femur", "femur", "R", _box(slice(2, 11), slice(20, 32), slice(6, 15))),
        Region("femur_left", "Left femur", "femur", "L", _box(slice(3, 9), slice(22, 30), slice(42, 49))),
        Region("L1", "L1 vertebral body", "L1", "", _box(slice(13, 22), slice(34, 48), slice(20, 34))),
        Region("L1_voi", "L1 trabecular VOI", "L1", "", _box(slice(16, 20), slice(38, 44), slice(24, 30))),
    )


def make_report(*, is_calibrated: bool = True, **values: Any) -> Report:
    """Return a full report: right femur measured, left femur refused for metal, L1 measured."""
    right, left, body, voi = regions()
    volume_mm3 = float(voi.mask.sum()) * ROW_MM * COLUMN_MM * SLICE_MM
    metal = Finding(
        "metal",
        "femur_left",
        "4.1 cm3 of metal in the bone; strength and density were not computed.",
        True,
    )
    report = Report(
        job_reference="job-0001",
        created=CREATED,
        headline="L1-L2 mean trabecular vBMD 104 mg/cm3; right femur strength in a fall 2660 N.",
        regions=(right, left, body, voi),
        groups=(
            Group(
                "L1_voi",
                "L1 trabecular VOI",
                "L1",
                "",
                "density",
                (
                    Measurement("trabecular_vbmd", 104.4, 99.0, 110.0),
                    Measurement("mean_hu", 131.2),
                    Measurement("voi_volume", volume_mm3),
                ),
                region=voi,
            ),
            Group(
                "lumbar_spine",
                "Lumbar spine",
                "lumbar_spine",
                "",
                "density",
                (Measurement("l1_l2_mean_trabecular_vbmd", 104.4),),
                category="osteopenia",
            ),
            Group(
                "femur_right",
                "Right femur",
                "femur",
                "R",
                "strength",
                (
                    Measurement("integral_vbmd", 262.1),
                    Measurement("femur_strength_stance_minimum", 5312.0, 5010.0, 5620.0),
                    Measurement("femur_strength_fall_minimum", 2657.0),
                ),
                region=right,
                findings=(Finding("coarse_voxels", "femur_right", "Voxels of 3.0 mm; 1.5 mm or less expected."),),
                statements=(
                    Statement("weakest_fall_site", "intertrochanteric region, in compression"),
                    Statement("weakest_fall_direction", "10 degrees adduction, 15 degrees internal rotation"),
                ),
            ),
        ),
        findings=(metal, Finding("brand_new_flag", "study", "A flag this package has not heard of.")),
        calibration=CalibrationStatement(
            is_calibrated,
            "Asynchronous phantom" if is_calibrated else "Nominal HU scale",
            "K2HPO4",
            "Phantom A",
            date(2026, 10, 1),
            0.82,
            -3.0,
        ),
        algorithms=(
            Algorithm("segmentation", "Bone segmentation", "0.1.0", "Segments bones", (), "morphological"),
            Algorithm("density", "Trabecular density", "0.1.0", "Measures vBMD", ("erosion_mm=3",), "histogram"),
            Algorithm("strength", "CT-FE strength", "0.2.0", "Computes strength", (), "finite_elements"),
        ),
        equipment=Equipment("OsteoNode project", "OsteoNode", "0.1.0", "NODE-0001"),
        technical=(
            ("kVp", "120"),
            ("Kernel", "B40f"),
            ("Slice thickness", "3.0 mm"),
            ("Pixel", "1.5 x 2.0 mm"),
        ),
        limits=(
            "Opportunistic CT, not DXA: no WHO T-score can be derived.",
            "Strength is an estimate of a model, not a measured load.",
        ),
        pictures=(Picture("regions", "Regions", "Coronal", np.full((80, 60, 3), 90, np.uint8)),),
    )
    return replace(report, **values)


def peripheral_report(structure: str = "radius", side: Laterality = "R") -> Report:
    """Return a report of every HR-pQCT number of one bone; the values mean nothing, each is another."""
    name = f"{side} {structure}"
    region = replace(regions()[0], key=structure, name=name, structure=structure, laterality=side)
    numbers = tuple(Measurement(concept.key, 12.3456 + index) for index, concept in enumerate(HR_PQCT))
    group = Group(structure, name, structure, side, "density", numbers, region=region)
    return make_report(regions=(region,), groups=(group,), findings=(), pictures=())


def build_without_drawing(
    source: list[Dataset],
    report: Report,
    correction: Correction | None = None,
    superseded: Iterable[Dataset] = (),
) -> ResultSet:
    """Build every object but with a blank page and an empty document, which take most of the time."""
    report = with_correction(report, correction)
    segs = build_segs(source, grid_from_headers(source), report, is_corrected=correction is not None)
    sr = build_sr(source, segs, report, (), correction)
    rejected = tuple(superseded)
    blank = (np.full((4, 4, 3), 255, np.uint8),)
    return ResultSet(
        segs,
        sr,
        build_pages(source, blank, report),
        build_pdf(source, b"%PDF", (*segs, sr), report),
        b"%PDF",
        blank,
        build_kos(source[0], rejected, report) if rejected else None,
    )
