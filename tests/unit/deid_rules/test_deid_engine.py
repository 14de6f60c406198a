"""The engine on whole datasets: what goes, what stays, what is written about it."""

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from deid_rules import errors
from deid_rules.elements import made
from deid_rules.engine import MAX_DEPTH, deidentify
from deid_rules.profile import Option, Profile
from deid_rules.residual import find_residual, identifiers_of

NEEDED = (
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "Manufacturer",
    "ManufacturerModelName",
    "ConvolutionKernel",
    "KVP",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PatientPosition",
    "PixelSpacing",
    "Rows",
    "Columns",
    "RescaleSlope",
    "RescaleIntercept",
    "ImageType",
    "PixelData",
    "BitsStored",
    "InstanceNumber",
    "SeriesNumber",
    "StudyTime",
)
"""What quality checks, calibration, geometry and the analyses read."""


@pytest.fixture
def clean_of(through_file, subject, profile, uids):
    """De-identify a dataset as it comes from a file; a profile may be given."""

    def clean(ds, chosen=profile):
        return deidentify(through_file(ds), subject, chosen, uids)[0]

    return clean


def test_nothing_known_about_the_patient_is_left(make_ct, encode, through_file, subject, profile, uids):
    original = through_file(make_ct())
    clean, _ = deidentify(original, subject, profile, uids)
    assert find_residual(encode(original), identifiers_of(original))
    assert find_residual(encode(clean), identifiers_of(original)) == ()


def test_pseudonym_study_code_and_emptied_elements_stand_where_identity_was(make_ct, clean_of):
    clean = clean_of(make_ct())
    assert clean.PatientID == "ON-ABCDEFGH"
    assert str(clean.PatientName) == "ON-ABCDEFGH"
    assert clean.StudyID not in ("", "1")
    assert len(clean.StudyID) <= 16
    assert clean.AccessionNumber == ""
    assert clean.PatientBirthDate == ""
    for keyword in (
        "InstitutionName",
        "StationName",
        "StudyDescription",
        "OperatorsName",
        "DeviceSerialNumber",
    ):
        assert keyword not in clean


def test_what_the_analysis_needs_is_unchanged(make_ct, clean_of):
    original = make_ct()
    clean = clean_of(original)
    for keyword in NEEDED:
        assert clean[keyword].value == original[keyword].value, keyword


@pytest.mark.parametrize(("age", "written"), [("072Y", "072Y"), ("095Y", "090Y"), ("090Y", "090Y"), ("old", "")])
def test_a_high_age_is_capped(make_ct, clean_of, age, written):
    ds = make_ct()
    ds.add(DataElement(0x00101010, "AS", age, validation_mode=0))
    expected = "072Y" if age == "old" else written
    assert clean_of(ds).PatientAge == expected


def test_a_missing_age_is_computed_from_the_birth_date(make_ct, clean_of):
    ds = make_ct()
    del ds.PatientAge
    assert clean_of(ds).PatientAge == "072Y"


def test_dates_move_together_and_keep_their_intervals(make_ct, clean_of):
    clean = clean_of(make_ct(ContentDate="20240303"))
    assert clean.StudyDate == "20220331"
    assert clean.ContentDate == "20220403"
    assert clean.AcquisitionDateTime == "20220331101112.5+0100"
    assert "DateOfLastCalibration" not in clean


def test_several_files_of_a_study_stay_one_study(make_ct, through_file, subject, profile, uids):
    cleans = [deidentify(through_file(make_ct(n)), subject, profile, uids)[0] for n in (1, 2, 3)]
    assert len({c.StudyInstanceUID for c in cleans}) == 1
    assert len({c.FrameOfReferenceUID for c in cleans}) == 1
    assert len({c.SOPInstanceUID for c in cleans}) == 3
    assert len({c.StudyID for c in cleans}) == 1


def test_references_between_files_still_meet(make_ct, clean_of):
    first, second = make_ct(1), make_ct(2)
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    second.ReferencedImageSequence = [item]
    reference = clean_of(second).ReferencedImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == clean_of(first).SOPInstanceUID
    assert reference.ReferencedSOPClassUID == first.SOPClassUID


