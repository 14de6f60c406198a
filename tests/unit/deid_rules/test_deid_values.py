"""UIDs, dates and pseudonyms: the values that replace others."""

import re
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID, UID_dictionary

from deid_rules import dates
from deid_rules.errors import InvalidKey, InvalidSubject
from deid_rules.pseudonyms import is_valid, pseudonym_from_bytes
from deid_rules.report import Subject
from deid_rules.uids import UidMapper, is_registered

KEY = bytes(range(32))
uid_texts = st.lists(st.integers(0, 10**9), min_size=4, max_size=6).map(lambda n: "1.9." + ".".join(map(str, n)))


@given(uid_texts)
def test_a_mapped_uid_is_valid_and_the_same_every_time(uid):
    clean = UidMapper(KEY, "a").map(uid)
    assert UID(clean).is_valid
    assert clean.startswith("2.25.")
    assert len(clean) <= 44
    assert clean == UidMapper(KEY, "a").map(uid)


@given(uid_texts)
def test_another_key_or_project_gives_an_unrelated_uid(uid):
    clean = {UidMapper(KEY, "a").map(uid), UidMapper(KEY, "b").map(uid), UidMapper(KEY[::-1], "a").map(uid)}
    assert len(clean) == 3


def test_registered_uids_are_never_mapped():
    mapper = UidMapper(KEY, "a")
    for uid in (*UID_dictionary, "1.2.840.10008.6.1.907"):
        assert mapper.map(uid) == uid


def test_a_uid_that_only_looks_like_the_standards_is_mapped():
    assert not is_registered("1.2.840.10008.5.1.4.1.1.2.99999.1.2.3")
    assert not is_registered("1.2.840.10008.6.1.1.2.3.4.5.6.7.8.9")


def test_the_key_is_neither_short_nor_shown():
    with pytest.raises(InvalidKey):
        UidMapper(b"short", "a")
    assert str(KEY) not in repr(UidMapper(KEY, "a"))


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(0, 4000), st.integers(-520, 520))
def test_a_shift_keeps_intervals_and_the_day_of_the_week(first, gap, weeks):
    second = date.fromordinal(first.toordinal() + gap)
    moved = [dates.shift_date(f"{d:%Y%m%d}", 7 * weeks) for d in (first, second)]
    a, b = (date(int(m[:4]), int(m[4:6]), int(m[6:])) for m in moved)
    assert (b - a).days == gap
    assert a.weekday() == first.weekday()


@pytest.mark.parametrize(
    "text", ["", "2024", "202402", "2024022", "20240230", "Smith^Jane", "2024-02-28", "20240229 ", "²0240229"]
)
def test_what_is_no_whole_date_becomes_empty(text):
    assert dates.shift_date(text, 7) == ""


def test_a_date_that_leaves_the_calendar_becomes_empty():
    assert dates.shift_date("00010101", -7) == ""
    assert dates.shift_date("99991231", 7) == ""


@pytest.mark.parametrize(
    ("text", "shifted"),
    [
        ("20240229101112.123456+0100", "20240307101112.123456+0100"),
        ("20240229", "20240307"),
        ("2024022910", "2024030710"),
        ("20240229101112", "20240307101112"),
        ("20240229-0500", "20240307-0500"),
        ("2024", ""),
        ("202402", ""),
        ("20240229251112", ""),
        ("20240229 Smith", ""),
        ("20240229101112.1234567", ""),
    ],
)
def test_a_date_and_time_keeps_its_time_and_offset(text, shifted):
    assert dates.shift_datetime(text, 7) == shifted


@settings(max_examples=50)
@given(st.text(max_size=20))
def test_no_text_makes_the_date_functions_raise(text):
    assert re.fullmatch(r"(\d{8})?", dates.shift_date(text, -70))
    assert dates.shift_datetime(text, -70) == "" or text[:8].isdigit()
    dates.age_in_years(text, text)


def test_the_age_counts_birthdays():
    assert dates.age_in_years("19511224", "20241223") == 72
    assert dates.age_in_years("19511224", "20241224") == 73
    assert dates.age_in_years("20241224", "19511224") is None


def test_the_check_character_is_the_one_of_iso_7064():
    # A1-2425G-ABC1234002-M is the example of the Global Release Identifier standard (IFPI), which uses MOD 37,36.
    from deid_rules.pseudonyms import _check_character

    assert _check_character("A12425GABC1234002") == "M"


@given(
    st.binary(min_size=10, max_size=10),
    st.integers(3, 18),
    st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
)
def test_one_wrong_character_is_noticed(random_bytes, place, other):
    code = pseudonym_from_bytes(random_bytes, "ON")
    changed = code[:place] + other + code[place + 1 :]
    assert is_valid(code, "ON")
    assert not is_valid(code, "XY")
    assert is_valid(changed, "ON") == (changed == code)


def test_swapped_neighbours_are_noticed_but_for_the_few_the_standard_lets_through():
    code = pseudonym_from_bytes(bytes(range(0, 250, 25)), "ON")
    swaps = [code[:i] + code[i + 1] + code[i] + code[i + 2 :] for i in range(3, 19)]
    missed = [swap for swap in swaps if swap != code and is_valid(swap, "ON")]
    assert len(missed) <= 1


def test_a_pseudonym_needs_exactly_its_random_bytes_and_a_plain_prefix():
    with pytest.raises(InvalidSubject):
        pseudonym_from_bytes(b"too short")
    with pytest.raises(InvalidSubject):
        pseudonym_from_bytes(bytes(10), "bad prefix")


@pytest.mark.parametrize(("pseudonym", "days"), [("", 7), ("A" * 65, 7), ("A^B", 7), ("Ä", 7), ("A", 8)])
def test_a_subject_that_cannot_be_written_is_refused(pseudonym, days):
    with pytest.raises(InvalidSubject):
        Subject(pseudonym, days)


def test_a_subject_does_not_show_itself():
    assert "ON-SECRET" not in repr(Subject("ON-SECRET", 70))
    assert "70" not in repr(Subject("ON-SECRET", 70))
