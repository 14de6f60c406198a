"""Storage commitment (PS3.4 annex J): what a peer asks to be promised, and the report it gets.

The node is the provider: it takes the request (N-ACTION) and reports (N-EVENT-REPORT) on an association that it opens
to the peer itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_node.errors import PeerUnavailable
from dicom_node.net.contexts import UNCOMPRESSED
from dicom_node.net.scu import Address, associate

ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""Event types (PS3.4 J.3.3)."""
REQUEST_COMMITMENT = 1
"""Action type (PS3.4 J.3.2)."""

NO_SUCH_INSTANCE = 0x0112
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


def order_from(event: evt.Event, calling_aet: str) -> CommitmentOrder | None:
    """Read an N-ACTION; None when it is no request for commitment, or names no transaction or no instance."""
    try:
        if event.request.ActionTypeID != REQUEST_COMMITMENT:
            return None
        argument = event.action_information
        transaction = str(argument.get("TransactionUID", ""))
        references = tuple(
            (str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
            for item in argument.get("ReferencedSOPSequence", ())
        )
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way
        return None
    if not references or not all(UID(uid).is_valid for uid in (transaction, *(one[1] for one in references))):
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
