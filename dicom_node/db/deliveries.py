"""Queries on results and their deliveries."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.db.delivery_tables import AskedCommitment, Refusal
from dicom_node.db.models import REJECTION_KIND, RESULT_KINDS, SR_KINDS, Delivery, Peer, Receipt, Result, StudyVersion


def results_of(session: Session, job_id: str, attempt: int) -> list[Result]:
    """Return the result objects of an attempt of a job, in the order they are sent."""
    wanted = select(Result).where(Result.job_id == job_id, Result.attempt == attempt)
    return list(session.scalars(wanted.order_by(Result.path)))


def replace_results(session: Session, job_id: str, attempt: int, results: list[Result]) -> None:
    """Record the results of an attempt; whatever the job had before and no peer has accepted is withdrawn."""
    accepted = select(Receipt.sop_instance_uid)
    is_new = Result.sop_instance_uid.in_([one.sop_instance_uid for one in results])
    session.execute(
        delete(Result).where(
            Result.job_id == job_id,
            or_(Result.attempt != attempt, ~is_new),
            Result.sop_instance_uid.not_in(accepted),
        )
    )
    for result in results:
        session.merge(result)


def delivered_reports(session: Session, version: StudyVersion) -> list[Result]:
    """Structured reports of this study that a peer has, of earlier versions and attempts: what a new one replaces."""
    jobs = select(StudyVersion.job_id).where(
        StudyVersion.study_instance_uid == version.study_instance_uid, StudyVersion.version <= version.version
    )
    delivered = select(Receipt.sop_instance_uid)
    wanted = select(Result).where(
        Result.job_id.in_(jobs), Result.kind.in_(SR_KINDS), Result.sop_instance_uid.in_(delivered)
    )
    return list(session.scalars(wanted.order_by(Result.path)))


def deliveries_of(session: Session, job_id: str) -> list[tuple[Delivery, Peer]]:
    """Deliveries of a job with their peers."""
    rows = session.execute(
        select(Delivery, Peer)
        .join(Peer, Peer.id == Delivery.peer_id)
        .where(Delivery.job_id == job_id)
        .order_by(Peer.name)
    )
    return [(delivery, peer) for delivery, peer in rows]


def deliveries_of_jobs(session: Session, job_ids: list[str]) -> dict[str, list[tuple[Delivery, Peer]]]:
    """Deliveries of several jobs with their peers, by job."""
    found: dict[str, list[tuple[Delivery, Peer]]] = {}
    rows = session.execute(
        select(Delivery, Peer)
        .join(Peer, Peer.id == Delivery.peer_id)
        .where(Delivery.job_id.in_(job_ids))
        .order_by(Peer.name)
    )
    for delivery, peer in rows:
        found.setdefault(delivery.job_id, []).append((delivery, peer))
    return found


def open_deliveries(session: Session, job_id: str, attempt: int, peers: list[Peer], now: datetime) -> list[int]:
    """Open the deliveries of an attempt's results, to these peers and to those an earlier attempt went to.

    Returns
    -------
    list of int
        Their ids. One that is open for this attempt already stays as it is.
    """
    existing = {delivery.peer_id: delivery for delivery, _ in deliveries_of(session, job_id)}
    for peer in peers:
        if peer.id not in existing:
            existing[peer.id] = Delivery(job_id=job_id, peer_id=peer.id, attempt=0, number=0)
            session.add(existing[peer.id])
    for delivery in existing.values():
        if delivery.attempt != attempt:
            delivery.attempt = attempt
            begin_again(delivery, now)
    session.flush()
    return sorted(delivery.id for delivery in existing.values())


def begin_again(delivery: Delivery, now: datetime) -> None:
    """Put a delivery back to its start, with all its tries before it; what the peer has it keeps."""
    delivery.state, delivery.sentence, delivery.given_up_from = "PENDING", "", ""
    wake(delivery, now)


def wake(delivery: Delivery, now: datetime) -> None:
    """Make the next try of a delivery due now, with all its tries before it; one that waits or runs counts no more."""
    delivery.number = delivery.number + 1
    delivery.attempts, delivery.next_try_at, delivery.updated_at = 0, now, now


def due_deliveries(session: Session, now: datetime) -> list[Delivery]:
    """Return the deliveries whose next try is due and not yet handed to the engine."""
    due = select(Delivery).where(Delivery.next_try_at <= now, Delivery.submitted < Delivery.number)
    return list(session.scalars(due.order_by(Delivery.next_try_at)))


def silent_deliveries(session: Session, since: datetime) -> list[Delivery]:
    """Return the deliveries that were handed to the engine and have not changed since a time."""
    silent = select(Delivery).where(
        Delivery.next_try_at < since, Delivery.submitted == Delivery.number, Delivery.updated_at < since
    )
    return list(session.scalars(silent))


def running_delivery(session: Session, delivery_id: int, number: int) -> Delivery | None:
    """Return a delivery for the try that is its own; None when another has taken its place, or nothing is to do.

    The row is held until the end of the transaction.
    """
    delivery = held_delivery(session, delivery_id)
    if delivery is None:
        return None
    is_current = delivery.number == number and delivery.next_try_at is not None and delivery.state != "FAILED"
    return delivery if is_current else None


def held_delivery(session: Session, delivery_id: int) -> Delivery | None:
    """Return a delivery as it is now, held until the end of the transaction; None where there is none.

    An UPDATE that changes nothing holds the row on PostgreSQL and the database on SQLite, which has no other lock.
    """
    session.execute(update(Delivery).where(Delivery.id == delivery_id).values(number=Delivery.number))
    return session.get(Delivery, delivery_id, populate_existing=True)


def accept(session: Session, delivery_id: int, sop_instance_uid: str, status: int, now: datetime) -> None:
    """Write the receipt of an object that a peer has just accepted; what was known of an earlier sending is past."""
    receipt = session.get(Receipt, (delivery_id, sop_instance_uid))
    if receipt is None:
        receipt = Receipt(delivery_id=delivery_id, sop_instance_uid=sop_instance_uid, sendings=0)
        session.add(receipt)
    receipt.status, receipt.received_at, receipt.sendings, receipt.is_lost = status, now, receipt.sendings + 1, False
    receipt.committed_at = receipt.commitment_status = receipt.found_at = None
    refusal = session.get(Refusal, (delivery_id, sop_instance_uid))
    if refusal is not None:
        session.delete(refusal)


def refuse(
    session: Session, delivery_id: int, sop_instance_uid: str, status: int | None, sentence: str, now: datetime
) -> int:
    """Write down that a peer did not take an object; return how often in a row."""
    refusal = session.get(Refusal, (delivery_id, sop_instance_uid))
    if refusal is None:
        refusal = Refusal(delivery_id=delivery_id, sop_instance_uid=sop_instance_uid, times=0)
        session.add(refusal)
    refusal.status, refusal.sentence, refusal.refused_at = status, sentence[:500], now
    refusal.times += 1
    return refusal.times


def mark_submitted(session: Session, delivery_id: int, number: int) -> None:
    """Note that a try was handed to the engine, unless a later one has become due."""
    _update(session, delivery_id, number, {"submitted": number})


def next_number(session: Session, delivery_id: int, number: int, now: datetime) -> None:
    """Make another try due in the place of one that is gone."""
    _update(session, delivery_id, number, {"number": number + 1, "next_try_at": now, "updated_at": now})


def _update(session: Session, delivery_id: int, number: int, values: dict[str, object]) -> None:
    session.execute(update(Delivery).where(Delivery.id == delivery_id, Delivery.number == number).values(**values))


def receipted_uids(session: Session, delivery_id: int) -> set[str]:
    """SOP Instance UIDs of what the peer of a delivery has accepted, in this attempt of the job or an earlier one."""
    return set(session.scalars(select(Receipt.sop_instance_uid).where(_held(delivery_id))))


def receipts_of(session: Session, delivery: Delivery) -> list[tuple[Result, Receipt]]:
    """Return what of a delivery's attempt the peer has accepted, with the receipts, in the order it was sent."""
    rows = session.execute(
        select(Result, Receipt)
        .join(Receipt, Receipt.sop_instance_uid == Result.sop_instance_uid)
        .where(_held(delivery.id), Result.job_id == delivery.job_id, Result.attempt == delivery.attempt)
        .order_by(Result.path)
    )
    return [(result, receipt) for result, receipt in rows]


