"""The structured report: says every number once, in full, and stays valid with nothing to say."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from result_factory import make_report, make_source

from sr_export.codes import SCHEME
from sr_export.errors import ContradictoryReport, UnknownConcept
from sr_export.geometry import grid_from_headers
from sr_export.inputs import Measurement
from sr_export.seg import build_segs, tracking_uid
from sr_export.sr import build_sr
from sr_export.sr_groups import outline


@lru_cache(maxsize=2)
def standard(*, is_calibrated=True):
    """Return the report of ``make_report``; read it, and change nothing."""
    return built(make_report(is_calibrated=is_calibrated))


def built(report, source=None):
    source = source or make_source()
    return build_sr(source, build_segs(source, grid_from_headers(source), report), report)


def items(item, value_type=None):
    for child in item.get("ContentSequence", []):
        if value_type in (None, child.ValueType):
            yield child
        yield from items(child, value_type)


def name(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning


def numbers(sr):
    found = {}
    for item in items(sr, "NUM"):
        value = item.MeasuredValueSequence[0]
        found[name(item)] = (float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue)
    return found


def test_numbers_carry_side_case_level_value_and_unit():
    found = numbers(standard())
    assert found["L1 trabecular vBMD"] == (104.0, "mg/cm3")
    assert found["L1 mean CT number"] == (131.0, "[hnsf'U]")
    assert found["L1-L2 mean trabecular vBMD"] == (104.0, "mg/cm3")
    assert found["Right femur strength, fall, min (CT-FE)"] == (2660.0, "N")
    assert found["Right femur strength, stance, min (CT-FE), lower"] == (5010.0, "N")
    assert found["Right femur strength, stance, min (CT-FE), upper"] == (5620.0, "N")
    assert not any("Left" in key for key in found)


def test_an_uncalibrated_report_says_so_beside_every_density_and_strength():
    sr = standard(is_calibrated=False)
    for key, (_, unit) in numbers(sr).items():
        assert key.endswith(", uncalibrated") == (unit in ("mg/cm3", "N")), key
    summary = next(item.TextValue for item in items(sr, "TEXT") if name(item) == "Summary")
    assert "UNCALIBRATED" in summary


def test_an_uncalibrated_report_has_no_category_even_when_one_is_given():
    calibrated, uncalibrated = standard(), standard(is_calibrated=False)
    assert any(name(item) == "QCT bone density category" for item in items(calibrated, "CODE"))
    assert not any(name(item) == "QCT bone density category" for item in items(uncalibrated, "CODE"))


def test_every_container_is_separate():
    sr = standard()
    assert sr.ContinuityOfContent == "SEPARATE"
    assert {item.ContinuityOfContent for item in items(sr, "CONTAINER")} == {"SEPARATE"}


def test_the_first_contour_of_a_group_is_on_the_middle_slice():
    source, report = make_source(), make_report()
    first = next(items(built(report, source), "SCOORD"))
    uid = first.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert uid == source[18].SOPInstanceUID


def measurement_groups(sr):
    return [item for item in items(sr, "CONTAINER") if name(item) == "Measurement Group"]


def tracking(group):
    return next(item.UID for item in group.ContentSequence if item.ValueType == "UIDREF")


def drawn_slice(group, source):
    """Index of the slice that viewers draw a group on: that of its first contour."""
    first = next(items(group, "SCOORD")).ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    return [header.SOPInstanceUID for header in source].index(first)


def crowded_report():
    """Return a report with eight numbers of one femur in a group, and one more in another."""
    report = make_report()
    femur = report.groups[2]
    cases = ("stance_minimum", "fall_minimum", "stance_maximum", "fall_maximum")
    many = tuple(
        Measurement(f"femur_strength_{case}", 3000.0, *((2800.0, 3100.0) if "minimum" in case else ()))
        for case in cases
    )
    density = replace(femur, key="femur_right_density", measurements=femur.measurements[:1], findings=())
    return replace(report, groups=(*report.groups[:2], replace(femur, measurements=many), density))


def test_no_group_has_more_numbers_than_viewers_write_beside_its_contour():
    sr = built(crowded_report())
    counts = [sum(item.ValueType == "NUM" for item in group.ContentSequence) for group in measurement_groups(sr)]
    assert counts == [5, 1, 3, 5, 1]
    assert len(numbers(sr)) == 15


def test_a_value_and_the_ends_of_its_interval_stay_in_one_group():
    for group in measurement_groups(built(crowded_report())):
        names = [name(item) for item in group.ContentSequence if item.ValueType == "NUM"]
        bounds = [one for one in names if one.endswith(("lower", "upper"))]
        assert all(one.rsplit(",", 1)[0] in names for one in bounds)


def test_groups_of_one_bone_have_tracking_identifiers_and_slices_of_their_own():
    source, report = make_source(), crowded_report()
    groups = measurement_groups(built(report, source))
    assert len({tracking(group) for group in groups}) == len(groups)
    femur = groups[2:]
    assert len({drawn_slice(group, source) for group in femur}) == len(femur)
    assert tracking(femur[0]) == tracking_uid(report, "femur_right")


def test_quality_flags_of_a_group_are_said_once_however_many_parts_it_has():
    coded = [i.ConceptCodeSequence[0].CodeValue for i in items(built(crowded_report()), "CODE")]
    assert coded.count("ON3010") == 1


def test_every_group_has_a_contour_because_one_without_blanks_the_whole_report_in_a_viewer():
    source = make_source()
    for group in measurement_groups(built(make_report(), source)):
        assert any(item.ValueType == "SCOORD" for item in group.ContentSequence), tracking(group)


def test_a_mean_over_vertebrae_is_drawn_on_another_slice_than_their_own_numbers():
    source = make_source()
    own, mean = measurement_groups(built(make_report(), source))[:2]
    assert drawn_slice(own, source) != drawn_slice(mean, source)
    assert make_report().regions[3].mask[drawn_slice(mean, source)].any()


def test_a_mean_of_which_no_part_was_measured_is_refused():
    report = make_report()
    with pytest.raises(ContradictoryReport, match="lumbar_spine has no region"):
        built(replace(report, groups=report.groups[1:]))


def test_numbers_are_stored_without_digits_that_mean_nothing():
    stored = [str(item.MeasuredValueSequence[0].NumericValue) for item in items(standard(), "NUM")]
    assert all("." not in one for one in stored)


def test_a_contour_surrounds_its_mask_in_image_coordinates():
    mask = np.zeros((10, 12), bool)
    mask[2:5, 6:11] = True
    points = outline(mask)
    np.testing.assert_array_equal(points[0], points[-1])
    assert points[:, 0].min() == 6.0
    assert points[:, 0].max() == 11.0
    assert points[:, 1].min() == 2.0
    assert points[:, 1].max() == 5.0


def test_a_mask_that_touches_the_edge_still_has_a_closed_contour():
    points = outline(np.ones((4, 4), bool))
    np.testing.assert_array_equal(points[0], points[-1])


def test_evidence_holds_only_what_is_referenced_and_the_segmentation():
    source, report = make_source(), make_report()
    segs = build_segs(source, grid_from_headers(source), report)
    sr = build_sr(source, segs, report)
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert {str(seg.SOPInstanceUID) for seg in segs} <= evidence
    assert len(evidence) < 15


def test_flags_are_coded_and_worded():
    sr = standard()
    coded = [i.ConceptCodeSequence[0].CodeValue for i in items(sr, "CODE") if name(i) == "Quality Finding"]
    assert coded == ["ON3010", "ON3001", "ON3000"]
    worded = {name(item): item.TextValue for item in items(sr, "TEXT")}
    assert worded["Metal or cement inside or beside the bone"].startswith("Left femur: 4.1 cm3")
    assert "not heard of" in worded["Other quality finding"]


def test_measurements_and_segment_share_a_tracking_identifier():
    report = make_report()
    uids = [item.UID for item in items(built(report), "UIDREF") if name(item) == "Tracking Unique Identifier"]
    assert tracking_uid(report, "femur_right") in uids


def test_a_report_of_nothing_is_still_a_report():
    sr = built(make_report(groups=(), regions=(), headline="No hip and no lumbar vertebra was found."))
    assert numbers(sr) == {}
    summary = next(item.TextValue for item in items(sr, "TEXT") if name(item) == "Summary")
    assert "No hip and no lumbar vertebra" in summary


def test_the_private_scheme_is_declared():
    declared = standard().CodingSchemeIdentificationSequence
    assert [item.CodingSchemeDesignator for item in declared] == [SCHEME]


def test_a_replaced_report_is_cited():
    source = make_source()
    first = built(make_report(), source)
    second = build_sr(source, (), make_report(groups=(), regions=()), previous=[first])
    cited = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert cited.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert cited.PurposeOfReferenceCodeSequence[0].CodeValue == "121360"


def test_a_value_that_is_not_finite_is_refused():
    report = make_report()
    bad = replace(report.groups[0], measurements=(Measurement("trabecular_vbmd", float("nan")),))
    with pytest.raises(ContradictoryReport, match="trabecular_vbmd"):
        built(replace(report, groups=(bad,)))


def test_a_group_on_the_other_side_than_its_region_is_refused():
    report = make_report()
    bad = replace(report.groups[2], laterality="L")
    with pytest.raises(ContradictoryReport, match="side 'L'"):
        built(replace(report, groups=(bad,)))


def test_a_group_of_an_unknown_algorithm_is_refused():
    report = make_report()
    bad = replace(report.groups[0], algorithm="magic")
    with pytest.raises(UnknownConcept, match="magic"):
        built(replace(report, groups=(bad,)))


def test_text_is_ascii_whatever_the_pipeline_says():
    sr = built(make_report(headline="vBMD 92 mg/cm³ ≥ 80 \u2013 \u03c3", limits=("Grenzwert für Frauen ≤ 80",)))
    texts = [item.TextValue for item in items(sr, "TEXT")]
    assert all(text.isascii() for text in texts)
    assert "Grenzwert fur Frauen <= 80" in texts
    assert any("92 mg/cm3 >= 80 - ?" in text for text in texts)


def test_the_report_is_small():
    assert len(standard().to_json()) < 200_000
