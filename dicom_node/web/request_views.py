"""What the page of requests and the REST interface show, read from both sides by job id."""

from collections import Counter
from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node import clock
from dicom_node.db.models import Job, Peer
from dicom_node.db.peers import all_peers
from dicom_node.db.request_tables import Request, RequestBatch, RequestMatch
from dicom_node.db.requests import (
    count_states,
    events_of,
    get_batch,
    get_request,
    list_requests,
    matches_of,
    recent_batches,
    requests_of_batch,
    requests_to_show,
)
from dicom_node.db.session import Databases, transaction
from dicom_node.jobs.offpeak import in_window
from dicom_node.pipeline.requests_csv import write_table
from dicom_node.pipeline.requests_following import jobs_by_id
from dicom_node.settings import Settings
from dicom_node.web.request_schemas import BatchOut, EventOut, MatchOut, RequestDetail, RequestOut, RequestPage

RESULT_COLUMNS = (
    "line",
    "reference",
    "state",
    "sentence",
    "images_expected",
    "images_received",
    "job_id",
    "job_state",
    "updated_at",
)
"""Of the table of results. It names requests by their reference; the patient's numbers stay in the database."""


def page(databases: Databases, settings: Settings, state: str, batch_id: str, limit: int) -> RequestPage:
    """Return what the page shows."""
    with transaction(databases.hospital) as session:
        rows = requests_to_show(session, state, batch_id, limit)
        counts = count_states(session, [batch_id] if batch_id else ()).get(batch_id, Counter())
        batches = _batches(session, recent_batches(session))
        sources = [peer.name for peer in all_peers(session) if peer.is_queried]
    return RequestPage(
        requests=_shown(databases, rows),
        counts=dict(counts),
        batches=batches,
        sources=sources,
        offpeak_hours=settings.offpeak_hours,
        is_offpeak=in_window(clock.now().astimezone(), settings.offpeak_hours),
    )


def requests(databases: Databases, state: str, batch_id: str, reference: str, limit: int) -> list[RequestOut]:
    """Return the newest requests first."""
    with transaction(databases.hospital) as session:
        rows = list_requests(session, state, batch_id, reference, limit)
    return _shown(databases, rows)


def request(databases: Databases, request_id: str) -> RequestDetail:
    """Return one request with its history.

    Raises
    ------
    NotFound
        When there is none.
    """
    with transaction(databases.hospital) as session:
        row = get_request(session, request_id)
        history = [EventOut.model_validate(event) for event in events_of(session, request_id)]
    (shown,) = _shown(databases, [row])
    return RequestDetail(**shown.model_dump(), history=history)


def batch(databases: Databases, batch_id: str) -> BatchOut:
    """Return how one batch stands.

    Raises
    ------
    NotFound
        When there is none.
    """
    with transaction(databases.hospital) as session:
        (shown,) = _batches(session, [get_batch(session, batch_id)])
    return shown


def result_lines(databases: Databases, batch_id: str) -> Iterator[str]:
    """Give the table of a batch's results as CSV, line by line.

    Raises
    ------
    NotFound
        When there is no such batch.
    """
    with transaction(databases.hospital) as session:
        get_batch(session, batch_id)
        rows = requests_of_batch(session, batch_id)
    jobs = jobs_by_id(databases, {row.job_id for row in rows if row.job_id})
    return write_table(RESULT_COLUMNS, (_result(row, jobs.get(row.job_id)) for row in rows))


def _result(row: Request, job: Job | None) -> tuple[object, ...]:
    return (
        row.batch_line,
        row.reference,
        row.state,
        row.sentence,
        row.expected_count,
        row.received_count,
        row.job_id,
        job.state if job is not None else "",
        row.updated_at.isoformat(),
    )


def _shown(databases: Databases, rows: Sequence[Request]) -> list[RequestOut]:
    with transaction(databases.hospital) as session:
        peers = {number: name for number, name in session.execute(select(Peer.id, Peer.name))}  # noqa: C416 - rows are no pairs to dict
        matches = matches_of(session, [row.id for row in rows if row.state == "CHOOSE"])
    jobs = jobs_by_id(databases, {row.job_id for row in rows if row.job_id})
    return [_one(row, peers, matches.get(row.id, []), jobs.get(row.job_id)) for row in rows]


def _one(row: Request, peers: dict[int, str], matches: list[RequestMatch], job: Job | None) -> RequestOut:
    shown = RequestOut.model_validate(row)
    shown.source = peers.get(row.source_peer_id or 0, "")
    shown.found_at = peers.get(row.found_peer_id or 0, "")
    shown.matches = [
        MatchOut(
            id=match.id,
            peer=peers.get(match.peer_id, ""),
            study_instance_uid=match.study_instance_uid,
            study_date=match.study_date,
            description=match.description,
            modalities=match.modalities,
            instance_count=match.instance_count,
        )
        for match in matches
    ]
    if job is not None:
        shown.job_state, shown.job_stage, shown.job_progress = job.state, job.stage, job.progress
    return shown


def _batches(session: Session, rows: Sequence[RequestBatch]) -> list[BatchOut]:
    if not rows:
        return []
    counts = count_states(session, [row.id for row in rows])
    return [_batch(row, counts.get(row.id, Counter())) for row in rows]


def _batch(row: RequestBatch, states: Counter[str]) -> BatchOut:
    return BatchOut(
        id=row.id,
        name=row.name,
        row_count=row.row_count,
        created_at=row.created_at,
        waiting=states["WAITING"],
        running=states["RETRIEVING"] + states["RECEIVED"],
        done=states["DONE"],
        failed=states["FAILED"],
        cancelled=states["CANCELLED"],
        to_choose=states["CHOOSE"],
    )
