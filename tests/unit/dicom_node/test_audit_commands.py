"""``osteonode audit``, and the page's REST: what they show, and that looking is itself told."""

import csv
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dicom_node import clock
from dicom_node.audit.events import StudyInstances, application_entity, association_rejected, instances_received
from dicom_node.audit.patients import patient_index
from dicom_node.audit.recorder import record
from dicom_node.audit.rejections import Rejections
from dicom_node.audit.upkeep import Upkeep
from dicom_node.cli import main
from dicom_node.db.audit import messages_after
from dicom_node.db.audit_tables import AuditMessage
from dicom_node.db.models import AssociationRow
from dicom_node.db.session import Databases, transaction
from dicom_node.identity.keys import load_keys
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake
from dicom_node.web.network_routes import network_routes
from tests.audit_schema import faults

HOSTILE = '=cmd|"/c <b>'


@pytest.fixture
def audited(
    databases: Databases,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    make_arrival: Callable[..., Arrival],
) -> Databases:
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(settings.data_dir))
    arrival = make_arrival(StudyInstanceUID="1.2.3", PatientID="P77", IssuerOfPatientID="HOSPITAL")
    Intake(databases.hospital, settings.hospital_dir, 0).keep(arrival, clock.now())
    ct = StudyInstances("1.2.3", {"1.2.840.10008.5.1.4.1.1.2": 1})
    record(databases, settings, instances_received(application_entity("CT1", "10.0.0.1"), ct))
    record(databases, settings, association_rejected(application_entity(HOSTILE[:16], "10.0.0.9"), "host_not_allowed"))
    return databases


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["audit", *words]) == code
    return capsys.readouterr().out


def rows(databases: Databases) -> list[AuditMessage]:
    with transaction(databases.hospital) as session:
        return list(messages_after(session, 0))


def test_a_list_shows_events_and_is_told_with_the_login(audited: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "list")
    assert "Received from CT1: 1 instance." in out
    assert HOSTILE[:16] in out
    assert rows(audited)[-1].kind == "audit_read"
    assert "@" in rows(audited)[-1].who
    assert "audit_read" not in run(capsys, "list", "--kind", "association_rejected")


def test_one_patient_s_events_are_found_by_number_without_showing_it(
    audited: Databases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["p77 ", "HOSPITAL"])
    monkeypatch.setattr("dicom_node.commands.audit.getpass", lambda _: next(answers))
    out = run(capsys, "list", "--patient")
    assert "instances_transferred" in out
    assert "association_rejected" not in out
    assert "P77" not in "".join(f"{row.sentence}{row.message}" for row in rows(audited))


def test_verify_prints_the_last_hash_and_finds_a_change(audited: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    last = rows(audited)[-1].row_hash
    assert last in run(capsys, "verify")
    assert "whole" in run(capsys, "verify", "--expect", last)
    assert "No row has the hash" in run(capsys, "verify", "--expect", "0" * 64, code=1)
    with transaction(audited.hospital) as session:
        session.execute(sa.update(AuditMessage).where(AuditMessage.number == 1).values(outcome=4))
    assert "Row 1 was changed." in run(capsys, "verify", code=1)


def test_an_export_is_a_private_file_and_never_overwrites_one(
    audited: Databases, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "audit.csv"
    run(capsys, "export", str(path))
    assert path.stat().st_mode & 0o077 == 0
    with path.open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["number"] for row in table] == ["1", "2", "3"]
    assert table[1]["who"] == f"'{HOSTILE[:16]}"
    assert table[2]["kind"] == "audit_read"
    assert run(capsys, "export", str(path), code=1)


def test_an_exported_xml_holds_every_message_as_it_was_sent(
    audited: Databases, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "audit.xml"
    run(capsys, "export", str(path), "--format", "xml", "--from-row", "2")
    found = ET.parse(path).getroot().findall("Row")
    assert [row.attrib["number"] for row in found] == ["2", "3"]
    assert [faults(ET.tostring(row[0], encoding="unicode")) for row in found] == [[], []]


@pytest.fixture
def web(audited: Databases, settings: Settings) -> TestClient:
    app = FastAPI()
    app.include_router(network_routes(audited, settings))
    return TestClient(app)


def test_the_page_s_list_is_filtered_and_told_once(web: TestClient, audited: Databases) -> None:
    for _ in range(5):
        found = web.get("/api/audit", params={"kind": ["association_rejected"], "limit": 5}).json()
    assert [row["kind"] for row in found] == ["association_rejected"]
    assert web.get("/api/audit", params={"limit": 1, "before": 2}).json()[0]["number"] == 1
    assert [row.kind for row in rows(audited)].count("audit_read") == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "before=0", "before=99999999999999999999", "before=x"])
