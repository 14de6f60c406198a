"""Which rule takes a study, condition by condition; wildcards nobody can make slow; no value that names a patient."""

import errno
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from dicom_node.db.studies import OWN_CLASSES, SeriesArrivals
from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.errors import Unavailable
from dicom_node.pipeline import routing_headers
from dicom_node.pipeline.routing import (
    SHOWN,
    SeriesFacts,
    examine,
    first_match,
    is_like,
    lacking_series,
    trials,
    try_rule,
)
from dicom_node.pipeline.routing_headers import facts_of
from dicom_node.pipeline.routing_rules import EVERY_CT, FIELDS, Condition, RequiredSeries, Rule
from sr_export.fallback import REPORT_CLASSES


def ct(**changes: object) -> SeriesFacts:
    texts = {
        "modality": ("CT",),
        "kernel": ("B30f",),
        "series_description": ("Hip 1.0 soft",),
        "calling_aet": ("PACS",),
    }
    numbers = {"ct_instances": 300.0, "series_instances": 300.0, "slice_thickness_mm": 1.0, "patient_age_years": 71.0}
    for name, value in changes.items():
        if isinstance(value, tuple):
            texts[name] = value
        else:
            numbers[name] = float(str(value))
    return SeriesFacts("1.2.3", texts, numbers)


def asks(field: str, operator: str, value: object = None) -> Condition:
    return Condition.model_validate({"field": field, "operator": operator, "value": value})


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (asks("modality", "is", "ct"), True),
        (asks("modality", "is_not", "MR"), True),
        (asks("modality", "is_not", "CT"), False),
        (asks("modality", "one_of", ["MR", "CT"]), True),
        (asks("series_description", "like", "*hip*"), True),
        (asks("series_description", "not_like", "*hip*"), False),
        (asks("series_description", "like", "hip"), False),
        (asks("body_part", "is", "PELVIS"), False),
        (asks("body_part", "is_not", "HEAD"), True),
        (asks("body_part", "absent"), True),
        (asks("kernel", "present"), True),
        (asks("slice_thickness_mm", "at_most", 1), True),
        (asks("slice_thickness_mm", "at_most", 0.99), False),
        (asks("patient_age_years", "between", [50, 71]), True),
        (asks("patient_age_years", "between", [72, 90]), False),
        (asks("kvp", "at_least", 0), False),
        (asks("kvp", "is_not", 0), False),
        (asks("kvp", "absent"), True),
        (asks("ct_instances", "is", 300), True),
    ],
)
def test_a_condition_holds_or_not(condition: Condition, holds: bool) -> None:
    assert examine(condition, ct()).holds is holds


