"""The REST interface of requests: ask, look, choose, cancel, begin again; one by one, or as a CSV file."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool

from dicom_node import clock
from dicom_node.db.requests import cancel, cancel_batch, choose_match, retry
from dicom_node.db.session import Databases, transaction
from dicom_node.pipeline.requests_adding import add_request
from dicom_node.pipeline.requests_csv import MAX_BYTES, add_batch
from dicom_node.pipeline.requests_input import RequestIn
from dicom_node.settings import Settings
from dicom_node.web import request_views as views
from dicom_node.web.request_schemas import BatchOut, BatchResult, ProblemOut, RequestDetail, RequestOut, RequestPage

Limit = Annotated[int, Query(ge=1, le=1000)]
BODY = {"requestBody": {"content": {"application/json": {"schema": RequestIn.model_json_schema()}}, "required": True}}
CSV_BODY = {"requestBody": {"content": {"text/csv": {"schema": {"type": "string"}}}, "required": True}}


class Choice(BaseModel):
    """Which match is meant."""

    model_config = ConfigDict(extra="forbid")

    match_id: int


def request_routes(databases: Databases, settings: Settings) -> APIRouter:
    """Make the routes; a request can also be posted to ``/requests``, as CT2S's users know it."""
    router = APIRouter()
    router.include_router(_reading(databases, settings), prefix="/api")
    router.include_router(_asking(databases, settings), prefix="/api")
    router.include_router(_deciding(databases), prefix="/api")
    router.include_router(_batches(databases, settings), prefix="/api")

    @router.post("/requests", status_code=201, openapi_extra=BODY)
    def ask_here(body: Annotated[dict[str, Any], Body()]) -> RequestDetail:
        """Ask for the analysis of a patient's study; the same as ``POST /api/requests``."""
        return _ask(databases, settings, body)

    return router


def _reading(databases: Databases, settings: Settings) -> APIRouter:
    router = APIRouter()

    @router.get("/requests")
    def requests(state: str = "", batch: str = "", reference: str = "", limit: Limit = 200) -> list[RequestOut]:
        """List the newest requests, of a state, a batch or a reference."""
        return views.requests(databases, state.upper(), batch, reference, limit)

    @router.get("/requests/page", include_in_schema=False)
    def page(state: str = "", batch: str = "", limit: Limit = 100) -> RequestPage:
        """Return what the page shows."""
        return views.page(databases, settings, state.upper(), batch, limit)

    @router.get("/requests/{request_id}")
    def request(request_id: str) -> RequestDetail:
        """Return one request with its matches and its history."""
        return views.request(databases, request_id)

    return router


def _asking(databases: Databases, settings: Settings) -> APIRouter:
    router = APIRouter()

    @router.post("/requests", status_code=201, openapi_extra=BODY)
    def ask(body: Annotated[dict[str, Any], Body()]) -> RequestDetail:
        """Ask for the analysis of a patient's study: it is looked for, retrieved and analysed."""
        return _ask(databases, settings, body)

    return router


def _ask(databases: Databases, settings: Settings, body: dict[str, Any]) -> RequestDetail:
    """Add a request; the answer to a wrong one names fields and what they expect, and repeats no value."""
    try:
        asked = RequestIn.model_validate(body)
    except ValidationError as error:
        told = error.errors(include_input=False, include_url=False, include_context=False)
        raise HTTPException(422, [{**one, "loc": ["body", *one["loc"]]} for one in told]) from None
    with transaction(databases.hospital) as session:
        request_id = add_request(session, asked, settings, clock.now())
    return views.request(databases, request_id)


def _deciding(databases: Databases) -> APIRouter:
    router = APIRouter(prefix="/requests/{request_id}")

    @router.post("/choice", status_code=202)
    def choose(request_id: str, choice: Choice) -> RequestDetail:
        """Choose the study that is meant among those that match."""
        with transaction(databases.hospital) as session:
            choose_match(session, request_id, choice.match_id, clock.now())
        return views.request(databases, request_id)

    @router.post("/cancel", status_code=202)
    def cancel_request(request_id: str) -> RequestDetail:
        """Cancel a request."""
        with transaction(databases.hospital) as session:
            cancel(session, request_id, clock.now())
        return views.request(databases, request_id)

    @router.post("/retry", status_code=202)
    def retry_request(request_id: str) -> RequestDetail:
        """Begin a request that failed or was cancelled again."""
        with transaction(databases.hospital) as session:
            retry(session, request_id, clock.now())
        return views.request(databases, request_id)

    return router


def _batches(databases: Databases, settings: Settings) -> APIRouter:
    router = APIRouter(prefix="/request-batches")

    @router.post("", status_code=200, openapi_extra=CSV_BODY)
    async def ask_for_many(
        request: Request, name: str = "batch.csv", dry_run: bool = False, skip_bad: bool = False
    ) -> BatchResult:
        """Ask for every study of a CSV file; all rows or none, unless ``skip_bad`` says otherwise."""
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > MAX_BYTES:
                raise HTTPException(413, f"The file has more than {MAX_BYTES / 1e6:.0f} MB; split it.")
        return await run_in_threadpool(_add, databases, settings, bytes(content), name, dry_run, skip_bad)

    @router.get("/{batch_id}")
    def batch(batch_id: str) -> BatchOut:
        """Return how a batch stands."""
        return views.batch(databases, batch_id)

    @router.post("/{batch_id}/cancel", status_code=202)
    def cancel_rest(batch_id: str) -> BatchOut:
        """Cancel what has not been received of a batch."""
        with transaction(databases.hospital) as session:
            cancel_batch(session, batch_id, clock.now())
        return views.batch(databases, batch_id)

    @router.get("/{batch_id}/results.csv")
    def results(batch_id: str) -> StreamingResponse:
        """Return the results of a batch as CSV, by reference."""
        name = f'attachment; filename="requests-{batch_id[:8]}.csv"'
        lines = views.result_lines(databases, batch_id)
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers={"Content-Disposition": name})

    return router


def _add(
    databases: Databases, settings: Settings, content: bytes, name: str, dry_run: bool, skip_bad: bool
) -> BatchResult:
    with transaction(databases.hospital) as session:
        outcome = add_batch(session, content, name, settings, clock.now(), dry_run=dry_run, skip_bad=skip_bad)
    problems = [ProblemOut.model_validate(one) for one in outcome.problems]
    return BatchResult(
        row_count=outcome.row_count, added_count=outcome.added_count, batch_id=outcome.batch_id, problems=problems
    )
