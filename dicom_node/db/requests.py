"""Queries on requests: what was asked for, what was found, what people decided, how a batch stands."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, func, insert, select, update
from sqlalchemy.orm import Session

from dicom_node.db.models import CT_CLASSES, Instance, StudyVersion
from dicom_node.db.request_tables import (
    OPEN_STATES,
    Request,
    RequestBatch,
    RequestEvent,
    RequestMatch,
)
from dicom_node.db.routing_tables import StudyRoute
from dicom_node.errors import ConfigurationError, NotFound

VALUES_PER_QUERY = 500
"""Well below SQLite's limit of bound parameters (sqlite.org/limits, 32766; 999 before 3.32)."""
MAX_SENTENCE = 1000


def add_all(session: Session, rows: Sequence[dict[str, Any]], batch: RequestBatch | None = None) -> None:
    """Add requests, each a dict of columns; of a batch with its own row first."""
    if batch is not None:
        session.add(batch)
        session.flush()
    if rows:
        session.execute(insert(Request), list(rows))


def get_request(session: Session, request_id: str, *, for_change: bool = False) -> Request:
    """Return a request; ``for_change``: as it is now, and nobody else changes it until the end of the transaction.

    An UPDATE that changes nothing holds the row on PostgreSQL and the database on SQLite, which has no other lock.

    Raises
    ------
    NotFound
        When there is none.
    """
    if for_change:
        session.execute(update(Request).where(Request.id == request_id).values(updated_at=Request.updated_at))
    row = session.get(Request, request_id, populate_existing=for_change)
    if row is None:
        raise NotFound(f"There is no request {request_id}.")
    return row


def get_batch(session: Session, batch_id: str) -> RequestBatch:
    """Return a batch.

    Raises
    ------
    NotFound
        When there is none.
    """
    row = session.get(RequestBatch, batch_id)
    if row is None:
        raise NotFound(f"There is no batch {batch_id}.")
    return row


def list_requests(
    session: Session, state: str = "", batch_id: str = "", reference: str = "", limit: int = 200
) -> list[Request]:
    """Return the newest requests first, of a state, a batch or a reference where one is given."""
    wanted = select(Request).order_by(Request.created_at.desc(), Request.batch_line).limit(limit)
    for column, value in ((Request.state, state), (Request.batch_id, batch_id), (Request.reference, reference)):
        if value:
            wanted = wanted.where(column == value)
    return list(session.scalars(wanted))


def requests_to_show(session: Session, state: str, batch_id: str, limit: int) -> list[Request]:
    """Return requests for the page: those that wait for a person first, then single ones, then those of batches."""
    urgency = case((Request.state == "CHOOSE", 0), (Request.batch_id.is_(None), 1), else_=2)
    wanted = select(Request).order_by(urgency, Request.created_at.desc(), Request.batch_line).limit(limit)
    for column, value in ((Request.state, state), (Request.batch_id, batch_id)):
        if value:
            wanted = wanted.where(column == value)
    return list(session.scalars(wanted))


def requests_of_batch(session: Session, batch_id: str) -> list[Request]:
    """Return every request of a batch in the order of its file."""
    return list(session.scalars(select(Request).where(Request.batch_id == batch_id).order_by(Request.batch_line)))


def recent_batches(session: Session, limit: int = 50) -> list[RequestBatch]:
    """Return the newest batches first."""
    return list(session.scalars(select(RequestBatch).order_by(RequestBatch.created_at.desc()).limit(limit)))


def count_states(session: Session, batch_ids: Collection[str] = ()) -> dict[str, Counter[str]]:
    """Count requests by batch and state; of the given batches, or all together under the empty name."""
    name = Request.batch_id if batch_ids else func.coalesce("", "")
    wanted = select(name, Request.state, func.count()).group_by(Request.state)
    if batch_ids:
        wanted = wanted.where(Request.batch_id.in_(batch_ids)).group_by(Request.batch_id)
    counts: dict[str, Counter[str]] = {}
    for batch_id, state, number in session.execute(wanted):
        counts.setdefault(str(batch_id), Counter())[state] = number
    return counts


def matches_of(session: Session, request_ids: Collection[str]) -> dict[str, list[RequestMatch]]:
    """Return the matches of requests, newest study first."""
    found: dict[str, list[RequestMatch]] = {}
    wanted = select(RequestMatch).where(RequestMatch.request_id.in_(request_ids))
    for match in session.scalars(wanted.order_by(RequestMatch.study_date.desc(), RequestMatch.id)):
        found.setdefault(match.request_id, []).append(match)
    return found