def test_a_series_of_several_values_satisfies_a_condition_by_one_of_them() -> None:
    series = ct(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert examine(asks("image_type", "is", "localizer"), series).holds
    assert not examine(asks("image_type", "is_not", "localizer"), series).holds


def test_one_series_has_to_satisfy_all_conditions_and_no_series_one_of_unless() -> None:
    rule = Rule(
        name="thin soft",
        conditions=(asks("kernel", "like", "B3?f"), asks("slice_thickness_mm", "at_most", 1.5)),
        unless=(asks("series_description", "like", "*phantom*"),),
    )
    thick_soft, thin_sharp = ct(slice_thickness_mm=5), ct(kernel=("B70f",))
    assert not try_rule(rule, [thick_soft, thin_sharp]).takes
    assert try_rule(rule, [thick_soft, ct()]).takes
    left_out = try_rule(rule, [ct(), ct(series_description=("QA Phantom",))])
    assert not left_out.takes
    assert "leaves out" in left_out.reason


def test_the_first_enabled_rule_that_fits_takes_the_study_and_each_earlier_one_says_why_not() -> None:
    no_fit = Rule(name="MR", conditions=(asks("modality", "is", "MR"),))
    off = Rule(name="Off", is_enabled=False)
    rules = (no_fit, off, EVERY_CT, Rule(name="Anything"))
    tried = list(trials(rules, [ct()]))
    assert [(one.rule.name, one.takes) for one in tried] == [("MR", False), ("Off", False), ("Every CT", True)]
    assert tried[0].series[0].findings[0].sentence == "modality is MR: it is CT"
    assert tried[1].reason == "It is switched off."
    assert first_match(rules, [ct()]) == EVERY_CT
    assert first_match(rules[:2], [ct()]) is None
    assert first_match((), [ct()]) is None


def test_a_rule_without_conditions_takes_any_study_but_none_without_series() -> None:
    assert try_rule(Rule(name="Anything"), [SeriesFacts("1", {}, {})]).takes
    assert not try_rule(Rule(name="Anything"), []).takes


def test_required_series_that_are_not_here_are_named() -> None:
    needs = RequiredSeries(
        name="thin", conditions=(asks("ct_instances", "at_least", 200), asks("kernel", "is", "B30f"))
    )
    rule = Rule(name="R", required_series=(needs,))
    assert lacking_series(rule, [ct()]) == ()
    assert lacking_series(rule, [ct(ct_instances=199), ct(kernel=("B70f",))]) == (
        "thin (ct_instances is at least 200; kernel is B30f)",
    )


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
@settings(max_examples=200, deadline=None)
def test_wildcards_mean_what_a_plain_recursion_says(pattern: str, text: str) -> None:
    def slow(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return slow(pattern[1:], text) or (bool(text) and slow(pattern, text[1:]))
        return bool(text) and pattern[0] in ("?", text[0]) and slow(pattern[1:], text[1:])

    assert is_like(text, pattern) == slow(pattern, text)


def test_no_pattern_is_slow() -> None:
    """What makes a backtracking regular expression run for years; the bound of steps is length times length."""
    began = time.process_time()
    assert not is_like("a" * 1024, "*a" * 100 + "b")
    assert time.process_time() - began < 1.0


def test_sentences_repeat_no_value_that_a_person_wrote() -> None:
    name = "QUISTGAARD"
    for field, (kind, _) in FIELDS.items():
        if field not in SHOWN and kind == "text":
            for operator, value in (("is", "x"), ("like", "*QUI*"), ("present", None)):
                said = examine(asks(field, operator, value), ct(**{field: (name,)})).sentence
                assert name not in said, field
    assert name not in examine(asks("tag:PatientComments", "present"), ct(**{"tag:PatientComments": (name,)})).sentence
    assert "71" not in examine(asks("patient_age_years", "at_most", 3), ct()).sentence


def test_the_classes_that_are_examined_for_our_equipment_hold_every_class_we_make() -> None:
    others = {
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.7",
        "1.2.840.10008.5.1.4.1.1.104.1",
        "1.2.840.10008.5.1.4.1.1.88.59",
    }
    assert {str(row.sop_class_uid) for row in REPORT_CLASSES.values()} | others <= set(OWN_CLASSES)


def arrived(path: Path, count: int = 3) -> SeriesArrivals:
    return SeriesArrivals("1.2", count, count, path.name, ("PACS",))


def test_facts_are_read_from_a_header(tmp_path: Path) -> None:
    scan = Scan(np.zeros((1, 4, 4)), (1.25, 0.7, 0.7), (0.0, 0.0, 0.0))
    (path,) = write_series(scan, tmp_path, FakePatient(), seed="facts")
    rule = Rule(name="R", conditions=(asks("tag:StationName", "present"), asks("tag:Rows", "at_least", 4)))
    (facts,) = facts_of([arrived(path)], tmp_path, [rule])
    assert facts.texts["modality"] == ("CT",)
    assert facts.texts["image_type"] == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert facts.texts["tag:StationName"] == ("NSCT01",)
    assert facts.texts["calling_aet"] == ("PACS",)
    assert facts.numbers["slice_thickness_mm"] == 1.25
    assert facts.numbers["patient_age_years"] == 74
    assert facts.numbers["ct_instances"] == facts.numbers["series_slices"] == 3
    assert all(examine(one, facts).holds for one in rule.conditions)


def test_a_lacking_series_is_named_without_what_a_person_is_compared_with() -> None:
    needs = RequiredSeries(
        name="thin", conditions=(asks("tag:PatientName", "like", "Muster*"), asks("series_description", "is", "Muster"))
    )
    (said,) = lacking_series(Rule(name="R", required_series=(needs,)), [ct()])
    assert "Muster" not in said
    assert said == "thin (tag:PatientName is like ...; series_description is ...)"


def test_what_the_system_refused_to_read_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule(name="R", conditions=(asks("tag:StationName", "present"),))
    scan = Scan(np.zeros((1, 4, 4)), (1.25, 0.7, 0.7), (0.0, 0.0, 0.0))
    (path,) = write_series(scan, tmp_path, FakePatient(), seed="away")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as away:
        away.setattr(routing_headers, "dcmread", refuse)
        with pytest.raises(Unavailable, match="Too many open files"):
            facts_of([arrived(path)], tmp_path, [rule])
    (facts,) = facts_of([arrived(path)], tmp_path, [rule])
    assert facts.texts["tag:StationName"] == ("NSCT01",)


def test_a_header_that_cannot_be_read_leaves_the_counts(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x00" * 500)
    facts = facts_of([arrived(tmp_path / "x"), arrived(tmp_path / "gone")], tmp_path, [EVERY_CT])
    assert [one.numbers["ct_instances"] for one in facts] == [3, 3]
    assert first_match([EVERY_CT], facts) == EVERY_CT, "its job says what is wrong with it"


@pytest.mark.parametrize(
    ("age", "birth", "years"),
    [
        ("006M", "", 0.5),
        ("090Y", "19000101", 90),
        ("", "19550101", 70.0),
        ("xxxY", "", None),
        ("", "20300101", None),
        ("", "", None),
    ],
)
def test_the_age_comes_from_the_age_string_or_the_dates(
    tmp_path: Path, age: str, birth: str, years: float | None
) -> None:
    scan = Scan(np.zeros((1, 4, 4)), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    (path,) = write_series(
        scan, tmp_path, FakePatient(age=age, birth_date=birth, study_date="20250101"), seed=f"{age}{birth}"
    )
    (facts,) = facts_of([arrived(path)], tmp_path, [])
    assert facts.numbers.get("patient_age_years") == (years if years is None else pytest.approx(years, abs=0.01))


def test_an_enhanced_image_is_read_from_its_functional_groups(tmp_path: Path) -> None:
    scan = Scan(np.zeros((1, 4, 4)), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    (path,) = write_series(scan, tmp_path, FakePatient(), seed="enhanced")
    header = dcmread(path)
    measures, reconstruction, groups = Dataset(), Dataset(), Dataset()
    measures.SliceThickness, reconstruction.ConvolutionKernel = 0.6, ["Br40", "3"]
    groups.PixelMeasuresSequence = Sequence([measures])
    groups.CTReconstructionSequence = Sequence([reconstruction])
    header.SharedFunctionalGroupsSequence = Sequence([groups])
    header.NumberOfFrames = 120
    del header.SliceThickness, header.ConvolutionKernel
    header.save_as(path)
    (facts,) = facts_of([arrived(path, 2)], tmp_path, [])
    assert facts.numbers["slice_thickness_mm"] == 0.6
    assert facts.texts["kernel"] == ("Br40", "3")
    assert facts.numbers["series_slices"] == 240
