"""REST about the network: who sent what, storage commitment, and the audit. Reading the audit is an event of it."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from threading import Lock
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse

from dicom_node import clock
from dicom_node.audit.events import KINDS, Party, audit_read, web_client
from dicom_node.audit.export import FORMATS
from dicom_node.audit.recorder import record
from dicom_node.audit.upkeep import problems
from dicom_node.db.associations import caller_summaries, recent_associations
from dicom_node.db.audit import READ_AT_ONCE, cursor, find_message, head, messages_after, page_of_messages
from dicom_node.db.audit_tables import AuditMessage
from dicom_node.db.commitments import recent_commitments
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from dicom_node.web.network_schemas import AssociationOut, AuditRowOut, AuditState, CallerOut, CommitmentOut

SUMMARY_OF = timedelta(hours=24)
TOLD_AGAIN_AFTER = timedelta(minutes=15)
"""Somebody who turns pages is told of once in so long."""
MAX_READERS = 1000
Kinds = Annotated[list[str] | None, Query()]
PageLength = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
"""Ids are 32-bit on PostgreSQL."""


def network_routes(databases: Databases, settings: Settings) -> APIRouter:
    """Make the routes about associations and storage commitment."""
    router = APIRouter(prefix="/api")

    @router.get("/associations")
    def associations(limit: PageLength = 200, before: Before = None, calling_aet: str = "") -> list[AssociationOut]:
        """List the associations that ended last: who sent how much, and how it ended."""
        with transaction(databases.hospital) as session:
            rows = recent_associations(session, limit, before, calling_aet[:16])
            return [AssociationOut.model_validate(row) for row in rows]

    @router.get("/network/callers")
    def callers() -> list[CallerOut]:
        """Sum up what each caller did in the last 24 hours."""
        with transaction(databases.hospital) as session:
            found = caller_summaries(session, clock.now() - SUMMARY_OF)
            return [CallerOut.model_validate(one) for one in found]

    @router.get("/commitments")
    def commitments() -> list[CommitmentOut]:
        """List the newest requests for storage commitment."""
        with transaction(databases.hospital) as session:
            return [CommitmentOut.model_validate(row) for row in recent_commitments(session)]

    router.include_router(_audit_routes(databases, settings))
    return router


def _audit_routes(databases: Databases, settings: Settings) -> APIRouter:
    router = APIRouter(prefix="/audit")
    tell = _teller(databases, settings)

    @router.get("")
    def audit(
        request: Request,
        limit: PageLength = 50,
        before: Before = None,
        kind: Kinds = None,
    ) -> list[AuditRowOut]:
        """List events, newest first."""
        tell(request, "a page of it")
        with transaction(databases.hospital) as session:
            rows = page_of_messages(session, limit, before, [one for one in kind or () if one in KINDS])
            return [AuditRowOut.model_validate(row) for row in rows]

    @router.get("/state")
    def state() -> AuditState:
        """Tell where the chain ends, how far it was checked and sent."""
        return _state(databases, settings)

    @router.get("/export")
    def export(request: Request, format: Literal["csv", "xml"] = "csv") -> StreamingResponse:  # noqa: A002 - the parameter's name in the address
        """Return the whole audit as a file."""
        record(databases, settings, audit_read(_reader(request), f"all of it, as a file ({format})"))
        with transaction(databases.hospital) as session:
            last = head(session).number

        headers = {"Content-Disposition": f'attachment; filename="audit.{format}"'}
        kind = {"csv": "text/csv; charset=utf-8", "xml": "application/xml"}[format]
        return StreamingResponse(FORMATS[format](_rows(databases, last)), media_type=kind, headers=headers)

    @router.get("/{number}")
    def message(request: Request, number: int) -> Response:
        """Return one message as it is sent to a receiver."""
        tell(request, "a page of it")
        with transaction(databases.hospital) as session:
            row = find_message(session, number)
        if row is None:
            raise HTTPException(404, f"The audit has no row {number}.")
        return Response(row.message, media_type="application/xml")

    return router


def _rows(databases: Databases, last: int) -> Iterator[AuditMessage]:
    """Yield the messages up to a number; no transaction stays open while a slow client reads."""
    for first in range(0, last, READ_AT_ONCE):
        with transaction(databases.hospital) as session:
            rows = list(messages_after(session, first, min(READ_AT_ONCE, last - first)))
        yield from rows


def _state(databases: Databases, settings: Settings) -> AuditState:
    now = clock.now()
    with transaction(databases.hospital) as session:
        end, checked, sent = head(session), cursor(session, "check"), cursor(session, "syslog")
    assert checked is not None
    assert sent is not None
    host = settings.audit_syslog_host
    return AuditState(
        rows=end.number,
        row_hash=end.row_hash,
        checked_rows=checked.number,
        checked_at=checked.at,
        receiver=f"{host}:{settings.audit_syslog_port}" if host else "",
        sent_rows=sent.number,
        sent_at=sent.at,
        kinds={kind.key: kind.meaning for kind in KINDS.values()},
        problems=problems(databases, settings, now),
    )


def _reader(request: Request) -> Party:
    return web_client(request.client.host if request.client else "unknown")


def _teller(databases: Databases, settings: Settings) -> Callable[[Request, str], None]:
    """Return what tells that somebody reads the audit, once in a while for each reader."""
    told: dict[str, datetime] = {}
    lock = Lock()

    def tell(request: Request, what: str) -> None:
        reader, now = _reader(request), clock.now()
        with lock:
            if len(told) >= MAX_READERS:
                told.clear()
            if reader.name in told and now - told[reader.name] < TOLD_AGAIN_AFTER:
                return
            told[reader.name] = now
        record(databases, settings, audit_read(reader, what))

    return tell
