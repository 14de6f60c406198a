"""Who may open an association, and which objects are refused by rule: pure verdicts.

The codes of a rejection are those of A-ASSOCIATE-RJ (PS3.8 9.3.4): result 1 permanent or 2 transient, source, reason.
The status of a refused object is one of C-STORE (PS3.4 B.2.3).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID

from dicom_node.net.contexts import is_storage
from dicom_node.net.statuses import CLASS_NOT_SUPPORTED, INVALID_INSTANCE


@dataclass(frozen=True, slots=True)
class Caller:
    """An application entity that asks for an association.

    Attributes
    ----------
    calling_aet
        Its AE title.
    address
        The address its connection comes from.
    only_reports
        It proposes nothing but storage commitment and verification, as for a report on what it was sent.
    """

    calling_aet: str
    address: str
    only_reports: bool = False


@dataclass(frozen=True, slots=True)
class Sender:
    """A peer that may call.

    Attributes
    ----------
    ae_title
        Its calling AE title.
    allowed_hosts
        IP addresses and networks (``10.1.0.0/16``) it may call from; empty: any.
    max_associations
        Of this peer at the same time; None: only the node's own limit holds.
    may_send
        Whether it may send; if not, it is let in only to report what it commits itself to.
    """

    ae_title: str
    allowed_hosts: tuple[str, ...] = ()
    max_associations: int | None = None
    may_send: bool = True


@dataclass(frozen=True, slots=True)
class Rejection:
    """The codes of an A-ASSOCIATE-RJ, and the reason in one word for the log and the ledger."""

    result: int
    source: int
    diagnostic: int
    reason: str


WRONG_CALLED_TITLE = Rejection(1, 1, 7, "called_ae_title_unknown")
NODE_LIMIT = Rejection(2, 3, 2, "node_limit_reached")
UNKNOWN_TITLE = Rejection(1, 1, 3, "calling_ae_title_unknown")
WRONG_HOST = Rejection(1, 1, 1, "host_not_allowed")
PEER_LIMIT = Rejection(2, 3, 2, "peer_limit_reached")
UNDECIDED = Rejection(2, 3, 1, "senders_unknown")
"""The list of senders could not be read: nobody is let in, and may try again."""


def admit(caller: Caller, senders: Sequence[Sender], active: int) -> Rejection | None:
    """Decide on one request; None lets it in.

    Parameters
    ----------
    caller
        Who asks.
    senders
        Every peer that may call.
    active
        Associations the same calling AE title has open already.
    """
    sender = next((one for one in senders if one.ae_title == caller.calling_aet), None)
    if sender is None or not (sender.may_send or caller.only_reports):
        return UNKNOWN_TITLE
    if sender.allowed_hosts and not any(holds(network, caller.address) for network in sender.allowed_hosts):
        return WRONG_HOST
    if sender.max_associations is not None and active >= sender.max_associations:
        return PEER_LIMIT
    return None


def holds(network: str, address: str) -> bool:
    """Tell whether an address or network, as an administrator writes it, holds an address.

    An IPv4 address that reached an IPv6 socket (``::ffff:10.0.0.1``) counts as the IPv4 address it is.
    """
    found = ipaddress.ip_address(address)
    plain = getattr(found, "ipv4_mapped", None) or found
    return plain in ipaddress.ip_network(network, strict=False)


WITHOUT_STUDY = (
    "1.2.840.10008.5.1.4.38.1",
    "1.2.840.10008.5.1.4.39.1",
    "1.2.840.10008.5.1.4.43.1",
    "1.2.840.10008.5.1.4.44.1",
    "1.2.840.10008.5.1.4.45.1",
    "1.2.840.10008.5.1.4.1.1.200.1",
    "1.2.840.10008.5.1.4.1.1.200.3",
    "1.2.840.10008.5.1.4.1.1.200.7",
    "1.2.840.10008.5.1.4.1.1.201.1",
)
"""Objects of no patient and no study: hanging protocols, palettes, implant templates, procedure protocols and
inventories (PS3.4 annex GG). There is nothing to analyse in them, and no study to keep them under."""
ANY_PRIVATE = "private"


def refusal_of(sop_class_uid: str, sop_instance_uid: str, refused: Sequence[str]) -> int | None:
    """Decide on an object before it comes; None takes it.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid
        As announced by the command.
    refused
        SOP classes the site does not want; ``private`` stands for every private one.

    Returns
    -------
    int or None
        0x0117 when it names no instance; 0x0122 when its SOP class is none of storage, is of no study, or is refused by
        the site.
    """
    if not sop_instance_uid:
        return INVALID_INSTANCE
    is_private = ANY_PRIVATE in refused and UID(sop_class_uid).is_private
    if not is_storage(sop_class_uid) or sop_class_uid in WITHOUT_STUDY or sop_class_uid in refused or is_private:
        return CLASS_NOT_SUPPORTED
    return None
