"""Who may open an association: a pure verdict on calling AE title, address and number of associations.

The codes are those of A-ASSOCIATE-RJ (PS3.8 9.3.4): result 1 permanent or 2 transient, source, reason.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """An application entity that asks for an association, and the address its connection comes from."""

    calling_aet: str
    address: str


@dataclass(frozen=True, slots=True)
class Sender:
    """A peer that may send.

    Attributes
    ----------
    ae_title
        Its calling AE title.
    allowed_hosts
        IP addresses and networks (``10.1.0.0/16``) it may call from; empty: any.
    max_associations
        Of this peer at the same time; None: only the node's own limit holds.
    """

    ae_title: str
    allowed_hosts: tuple[str, ...] = ()
    max_associations: int | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """The codes of an A-ASSOCIATE-RJ, and the reason in one word for the log and the ledger."""

    result: int
    source: int
    diagnostic: int
    reason: str


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
        Every peer that may send.
    active
        Associations the same calling AE title has open already.
    """
    sender = next((one for one in senders if one.ae_title == caller.calling_aet), None)
    if sender is None:
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