def events_of(session: Session, request_id: str) -> list[RequestEvent]:
    """Return the history of a request, oldest first."""
    wanted = select(RequestEvent).where(RequestEvent.request_id == request_id)
    return list(session.scalars(wanted.order_by(RequestEvent.id)))


def open_like(session: Session, rows: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], str]:
    """Return what is already asked for among rows: key of `sameness` -> reference of the open request."""
    references = [row["reference"] for row in rows]
    found: dict[tuple[Any, ...], str] = {}
    numbers = [row["patient_id"] for row in rows if row["patient_id"]]
    accessions = [row["accession_number"] for row in rows if row["accession_number"]]
    for column, values in (
        (Request.reference, references),
        (Request.patient_id, numbers),
        (Request.accession_number, accessions),
    ):
        for start in range(0, len(values), VALUES_PER_QUERY):
            chunk = values[start : start + VALUES_PER_QUERY]
            wanted = select(Request).where(Request.state.in_(OPEN_STATES), column.in_(chunk))
            for one in session.scalars(wanted):
                found[("reference", one.reference)] = one.reference
                found[sameness({name: getattr(one, name) for name in SOUGHT})] = one.reference
    return found


SOUGHT = ("patient_id", "accession_number", "study_date_from", "study_date_to", "modality", "project")


