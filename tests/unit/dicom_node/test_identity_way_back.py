"""From the research side back to the patient, and the last question to the PACS before delivery."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from deid_rules.engine import deidentify
from deid_rules.profile import Profile
from deid_rules.report import UidPair
from deid_rules.uids import UidMapper
from dicom_node import clock
from dicom_node.db.session import Databases
from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.errors import DeliveryRefused, PeerUnavailable
from dicom_node.identity.causes import NotReidentifiable
from dicom_node.identity.keys import Keys, load_keys
from dicom_node.identity.map import IdentityMap
from dicom_node.identity.person import Person, person_from_header
from dicom_node.net.archive import FolderArchive
from dicom_node.net.find import StudyIdentity, find_study
from dicom_node.net.scu import Address
from dicom_node.pipeline.reidentification import (
    check_identity_with_pacs,
    differences,
    refuse_changed_identity,
    reidentify_object,
)

PATIENT = FakePatient()
STUDY = "1.2.840.77.5"
ERIKA = StudyIdentity("MRN-1", "W", "Muster^Erika", "19500102")
OURS = {generate_uid() for _ in range(3)}
SERIES_UID, INSTANCE_UID, TRACKING_UID = sorted(OURS)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return load_keys(tmp_path / "keys")


@pytest.fixture
def identities(databases: Databases, keys: Keys) -> IdentityMap:
    return IdentityMap(databases.identity, keys, "p")


@pytest.fixture
def originals(tmp_path: Path) -> list[Dataset]:
    scan = Scan(np.zeros((2, 8, 8), np.int16), (3.0, 1.0, 1.0), (0, 0, 0))
    return [dcmread(path) for path in write_series(scan, tmp_path / "ct", PATIENT, seed="way back")]


@pytest.fixture
def clean_images(originals: list[Dataset], identities: IdentityMap, keys: Keys) -> list[Dataset]:
    """The series as the research side has it, its UIDs recorded."""
    subject = identities.subject(person_from_header(originals[0]), clock.now())
    images = []
    for original in originals:
        clean, report = deidentify(original, subject, Profile(), UidMapper(keys.uid, "p"))
        identities.record_uids(subject.pseudonym, report.uid_pairs)
        images.append(clean)
    return images


@pytest.fixture
def result(clean_images: list[Dataset]) -> Dataset:
    """A result as the node makes it of clean images."""
    ds = Dataset()
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "StudyID"):
        setattr(ds, keyword, deepcopy(clean_images[0][keyword].value))
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "OsteoNode"
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = SegmentationStorage, INSTANCE_UID, SERIES_UID
    ds.Manufacturer, ds.ManufacturerModelName, ds.Modality = "OsteoNode", "osteonode", "SEG"
    ds.ReferencedSeriesSequence = [Dataset()]
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = clean_images[0].SeriesInstanceUID
    ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [_reference(one) for one in clean_images]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, image.SOPInstanceUID
    return item


def test_a_result_comes_back_under_the_patient_and_refers_to_the_original_images(
    result: Dataset, originals: list[Dataset], identities: IdentityMap
) -> None:
    back = reidentify_object(result, originals[0], identities, OURS.__contains__)
    for keyword in (
        *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
        *("StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "StudyID"),
    ):
        assert str(back[keyword].value) == str(originals[0][keyword].value), keyword
    (series,) = back.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == originals[0].SeriesInstanceUID
    found = [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence]
    assert found == [one.SOPInstanceUID for one in originals]
    assert (back.SOPInstanceUID, back.PatientIdentityRemoved) == (INSTANCE_UID, "NO")
    assert "DeidentificationMethod" not in back
    assert str(result.PatientID) != PATIENT.patient_id


@pytest.mark.parametrize(
    "change",
    [
        {"Manufacturer": "Another"},
        {"ManufacturerModelName": "other"},
        {"SOPInstanceUID": "1.2.3"},
        {"PatientID": "ON-UNKNOWN"},
        {"StudyInstanceUID": "2.25.1"},
        {"SeriesInstanceUID": "2.25.2"},
        {"PatientIdentityRemoved": "NO"},
    ],
)
def test_what_is_not_ours_or_refers_to_the_unknown_is_kept_aside(
    result: Dataset, originals: list[Dataset], identities: IdentityMap, change: dict[str, str]
) -> None:
    for keyword, value in change.items():
        setattr(result, keyword, value)
    with pytest.raises(NotReidentifiable) as error:
        reidentify_object(result, originals[0], identities, OURS.__contains__)
    for value in (*change.values(), *PATIENT.identifiers):
        assert value in ("NO",) or value not in str(error.value)


def test_an_unknown_reference_deep_inside_is_kept_aside(
    result: Dataset, originals: list[Dataset], identities: IdentityMap
) -> None:
    item = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence[1]
    item.PurposeOfReferenceCodeSequence = [Dataset()]
    item.PurposeOfReferenceCodeSequence[0].ContextUID = "2.25.77"
    with pytest.raises(NotReidentifiable, match=r"\(0008,0117\)"):
        reidentify_object(result, originals[0], identities, OURS.__contains__)


def test_a_reference_to_another_patients_image_is_kept_aside(
    result: Dataset, originals: list[Dataset], identities: IdentityMap, keys: Keys
) -> None:
    other = identities.subject(Person("MRN-2", "", "", "", ""), clock.now())
    foreign = UidPair("1.2.3.4", UidMapper(keys.uid, "p").map("1.2.3.4"), "instance")
    identities.record_uids(other.pseudonym, [foreign])
    item = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence[1]
    item.ReferencedSOPInstanceUID = foreign.clean_uid
    with pytest.raises(NotReidentifiable, match="neither mapped"):
        reidentify_object(result, originals[0], identities, OURS.__contains__)


@pytest.mark.parametrize("change", [{"PatientID": "MRN-2"}, {"StudyInstanceUID": "1.2.3"}, {"IssuerOfPatientID": "X"}])
def test_an_original_header_of_someone_else_is_refused(
    result: Dataset, originals: list[Dataset], identities: IdentityMap, change: dict[str, str]
) -> None:
    for keyword, value in change.items():
        setattr(originals[0], keyword, value)
    with pytest.raises(NotReidentifiable, match="original header"):
        reidentify_object(result, originals[0], identities, OURS.__contains__)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"patient_id": "MRN-2"}, "patient ID"),
        ({"issuer": "X"}, "issuer"),
        ({"name": "Muster^Eva"}, "name"),
        ({"name": ""}, "name"),
        ({"birth_date": "19500103"}, "birth date"),
    ],
)
def test_a_difference_stops_delivery_and_names_the_attribute_only(change: dict[str, str], word: str) -> None:
    found = replace(ERIKA, **change)
    with pytest.raises(DeliveryRefused, match=word) as error:
        check_identity_with_pacs(lambda uid: [found], ERIKA, STUDY)
    for value in ("MRN", "Muster", "1950", STUDY):
        assert value not in str(error.value)


def test_spelling_that_means_the_same_is_no_difference() -> None:
    assert not differences(ERIKA, StudyIdentity(" mrn-1", "w", "MUSTER^ERIKA^^", "19500102"))
    assert not differences(ERIKA, StudyIdentity("MRN-1", "", "Muster^Erika=Kanji^Name", ""))
    assert differences(ERIKA, StudyIdentity("MRN-1", "", "Muster^^Erika", "")) == ["patient's name (0010,0010)"]


def test_a_study_the_archive_lost_stops_delivery_and_one_a_viewer_never_had_does_not() -> None:
    with pytest.raises(DeliveryRefused, match="does not know the study"):
        check_identity_with_pacs(lambda uid: [], ERIKA, STUDY)
    assert not check_identity_with_pacs(lambda uid: [], ERIKA, STUDY, must_know_study=False)
    assert check_identity_with_pacs(lambda uid: [ERIKA], ERIKA, STUDY)


def test_a_peer_without_c_find_is_not_asked() -> None:
    assert not check_identity_with_pacs(lambda uid: None, ERIKA, STUDY)


class Pacs:
    """A query SCP whose answers can be exchanged; stopping a server for each would take half a second."""

    def __init__(self) -> None:
        self.answer: Callable[[evt.Event], Iterator[Any]] = answering()
        ae = AE(ae_title="PACS")
        ae.supported_contexts = [build_context(Verification), build_context(StudyRootQueryRetrieveInformationModelFind)]
        handlers = [(evt.EVT_C_FIND, lambda event: self.answer(event))]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def answers(self, *matches: dict[str, str], status: int = 0x0000) -> Address:
        """Let it answer so from now on; return where it is."""
        self.answer = answering(*matches, status=status)
        return Address("PACS", "127.0.0.1", self.server.socket.getsockname()[1], "NODE")


@pytest.fixture(scope="module")
def pacs() -> Iterator[Pacs]:
    running = Pacs()
    yield running
    running.server.shutdown()


def answering(*matches: dict[str, str], status: int = 0x0000) -> Callable[[evt.Event], Iterator[Any]]:
    def answer(event: evt.Event) -> Iterator[Any]:
        assert event.identifier.QueryRetrieveLevel == "STUDY"
        for match in matches:
            ds = Dataset()
            ds.SpecificCharacterSet, ds.QueryRetrieveLevel = "ISO_IR 192", "STUDY"
            ds.StudyInstanceUID = event.identifier.StudyInstanceUID
            for keyword, value in match.items():
                setattr(ds, keyword, value)
            yield 0xFF00, ds
        if status:
            yield status, None

    return answer


FULL = {
    "PatientID": "MRN-1",
    "IssuerOfPatientID": "W",
    "PatientName": "Müster^Erika",
    "PatientBirthDate": "19500102",
}


def test_the_pacs_says_whose_study_it_is(pacs: Pacs) -> None:
    assert find_study(pacs.answers(FULL), STUDY) == [replace(ERIKA, name="Müster^Erika")]


def test_matches_of_other_studies_do_not_count(pacs: Pacs) -> None:
    assert find_study(pacs.answers({**FULL, "StudyInstanceUID": "1.2.3"}), STUDY) == []


def test_a_peer_that_offers_no_c_find_is_told_apart_from_one_that_is_away(tmp_path: Path) -> None:
    archive = FolderArchive("PACS", tmp_path)
    address = Address("PACS", "127.0.0.1", archive.port, "NODE")
    assert find_study(address, STUDY) is None
    archive.close()
    with pytest.raises(PeerUnavailable):
        find_study(address, STUDY)


@pytest.mark.parametrize(("status", "kind"), [(0xA700, PeerUnavailable), (0xC001, DeliveryRefused)])
def test_a_failure_of_the_query_never_counts_as_an_answer(pacs: Pacs, status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"0x{status:04X}"):
        find_study(pacs.answers(FULL, status=status), STUDY)


def test_delivery_goes_on_while_the_pacs_agrees_and_stops_when_it_no_longer_does(
    pacs: Pacs, originals: list[Dataset]
) -> None:
    paths = [Path(str(one.filename)) for one in originals]
    true = {keyword: str(originals[0][keyword].value) for keyword in FULL}
    refuse_changed_identity(partial(find_study, pacs.answers(true)), paths, must_know_study=True)
    with pytest.raises(DeliveryRefused, match="patient ID"):
        refuse_changed_identity(
            partial(find_study, pacs.answers({**true, "PatientID": "MERGED-1"})), paths, must_know_study=True
        )
    with pytest.raises(DeliveryRefused, match="name"):
        refuse_changed_identity(
            partial(find_study, pacs.answers(true, {**true, "PatientName": "Second^Match"})),
            paths,
            must_know_study=True,
        )
    with pytest.raises(DeliveryRefused, match="does not know"):
        refuse_changed_identity(partial(find_study, pacs.answers()), paths, must_know_study=True)


def test_results_that_disagree_about_one_study_are_not_sent(originals: list[Dataset]) -> None:
    paths = [Path(str(one.filename)) for one in originals]
    originals[1].PatientID = "MRN-2"
    originals[1].save_as(paths[1])
    with pytest.raises(DeliveryRefused, match="several identities"):
        refuse_changed_identity(lambda uid: None, paths, must_know_study=True)
