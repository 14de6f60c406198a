"""Peers of every kind by REST and by command: what is accepted, derived, changed and taken back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from delivery_scp import Archive
from fastapi.testclient import TestClient

from dicom_node.cli import main
from dicom_node.db.session import Databases
from dicom_node.settings import Settings
from dicom_node.web.app import create_app

DIMSE = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
WEB = {"name": "Archive", "kind": "dicomweb", "url": "https://pacs.example/dicom-web/"}


@pytest.fixture
def client(databases: Databases, settings: Settings) -> TestClient:
    return TestClient(create_app(databases, settings, 11112), base_url="http://127.0.0.1:8080")


@pytest.fixture
def archive() -> Iterator[Archive]:
    running = Archive()
    yield running
    running.close()


def test_a_web_peer_needs_no_host_port_or_title_and_may_not_send(client: TestClient) -> None:
    added = client.post("/api/peers", json=WEB).json()
    assert (added["host"], added["port"], added["url"]) == ("pacs.example", 443, "https://pacs.example/dicom-web")
    assert not added["may_send"]
    assert added["ae_title"].startswith("web:")
    other = client.post("/api/peers", json={**WEB, "name": "Archive 2", "url": "http://[::1]:8042"}).json()
    assert (other["host"], other["port"]) == ("::1", 8042)
    both = {**WEB, "name": "Orthanc", "kind": "orthanc", "ae_title": "ORTHANC", "may_send": True}
    assert client.post("/api/peers", json=both).json()["may_send"], "one that also sends by DIMSE has a title"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": ""}, "needs a URL"),
        ({"url": "pacs.example/dicom-web"}, "http:// or https://"),
        ({"url": "ftp://pacs.example"}, "http:// or https://"),
        ({"url": "https://user:secret@pacs.example"}, "credentials file"),
        ({"url": "https://pacs.example/dicom-web?token=secret"}, "before any"),
        ({"url": "https://pacs.example:99999/"}, "http:// or https://"),
        ({"url": "https://pa cs.example/"}, "http:// or https://"),
        ({"url": "https://"}, "http:// or https://"),
        ({"credentials_file": "pacs.credentials"}, "absolute path"),
        ({"wants_commitment": True}, "only a DIMSE peer"),
        ({"kind": "hl7"}, "'dimse', 'dicomweb' or 'orthanc'"),
        ({"requests_per_minute": 0}, "greater than or equal to 1"),
    ],
)
def test_a_web_peer_that_cannot_work_is_refused_without_quoting_a_secret(
    client: TestClient, changes: dict[str, object], words: str
) -> None:
    answer = client.post("/api/peers", json={**WEB, **changes})
    assert answer.status_code == 422
    assert words in answer.text
    assert client.get("/api/peers").json() == []


@pytest.mark.parametrize("missing", ["ae_title", "host", "port"])
def test_a_dimse_peer_needs_title_host_and_port(client: TestClient, missing: str) -> None:
    answer = client.post("/api/peers", json={key: value for key, value in DIMSE.items() if key != missing})
    assert answer.status_code == 422
    assert missing in answer.text


def test_a_peer_is_changed_in_place_and_judged_as_a_new_one(client: TestClient) -> None:
    client.post("/api/peers", json=DIMSE)
    change = {"host": "10.0.0.9", "port": 11113, "wants_commitment": True, "is_checked": True, "is_queried": True}
    changed = client.patch("/api/peers/PACS", json=change).json()
    assert {key: changed[key] for key in change} == change
    assert changed["ae_title"] == "PACS"
    for wrong, words in (({"port": 0}, "port"), ({"url": "http://x"}, "has no URL"), ({"objects": []}, "at least one")):
        answer = client.patch("/api/peers/PACS", json=wrong)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    client.post("/api/peers", json={**DIMSE, "name": "Other", "ae_title": "OTHER"})
    assert client.patch("/api/peers/Other", json={"ae_title": "PACS"}).status_code == 409
    assert client.patch("/api/peers/nobody", json={"port": 1}).status_code == 404
    limited = client.patch("/api/peers/PACS", json={"max_associations": 4}).json()
    assert limited["max_associations"] == 4
    assert client.patch("/api/peers/PACS", json={"max_associations": None}).json()["max_associations"] is None


def test_a_removed_peer_can_be_taken_back_until_another_has_its_place(client: TestClient) -> None:
    client.post("/api/peers", json=DIMSE)
    client.delete("/api/peers/PACS")
    assert client.post("/api/peers/PACS/restore").json()["ae_title"] == "PACS"
    assert len(client.get("/api/peers").json()) == 1
    assert client.post("/api/peers/PACS/restore").status_code == 404, "it is there"
    client.delete("/api/peers/PACS")
    client.post("/api/peers", json={**DIMSE, "port": 105})
    client.delete("/api/peers/PACS")
    assert client.post("/api/peers/PACS/restore").json()["port"] == 105
    client.delete("/api/peers/PACS")
    client.post("/api/peers", json={**DIMSE, "name": "New"})
    assert client.post("/api/peers/PACS/restore").status_code == 404, "its AE title is taken"


def test_an_echo_says_how_long_it_took_and_what_is_offered(client: TestClient, archive: Archive) -> None:
    client.post("/api/peers", json={**DIMSE, "port": archive.port})
    answer = client.post("/api/peers/PACS/echo").json()
    assert answer["is_there"]
    assert answer["milliseconds"] > 0
    assert answer["services"] == ["C-FIND", "storage commitment"]
    archive.close()
    away = client.post("/api/peers/PACS/echo").json()
    assert not away["is_there"]
    assert "does not answer" in away["sentence"]
    assert client.post("/api/peers/nobody/echo").status_code == 404


def test_an_echo_of_a_web_peer_that_is_away_says_so(client: TestClient, free_port: Callable[[], int]) -> None:
    for kind in ("dicomweb", "orthanc"):
        client.post("/api/peers", json={"name": kind, "kind": kind, "url": f"http://127.0.0.1:{free_port()}"})
        answer = client.post(f"/api/peers/{kind}/echo").json()
        assert not answer["is_there"]
        assert "cannot be reached" in answer["sentence"]


def test_the_commands_know_every_kind_and_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(tmp_path / "data"))

    def said(*arguments: str, code: int = 0) -> str:
        assert main(["peer", *arguments]) == code
        return " ".join(capsys.readouterr().out.split())

    said("add", "web", "--kind", "dicomweb", "--url", "https://pacs.example/dicom-web", "--check")
    said("add", "pacs", "--aet", "PACS", "--host", "h", "--port", "104", "--commitment", "--check", "--no-send")
    listed = said("list")
    assert "https://pacs.example/dicom-web" in listed
    assert "commitment query" in listed
    said("set", "pacs", "--no-commitment", "--port", "105", "--send", "--queried", "--retrieve-by", "move")
    assert "h:105" in said("list")
    assert "restore pacs" in said("remove", "pacs")
    assert "is back" in said("restore", "pacs")
    assert "needs a URL" in said("add", "bad", "--kind", "orthanc", code=2)
    assert "no URL" in said("set", "pacs", "--url", "http://x", code=2)
    assert "Error" in said("echo", "web", code=1)


def test_a_peer_that_moves_to_another_server_does_not_take_the_old_ones_password_along(client: TestClient) -> None:
    secret = {"credentials_file": "/etc/osteonode/archive.credentials"}
    client.post("/api/peers", json={**WEB, **secret})
    same = client.patch("/api/peers/Archive", json={"url": "https://pacs.example/other"}).json()
    assert same["credentials_file"] == secret["credentials_file"]
    moved = client.patch("/api/peers/Archive", json={"url": "https://elsewhere.example/dicom-web"}).json()
    assert moved["credentials_file"] == ""
    named = client.patch("/api/peers/Archive", json={"url": "http://third.example", **secret}).json()
    assert named["credentials_file"] == secret["credentials_file"]
