"""Queries on peers."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db.models import Peer
from dicom_node.errors import ConfigurationError, NotFound


def all_peers(session: Session) -> list[Peer]:
    """Every peer, by name."""
    return list(session.scalars(select(Peer).where(~Peer.is_removed).order_by(Peer.name)))


def find_peer(session: Session, name: str) -> Peer:
    """Return a peer by name.

    Raises
    ------
    NotFound
        When there is no such peer.
    """
    peer = session.scalar(select(Peer).where(Peer.name == name, ~Peer.is_removed))
    if peer is None:
        raise NotFound(f"There is no peer named {name}; osteonode peer list shows them.")
    return peer


def senders(session: Session) -> list[Peer]:
    """Peers that may send."""
    return [peer for peer in all_peers(session) if peer.may_send]


def callers(session: Session) -> list[Peer]:
    """Peers that may call: those that may send, and those whose reports of storage commitment are awaited."""
    return [peer for peer in all_peers(session) if peer.may_send or peer.wants_commitment]


def peer_by_title(session: Session, ae_title: str) -> Peer | None:
    """Return the peer with an AE title, if there is one."""
    return session.scalar(select(Peer).where(Peer.ae_title == ae_title, ~Peer.is_removed))


def add_peer(session: Session, peer: Peer) -> Peer:
    """Add a peer; one with the name or AE title of a removed peer takes its place.

    Raises
    ------
    ConfigurationError
        When its name or AE title is taken.
    """
    for taken in session.scalars(select(Peer).where((Peer.name == peer.name) | (Peer.ae_title == peer.ae_title))):
        if not taken.is_removed:
            raise ConfigurationError(
                f"A peer named {taken.name} with AE title {taken.ae_title} exists already; "
                "names and AE titles are unique."
            )
        taken.name, taken.ae_title = f"removed {taken.id}", f"-{taken.id}"
    session.flush()
    session.add(peer)
    session.flush()
    return peer


def change_peer(session: Session, name: str, columns: Mapping[str, object]) -> Peer:
    """Set columns of a peer; what is not named stays.

    Raises
    ------
    NotFound
        When there is no such peer.
    ConfigurationError
        When the AE title is another peer's.
    """
    peer = find_peer(session, name)
    title = columns.get("ae_title", peer.ae_title)
    taken = session.scalar(select(Peer).where(Peer.ae_title == title, Peer.id != peer.id))
    if taken is not None and not taken.is_removed:
        raise ConfigurationError(f"Peer {taken.name} has AE title {title} already; AE titles are unique.")
    if taken is not None:
        taken.ae_title = f"-{taken.id}"
        session.flush()
    for column, value in columns.items():
        setattr(peer, column, value)
    session.flush()
    return peer


def remove_peer(session: Session, name: str) -> None:
    """Remove a peer by name; what it was sent stays on record.

    Raises
    ------
    NotFound
        When there is no such peer.
    """
    find_peer(session, name).is_removed = True


def restore_peer(session: Session, name: str) -> Peer:
    """Take back that a peer was removed.

    Raises
    ------
    NotFound
        When no removed peer has this name; one that a new peer took the place of cannot come back.
    """
    peer = session.scalar(select(Peer).where(Peer.name == name, Peer.is_removed))
    if peer is None or peer.ae_title.startswith("-"):
        raise NotFound(f"No removed peer is named {name}; add it again.")
    peer.is_removed = False
    return peer


def destinations(session: Session, sent_by: set[str]) -> list[Peer]:
    """Peers that get the results of a study: its senders that receive results, or else all that do."""
    receivers = [peer for peer in all_peers(session) if peer.receives_results]
    back = [peer for peer in receivers if peer.ae_title in sent_by]
    return back or receivers
