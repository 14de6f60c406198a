"""The REST interface of requests: what is taken, what is answered, and that nothing repeats a patient's number."""

import csv
import io

import pytest
from fastapi.testclient import TestClient
from request_fakes import add_queried_peer

from dicom_node import clock
from dicom_node.db.models import Job, Peer
from dicom_node.db.request_tables import Request, RequestMatch
from dicom_node.db.requests import change, get_request
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from dicom_node.web.app import create_app

ASKED = {"reference": "TRIAL-0042", "patient_id": "4711-Z", "age_years": 74, "sex": "f", "height_cm": 163}


@pytest.fixture
def client(databases: Databases, settings: Settings) -> TestClient:
    add_queried_peer(databases)
    return TestClient(create_app(databases, settings, 11112), base_url="http://127.0.0.1:8080")


def set_state(databases: Databases, request_id: str, **values: object) -> None:
    with transaction(databases.hospital) as session:
        change(session, get_request(session, request_id), clock.now(), **values)


def test_a_request_is_taken_and_listed(client: TestClient) -> None:
    assert client.post("/requests", json={**ASKED, "reference": "T-1", "patient_id": "P1"}).status_code == 201
    answer = client.post("/api/requests", json=ASKED)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["state"], made["height_m"], made["sex"], made["modality"]) == ("WAITING", 1.63, "F", "CT")
    (listed,) = client.get("/api/requests?state=waiting&reference=TRIAL-0042").json()
    assert listed["id"] == made["id"]
    assert client.get("/api/requests?state=done").json() == []
    assert client.get("/requests").headers["content-type"].startswith("text/html")


WRONG = (
    ({"patient_id": "SECRET*"}, 422, "would match other patients"),
    ({"height_cm": None, "height_m": 163}, 422, "height_m is in metres"),
    ({"patient_id": "", "accession_number": ""}, 422, "patient_id or accession_number is needed"),
    ({"patient_name": "SECRET"}, 422, "not permitted"),
    ({"project": "elsewhere"}, 409, "one project default"),
    ({"source": "Nowhere"}, 409, "no peer that is queried; those are PACS"),
)


def test_a_wrong_request_is_refused_with_a_sentence(client: TestClient) -> None:
    for changes, status, words in WRONG:
        answer = client.post("/api/requests", json={**ASKED, **changes})
        assert answer.status_code == status
        assert words in answer.text
        assert "SECRET" not in answer.text
        assert "4711" not in answer.text


def test_without_a_peer_to_query_nothing_is_taken(databases: Databases, settings: Settings) -> None:
    bare = TestClient(create_app(databases, settings, 11112), base_url="http://127.0.0.1:8080")
    answer = bare.post("/api/requests", json=ASKED)
    assert (answer.status_code, "no peer is queried" in answer.text.lower()) == (409, True)


def test_the_same_request_twice_is_refused(client: TestClient) -> None:
    first = client.post("/api/requests", json=ASKED).json()
    again = client.post("/api/requests", json={**ASKED, "reference": "OTHER"})
    assert (again.status_code, "asks for the same study already" in again.text) == (409, True)
    client.post(f"/api/requests/{first['id']}/cancel")
    assert client.post("/api/requests", json=ASKED).status_code == 201, "a cancelled one keeps nothing back"


def test_matches_are_shown_and_one_is_chosen(client: TestClient, databases: Databases) -> None:
    request_id = client.post("/api/requests", json=ASKED).json()["id"]
    assert client.post(f"/api/requests/{request_id}/choice", json={"match_id": 1}).status_code == 404
    with transaction(databases.hospital) as session:
        peer = session.query(Peer).one().id
        for number, day in ((1, "20240101"), (2, "20260914")):
            session.add(
                RequestMatch(
                    id=number, request_id=request_id, peer_id=peer, study_instance_uid=f"1.2.{number}",
                    patient_id="4711-Z", study_date=day, description="<script>", modalities="CT", instance_count=7,
                )
            )  # fmt: skip
    set_state(databases, request_id, state="CHOOSE", sentence="2 studies match; choose the one that is meant.")
    shown = client.get(f"/api/requests/{request_id}").json()
    assert [match["study_date"] for match in shown["matches"]] == ["20260914", "20240101"]
    chosen = client.post(f"/api/requests/{request_id}/choice", json={"match_id": 1}).json()
    assert (chosen["state"], chosen["study_instance_uid"], chosen["found_at"]) == ("RETRIEVING", "1.2.1", "PACS")
    assert client.post(f"/api/requests/{request_id}/choice", json={"match_id": 1}).status_code == 409


