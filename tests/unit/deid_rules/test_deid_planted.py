"""A planted identifier does not survive, wherever it is put and however the element is broken."""

from io import BytesIO

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from deid_rules.elements import made
from deid_rules.engine import deidentify
from deid_rules.errors import UnreadableElement
from deid_rules.residual import find_residual, identifiers_of
from deid_rules.tables.attributes import KEPT_BULK, KEPT_TEXT

PLANTED = b"Zephyrine^Vandermolen"
UNKNOWN_NAME = b"Ignatius^Quillfeather"
"""A name no element that is known to identify holds, so that only the rules can remove it."""

TEXT_VRS = (
    "AE",
    "AS",
    "CS",
    "DA",
    "DS",
    "DT",
    "IS",
    "LO",
    "LT",
    "PN",
    "SH",
    "ST",
    "TM",
    "UC",
    "UI",
    "UR",
    "UT",
)
RAW_VRS = (*TEXT_VRS, "OB", "OW", "UN")
KNOWN_TAGS = sorted(
    tag
    for tag, entry in DicomDictionary.items()
    if tag >> 16 > 0x0008 and tag & 0xFFFF and entry[0] not in ("SQ", "NONE") and tag >> 16 not in (0x0020, 0x0028)
)
KEPT = KEPT_TEXT | KEPT_BULK
OPEN_SEQUENCES = (0x00081140, 0x00082112, 0x00089215, 0x0040A730, 0x52009229, 0x00181800)

known = st.sampled_from([tag for tag in KNOWN_TAGS if DicomDictionary[tag][4] not in KEPT])
private = st.tuples(st.integers(0x0009, 0x7FFF).map(lambda g: g | 1), st.integers(0x1000, 0x10FF)).map(
    lambda t: t[0] << 16 | t[1]
)
unknown = st.integers(0x0040, 0x7FDF).map(lambda g: (g & ~1) << 16 | 0xF0F1)
places = st.tuples(
    st.one_of(known, private, unknown),
    st.sampled_from([None, *RAW_VRS]),
    st.lists(st.sampled_from(OPEN_SEQUENCES), max_size=7),
)


def _plant(ds: Dataset, place: tuple[int, str | None, list[int]], value: bytes) -> None:
    """Put a value into an element, under its own or another VR, below a chain of sequences."""
    tag, vr, chain = place
    own = DicomDictionary[tag][0] if tag in DicomDictionary else "LO"
    for sequence in chain:
        if sequence not in ds:
            ds.add_new(sequence, "SQ", [Dataset()])
        ds = ds[sequence].value[0]
        ds.set_original_encoding(False, True, "iso8859")
    ds[tag] = made(tag, vr or (own if own in RAW_VRS else "UN"), value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(places, min_size=1, max_size=6))
def test_a_name_planted_anywhere_does_not_survive(make_ct, encode, through_file, subject, profile, uids, placed):
    for planted in (PLANTED, UNKNOWN_NAME):
        ds = through_file(make_ct(PatientName="Vandermolen^Zephyrine"))
        for place in placed:
            _plant(ds, place, planted)
        try:
            clean, report = deidentify(ds, subject, profile, uids)
        except UnreadableElement:
            continue
        dcmread(BytesIO(encode(clean)))
        written = encode(clean).lower()
        assert planted.lower() not in written
        assert planted.split(b"^")[1].lower() not in written
        assert planted.decode() not in repr(report)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([t for t in KNOWN_TAGS if DicomDictionary[t][4] in KEPT_TEXT]),
    st.lists(st.sampled_from(OPEN_SEQUENCES), max_size=7),
)
def test_even_kept_text_goes_when_it_repeats_the_patients_name(
    make_ct, encode, through_file, subject, profile, uids, tag, chain
):
    ds = through_file(make_ct(PatientName="Vandermolen^Zephyrine"))
    _plant(ds, (tag, None, chain), b"Scan of " + PLANTED)
    written = encode(deidentify(ds, subject, profile, uids)[0])
    assert b"andermolen" not in written.lower()
    assert find_residual(written, identifiers_of(ds)) == ()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["ScanOptions", "ExposureTime", "KVP", "ImageType"]),
    st.lists(st.sampled_from(OPEN_SEQUENCES), max_size=6),
)
def test_what_fits_the_grammar_of_a_kept_element_is_found_by_the_residual_scan(
    make_ct, encode, through_file, subject, profile, uids, keyword, chain
):
    tag = {"ScanOptions": 0x00180022, "ExposureTime": 0x00181150, "KVP": 0x00180060, "ImageType": 0x00080008}[keyword]
    value = b"5512345" if keyword in ("ExposureTime", "KVP") else b"VANDERMOLEN"
    ds = through_file(make_ct(PatientName="Vandermolen^Zephyrine", PatientID="5512345"))
    _plant(ds, (tag, None, chain), value)
    written = encode(deidentify(ds, subject, profile, uids)[0])
    assert value not in written or find_residual(written, identifiers_of(ds))
