"""Results on their way to peers: receipts, retries, refusals, and the attempts of a job kept apart."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node import clock
from dicom_node.db.deliveries import begin_again, delivered_reports, open_deliveries, replace_results, results_of
from dicom_node.db.models import Delivery, Peer, Result, StudyVersion
from dicom_node.db.peers import destinations
from dicom_node.db.session import Databases, transaction
from dicom_node.net.archive import FolderArchive
from dicom_node.pipeline.delivery import STALE, Outbox
from dicom_node.settings import Settings
from dicom_node.storage.files import write_durably
from dicom_node.storage.intake import Arrival
from dicom_node.storage.part10 import file_head

JOB = "b" * 32


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[FolderArchive]:
    running = FolderArchive("PACS", tmp_path / "pacs")
    yield running
    running.close()


@pytest.fixture
def outbox(databases: Databases, settings: Settings) -> Outbox:
    return Outbox(databases, settings.model_copy(update={"ae_title": "NODE", "verify_identity": False}))


@pytest.fixture
def pack(databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]) -> Callable[..., list[str]]:
    """Return a factory of the results of one attempt; returns their UIDs."""

    def make(attempt: int, count: int = 2, kind: str = "sr") -> list[str]:
        results = []
        for number in range(count):
            one = make_arrival()
            path = f"results/{JOB}/{attempt}/{number}-{kind}.dcm"
            head = file_head(one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid)
            write_durably(settings.hospital_dir / path, [head, one.dataset])
            results.append(
                Result(
                    sop_instance_uid=one.sop_instance_uid, sop_class_uid=one.sop_class_uid, job_id=JOB,
                    attempt=attempt, kind=kind, path=path,
                )
            )  # fmt: skip
        uids = [result.sop_instance_uid for result in results]
        with transaction(databases.hospital) as session:
            replace_results(session, JOB, attempt, results)
        return uids

    return make


def add_peer(databases: Databases, port: int, **changes: object) -> Peer:
    values = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "may_send": True}
    peer = Peer(**{**values, "receives_results": True, **changes})
    with transaction(databases.hospital) as session:
        session.add(peer)
    return peer


def open_for(databases: Databases, attempt: int, *peers: Peer) -> int:
    with transaction(databases.hospital) as session:
        return open_deliveries(session, JOB, attempt, list(peers), clock.now())[0]


def state_of(databases: Databases, delivery_id: int) -> Delivery:
    with transaction(databases.hospital) as session:
        return session.get_one(Delivery, delivery_id)


def try_now(outbox: Outbox, databases: Databases, delivery_id: int) -> str:
    """Make a try as the engine does; a delivery that has ended is begun again."""
    with transaction(databases.hospital) as session:
        row = session.get_one(Delivery, delivery_id)
        if row.next_try_at is None:
            begin_again(row, clock.now())
        number = row.number
    return outbox.deliver(delivery_id, number)


def held(archive: FolderArchive) -> set[str]:
    return {str(dcmread(path).SOPInstanceUID) for path in archive.files}


def test_every_object_arrives_and_a_second_try_sends_nothing(
    outbox: Outbox, databases: Databases, archive: FolderArchive, pack: Callable[..., list[str]]
) -> None:
    uids = pack(1)
    peer = add_peer(databases, archive.port)
    delivery = open_for(databases, 1, peer)
    assert try_now(outbox, databases, delivery) == "SENT"
    assert held(archive) == set(uids)
    with transaction(databases.hospital) as session:
        session.get_one(Peer, peer.id).host = "no-such-host.invalid"
    assert try_now(outbox, databases, delivery) == "SENT", "nothing is left to send, so nobody is called"


def test_a_pacs_that_is_away_is_tried_again_with_its_sentence(
    outbox: Outbox, databases: Databases, free_port: Callable[[], int], pack: Callable[..., list[str]]
) -> None:
    pack(1)
    outbox = replace(outbox, settings=outbox.settings.model_copy(update={"delivery_attempts": 3}))
    delivery = open_for(databases, 1, add_peer(databases, free_port()))
    pauses = []
    for _ in range(2):
        assert try_now(outbox, databases, delivery) == "PENDING"
        row = state_of(databases, delivery)
        assert "does not answer" in row.sentence
        assert row.next_try_at is not None
        pauses.append((row.next_try_at - row.updated_at).total_seconds())
    assert pauses == [5.0, 10.0], "doubled"
    assert try_now(outbox, databases, delivery) == "FAILED"
    row = state_of(databases, delivery)
    assert (row.next_try_at, row.attempts) == (None, 3)
    assert "does not answer" in row.sentence, "the dead letter says why"


def test_a_second_attempt_of_a_job_is_delivered_and_the_first_is_not_mixed_in(
    outbox: Outbox, databases: Databases, archive: FolderArchive, pack: Callable[..., list[str]]
) -> None:
    peer = add_peer(databases, archive.port)
    pack(1, count=3)
    first = open_for(databases, 1, peer)
    number = state_of(databases, first).number
    second_uids = pack(2, count=2)
    second = open_for(databases, 2, peer)
    assert second == first
    assert outbox.deliver(first, number) == STALE, "what is left of the first attempt sends nothing"
    assert archive.files == []
    assert try_now(outbox, databases, second) == "SENT"
    assert held(archive) == set(second_uids)


def test_results_that_a_peer_has_stay_on_record_and_are_cited(
    outbox: Outbox, databases: Databases, archive: FolderArchive, pack: Callable[..., list[str]]
) -> None:
    peer = add_peer(databases, archive.port)
    first_uids = pack(1, count=1)
    try_now(outbox, databases, open_for(databases, 1, peer))
    pack(2, count=1)
    version = StudyVersion(
        study_instance_uid="1.2", version=1, instance_count=1, ct_count=1, job_id=JOB,
        created_at=clock.now(),
    )  # fmt: skip
    with transaction(databases.hospital) as session:
        session.add(version)
        session.flush()
        assert [row.sop_instance_uid for row in delivered_reports(session, version)] == first_uids
        assert len(results_of(session, JOB, 1)) == len(results_of(session, JOB, 2)) == 1


def test_what_ends_an_old_try_leaves_the_new_one_alone(
    outbox: Outbox, databases: Databases, archive: FolderArchive, pack: Callable[..., list[str]]
) -> None:
    peer = add_peer(databases, archive.port)
    pack(1)
    delivery = open_for(databases, 1, peer)
    number = state_of(databases, delivery).number
    pack(2)
    open_for(databases, 2, peer)
    assert outbox.put_off(delivery, number) == STALE
    assert state_of(databases, delivery).sentence == ""


def test_a_removed_peer_gets_nothing(
    outbox: Outbox, databases: Databases, archive: FolderArchive, pack: Callable[..., list[str]]
) -> None:
    pack(1)
    peer = add_peer(databases, archive.port, is_removed=True)
    assert try_now(outbox, databases, open_for(databases, 1, peer)) == "FAILED"
    assert archive.files == []


def test_results_go_back_to_the_sender_and_to_all_receivers_when_it_takes_none(databases: Databases) -> None:
    add_peer(databases, 1, name="a", ae_title="A")
    add_peer(databases, 1, name="b", ae_title="B")
    add_peer(databases, 1, name="c", ae_title="C", receives_results=False)
    with transaction(databases.hospital) as session:
        assert [peer.name for peer in destinations(session, {"A"})] == ["a"]
        assert [peer.name for peer in destinations(session, {"C"})] == ["a", "b"]
