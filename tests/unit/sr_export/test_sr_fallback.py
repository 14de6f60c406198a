"""The report in the SR classes that older archives take: the same words and numbers in what each class allows."""

from copy import deepcopy

import pytest
from pydicom import Dataset
from pydicom.sr.coding import Code
from result_factory import make_report, make_source

from sr_export.build import build_results
from sr_export.coded import code_item
from sr_export.context import BANNER
from sr_export.errors import NotExpressible
from sr_export.fallback import (
    MADE_ANEW,
    REPORT_CLASSES,
    content_items,
    fall_back,
    fallback_problems,
    number_text,
)

OLDER = [key for key in REPORT_CLASSES if key != "comprehensive_3d"]


@pytest.fixture(scope="module")
def report():
    """A report with groups, contours, findings and a predecessor."""
    source = make_source()
    first = build_results(source, make_report(groups=(), regions=(), pictures=()))
    return build_results(source, make_report(pictures=()), previous=[first.sr]).sr


def item(value_type: str, relationship: str = "CONTAINS", **values: object) -> Dataset:
    made = Dataset()
    made.RelationshipType, made.ValueType = relationship, value_type
    made.ConceptNameCodeSequence = [code_item(Code("111030", "DCM", "Image Region"))]
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def with_item(report: Dataset, extra: Dataset) -> Dataset:
    changed = deepcopy(report)
    changed.ContentSequence = [*report.ContentSequence, extra]
    return changed


def names_and_words(document: Dataset) -> list[tuple[str, str]]:
    """What a text renderer prints, in order."""
    lines = []
    for one in content_items(document):
        name = one.ConceptNameCodeSequence[0].CodeMeaning if one.get("ConceptNameCodeSequence") else ""
        if one.ValueType in ("NUM", "TEXT", "CODE"):
            words = {
                "NUM": lambda one: number_text(one),
                "TEXT": lambda one: one.TextValue,
                "CODE": lambda one: one.ConceptCodeSequence[0].CodeMeaning,
            }[one.ValueType](one)
            lines.append((name, str(words)))
    return lines


@pytest.mark.parametrize("key", OLDER)
def test_every_class_says_the_same_in_the_same_order_under_the_same_identity(report, key):
    variant = fall_back(report, REPORT_CLASSES[key])
    assert variant.SOPClassUID == REPORT_CLASSES[key].sop_class_uid
    assert names_and_words(variant) == names_and_words(report)
    kept = {element.keyword for element in report} - MADE_ANEW
    assert {keyword for keyword in kept if variant.get(keyword) != report.get(keyword)} == set()
    assert {"PredecessorDocumentsSequence", "CurrentRequestedProcedureEvidenceSequence", "CompletionFlag"} <= kept
    assert fallback_problems(report, variant) == ()


@pytest.mark.parametrize("key", OLDER)
def test_the_same_report_always_gives_the_same_instance_and_a_changed_one_another(report, key):
    row = REPORT_CLASSES[key]
    variant = fall_back(report, row)
    assert fall_back(report, row) == variant
    uids = {str(fall_back(report, REPORT_CLASSES[one]).SOPInstanceUID) for one in OLDER}
    assert len(uids | {str(report.SOPInstanceUID)}) == 4
    changed = fall_back(with_item(report, item("TEXT", TextValue="more")), row)
    assert changed.SOPInstanceUID != variant.SOPInstanceUID
    assert changed.SeriesInstanceUID != variant.SeriesInstanceUID != report.SeriesInstanceUID


def test_the_report_itself_is_left_alone(report):
    before = deepcopy(report)
    fall_back(report, REPORT_CLASSES["basic_text"])
    assert report == before