def test_file_meta_and_preamble_are_new(make_ct, encode, subject, profile, uids):
    ds = make_ct()
    encode(ds)
    ds.file_meta.SourceApplicationEntityTitle = "VANDERMOLEN"
    ds.preamble = b"Vandermolen".ljust(128, b"\0")
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    clean, _ = deidentify(dcmread(BytesIO(buffer.getvalue())), subject, profile, uids)
    written = encode(clean)
    assert b"vandermolen" not in written.lower()
    assert written[:128] == bytes(128)
    again = dcmread(BytesIO(written))
    assert again.file_meta.MediaStorageSOPInstanceUID == again.SOPInstanceUID
    assert again.file_meta.ImplementationClassUID == profile.implementation_class_uid


def test_markers_name_the_options_in_force(make_ct, encode, clean_of):
    chosen = Profile(frozenset({Option.RETAIN_FULL_DATES, Option.RETAIN_UIDS}))
    clean = dcmread(BytesIO(encode(clean_of(make_ct(), chosen))))
    assert clean.PatientIdentityRemoved == "YES"
    assert clean.LongitudinalTemporalInformationModified == "UNMODIFIED"
    codes = [(c.CodeValue, c.CodingSchemeDesignator) for c in clean.DeidentificationMethodCodeSequence]
    assert codes == [("113100", "DCM"), ("113106", "DCM"), ("113110", "DCM")]
    assert clean.StudyDate == "20240229"
    assert clean.SOPInstanceUID == "1.2.276.0.7230010.3.1.4.1"


def test_markers_of_an_earlier_run_do_not_carry_text_through(make_ct, encode, clean_of):
    ds = make_ct(DeidentificationMethod="by Vandermolen", PatientIdentityRemoved="NO")
    clean = clean_of(ds)
    assert b"Vandermolen" not in encode(clean)
    assert clean.PatientIdentityRemoved == "YES"


def test_private_elements_go_and_listed_ones_stay_under_their_option(make_ct, clean_of):
    ds = make_ct()
    ds.private_block(0x0019, "MAKER A", create=True).add_new(0x01, "LO", "kept by list")
    ds.private_block(0x0021, "MAKER B", create=True).add_new(0x01, "LO", "goes")
    assert not any(element.tag.is_private for element in clean_of(ds))
    chosen = Profile(frozenset({Option.RETAIN_SAFE_PRIVATE}), private_elements=frozenset({(0x19, "MAKER A", 0x01)}))
    kept = [element.tag for element in clean_of(ds, chosen) if element.tag.is_private]
    assert kept == [Tag(0x0019, 0x0010), Tag(0x0019, 0x1001)]


def test_overlays_curves_and_unknown_tags_go(make_ct, clean_of):
    ds = make_ct()
    ds.add_new(0x60003000, "OW", b"\1\0" * 8)
    ds.add_new(0x60004000, "LT", "comment")
    ds.add_new(0x60000010, "US", 8)
    ds.add_new(0x50003000, "OW", b"\1\0")
    ds.add_new(0x00080999, "LO", "unknown")
    clean = clean_of(ds)
    assert all(element.tag.group < 0x5000 or element.tag.group == 0x7FE0 for element in clean)
    assert 0x00080999 not in clean


@pytest.mark.parametrize("depth", [1, 3, 6, 9])
def test_identity_is_found_at_every_depth(make_ct, encode, clean_of, depth):
    inner = Dataset()
    inner.PatientName, inner.PatientID = "Vandermolen^Zephyrine", "MRN00815042"
    inner.add_new(0x00090010, "LO", "VANDERMOLEN")
    inner.ReferencedSOPInstanceUID = "1.2.276.0.7230010.3.1.4.1"
    inner.ContentDate = "20240229"
    for _ in range(depth):
        outer = Dataset()
        outer.DerivationCodeSequence = Sequence([inner])
        inner = outer
    ds = make_ct()
    ds.DerivationCodeSequence = inner.DerivationCodeSequence
    clean = clean_of(ds)
    deepest = dcmread(BytesIO(encode(clean)))
    for _ in range(depth):
        deepest = deepest.DerivationCodeSequence[0]
    assert b"andermolen" not in encode(clean).lower()
    assert deepest.ReferencedSOPInstanceUID == clean.SOPInstanceUID
    assert deepest.ContentDate == "20220331"


