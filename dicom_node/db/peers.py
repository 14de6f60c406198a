"""Queries on peers."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db.models import Peer
from dicom_node.errors import ConfigurationError


def all_peers(session: Session) -> list[Peer]:
    """Every peer, by name."""
    return list(session.scalars(select(Peer).order_by(Peer.name)))


def sender_titles(session: Session) -> list[str]:
    """AE titles that may send."""
    return list(session.scalars(select(Peer.ae_title).where(Peer.may_send).order_by(Peer.ae_title)))


def add_peer(session: Session, peer: Peer) -> Peer:
    """Add a peer.

    Raises
    ------
    ConfigurationError
        When its name or AE title is taken.
    """
    taken = session.scalar(select(Peer).where((Peer.name == peer.name) | (Peer.ae_title == peer.ae_title)))
    if taken is not None:
        raise ConfigurationError(
            f"A peer named {taken.name} with AE title {taken.ae_title} exists already; names and AE titles are unique."
        )
    session.add(peer)
    session.flush()
    return peer


def remove_peer(session: Session, name: str) -> None:
    """Remove a peer by name.

    Raises
    ------
    ConfigurationError
        When there is no such peer.
    """
    peer = session.scalar(select(Peer).where(Peer.name == name))
    if peer is None:
        raise ConfigurationError(f"There is no peer named {name}.")
    session.delete(peer)


def destinations(session: Session, senders: set[str]) -> list[Peer]:
    """Peers that get the results of a study: its senders that receive results, or else all that do."""
    receivers = [peer for peer in all_peers(session) if peer.receives_results]
    back = [peer for peer in receivers if peer.ae_title in senders]
    return back or receivers
