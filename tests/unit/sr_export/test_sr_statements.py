"""What is said in words beside the numbers, and the bones of wrist and ankle."""

from dataclasses import replace

import pytest
from result_factory import build_without_drawing, make_report, make_source, peripheral_report

from sr_export.check import check_results
from sr_export.concepts import HR_PQCT, PERIPHERAL_BONES
from sr_export.errors import ContradictoryReport, UnknownConcept
from sr_export.geometry import grid_from_headers
from sr_export.inputs import Report, Statement
from sr_export.seg import build_segs
from sr_export.sr import build_sr


def items(item, value_type):
    for child in item.get("ContentSequence", []):
        if child.ValueType == value_type:
            yield child
        yield from items(child, value_type)


def texts(sr):
    return {item.ConceptNameCodeSequence[0].CodeMeaning: item.TextValue for item in items(sr, "TEXT")}


def built(report):
    source = make_source()
    return build_sr(source, build_segs(source, grid_from_headers(source), report), report)


def with_statement(group: int, statement: Statement) -> Report:
    report = make_report()
    groups = list(report.groups)
    groups[group] = replace(groups[group], statements=(statement,))
    return replace(report, groups=tuple(groups))


def test_failure_site_and_load_direction_stand_in_the_femurs_group_under_names_with_the_side():
    said = texts(built(make_report()))
    assert said["Right femur, weakest fall: failure site"] == "intertrochanteric region, in compression"
    assert said["Right femur, weakest fall: load direction"] == "10 degrees adduction, 15 degrees internal rotation"


def test_a_statement_is_said_once_however_many_parts_its_group_has():
    report = make_report()
    femur = replace(report.groups[2], measurements=report.groups[2].measurements * 3)
    sr = built(replace(report, groups=(*report.groups[:2], femur)))
    names = [item.ConceptNameCodeSequence[0].CodeMeaning for item in items(sr, "TEXT")]
    assert names.count("Right femur, weakest fall: failure site") == 1


def test_a_statement_about_a_femur_is_refused_of_a_vertebra():
    with pytest.raises(ContradictoryReport, match="weakest_fall_site"):
        built(with_statement(0, Statement("weakest_fall_site", "femoral neck")))


def test_an_unknown_statement_is_refused():
    with pytest.raises(UnknownConcept, match="horoscope"):
        built(with_statement(2, Statement("horoscope", "good")))


def test_every_index_of_a_peripheral_bone_is_reported_with_its_unit_under_a_name_with_bone_and_side():
    found = {}
    for item in items(built(peripheral_report("metacarpal_2", "L")), "NUM"):
        value = item.MeasuredValueSequence[0]
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        found[name] = (str(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue)
    assert len(found) == len(HR_PQCT) == 15
    assert all(name.startswith("Left metacarpal 2 ") for name in found)
    assert found["Left metacarpal 2 total area (Tt.Ar)"] == ("12.3", "mm2")
    assert found["Left metacarpal 2 trabecular thickness (Tb.Th)"] == ("21.346", "mm")
    assert found["Left metacarpal 2 trabecular number (Tb.N)"] == ("20.35", "/mm")
    assert found["Left metacarpal 2 stiffness (micro-FE)"] == ("30", "N/mm")


@pytest.mark.parametrize("structure", PERIPHERAL_BONES)
def test_a_report_of_a_peripheral_bone_passes_the_gate(structure):
    report = peripheral_report(structure)
    source = make_source()
    assert check_results(source, build_without_drawing(source, report), report) == ()