def sameness(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what makes two requests ask for the same thing."""
    return tuple(row[name] for name in SOUGHT)


def change(session: Session, row: Request, now: datetime, **values: Any) -> None:
    """Set columns of a request; a new state or sentence becomes part of its history."""
    if "sentence" in values:
        values["sentence"] = str(values["sentence"])[:MAX_SENTENCE]
    before = (row.state, row.sentence)
    for name, value in values.items():
        setattr(row, name, value)
    row.updated_at = now
    if (row.state, row.sentence) != before:
        session.add(RequestEvent(request_id=row.id, at=now, state=row.state, sentence=row.sentence))


def note(session: Session, request_id: str, now: datetime, sentence: str) -> None:
    """Add a sentence to the history of a request, unless it stands there already."""
    row = session.get(Request, request_id)
    if row is None or any(event.sentence == sentence for event in events_of(session, request_id)):
        return
    session.add(RequestEvent(request_id=request_id, at=now, state=row.state, sentence=sentence[:MAX_SENTENCE]))


def replace_matches(session: Session, request_id: str, matches: Iterable[RequestMatch]) -> None:
    """Put the matches of a search in the place of those of the one before."""
    session.execute(delete(RequestMatch).where(RequestMatch.request_id == request_id))
    session.add_all(matches)


def choose_match(session: Session, request_id: str, match_id: int, now: datetime) -> Request:
    """Take one of the matches as the study that was meant.

    Raises
    ------
    NotFound
        When there is no such request or match.
    ConfigurationError
        When nothing is to be chosen.
    """
    row = get_request(session, request_id, for_change=True)
    match = session.get(RequestMatch, match_id)
    if match is None or match.request_id != request_id:
        raise NotFound(f"Request {request_id} has no match {match_id}.")
    if row.state != "CHOOSE":
        raise ConfigurationError(f"Request {row.reference} is {row.state}; there is nothing to choose.")
    begin_retrieval(session, row, match, now)
    return row


def begin_retrieval(session: Session, row: Request, match: RequestMatch, now: datetime) -> None:
    """Say which study is retrieved from where; the waiting begins anew."""
    change(
        session,
        row,
        now,
        state="RETRIEVING",
        sentence="",
        study_instance_uid=match.study_instance_uid,
        found_peer_id=match.peer_id,
        found_patient_id=match.patient_id,
        expected_count=match.instance_count,
        received_count=0,
        attempts=0,
        wait_until=None,
        due_at=now,
    )


def cancel(session: Session, request_id: str, now: datetime) -> Request:
    """Cancel a request; a retrieval that is going on stops soon.

    Raises
    ------
    NotFound
        When there is no such request.
    ConfigurationError
        When it has ended.
    """
    row = get_request(session, request_id, for_change=True)
    if row.state not in OPEN_STATES:
        raise ConfigurationError(f"Request {row.reference} is {row.state}; only one that has not ended is cancelled.")
    change(session, row, now, state="CANCELLED", sentence=_cancelled(row), claimed_by="", claimed_until=None)
    return row


def _cancelled(row: Request) -> str:
    kept = "" if row.state != "RECEIVED" else " Its images and its job stay: a job is cancelled on the page of jobs."
    return f"Cancelled by a person.{kept}"


def cancel_batch(session: Session, batch_id: str, now: datetime) -> int:
    """Cancel what has not been received of a batch; return how many requests that were.

    Raises
    ------
    NotFound
        When there is no such batch.
    """
    get_batch(session, batch_id)
    wanted = select(Request.id).where(
        Request.batch_id == batch_id, Request.state.in_(("WAITING", "CHOOSE", "RETRIEVING"))
    )
    ids = list(session.scalars(wanted))
    sentence = "Cancelled by a person, with its batch."
    for start in range(0, len(ids), VALUES_PER_QUERY):
        chunk = ids[start : start + VALUES_PER_QUERY]
        session.execute(
            update(Request)
            .where(Request.id.in_(chunk))
            .values(state="CANCELLED", sentence=sentence, claimed_by="", claimed_until=None, updated_at=now)
        )
    if ids:
        session.execute(
            insert(RequestEvent),
            [{"request_id": one, "at": now, "state": "CANCELLED", "sentence": sentence} for one in ids],
        )
    return len(ids)


def retry(session: Session, request_id: str, now: datetime) -> Request:
    """Begin a request that failed or was cancelled again from its search.

    Raises
    ------
    NotFound
        When there is no such request.
    ConfigurationError
        When it has not ended, or its results are there.
    """
    row = get_request(session, request_id, for_change=True)
    if row.state not in ("FAILED", "CANCELLED"):
        raise ConfigurationError(
            f"Request {row.reference} is {row.state}; only one that failed or was cancelled is begun again."
        )
    replace_matches(session, request_id, ())
    change(
        session,
        row,
        now,
        state="WAITING",
        sentence="",
        study_instance_uid="",
        found_peer_id=None,
        found_patient_id="",
        expected_count=None,
        received_count=0,
        attempts=0,
        wait_until=None,
        due_at=now,
        job_id="",
    )
    return row


def held_instances(session: Session, study_instance_uid: str) -> dict[str, set[str]]:
    """Return series -> SOP Instance UIDs of what the node holds of a study."""
    wanted = select(Instance.series_instance_uid, Instance.sop_instance_uid)
    held: dict[str, set[str]] = {}
    for series, instance in session.execute(wanted.where(Instance.study_instance_uid == study_instance_uid)):
        held.setdefault(series, set()).add(instance)
    return held


def received_requests(session: Session) -> list[Request]:
    """Return the requests whose images are here and whose analysis has not ended."""
    return list(session.scalars(select(Request).where(Request.state == "RECEIVED")))


def newest_versions(session: Session) -> dict[str, StudyVersion]:
    """Return the newest version of each study received for a request, where it covers every CT image that is here."""
    studies = select(Request.study_instance_uid).where(Request.state == "RECEIVED")
    counted = (
        select(Instance.study_instance_uid, func.count())
        .where(Instance.study_instance_uid.in_(studies), ~Instance.is_own, Instance.sop_class_uid.in_(CT_CLASSES))
        .group_by(Instance.study_instance_uid)
    )
    ct_counts = {uid: number for uid, number in session.execute(counted)}  # noqa: C416 - rows are no pairs to dict
    wanted = select(StudyVersion).where(StudyVersion.study_instance_uid.in_(studies)).order_by(StudyVersion.version)
    newest = {version.study_instance_uid: version for version in session.scalars(wanted)}
    return {uid: version for uid, version in newest.items() if version.ct_count >= ct_counts.get(uid, 0)}


def final_routes(session: Session) -> dict[str, StudyRoute]:
    """Return where the studies received for a request stand, of those that get no job."""
    studies = select(Request.study_instance_uid).where(Request.state == "RECEIVED")
    wanted = select(StudyRoute).where(
        StudyRoute.study_instance_uid.in_(studies), StudyRoute.state.in_(("no_rule", "discarded", "own"))
    )
    return {route.study_instance_uid: route for route in session.scalars(wanted)}


def requests_for_study(session: Session, study_instance_uid: str) -> list[Request]:
    """Return the requests that a study is or was retrieved for, newest first.

    One that failed with its job is among them: the job may be run again.
    """
    wanted = select(Request).where(
        Request.study_instance_uid == study_instance_uid,
        Request.state.in_(("RETRIEVING", "RECEIVED", "DONE", "FAILED")),
    )
    return list(session.scalars(wanted.order_by(Request.created_at.desc())))


def asked_priority(session: Session, study_instance_uid: str) -> str:
    """Return the priority of the newest request that a study is retrieved for; empty where nobody asked for it."""
    wanted = select(Request.priority).where(
        Request.study_instance_uid == study_instance_uid, Request.state.in_(("RETRIEVING", "RECEIVED"))
    )
    return session.scalar(wanted.order_by(Request.created_at.desc()).limit(1)) or ""
