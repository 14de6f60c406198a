"""What people ask of deliveries: try now, give up, take that back, send again.

Every order is rows, and the node acts on them. Nothing here is lost by being asked twice.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from dicom_node.db.deliveries import begin_again, held_delivery, results_of, unreceipted, wake
from dicom_node.db.delivery_tables import AskedCommitment, Refusal
from dicom_node.db.models import SR_KINDS, Delivery, Peer, Receipt, Result
from dicom_node.db.peers import find_peer
from dicom_node.errors import ConfigurationError, NotFound


@dataclass(frozen=True, slots=True)
class Item:
    """One object of a delivery: what it is, and what the peer said of it, where it said anything."""

    result: Result
    receipt: Receipt | None
    refusal: Refusal | None


def find_delivery(session: Session, delivery_id: int, *, for_change: bool = False) -> Delivery:
    """Return a delivery by its number; ``for_change``: held until the end of the transaction.

    Raises
    ------
    NotFound
        When there is no such delivery.
    """
    delivery = held_delivery(session, delivery_id) if for_change else session.get(Delivery, delivery_id)
    if delivery is None:
        raise NotFound(f"There is no delivery {delivery_id}.")
    return delivery


def list_deliveries(session: Session, state: str = "", peer: str = "", limit: int = 200) -> list[tuple[Delivery, Peer]]:
    """Return deliveries with their peers, the last changed first.

    Parameters
    ----------
    session
        Hospital side.
    state, peer
        Only those in this state, to the peer of this name; empty: any.
    limit
        So many at most.
    """
    wanted = select(Delivery, Peer).join(Peer, Peer.id == Delivery.peer_id)
    if state:
        wanted = wanted.where(Delivery.state == state)
    if peer:
        wanted = wanted.where(Peer.name == peer)
    rows = session.execute(wanted.order_by(Delivery.updated_at.desc(), Delivery.id.desc()).limit(limit))
    return [(delivery, to) for delivery, to in rows]


def count_by_state(session: Session) -> dict[str, int]:
    """Return how many deliveries are in each state."""
    rows = session.execute(select(Delivery.state, func.count()).group_by(Delivery.state))
    return Counter({row[0]: row[1] for row in rows})


def count_receipts(session: Session, delivery_ids: list[int]) -> dict[int, int]:
    """Return how many objects of each delivery's attempt its peer has accepted."""
    rows = session.execute(
        select(Delivery.id, func.count(Receipt.sop_instance_uid))
        .join(Receipt, Receipt.delivery_id == Delivery.id)
        .join(Result, Result.sop_instance_uid == Receipt.sop_instance_uid)
        .where(Delivery.id.in_(delivery_ids), ~Receipt.is_lost, Result.attempt == Delivery.attempt)
        .group_by(Delivery.id)
    )
    return Counter({row[0]: row[1] for row in rows})


def items_of(session: Session, delivery: Delivery) -> list[Item]:
    """Return the objects of a delivery, in the order they are sent; the report in the form its peer has."""
    receipts = {
        row.sop_instance_uid: row for row in session.scalars(select(Receipt).where(Receipt.delivery_id == delivery.id))
    }
    refusals = {
        row.sop_instance_uid: row for row in session.scalars(select(Refusal).where(Refusal.delivery_id == delivery.id))
    }
    open_uids = {
        row.sop_instance_uid for row in unreceipted(session, delivery, session.get_one(Peer, delivery.peer_id))
    }
    rows = results_of(session, delivery.job_id, delivery.attempt)
    has_report = any(
        row.kind in SR_KINDS and row.sop_instance_uid in receipts and not receipts[row.sop_instance_uid].is_lost
        for row in rows
    )
    return [
        Item(row, receipts.get(row.sop_instance_uid), refusals.get(row.sop_instance_uid))
        for row in rows
        if row.sop_instance_uid in receipts
        or (row.sop_instance_uid in open_uids and not (row.kind == "sr" and has_report))
    ]


