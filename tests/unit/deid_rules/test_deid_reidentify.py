"""The way back: what was de-identified gets its identity and its references again, or is refused."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from deid_rules import errors
from deid_rules.engine import deidentify
from deid_rules.options import Option
from deid_rules.profile import Profile
from deid_rules.reidentify import OF_THE_MAKING, Identity, identity_of, reidentify
from deid_rules.report import Subject
from deid_rules.uids import UidMapper, is_registered

SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "deid"
CHAIN = (
    "dcmqi/ct3_01.dcm",
    "dcmqi/ct3_02.dcm",
    "dcmqi/ct3_03.dcm",
    "dcmqi/seg.dcm",
    "dcmqi/sr.dcm",
    "dcmqi/rwvm.dcm",
    "rt-utils/rt.dcm",
)
RESTORED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
)


def _uids_below(dataset: Dataset, path: tuple[object, ...] = ()) -> Iterator[tuple[tuple[object, ...], list[str]]]:
    """Yield (path, UIDs) of every UI element at every depth."""
    for element in dataset:
        if element.VR == "SQ":
            for index, item in enumerate(element.value):
                yield from _uids_below(item, (*path, int(element.tag), index))
        elif element.VR == "UI" and element.value:
            values = element.value if element.VM > 1 else [element.value]
            yield (*path, int(element.tag)), [str(value) for value in values]


def _map_of(dataset: Dataset, uids: UidMapper) -> dict[str, str]:
    """Return what the identity map would hold: clean to original UID."""
    return {uids.map(uid): uid for _, found in _uids_below(dataset) for uid in found if not is_registered(uid)}


def _there_and_back(original: Dataset, subject: Subject, uids: UidMapper) -> tuple[Dataset, Dataset]:
    clean, _ = deidentify(original, subject, Profile(), uids)
    known = _map_of(original, uids)
    back = reidentify(clean, identity_of(original), known.get, lambda uid: False, subject.date_offset_days)
    return clean, back


def _check_chain(original: Dataset, subject: Subject, uids: UidMapper) -> int:
    """Check that everything is restored; return how many references there were."""
    clean, back = _there_and_back(original, subject, uids)
    buffer = BytesIO()
    back.save_as(buffer, enforce_file_format=True)
    again = dcmread(BytesIO(buffer.getvalue()))
    for keyword in RESTORED:
        assert str(again.get(keyword, "")) == str(original.get(keyword, "") or ""), keyword
    left = dict(_uids_below(again))
    expected = dict(_uids_below(original))
    assert left == {path: expected[path] for path in left}
    assert set(left) == {path for path, _ in _uids_below(clean)}
    assert again.PatientIdentityRemoved == "NO"
    assert not {"DeidentificationMethod", "DeidentificationMethodCodeSequence"} & set(again.dir())
    assert again.file_meta.MediaStorageSOPInstanceUID == original.SOPInstanceUID
    lost = {path for path in expected if path not in left and path[-1] == 0x00081155}
    assert not lost
    return sum(path[-1] == 0x00081155 for path in left)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample files are not here")
@pytest.mark.parametrize("name", CHAIN)
def test_real_chains_come_back_whole(name, subject, uids):
    original = dcmread(SAMPLES / name)
    assert _check_chain(original, subject, uids) >= (0 if "ct3" in name else 1)


@pytest.fixture(scope="module")
def chain(make_ct, through_file):
    """CT slices, a segmentation of them and a measurement report on both, made by highdicom."""
    cts = [through_file(make_ct(number, ImagePositionPatient=[0, 0, 1.5 * number])) for number in (1, 2, 3)]
    algorithm = hd.AlgorithmIdentificationSequence("threshold", codes.DCM.ArtificialIntelligence, "1.0")
    bone = hd.seg.SegmentDescription(
        1,
        "bone",
        codes.SCT.Tissue,
        codes.SCT.Bone,
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm,
    )
    made = {"series_number": 9, "instance_number": 1, "manufacturer": "M", "device_serial_number": "1"}
    seg = hd.seg.Segmentation(
        cts,
        np.ones((3, 8, 8), dtype=np.uint8),
        "BINARY",
        [bone],
        generate_uid(),
        sop_instance_uid=generate_uid(),
        manufacturer_model_name="N",
        software_versions="1",
        **made,
    )
    return (*cts, seg, _report(cts, seg, made))


def _report(cts, seg, made):
    context = hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            codes.DCM.Device, hd.sr.DeviceObserverIdentifyingAttributes(uid=generate_uid())
        )
    )
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        hd.sr.TrackingIdentifier(generate_uid(), "femur"),
        measurements=[hd.sr.Measurement(codes.SCT.Volume, 5.0, codes.UCUM.Millimeter)],
        source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(cts[0])],
    )
    content = hd.sr.MeasurementReport(context, codes.DCM.ImagingMeasurementReport, imaging_measurements=[group])
    return hd.sr.Comprehensive3DSR(
        [*cts, seg], content, series_instance_uid=generate_uid(), sop_instance_uid=generate_uid(), **made
    )


def test_a_made_chain_of_ct_seg_and_sr_comes_back_whole(chain, subject, uids):
    references = [_check_chain(original, subject, uids) for original in chain]
    assert references[3] >= 3
    assert references[4] >= 4


def test_dates_and_names_of_every_script_come_back(make_ct, through_file, subject, uids):
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    original = through_file(make_ct(SpecificCharacterSet="ISO_IR 192", PatientName=name, StudyDescription="Hüfte"))
    _, back = _there_and_back(original, subject, uids)
    buffer = BytesIO()
    back.save_as(buffer, enforce_file_format=True)
    again = dcmread(BytesIO(buffer.getvalue()))
    assert str(again.PatientName) == name
    assert again.StudyDescription == "Hüfte"
    assert (again.StudyDate, again.SeriesDate, again.AcquisitionDateTime) == (
        "20240229",
        "20240229",
        "20240229101112.5+0100",
    )


depths = st.integers(0, 6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(depths, st.integers(1, 10**6)), min_size=1, max_size=5), st.integers(-500, 500))
def test_references_at_any_depth_come_back(make_ct, through_file, uids, placed, weeks):
    ds = make_ct()
    for depth, number in placed:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{number}"
        for _ in range(depth):
            outer = Dataset()
            outer.SourceImageSequence = [item]
            item = outer
        ds.setdefault("ReferencedImageSequence", [])
        ds.ReferencedImageSequence.append(item)
    assert _check_chain(through_file(ds), Subject("ON-ABCDEFGH", 7 * weeks), uids) == len(placed)


@pytest.fixture
def clean(make_ct, through_file, subject, profile, uids):
    inner, item = Dataset(), Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3.4"
    item.SourceImageSequence = [inner]
    return deidentify(through_file(make_ct(ReferencedImageSequence=[item])), subject, profile, uids)[0]


def test_an_unknown_uid_deep_inside_stops_the_object(make_ct, clean, uids):
    known = _map_of(make_ct(), uids)
    with pytest.raises(errors.UnmappedUid, match=r"\(0008,1155\)") as caught:
        reidentify(clean, Identity("1", "A^B"), known.get, lambda uid: False, 0)
    assert caught.value.tag == 0x00081155
    assert "2.25" not in str(caught.value)


def test_our_own_uids_stay(clean, uids):
    back = reidentify(clean, Identity("1", "A^B"), lambda uid: None, lambda uid: uid.startswith("2.25."), 0)
    assert back.SOPInstanceUID == clean.SOPInstanceUID


def test_dates_of_our_own_making_are_not_moved(clean):
    clean.SeriesDate = clean.ContentDate = "20261121"
    back = reidentify(clean, Identity("1", "A^B", study_date=None), lambda uid: None, lambda uid: True, -700)
    assert (back.SeriesDate, back.ContentDate) == ("20261121", "20261121")
    assert back.AcquisitionDate == "20240229"
    assert 0x00080022 not in OF_THE_MAKING


def test_dates_that_were_never_moved_stay(make_ct, through_file, subject, uids):
    whole = Profile(frozenset({Option.RETAIN_FULL_DATES}))
    clean, _ = deidentify(through_file(make_ct()), subject, whole, uids)
    back = reidentify(clean, Identity("1", "A^B", study_date="20240229"), lambda uid: uid, lambda uid: False, -700)
    assert (back.StudyDate, back.AcquisitionDate) == ("20240229", "20240229")


def test_what_is_not_deidentified_is_refused(make_ct):
    with pytest.raises(errors.NotDeidentified):
        reidentify(make_ct(), Identity("1", "A^B"), lambda uid: uid, lambda uid: True, 0)


def test_the_input_stays_as_it_is(clean, encode):
    before = encode(clean)
    reidentify(clean, Identity("1", "Ärzte^B"), lambda uid: "1.2.3", lambda uid: False, 70)
    assert encode(clean) == before


def test_an_unknown_attribute_is_removed_and_an_empty_one_emptied(clean):
    known = Identity("1", "A^B", patient_sex=None, study_time="")
    back = reidentify(clean, known, lambda uid: uid, lambda uid: False, 0)
    assert "PatientSex" not in back
    assert back.StudyTime == ""
    assert back.AccessionNumber == ""


def test_an_identity_shows_nothing(make_ct):
    shown = repr(identity_of(make_ct()))
    assert shown == "Identity()"


def test_a_header_without_an_id_has_no_identity(make_ct):
    with pytest.raises(errors.UnreadableElement):
        identity_of(make_ct(PatientID=""))


def test_the_pseudonym_inside_a_sequence_becomes_the_patient(clean):
    item = Dataset()
    item.PatientID = clean.PatientID
    clean.ReferencedPatientSequence = [item]
    back = reidentify(clean, Identity("MRN1", "A^B"), lambda uid: uid, lambda uid: False, 0)
    assert back.ReferencedPatientSequence[0].PatientID == "MRN1"
