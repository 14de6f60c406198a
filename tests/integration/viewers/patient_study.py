"""A real patient's CT under a fake identity, and every result object about it: what the viewers are shown.

The masks are the scan's reference labels, so their place is known without our own segmentation. The numbers are
made up, each a different one, so that a value in a viewer can only be the one that belongs there.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from result_factory import make_report
from scipy.ndimage import binary_erosion

from dicom_node.demo.fake_ct import FakePatient, Scan, read_nifti, write_series
from dicom_node.public_data import fetch
from sr_export.build import ResultSet, build_results
from sr_export.inputs import CalibrationStatement, Finding, Group, Laterality, Measurement, Region, Report, Statement

AIR_HU = -1024
LEVELS: dict[str, int] = {"L1": 31, "L2": 30, "L3": 29, "L4": 28, "L5": 27}
"""Vertebra -> value in the reference labels (TotalSegmentator's)."""
BONES: tuple[tuple[str, str, str, Laterality, int], ...] = (
    ("femur_right", "Right femur", "femur", "R", 76),
    ("femur_left", "Left femur", "femur", "L", 75),
    ("hip_right", "Right hip bone", "hip_bone", "R", 78),
    ("hip_left", "Left hip bone", "hip_bone", "L", 77),
    ("sacrum", "Sacrum", "sacrum", "", 25),
)
VBMD_MG_PER_CM3 = {"L1": 111.0, "L2": 103.0, "L3": 97.0, "L4": 118.0, "L5": 124.0}
HU_MEAN = {"L1": 141.0, "L2": 132.0, "L3": 126.0, "L4": 149.0, "L5": 157.0}
STRENGTHS_N = {
    "R": {"stance_minimum": 7120.0, "fall_minimum": 2660.0, "stance_maximum": 9330.0, "fall_maximum": 3980.0},
    "L": {"stance_minimum": 7950.0, "fall_minimum": 3010.0, "stance_maximum": 9870.0, "fall_maximum": 4240.0},
}
WEAKEST_FALL_SITE = "intertrochanteric region, in compression"
INTEGRAL_MG_PER_CM3 = {"R": 262.0, "L": 291.0}


@dataclass(frozen=True, slots=True)
class PatientStudy:
    """The CT's files, feet to head, with their headers; and what was built about them."""

    files: list[Path]
    headers: list[Dataset]
    report: Report
    results: ResultSet

    @property
    def study_instance_uid(self) -> str:
        """UID of the one study."""
        return str(self.headers[0].StudyInstanceUID)


def make_patient_study(folder: Path, *, seed: str, matrix: int | None) -> PatientStudy:
    """Write the CT and build the results.

    Parameters
    ----------
    folder
        Where the CT goes.
    seed
        Study, patient and instances are told apart by it.
    matrix
        Rows and columns, made with air around the scan; None keeps the scan's own.
    """
    scans = fetch("patient")
    scan = read_nifti(scans / "example_ct.nii.gz")
    labels = read_nifti(scans / "example_seg_fast_force_split.nii.gz").array
    bodies = read_nifti(scans / "totalseg_vertebrae_body.nii.gz").array > 0
    if matrix is not None:
        scan, labels, bodies = _framed(scan, matrix), _padded(labels, matrix), _padded(bodies, matrix)
    files = write_series(scan, folder / "ct", FakePatient(patient_id=f"MRN-{seed}"), seed=seed)
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    report = _report(_regions(labels, bodies), voxel_mm3=float(np.prod(scan.spacing_mm)))
    return PatientStudy(files, headers, report, build_results(headers, report))


def write_results(results: ResultSet, folder: Path) -> list[Path]:
    """Write the objects; return their files in the order to send them."""
    folder.mkdir()
    paths = []
    for number, dataset in enumerate(results.datasets):
        paths.append(folder / f"{number}-{dataset.Modality}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _padded(array: NDArray[Any], matrix: int, value: int = 0) -> NDArray[Any]:
    before = _margins(array.shape, matrix)
    after = [matrix - size - margin for size, margin in zip(array.shape[1:], before, strict=True)]
    return np.pad(array, [(0, 0), *zip(before, after, strict=True)], constant_values=value)


def _margins(shape: tuple[int, ...], matrix: int) -> list[int]:
    """Rows above and columns to the left of the scan."""
    return [(matrix - size) // 2 for size in shape[1:]]


def _framed(scan: Scan, matrix: int) -> Scan:
    above, beside = _margins(scan.array.shape, matrix)
    x_mm, y_mm, z_mm = scan.origin_mm
    _, row_mm, column_mm = scan.spacing_mm
    origin_mm = (x_mm - beside * column_mm, y_mm - above * row_mm, z_mm)
    return Scan(_padded(scan.array, matrix, AIR_HU), scan.spacing_mm, origin_mm)


def _regions(labels: NDArray[np.generic], bodies: NDArray[np.bool_]) -> tuple[Region, ...]:
    """Bones, vertebral bodies, and a core of each body."""
    bones = [Region(key, name, anatomy, side, labels == value) for key, name, anatomy, side, value in BONES]
    levels = {level: (labels == value) & bodies for level, value in LEVELS.items()}
    whole = [Region(level, f"{level} vertebral body", level, "", mask) for level, mask in levels.items()]
    cores = [
        Region(f"{level}_voi", f"{level} trabecular VOI", level, "", binary_erosion(mask, iterations=2))
        for level, mask in levels.items()
    ]
    return (*bones, *whole, *cores)


def _report(regions: tuple[Region, ...], voxel_mm3: float) -> Report:
    by_key = {region.key: region for region in regions}
    mean = Group(
        "lumbar_mean",
        "Mean of L1 and L2",
        "lumbar_spine",
        "",
        "density",
        (Measurement("l1_l2_mean_trabecular_vbmd", 107.0),),
        category="osteopenia",
    )
    return make_report(
        job_reference="job-viewers",
        headline="Mean trabecular vBMD of L1 and L2: 107 mg/cm3, osteopenia. "
        "Right femur strength: fall 2660 N. Left femur strength: fall 3010 N.",
        regions=regions,
        groups=(
            mean,
            *(_vertebra(by_key[f"{level}_voi"], voxel_mm3) for level in LEVELS),
            *(group for key in ("femur_right", "femur_left") for group in _femur(by_key[key])),
        ),
        findings=(Finding("metal_elsewhere", "femur_left", "A nail lies beside the measured bone."),),
        calibration=CalibrationStatement(
            True, "asynchronous phantom", "K2HPO4", "Phantom A", date(2026, 10, 1), 0.82, -3.0
        ),
        technical=(("Tube voltage", "120 kV"), ("Kernel", "STANDARD"), ("Voxel", "3.00 x 3.00 x 3.00 mm")),
        pictures=(),
    )


def _vertebra(region: Region, voxel_mm3: float) -> Group:
    level = region.structure
    vbmd = VBMD_MG_PER_CM3[level]
    volume_mm3 = float(region.mask.sum()) * voxel_mm3
    return Group(
        level,
        f"{level} trabecular",
        level,
        "",
        "density",
        (
            Measurement("trabecular_vbmd", vbmd, vbmd - 6, vbmd + 7),
            Measurement("mean_hu", HU_MEAN[level]),
            Measurement("voi_volume", volume_mm3),
        ),
        region=region,
    )


def _femur(region: Region) -> tuple[Group, Group]:
    """More numbers than a viewer writes beside one contour, and two groups of one bone."""
    side = region.laterality
    measurements = tuple(
        Measurement(f"femur_strength_{case}", value_n, *((value_n - 200, value_n + 210) if "minimum" in case else ()))
        for case, value_n in STRENGTHS_N[side].items()
    )
    weakest = (Statement("weakest_fall_site", WEAKEST_FALL_SITE),)
    coarse = Finding("coarse_voxels", region.key, "Voxels of 3.0 mm; 1.5 mm or less expected.")
    density = (Measurement("integral_vbmd", INTEGRAL_MG_PER_CM3[side]),)
    return (
        Group(
            region.key,
            f"{region.name} strength",
            "femur",
            side,
            "strength",
            measurements,
            region,
            findings=(coarse,),
            statements=weakest,
        ),
        Group(f"{region.key}_density", f"{region.name} density", "femur", side, "density", density, region),
    )
