"""Every message is as PS3.15 A.5 wants it, whatever stands in its values, and names no patient."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sr._concepts_dict import concepts

from dicom_node.audit import codes, events
from dicom_node.audit.chain import Head
from dicom_node.audit.events import KINDS, Event, Party, StudyInstances, application_entity, web_client
from dicom_node.audit.message import MAX_MESSAGE_BYTES, AuditSource, Message, Participant, ParticipantObject, xml_of
from dicom_node.audit.patients import UNKNOWN, patient_index, patient_indexes
from dicom_node.audit.queries import dicom_query, web_query
from dicom_node.audit.recorder import entry_of
from dicom_node.audit.syslog import framed, syslog_message
from dicom_node.db.session import Databases
from dicom_node.demo.fake_ct import FakePatient
from dicom_node.identity.keys import add_version, load_keys
from dicom_node.identity.person import Person
from dicom_node.settings import Settings
from tests.audit_schema import TABLES, faults, text_of

NOW = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)
FAKE = FakePatient()
PERSON = Person(FAKE.patient_id, FAKE.issuer, FAKE.name, FAKE.birth_date, FAKE.sex)
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PACS = application_entity("PACS", "10.0.0.7")
STUDY = StudyInstances("1.2.3.4", {"1.2.840.10008.5.1.4.1.1.2": 3, "1.2.840.10008.5.1.4.1.1.88.34": 1})


def fake_query() -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = "1.2.3.4"
    query.PatientID = FAKE.patient_id
    query.PatientName = FAKE.name
    query.PatientBirthDate = FAKE.birth_date
    query.AccessionNumber = FAKE.accession_number
    query.ModalitiesInStudy = ["CT", "SR"]
    query.StudyDate = ""
    return query


EVERY_EVENT = (
    events.application_started(),
    events.application_stopped(),
    events.recording_started(Head(7, "ab" * 32)),
    events.recording_stopped(Head()),
    events.audit_read(web_client("10.0.0.9"), "page 1"),
    events.association_rejected(PACS, "host_not_allowed"),
    events.association_rejected(application_entity("SCAN"), "calling_ae_title_unknown", 250),
    events.transfer_begun(events.THIS_NODE, PACS, STUDY),
    events.transfer_begun(PACS, events.THIS_NODE, StudyInstances("1.2.3.4")),
    events.instances_received(PACS, STUDY),
    events.instances_received(web_client("10.0.0.9"), STUDY, "0xA700"),
    events.instances_sent(PACS, STUDY),
    events.instances_sent(PACS, STUDY, "0x0122 SOP class not supported."),
    events.instances_sent(web_client("10.0.0.9"), STUDY, requestor=web_client("10.0.0.9")),
    events.query_sent(PACS, dicom_query(FIND, fake_query())),
    events.query_answered(
        web_client("10.0.0.9"),
        web_query("/dicom-web/studies", f"PatientID={FAKE.patient_id}&00100010={FAKE.name}&limit=5"),
    ),
    events.imported(Party("radiographer@host"), "file:///mnt/cd", STUDY),
    events.exported(Party("radiographer@host"), "file:///mnt/out", "3 de-identified instances", STUDY),
    events.exported(Party("admin@host"), "file:///mnt/map.csv", "The identity map"),
    events.instances_accessed("R", "A job began.", STUDY),
    events.instances_accessed("C", "A job made results.", STUDY),
    events.patient_record(Party("admin@host"), "R", "A pseudonym was looked up.", PERSON),
    events.patient_record(Party("admin@host"), "C", "Pseudonyms were imported."),
    events.configuration_changed(web_client("127.0.0.1"), "network", "peers/PACS", "Peer PACS was added."),
    events.configuration_changed(Party("admin@host"), "security", "keys", "The map's keys were rotated."),
    events.configuration_changed(web_client("127.0.0.1"), "software", "rules/1", "A rule was changed."),
    events.operator_action(web_client("127.0.0.1"), "jobs/1", "A job was cancelled.", STUDY),
)


@pytest.fixture
def xml(databases: Databases, settings: Settings) -> Callable[[Event], str]:
    return lambda event: entry_of(databases, settings, event, NOW).message


@pytest.mark.parametrize("number", range(len(EVERY_EVENT)), ids=lambda number: EVERY_EVENT[number].kind.key)
def test_a_message_is_as_its_table_in_the_standard_says(xml: Callable[[Event], str], number: int) -> None:
    assert faults(xml(EVERY_EVENT[number])) == []


def test_every_kind_and_every_table_is_tried() -> None:
    assert {event.kind.key for event in EVERY_EVENT} == KINDS.keys()
    assert {kind.event.code for kind in KINDS.values()} == TABLES.keys()


@pytest.mark.parametrize("number", range(len(EVERY_EVENT)), ids=lambda number: EVERY_EVENT[number].kind.key)
def test_no_identifier_is_in_any_message_not_even_encoded(xml: Callable[[Event], str], number: int) -> None:
    text = text_of(xml(EVERY_EVENT[number]))
    assert not [one for one in FAKE.identifiers if one in text]
    assert not [one for one in FAKE.identifiers if one in repr(EVERY_EVENT[number])]


def test_every_code_is_the_one_of_the_dictionary() -> None:
    known = {code: meaning for entry in concepts["DCM"].values() for code, (meaning, *_) in entry.items()}
    ours = [one for one in vars(codes).values() if isinstance(one, codes.Code) and one.scheme == "DCM"]
    assert len(ours) > 25
    assert [one for one in ours if known.get(one.code) != one.meaning] == []


def test_a_checker_that_finds_nothing_would_find_these(xml: Callable[[Event], str]) -> None:
    good = xml(events.instances_received(PACS, STUDY))
    assert faults(good) == []
    for old, new in (
        ('EventActionCode="C"', 'EventActionCode="E"'),
        ('EventOutcomeIndicator="0"', 'EventOutcomeIndicator="1"'),
        ("110153", "110151"),
        ("ParticipantObjectName", "ParticipantName"),
        ('UserIsRequestor="false"', 'UserIsRequestor="true"'),
        ("110180", "110182"),
        ('NumberOfInstances="3"', ""),
        ('NetworkAccessPointTypeCode="2"', ""),
    ):
        assert old in good
        assert faults(good.replace(old, new)), old


def test_a_patient_is_the_same_in_every_message_and_unknown_without_a_number(settings: Settings) -> None:
    keys = load_keys(settings.keys)
    index = patient_index(keys, FAKE.patient_id, FAKE.issuer)
    assert index == patient_index(keys, f" {FAKE.patient_id.lower()} ", FAKE.issuer)
    assert index != patient_index(keys, FAKE.patient_id, "ANOTHER")
    assert patient_index(keys, "", FAKE.issuer) == UNKNOWN


def test_a_patient_is_found_again_after_a_rotation_of_keys(settings: Settings) -> None:
    before = patient_index(load_keys(settings.keys), FAKE.patient_id, FAKE.issuer)
    keys = add_version(settings.keys)
    after = patient_index(keys, FAKE.patient_id, FAKE.issuer)
    assert before != after
    assert {before, after} == set(patient_indexes(keys, FAKE.patient_id, FAKE.issuer))


def test_the_audit_s_index_of_a_patient_is_not_the_identity_map_s(settings: Settings) -> None:
    from dicom_node.identity.cipher import identity_index

    keys = load_keys(settings.keys)
    projects = ("", "default", "audit", settings.project)
    of_map = {identity_index(keys.index, FAKE.patient_id, FAKE.issuer, project) for project in projects}
    assert patient_index(keys, FAKE.patient_id, FAKE.issuer) not in of_map


def test_a_query_keeps_what_says_nothing_of_a_patient(xml: Callable[[Event], str]) -> None:
    text = text_of(xml(events.query_sent(PACS, dicom_query(FIND, fake_query()))))
    assert "1.2.3.4" in text
    assert "CT\\SR" in text
    assert "AccessionNumber,PatientID" in text.replace("PatientName,", "").replace("PatientBirthDate,", "")


@pytest.mark.parametrize(
    "query",
    [
        f"StudyInstanceUID={FAKE.patient_id}",
        f"includefield={FAKE.name}",
        f"{FAKE.name}=1",
        f"ModalitiesInStudy={FAKE.name}",
        f"limit={FAKE.telephone}",
        f"0020000D={FAKE.accession_number}",
        f"00100020={FAKE.patient_id}",
    ],
)
def test_a_name_in_the_wrong_place_of_a_web_query_is_taken_out_too(query: str) -> None:
    made = web_query("/studies", query)
    text = f"{made.object_id} {made.query!r} {made.details!r}"
    assert not [one for one in FAKE.identifiers if one in text]
    assert "taken+out" in text


hostile = st.text(st.characters(exclude_categories=()), max_size=80)


@given(title=hostile, address=hostile, reason=hostile, resource=hostile, value=st.binary(max_size=6000))
def test_no_value_breaks_a_message_or_the_limit_of_its_size(
    title: str, address: str, reason: str, resource: str, value: bytes
) -> None:
    made = xml_of(
        Message(
            codes.SECURITY_ALERT,
            "E",
            NOW,
            codes.MINOR_FAILURE,
            (Participant("NODE"), Participant(title, f"AETITLES={title}", reason, access_point=address)),
            AuditSource("NODE", resource),
            (codes.NODE_AUTHENTICATION,),
            reason,
            (ParticipantObject(codes.URI, resource, 2, 13, reason, details=(("Alert Description", value),)),),
        )
    )
    assert faults(made) == []
    assert len(framed(syslog_message(made, NOW, 4, title, 1))) < MAX_MESSAGE_BYTES


def test_the_longest_message_is_below_what_receivers_have_to_take() -> None:
    worst = "&" * 5000
    participant = Participant(worst, worst, worst, True, codes.SOURCE_MEDIA, worst, codes.MEDIA_URI)
    study = ParticipantObject(
        codes.STUDY_UID,
        worst,
        2,
        3,
        worst,
        sop_classes=tuple((f"1.2.{'3' * 58}{number}", 10**6) for number in range(99)),
    )
    alert = ParticipantObject(codes.URI, worst, 2, 13, worst, details=(("Alert Description", worst.encode()),))
    person = ParticipantObject(codes.PATIENT_NUMBER, "ab" * 32, 1, 1, "index")
    made = xml_of(
        Message(
            codes.SECURITY_ALERT,
            "E",
            NOW,
            12,
            (participant, participant),
            AuditSource(worst, worst),
            (codes.NODE_AUTHENTICATION,),
            worst,
            (study, person, alert),
        )
    )
    assert len(syslog_message(made, NOW, 12, worst, 99999)) < MAX_MESSAGE_BYTES


def test_a_syslog_message_has_the_header_of_the_profile() -> None:
    made = syslog_message("<AuditMessage/>", NOW, codes.SUCCESS, "node 1.örtlich", 4711)
    assert made == (
        b"<85>1 2026-03-04T05:06:07.891Z node1.rtlich osteonode 4711 DICOM+RFC3881 - "
        b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?><AuditMessage/>'
    )
    assert framed(b"abc") == b"3 abc"
    assert syslog_message("<x/>", NOW, codes.SERIOUS_FAILURE, "", 1).startswith(b"<83>1 2026-03-04T05:06:07.891Z - ")


def test_the_patient_of_a_study_is_read_from_a_file_and_never_written(
    databases: Databases, settings: Settings, make_arrival: Callable[..., object]
) -> None:
    from dicom_node.storage.intake import Intake

    intake = Intake(databases.hospital, settings.hospital_dir, 0)
    arrival = make_arrival(StudyInstanceUID="1.2.3.4", PatientID=FAKE.patient_id, IssuerOfPatientID=FAKE.issuer)
    intake.keep(arrival, NOW)  # type: ignore[arg-type]
    entry = entry_of(databases, settings, events.instances_received(PACS, STUDY), NOW)
    assert entry.patient == patient_index(load_keys(settings.keys), FAKE.patient_id, FAKE.issuer)
    assert entry.patient in entry.message
    assert FAKE.patient_id not in str(entry)


def test_a_study_whose_file_is_gone_or_broken_is_still_told(
    databases: Databases, settings: Settings, make_arrival: Callable[..., object], tmp_path: Path
) -> None:
    from dicom_node.storage.intake import Intake

    intake = Intake(databases.hospital, settings.hospital_dir, 0)
    intake.keep(make_arrival(StudyInstanceUID="1.2.3.4"), NOW)  # type: ignore[arg-type]
    for path in (settings.hospital_dir / "instances").rglob("*.dcm"):
        path.write_bytes(b"\xff" * 300)
    assert entry_of(databases, settings, events.instances_received(PACS, STUDY), NOW).patient == UNKNOWN
