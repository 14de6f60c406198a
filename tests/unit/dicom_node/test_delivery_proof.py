"""What follows an accepted object: warnings kept, refusals tried again or not, commitment, and the query."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from delivery_desk import Desk, desks
from delivery_scp import Archive
from pydicom import dcmread

from dicom_node import clock
from dicom_node.db.delivery_orders import find_delivery, give_up, items_of, retry, send_again, undo
from dicom_node.db.models import Peer
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.net.commitment import CommitmentReport
from dicom_node.pipeline.delivery import STALE, Outbox
from dicom_node.pipeline.delivery_proof import CHECKS, MAX_ASKS, MAX_SENDINGS, take_report
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


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0xB123, 0x0111, 0x0107])
def test_a_warning_is_success_and_stays_in_the_receipt(
    make_desk: Callable[..., Desk], archive: Archive, status: int
) -> None:
    desk = make_desk(archive)
    archive.statuses = dict.fromkeys(desk.uids, status)
    assert desk.try_now() == "SENT"
    assert [row.status for row in desk.receipts.values()] == [status, status]
    assert desk.row.next_try_at is None


def test_a_processing_failure_is_tried_three_times_and_the_rest_is_sent_once(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive)
    archive.statuses = {desk.uids[0]: 0x0110}
    assert [desk.try_now() for _ in range(3)] == ["PENDING", "PENDING", "FAILED"]
    assert sorted(archive.sent) == sorted([desk.uids[0]] * 3 + [desk.uids[1]])
    assert "0x0110 Processing failure" in desk.row.sentence
    with transaction(desk.databases.hospital) as session:
        items = {one.result.sop_instance_uid: one for one in items_of(session, find_delivery(session, desk.id))}
    assert items[desk.uids[0]].refusal.times == 3
    assert items[desk.uids[1]].receipt.status == 0
    archive.statuses = {}
    desk.order(retry)
    assert desk.try_now() == "SENT"
    with transaction(desk.databases.hospital) as session:
        assert [one.refusal for one in items_of(session, find_delivery(session, desk.id))] == [None, None]


def test_a_peer_out_of_resources_is_tried_again_with_growing_pauses(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive)
    archive.next_statuses = [0xA700, 0xA7FE]
    pauses = []
    for _ in range(2):
        assert desk.try_now() == "PENDING"
        pauses.append((desk.row.next_try_at - desk.row.updated_at).total_seconds())
    assert pauses == [60.0, 120.0]
    assert desk.try_now() == "SENT"


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0117])
def test_a_refusal_for_good_is_a_dead_letter_at_once(
    make_desk: Callable[..., Desk], archive: Archive, status: int
) -> None:
    desk = make_desk(archive)
    archive.statuses = {desk.uids[0]: status}
    assert desk.try_now() == "FAILED"
    assert list(desk.receipts) == [desk.uids[1]]
    assert f"0x{status:04X}" in desk.row.sentence


def test_a_report_on_the_same_association_is_taken_and_lets_the_delivery_go_on(
    make_desk: Callable[..., Desk], archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk(archive, wants_commitment=True)
    monkeypatch.setattr("dicom_node.pipeline.delivery_proof.SAME_ASSOCIATION_S", 10.0)
    archive.reports_at_once = True
    assert desk.try_now() == STALE, "the report has made the next try due while this one waited"
    assert desk.asked[0].state == "ANSWERED"
    assert desk.try_now() == "COMMITTED"


def test_a_report_makes_the_next_step_due(make_desk: Callable[..., Desk], archive: Archive) -> None:
    desk = make_desk(archive, wants_commitment=True, is_checked=True)
    assert desk.try_now() == "SENT"
    (uid, instances) = archive.asked[0]
    assert sorted(instances) == sorted(desk.uids)
    assert "awaited" in desk.row.sentence
    assert (desk.row.next_try_at - desk.asked[0].asked_at).total_seconds() == pytest.approx(600)
    assert uid == desk.asked[0].transaction_uid
    assert desk.try_now() == "SENT", "a try before the report asks nothing again"
    assert len(archive.asked) == 1
    assert desk.take(desk.uids) == 0
    assert desk.row.next_try_at <= clock.now(), "the report makes the next step due"
    assert desk.try_now() == "CONFIRMED"
    assert all(row.committed_at and row.found_at for row in desk.receipts.values())
    assert desk.row.next_try_at is None


def test_a_report_that_does_not_come_is_asked_for_again_in_a_new_transaction_and_ends_as_a_dead_letter(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive, wants_commitment=True)
    waits = []
    for _ in range(MAX_ASKS):
        assert desk.try_now() == "SENT"
        waits.append(round((desk.asked[-1].due_at - desk.asked[-1].asked_at).total_seconds()))
        desk.expire()
    assert waits[:3] == [600, 1200, 2400]
    assert max(waits) == 12 * 3600
    assert len({uid for uid, _ in archive.asked}) == MAX_ASKS
    assert desk.try_now() == "FAILED"
    assert "reported on none" in desk.row.sentence
    desk.order(retry)
    assert desk.try_now() == "SENT", "a person may have it asked again"
    assert len(archive.asked) == MAX_ASKS + 1
    assert sorted(archive.sent) == sorted(desk.uids), "nothing was sent twice"


def test_a_late_report_of_a_request_given_up_as_lost_counts(make_desk: Callable[..., Desk], archive: Archive) -> None:
    desk = make_desk(archive, wants_commitment=True)
    desk.try_now()
    desk.expire()
    desk.try_now()
    assert [one.state for one in desk.asked] == ["EXPIRED", "OPEN"]
    assert desk.take(desk.uids, number=0) == 0
    assert desk.try_now() == "COMMITTED"
    first = {uid: row.committed_at for uid, row in desk.receipts.items()}
    assert desk.take(desk.uids) == 0, "the second report comes too"
    assert {uid: row.committed_at for uid, row in desk.receipts.items()} == first
    assert desk.row.state == "COMMITTED"


def test_what_is_not_committed_is_sent_again_and_after_three_times_is_a_dead_letter(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive, wants_commitment=True)
    for _ in range(MAX_SENDINGS):
        assert desk.try_now() == "SENT"
        desk.take([desk.uids[0]], {desk.uids[1]: 0x0112})
        last = desk.try_now()
    assert last == "FAILED"
    assert "1 of 2 objects (0x0112 No such object instance)" in desk.row.sentence
    assert archive.sent.count(desk.uids[1]) == MAX_SENDINGS
    assert archive.sent.count(desk.uids[0]) == 1
    assert [instances for _, instances in archive.asked[1:]] == [[desk.uids[1]]] * (MAX_SENDINGS - 1)


def test_an_object_the_report_does_not_name_is_not_committed(make_desk: Callable[..., Desk], archive: Archive) -> None:
    desk = make_desk(archive, wants_commitment=True)
    desk.try_now()
    desk.take([desk.uids[0]])
    assert desk.receipts[desk.uids[1]].commitment_status == 0x0110
    desk.try_now()
    assert archive.sent.count(desk.uids[1]) == 1
    desk.try_now()
    assert archive.sent.count(desk.uids[1]) == 2


def test_a_report_on_what_was_not_asked_changes_nothing(make_desk: Callable[..., Desk], archive: Archive) -> None:
    desk = make_desk(archive, wants_commitment=True)
    desk.try_now()
    stranger = CommitmentReport("PACS", "2.25.1", frozenset(desk.uids), ())
    assert take_report(desk.databases, stranger, clock.now()) == 0x0115
    desk.take(["1.2.3", "1.2.4"], {"1.2.5": 1})
    assert not any(row.committed_at for row in desk.receipts.values())


@pytest.mark.parametrize(("status", "state"), [(0x0213, "SENT"), (0x0110, "SENT"), (0x0112, "FAILED")])
def test_a_refused_request_for_commitment_waits_or_fails_by_its_status(
    make_desk: Callable[..., Desk], archive: Archive, status: int, state: str
) -> None:
    desk = make_desk(archive, wants_commitment=True)
    archive.action_status = status
    assert desk.try_now() == state
    assert f"0x{status:04X}" in desk.row.sentence
    assert desk.asked == []


def test_a_peer_without_commitment_or_query_says_what_to_switch_off(make_desk: Callable[..., Desk]) -> None:
    plain = Archive(with_commitment=False, with_find=False)
    try:
        desk = make_desk(plain, wants_commitment=True)
        assert desk.try_now() == "FAILED"
        assert "--no-commitment" in desk.row.sentence
        with transaction(desk.databases.hospital) as session:
            peer = session.get_one(Peer, desk.peer.id)
            peer.wants_commitment, peer.is_checked = False, True
        desk.order(retry)
        assert desk.try_now() == "FAILED"
        assert "no C-FIND" in desk.row.sentence
    finally:
        plain.close()


def test_what_a_peer_does_not_list_is_looked_for_again_and_then_sent_again(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive, is_checked=True)
    archive.hidden = {desk.uids[0]}
    for _ in range(CHECKS - 1):
        assert desk.try_now() == "SENT"
        assert "does not list 1 of 2" in desk.row.sentence
    assert archive.sent.count(desk.uids[0]) == 1
    assert desk.receipts[desk.uids[1]].found_at is not None
    assert desk.try_now() == "PENDING"
    archive.hidden = set()
    assert desk.try_now() == "CONFIRMED"
    assert archive.sent.count(desk.uids[0]) == 2
    assert archive.sent.count(desk.uids[1]) == 1
    assert desk.receipts[desk.uids[0]].sendings == 2


def test_giving_up_ends_it_and_undo_goes_on_where_it_was(make_desk: Callable[..., Desk], archive: Archive) -> None:
    desk = make_desk(archive, wants_commitment=True)
    desk.try_now()
    number = desk.row.number
    desk.order(give_up)
    assert (desk.row.state, desk.row.next_try_at) == ("FAILED", None)
    assert Outbox(desk.databases, desk.settings).deliver(desk.id, number) == STALE
    with pytest.raises(ConfigurationError, match="nothing to give up"):
        desk.order(give_up)
    assert desk.take(desk.uids) == 0, "a report that comes now is kept"
    assert desk.row.state == "FAILED"
    desk.order(undo)
    assert desk.row.state == "SENT"
    assert desk.try_now() == "COMMITTED"
    with pytest.raises(ConfigurationError, match="not given up"):
        desk.order(undo)
    with pytest.raises(ConfigurationError, match="nothing is left"):
        desk.order(retry)


def test_sending_again_sends_everything_once_more_and_to_another_peer_too(
    make_desk: Callable[..., Desk], archive: Archive
) -> None:
    desk = make_desk(archive)
    desk.try_now()
    desk.order(send_again, "PACS")
    assert desk.try_now() == "SENT"
    assert sorted(archive.sent) == sorted(desk.uids * 2)
    assert [row.sendings for row in desk.receipts.values()] == [2, 2]
    other = Archive()
    try:
        second = Peer(
            name="other", ae_title="OTHER", host="127.0.0.1", port=other.port, may_send=False, receives_results=True
        )
        with transaction(desk.databases.hospital) as session:
            session.add(second)
        opened = desk.order(send_again, "other")
        assert opened.id != desk.id
        assert Outbox(desk.databases, desk.settings).deliver(opened.id, opened.number) == "SENT"
        assert sorted(other.sent) == sorted(desk.uids)
    finally:
        other.close()


def test_no_identifier_of_a_patient_is_in_a_row_or_a_log_line_of_a_delivery(
    make_desk: Callable[..., Desk], archive: Archive, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    caplog.set_level("DEBUG")
    desk = make_desk(archive, wants_commitment=True, is_checked=True)
    secret = "ZEBRA-4711"
    for path in (settings.hospital_dir / "results").rglob("*.dcm"):
        ds = dcmread(path)
        ds.PatientID, ds.PatientName = secret, f"{secret}^X"
        ds.save_as(path)
    archive.statuses = {desk.uids[0]: 0x0110}
    for _ in range(3):
        desk.try_now()
    desk.order(retry)
    archive.statuses = {}
    desk.try_now()
    desk.take(desk.uids)
    assert desk.try_now() == "CONFIRMED"
    assert secret not in caplog.text
    databases = list(Path(settings.data_dir).rglob("*.db*"))
    assert databases
    assert not any(secret.encode() in path.read_bytes() for path in databases)