def test_bottomless_nesting_is_refused(make_ct, subject, profile, uids):
    inner = Dataset()
    for _ in range(MAX_DEPTH + 2):
        outer = Dataset()
        outer.DerivationCodeSequence = Sequence([inner])
        inner = outer
    ds = make_ct(DerivationCodeSequence=inner.DerivationCodeSequence)
    with pytest.raises(errors.NestedTooDeep):
        deidentify(ds, subject, profile, uids)


def test_codes_of_persons_and_places_are_replaced_and_other_codes_kept(make_ct, clean_of):
    def code(value, meaning):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99HOSP", meaning
        return item

    ds = make_ct(InstitutionCodeSequence=[code("4711", "Saint Elsewhere")])
    ds.AnatomicRegionSequence = [code("29836001", "Hip")]
    clean = clean_of(ds)
    assert "Elsewhere" not in str(clean.get("InstitutionCodeSequence", ""))
    assert clean.AnatomicRegionSequence[0].CodeMeaning == "Hip"


@pytest.mark.parametrize("read_back", [True, False], ids=["from a file", "made in memory"])
def test_the_input_is_not_changed_and_shares_nothing_that_can_change(
    make_ct, encode, through_file, subject, profile, uids, read_back
):
    ds = make_ct()
    ds.ReferencedImageSequence = [make_ct(2)]
    encode(ds)
    given = through_file(ds) if read_back else ds
    before = encode(given)
    clean, _ = deidentify(given, subject, profile, uids)
    clean.ImageType[0] = "CHANGED"
    clean.Rows = 1
    clean.ReferencedImageSequence[0].Rows = 1
    assert encode(given) == before


def test_a_plain_dataset_gives_the_same_as_a_file(make_ct, encode, through_file, subject, profile, uids):
    from_memory = deidentify(make_ct(), subject, profile, uids)[0]
    from_file = deidentify(through_file(make_ct()), subject, profile, uids)[0]
    assert encode(from_memory) == encode(from_file)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_native_transfer_syntax_is_cleaned(make_ct, encode, subject, profile, uids, syntax):
    ds = make_ct()
    encode(ds)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.ReferencedImageSequence = [make_ct(2)]
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    original = dcmread(BytesIO(buffer.getvalue()))
    clean, _ = deidentify(original, subject, profile, uids)
    written = encode(clean)
    assert find_residual(written, identifiers_of(original)) == ()
    again = dcmread(BytesIO(written))
    assert again.Rows == 8
    assert again.StudyDate == "20220331"
    assert again.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert np.array_equal(again.pixel_array, original.pixel_array)


def test_an_un_element_of_a_known_tag_is_treated_as_what_it_is(make_ct, through_file, subject, profile, uids):
    ds = through_file(make_ct())
    ds[0x00100010] = made(0x00100010, "UN", b"Vandermolen^Zephyrine")
    ds[0x00180060] = made(0x00180060, "UN", b"140")
    item = b"\xfe\xff\x00\xe0\x14\x00\x00\x00" + b"\x10\x00\x10\x00\x0c\x00\x00\x00Vandermolen "
    ds[0x00081140] = made(0x00081140, "UN", item)
    clean, _ = deidentify(ds, subject, profile, uids)
    assert str(clean.PatientName) == "ON-ABCDEFGH"
    assert clean.KVP == 140
    assert str(clean.ReferencedImageSequence[0].PatientName) == ""


def test_a_value_in_the_wrong_kind_of_element_is_left_out_and_counted(
    make_ct, encode, through_file, subject, profile, uids
):
    ds = through_file(make_ct())
    for tag, vr in (
        (0x00180060, "DS"),
        (0x00080070, "OB"),
        (0x00180015, "CS"),
        (0x00280010, "LO"),
        (0x00081140, "PN"),
    ):
        ds[tag] = made(tag, vr, b"Zephyrine!")
    clean, report = deidentify(ds, subject, profile, uids)
    assert b"zephyrine" not in encode(clean).lower()
    left_out = {key for key in report.counts if "malformed" in key}
    assert len(left_out) == 5
    assert "malformed, left out: (0028,0010)" in left_out


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00189073, "FD", b"Ignatius"),
        (0x00189073, "FD", b"Ignat\0\0\0"),
        (0x00189305, "UN", b"Ignatius"),
        (0x00280010, "US", b"Ignatius"),
        (0x00280009, "AT", b"Ignatius"),
    ],
)
def test_text_in_the_bytes_of_a_number_is_left_out(
    make_ct, encode, through_file, subject, profile, uids, tag, vr, value
):
    ds = through_file(make_ct())
    ds[tag] = made(tag, vr, value)
    assert b"Ignat" not in encode(deidentify(ds, subject, profile, uids)[0])