def test_a_page_out_of_bounds_is_refused(web: TestClient, query: str) -> None:
    assert web.get(f"/api/audit?{query}").status_code == 422
    assert web.get(f"/api/associations?{query}").status_code == 422


def test_one_message_is_shown_as_it_is_sent(web: TestClient) -> None:
    assert faults(web.get("/api/audit/1").text) == []
    for number in (0, -1, 999, 2**70):
        assert web.get(f"/api/audit/{number}").status_code == 404


def test_the_page_s_export_is_the_whole_chain_and_told_every_time(web: TestClient, audited: Databases) -> None:
    for kind in ("csv", "xml"):
        answer = web.get("/api/audit/export", params={"format": kind})
        assert f"audit.{kind}" in answer.headers["content-disposition"]
    assert len(list(ET.fromstring(answer.text))) == len(rows(audited))
    assert [row.kind for row in rows(audited)].count("audit_read") == 2
    assert web.get("/api/audit/export?format=pdf").status_code == 422


def test_the_state_says_how_far_the_chain_was_checked(web: TestClient, audited: Databases, settings: Settings) -> None:
    assert web.get("/api/audit/state").json()["checked_rows"] == 0
    Upkeep(audited, settings, Rejections())(clock.now())
    state = web.get("/api/audit/state").json()
    assert (state["rows"], state["checked_rows"], state["problems"]) == (2, 2, [])
    assert state["row_hash"] == rows(audited)[-1].row_hash
    assert state["receiver"] == ""


def test_the_summary_adds_up_what_each_caller_did_in_a_day(web: TestClient, audited: Databases) -> None:
    now = clock.now()
    from datetime import timedelta

    with transaction(audited.hospital) as session:
        for hours, title, accepted, outcome in (
            (1, "CT1", 10, "released"),
            (2, "CT1", 5, "aborted"),
            (3, "SCAN", 0, "host_not_allowed"),
            (25, "CT1", 100, "released"),
        ):
            ended = now - timedelta(hours=hours)
            session.add(
                AssociationRow(
                    calling_aet=title, called_aet="N", address="10.0.0.1", started_at=ended - timedelta(seconds=2),
                    ended_at=ended, accepted=accepted, refused=1, received_bytes=1000 * accepted, outcome=outcome,
                )
            )  # fmt: skip
    first, second = web.get("/api/network/callers").json()
    assert (first["calling_aet"], first["associations"], first["accepted"], first["refused"]) == ("CT1", 2, 15, 2)
    assert (first["received_bytes"], first["busy_s"]) == (15000, 4.0)
    assert (second["calling_aet"], second["associations"], second["rejected"]) == ("SCAN", 0, 1)
    page = web.get("/api/associations", params={"limit": 2, "calling_aet": "CT1"}).json()
    assert [row["accepted"] for row in page] == [100, 5]
    older = web.get("/api/associations", params={"before": page[-1]["id"], "calling_aet": "CT1"}).json()
    assert [row["accepted"] for row in older] == [10]


def test_the_index_of_the_patient_is_what_the_key_gives(audited: Databases, settings: Settings) -> None:
    assert rows(audited)[0].patient == patient_index(load_keys(settings.keys), "P77", "HOSPITAL")
