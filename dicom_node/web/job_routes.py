"""REST routes of jobs: the list, one job, its pictures, and what people do to it."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse

from dicom_node import clock
from dicom_node.db import job_control
from dicom_node.db.models import Job
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from dicom_node.web import job_views
from dicom_node.web.job_schemas import (
    Cancelled,
    JobBoard,
    JobDetail,
    JobOut,
    JobState,
    JobStep,
    NodePause,
    PriorityIn,
)

States = Annotated[list[JobState], Query(description="Only jobs in these states; all when left out.")]
Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]


def job_routes(databases: Databases, settings: Settings) -> APIRouter:
    """Make the routes of jobs."""
    router = APIRouter(prefix="/api")
    _add_views(router, databases, settings)
    _add_changes(router, databases)
    _add_restart(router, databases)
    _add_node_changes(router, databases)
    return router


def _add_views(router: APIRouter, databases: Databases, settings: Settings) -> None:
    @router.get("/jobs")
    def jobs(state: States = [], limit: Limit = 200, offset: Offset = 0) -> list[JobOut]:  # noqa: B006 - FastAPI reads it, nobody changes it
        """List the newest jobs."""
        return job_views.jobs(databases, settings, state, limit, offset)

    @router.get("/board")
    def board(state: States = [], limit: Limit = 25, offset: Offset = 0) -> JobBoard:  # noqa: B006 - as above
        """Return one page of jobs with the counts of all, the node's pause, and the processes that run jobs."""
        return job_views.board(databases, settings, state, limit, offset)

    @router.get("/jobs/{job_id}")
    def job(job_id: str) -> JobDetail:
        """Return one job with its report and all that happened to it."""
        found = job_views.job(databases, settings, job_id)
        if found is None:
            raise HTTPException(404, f"There is no job {job_id}.")
        return found

    @router.get("/jobs/{job_id}/pictures/{name}")
    def picture(job_id: str, name: str) -> FileResponse:
        """Return one picture of a job's report."""
        path = job_views.picture_path(settings, job_id, name)
        if path is None:
            raise HTTPException(404, "There is no such picture.")
        return FileResponse(path, media_type="image/png")


def _add_changes(router: APIRouter, databases: Databases) -> None:
    @router.post("/jobs/{job_id}/pause", status_code=202)
    def pause(job_id: str) -> JobOut:
        """Let no further step of a job begin; one that runs is finished."""
        with transaction(databases.research) as session:
            return _out(job_control.pause_job(session, job_id, clock.now()))

    @router.post("/jobs/{job_id}/resume", status_code=202)
    def resume(job_id: str) -> JobOut:
        """Let a paused job go on where it was."""
        with transaction(databases.research) as session:
            return _out(job_control.resume_job(session, job_id, clock.now()))

    @router.post("/jobs/{job_id}/cancel", status_code=202)
    def cancel(job_id: str) -> JobOut:
        """End a job; a running step is stopped within a second."""
        with transaction(databases.research) as session:
            return _out(job_control.cancel_job(session, job_id, clock.now()))

    @router.post("/jobs/{job_id}/release", status_code=202)
    def release(job_id: str) -> JobOut:
        """Let a job that waits for an operator go on."""
        with transaction(databases.research) as session:
            return _out(job_control.release_job(session, job_id, clock.now()))

    @router.post("/jobs/{job_id}/discard", status_code=202)
    def discard(job_id: str) -> JobOut:
        """End a job that waits for an operator; nothing is sent."""
        with transaction(databases.research) as session:
            return _out(job_control.discard_job(session, job_id, clock.now()))

    @router.put("/jobs/{job_id}/priority", status_code=202)
    def prioritise(job_id: str, wanted: PriorityIn) -> JobOut:
        """Set the priority of a job; it counts from the next step on."""
        with transaction(databases.research) as session:
            return _out(job_control.prioritise_job(session, job_id, wanted.priority, clock.now()))


def _add_restart(router: APIRouter, databases: Databases) -> None:
    @router.post("/jobs/{job_id}/restart", status_code=202)
    def restart(job_id: str, step: JobStep = "deidentify") -> JobOut:
        """Run a job that has ended again from a step on, as a new attempt; it uses what earlier steps left."""
        with transaction(databases.research) as session:
            return _out(job_control.resubmit(session, job_id, clock.now(), step))

    @router.post("/jobs/{job_id}/retry", status_code=202)
    def retry(job_id: str) -> JobOut:
        """Run a job that has ended again from the start."""
        with transaction(databases.research) as session:
            return _out(job_control.resubmit(session, job_id, clock.now()))


def _add_node_changes(router: APIRouter, databases: Databases) -> None:
    @router.put("/node/pause", status_code=202)
    def pause_node(wanted: NodePause) -> NodePause:
        """Let no step begin on the whole node, or let them begin again; intake and deliveries go on."""
        with transaction(databases.research) as session:
            job_control.pause_node(session, clock.now(), is_paused=wanted.is_paused)
        return wanted

    @router.post("/node/cancel", status_code=202)
    def cancel_queue() -> Cancelled:
        """End every job that waits or runs."""
        with transaction(databases.research) as session:
            return Cancelled(count=job_control.cancel_queue(session, clock.now()))


def _out(row: Job) -> JobOut:
    """Return a job as it was changed, without what is read from elsewhere."""
    return JobOut.model_validate(row)
