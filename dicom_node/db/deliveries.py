"""Queries on results and their deliveries."""

from datetime import datetime

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from dicom_node.db.models import REJECTION_KIND, RESULT_KINDS, SR_KINDS, Delivery, Peer, Receipt, Result, StudyVersion


def results_of(session: Session, job_id: str, attempt: int) -> list[Result]:
    """Return the result objects of an attempt of a job, in the order they are sent."""
    wanted = select(Result).where(Result.job_id == job_id, Result.attempt == attempt)
    return list(session.scalars(wanted.order_by(Result.path)))


def replace_results(session: Session, job_id: str, attempt: int, results: list[Result]) -> None:
    """Record the results of an attempt; those of earlier ones that no peer has accepted are withdrawn."""
    accepted = select(Receipt.sop_instance_uid)
    session.execute(
        delete(Result).where(
            Result.job_id == job_id, Result.attempt != attempt, Result.sop_instance_uid.not_in(accepted)
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
            existing[peer.id] = Delivery(job_id=job_id, peer_id=peer.id, attempt=0)
            session.add(existing[peer.id])
    for delivery in existing.values():
        if delivery.attempt != attempt:
            delivery.attempt, delivery.attempts = attempt, 0
            delivery.state, delivery.sentence, delivery.updated_at = "PENDING", "", now
    session.flush()
    return sorted(delivery.id for delivery in existing.values())


def receipted_uids(session: Session, delivery_id: int) -> set[str]:
    """SOP Instance UIDs of what the peer of a delivery has accepted, in this attempt of the job or an earlier one."""
    return set(session.scalars(select(Receipt.sop_instance_uid).where(Receipt.delivery_id == delivery_id)))


def unreceipted(session: Session, delivery: Delivery, peer: Peer) -> list[Result]:
    """Results of a delivery that the peer gets by its profile and has not yet accepted.

    The report is among them whatever was accepted: in which form a peer has it is decided by its class
    (``pipeline.variants``). Its forms in older classes are not: they are made of it when they are needed.
    """
    done = select(Receipt.sop_instance_uid).where(Receipt.delivery_id == delivery.id)
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
