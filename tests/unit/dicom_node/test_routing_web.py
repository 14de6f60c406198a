"""Studies and rules over REST and on their pages: what is shown, what may be changed, and by whom."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydicom.uid import generate_uid

from dicom_node import clock
from dicom_node.db.session import Databases
from dicom_node.demo.fake_ct import FakePatient
from dicom_node.pipeline.dispatch import Dispatcher
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake
from dicom_node.web.app import create_app
from dicom_node.web.pages import PAGES

NAME = "Olga Operator"
THIN = {
    "name": "Thin",
    "conditions": [{"field": "slice_thickness_mm", "operator": "at_most", "value": 1.5}],
    "priority": "urgent",
}
BY = {"actor": NAME}


@pytest.fixture
def client(databases: Databases, settings: Settings) -> TestClient:
    return TestClient(create_app(databases, settings, 11112), base_url="http://127.0.0.1:8080")


@pytest.fixture
def receive(databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]) -> Callable[..., str]:
    intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)

    def keep(study: str = "", count: int = 1, age_s: float = 0.0, **values: object) -> str:
        uid = study or str(generate_uid())
        for _ in range(count):
            intake.keep(make_arrival(StudyInstanceUID=uid, **values), clock.now() - timedelta(seconds=age_s))
        return uid

    return keep


@pytest.fixture
def look(databases: Databases, settings: Settings) -> Callable[[], int]:
    class Engine:
        def submit(self, job_id: str, attempt: int, priority: str) -> None:
            pass

    return lambda: Dispatcher(databases, Engine(), settings)(clock.now())


def test_the_pages_of_studies_and_rules_are_there_with_their_scripts(client: TestClient) -> None:
    for page in PAGES:
        if page.name in ("studies", "rules"):
            assert "/static/trials.js" in client.get(page.path).text
            assert client.get(f"/static/{page.name}.js").status_code == 200
    assert client.get("/static/trials.js").status_code == 200


def test_a_study_shows_where_it_stands(
    client: TestClient, receive: Callable[..., str], look: Callable[[], int]
) -> None:
    done, other, young = (
        receive(count=2, age_s=100),
        receive(age_s=90, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"),
        receive(),
    )
    look()
    found = {one["study_instance_uid"]: one for one in client.get("/api/studies").json()}
    assert {uid: one["state"] for uid, one in found.items()} == {done: "routed", other: "no_rule", young: "arriving"}
    assert found[done]["versions"][0]["rule_name"] == "Every CT"
    assert found[done]["instance_count"] == 2
    assert not found[done]["can_be_ordered"]
    assert client.get(f"/api/studies/{done}").json()["state"] == "routed"
    assert client.get("/api/studies/1.2.3.4").status_code == 404
    assert [one["study_instance_uid"] for one in client.get("/api/studies?limit=1").json()] == [young]


def test_a_routed_study_to_which_images_come_is_arriving_again(
    client: TestClient, receive: Callable[..., str], look: Callable[[], int]
) -> None:
    uid = receive(age_s=100)
    look()
    receive(uid)
    (study,) = client.get("/api/studies").json()
    assert (study["state"], study["instance_count"], study["version"], study["can_be_ordered"]) == (
        "arriving",
        2,
        1,
        True,
    )


def test_an_operator_decides_and_it_is_shown_who(
    client: TestClient, receive: Callable[..., str], look: Callable[[], int]
) -> None:
    uid = receive()
    path = f"/api/studies/{uid}/orders"
    assert client.post(path, json={"action": "proceed", "actor": ""}).status_code == 409
    assert client.post(path, json={"action": "delete", **BY}).status_code == 422
    assert client.post("/api/studies/1.2.3/orders", json={"action": "wait", **BY}).status_code == 404
    assert client.post(path, json={"action": "proceed", **BY, "rule_name": "Nowhere"}).status_code == 404
    assert client.post(path, json={"action": "proceed", **BY}).status_code == 202
    assert look() == 1
    (study,) = client.get("/api/studies").json()
    assert study["versions"][0]["forced_by"] == study["order"]["actor"] == NAME
    answer = client.post(path, json={"action": "discard", **BY})
    assert answer.status_code == 409
    assert "is routed" in answer.json()["detail"]


def test_a_foreign_page_cannot_order_anything(client: TestClient, receive: Callable[..., str]) -> None:
    path = f"/api/studies/{receive()}/orders"
    answer = client.post(path, json={"action": "discard", **BY}, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403


def test_rules_are_added_changed_moved_switched_removed_and_brought_back(client: TestClient) -> None:
    assert [rule["name"] for rule in client.get("/api/rules").json()["rules"]] == ["Every CT"]
    assert client.post("/api/rules", json={**BY, "rule": THIN}).status_code == 201
    assert client.post("/api/rules", json={**BY, "rule": THIN}).status_code == 409, "the name is taken"
    assert [one["name"] for one in client.post("/api/rules/Thin/place", json={**BY, "place": 1}).json()["rules"]] == [
        "Thin",
        "Every CT",
    ]
    changed = client.put("/api/rules/Thin", json={**BY, "rule": {**THIN, "pipelines": ["spine"]}}).json()
    assert changed["rules"][0]["pipelines"] == ["spine"]
    off = client.post("/api/rules/Every CT/switch", json={**BY, "is_enabled": False}).json()
    assert [one["is_enabled"] for one in off["rules"]] == [True, False]
    before = off["number"]
    assert [one["name"] for one in client.request("DELETE", "/api/rules/Thin", json=BY).json()["rules"]] == ["Every CT"]
    assert client.request("DELETE", "/api/rules/Thin", json=BY).status_code == 404
    back = client.post(f"/api/rule-history/{before}/restore", json=BY).json()
    assert [(one["name"], one["is_enabled"]) for one in back["rules"]] == [("Thin", True), ("Every CT", False)]
    history = client.get("/api/rule-history").json()
    assert [one["number"] for one in history] == list(range(back["number"], -1, -1))
    assert {one["actor"] for one in history[:-1]} == {NAME}
    assert history[0]["change"] == f"Brought back revision {before}."
    first = client.post("/api/rule-history/0/restore", json=BY).json()
    assert [one["name"] for one in first["rules"]] == ["Every CT"]
    assert client.post("/api/rule-history/99/restore", json=BY).status_code == 404


def test_a_rule_that_is_not_valid_is_refused_with_a_sentence(client: TestClient) -> None:
    wrong = {**THIN, "conditions": [{"field": "modality", "operator": "at_most", "value": 3}]}
    answer = client.post("/api/rules", json={**BY, "rule": wrong})
    assert answer.status_code == 422
    assert "modality takes" in answer.text


def test_a_change_that_looked_at_older_rules_is_refused(client: TestClient) -> None:
    client.post("/api/rules", json={**BY, "rule": THIN})
    answer = client.post("/api/rules/Thin/switch", json={**BY, "is_enabled": False, "based_on": 0})
    assert answer.status_code == 409
    assert "Somebody else" in answer.json()["detail"]


@pytest.mark.parametrize("form", ["toml", "json"])
def test_rules_go_out_and_come_back_as_a_file_and_a_dry_run_changes_nothing(client: TestClient, form: str) -> None:
    client.post("/api/rules", json={**BY, "rule": THIN})
    text = client.get(f"/api/rule-file?form={form}").text
    client.request("DELETE", "/api/rules/Every CT", json=BY)
    body = {**BY, "text": text, "form": form}
    dry = client.post("/api/rule-file", json={**body, "dry_run": True})
    assert dry.json() == {"added": ["Every CT"], "removed": [], "changed": ["Thin"], "unchanged": []}
    assert len(client.get("/api/rules").json()["rules"]) == 1
    assert client.post("/api/rule-file", json=body).status_code == 200
    assert client.get(f"/api/rule-file?form={form}").text == text
    assert client.post("/api/rule-file", json={**body, "text": "x = ["}).status_code == 409


def test_a_trial_says_which_rule_takes_a_study_and_why_and_names_nobody(
    client: TestClient, receive: Callable[..., str]
) -> None:
    patient = FakePatient()
    by_words = {"name": "Words", "conditions": [{"field": "study_description", "operator": "like", "value": "*Knee*"}]}
    for rule in (by_words, THIN):
        client.post("/api/rules", json={**BY, "rule": rule})
        client.post(f"/api/rules/{rule['name']}/place", json={**BY, "place": 1})
    uid = receive(
        Modality="CT",
        SliceThickness=3,
        StudyDescription=f"CT of {patient.name}",
        PatientName=patient.name,
        SeriesDescription=patient.comment,
    )
    answer = client.get(f"/api/studies/{uid}/trial")
    assert [(one["name"], one["takes"]) for one in answer.json()] == [
        ("Thin", False),
        ("Words", False),
        ("Every CT", True),
    ]
    assert "slice_thickness_mm is at most 1.5: it is 3" in answer.text
    shown = answer.text + client.get("/api/studies").text + json.dumps(client.get("/api/rules").json())
    assert not [word for word in patient.identifiers if word in shown]
    assert client.get("/api/studies/1.2.3/trial").status_code == 404


def test_no_identifier_reaches_the_rows_of_routing(
    receive: Callable[..., str], look: Callable[[], int], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = FakePatient()
    receive(age_s=100, PatientName=patient.name, PatientID=patient.patient_id, StudyDescription=patient.comment)
    look()
    found = b"".join(path.read_bytes() for path in Path(settings.data_dir).rglob("*.db*"))
    said = capsys.readouterr().out.encode()
    assert not [word for word in patient.identifiers if word.encode() in found + said]
