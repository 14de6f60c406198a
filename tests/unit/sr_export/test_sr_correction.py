"""A report that rests on a corrected segmentation says who corrected it, why, and which object it was."""

from dataclasses import replace

import pytest
from result_factory import build_without_drawing, make_report, make_source

from sr_export.build import build_results
from sr_export.check import check_results
from sr_export.corrected import correction_sentence, person_name
from sr_export.inputs import Correction

CORRECTION = Correction("Corrector^Clara", "neck was cut off", "1.2.840.10008.5.1.4.1.1.66.4", "2.25.501", "2.25.502")
SENTENCE = "Segmentation corrected by Corrector Clara: neck was cut off."


@pytest.fixture(scope="module")
def corrected():
    source, report = make_source(), make_report()
    return source, build_without_drawing(source, report, CORRECTION), report


def items(item):
    for child in item.get("ContentSequence", []):
        yield child
        yield from items(child)


def named(sr, code):
    return [item for item in items(sr) if item.ConceptNameCodeSequence[0].CodeValue == code]


def test_the_person_is_an_observer_beside_the_node(corrected):
    sr = corrected[1].sr
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in named(sr, "121005")] == ["Person", "Device"]
    assert [str(item.PersonName) for item in named(sr, "121008")] == ["Corrector^Clara"]
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in named(sr, "121011")] == ["Assisting"]


def test_summary_and_limits_say_who_and_why(corrected):
    sr = corrected[1].sr
    assert named(sr, "121111")[0].TextValue.endswith(SENTENCE)
    assert SENTENCE in [item.TextValue for item in named(sr, "ON2007")]


def test_the_corrected_object_is_cited_in_the_text_and_among_the_evidence(corrected):
    sr = corrected[1].sr
    cited = named(sr, "ON2012")[0].ReferencedSOPSequence[0]
    assert (cited.ReferencedSOPClassUID, cited.ReferencedSOPInstanceUID) == (
        CORRECTION.sop_class_uid,
        CORRECTION.sop_instance_uid,
    )
    series = {
        one.SeriesInstanceUID: [instance.ReferencedSOPInstanceUID for instance in one.ReferencedSOPSequence]
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
    }
    assert series[CORRECTION.series_instance_uid] == [CORRECTION.sop_instance_uid]


def test_a_report_of_nothing_that_was_corrected_still_cites_a_slice_of_its_source():
    source = make_source()
    empty = make_report(groups=(), regions=(), pictures=())
    sr = build_without_drawing(source, empty, CORRECTION).sr
    cited = {
        instance.ReferencedSOPInstanceUID
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for instance in one.ReferencedSOPSequence
    }
    assert cited == {CORRECTION.sop_instance_uid, source[12].SOPInstanceUID}


def test_segments_are_semiautomatic_only_where_a_person_corrected_them(corrected):
    source, results, report = corrected
    kinds = {item.SegmentAlgorithmType for seg in results.segs for item in seg.SegmentSequence}
    assert kinds == {"SEMIAUTOMATIC"}
    automatic = build_without_drawing(source, report)
    assert {item.SegmentAlgorithmType for seg in automatic.segs for item in seg.SegmentSequence} == {"AUTOMATIC"}


def test_the_gate_accepts_a_corrected_report_and_no_report_that_hides_the_correction(corrected):
    source, results, report = corrected
    assert check_results(source, results, report, CORRECTION) == ()
    hidden = check_results(source, build_without_drawing(source, report), report, CORRECTION)
    assert "SR: the corrected segmentation is not cited." in hidden
    assert "SR: the Summary does not say who corrected the segmentation." in hidden
    assert "SEG: Segment Algorithm Type is not SEMIAUTOMATIC." in hidden
    assert "SEG: Segment Algorithm Type is not AUTOMATIC." in check_results(source, results, report)


def test_the_page_says_it(monkeypatch):
    seen = []

    def look(report, identity):
        seen.append(report.limits)
        raise StopIteration

    monkeypatch.setattr("sr_export.build.draw_pages", look)
    with pytest.raises(StopIteration):
        build_results(make_source(), make_report(), correction=CORRECTION)
    assert seen[0][-1] == SENTENCE


@pytest.mark.parametrize(
    ("operator", "reason", "sentence"),
    [
        ("", "", "Segmentation corrected by a person who is not named: no reason given."),
        ("clara", "cut.", "Segmentation corrected by clara: cut."),
        ("Müller^Zoë", "Kortikalis über 2\nmm", "Segmentation corrected by Muller Zoe: Kortikalis uber 2 mm."),
        ("山田^太郎", "x", "Segmentation corrected by a person whose name has no Latin letters: x."),
        ("Yamada^Tarou=山田^太郎", "x", "Segmentation corrected by Yamada Tarou: x."),
    ],
)
def test_a_name_in_any_form_makes_a_sentence_and_a_valid_report(operator, reason, sentence):
    one = replace(CORRECTION, operator=operator, reason=reason)
    assert correction_sentence(one) == sentence
    source, report = make_source(slices=4), make_report(groups=(), regions=(), pictures=())
    results = build_without_drawing(source, report, one)
    assert check_results(source, results, report, one) == ()
    assert len(named(results.sr, "121008")) == bool(person_name(operator))


def test_who_corrected_is_in_no_representation_of_the_value():
    assert "Clara" not in repr(CORRECTION)
    assert "neck" not in repr(CORRECTION)
