"""Storage commitment on real sockets: what is promised, to whom, and that a report is not lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_node import clock
from dicom_node.db.commitments import recent_commitments
from dicom_node.db.models import Commitment, Instance, Peer
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import PeerUnavailable
from dicom_node.net.commitment import CLASS_CONFLICT, NO_SUCH_INSTANCE, CommitmentOrder
from dicom_node.net.scp import Listener, Receiver
from dicom_node.net.scu import Address, associate
from dicom_node.pipeline.commitments import keep_order, report_due
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake

NOW = clock.now()
CT, MR = str(CTImageStorage), str(MRImageStorage)


class Modality:
    """A peer that asks for commitment and takes the report."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.answer = 0
        ae = AE("SENDER")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)]
        )
        self.port = int(self._server.socket.getsockname()[1])

    def _take(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((event.request.EventTypeID, event.event_information))
        return self.answer, None

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def modality() -> Iterator[Modality]:
    running = Modality()
    yield running
    running.close()


@pytest.fixture
def known(modality: Modality, databases: Databases) -> None:
    with transaction(databases.hospital) as session:
        session.add(
            Peer(
                name="CT 1", ae_title="SENDER", host="127.0.0.1", port=modality.port, may_send=True,
                receives_results=False,
            )
        )  # fmt: skip


@contextmanager
def node(databases: Databases) -> Iterator[Receiver]:
    running = Receiver(
        "NODE",
        [Listener("127.0.0.1", 0)],
        lambda arrival: None,
        order=lambda order: keep_order(databases, order, NOW),
    )
    try:
        yield running
    finally:
        running.close()


def ask(running: Receiver, references: list[tuple[str, str]], transaction_uid: str, action: int = 1) -> int:
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = []
    for sop_class, uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        request.ReferencedSOPSequence.append(item)
    address = Address("NODE", "127.0.0.1", running.port, "SENDER")
    with associate(address, [build_context(StorageCommitmentPushModel)]) as assoc:
        status, _ = assoc.send_n_action(request, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    return int(status.Status)


@pytest.fixture
def keep(databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]) -> Callable[[], str]:
    intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)

    def one() -> str:
        arrival = make_arrival()
        intake.keep(arrival, NOW)
        return arrival.sop_instance_uid

    return one


def only(databases: Databases) -> Commitment:
    with transaction(databases.hospital) as session:
        (row,) = recent_commitments(session)
        return row


@pytest.mark.usefixtures("known")
def test_what_is_kept_is_committed(
    databases: Databases, settings: Settings, keep: Callable[[], str], modality: Modality
) -> None:
    uids, transaction_uid = [keep(), keep()], generate_uid()
    with node(databases) as running:
        assert ask(running, [(CT, uid) for uid in uids], transaction_uid) == 0
    assert only(databases).state == "WAITING"
    assert report_due(databases, settings, NOW) == 1
    ((event_type, information),) = modality.reports
    assert event_type == 1
    assert information.TransactionUID == transaction_uid
    assert [item.ReferencedSOPInstanceUID for item in information.ReferencedSOPSequence] == uids
    assert "FailedSOPSequence" not in information
    assert only(databases).state == "REPORTED"
    assert report_due(databases, settings, NOW + timedelta(days=1)) == 0


@pytest.mark.usefixtures("known")
def test_what_is_not_kept_whole_is_reported_as_failed_with_its_reason(
    databases: Databases, settings: Settings, keep: Callable[[], str], modality: Modality
) -> None:
    whole, cut, lost, unknown = keep(), keep(), keep(), generate_uid()
    with transaction(databases.hospital) as session:
        paths = {row.sop_instance_uid: settings.hospital_dir / row.path for row in session.query(Instance)}
    paths[lost].unlink()
    paths[cut].write_bytes(paths[cut].read_bytes()[:200])
    with node(databases) as running:
        asked = [(CT, whole), (CT, cut), (CT, lost), (CT, unknown), (MR, whole)]
        assert ask(running, asked, generate_uid()) == 0
    report_due(databases, settings, NOW)
    ((event_type, information),) = modality.reports
    assert event_type == 2
    assert [item.ReferencedSOPInstanceUID for item in information.ReferencedSOPSequence] == [whole]
    failed = [(str(i.ReferencedSOPInstanceUID), i.FailureReason) for i in information.FailedSOPSequence]
    assert failed == [
        (cut, NO_SUCH_INSTANCE),
        (lost, NO_SUCH_INSTANCE),
        (unknown, NO_SUCH_INSTANCE),
        (whole, CLASS_CONFLICT),
    ]


@pytest.mark.parametrize(
    ("references", "transaction_uid", "action"),
    [([], "1.2.3", 1), ([(CT, "1.2")], "", 1), ([(CT, "no uid")], "1.2.3", 1), ([(CT, "1.2")], "1.2.3", 2)],
)
def test_a_request_that_is_none_is_refused_and_leaves_no_row(
    databases: Databases, references: list[tuple[str, str]], transaction_uid: str, action: int
) -> None:
    with node(databases) as running:
        assert ask(running, references, transaction_uid, action) == 0x0115
    with transaction(databases.hospital) as session:
        assert recent_commitments(session) == []


@pytest.mark.usefixtures("known")
def test_a_peer_that_is_away_gets_its_report_later(
    databases: Databases, settings: Settings, keep: Callable[[], str], modality: Modality
) -> None:
    keep_order(databases, CommitmentOrder("SENDER", generate_uid(), ((CT, keep()),)), NOW)
    modality.answer = 0x0110
    assert report_due(databases, settings, NOW) == 0
    row = only(databases)
    assert (row.state, row.attempts) == ("WAITING", 1)
    assert "did not take" in row.sentence
    assert report_due(databases, settings, NOW) == 0, "not before the pause is over"
    modality.answer = 0
    assert report_due(databases, settings, row.due_at) == 1
    assert only(databases).state == "REPORTED"


def test_a_requester_nobody_knows_is_given_up_in_the_end(databases: Databases, settings: Settings) -> None:
    patient = settings.model_copy(update={"delivery_attempts": 2})
    keep_order(databases, CommitmentOrder("STRANGER", "1.2.3", ((CT, "1.2"),)), NOW)
    report_due(databases, patient, NOW)
    report_due(databases, patient, NOW + timedelta(hours=2))
    row = only(databases)
    assert (row.state, row.attempts) == ("FAILED", 2)
    assert "not a peer" in row.sentence


@pytest.mark.usefixtures("known")
def test_the_same_transaction_asked_again_is_reported_again(
    databases: Databases, settings: Settings, keep: Callable[[], str], modality: Modality
) -> None:
    order = CommitmentOrder("SENDER", "1.2.3", ((CT, keep()),))
    for _ in range(2):
        keep_order(databases, order, NOW)
        report_due(databases, settings, NOW)
    assert len(modality.reports) == 2
    only(databases)


def test_without_the_service_the_context_is_not_accepted(databases: Databases) -> None:
    running = Receiver("NODE", [Listener("127.0.0.1", 0)], lambda arrival: None)
    try:
        with pytest.raises(PeerUnavailable):
            ask(running, [(CT, "1.2")], "1.2.3")
    finally:
        running.close()
