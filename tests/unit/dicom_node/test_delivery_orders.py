"""Deliveries by REST and by command: what is shown, and what people may ask for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from dicom_node import clock
from dicom_node.cli import main
from dicom_node.db.deliveries import accept, due_deliveries, open_deliveries, refuse, replace_results
from dicom_node.db.models import Delivery, Peer, Result
from dicom_node.db.session import Databases, transaction
from dicom_node.pipeline.delivery_queue import submit_due
from dicom_node.settings import Settings
from dicom_node.web.app import create_app

JOB = "f" * 32


@pytest.fixture
def client(databases: Databases, settings: Settings) -> TestClient:
    return TestClient(create_app(databases, settings, 11112), base_url="http://127.0.0.1:8080")


@pytest.fixture
def make_delivery(databases: Databases) -> Callable[..., int]:
    """Return a factory of deliveries of two objects to a peer of a name."""

    def make(name: str = "PACS", job_id: str = JOB, **columns: object) -> int:
        rows = [
            Result(
                sop_instance_uid=f"1.2.{int(job_id, 16) % 1000}.{number}", sop_class_uid="1.2.3", job_id=job_id,
                attempt=1, kind=kind, path=f"results/{number}.dcm",
            )
            for number, kind in enumerate(("seg", "sr"))
        ]  # fmt: skip
        with transaction(databases.hospital) as session:
            peer = session.query(Peer).filter_by(name=name).one_or_none() or Peer(
                name=name, ae_title=name, host="127.0.0.1", port=1, may_send=False, receives_results=True
            )
            session.add(peer)
            session.flush()
            replace_results(session, job_id, 1, rows)
            open_deliveries(session, job_id, 1, [peer], clock.now())
            row = session.query(Delivery).filter_by(job_id=job_id, peer_id=peer.id).one()
            for column, value in columns.items():
                setattr(row, column, value)
            return row.id

    return make


def test_objects_are_shown_with_their_answers_in_words(
    client: TestClient, databases: Databases, make_delivery: Callable[..., int]
) -> None:
    number = make_delivery()
    uids = [f"1.2.{int(JOB, 16) % 1000}.{one}" for one in range(2)]
    with transaction(databases.hospital) as session:
        accept(session, number, uids[0], 0xB006, clock.now())
        refuse(session, number, uids[1], 0xA900, "It does not like it.", clock.now())
    shown = client.get(f"/api/deliveries/{number}").json()
    assert shown["accepted"] == 1
    first, second = shown["items"]
    assert first["status"] == "0xB006 Warning: elements discarded"
    assert first["is_warning"]
    assert second["status"] == "0xA900 Error: data set does not match SOP class"
    assert second["sentence"] == "It does not like it."
    assert second["accepted_at"] is None


def test_deliveries_are_filtered_and_counted(client: TestClient, make_delivery: Callable[..., int]) -> None:
    make_delivery("A")
    make_delivery("B", state="FAILED", next_try_at=None)
    page = client.get("/api/deliveries").json()
    assert page["counts"] == {"PENDING": 1, "SENT": 0, "COMMITTED": 0, "CONFIRMED": 0, "FAILED": 1}
    assert [one["peer"] for one in client.get("/api/deliveries?state=FAILED").json()["deliveries"]] == ["B"]
    assert [one["peer"] for one in client.get("/api/deliveries?peer=A").json()["deliveries"]] == ["A"]
    assert client.get("/api/deliveries?state=LOST").status_code == 422
    assert client.get("/api/deliveries/999").status_code == 404


def test_a_dead_letter_is_retried_given_up_and_taken_back(
    client: TestClient, databases: Databases, make_delivery: Callable[..., int]
) -> None:
    number = make_delivery(state="FAILED", next_try_at=None, attempts=30)
    retried = client.post(f"/api/deliveries/{number}/retry").json()
    assert (retried["state"], retried["attempts"]) == ("PENDING", 0)
    with transaction(databases.hospital) as session:
        assert [row.id for row in due_deliveries(session, clock.now())] == [number]
    given_up = client.post(f"/api/deliveries/{number}/give-up").json()
    assert (given_up["state"], given_up["can_undo"], given_up["next_try_at"]) == ("FAILED", True, None)
    assert client.post(f"/api/deliveries/{number}/give-up").status_code == 409
    back = client.post(f"/api/deliveries/{number}/undo").json()
    assert (back["state"], back["can_undo"]) == ("PENDING", False)
    assert client.post(f"/api/deliveries/{number}/undo").status_code == 409


def test_everything_for_a_peer_that_was_away_is_tried_and_what_was_given_up_is_not(
    client: TestClient, make_delivery: Callable[..., int]
) -> None:
    failed = make_delivery("A", job_id="1" * 32, state="FAILED", next_try_at=None)
    given_up = make_delivery("A", job_id="2" * 32)
    client.post(f"/api/deliveries/{given_up}/give-up")
    make_delivery("B", job_id="3" * 32, state="FAILED", next_try_at=None)
    assert client.post("/api/deliveries/retry", json={"peer": "A"}).json() == {"count": 1}
    assert client.get(f"/api/deliveries/{failed}").json()["state"] == "PENDING"
    assert client.get(f"/api/deliveries/{given_up}").json()["state"] == "FAILED"
    assert client.post("/api/deliveries/retry", json={"peer": "nobody"}).status_code == 404


def test_a_delivery_is_sent_to_another_peer_which_must_receive_results(
    client: TestClient, databases: Databases, make_delivery: Callable[..., int]
) -> None:
    number = make_delivery("A")
    with transaction(databases.hospital) as session:
        session.add(Peer(name="B", ae_title="B", host="h", port=1, may_send=False, receives_results=True))
        session.add(Peer(name="C", ae_title="C", host="h", port=1, may_send=True, receives_results=False))
    sent = client.post(f"/api/deliveries/{number}/send", json={"peer": "B"}).json()
    assert (sent["peer"], sent["state"]) == ("B", "PENDING")
    assert client.post(f"/api/deliveries/{number}/send", json={"peer": "B"}).json()["id"] == sent["id"]
    assert client.post(f"/api/deliveries/{number}/send", json={"peer": "C"}).status_code == 409
    assert client.post(f"/api/deliveries/{number}/send", json={"peer": "D"}).status_code == 404


class Engine:
    """Stands for the job engine: what it was given, and which tries it no longer knows."""

    def __init__(self) -> None:
        self.given: list[tuple[int, int]] = []
        self.is_gone = False

    def deliver(self, delivery_id: int, number: int, peer_id: int) -> None:
        self.given.append((delivery_id, number))

    def has_tried(self, delivery_id: int, number: int) -> bool:
        return self.is_gone


def test_a_try_that_is_due_is_handed_over_once_and_one_that_got_lost_again(
    databases: Databases, make_delivery: Callable[..., int]
) -> None:
    number = make_delivery()
    engine, now = Engine(), clock.now()
    for _ in range(2):
        submit_due(databases, engine, now)
    assert engine.given == [(number, 1)]
    later = now.replace(year=now.year + 1)
    submit_due(databases, engine, later)
    assert engine.given == [(number, 1)], "it still runs"
    engine.is_gone = True
    submit_due(databases, engine, later)
    submit_due(databases, engine, later)
    assert engine.given == [(number, 1), (number, 2)]


def test_the_commands_say_and_do_the_same(
    settings: Settings,
    make_delivery: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OSTEONODE_DATA_DIR", str(Path(settings.data_dir)))
    number = str(make_delivery(state="FAILED", next_try_at=None, sentence="PACS does not answer."))

    def said(*arguments: str, code: int = 0) -> str:
        assert main(["delivery", *arguments]) == code
        return " ".join(capsys.readouterr().out.split())

    assert "PACS does not answer." in said("list", "--state", "FAILED")
    assert "not sent yet" in said("show", number)
    assert "1 delivery is tried" in said("retry", number)
    assert "Given up" in said("give-up", number)
    assert "0 deliveries" in said("retry", "--peer", "PACS")
    assert "goes on" in said("undo", number)
    assert f"as delivery {number}" in said("send", number, "PACS")
    assert "Name deliveries" in said("retry", code=1)
    assert "no delivery 99" in said("retry", "99", code=1)
