"""Queries on rules, on where studies stand, on operators' orders, PACS answers and receiving associations."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from dicom_node.db.models import Peer, Result, StudyVersion
from dicom_node.db.peers import all_peers, destinations
from dicom_node.db.routing_tables import PacsAnswer, ReceivingAssociation, RuleRevision, StudyOrder, StudyRoute
from dicom_node.db.studies import Choose
from dicom_node.errors import ConfigurationError, NotFound


def newest_revision(session: Session) -> RuleRevision | None:
    """Return the rules in force; None as long as nobody has changed those of a fresh install."""
    return session.scalar(select(RuleRevision).order_by(RuleRevision.number.desc()).limit(1))


def find_revision(session: Session, number: int) -> RuleRevision:
    """Return a revision of the rules.

    Raises
    ------
    NotFound
        When there is none of that number.
    """
    found = session.get(RuleRevision, number)
    if found is None:
        raise NotFound(f"There is no revision {number} of the rules.")
    return found


def revisions(session: Session, limit: int = 50) -> list[RuleRevision]:
    """Return the newest revisions, newest first."""
    return list(session.scalars(select(RuleRevision).order_by(RuleRevision.number.desc()).limit(limit)))


def add_revision(session: Session, revision: RuleRevision, based_on: int) -> None:
    """Put new rules in force.

    Raises
    ------
    ConfigurationError
        When somebody else changed the rules after ``based_on`` was read.
    """
    newest = newest_revision(session)
    if (newest.number if newest is not None else 0) != based_on:
        raise ConfigurationError("Somebody else changed the rules meanwhile; look at them and try again.")
    session.add(revision)
    session.flush()


def routes_of(session: Session, choose: Choose) -> dict[str, StudyRoute]:
    """Return study -> where it stood when it was last looked at."""
    wanted = select(StudyRoute).where(choose(StudyRoute.study_instance_uid))
    return {row.study_instance_uid: row for row in session.scalars(wanted)}


def newest_routes(session: Session, limit: int) -> list[StudyRoute]:
    """Return the studies looked at whose images came last."""
    return list(session.scalars(select(StudyRoute).order_by(StudyRoute.last_arrival.desc()).limit(limit)))


def newest_orders(session: Session, choose: Choose) -> dict[str, StudyOrder]:
    """Return study -> the newest order of an operator for it."""
    newest = select(func.max(StudyOrder.id)).group_by(StudyOrder.study_instance_uid)
    wanted = select(StudyOrder).where(StudyOrder.id.in_(newest), choose(StudyOrder.study_instance_uid))
    return {row.study_instance_uid: row for row in session.scalars(wanted)}


def orders_of(session: Session, study_instance_uid: str) -> list[StudyOrder]:
    """Return every order for a study, oldest first."""
    wanted = select(StudyOrder).where(StudyOrder.study_instance_uid == study_instance_uid)
    return list(session.scalars(wanted.order_by(StudyOrder.id)))


def close_orders(session: Session, ids: Iterable[int]) -> None:
    """Mark orders as carried out."""
    session.execute(update(StudyOrder).where(StudyOrder.id.in_(list(ids))).values(is_open=False))


def queried_peers(session: Session) -> list[Peer]:
    """Peers that may be asked for studies, by name."""
    return [peer for peer in all_peers(session) if peer.is_queried]


def answers_of(session: Session, choose: Choose) -> dict[str, list[PacsAnswer]]:
    """Return study -> what peers answered last about it."""
    found: dict[str, list[PacsAnswer]] = {}
    for row in session.scalars(select(PacsAnswer).where(choose(PacsAnswer.study_instance_uid))):
        found.setdefault(row.study_instance_uid, []).append(row)
    return found


def keep_answer(session: Session, answer: PacsAnswer) -> None:
    """Keep a peer's answer in place of its last one, and have the study looked at."""
    session.merge(answer)
    session.execute(
        update(StudyRoute)
        .where(StudyRoute.study_instance_uid == answer.study_instance_uid, StudyRoute.due_at.is_not(None))
        .values(due_at=answer.asked_at)
    )


def results_of_study(session: Session, study_instance_uid: str) -> set[str]:
    """SOP Instance UIDs of every result this node made of a study."""
    jobs = select(StudyVersion.job_id).where(StudyVersion.study_instance_uid == study_instance_uid)
    return set(session.scalars(select(Result.sop_instance_uid).where(Result.job_id.in_(jobs))))


def chosen_destinations(session: Session, version: StudyVersion, sent_by: set[str]) -> list[Peer]:
    """Peers that get the results of a version: those its rule names, or else as the peers' own settings say.

    A peer that was removed, or no longer receives results, gets nothing for all that a rule names it.
    """
    names = version.destinations.splitlines()
    if not names:
        return destinations(session, sent_by)
    return [peer for peer in all_peers(session) if peer.receives_results and peer.name in names]


def open_association(session: Session, association_id: str, calling_aet: str, now: datetime) -> None:
    """Note an association before its first instance is acknowledged; a second call changes nothing."""
    if session.get(ReceivingAssociation, association_id) is None:
        session.add(ReceivingAssociation(id=association_id, calling_aet=calling_aet, opened_at=now, outcome=None))


def end_association(session: Session, association_id: str, outcome: str) -> None:
    """Note how an association ended."""
    session.execute(
        update(ReceivingAssociation)
        .where(ReceivingAssociation.id == association_id, ReceivingAssociation.outcome.is_(None))
        .values(outcome=outcome[:32])
    )


def end_all_associations(session: Session, outcome: str = "lost") -> None:
    """End what a process that is no more left open; called before any receiver listens."""
    session.execute(update(ReceivingAssociation).where(ReceivingAssociation.outcome.is_(None)).values(outcome=outcome))


def sweep_associations(session: Session, before: datetime) -> None:
    """Forget associations that began before a time; studies they brought count as brought by none."""
    session.execute(
        delete(ReceivingAssociation).where(
            ReceivingAssociation.opened_at < before, ReceivingAssociation.outcome.is_not(None)
        )
    )


def unknown_peers(session: Session, names: Sequence[str]) -> list[str]:
    """Return which of these names no peer has."""
    known = {peer.name for peer in all_peers(session)}
    return [name for name in names if name not in known]
