"""The compiled profile: the standard's table, its options, and the words about it."""

import re
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword

from deid_rules.describe import describe
from deid_rules.engine import deidentify
from deid_rules.errors import InvalidProfile, RefusedDataset
from deid_rules.pixels import CT_IMAGE_STORAGE
from deid_rules.profile import Action, Option, Profile, compile_rules, resolve
from deid_rules.residual import find_residual, identifiers_of
from deid_rules.tables import attribute_types, profile_rows
from deid_rules.vocabulary import known_words

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT.parent / "shared" / "data" / "deid"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def _action(profile, keyword, sop_class_uid=CT_IMAGE_STORAGE, nested=False):
    return compile_rules(profile, sop_class_uid)[int(nested)][tag_for_keyword(keyword)].action


def _with(*options):
    return Profile(frozenset(options))


def test_the_table_has_every_row_once_and_only_actions_of_the_standard():
    rows = profile_rows()
    assert len(rows) == len({row.tag for row in rows}) == 652
    assert {row.basic for row in rows} == {"X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"}
    assert set("".join(row.options for row in rows)) <= set("FMUDdPpITGSR")


@pytest.mark.parametrize(
    ("basic", "attribute_type", "resolved"),
    [
        ("X", "1", "X"),
        ("X/Z", "3", "X"),
        ("X/Z", "2", "Z"),
        ("X/D", "1C", "D"),
        ("X/D", "2", "D"),
        ("Z/D", "2C", "Z"),
        ("Z/D", "3", "Z"),
        ("X/Z/D", "1", "D"),
        ("X/Z/D", "2", "Z"),
        ("X/Z/D", None, "D"),
        ("X/Z/U*", "3", "U"),
    ],
)
def test_compound_actions_follow_the_type(basic, attribute_type, resolved):
    assert resolve(basic, attribute_type) == resolved


def test_the_same_attribute_is_removed_or_filled_as_the_object_needs():
    assert attribute_types()[ENHANCED_CT]["DeviceSerialNumber"] == "1"
    assert _action(Profile(), "DeviceSerialNumber") is Action.REMOVE
    assert _action(Profile(), "DeviceSerialNumber", ENHANCED_CT) is Action.DUMMY


def test_every_retain_option_keeps_what_its_column_says():
    letters = {
        "P": Option.RETAIN_PATIENT_CHARACTERISTICS,
        "D": Option.RETAIN_DEVICE_IDENTITY,
        "I": Option.RETAIN_INSTITUTION_IDENTITY,
        "U": Option.RETAIN_UIDS,
        "F": Option.RETAIN_FULL_DATES,
    }
    gone = {Action.REMOVE, Action.EMPTY, Action.DUMMY, Action.DUMMY_CODE, Action.MAP_UID}
    for letter, option in letters.items():
        top, _ = compile_rules(_with(option), CT_IMAGE_STORAGE)
        rows = [row for row in profile_rows() if letter in row.options and row.tag >> 16 > 4]
        rows = [row for row in rows if row.keyword not in ("EthnicGroup", "SelectorASValue")]
        if letter == "F":
            rows = [row for row in rows if row.vr in ("DA", "DT", "TM") and "D" not in row.options]
        if letter == "D":
            rows = [row for row in rows if "M" not in row.options]
        assert rows
        assert [row.keyword for row in rows if top[row.tag].action in gone] == []


def test_dates_of_devices_follow_the_basic_profile_unless_all_is_retained():
    modified = _with(Option.RETAIN_MODIFIED_DATES, Option.RETAIN_DEVICE_IDENTITY)
    assert _action(modified, "DateOfLastCalibration") is Action.REMOVE
    assert _action(_with(Option.RETAIN_FULL_DATES), "DateOfLastCalibration") is Action.REMOVE
    both = _with(Option.RETAIN_FULL_DATES, Option.RETAIN_DEVICE_IDENTITY)
    assert _action(both, "DateOfLastCalibration") is Action.SHIFT_DATE


def test_without_a_date_option_dates_go():
    assert _action(_with(), "StudyDate") is Action.EMPTY
    assert _action(_with(), "AcquisitionDate") is Action.REMOVE
    assert _action(_with(), "PatientAge") is Action.REMOVE


def test_options_that_contradict_one_another_are_refused():
    with pytest.raises(InvalidProfile):
        _with(Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES)
    with pytest.raises(InvalidProfile):
        Profile(private_elements=frozenset({(0x19, "X", 1)}))
    with pytest.raises(InvalidProfile):
        Profile(frozenset({Option.RETAIN_SAFE_PRIVATE}), frozenset({(0x18, "X", 1)}))


def test_descriptions_keep_only_known_words(make_ct, through_file, subject, uids):
    ds = make_ct(SeriesDescription="Hip BONE 1.5 mm Vandermolen 0815042", StudyDescription="Zephyrine")
    clean, _ = deidentify(through_file(ds), subject, _with(Option.CLEAN_DESCRIPTORS), uids)
    assert clean.SeriesDescription == "Hip BONE 1 5 mm"
    assert clean.StudyDescription == ""
    assert known_words("MRN 12345") == ""


def test_no_kept_text_rule_stands_for_a_listed_attribute():
    top, nested = compile_rules(Profile(), CT_IMAGE_STORAGE)
    for rules in (top, nested):
        kept = [row.keyword for row in profile_rows() if row.tag in rules and rules[row.tag].action is Action.KEEP_TEXT]
        assert kept == []


def test_the_document_says_what_the_program_does():
    document = (ROOT / "docs" / "deidentification.md").read_text(encoding="utf-8")
    inside = re.search(r"<!-- begin: profile -->\n(.*?)<!-- end: profile -->", document, re.DOTALL)
    assert inside is not None
    assert inside[1].strip() == describe(Profile()).strip()


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample files are not here")
@pytest.mark.parametrize(
    "path", sorted(p for p in SAMPLES.glob("*/*.dcm") if p.stat().st_size < 1e6), ids=lambda path: path.name[-40:]
)
def test_real_files_are_cleaned_or_refused(path, encode, subject, profile, uids):
    original = dcmread(path, force=True)
    try:
        clean, _ = deidentify(original, subject, profile, uids)
    except RefusedDataset:
        return
    written = encode(clean)
    assert set(find_residual(written, identifiers_of(original))) <= {"patient name"}
    assert not any(element.tag.is_private for element in clean.iterall())
