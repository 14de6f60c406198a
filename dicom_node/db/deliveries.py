"""Queries on results and their deliveries."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.db.models import Delivery, Peer, Receipt, Result


def results_of(session: Session, job_id: str) -> list[Result]:
    """Return the result objects of a job, in the order they are sent."""
    return list(session.scalars(select(Result).where(Result.job_id == job_id).order_by(Result.path)))


def deliveries_of(session: Session, job_id: str) -> list[tuple[Delivery, Peer]]:
    """Deliveries of a job with their peers."""
    rows = session.execute(
        select(Delivery, Peer)
        .join(Peer, Peer.id == Delivery.peer_id)
        .where(Delivery.job_id == job_id)
        .order_by(Peer.name)
    )
    return [(delivery, peer) for delivery, peer in rows]


def ensure_deliveries(session: Session, job_id: str, peers: list[Peer], now: datetime) -> list[int]:
    """Create the missing deliveries of a job and return the ids of all."""
    existing = {delivery.peer_id: delivery for delivery, _ in deliveries_of(session, job_id)}
    for peer in peers:
        if peer.id not in existing:
            existing[peer.id] = Delivery(
                job_id=job_id, peer_id=peer.id, state="PENDING", attempts=0, sentence="", updated_at=now
            )
            session.add(existing[peer.id])
    session.flush()
    return sorted(delivery.id for delivery in existing.values())


def unreceipted(session: Session, delivery_id: int) -> list[Result]:
    """Results of a delivery the peer has not yet accepted."""
    delivery = session.get_one(Delivery, delivery_id)
    done = select(Receipt.sop_instance_uid).where(Receipt.delivery_id == delivery_id)
    return list(
        session.scalars(
            select(Result)
            .where(Result.job_id == delivery.job_id, Result.sop_instance_uid.not_in(done))
            .order_by(Result.path)
        )
    )