def test_a_request_is_cancelled_and_begun_again(client: TestClient) -> None:
    request_id = client.post("/api/requests", json=ASKED).json()["id"]
    assert client.post(f"/api/requests/{request_id}/cancel").json()["state"] == "CANCELLED"
    assert client.post(f"/api/requests/{request_id}/cancel").status_code == 409
    again = client.post(f"/api/requests/{request_id}/retry").json()
    assert (again["state"], [event["state"] for event in again["history"]]) == ("WAITING", ["CANCELLED", "WAITING"])
    assert client.post("/api/requests/nobody/cancel").status_code == 404


def test_the_state_of_the_job_is_shown(client: TestClient, databases: Databases) -> None:
    request_id = client.post("/api/requests", json=ASKED).json()["id"]
    set_state(databases, request_id, state="RECEIVED", job_id="b" * 32)
    with transaction(databases.research) as session:
        session.add(
            Job(
                id="b" * 32, pipeline="bone", pseudonym="ON-X", state="processing", stage="segmentation", progress=0.4,
                sentence="", attempts=1, created_at=clock.now(), updated_at=clock.now(),
            )
        )  # fmt: skip
    shown = client.get(f"/api/requests/{request_id}").json()
    assert (shown["job_state"], shown["job_stage"], shown["job_progress"]) == ("processing", "segmentation", 0.4)


def test_a_file_is_checked_added_followed_and_its_rest_cancelled(client: TestClient, databases: Databases) -> None:
    good = "reference,patient_id\nT-1,P1\nT-2,P2\n"
    path = "/api/request-batches?name=trial.csv"
    bad = client.post(path, content=good + "T-3,P3*\n").json()
    assert (bad["added_count"], bad["problems"][0]["line"]) == (0, 4)
    assert client.post(f"{path}&dry_run=true", content=good).json()["added_count"] == 0
    batch_id = client.post(path, content=good).json()["batch_id"]
    (one,) = client.get(f"/api/requests?batch={batch_id}&state=waiting&reference=T-2").json()
    set_state(databases, one["id"], state="FAILED", sentence='=HYPERLINK("x")')
    batch = client.get(f"/api/request-batches/{batch_id}").json()
    assert (batch["row_count"], batch["waiting"], batch["failed"]) == (2, 1, 1)
    table = client.get(f"/api/request-batches/{batch_id}/results.csv")
    found = list(csv.DictReader(io.StringIO(table.text)))
    assert [(row["reference"], row["state"]) for row in found] == [("T-1", "WAITING"), ("T-2", "FAILED")]
    assert found[1]["sentence"].startswith("'=")
    assert "P1" not in table.text, "results name requests by their reference"
    assert client.post(f"/api/request-batches/{batch_id}/cancel").json()["cancelled"] == 1
    assert client.get("/api/request-batches/nobody").status_code == 404
    assert client.get("/api/request-batches/nobody/results.csv").status_code == 404


def test_a_file_that_is_too_large_or_no_text_is_refused(client: TestClient) -> None:
    assert client.post("/api/request-batches", content=b"x" * 20_000_001).status_code == 413
    answer = client.post("/api/request-batches", content=b"PK\x03\x04")
    assert (answer.status_code, "save it as CSV" in answer.text) == (409, True)


def test_the_research_side_holds_nothing_of_a_request(client: TestClient, settings: Settings) -> None:
    client.post("/api/requests", json=ASKED)
    for path in settings.research_dir.rglob("*"):
        assert not path.is_file() or b"4711-Z" not in path.read_bytes()


def test_the_page_says_what_it_shows(client: TestClient, databases: Databases) -> None:
    client.post("/api/requests", json=ASKED)
    page = client.get("/api/requests/page").json()
    assert (page["counts"], page["sources"], len(page["requests"])) == ({"WAITING": 1}, ["PACS"], 1)
    with transaction(databases.hospital) as session:
        assert session.query(Request).count() == 1
