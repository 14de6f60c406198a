"""Our own gate before delivery: read the objects back and compare them with the source and the report.

An archive accepts an object of the wrong patient, a left bone on the right side and a dangling reference, and
answers success. This module finds those; the validators of the DICOM standard run elsewhere. It reads the SEG
frame by frame from its own functional groups, not through the library that wrote it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from sr_export.build import ResultSet, rejected_objects
from sr_export.codes import LATERALITIES
from sr_export.context import BANNER, PATIENT_SEX, PATIENT_STUDY, RESEARCH_ONLY
from sr_export.corrected import correction_sentence
from sr_export.frames import slice_headers
from sr_export.geometry import Grid, grid_from_headers
from sr_export.inputs import Correction, Region, Report
from sr_export.seg import tracking_uid

POSITION_TOLERANCE_MM = 0.05
"""Decimal strings of a SEG keep at least 16 significant characters; this is far below a voxel."""
VOLUME_TOLERANCE = 1e-3
"""Relative; between a SEG's own spacing and the source's. A single missing voxel row is more."""
NUMBER_TOLERANCE = 0.01
"""Relative; between a Volume in the SR and its mask, which may have been resampled [m] assumption."""
ALWAYS_FROM_SOURCE: frozenset[str] = frozenset(PATIENT_STUDY)
SCANNER_PURPOSE = "109101"


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment read back: ``voxels``, ``volume_mm3`` and centre (x, y, z) in LPS mm."""

    tracking_uid: str
    laterality: str
    voxels: int
    volume_mm3: float
    centre_lps: NDArray[np.float64]


def check_results(
    source: Sequence[Dataset],
    results: ResultSet,
    report: Report,
    correction: Correction | None = None,
    superseded: Sequence[Dataset] = (),
) -> tuple[str, ...]:
    """Return every problem found, as sentences without identifiers; empty when the objects may be sent.

    Parameters
    ----------
    source
        Original headers in the order of the masks' slice axis, or of a multi-frame instance.
    results
        As built, or as read back from files.
    report
        What the objects should say.
    correction, superseded
        As given to ``build_results``.
    """
    source = slice_headers(source)
    problems: list[str] = []
    for dataset in results.datasets:
        problems += _identity_problems(dataset, source[0])
        problems += _common_problems(dataset)
        problems += _text_problems(dataset)
    problems += _reference_problems(source, results, correction, superseded)
    problems += _correction_problems(results, correction)
    problems += _number_problems(results.sr, report)
    problems += _segment_problems(source, results.segs, report)
    return tuple(problems)


def _identity_problems(dataset: Dataset, source: Dataset) -> Iterator[str]:
    """Patient and study equal the source's, attribute by attribute."""
    for keyword in PATIENT_STUDY:
        expected, found = source.get(keyword), dataset.get(keyword)
        if keyword == "PatientSex" and expected not in PATIENT_SEX:
            expected = ""
        if (expected or "") != (found or ""):
            yield f"{dataset.Modality}: {keyword} is not the source's."


def _common_problems(dataset: Dataset) -> Iterator[str]:
    if dataset.get("ContentQualification") != "RESEARCH":
        yield f"{dataset.Modality}: Content Qualification is not RESEARCH."
    if not str(dataset.get("SeriesDescription", "")).startswith(RESEARCH_ONLY):
        yield f"{dataset.Modality}: Series Description does not begin with {RESEARCH_ONLY}."
    if dataset.get("VerificationFlag", "UNVERIFIED") != "UNVERIFIED":
        yield f"{dataset.Modality}: Verification Flag is not UNVERIFIED."
    if dataset.file_meta.MediaStorageSOPInstanceUID != dataset.SOPInstanceUID:
        yield f"{dataset.Modality}: the file's SOP Instance UID is not the dataset's."


def _text_problems(dataset: Dataset) -> Iterator[str]:
    """Our own text is ASCII, so that the study's character set, whatever it is, can hold it."""
    for keyword, value in _own_texts(dataset):
        if not value.isascii():
            yield f"{dataset.Modality}: {keyword} holds a character outside ASCII."


