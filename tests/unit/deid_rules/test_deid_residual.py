"""The residual scan: finds identifiers in every character set, says only their kind, and cries wolf rarely."""

import random

import numpy as np
import pytest
from pydicom.dataset import Dataset

from deid_rules.elements import made
from deid_rules.engine import deidentify
from deid_rules.residual import KnownIdentifiers, find_residual, identifiers_of

NAMES = [
    ("ISO_IR 127", "قباني^لنزار"),
    ("ISO_IR 126", "Διονυσιος^Αθηνα"),
    ("ISO_IR 138", "שרון^דבורה"),
    ("ISO_IR 144", "Люксембург^Настасья"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ("GB18030", "Wang^XiaoDong=王^小东"),
    ("GBK", "Wang^XiaoDong=王^小东"),
    ("ISO_IR 100", "Buc^Jérôme"),
]


@pytest.mark.parametrize(("charset", "name"), NAMES, ids=lambda v: str(v)[:12])
def test_names_in_every_script_are_removed_and_would_be_found(
    make_ct, encode, through_file, subject, profile, uids, charset, name
):
    original = through_file(make_ct(SpecificCharacterSet=charset, PatientName=name))
    identifiers = identifiers_of(original)
    assert "patient name" in find_residual(encode(original), identifiers)
    assert find_residual(encode(deidentify(original, subject, profile, uids)[0]), identifiers) == ()
    spelled = [part for group in name.split("=") for part in group.split("^") if len(part.encode()) >= 4]
    for part in spelled:
        leak = make_ct(SpecificCharacterSet="ISO_IR 192", PatientName="", PatientComments=f"seen: {part}.")
        assert "patient name" in find_residual(encode(leak), identifiers), part


@pytest.mark.parametrize("charset", ["Vandermolen", "ISO_IR 999", ""])
def test_an_unknown_character_set_hides_nothing(make_ct, encode, through_file, subject, profile, uids, charset):
    ds = through_file(make_ct())
    ds[0x00080005] = made(0x00080005, "CS", charset.encode())
    clean, _ = deidentify(ds, subject, profile, uids)
    assert b"andermolen" not in encode(clean)


LEAKS = [
    ("patient name", "PatientComments", "called ZEPHYRINE today"),
    ("patient name", "PatientComments", "vandermolenzephyrine.dcm"),
    ("patient id", "PatientComments", "file /x/mrn00815042/1.dcm"),
    ("accession number", "PatientComments", "ACC4711899"),
    ("birth date", "PatientComments", "born 24.12.1951"),
    ("birth date", "PatientComments", "born 1951-12-24"),
    ("birth date", "PatientComments", "born 12/24/1951"),
    ("address", "PatientComments", "lives Imaginary Lane 5, Lostville"),
    ("institution", "PatientComments", "from SANKT ELSEWHERE HOSPITAL"),
    ("physician or operator", "PatientComments", "ask Quackenbush"),
]


@pytest.mark.parametrize(("kind", "keyword", "text"), LEAKS, ids=[leak[2] for leak in LEAKS])
def test_each_kind_of_identifier_is_found_and_only_its_kind_is_told(
    make_ct, encode, through_file, subject, profile, uids, kind, keyword, text
):
    original = make_ct()
    clean, _ = deidentify(through_file(original), subject, profile, uids)
    setattr(clean, keyword, text)
    assert find_residual(encode(clean), identifiers_of(original)) == (kind,)


def test_an_identifier_hidden_in_pixels_is_found(make_ct, encode):
    original = make_ct()
    leak = make_ct(PixelData=b"\1\2Vandermolen\3" + bytes(50))
    del leak.PatientName, leak.StudyDescription
    assert "patient name" in find_residual(encode(leak), identifiers_of(original))
    odd = make_ct(PixelData=b"\1VANDERMOLEN" + bytes(52))
    del odd.PatientName, odd.StudyDescription
    assert "patient name" in find_residual(encode(odd), identifiers_of(original))


@pytest.mark.parametrize("at", [0, 1, 65, 2 * 64 * 64 - 12, 2 * 64 * 64 - 11])
@pytest.mark.parametrize("word", [b"VANDERMOLEN", b"Vandermolen"])
@pytest.mark.parametrize("is_signed", [True, False])
def test_it_is_found_at_every_place_and_in_every_case(make_ct, encode, at, word, is_signed):
    numbers = np.arange(64 * 64, dtype="<i2") % 3000 - (1024 if is_signed else 0)
    pixels = bytearray(numbers.astype("<i2").tobytes())
    clean = make_ct(Rows=64, Columns=64, PixelData=bytes(pixels), PatientName="A^B", StudyDescription="x")
    known = KnownIdentifiers(frozenset({("patient name", "vandermolen")}))
    assert find_residual(encode(clean), known) == ()
    pixels[at : at + len(word)] = word
    clean.PixelData = bytes(pixels)
    assert find_residual(encode(clean), known) == ("patient name",)


@pytest.mark.parametrize("seed", range(3))
def test_random_pixels_do_not_look_like_identifiers(make_ct, encode, through_file, subject, profile, uids, seed):
    generator = np.random.default_rng(seed)
    original = make_ct(PatientID="4711", PixelData=generator.integers(0, 256, 1 << 19, dtype=np.uint8).tobytes())
    original.Rows = original.Columns = 512
    original.BitsStored, original.HighBit = 16, 15
    clean, _ = deidentify(through_file(original), subject, profile, uids)
    assert find_residual(encode(clean), identifiers_of(original)) == ()


def test_digits_inside_a_longer_number_do_not_count():
    ds = Dataset()
    ds.PatientID = "12345678"
    known = identifiers_of(ds)
    assert find_residual(b"2.25.991234567899", known) == ()
    assert find_residual(b"2.25.12345678.1", known) == ("patient id",)


def test_short_words_count_only_when_they_stand_alone():
    ds = Dataset()
    ds.PatientName = "Kim^Ann"
    known = identifiers_of(ds)
    assert find_residual(b"PLANNED KIMONO", known) == ()
    assert find_residual(b"PLAN ANN 3", known) == ("patient name",)
    assert find_residual(b"kim_ann", known) == ("patient name",)


def test_too_short_parts_and_placeholders_are_not_searched():
    ds = Dataset()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "X^Li", "1234", "19000101"
    ds.AccessionNumber = "UNKNOWN"
    assert {text for _, text in identifiers_of(ds).texts} >= {"xli", "x^li"}
    assert find_residual(b"LI 1234 X 19000101 unknown anonymized", identifiers_of(ds)) == ()


def test_a_makers_name_is_exempt_as_institution_but_never_as_patient():
    ds = Dataset()
    ds.Manufacturer, ds.InstitutionName, ds.PatientName = "TOSHIBA_MEC", "TOSHIBA", "Nobody^Nora"
    assert find_residual(b"TOSHIBA", identifiers_of(ds)) == ()
    ds.PatientName = "Toshiba"
    assert find_residual(b"TOSHIBA", identifiers_of(ds)) == ("patient name",)


def test_identifiers_of_several_sources_join_and_never_show_themselves():
    one, two = Dataset(), Dataset()
    one.PatientName, two.PatientID = "Vandermolen", "MRN00815042"
    both = identifiers_of(one) | identifiers_of(two)
    assert find_residual(b"MRN00815042 vandermolen", both) == ("patient id", "patient name")
    assert "andermolen" not in repr(both).lower()
    assert KnownIdentifiers(frozenset()).encodings == ("latin_1",)


def test_broken_names_do_not_raise(make_ct):
    generator = random.Random(1)
    for _ in range(200):
        ds = make_ct(SpecificCharacterSet=generator.choice(["ISO_IR 192", "ISO 2022 IR 87", "GB18030"]))
        value = generator.randbytes(12)
        ds.set_original_encoding(False, True, "iso8859")
        ds[0x00100010] = made(0x00100010, "PN", value)
        find_residual(value, identifiers_of(ds))
