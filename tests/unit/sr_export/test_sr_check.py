"""The gate of our own: each kind of fault is put into sound objects once, and found."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from result_factory import build_without_drawing, make_report, make_source

from sr_export.check import check_results


@pytest.fixture(scope="module")
def sound():
    source, report = make_source(), make_report()
    return source, build_without_drawing(source, report), report


@pytest.fixture
def broken(sound):
    """Return the source, objects that may be damaged, and the report."""
    source, results, report = sound
    copies = {"segs": deepcopy(results.segs), "sr": deepcopy(results.sr), "pages": deepcopy(results.pages)}
    return source, replace(results, **copies), report


def problems(case, **report_values):
    source, results, report = case
    return check_results(source, results, replace(report, **report_values))


def first_number(item):
    for child in item.ContentSequence:
        if child.ValueType == "NUM":
            return child
        if "ContentSequence" in child and (found := first_number(child)) is not None:
            return found
    return None


def test_sound_objects_pass(sound):
    assert problems(sound) == ()


def test_another_patient_is_found(broken):
    broken[1].sr.PatientID = "SOMEONE-ELSE"
    assert problems(broken) == ("SR: PatientID is not the source's.",)


def test_a_missing_issuer_is_found(broken):
    del broken[1].pages[0].IssuerOfPatientID
    assert problems(broken) == ("OT: IssuerOfPatientID is not the source's.",)


def test_another_study_is_found(broken):
    broken[1].segs[0].StudyInstanceUID = "2.25.77"
    assert problems(broken) == ("SEG: StudyInstanceUID is not the source's.",)


def test_another_frame_of_reference_is_found(broken):
    broken[1].segs[0].FrameOfReferenceUID = "2.25.77"
    assert problems(broken) == ("SEG: Frame of Reference is not the source's.",)


def test_a_dangling_reference_is_found(broken):
    evidence = broken[1].sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.78"
    assert problems(broken) == ("SR: 1 references point to no instance of source or job.",)


def test_a_number_without_unit_is_found(broken):
    number = first_number(broken[1].sr)
    del number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence
    assert problems(broken) == ("SR: L1 trabecular vBMD has no unit.",)


def test_text_outside_ascii_is_found(broken):
    broken[1].sr.ContentSequence[8].TextValue += " ≥ 80"
    assert "SR: TextValue holds a character outside ASCII." in problems(broken)


def test_a_foreign_name_of_patient_or_scanner_is_no_text_of_ours():
    source = make_source(PatientName="Иванова^Анна", charset="ISO_IR 192", Manufacturer="Société")
    report = make_report(pictures=())
    assert check_results(source, build_without_drawing(source, report), report) == ()


def test_a_mirrored_segmentation_is_found(broken):
    """Flip every frame left to right, as a forgotten axis does."""
    seg = broken[1].segs[0]
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits[: seg.NumberOfFrames * seg.Rows * seg.Columns].reshape(-1, seg.Rows, seg.Columns)
    packed = np.packbits(frames[:, :, ::-1].ravel(), bitorder="little").tobytes()
    seg.PixelData = packed + b"\0" * (len(packed) % 2)
    found = problems(broken)
    assert any("femur_right lies" in problem for problem in found)


def test_sides_swapped_in_the_report_are_found(sound):
    source, _, report = sound
    swapped = tuple(
        replace(region, laterality={"R": "L", "L": "R", "": ""}[region.laterality]) for region in report.regions
    )
    wrong = replace(report, regions=swapped, groups=())
    found = check_results(source, build_without_drawing(source, wrong), wrong)
    assert "SEG: the femur called L lies on the other side of the patient." in found


def test_a_lone_femur_is_judged_against_the_spine(sound):
    source, _, report = sound
    right, _, body, _ = report.regions
    wrong = replace(report, regions=(replace(right, laterality="L"), body), groups=())
    found = check_results(source, build_without_drawing(source, wrong), wrong)
    assert found == ("SEG: the femur called L lies on the other side of the patient.",)


def test_a_side_missing_in_the_segmentation_is_found(broken):
    item = broken[1].segs[0].SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    del item.SegmentedPropertyTypeModifierCodeSequence
    assert problems(broken) == ("SEG: side of femur_right is '', expected 'R'.",)


def test_a_missing_voxel_is_found(broken):
    seg = broken[1].segs[0]
    seg.PixelData = bytes(len(seg.PixelData) // 2) + seg.PixelData[len(seg.PixelData) // 2 :]
    assert any("mm3, its mask" in problem for problem in problems(broken))


def test_a_volume_that_is_not_the_masks_is_found(sound):
    source, results, report = sound
    group = report.groups[0]
    measurement = replace(group.measurements[2], value=9999.0)
    wrong = replace(group, measurements=(*group.measurements[:2], measurement))
    found = check_results(source, results, replace(report, groups=(wrong, *report.groups[1:])))
    assert found == ("SR: L1_voi has 9999 mm3, its mask 1296 mm3.",)


def test_a_category_without_calibration_is_found(sound):
    source, results, report = sound
    uncalibrated = replace(report, calibration=replace(report.calibration, is_calibrated=False))
    assert "SR: an uncalibrated density has a category." in check_results(source, results, uncalibrated)


def test_a_missing_research_flag_is_found(broken):
    broken[1].sr.ContentQualification = "PRODUCT"
    assert problems(broken) == ("SR: Content Qualification is not RESEARCH.",)


def test_no_problem_names_the_patient(broken):
    broken[1].sr.PatientID, broken[1].sr.PatientName = "SOMEONE-ELSE", "Else^Someone"
    assert not any("SOMEONE" in problem or "PACS" in problem for problem in problems(broken))
