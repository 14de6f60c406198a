"""Deliveries that people, clocks, peers and the end of the process get into the way of."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Thread

import pytest
from delivery_desk import Desk, desks
from delivery_scp import Archive
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_node import clock
from dicom_node.db.deliveries import begin_again, running_delivery
from dicom_node.db.delivery_orders import give_up, undo
from dicom_node.db.models import Delivery, Peer, Receipt
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.net.listeners import Listener
from dicom_node.net.seats import Seats
from dicom_node.pipeline.delivery import STALE, Outbox
from dicom_node.pipeline.delivery_peers import Destination
from dicom_node.pipeline.delivery_proof import CHECKS, MAX_ASKS, Proof
from dicom_node.receiver import make_receiver
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival


@pytest.fixture
def archive() -> Iterator[Archive]:
    running = Archive()
    yield running
    running.close()


@pytest.fixture
def make_desk(
    databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Desk]:
    monkeypatch.setattr("dicom_node.pipeline.delivery_proof.SAME_ASSOCIATION_S", 0.01)
    return desks(databases, settings, make_arrival)


def test_a_delivery_given_up_while_it_is_sent_stops_after_the_object_on_the_way(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive)

    class GivenUpOnce(dict[str, int]):
        def get(self, key: str, default: int = 0) -> int:
            if desk.row.state == "PENDING":
                desk.order(give_up)
            return default

    archive.statuses = GivenUpOnce()
    assert desk.try_now() == STALE
    assert len(archive.sent) == len(desk.receipts) == 1, "what the peer has it has, with its receipt"
    assert (desk.row.state, desk.row.sentence) == ("FAILED", "Given up by a person.")


def test_giving_up_waits_for_a_try_that_is_writing_its_end(make_desk: Callable[..., Desk], archive: Archive) -> None:
    desk = make_desk(archive)
    failures: list[str] = []

    def end_it() -> None:
        try:
            desk.order(give_up)
        except ConfigurationError as error:
            failures.append(str(error))

    person = Thread(target=end_it)
    with transaction(desk.databases.hospital) as session:
        row = running_delivery(session, desk.id, desk.row.number)
        assert row is not None
        person.start()
        person.join(0.3)
        row.state, row.next_try_at = "SENT", None
    person.join(10)
    assert (desk.row.state, len(failures)) == ("SENT", 1), "what was sent is not called given up"


def test_a_peer_that_receives_results_no_more_gets_nothing_of_what_waits(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive)
    with transaction(desk.databases.hospital) as session:
        session.get_one(Peer, desk.peer.id).receives_results = False
    assert desk.try_now() == "FAILED"
    assert (archive.sent, desk.row.sentence) == ([], "The peer receives no results any more.")


def test_a_try_that_ends_the_process_every_time_is_a_dead_letter_at_last(
    make_desk: Callable[..., Desk], archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk(archive)

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(Outbox, "_send_missing", die)
        for _ in range(desk.settings.delivery_attempts):
            with pytest.raises(KeyboardInterrupt):
                desk.try_now()
    assert desk.try_now() == "FAILED"
    assert "broken off" in desk.row.sentence
    assert archive.sent == []


def test_a_delivery_given_up_while_the_peer_is_asked_stays_given_up(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive)
    desk.try_now()
    with transaction(desk.databases.hospital) as session:
        row = session.get_one(Delivery, desk.id)
        row.attempts, row.next_try_at = CHECKS, clock.now()

    def held(keys: object) -> set[str]:
        desk.order(give_up)
        return set()

    silent = Destination("PACS", offer=None, held=held, find_study=None, echo=None)  # type: ignore[arg-type]
    with pytest.raises(PeerUnavailable):
        Proof(desk.databases, desk.settings).check(desk.id, silent)
    assert (desk.row.state, desk.row.next_try_at) == ("FAILED", None), "PENDING without a next try would hang for ever"
    desk.order(undo)
    assert desk.try_now() == "SENT"
    assert sorted(archive.sent) == sorted(desk.uids * 2)


def test_a_report_counts_though_the_clock_was_set_back_after_the_objects_were_sent(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive, wants_commitment=True)
    desk.try_now()
    desk.expire()
    with transaction(desk.databases.hospital) as session:
        session.query(Receipt).update({"received_at": clock.now() + timedelta(hours=1)})
    desk.try_now()
    assert len(archive.asked) == 2
    desk.take(desk.uids)
    assert desk.try_now() == "COMMITTED"


def test_requests_without_a_report_before_the_objects_were_sent_anew_count_no_more(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive, wants_commitment=True)
    for _ in range(MAX_ASKS):
        desk.try_now()
        desk.expire()
    with transaction(desk.databases.hospital) as session:
        session.query(Receipt).update({"is_lost": True})
        begin_again(session.get_one(Delivery, desk.id), clock.now())
    assert desk.try_now() == "SENT"
    assert len(archive.asked) == MAX_ASKS + 1


def test_a_peer_that_repeats_one_match_without_end_is_left(
    monkeypatch: pytest.MonkeyPatch, make_desk: Callable[..., Desk]
) -> None:
    class Endless(Archive):
        def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
            for _ in range(60):
                yield 0xFF00, next(super()._find(event))[1]

    monkeypatch.setattr("dicom_node.net.presence.MAX_MATCHES", 50)
    endless = Endless()
    try:
        desk = make_desk(endless, is_checked=True)
        assert desk.try_now() == "FAILED"
        assert "more than 50" in desk.row.sentence
    finally:
        endless.close()


@pytest.mark.parametrize(("context", "is_let_in"), [(StorageCommitmentPushModel, True), (CTImageStorage, False)])
def test_a_destination_that_may_not_send_reports_on_an_association_of_its_own_and_sends_nothing(
    make_desk: Callable[..., Desk], archive: Archive, free_port: Callable[[], int], context: str, is_let_in: bool
) -> None:
    desk = make_desk(archive, wants_commitment=True)
    desk.try_now()
    listeners = [Listener("127.0.0.1", free_port())]
    receiver = make_receiver(desk.settings, desk.databases, listeners, Seats(2))
    try:
        if is_let_in:
            assert archive.report(receiver.port) == 0
            assert desk.try_now() == "COMMITTED"
        else:
            assoc = AE("PACS").associate("127.0.0.1", receiver.port, [build_context(context)], ae_title="NODE")
            assert assoc.is_rejected
    finally:
        receiver.close()
