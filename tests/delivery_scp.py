"""An archive whose answers a test chooses: statuses of C-STORE, commitment, and what a query finds."""

from collections.abc import Iterator
from threading import Timer

from pydicom import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)


class Archive:
    """A running archive.

    Attributes
    ----------
    statuses
        C-STORE status by SOP Instance UID; 0x0000 for any other.
    next_statuses
        Of the next C-STOREs, before ``statuses``.
    held
        What it has accepted, and finds.
    sent
        SOP Instance UIDs in the order they were offered.
    asked
        Transactions of storage commitment: UID and SOP Instance UIDs.
    reports_at_once
        Whether it reports on the association of the request.
    failing
        Instances it does not commit itself to, with reasons.
    action_status
        Its answer to a request for commitment.
    """

    def __init__(self, *, with_commitment: bool = True, with_find: bool = True) -> None:
        self.statuses: dict[str, int] = {}
        self.next_statuses: list[int] = []
        self.held: set[str] = set()
        self.hidden: set[str] = set()
        self.sent: list[str] = []
        self.asked: list[tuple[str, list[str]]] = []
        self.failing: dict[str, int] = {}
        self.reports_at_once = False
        self.action_status = 0x0000
        ae = AE("PACS")
        ae.supported_contexts = AllStoragePresentationContexts[:126]
        ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2")
        ae.add_supported_context(Verification)
        if with_commitment:
            ae.add_supported_context(StorageCommitmentPushModel)
        if with_find:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_N_ACTION, self._action),
                (evt.EVT_C_FIND, self._find),
            ],
        )
        self.port = int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Stop; once more does nothing."""
        if self._server in self._server.ae._servers:
            self._server.shutdown()

    def report(self, port: int, transaction: str = "", *, calling_aet: str = "PACS", called_aet: str = "NODE") -> int:
        """Report on a transaction - the last one - on an association of its own; return the status of the answer."""
        uid, instances = next((one for one in self.asked if one[0] == transaction), self.asked[-1])
        ae = AE(calling_aet)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        assoc = ae.associate(
            "127.0.0.1", port, [build_context(StorageCommitmentPushModel)], ae_title=called_aet, ext_neg=[role]
        )
        assert assoc.is_established
        try:
            return self._send_report(assoc, uid, instances)
        finally:
            assoc.release()

    def _send_report(self, assoc: object, uid: str, instances: list[str]) -> int:
        status, _ = assoc.send_n_event_report(  # type: ignore[attr-defined]
            self.information(uid, instances),
            2 if self.failing else 1,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        return int(status.Status)

    def information(self, uid: str, instances: list[str]) -> Dataset:
        """Return what a report says."""
        information = Dataset()
        information.TransactionUID = uid
        information.ReferencedSOPSequence = [_item(one) for one in instances if one not in self.failing]
        failed = [_item(one) for one in instances if one in self.failing]
        for item in failed:
            item.FailureReason = self.failing[item.ReferencedSOPInstanceUID]
        if failed:
            information.FailedSOPSequence = failed
        return information

    def _store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.sent.append(uid)
        status = self.next_statuses.pop(0) if self.next_statuses else self.statuses.get(uid, 0x0000)
        if status in (0x0000, 0x0111) or 0xB000 <= status <= 0xBFFF:
            self.held.add(uid)
        return status

    def _action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        request = event.action_information
        instances = [str(item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence]
        self.asked.append((str(request.TransactionUID), instances))
        if self.reports_at_once:
            Timer(0.2, self._send_report, (event.assoc, *self.asked[-1])).start()
        return self.action_status, None

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for uid in sorted(self.held - self.hidden):
            match = Dataset()
            match.QueryRetrieveLevel = "IMAGE"
            match.StudyInstanceUID = event.identifier.StudyInstanceUID
            match.SOPInstanceUID = uid
            yield 0xFF00, match


def _item(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = uid
    return item