def test_basic_text_has_the_summary_first_numbers_as_lines_and_images_for_contours(report):
    variant = fall_back(report, REPORT_CLASSES["basic_text"])
    items = list(content_items(variant))
    assert {one.ValueType for one in items} == {"CONTAINER", "TEXT", "CODE", "UIDREF", "IMAGE"}
    contained = [one for one in variant.ContentSequence if one.RelationshipType == "CONTAINS"]
    assert contained[0].ConceptNameCodeSequence[0].CodeMeaning == "Summary"
    assert BANNER in contained[0].TextValue
    lines = dict(names_and_words(variant))
    assert lines["L1 trabecular vBMD"] == "104 mg/cm3"
    assert lines["L1 mean CT number"] == "131 HU"
    assert lines["Right femur strength, fall, min (CT-FE)"] == "2660 N"
    drawn_on = [
        one.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for one in content_items(report)
        if one.ValueType == "SCOORD"
    ]
    images = [one for one in items if one.ValueType == "IMAGE"]
    assert [one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in images] == drawn_on
    assert {one.RelationshipType for one in images} == {"CONTAINS"}
    assert variant.ConceptNameCodeSequence[0].CodeValue == "18748-4", "OHIF would look for contours under TID 1500"
    assert "ContentTemplateSequence" not in variant


def test_a_point_in_space_becomes_a_text_where_there_is_no_space(report):
    point = item("SCOORD3D", GraphicType="POINT", GraphicData=[1.25, -40.0, 812.5])
    changed = with_item(report, point)
    for key in OLDER:
        last = fall_back(changed, REPORT_CLASSES[key]).ContentSequence[-1]
        assert (last.ValueType, last.RelationshipType) == ("TEXT", "CONTAINS")
        assert last.TextValue == "POINT at (1.2, -40.0, 812.5) mm (x, y, z; LPS)"


def test_content_by_reference_stays_in_comprehensive_only(report):
    reference = Dataset()
    reference.RelationshipType, reference.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 2]
    changed = with_item(report, item("TEXT", TextValue="see", ContentSequence=[reference]))
    has_reference = {
        key: any("ReferencedContentItemIdentifier" in one for one in content_items(fall_back(changed, row)))
        for key, row in REPORT_CLASSES.items()
        if key in OLDER
    }
    assert has_reference == {"comprehensive": True, "enhanced": False, "basic_text": False}


def test_a_number_without_value_says_why(report):
    empty = item("NUM", MeasuredValueSequence=[], NumericValueQualifierCodeSequence=[])
    empty.NumericValueQualifierCodeSequence = [code_item(Code("114006", "DCM", "Measurement failure"))]
    variant = fall_back(with_item(report, empty), REPORT_CLASSES["basic_text"])
    assert variant.ContentSequence[-1].TextValue == "Measurement failure"


def test_what_a_class_cannot_say_at_all_is_refused_by_name(report):
    with pytest.raises(NotExpressible, match="Basic Text SR has no TCOORD"):
        fall_back(with_item(report, item("TCOORD")), REPORT_CLASSES["basic_text"])


def spoil(variant: Dataset, what: str) -> Dataset:
    texts = [one for one in content_items(variant) if one.ValueType == "TEXT"]
    if what == "patient":
        variant.PatientID = "OTHER"
    if what == "number":
        next(one for one in texts if one.TextValue == "104 mg/cm3").TextValue = "140 mg/cm3"
    if what == "banner":
        next(one for one in texts if BANNER in one.TextValue).TextValue = "Fine."
    if what == "type":
        texts[-1].ValueType = "SCOORD"
    if what == "identity":
        variant.SOPInstanceUID = "2.25.7"
    if what == "image":
        image = next(one for one in content_items(variant) if one.ValueType == "IMAGE")
        image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.8"
    return variant


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("patient", "PatientID is not the report's"),
        ("number", "numbers are not the report's"),
        ("banner", "banner is missing"),
        ("type", "has no SCOORD"),
        ("identity", "UID is not the dataset's"),
        ("image", "does not refer to"),
    ],
)
def test_our_own_check_finds_a_spoilt_variant_and_names_no_value(report, what, sentence):
    problems = fallback_problems(report, spoil(fall_back(report, REPORT_CLASSES["basic_text"]), what))
    assert any(sentence in problem for problem in problems), problems
    assert "OTHER" not in str(problems)
