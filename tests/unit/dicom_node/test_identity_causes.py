"""The four mistakes of identity: each is kept aside with its own cause, and the map stays as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from deid_rules.report import UidPair
from deid_rules.uids import UidMapper
from dicom_node import clock
from dicom_node.db import models
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import JobRejected
from dicom_node.identity.causes import (
    CAUSES,
    ConflictingArrival,
    IssuerChanged,
    MissingPatientId,
    Quarantined,
    StudyUnderTwoPatients,
)
from dicom_node.identity.keys import Keys, load_keys
from dicom_node.identity.map import IdentityMap
from dicom_node.identity.person import Person, person_from_header
from dicom_node.pipeline.deidentification import quarantine_study, single_person

ERIKA = Person("MRN-1", "HOSPITAL-A", "Muster^Erika", "19500102", "F")
STUDY = "1.2.840.77.1"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return load_keys(tmp_path / "keys")


@pytest.fixture
def identities(databases: Databases, keys: Keys) -> IdentityMap:
    return IdentityMap(databases.identity, keys, "study-1")


def header_of(**changes: str) -> tuple[Path, Dataset]:
    ds = Dataset()
    ds.PatientID, ds.IssuerOfPatientID, ds.PatientName = "MRN-1", "HOSPITAL-A", "Muster^Erika"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return Path("never-opened.dcm"), ds


def count_subjects(databases: Databases) -> int:
    with transaction(databases.identity) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(models.Subject)) or 0


def record_study(identities: IdentityMap, keys: Keys, person: Person) -> None:
    mapper = UidMapper(keys.uid, "study-1")
    levels = {"study": STUDY, "series": f"{STUDY}.2", "instance": f"{STUDY}.2.3", "frame_of_reference": "1.2.840.77.9"}
    pairs = [UidPair(uid, mapper.map(uid), level) for level, uid in levels.items()]  # type: ignore[arg-type]
    identities.record_uids(identities.subject(person, clock.now(), STUDY).pseudonym, pairs)


@pytest.mark.parametrize("value", ["", "  ", "\x00", "\x00 "])
def test_a_study_with_an_empty_number_in_one_instance_is_kept_aside(value: str) -> None:
    with pytest.raises(MissingPatientId):
        single_person([header_of(), header_of(PatientID=value)])


def test_a_study_whose_instances_name_two_patients_is_kept_aside() -> None:
    with pytest.raises(StudyUnderTwoPatients, match="2 different patients"):
        single_person([header_of(), header_of(PatientID="MRN-2")])


def test_one_number_with_two_issuers_in_a_study_is_kept_aside() -> None:
    with pytest.raises(IssuerChanged, match="2 issuers"):
        single_person([header_of(), header_of(IssuerOfPatientID="")])


def test_one_patient_with_two_birth_dates_in_a_study_is_kept_aside() -> None:
    with pytest.raises(ConflictingArrival):
        single_person([header_of(PatientBirthDate="19500102"), header_of(PatientBirthDate="19500103")])


def test_an_instance_without_birth_date_is_no_contradiction() -> None:
    assert single_person([header_of(), header_of(PatientBirthDate="19500102")]).birth_date == "19500102"


def test_a_study_known_under_another_patient_is_kept_aside_and_adds_nobody(
    identities: IdentityMap, keys: Keys, databases: Databases
) -> None:
    record_study(identities, keys, ERIKA)
    with pytest.raises(StudyUnderTwoPatients):
        identities.subject(Person("MRN-2", "HOSPITAL-A", "Otto^Nobody", "19400101", "M"), clock.now(), STUDY)
    assert count_subjects(databases) == 1


def test_recording_a_series_or_instance_of_another_patient_is_a_conflict(identities: IdentityMap, keys: Keys) -> None:
    record_study(identities, keys, ERIKA)
    other = identities.subject(Person("MRN-2", "", "", "", ""), clock.now())
    for uid, level in ((f"{STUDY}.2", "series"), (f"{STUDY}.2.3", "instance")):
        pair = UidPair(uid, UidMapper(keys.uid, "study-1").map(uid), level)  # type: ignore[arg-type]
        with pytest.raises(ConflictingArrival):
            identities.record_uids(other.pseudonym, [pair])


def test_a_frame_of_reference_may_be_shared(identities: IdentityMap, keys: Keys) -> None:
    record_study(identities, keys, ERIKA)
    other = identities.subject(Person("MRN-2", "", "", "", ""), clock.now())
    clean = UidMapper(keys.uid, "study-1").map("1.2.840.77.9")
    identities.record_uids(other.pseudonym, [UidPair("1.2.840.77.9", clean, "frame_of_reference")])
    assert identities.original_uid(clean, other.pseudonym) == "1.2.840.77.9"


@pytest.mark.parametrize("issuer", ["HOSPITAL-B", ""])
@pytest.mark.parametrize("birth_date", ["19500102", ""])
def test_a_known_number_with_another_issuer_is_kept_aside_unless_birth_dates_show_two_people(
    identities: IdentityMap, databases: Databases, issuer: str, birth_date: str
) -> None:
    identities.subject(ERIKA, clock.now())
    with pytest.raises(IssuerChanged):
        identities.subject(replace(ERIKA, issuer=issuer, birth_date=birth_date), clock.now())
    assert count_subjects(databases) == 1
    identities.subject(replace(ERIKA, issuer=issuer, birth_date="19991231"), clock.now())
    assert count_subjects(databases) == 2


def test_the_issuer_of_another_project_does_not_matter(databases: Databases, keys: Keys) -> None:
    IdentityMap(databases.identity, keys, "a").subject(ERIKA, clock.now())
    IdentityMap(databases.identity, keys, "b").subject(replace(ERIKA, issuer="HOSPITAL-B"), clock.now())


def test_a_known_patient_with_another_birth_date_is_kept_aside(identities: IdentityMap) -> None:
    subject = identities.subject(ERIKA, clock.now())
    with pytest.raises(ConflictingArrival):
        identities.subject(replace(ERIKA, birth_date="19500103"), clock.now())
    assert identities.subject(replace(ERIKA, birth_date="", name="Married^Erika"), clock.now()) == subject


def test_a_corrected_patient_arrives_again(identities: IdentityMap) -> None:
    subject = identities.subject(ERIKA, clock.now())
    corrected = replace(ERIKA, birth_date="19500103")
    identities.correct(subject.pseudonym, corrected, "Admin", clock.now())
    assert identities.subject(corrected, clock.now()) == subject
    assert identities.person(subject.pseudonym) == corrected


def test_a_study_moved_to_its_right_patient_arrives_under_that_one(identities: IdentityMap, keys: Keys) -> None:
    record_study(identities, keys, ERIKA)
    otto = Person("MRN-2", "HOSPITAL-A", "Otto^Nobody", "19400101", "M")
    pseudonym, moved = identities.move_study(otto, [STUDY, f"{STUDY}.2", f"{STUDY}.2.3"], "Admin", clock.now())
    assert moved == 3
    assert identities.subject(otto, clock.now(), STUDY).pseudonym == pseudonym
    with pytest.raises(StudyUnderTwoPatients):
        identities.subject(ERIKA, clock.now(), STUDY)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_message_of_a_cause_quotes_the_header(number: str, issuer: str) -> None:
    wrong = [header_of(PatientID="QXZ-77"), header_of()]
    for _, header in wrong:
        header.add_new(0x00100021, "LO", issuer)
    wrong[1][1].add_new(0x00100020, "LO", number)
    try:
        single_person(wrong)
    except Quarantined as refusal:
        assert "QXZ" not in str(refusal)  # noqa: PT017 - some texts are no mistake


@pytest.mark.parametrize("kind", CAUSES)
def test_a_cause_survives_being_raised_again_with_its_sentence(kind: type[Quarantined]) -> None:
    again = type(kind())(str(kind()))
    assert isinstance(again, JobRejected)
    assert (again.cause, str(again)) == (kind.cause, kind.sentence)


def test_the_causes_are_distinct_and_explained() -> None:
    page = (Path(__file__).parents[3] / "docs/identity-map.md").read_text()
    assert len({kind.cause for kind in CAUSES}) == len(CAUSES)
    for kind in CAUSES:
        assert f"`{kind.cause}`" in page


def test_a_quarantined_study_has_one_row_however_often_its_job_runs(databases: Databases) -> None:
    instance = models.Instance(path="instances/aa/x.dcm", calling_aet="CT1")
    for _ in range(2):
        with transaction(databases.hospital) as session:
            quarantine_study(session, "0" * 32, instance, IssuerChanged(), clock.now())
    with transaction(databases.hospital) as session:
        (row,) = session.scalars(sa.select(models.Quarantined)).all()
    assert (row.cause, row.path, row.calling_aet) == ("issuer_changed", "instances/aa/x.dcm", "CT1")


def test_full_width_digits_and_outer_spaces_are_the_same_number(identities: IdentityMap) -> None:
    first = identities.subject(Person("4711", "", "", "", ""), clock.now())
    header = Dataset()
    header.SpecificCharacterSet, header.PatientID = "ISO_IR 192", " \uff14\uff17\uff11\uff11 "
    assert identities.subject(person_from_header(header), clock.now()) == first
