"""Jobs over REST, on the page and on the command line."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from dicom_node import clock
from dicom_node.cli import main
from dicom_node.db import job_control
from dicom_node.db.models import Job
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from dicom_node.web.app import create_app


@pytest.fixture
def client(databases: Databases, settings: Settings) -> TestClient:
    return TestClient(create_app(databases, settings, 11112), base_url="http://127.0.0.1:8080")


@pytest.fixture
def add(databases: Databases) -> Callable[..., str]:
    def make(job_id: str, state: str = "pending", **changes: object) -> str:
        now = clock.now()
        values = {
            "pipeline": "bone", "stage": "", "progress": 0.0, "sentence": "", "attempts": 1, "created_at": now,
            "updated_at": now, **changes,
        }  # fmt: skip
        with transaction(databases.research) as session:
            session.add(Job(id=job_id, state=state, **values))
        return job_id

    return make


def test_the_board_has_one_page_of_a_state_and_the_counts_of_all(client: TestClient, add: Callable[..., str]) -> None:
    for number in range(30):
        add(f"j{number:02d}", "done", created_at=clock.now() - timedelta(minutes=number))
    add("bad", "failed")
    board = client.get("/api/board?state=done&limit=10&offset=20").json()
    assert [job["id"] for job in board["jobs"]] == [f"j{number}" for number in range(20, 30)]
    assert board["jobs_by_state"] == {"done": 30, "failed": 1}
    assert board["paused_since"] is None
    assert client.get("/health").json()["jobs_by_state"] == {"done": 30, "failed": 1}


@pytest.mark.parametrize("query", ["state=lost", "limit=0", "limit=201", "offset=-1", "offset=99999999999"])
def test_a_wrong_page_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/api/board?{query}").status_code == 422


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Waits for a free worker."),
        ({"is_paused": True}, "Paused."),
        ({"state": "processing", "is_paused": True}, "Paused after this step."),
        ({"due_at": clock.now() + timedelta(hours=1)}, "Tried again at "),
        ({"state": "done"}, ""),
    ],
)
def test_a_job_that_waits_says_for_what(
    client: TestClient, add: Callable[..., str], changes: dict, sentence: str
) -> None:
    add("a", **changes)
    waiting = client.get("/api/jobs").json()[0]["waiting"]
    assert waiting.startswith(sentence)
    assert bool(waiting) == bool(sentence)


def test_an_offpeak_job_and_a_paused_node_say_so(
    databases: Databases, settings: Settings, add: Callable[..., str]
) -> None:
    begins = clock.now().astimezone() + timedelta(hours=2)
    hours = f"{begins:%H:%M}-{begins + timedelta(hours=1):%H:%M}"
    app = create_app(databases, settings.model_copy(update={"offpeak_hours": hours}), 1)
    client = TestClient(app, base_url="http://localhost")
    add("a", priority="offpeak")
    assert client.get("/api/jobs").json()[0]["waiting"] == f"Waits for the off-peak hours, {hours}."
    assert client.put("/api/node/pause", json={"is_paused": True}).status_code == 202
    assert client.get("/api/jobs").json()[0]["waiting"] == "The node is paused."
    assert client.get("/api/board").json()["paused_since"] is not None
    client.put("/api/node/pause", json={"is_paused": False})
    assert client.get("/api/board").json()["paused_since"] is None


def test_each_button_does_what_it_says(client: TestClient, add: Callable[..., str]) -> None:
    add("a")
    assert client.post("/api/jobs/a/pause").json()["is_paused"]
    assert not client.post("/api/jobs/a/resume").json()["is_paused"]
    assert client.put("/api/jobs/a/priority", json={"priority": "urgent"}).json()["priority"] == "urgent"
    assert client.post("/api/jobs/a/cancel").json()["state"] == "discarded"
    again = client.post("/api/jobs/a/restart?step=analyse").json()
    assert (again["state"], again["next_step"], again["attempts"]) == ("submitted", "analyse", 2)
    assert client.post("/api/node/cancel").json() == {"count": 1}
    add("b", "open")
    assert client.post("/api/jobs/b/release").json()["state"] == "pending"
    add("c", "open")
    assert client.post("/api/jobs/c/discard").json()["state"] == "discarded"
    assert [one["kind"] for one in client.get("/api/jobs/a").json()["events"]] == [
        "paused", "resumed", "prioritised", "cancelled", "restarted", "cancelled",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/jobs/none/pause", None, 404),
        ("POST", "/api/jobs/a/cancel", None, 409),
        ("POST", "/api/jobs/a/restart?step=guess", None, 422),
        ("PUT", "/api/jobs/a/priority", {"priority": "now"}, 422),
        ("PUT", "/api/jobs/a/priority", {"priority": "urgent"}, 409),
        ("PUT", "/api/node/pause", {}, 422),
    ],
)
def test_what_cannot_be_done_is_refused(
    client: TestClient, add: Callable[..., str], method: str, path: str, body: dict | None, status: int
) -> None:
    add("a", "done")
    assert client.request(method, path, json=body).status_code == status


def test_a_foreign_page_can_neither_pause_nor_cancel(client: TestClient, add: Callable[..., str]) -> None:
    add("a")
    for method, path in (("PUT", "/api/node/pause"), ("POST", "/api/node/cancel"), ("POST", "/api/jobs/a/cancel")):
        answer = client.request(method, path, json={"is_paused": True}, headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403


@pytest.fixture
def osteonode(
    settings: Settings, databases: Databases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(settings.data_dir))

    def run(*words: str) -> tuple[int, str]:
        code = main(words)
        return code, capsys.readouterr().out

    return run


def test_the_commands_do_what_the_page_does(
    osteonode: Callable[..., tuple[int, str]], databases: Databases, add: Callable[..., str]
) -> None:
    add("a")
    add("b", "failed", sentence="[red]no[/] CT")
    assert osteonode("job", "pause", "a")[0] == 0
    assert "pending (paused)" in osteonode("job", "list")[1]
    assert "[red]no[/] CT" in osteonode("job", "list", "--state", "failed")[1]
    assert osteonode("job", "resume", "a")[0] == 0
    assert osteonode("job", "prioritise", "a", "urgent")[0] == 0
    code, said = osteonode("job", "cancel", "all")
    assert (code, "would cancel 1 jobs" in said) == (1, True)
    assert "1 jobs cancelled" in osteonode("job", "cancel", "all", "--yes")[1]
    assert "attempt 2, from analyse" in osteonode("job", "restart", "a", "--step", "analyse")[1]
    assert osteonode("job", "pause", "all")[0] == 0
    assert "The node is paused" in osteonode("job", "list")[1]
    assert osteonode("job", "resume", "all")[0] == 0
    shown = osteonode("job", "show", "a")[1]
    assert all(kind in shown for kind in ("paused", "resumed", "prioritised", "cancelled", "restarted"))
    with transaction(databases.research) as session:
        assert job_control.paused_since(session) is None
    for words in (("show", "none"), ("release", "a"), ("cancel", "none"), ("restart", "none")):
        assert osteonode("job", *words)[0] == 1
