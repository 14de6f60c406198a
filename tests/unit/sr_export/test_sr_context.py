"""Identity, time, equipment and UIDs that all objects of a job share."""

from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from result_factory import build_without_drawing, make_report, make_source

from sr_export.build import build_results
from sr_export.check import check_results
from sr_export.context import PATIENT_STUDY, check_source, device_uid, identity_of
from sr_export.errors import SourceMismatch
from sr_export.sr import build_sr


@pytest.fixture(scope="module")
def source() -> list[Dataset]:
    return make_source()


@pytest.fixture(scope="module")
def results(source):
    return build_results(source, make_report())


def round_trip(dataset: Dataset) -> Dataset:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


def quick_sr(source, **values):
    """Build a structured report of nothing, which has every attribute that objects share."""
    return build_sr(source, (), make_report(regions=(), groups=(), **values))


def few(**values):
    return make_source(slices=3, **values)


def test_every_object_carries_patient_and_study_of_the_source(source, results):
    for dataset in results.datasets:
        stored = round_trip(dataset)
        for keyword in PATIENT_STUDY:
            assert stored.get(keyword) == source[0].get(keyword), (dataset.Modality, keyword)


def test_the_source_is_not_changed(source):
    before = deepcopy(source)
    build_without_drawing(source, make_report())
    assert before == source


@pytest.mark.parametrize(
    "keyword",
    ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "AccessionNumber"],
)
def test_a_missing_type_2_attribute_is_written_empty(keyword):
    sr = round_trip(quick_sr(few(drop=(keyword,))))
    assert keyword in sr
    assert not sr.get(keyword)