def asked_commitments(session: Session, delivery_id: int) -> list[AskedCommitment]:
    """Return the requests for storage commitment of a delivery, oldest first."""
    wanted = select(AskedCommitment).where(AskedCommitment.delivery_id == delivery_id)
    return list(session.scalars(wanted.order_by(AskedCommitment.asked_at)))


def _held(delivery_id: int) -> ColumnElement[bool]:
    return and_(Receipt.delivery_id == delivery_id, ~Receipt.is_lost)


def unreceipted(session: Session, delivery: Delivery, peer: Peer) -> list[Result]:
    """Results of a delivery that the peer gets by its profile and has not yet accepted.

    The report is among them whatever was accepted: in which form a peer has it is decided by its class
    (``pipeline.variants``). Its forms in older classes are not: they are made of it when they are needed.
    """
    done = select(Receipt.sop_instance_uid).where(_held(delivery.id))
    variants = [kind for kind in SR_KINDS if kind != "sr"]
    kinds = [RESULT_KINDS[key] for key in peer.objects.split(",") if key]
    wanted = Result.kind.in_([*kinds, REJECTION_KIND]) if kinds else Result.kind.not_in(variants)
    return list(
        session.scalars(
            select(Result)
            .where(
                Result.job_id == delivery.job_id,
                Result.attempt == delivery.attempt,
                or_(Result.kind == "sr", Result.sop_instance_uid.not_in(done)),
                wanted,
            )
            .order_by(Result.path)
        )
    )
