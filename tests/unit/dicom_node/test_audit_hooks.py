"""Where things happen, the audit is told: ledger, deliveries, retrievals, imports, jobs, web, commands."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from dicom_node import clock
from dicom_node.audit import recorder
from dicom_node.audit.events import Party
from dicom_node.audit.received import tell_of_associations
from dicom_node.audit.rejections import Rejections
from dicom_node.audit.transfers import (
    audited_retrieval,
    audited_sending,
    tell_of_import,
    tell_of_job,
    tell_of_search,
)
from dicom_node.cli import main
from dicom_node.commands.operator import MODULES, READING
from dicom_node.db.associations import note_lost_associations
from dicom_node.db.audit import messages_after
from dicom_node.db.audit_tables import AuditMessage
from dicom_node.db.deliveries import accept
from dicom_node.db.models import AssociationRow, Delivery, Peer, Result, StudyVersion
from dicom_node.db.routing import open_association
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import DeliveryRefused, PeerUnavailable
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake
from dicom_node.web.audit_trail import AuditTrail
from tests.audit_schema import faults, text_of

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.34"


def told(databases: Databases) -> list[AuditMessage]:
    with transaction(databases.hospital) as session:
        rows = list(messages_after(session, 0))
    assert [fault for row in rows for fault in faults(row.message)] == []
    return rows


def sentences(databases: Databases) -> list[str]:
    return [row.sentence for row in told(databases)]


@pytest.fixture
def keep(databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]) -> Callable[..., None]:
    intake = Intake(databases.hospital, settings.hospital_dir, 0)

    def one(study: str, association_id: str | None = None, calling_aet: str = "CT1") -> None:
        from dataclasses import replace

        arrival = make_arrival(StudyInstanceUID=study, PatientID=f"P{study}")
        intake.keep(replace(arrival, association_id=association_id, calling_aet=calling_aet), clock.now())

    return one


def ledger(databases: Databases, **values: object) -> None:
    row = {
        "calling_aet": "CT1",
        "called_aet": "NODE",
        "address": "10.0.0.1",
        "started_at": clock.now(),
        "ended_at": clock.now(),
        "accepted": 0,
        "refused": 0,
        "received_bytes": 0,
        "outcome": "released",
        **values,
    }
    with transaction(databases.hospital) as session:
        session.add(AssociationRow(**row))


def tell(databases: Databases, settings: Settings, rejections: Rejections | None = None) -> int:
    return tell_of_associations(databases, settings, rejections or Rejections(), clock.now())


def test_an_association_is_one_event_a_study_with_numbers_by_class(
    databases: Databases, settings: Settings, keep: Callable[..., None]
) -> None:
    for study in ("1.2.1", "1.2.2", "1.2.1"):
        keep(study, "a1")
    ledger(databases, association_id="a1", accepted=3)
    assert tell(databases, settings) == 1
    rows = told(databases)
    assert sorted((row.study_instance_uid, row.sentence) for row in rows) == [
        ("1.2.1", "Received from CT1: 2 instances."),
        ("1.2.2", "Received from CT1: 1 instance."),
    ]
    assert len({row.patient for row in rows}) == 2
    assert f'UID="{CT}" NumberOfInstances="2"' in rows[0].message + rows[1].message
    assert tell(databases, settings) == 0
    assert len(told(databases)) == 2


def test_what_was_here_already_and_what_was_refused_are_messages_of_their_own(
    databases: Databases, settings: Settings, keep: Callable[..., None]
) -> None:
    keep("1.2.1", "a1")
    ledger(databases, association_id="a1", accepted=4, refused=2, errors="0xA700 2", outcome="aborted")
    tell(databases, settings)
    assert [(row.outcome, row.sentence) for row in told(databases)] == [
        (0, "Received from CT1: 1 instance."),
        (0, "Received again from CT1: 3 instances."),
        (8, "Refused from CT1: 2 instances (0xA700 2)."),
    ]


def test_callers_that_were_not_let_in_are_alerts_and_a_full_node_is_none(
    databases: Databases, settings: Settings
) -> None:
    for outcome in ("calling_ae_title_unknown", "node_limit_reached", "tls_not_agreed", "calling_ae_title_unknown"):
        ledger(databases, calling_aet="SCAN", outcome=outcome)
    tell(databases, settings)
    rows = told(databases)
    assert [row.kind for row in rows] == ["association_rejected"] * 2
    assert {row.sentence for row in rows} == {
        "An association was rejected: calling AE title unknown.",
        "An association was rejected: tls not agreed.",
    }


def test_a_row_is_told_of_once_even_if_the_first_write_fails(
    databases: Databases, settings: Settings, keep: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("1.2.1", "a1")
    ledger(databases, association_id="a1", accepted=1)
    with monkeypatch.context() as broken:
        broken.setattr(recorder, "append", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            tell(databases, settings)
    assert told(databases) == []
    tell(databases, settings)
    tell(databases, settings)
    assert sentences(databases) == ["Received from CT1: 1 instance."]


def test_an_association_that_the_node_s_death_cut_off_is_in_ledger_and_audit(
    databases: Databases, settings: Settings, keep: Callable[..., None]
) -> None:
    with transaction(databases.hospital) as session:
        open_association(session, "a1", "CT1", clock.now() - timedelta(minutes=1))
    keep("1.2.1", "a1")
    keep("1.2.1", "a1")
    with transaction(databases.hospital) as session:
        assert note_lost_associations(session, clock.now()) == 1
    tell(databases, settings)
    assert sentences(databases) == ["Received from CT1: 2 instances."]
    with transaction(databases.hospital) as session:
        row = session.scalars(sa.select(AssociationRow)).one()
    assert (row.outcome, row.accepted, row.received_bytes > 0) == ("lost", 2, True)


@pytest.fixture
def delivery(databases: Databases, keep: Callable[..., None]) -> tuple[int, Peer]:
    """A delivery of a report and a segmentation of study 1.2.1, and its peer."""
    keep("1.2.1")
    peer = Peer(name="PACS", ae_title="PACS", host="10.0.0.7", port=104, may_send=True, receives_results=True)
    now = clock.now()
    with transaction(databases.hospital) as session:
        session.add(peer)
        session.add(
            StudyVersion(
                study_instance_uid="1.2.1", version=1, instance_count=1, ct_count=1, job_id="j1", created_at=now
            )
        )
        for kind, sop_class in (("sr", SR), ("seg", "1.2.840.10008.5.1.4.1.1.66.4")):
            session.add(
                Result(
                    sop_instance_uid=f"1.{len(kind)}", sop_class_uid=sop_class, job_id="j1", attempt=1, kind=kind,
                    path=f"{kind}.dcm",
                )
            )  # fmt: skip
        session.flush()
        row = Delivery(
            job_id="j1", peer_id=peer.id, attempt=1, state="PENDING", attempts=1, sentence="", updated_at=now
        )
        session.add(row)
        session.flush()
        return row.id, peer


def test_a_delivery_tells_what_it_begins_and_what_the_peer_took(
    databases: Databases, settings: Settings, delivery: tuple[int, Peer]
) -> None:
    number, peer = delivery
    with audited_sending(databases, settings, number, peer), transaction(databases.hospital) as session:
        for uid in ("1.2", "1.3"):
            accept(session, number, uid, 0, clock.now())
    assert sentences(databases) == [
        "A query was sent to PACS.",
        "Sending to PACS begins: 2 instances.",
        "Sent to PACS: 2 instances.",
    ]
    assert {row.study_instance_uid for row in told(databases)} == {"", "1.2.1"}


def test_a_refusal_is_told_with_what_was_taken_before_it(
    databases: Databases, settings: Settings, delivery: tuple[int, Peer]
) -> None:
    number, peer = delivery

    def send() -> None:
        with audited_sending(databases, settings, number, peer):
            with transaction(databases.hospital) as session:
                accept(session, number, "1.2", 0, clock.now())
            raise DeliveryRefused("PACS answered 0xA900.")

    with pytest.raises(DeliveryRefused):
        send()
    assert sentences(databases)[2:] == [
        "Sent to PACS: 1 instance.",
        "Not taken by PACS: 1 instance. PACS answered 0xA900.",
    ]
    assert told(databases)[-1].outcome == 8


def test_a_peer_that_stays_away_does_not_fill_the_audit(
    databases: Databases, settings: Settings, delivery: tuple[int, Peer]
) -> None:
    number, peer = delivery
    for attempt in range(1, 6):
        with transaction(databases.hospital) as session:
            session.get_one(Delivery, number).attempts = attempt
        with pytest.raises(PeerUnavailable), audited_sending(databases, settings, number, peer):
            raise PeerUnavailable("PACS does not answer.")
    assert [row.kind for row in told(databases)] == ["query", "transfer_begun", "instances_transferred"]


def test_an_audit_that_fails_keeps_nobody_from_sending(
    databases: Databases, settings: Settings, delivery: tuple[int, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    number, peer = delivery
    monkeypatch.setattr("dicom_node.audit.transfers.study_of_job", lambda *_: 1 / 0)
    monkeypatch.setattr("dicom_node.audit.transfers.results_of", lambda *_: 1 / 0)
    done = []
    with audited_sending(databases, settings, number, peer):
        done.append(True)
    tell_of_job(databases, settings, "j1", "R")
    assert done


def test_a_retrieval_tells_its_beginning_and_what_came_and_a_search_no_number(
    databases: Databases, settings: Settings, keep: Callable[..., None], delivery: tuple[int, Peer]
) -> None:
    _, peer = delivery
    tell_of_search(databases, settings, [peer], patient_id="SECRET-1", accession_number="")

    def retrieve() -> None:
        with audited_retrieval(databases, settings, peer, "1.2.9", "a9"):
            keep("1.2.9", "a9")
            raise PeerUnavailable("PACS broke off.")

    with pytest.raises(PeerUnavailable):
        retrieve()
    assert sentences(databases) == [
        "A query was sent to PACS.",
        "Retrieval from PACS begins: a number of instances.",
        "Received from PACS: 1 instance.",
    ]
    text = "".join(text_of(row.message) for row in told(databases))
    assert "SECRET-1" not in text
    assert "PatientID" in text


def test_an_import_and_a_job_are_told_by_study(
    databases: Databases, settings: Settings, keep: Callable[..., None], delivery: tuple[int, Peer]
) -> None:
    began = clock.now()
    keep("1.2.8", calling_aet="IMPORT")
    tell_of_import(databases, settings, Party("me@host"), "IMPORT", began)
    tell_of_job(databases, settings, "j1", "R")
    tell_of_job(databases, settings, "j1", "C")
    tell_of_job(databases, settings, "unknown", "R")
    assert [(row.kind, row.study_instance_uid) for row in told(databases)] == [
        ("import", "1.2.8"),
        ("instances_accessed", "1.2.1"),
        ("instances_accessed", "1.2.1"),
        ("instances_accessed", ""),
    ]


@pytest.fixture
def web(databases: Databases, settings: Settings) -> TestClient:
    app = FastAPI()
    app.add_middleware(AuditTrail, databases=databases, settings=settings)

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    def anything(path: str) -> str:
        if "bad" in path:
            raise HTTPException(409)
        return path

    return TestClient(app)


@pytest.mark.parametrize(
    ("method", "path", "kind", "study"),
    [
        ("POST", "/api/peers", "network_configuration", ""),
        ("DELETE", "/api/peers/PACS", "network_configuration", ""),
        ("PUT", "/api/rules/Hip", "software_configuration", ""),
        ("POST", "/api/rule-file", "software_configuration", ""),
        ("POST", "/api/jobs/1/cancel", "operator_action", ""),
        ("POST", "/api/deliveries/1/retry", "operator_action", ""),
        ("POST", "/api/studies/1.2.3/orders", "operator_action", "1.2.3"),
        ("POST", "/api/something-new", "operator_action", ""),
        ("GET", "/dicom-web/studies?PatientID=SECRET-1", "query", ""),
        ("GET", "/dicom-web/studies/1.2.3/series", "query", ""),
        ("GET", "/dicom-web/studies/1.2.3", "instances_transferred", "1.2.3"),
        ("GET", "/dicom-web/studies/1.2.3/series/1/instances/2/frames/1", "instances_transferred", "1.2.3"),
    ],
)
def test_a_request_that_succeeds_is_told_of(
    web: TestClient, databases: Databases, method: str, path: str, kind: str, study: str
) -> None:
    assert web.request(method, path).is_success
    (row,) = told(databases)
    assert (row.kind, row.study_instance_uid, row.who) == (kind, study, "testclient")
    assert "SECRET-1" not in text_of(row.message)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/jobs"),
        ("GET", "/health"),
        ("POST", "/api/peers/bad"),
        ("POST", "/api/peers/PACS/echo"),
        ("POST", "/api/imports/1/files"),
        ("GET", "/dicom-web/studies/bad"),
    ],
)
def test_what_reads_or_fails_is_not_told_of(web: TestClient, databases: Databases, method: str, path: str) -> None:
    web.request(method, path)
    assert told(databases) == []


def test_a_viewer_that_loads_a_study_frame_by_frame_is_one_event(web: TestClient, databases: Databases) -> None:
    web.get("/dicom-web/studies/1.2.3/bad")
    for number in range(50):
        web.get(f"/dicom-web/studies/1.2.3/series/1/instances/{number}/frames/1")
    assert len(told(databases)) == 1


def test_a_command_that_changes_something_is_told_with_the_login(
    databases: Databases, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(settings.data_dir))
    assert main(["peer", "add", "PACS", "--aet", "PACS", "--host", "10.0.0.7", "--port", "104"]) == 0
    assert main(["peer", "list"]) == 0
    assert main(["peer", "remove", "nobody"]) == 1
    (row,) = told(databases)
    assert (row.kind, row.sentence) == ("network_configuration", "Command peers add PACS")
    assert "@" in row.who


def test_every_command_listed_as_reading_is_there() -> None:
    text = (Path(recorder.__file__).parents[1] / "cli.py").read_text()
    commands = Path(recorder.__file__).parents[1] / "commands"
    for one in READING:
        module, function = one.split(":")
        assert module in MODULES
        assert f"def {function}(" in (commands / f"{module}.py").read_text()
    assert 'AUDITED = ("' + '", "'.join(sorted(MODULES, key=list(MODULES).index)) + '")' in text
