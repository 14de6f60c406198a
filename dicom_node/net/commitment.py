"""Storage commitment (PS3.4 annex J), in both roles.

As provider the node takes a peer's request (N-ACTION) and reports (N-EVENT-REPORT) on an association that it opens to
the peer itself. As user it asks a peer to promise the safekeeping of what it was sent; the peer reports on the same
association, or later on one of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from pydicom import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_node.errors import DeliveryRefused, NothingAccepted, PeerUnavailable
from dicom_node.net.contexts import UNCOMPRESSED
from dicom_node.net.outcomes import in_words, outcome_of
from dicom_node.net.scu import Address, associate
from dicom_node.uids import is_uid

ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""Event types (PS3.4 J.3.3)."""
REQUEST_COMMITMENT = 1
"""Action type (PS3.4 J.3.2)."""

PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
"""No such transaction, or nothing that can be read (PS3.7 C.5.3)."""
CLASS_CONFLICT = 0x0119
"""Failure reasons (PS3.3 C.14.1.1)."""

Reference = tuple[str, str]
"""SOP Class UID and SOP Instance UID."""


@dataclass(frozen=True, slots=True)
class CommitmentOrder:
    """One request: who asks, its transaction, and the instances to be promised."""

    calling_aet: str
    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The instances that are safe, and those that are not, each with its failure reason."""

    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]


def order_from(action_type: int | None, argument: Dataset, calling_aet: str) -> CommitmentOrder | None:
    """Read an N-ACTION; None when it is no request for commitment, or names no transaction or no instance."""
    try:
        if action_type != REQUEST_COMMITMENT:
            return None
        transaction = str(argument.get("TransactionUID", ""))
        references = tuple(
            (str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
            for item in argument.get("ReferencedSOPSequence", ())
        )
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way
        return None
    if not references or not all(is_uid(uid) for uid in (transaction, *(one[1] for one in references))):
        return None
    return CommitmentOrder(calling_aet, transaction, references)


def report(address: Address, transaction_uid: str, verdict: Verdict) -> None:
    """Tell a peer what is safe, in the role of the provider (PS3.4 J.3.3, PS3.7 D.3.3.4).

    Raises
    ------
    PeerUnavailable
        When the peer is away, takes no such report, or does not answer it with success.
    """
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    context = build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))
    with associate(address, [context], ext_neg=[role]) as assoc:
        event_type = FAILURES_EXIST if verdict.failed else ALL_COMMITTED
        try:
            status, _ = assoc.send_n_event_report(
                _information(transaction_uid, verdict),
                event_type,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
        except (ValueError, RuntimeError):
            raise PeerUnavailable(f"{address.ae_title} accepts no report of storage commitment.") from None
    if status.get("Status") != 0:
        raise PeerUnavailable(f"{address.ae_title} did not take the report of storage commitment.")


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a peer says of a transaction of ours: SOP Instance UIDs it keeps, and those it does not, with reasons."""

    calling_aet: str
    transaction_uid: str
    committed: frozenset[str]
    failed: tuple[tuple[str, int], ...]


TakeReport = Callable[[CommitmentReport], int]
"""Makes a report durable and returns the status that the peer gets."""


def report_from(information: Dataset, calling_aet: str) -> CommitmentReport | None:
    """Read the information of an N-EVENT-REPORT; None when it names no transaction, or cannot be read."""
    try:
        transaction = str(information.get("TransactionUID", ""))
        committed = frozenset(str(item.ReferencedSOPInstanceUID) for item in _sequence(information, "ReferencedSOP"))
        failed = tuple(
            (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or PROCESSING_FAILURE))
            for item in _sequence(information, "FailedSOP")
        )
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way
        return None
    if not is_uid(transaction):
        return None
    return CommitmentReport(calling_aet, transaction, committed, failed)


def _sequence(information: Dataset, name: str) -> Iterator[Dataset]:
    yield from information.get(f"{name}Sequence") or ()


def ask_for_commitment(
    address: Address, transaction_uid: str, references: Sequence[Reference], take: TakeReport, wait_s: float
) -> None:
    """Ask a peer to commit itself to the safekeeping of instances (PS3.4 J.3.2).

    Parameters
    ----------
    address
        The peer.
    transaction_uid
        Of this request; on record before this call, for the report may come at once.
    references
        The instances.
    take
        Takes a report that comes on the same association.
    wait_s
        The association is kept open so long for it.

    Raises
    ------
    PeerUnavailable
        When the peer is away or cannot take the request now: ask again later.
    DeliveryRefused
        When it offers no storage commitment, or refuses the request for good.
    """
    answered = Event()

    def event_report(event: evt.Event) -> tuple[int, Dataset | None]:
        report = report_from(_event_information(event), address.ae_title)
        status = INVALID_ARGUMENT if report is None else take(report)
        answered.set()
        return status, None

    context = build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = _items(references)
    try:
        with associate(address, [context], handlers=[(evt.EVT_N_EVENT_REPORT, event_report)]) as assoc:
            try:
                answer, _ = assoc.send_n_action(
                    request, REQUEST_COMMITMENT, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
                )
            except (ValueError, RuntimeError):
                raise PeerUnavailable(f"{address.ae_title} ended the association.") from None
            _judge(address, answer)
            answered.wait(wait_s)
    except NothingAccepted:
        raise DeliveryRefused(
            f"{address.ae_title} offers no storage commitment. Switch it off: osteonode peer set NAME --no-commitment."
        ) from None


def _judge(address: Address, answer: Dataset) -> None:
    """Raise what the answer to an N-ACTION means, unless it is success or a warning."""
    if "Status" not in answer:
        raise PeerUnavailable(f"{address.ae_title} gave no answer to a request for storage commitment.")
    status = int(answer.Status)
    sentence = f"{address.ae_title} answered a request for storage commitment with {in_words(status)}."
    match outcome_of(status):
        case "accepted":
            return
        case "later" | "limited":
            raise PeerUnavailable(sentence)
        case _:
            raise DeliveryRefused(sentence)


def _event_information(event: evt.Event) -> Dataset:
    try:
        return event.event_information
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way
        return Dataset()


def _information(transaction_uid: str, verdict: Verdict) -> Dataset:
    information = Dataset()
    information.TransactionUID = transaction_uid
    if verdict.committed:
        information.ReferencedSOPSequence = _items(verdict.committed)
    if verdict.failed:
        items = _items([reference for reference, _ in verdict.failed])
        for item, (_, reason) in zip(items, verdict.failed, strict=True):
            item.FailureReason = reason
        information.FailedSOPSequence = items
    return information


def _items(references: Sequence[Reference]) -> list[Dataset]:
    items = []
    for sop_class_uid, sop_instance_uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_instance_uid
        items.append(item)
    return items