@pytest.mark.parametrize("sex", ["W", "X", "U"])
def test_an_odd_sex_becomes_unknown(sex):
    assert quick_sr(few(PatientSex=sex)).PatientSex == ""


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Mäkinen^Åsa"),
        ("ISO_IR 192", "Wałęsa^Łucja"),
        ("ISO_IR 144", "Иванова^Анна"),
        ("ISO_IR 126", "Παπαδοπούλου^Μαρία"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_a_name_stays_intact_in_its_character_set(charset, name):
    stored = [round_trip_header(header) for header in few(charset=charset, PatientName=name)]
    report = make_report(regions=(), groups=())
    for dataset in build_without_drawing(stored, report).datasets:
        assert str(round_trip(dataset).PatientName) == name
        assert round_trip(dataset).SpecificCharacterSet == stored[0].SpecificCharacterSet


WORDS = [
    ("ISO_IR 100", "Becken nativ, Höhe"),
    ("ISO_IR 192", "kręgosłup, łódź"),
    ("ISO_IR 144", "снимок таза"),
    (["", "ISO 2022 IR 87"], "骨盤 CT"),
    (["", "ISO 2022 IR 149"], "골반 CT"),
    ("GB18030", "骨盆 CT"),
    ("ISO_IR 13", "ｺﾂﾊﾞﾝ"),
]


@pytest.mark.parametrize(("charset", "words"), WORDS)
def test_words_of_study_scanner_and_nested_items_stay_intact_in_every_object(charset, words):
    headers = few(charset=charset, StudyDescription=words, Manufacturer=words, ReferringPhysicianName=words)
    for header in headers:
        header.ProcedureCodeSequence = [Dataset()]
        header.ProcedureCodeSequence[0].CodeMeaning = words
    stored = [round_trip_header(header) for header in headers]
    report = make_report(regions=(), groups=())
    results = build_without_drawing(stored, report)
    assert check_results(stored, results, report) == ()
    for dataset in results.datasets:
        read = round_trip(dataset)
        assert read.StudyDescription == str(read.ReferringPhysicianName) == words
        assert read.ProcedureCodeSequence[0].CodeMeaning == words
        assert read.ContributingEquipmentSequence[0].Manufacturer == words


def test_a_compressed_source_gives_the_same_objects_as_a_plain_one():
    plain = few()
    packed = [compressed(header) for header in few()]
    report = make_report(regions=(), groups=())
    first, second = (build_without_drawing(source, report).datasets for source in (plain, packed))
    assert [one.SOPInstanceUID for one in first] == [one.SOPInstanceUID for one in second]
    assert {str(one.file_meta.TransferSyntaxUID) for one in second} == {ExplicitVRLittleEndian}


def compressed(header: Dataset) -> Dataset:
    """Return a slice with pixels, run length encoded."""
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 1
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelData = bytes(2 * header.Rows * header.Columns)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.compress(RLELossless, generate_instance_uid=False)
    return header


def test_a_source_that_was_compressed_with_loss_says_so_in_its_segmentation():
    source = make_source(
        LossyImageCompression="01", LossyImageCompressionRatio="8", LossyImageCompressionMethod="ISO_10918_1"
    )
    results = build_without_drawing(source, make_report())
    assert all(seg.LossyImageCompression == "01" for seg in results.segs)
    assert check_results(source, results, make_report()) == ()


def test_headers_with_every_type_2_attribute_missing_still_give_objects_that_pass_our_checks():
    missing = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime")
    source = make_source(drop=(*missing, "AccessionNumber", "ReferringPhysicianName", "IssuerOfPatientID"))
    assert check_results(source, build_without_drawing(source, make_report()), make_report()) == ()


def test_a_slice_that_came_twice_is_refused_with_a_sentence():
    source = make_source()
    source.insert(5, source[5])
    with pytest.raises(SourceMismatch, match="more than once"):
        build_results(source, make_report())


def round_trip_header(header: Dataset) -> Dataset:
    buffer = BytesIO()
    header.save_as(buffer, implicit_vr=False, little_endian=True)
    buffer.seek(0)
    return dcmread(buffer, force=True)


def test_two_patients_in_one_source_are_refused():
    headers = make_source()
    headers[3].PatientID = "PACS-000999"
    with pytest.raises(SourceMismatch, match="PatientID has 2 different values") as raised:
        check_source(headers)
    assert "PACS" not in str(raised.value)


def test_two_issuers_in_one_source_are_refused():
    headers = make_source()
    headers[3].IssuerOfPatientID = "OTHER"
    with pytest.raises(SourceMismatch, match="IssuerOfPatientID"):
        check_source(headers)


def test_all_times_are_the_jobs_one_time(results):
    for dataset in results.datasets:
        assert {dataset.SeriesDate, dataset.ContentDate, dataset.InstanceCreationDate} == {"20261120"}
        assert {dataset.SeriesTime, dataset.ContentTime, dataset.InstanceCreationTime} == {"090000"}


def test_times_follow_the_time_zone_the_study_states():
    sr = quick_sr(few(TimezoneOffsetFromUTC="+0200"))
    assert sr.ContentTime == "110000"


def test_times_without_a_stated_zone_are_those_of_the_job():
    tokyo = datetime(2026, 11, 20, 23, 30, tzinfo=timezone(timedelta(hours=9)))
    sr = quick_sr(few(), created=tokyo)
    assert (sr.ContentDate, sr.ContentTime) == ("20261120", "233000")


def test_contributing_equipment_equals_the_algorithm_identification(results):
    report = make_report()
    items = {
        item.ManufacturerModelName: item
        for item in results.sr.ContributingEquipmentSequence
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    }
    for algorithm in report.algorithms:
        item = items[algorithm.name]
        assert item.SoftwareVersions == algorithm.version
        assert item.Manufacturer == report.equipment.manufacturer
        assert item.DeviceUID == device_uid(report.equipment, algorithm)
    assert len({item.DeviceUID for item in items.values()}) == len(report.algorithms) + 1


def test_a_new_version_of_an_algorithm_is_a_new_device():
    report = make_report()
    newer = replace(report.algorithms[0], version="9.9")
    assert device_uid(report.equipment, newer) != device_uid(report.equipment, report.algorithms[0])


def test_an_identical_rerun_gives_identical_objects(source, results):
    again = build_results(source, make_report())
    assert [d.SOPInstanceUID for d in again.datasets] == [d.SOPInstanceUID for d in results.datasets]
    assert all(first == second for first, second in zip(results.datasets, again.datasets, strict=True))


def test_changed_content_gets_a_new_instance_in_a_new_series():
    first = quick_sr(few())
    second = quick_sr(few(), headline="Another result.")
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_uids_are_valid_and_unique(results):
    uids = [str(dataset.SOPInstanceUID) for dataset in results.datasets]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 64 for uid in uids)
    assert all(dataset.SOPInstanceUID.is_valid for dataset in results.datasets)


def test_no_representation_shows_the_patient(results, source):
    assert "Example" not in repr(results)
    assert "Example" not in repr(identity_of(source[0]))


def test_the_age_comes_from_birth_and_study_where_the_header_has_none(source):
    identity = identity_of(make_source(drop=("PatientAge",))[0])
    assert identity.age == "74 y"


def test_objects_without_a_frame_of_reference_stay_valid_without_a_segmentation():
    headers = make_source(drop=("FrameOfReferenceUID", "PositionReferenceIndicator"))
    results = build_without_drawing(headers, make_report())
    assert results.segs == ()
    assert check_results(headers, results, make_report()) == ()