def test_numbers_of_every_size_pass(make_ct, clean_of):
    ds = make_ct(
        AcquisitionDuration=2.5, ExposureTimeInms=1e3, SpiralPitchFactor=-0.1, FrameIncrementPointer=0x00181063
    )
    ds.PixelPaddingValue = 0
    clean = clean_of(ds)
    for keyword in ("AcquisitionDuration", "ExposureTimeInms", "SpiralPitchFactor", "FrameIncrementPointer"):
        assert clean[keyword].value == ds[keyword].value


def test_a_sequence_that_does_not_begin_with_an_item_is_refused(make_ct, through_file, subject, profile, uids):
    ds = through_file(make_ct())
    ds[0x00081140] = made(0x00081140, "SQ", b"Vandermolen^Zephyrine lies here")
    with pytest.raises(errors.UnreadableElement, match=r"\(0008,1140\) cannot be read as sequence"):
        deidentify(ds, subject, profile, uids)


def test_the_report_has_words_and_pairs_but_shows_no_value(make_ct, through_file, subject, profile, uids):
    original = make_ct()
    clean, report = deidentify(through_file(original), subject, profile, uids)
    pairs = {pair.level: (pair.original_uid, pair.clean_uid) for pair in report.uid_pairs}
    assert pairs["study"] == (original.StudyInstanceUID, clean.StudyInstanceUID)
    assert pairs["instance"] == (original.SOPInstanceUID, clean.SOPInstanceUID)
    assert set(pairs) == {"study", "series", "frame_of_reference", "instance"}
    shown = repr(report) + repr(report.uid_pairs)
    assert original.SOPInstanceUID not in shown
    assert clean.SOPInstanceUID not in shown
    assert "Vandermolen" not in shown


@pytest.mark.parametrize("patient_id", [None, "", "  "])
def test_a_dataset_of_nobody_is_refused(make_ct, subject, profile, uids, patient_id):
    ds = make_ct()
    ds.PatientID = patient_id
    with pytest.raises(errors.MissingPatientId):
        deidentify(ds, subject, profile, uids)


def test_a_dataset_without_its_uids_is_refused_by_tag(make_ct, subject, profile, uids):
    ds = make_ct()
    del ds.StudyInstanceUID
    with pytest.raises(errors.MissingIdentifier, match=r"\(0020,000D\)"):
        deidentify(ds, subject, profile, uids)


def test_a_dicomdir_is_refused(make_ct, subject, profile, uids):
    with pytest.raises(errors.UnsupportedObject):
        deidentify(make_ct(SOPClassUID="1.2.840.10008.1.3.10"), subject, profile, uids)


@pytest.mark.parametrize(
    "value",
    [
        b"Vandermolen^Zephyrine lies here",
        b"\xfe\xff\x00\xe0\x40\x00\x00\x00Vandermolen",
        b"\xfe\xff\x00\xe0\xff\xff\xff\xffVandermolen",
        b"\xfe\xff\x00\xe0",
    ],
)
def test_a_broken_sequence_is_refused_or_emptied_without_quoting_it(
    make_ct, encode, through_file, subject, profile, uids, value
):
    ds = through_file(make_ct())
    ds[0x00081140] = made(0x00081140, "UN", value)
    fault = None
    try:
        written = encode(deidentify(ds, subject, profile, uids)[0])
    except errors.UnreadableElement as error:
        fault, written = error, b""
    assert b"andermolen" not in written
    assert "andermolen" not in str(fault)
    assert fault is None or fault.tag == 0x00081140
    assert fault is None or fault.__context__ is None or fault.__suppress_context__


def test_contrast_stays_visible_without_its_words(make_ct, clean_of):
    assert clean_of(make_ct(ContrastBolusAgent="Iomeron for Vandermolen")).ContrastBolusAgent == "CONTRAST"
    assert clean_of(make_ct(ContrastBolusAgent="")).ContrastBolusAgent == ""
    assert "ContrastBolusAgent" not in clean_of(make_ct())
