"""The receiver on real sockets: who may call, and which status answers what."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import build_context
from pynetdicom.sop_class import Verification

from dicom_node.errors import DeliveryRefused, DiskFull, IntakeError, PeerUnavailable
from dicom_node.net.admission import Caller, Rejection, Sender, admit
from dicom_node.net.archive import FolderArchive
from dicom_node.net.ledger import AssociationRecord
from dicom_node.net.scp import Limits, Listener, Receiver
from dicom_node.net.scu import Address, associate, echo, send_files
from dicom_node.net.statuses import describe, is_temporary, status_of
from dicom_node.storage.files import write_durably
from dicom_node.storage.intake import Arrival
from dicom_node.storage.part10 import IMPLEMENTATION_UID, VERSION_NAME, file_head
from tests.conftest import wait_for


@contextmanager
def receiver(keep: Callable[[Arrival], object], **options: Any) -> Iterator[Receiver]:
    running = Receiver("NODE", [Listener("127.0.0.1", 0)], keep, **options)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def ct_file(tmp_path: Path, make_arrival: Callable[..., Arrival]) -> Path:
    arrival = make_arrival()
    path = tmp_path / "ct.dcm"
    head = file_head(arrival.sop_class_uid, arrival.sop_instance_uid, arrival.transfer_syntax_uid)
    write_durably(path, [head, arrival.dataset])
    return path


def address(running: Receiver, called: str = "NODE") -> Address:
    return Address(called, "127.0.0.1", running.port, "SENDER")


def test_an_echo_is_answered() -> None:
    with receiver(lambda arrival: None) as running:
        echo(address(running))


def test_both_sides_of_an_association_name_this_product() -> None:
    with receiver(lambda arrival: None) as running, associate(address(running), [build_context(Verification)]) as assoc:
        for side in (assoc.requestor, assoc.acceptor):
            assert (side.implementation_class_uid, side.implementation_version_name) == (
                IMPLEMENTATION_UID,
                VERSION_NAME,
            )


def test_a_stored_object_arrives_byte_for_byte(ct_file: Path) -> None:
    kept: list[Arrival] = []
    with receiver(kept.append) as running:
        send_files(address(running), [ct_file])
    (arrival,) = kept
    assert arrival.calling_aet == "SENDER"
    assert ct_file.read_bytes().endswith(arrival.dataset)


def only(*senders: Sender) -> Callable[[Caller, int], Rejection | None]:
    return lambda caller, active: admit(caller, senders, active)


@pytest.mark.parametrize(
    "senders",
    [(), (Sender("SOMEONE"),), (Sender("SENDER", ("10.0.0.0/8",)),), (Sender("SENDER", (), 0),)],
)
def test_a_caller_the_peers_do_not_allow_is_rejected_and_on_record(senders: tuple[Sender, ...]) -> None:
    ended: list[AssociationRecord] = []
    with receiver(lambda arrival: None, admit=only(*senders), record=ended.append) as running:
        with pytest.raises(PeerUnavailable, match="rejected"):
            echo(address(running))
        wait_for(lambda: ended, 10, "the record")
    assert ended[0].outcome in {"calling_ae_title_unknown", "host_not_allowed", "peer_limit_reached"}
    assert ended[0].address == "127.0.0.1"


def test_the_receiver_fails_closed_when_it_cannot_know_who_may_call() -> None:
    with (
        receiver(lambda arrival: None, admit=lambda caller, active: 1 / 0) as running,
        pytest.raises(PeerUnavailable, match="rejected"),
    ):
        echo(address(running))


def test_a_peer_has_no_more_associations_at_a_time_than_it_may() -> None:
    with (
        receiver(lambda arrival: None, admit=only(Sender("SENDER", (), 1), Sender("OTHER"))) as running,
        associate(address(running), [build_context(Verification)]),
    ):
        with pytest.raises(PeerUnavailable, match="rejected"):
            echo(address(running))
        echo(replace(address(running), calling_aet="OTHER"))


def test_the_ledger_counts_what_was_kept_and_refused_but_not_mere_echoes(ct_file: Path, tmp_path: Path) -> None:
    answers = iter([lambda arrival: None, refuse_with(IntakeError("?"))])
    ended: list[AssociationRecord] = []
    with receiver(lambda arrival: next(answers)(arrival), record=ended.append) as running:
        echo(address(running))
        with pytest.raises(DeliveryRefused):
            send_files(address(running), [ct_file, ct_file])
        wait_for(lambda: ended, 10, "the record")
    (record,) = ended
    assert (record.accepted, record.refused, record.outcome) == (1, 1, "released")
    assert 0 < record.received_bytes < 2 * ct_file.stat().st_size
    assert record.ended_at >= record.started_at


def test_a_ledger_that_cannot_be_written_ends_no_association(ct_file: Path) -> None:
    with receiver(lambda arrival: None, record=lambda record: 1 / 0) as running:
        for _ in range(2):
            send_files(address(running), [ct_file])


def test_an_association_that_falls_silent_is_aborted_and_on_record() -> None:
    ended: list[AssociationRecord] = []
    with (
        receiver(lambda arrival: None, record=ended.append, limits=Limits(idle_s=0.3)) as running,
        associate(address(running), [build_context(Verification)]) as assoc,
    ):
        wait_for(lambda: ended, 10, "the record")
        wait_for(lambda: not assoc.is_established, 10, "the abort")
    assert ended[0].outcome == "aborted"


def test_an_object_that_is_refused_does_not_keep_the_next_back(ct_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.dcm"
    other.write_bytes(ct_file.read_bytes())
    answers = iter([refuse_with(IntakeError("?")), lambda arrival: None])
    sent: list[Path] = []
    with (
        receiver(lambda arrival: next(answers)(arrival)) as running,
        pytest.raises(DeliveryRefused, match="0xC000"),
    ):
        send_files(address(running), [ct_file, other], lambda path, status: sent.append(path))
    assert sent == [other]


def test_a_host_that_has_no_address_is_a_peer_that_is_away() -> None:
    with pytest.raises(PeerUnavailable, match="not known"):
        echo(Address("PACS", "no-such-host.invalid", 104, "NODE"))


def test_a_known_calling_title_is_served() -> None:
    with receiver(lambda arrival: None, admit=only(Sender("SENDER", ("127.0.0.0/8",)))) as running:
        echo(address(running))


def test_a_wrong_called_title_is_rejected() -> None:
    with receiver(lambda arrival: None) as running, pytest.raises(PeerUnavailable, match="rejected"):
        echo(address(running, called="OTHER"))


def refuse_with(error: Exception) -> Callable[[Arrival], object]:
    def keep(arrival: Arrival) -> object:
        raise error

    return keep


def test_a_full_disk_is_answered_as_out_of_resources(ct_file: Path) -> None:
    with (
        receiver(refuse_with(DiskFull("no room"))) as running,
        pytest.raises(PeerUnavailable, match="0xA700"),
    ):
        send_files(address(running), [ct_file])


def test_an_unusable_object_is_answered_as_not_understood(ct_file: Path) -> None:
    with receiver(refuse_with(IntakeError("?"))) as running, pytest.raises(DeliveryRefused, match="0xC000"):
        send_files(address(running), [ct_file])


def test_an_unforeseen_error_is_a_status_and_the_next_object_is_served(ct_file: Path) -> None:
    answers = iter([refuse_with(RuntimeError("bug")), lambda arrival: None])
    with receiver(lambda arrival: next(answers)(arrival)) as running:
        with pytest.raises(DeliveryRefused, match="0x0110"):
            send_files(address(running), [ct_file])
        send_files(address(running), [ct_file])


def test_nobody_listening_is_a_peer_that_is_away(free_port: Callable[[], int]) -> None:
    with pytest.raises(PeerUnavailable, match="does not answer"):
        echo(Address("NODE", "127.0.0.1", free_port(), "SENDER"))


def test_the_stand_in_pacs_keeps_an_object_once(tmp_path: Path, ct_file: Path) -> None:
    archive = FolderArchive("PACS", tmp_path / "pacs")
    try:
        for _ in range(2):
            send_files(Address("PACS", "127.0.0.1", archive.port, "SENDER"), [ct_file])
        (stored,) = archive.files
        assert dcmread(stored).SOPInstanceUID == dcmread(ct_file).SOPInstanceUID
    finally:
        archive.close()


@pytest.mark.parametrize(
    ("status", "temporary"), [(0x0000, False), (0xB000, False), (0xA700, True), (0xA7FF, True), (0xA900, False)]
)
def test_only_a_peer_out_of_resources_is_asked_again(status: int, temporary: bool) -> None:
    assert is_temporary(status) is temporary
    assert describe(status).startswith(f"0x{status:04X}")


def test_an_error_outside_the_tree_is_a_processing_failure() -> None:
    assert status_of(ValueError()) == 0x0110
