"""The REST interface and the page: state as it is, changes only from where they may come."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from dicom_node import clock
from dicom_node.db.models import Delivery, Job, Peer
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake
from dicom_node.web.app import create_app

PEER = {"name": "Main PACS", "ae_title": "PACS", "host": "pacs.example", "port": 104}


@pytest.fixture
def client(databases: Databases, settings: Settings) -> TestClient:
    return TestClient(create_app(databases, settings, 11112), base_url="http://127.0.0.1:8080")


@pytest.fixture
def make_job(databases: Databases) -> Callable[..., str]:
    def make(state: str = "done", **changes: object) -> str:
        values = {
            "id": "a" * 32, "pipeline": "bone", "pseudonym": "ON-X", "stage": "s", "progress": 0.5, "sentence": "",
            "attempts": 1, "created_at": clock.now(), "updated_at": clock.now(), **changes,
        }  # fmt: skip
        with transaction(databases.research) as session:
            session.add(Job(state=state, **values))
        return str(values["id"])

    return make


def test_health_tells_whether_instances_are_accepted(client: TestClient) -> None:
    answer = client.get("/health").json()
    assert answer["status"] == "ok"
    assert answer["is_accepting"]


def test_a_full_disk_shows_in_health(databases: Databases, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", reserve_bytes=10**18)
    answer = TestClient(create_app(databases, settings, 1), base_url="http://localhost").get("/health").json()
    assert answer["status"] == "disk full"
    assert not answer["is_accepting"]


def test_a_peer_is_added_listed_and_removed(client: TestClient) -> None:
    assert client.post("/api/peers", json=PEER).status_code == 201
    (peer,) = client.get("/api/peers").json()
    assert peer["ae_title"] == "PACS"
    assert peer["receives_results"]
    assert client.delete("/api/peers/Main PACS").status_code == 204
    assert client.get("/api/peers").json() == []


def test_a_peer_with_deliveries_is_removed_and_its_deliveries_stay(
    client: TestClient, databases: Databases, make_job: Callable[..., str]
) -> None:
    job_id = make_job()
    peer_id = client.post("/api/peers", json=PEER).json()["id"]
    with transaction(databases.hospital) as session:
        session.add(
            Delivery(
                job_id=job_id, peer_id=peer_id, attempt=1, state="SENT", attempts=1, sentence="", updated_at=clock.now()
            )
        )
    assert client.delete("/api/peers/Main PACS").status_code == 204
    assert client.get("/api/peers").json() == []
    assert client.get("/api/jobs").json()[0]["deliveries"][0]["state"] == "SENT"
    assert client.post("/api/peers", json=PEER).status_code == 201


def test_an_ae_title_is_taken_once(client: TestClient) -> None:
    client.post("/api/peers", json=PEER)
    answer = client.post("/api/peers", json={**PEER, "name": "Other"})
    assert answer.status_code == 409
    assert "unique" in answer.json()["detail"]


def test_a_new_peer_gets_everything_in_the_class_it_takes(client: TestClient) -> None:
    peer = client.post("/api/peers", json=PEER).json()
    assert (peer["objects"], peer["sr_class"]) == (["sr", "seg", "sc", "pdf"], "auto")


def test_a_profile_is_set_piece_by_piece_and_set_back(client: TestClient, databases: Databases) -> None:
    client.post("/api/peers", json={**PEER, "objects": ["pdf", "sr"], "sr_class": "enhanced"})
    path = "/api/peers/Main PACS"
    changed = client.patch(path, json={"sr_class": "basic_text"})
    assert changed.status_code == 200
    assert (changed.json()["objects"], changed.json()["sr_class"]) == (["sr", "pdf"], "basic_text")
    assert client.patch(path, json={"objects": ["sc", "seg", "sr", "pdf"], "sr_class": "auto"}).status_code == 200
    (peer,) = client.get("/api/peers").json()
    assert (peer["objects"], peer["sr_class"]) == (["sr", "seg", "sc", "pdf"], "auto")
    with transaction(databases.hospital) as session:
        assert session.query(Peer).one().objects == "", "all of them: also kinds that are yet to come"


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"objects": []}, "name at least one"),
        ({"objects": ["dicom"]}, "'sr', 'seg', 'sc' or 'pdf'"),
        ({"sr_class": "simple"}, "'basic_text'"),
        ({"name": "Other"}, "not permitted"),
    ],
)
def test_a_wrong_profile_is_refused_with_what_is_possible(client: TestClient, profile: dict, words: str) -> None:
    client.post("/api/peers", json=PEER)
    answer = client.patch("/api/peers/Main PACS", json=profile)
    assert answer.status_code == 422
    assert words in answer.text


def test_a_profile_of_nobody_is_not_found(client: TestClient) -> None:
    assert client.patch("/api/peers/Nobody", json={"sr_class": "auto"}).status_code == 404


@pytest.mark.parametrize(
    "change",
    [{"port": 0}, {"port": 70000}, {"ae_title": ""}, {"ae_title": "A" * 17}, {"ae_title": "A\\B"}, {"x": 1}],
)
def test_a_wrong_peer_is_refused(client: TestClient, change: dict) -> None:
    assert client.post("/api/peers", json={**PEER, **change}).status_code == 422


def test_a_foreign_page_cannot_change_anything(client: TestClient) -> None:
    answer = client.post("/api/peers", json=PEER, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert client.post("/api/peers", json=PEER, headers={"Origin": "http://127.0.0.1:8080"}).status_code == 201


def test_a_host_name_nobody_gave_the_node_is_refused(client: TestClient) -> None:
    answer = client.post(
        "/api/peers", json=PEER, headers={"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}
    )
    assert answer.status_code == 400


def test_a_blank_ae_title_is_refused_and_spaces_around_one_are_dropped(client: TestClient) -> None:
    assert client.post("/api/peers", json={**PEER, "ae_title": "   "}).status_code == 422
    assert client.post("/api/peers", json={**PEER, "ae_title": " PACS "}).json()["ae_title"] == "PACS"


def test_a_study_is_listed_as_it_has_arrived(
    client: TestClient, databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]
) -> None:
    intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)
    for _ in range(2):
        intake.keep(make_arrival(StudyInstanceUID="1.2.3"), clock.now())
    (study,) = client.get("/api/studies").json()
    assert (study["study_instance_uid"], study["instance_count"], study["version"]) == ("1.2.3", 2, 0)


def test_a_job_shows_its_headline_pictures_and_deliveries(
    client: TestClient, databases: Databases, settings: Settings, make_job: Callable[..., str]
) -> None:
    job_id = make_job()
    report = settings.research_dir / "jobs" / job_id / "report"
    (report / "pictures").mkdir(parents=True)
    (report / "pictures" / "regions.png").write_bytes(b"png")
    (report / "report.json").write_text(json.dumps({"headline": "All well.", "pictures": [{"key": "regions"}]}))
    with transaction(databases.hospital) as session:
        peer = Peer(**PEER, may_send=True, receives_results=True)
        session.add(peer)
        session.flush()
        session.add(
            Delivery(
                job_id=job_id, peer_id=peer.id, attempt=1, state="SENT", attempts=1, sentence="", updated_at=clock.now()
            )
        )
    (job,) = client.get("/api/jobs").json()
    assert job["headline"] == "All well."
    assert job["deliveries"][0]["state"] == "SENT"
    assert client.get(f"/api/jobs/{job_id}").json()["report"]["headline"] == "All well."
    assert client.get(f"/api/jobs/{job_id}/pictures/regions").content == b"png"


@pytest.mark.parametrize(
    "path", ["nojob/pictures/regions", "..%2f..%2f/pictures/x", f"{'a' * 32}/pictures/..%2freport"]
)
def test_only_listed_pictures_can_be_read(client: TestClient, make_job: Callable[..., str], path: str) -> None:
    make_job()
    assert client.get(f"/api/jobs/{path}").status_code == 404


def test_a_job_that_failed_can_be_run_again(client: TestClient, make_job: Callable[..., str]) -> None:
    job_id = make_job("failed", sentence="no CT")
    answer = client.post(f"/api/jobs/{job_id}/retry")
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["attempts"], answer.json()["sentence"]) == (
        "submitted",
        2,
        "",
    )


@pytest.mark.parametrize("state", ["processing", "pending", "submitted"])
def test_a_job_that_runs_cannot_be_run_again(client: TestClient, make_job: Callable[..., str], state: str) -> None:
    answer = client.post(f"/api/jobs/{make_job(state)}/retry")
    assert answer.status_code == 409
    assert state in answer.json()["detail"]


def test_an_unknown_job_is_not_found(client: TestClient) -> None:
    assert client.get("/api/jobs/none").status_code == 404
    assert client.post("/api/jobs/none/retry").status_code == 404
    assert client.delete("/api/peers/none").status_code == 404


def test_the_page_names_the_node_and_says_research_only(client: TestClient) -> None:
    page = client.get("/").text
    assert "OSTEONODE" in page
    assert "Not for diagnosis" in page
    assert client.get("/static/jobs.js").status_code == 200
