"""Options of PS3.15 that change what is inside sequences, and which of two options wins."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from deid_rules.engine import deidentify
from deid_rules.options import Option
from deid_rules.pixels import CT_IMAGE_STORAGE
from deid_rules.profile import Profile, compile_rules
from deid_rules.rules import Action
from deid_rules.tables import profile_rows

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"


def _with(*options):
    return Profile(frozenset(options))


def _item(**attributes):
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _code(value, meaning):
    return _item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)


@pytest.fixture
def clean_of(through_file, subject, uids):
    return lambda ds, *options: deidentify(through_file(ds), subject, _with(*options), uids)[0]


def _claims(ds):
    return {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}


@pytest.mark.parametrize("chosen", [(), (Option.CLEAN_GRAPHICS,)], ids=["basic", "option"])
def test_graphics_keep_their_lines_and_lose_their_words(make_ct, encode, clean_of, chosen):
    text = _item(UnformattedTextValue="Vandermolen", AnchorPointAnnotationUnits="PIXEL", AnchorPoint=[3.0, 4.0])
    line = _item(GraphicData=[1.0, 2.0, 3.0, 4.0], GraphicType="POLYLINE", NumberOfGraphicPoints=2)
    layer = _item(GraphicLayer="VANDERMOLEN", TextObjectSequence=[text], GraphicObjectSequence=[line])
    layer.ReferencedImageSequence = [_item(ReferencedSOPInstanceUID="1.2.3")]
    ds = make_ct(SOPClassUID=PRESENTATION_STATE, GraphicAnnotationSequence=[layer])
    ds.add_new(0x60003000, "OW", b"\1\0" * 8)
    clean = clean_of(ds, *chosen)
    inside = clean.GraphicAnnotationSequence[0]
    assert inside.GraphicObjectSequence[0].GraphicData == [1, 2, 3, 4]
    assert inside.TextObjectSequence[0].AnchorPoint == [3, 4]
    assert inside.TextObjectSequence[0].UnformattedTextValue == "ANONYMIZED"
    assert inside.ReferencedImageSequence[0].ReferencedSOPInstanceUID.startswith("2.25.")
    assert 0x60003000 not in clean
    assert b"UnformattedTextValue Vandermolen" not in encode(clean)
    assert ("113103" in _claims(clean)) is bool(chosen)


def _report(make_ct):
    name = _code("121008", "Person Observer Name")
    content = [
        _item(ValueType="TEXT", ConceptNameCodeSequence=[name], TextValue="Zephyrine was here"),
        _item(ValueType="PNAME", ConceptNameCodeSequence=[name], PersonName="Vandermolen^Zephyrine"),
        _item(ValueType="UIDREF", ConceptNameCodeSequence=[name], UID="1.2.3.4"),
        _item(ValueType="CODE", ConceptNameCodeSequence=[name], ConceptCodeSequence=[_code("71341001", "Femur")]),
        _item(
            ValueType="NUM",
            ConceptNameCodeSequence=[name],
            MeasuredValueSequence=[_item(NumericValue="4.5", MeasurementUnitsCodeSequence=[_code("mm", "mm")])],
        ),
        _item(ValueType="DATETIME", ConceptNameCodeSequence=[name], DateTime="20240229101112"),
    ]
    container = _item(ValueType="CONTAINER", ContentSequence=content)
    ds = make_ct(SOPClassUID=COMPREHENSIVE_SR, ContentSequence=[container])
    ds.AcquisitionContextSequence = [_item(ValueType="TEXT", TextValue="Vandermolen", CodeMeaning="Position")]
    return ds


@pytest.mark.parametrize("chosen", [(), (Option.CLEAN_STRUCTURED_CONTENT,)], ids=["basic", "option"])
def test_structured_content_keeps_codes_and_numbers_and_loses_words_and_names(make_ct, encode, clean_of, chosen):
    clean = clean_of(_report(make_ct), *chosen)
    text, person, reference, code, number, when = clean.ContentSequence[0].ContentSequence
    assert text.TextValue == "ANONYMIZED"
    assert "andermolen" not in str(person.get("PersonName", ""))
    assert reference.UID.startswith("2.25.")
    assert code.ConceptCodeSequence[0].CodeMeaning == "Femur"
    assert number.MeasuredValueSequence[0].NumericValue == 4.5
    assert when.DateTime != "20240229101112"
    assert b"andermolen" not in encode(clean)
    assert ("113104" in _claims(clean)) is bool(chosen)


def test_acquisition_context_stays_only_under_clean_structured_content(make_ct, clean_of):
    ds = _report(make_ct)
    assert not clean_of(ds).get("AcquisitionContextSequence")
    kept = clean_of(ds, Option.CLEAN_STRUCTURED_CONTENT).AcquisitionContextSequence[0]
    assert kept.TextValue == "ANONYMIZED"
    assert kept.CodeMeaning == "Position"


def test_every_attribute_of_a_cleaning_column_is_cleaned_under_its_option():
    letters = {
        "S": Option.CLEAN_STRUCTURED_CONTENT,
        "G": Option.CLEAN_GRAPHICS,
        "T": Option.CLEAN_DESCRIPTORS,
    }
    for letter, option in letters.items():
        top, _ = compile_rules(_with(option), CT_IMAGE_STORAGE)
        rows = [row for row in profile_rows() if letter in row.options and row.keyword != "ContrastBolusAgent"]
        assert rows
        cleaned = [row for row in rows if top[row.tag].action in (Action.SEQUENCE, Action.CLEAN_TEXT)]
        assert {row.vr for row in rows if row not in cleaned} <= {"PN", "CS", "AS", "DS", "UI", "US", "OB", "AE", "UR"}


def _rule(keyword, *options):
    return compile_rules(_with(*options), CT_IMAGE_STORAGE)[0][tag_for_keyword(keyword)]


def test_any_one_retaining_option_is_enough():
    both = [row.keyword for row in profile_rows() if {"D", "U"} <= set(row.options)]
    assert both
    for keyword in both:
        assert _rule(keyword).action is Action.MAP_UID
        for option in (Option.RETAIN_DEVICE_IDENTITY, Option.RETAIN_UIDS):
            assert _rule(keyword, option).action is Action.KEEP_UID


@pytest.mark.parametrize("keyword", ["Allergies", "PatientState"])
def test_a_description_of_the_patient_is_cleaned_only_under_clean_descriptors(keyword):
    assert _rule(keyword, Option.RETAIN_PATIENT_CHARACTERISTICS).action is Action.REMOVE
    both = _rule(keyword, Option.RETAIN_PATIENT_CHARACTERISTICS, Option.CLEAN_DESCRIPTORS)
    assert both.action is Action.CLEAN_TEXT


def test_a_calibration_date_stays_only_where_device_and_full_dates_do_and_is_then_not_moved(make_ct, clean_of):
    device, full = Option.RETAIN_DEVICE_IDENTITY, Option.RETAIN_FULL_DATES
    assert "DateOfLastCalibration" not in clean_of(make_ct(), device)
    assert "DateOfLastCalibration" not in clean_of(make_ct(), full)
    assert "DateOfLastCalibration" not in clean_of(make_ct(), device, Option.RETAIN_MODIFIED_DATES)
    assert clean_of(make_ct(), device, full).DateOfLastCalibration == "20240228"


def test_full_dates_are_whole_in_listed_and_unlisted_attributes_alike(make_ct, clean_of):
    clean = clean_of(
        make_ct(SecondaryReviewDate="20240301", ItemInventoryDateTime="20240302"), Option.RETAIN_FULL_DATES
    )
    assert (clean.StudyDate, clean.SecondaryReviewDate, clean.ItemInventoryDateTime) == (
        "20240229",
        "20240301",
        "20240302",
    )
    assert clean.LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_threads_do_not_disturb_one_another(make_ct, through_file, encode, subject, profile, uids):
    def run(number):
        return encode(deidentify(through_file(make_ct(number)), subject, profile, uids)[0])

    alone = [run(number) for number in range(1, 25)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(1, 25))) == alone
