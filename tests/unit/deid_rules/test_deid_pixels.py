"""The pixel gate and the unused bits of pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from deid_rules.bits import clear_unused_bits
from deid_rules.pixels import ENHANCED_CT_IMAGE_STORAGE, gate

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def test_an_original_axial_ct_passes(make_ct, through_file):
    assert gate(make_ct()).allowed
    assert gate(through_file(make_ct(BurnedInAnnotation="NO"))).allowed
    assert gate(make_ct(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"])).cause == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, "localizer, capture"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, "list of allowed"),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, "list of allowed"),
        ({"ImageType": ""}, "list of allowed"),
        ({"SOPClassUID": SECONDARY_CAPTURE}, "SOP class"),
        ({"BurnedInAnnotation": "YES"}, "Burned In"),
        ({"BurnedInAnnotation": "MAYBE"}, "Burned In"),
        ({"ImageOrientationPatient": None}, "Orientation"),
        ({"SamplesPerPixel": 3}, "monochrome"),
        ({"PhotometricInterpretation": "RGB"}, "monochrome"),
        ({"ConversionType": "WSD"}, "Conversion"),
    ],
    ids=str,
)
def test_everything_else_is_refused_with_its_cause(make_ct, through_file, change, word):
    for ds in (make_ct(**change), through_file(make_ct(**change))):
        verdict = gate(ds)
        assert not verdict.allowed
        assert word in verdict.cause


def test_a_site_may_allow_more_types_but_no_localizer(make_ct):
    site = [("DERIVED", "PRIMARY", "AXIAL"), ("ORIGINAL", "PRIMARY", "LOCALIZER")]
    assert gate(make_ct(ImageType=["DERIVED", "PRIMARY", "AXIAL", "MPR"]), site).allowed
    assert not gate(make_ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), site).allowed
    assert not gate(make_ct(ImageType=["DERIVED", "SECONDARY", "X"]), [()]).allowed


def test_an_enhanced_ct_shows_its_orientation_in_the_functional_groups(make_ct, through_file):
    ds = make_ct(SOPClassUID=ENHANCED_CT_IMAGE_STORAGE, ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    del ds.ImageOrientationPatient
    assert not gate(ds).allowed
    plane, group = Dataset(), Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    group.PlaneOrientationSequence = [plane]
    ds.SharedFunctionalGroupsSequence = [group]
    assert gate(ds).allowed
    assert gate(through_file(ds)).allowed


def _layout(stored: int, high: int, is_signed: bool, **attributes: object) -> Dataset:
    ds = Dataset()
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, stored, high, int(is_signed)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


@given(st.lists(st.integers(-2048, 2047), min_size=1, max_size=40), st.booleans(), st.integers(0, 15))
def test_clearing_overlay_bits_gives_the_pixels_back(values, little, noise):
    dtype = np.dtype("<i2" if little else ">i2")
    clean = np.array(values, dtype=dtype)
    dirty = ((clean.astype("u2") & 0x0FFF) | (noise << 12)).astype(dtype.str.replace("i", "u"))
    result = clear_unused_bits(_layout(12, 11, True), dirty.tobytes(), little)
    assert (dirty.tobytes() if result is None else result) == clean.tobytes()


@given(st.lists(st.integers(0, 4095), min_size=1, max_size=40), st.integers(0, 15))
def test_unsigned_pixels_lose_only_the_bits_above(values, noise):
    clean = np.array(values, dtype="<u2")
    dirty = clean | np.uint16(noise << 12)
    result = clear_unused_bits(_layout(12, 11, False), dirty.tobytes(), True)
    assert (dirty.tobytes() if result is None else result) == clean.tobytes()


def test_clean_pixels_are_not_copied():
    assert clear_unused_bits(_layout(12, 11, False), np.arange(4096, dtype="<u2").tobytes(), True) is None
    assert clear_unused_bits(_layout(16, 15, True), b"\xff\xff" * 8, True) is None


def test_padding_outside_the_stored_bits_stays():
    padding = np.uint16(0xF430)
    words = np.array([padding, 0x1000, 5], dtype="<u2")
    ds = _layout(12, 11, True)
    ds.add_new(0x00280120, "SS", int(np.int16(padding)))
    result = clear_unused_bits(ds, words.tobytes(), True)
    assert np.frombuffer(result, "<u2").tolist() == [0xF430, 0x0000, 5]


def test_bits_below_the_pixel_are_cleared_too():
    words = np.array([0xABCF], dtype="<u2")
    result = clear_unused_bits(_layout(12, 15, False), words.tobytes(), True)
    assert np.frombuffer(result, "<u2").tolist() == [0xABC0]


def test_the_engine_clears_them_in_native_pixels_and_counts_it(make_ct, through_file, subject, profile, uids):
    from deid_rules.engine import deidentify

    values = np.arange(64, dtype="<u2")
    dirty = through_file(make_ct(PixelData=(values | 0xF000).astype("<u2").tobytes()))
    clean, report = deidentify(dirty, subject, profile, uids)
    assert clean.PixelData == values.tobytes()
    assert report.counts["unused pixel bits cleared"] == 1