def retry(session: Session, delivery_id: int, now: datetime) -> Delivery:
    """Make the next try of a delivery due now, with all its tries before it; a failed one begins again.

    Raises
    ------
    NotFound
        When there is no such delivery.
    ConfigurationError
        When nothing is left to do.
    """
    delivery = find_delivery(session, delivery_id, for_change=True)
    if delivery.next_try_at is not None:
        wake(delivery, now)
    elif delivery.state == "FAILED":
        _forget_failures(session, delivery_id)
        begin_again(delivery, now)
    else:
        raise ConfigurationError(f"Delivery {delivery_id} is {delivery.state}; nothing is left to do. Send it again.")
    return delivery


def retry_all(session: Session, peer: str, now: datetime) -> int:
    """Retry every delivery to a peer that failed or waits, but not what a person gave up; return their number.

    Raises
    ------
    NotFound
        When there is no such peer.
    """
    to = find_peer(session, peer)
    wanted = select(Delivery.id).where(
        Delivery.peer_id == to.id,
        (Delivery.next_try_at.is_not(None)) | ((Delivery.state == "FAILED") & (Delivery.given_up_from == "")),
    )
    ids = list(session.scalars(wanted.order_by(Delivery.id)))
    for delivery_id in ids:
        retry(session, delivery_id, now)
    return len(ids)


def give_up(session: Session, delivery_id: int, now: datetime) -> Delivery:
    """End a delivery that waits or runs; what the peer has it keeps.

    Raises
    ------
    NotFound
        When there is no such delivery.
    ConfigurationError
        When it has ended.
    """
    delivery = find_delivery(session, delivery_id, for_change=True)
    if delivery.next_try_at is None:
        raise ConfigurationError(f"Delivery {delivery_id} is {delivery.state}; there is nothing to give up.")
    delivery.given_up_from, delivery.state = delivery.state, "FAILED"
    delivery.number, delivery.next_try_at, delivery.updated_at = delivery.number + 1, None, now
    delivery.sentence = "Given up by a person."
    return delivery


def undo(session: Session, delivery_id: int, now: datetime) -> Delivery:
    """Take back that a delivery was given up: it goes on where it was, now.

    Raises
    ------
    NotFound
        When there is no such delivery.
    ConfigurationError
        When nobody gave it up.
    """
    delivery = find_delivery(session, delivery_id, for_change=True)
    if not delivery.given_up_from:
        raise ConfigurationError(f"Delivery {delivery_id} was not given up by a person.")
    delivery.state, delivery.given_up_from, delivery.sentence = delivery.given_up_from, "", ""
    wake(delivery, now)
    return delivery


def send_again(session: Session, delivery_id: int, peer: str, now: datetime) -> Delivery:
    """Send what a delivery sends once more, to its own peer or to another; all of it, whatever is on record.

    Raises
    ------
    NotFound
        When there is no such delivery or peer.
    ConfigurationError
        When the peer receives no results.
    """
    source, to = find_delivery(session, delivery_id), find_peer(session, peer)
    if not to.receives_results:
        raise ConfigurationError(f"Peer {peer} receives no results; change that first.")
    delivery = session.scalar(select(Delivery).where(Delivery.job_id == source.job_id, Delivery.peer_id == to.id))
    if delivery is None:
        delivery = Delivery(job_id=source.job_id, peer_id=to.id, number=0)
        session.add(delivery)
    else:
        _forget_failures(session, delivery.id)
        session.execute(update(Receipt).where(Receipt.delivery_id == delivery.id).values(is_lost=True))
    delivery.attempt = source.attempt
    begin_again(delivery, now)
    session.flush()
    return delivery


def _forget_failures(session: Session, delivery_id: int) -> None:
    """Let what a delivery failed by count no more; what a peer did not commit itself to is sent again."""
    session.execute(update(Refusal).where(Refusal.delivery_id == delivery_id).values(times=0))
    session.execute(
        delete(AskedCommitment).where(AskedCommitment.delivery_id == delivery_id, AskedCommitment.state == "EXPIRED")
    )
    session.execute(update(Receipt).where(Receipt.delivery_id == delivery_id).values(sendings=1))
    session.execute(
        update(Receipt)
        .where(Receipt.delivery_id == delivery_id, Receipt.commitment_status.is_not(None))
        .values(is_lost=True)
    )