def _own_texts(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for element in dataset:
        if element.keyword in ALWAYS_FROM_SOURCE:
            continue
        if element.VR == "SQ":
            for item in element.value:
                if not _is_scanner(item):
                    yield from _own_texts(item)
        elif element.VR in ("LO", "LT", "PN", "SH", "ST", "UC", "UT"):
            yield element.keyword, str(element.value)


def _is_scanner(item: Dataset) -> bool:
    """Whether an item of Contributing Equipment repeats the source's own words."""
    purposes = item.get("PurposeOfReferenceCodeSequence", [])
    return any(purpose.get("CodeValue") == SCANNER_PURPOSE for purpose in purposes)


def _reference_problems(
    source: Sequence[Dataset], results: ResultSet, correction: Correction | None, superseded: Sequence[Dataset]
) -> Iterator[str]:
    """Every reference points into the source, to an object of this job, or to what was named to the builders."""
    instances = {str(header.SOPInstanceUID) for header in source}
    known = instances | {str(dataset.SOPInstanceUID) for dataset in results.datasets}
    if len(known) < len(instances) + len(results.datasets):
        yield "Two objects share one SOP Instance UID."
    corrected = {correction.sop_instance_uid} if correction is not None else set()
    rejected = {str(dataset.SOPInstanceUID) for dataset in rejected_objects(results, superseded)}
    for dataset in results.datasets:
        allowed = rejected if dataset is results.kos else known | corrected
        unknown = _referenced(dataset) - allowed
        if unknown:
            yield f"{dataset.Modality}: {len(unknown)} references point to no instance of source or job."
    if missing := rejected - (_referenced(results.kos) if results.kos is not None else set()):
        yield f"KO: {len(missing)} superseded objects are not rejected."


def _correction_problems(results: ResultSet, correction: Correction | None) -> Iterator[str]:
    """Check that a corrected segmentation is cited, told of in the Summary and called so, and no other is."""
    if correction is not None and correction.sop_instance_uid not in _referenced(results.sr):
        yield "SR: the corrected segmentation is not cited."
    summary = " ".join(str(item.get("TextValue", "")) for item in _content(results.sr) if _name(item) == "Summary")
    if correction is not None and correction_sentence(correction) not in summary:
        yield "SR: the Summary does not say who corrected the segmentation."
    expected = "AUTOMATIC" if correction is None else "SEMIAUTOMATIC"
    for seg in results.segs:
        if any(item.get("SegmentAlgorithmType") != expected for item in seg.SegmentSequence):
            yield f"SEG: Segment Algorithm Type is not {expected}."


def _referenced(dataset: Dataset) -> set[str]:
    found: set[str] = set()
    for element in dataset:
        if element.keyword == "ReferencedSOPInstanceUID":
            found.add(str(element.value))
        elif element.VR == "SQ" and element.keyword != "PredecessorDocumentsSequence":
            found = found.union(*(_referenced(item) for item in element.value))
    return found


def _number_problems(sr: Dataset, report: Report) -> Iterator[str]:
    """Every number has a unit, volumes are those of the masks, and nothing uncalibrated has a category."""
    if BANNER not in " ".join(str(item.get("TextValue", "")) for item in _content(sr)):
        yield "SR: the banner is missing."
    for item in _content(sr):
        if item.get("ValueType") == "NUM" and not _has_unit(item):
            yield f"SR: {_name(item)} has no unit."
        if item.get("ValueType") == "CONTAINER" and item.get("ContinuityOfContent") != "SEPARATE":
            yield f"SR: container {_name(item)} is not SEPARATE."
        if not report.calibration.is_calibrated and _name(item) == "QCT bone density category":
            yield "SR: an uncalibrated density has a category."


def _content(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from _content(child)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence", [])
    return str(names[0].CodeMeaning) if names else "an item without name"


def _has_unit(item: Dataset) -> bool:
    values = item.get("MeasuredValueSequence", [])
    return bool(values) and bool(values[0].get("MeasurementUnitsCodeSequence"))


def _segment_problems(source: Sequence[Dataset], segs: Sequence[Dataset], report: Report) -> list[str]:
    """Read every segment back and compare it with the mask: place, volume, side."""
    grid = grid_from_headers(source)
    problems = [
        "SEG: Frame of Reference is not the source's."
        for seg in segs
        if str(seg.get("FrameOfReferenceUID", "")) != grid.frame_of_reference_uid
    ]
    if not segs and report.regions and grid.frame_of_reference_uid:
        problems.append("SEG: the report has regions and no Segmentation was made.")
    if segs:
        read = _merged([segment for seg in segs for segment in read_segments(seg)])
        for region in report.regions:
            problems += _region_problems(region, read.get(tracking_uid(report, region.key)), grid)
        problems += _side_problems(report.regions, grid)
    return problems + list(_volume_problems(report, grid))


def read_segments(seg: Dataset) -> list[Segment]:
    """Read the segments of a Segmentation from its frames and functional groups."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
    between_mm = float(measures.get("SpacingBetweenSlices") or measures.SliceThickness)
    cosines = np.array([float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    steps = np.stack([cosines[3:] * row_mm, cosines[:3] * column_mm])
    sums: dict[int, tuple[int, NDArray[np.float64]]] = {}
    for number, position, frame in _frames(seg):
        rows, columns = np.nonzero(frame)
        total = len(rows) * position + np.array([rows.sum(), columns.sum()]) @ steps
        voxels, before = sums.get(number, (0, np.zeros(3)))
        sums[number] = (voxels + len(rows), before + total)
    return [
        Segment(
            tracking_uid=str(item.TrackingUID),
            laterality=_laterality(item),
            voxels=voxels,
            volume_mm3=voxels * row_mm * column_mm * between_mm,
            centre_lps=total / max(voxels, 1),
        )
        for item in seg.SegmentSequence
        for voxels, total in [sums.get(int(item.SegmentNumber), (0, np.zeros(3)))]
    ]


def _frames(seg: Dataset) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.uint8]]]:
    """Yield segment number, position (x, y, z) of the first voxel, and pixels of every frame."""
    pixels = seg.Rows * seg.Columns
    values = np.frombuffer(seg.PixelData, np.uint8)
    if int(seg.BitsAllocated) == 1:
        values = np.unpackbits(values, bitorder="little")
    shared = seg.SharedFunctionalGroupsSequence[0]
    for index, groups in enumerate(seg.PerFrameFunctionalGroupsSequence):
        identification = groups.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        place = groups.get("PlanePositionSequence") or shared.PlanePositionSequence
        frame = values[index * pixels : (index + 1) * pixels].reshape(seg.Rows, seg.Columns)
        position = np.array([float(value) for value in place[0].ImagePositionPatient])
        yield int(identification[0].ReferencedSegmentNumber), position, frame


def _laterality(item: Dataset) -> str:
    modifiers = item.SegmentedPropertyTypeCodeSequence[0].get("SegmentedPropertyTypeModifierCodeSequence", [])
    by_value = {code.value: side for side, code in LATERALITIES.items()}
    return next((by_value[str(code.CodeValue)] for code in modifiers if code.CodeValue in by_value), "")


def _merged(segments: Sequence[Segment]) -> dict[str, Segment]:
    """Put the parts of a region that several objects share together again."""
    merged: dict[str, Segment] = {}
    for segment in segments:
        before = merged.get(segment.tracking_uid)
        if before is None:
            merged[segment.tracking_uid] = segment
            continue
        voxels = before.voxels + segment.voxels
        centre = (before.centre_lps * before.voxels + segment.centre_lps * segment.voxels) / voxels
        volume_mm3 = before.volume_mm3 + segment.volume_mm3
        merged[segment.tracking_uid] = Segment(segment.tracking_uid, segment.laterality, voxels, volume_mm3, centre)
    return merged


def _region_problems(region: Region, segment: Segment | None, grid: Grid) -> Iterator[str]:
    if segment is None:
        yield f"SEG: region {region.key} is missing."
        return
    if segment.laterality != region.laterality:
        yield f"SEG: side of {region.key} is {segment.laterality!r}, expected {region.laterality!r}."
    away_mm = float(np.linalg.norm(segment.centre_lps - grid.centroid_lps(region.mask)))
    if away_mm > POSITION_TOLERANCE_MM:
        yield f"SEG: {region.key} lies {away_mm:.1f} mm from its mask."
    expected_mm3 = float(region.mask.sum()) * grid.voxel_volume_mm3
    if abs(segment.volume_mm3 - expected_mm3) > VOLUME_TOLERANCE * expected_mm3:
        yield f"SEG: {region.key} has {segment.volume_mm3:.0f} mm3, its mask {expected_mm3:.0f} mm3."


def _side_problems(regions: Sequence[Region], grid: Grid) -> Iterator[str]:
    """Right lies at smaller LPS x than left of the same structure, or than the spine without a partner."""
    centres = {(r.structure, r.laterality): float(grid.centroid_lps(r.mask)[0]) for r in regions}
    middle = [x_mm for (_, side), x_mm in centres.items() if not side]
    for (structure, side), x_mm in centres.items():
        if not side:
            continue
        partner = centres.get((structure, "L" if side == "R" else "R"))
        reference = partner if partner is not None else float(np.mean(middle)) if middle else None
        if reference is not None and (x_mm < reference) != (side == "R"):
            yield f"SEG: the {structure} called {side} lies on the other side of the patient."


def _volume_problems(report: Report, grid: Grid) -> Iterator[str]:
    for group in report.groups:
        for measurement in group.measurements:
            if measurement.concept != "voi_volume" or group.region is None:
                continue
            mask_mm3 = float(group.region.mask.sum()) * grid.voxel_volume_mm3
            if abs(measurement.value - mask_mm3) > NUMBER_TOLERANCE * mask_mm3:
                yield f"SR: {group.key} has {measurement.value:.0f} mm3, its mask {mask_mm3:.0f} mm3."
