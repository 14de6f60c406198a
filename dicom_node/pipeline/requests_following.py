"""What became of a request's study: its newest version's job, until that has ended."""

from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import select

from dicom_node.db.models import Job
from dicom_node.db.request_tables import Request
from dicom_node.db.requests import (
    VALUES_PER_QUERY,
    change,
    final_routes,
    get_request,
    newest_versions,
    received_requests,
)
from dicom_node.db.routing_tables import StudyRoute
from dicom_node.db.session import Databases, transaction

BEFORE = "The study had been analysed before it was asked for; run its job again to use this request's values."


def follow(databases: Databases, now: datetime) -> int:
    """Link received requests to the jobs of their studies, and end those whose job has ended; return how many changed.

    Parameters
    ----------
    databases
        The node's databases.
    now
        Timezone-aware time.
    """
    with transaction(databases.hospital) as session:
        requests = received_requests(session)
        if not requests:
            return 0
        versions, routes = newest_versions(session), final_routes(session)
    jobs = jobs_by_id(databases, {version.job_id for version in versions.values()})
    changed = 0
    with transaction(databases.hospital) as session:
        for request in requests:
            version = versions.get(request.study_instance_uid)
            values = _end(
                request, jobs.get(version.job_id) if version else None, routes.get(request.study_instance_uid)
            )
            if version is not None and request.job_id != version.job_id:
                values["job_id"] = version.job_id
            row = get_request(session, request.id, for_change=True) if values else None
            if row is not None and row.state == "RECEIVED":
                change(session, row, now, **values)
                changed += 1
    return changed


def jobs_by_id(databases: Databases, ids: Collection[str]) -> dict[str, Job]:
    """Return jobs by id; those that are not there yet are left out."""
    with transaction(databases.research) as session:
        return {
            job.id: job for chunk in _chunks(list(ids)) for job in session.scalars(select(Job).where(Job.id.in_(chunk)))
        }


def _end(request: Request, job: Job | None, route: StudyRoute | None) -> dict[str, object]:
    """Return what changes of a request: nothing while its job goes on."""
    if job is not None and job.state == "done":
        was_before = job.created_at < request.created_at and job.updated_at < request.created_at
        return {"state": "DONE", "sentence": f"{request.sentence} {BEFORE}".strip() if was_before else request.sentence}
    if job is not None and job.state == "failed":
        return {"state": "FAILED", "sentence": f"The images are here; the analysis failed. {job.sentence}".strip()}
    if job is not None and job.state == "discarded":
        return {"state": "FAILED", "sentence": f"The images are here; their job was discarded. {job.sentence}".strip()}
    if job is None and route is not None:
        return {"state": "FAILED", "sentence": f"The images are here and are not analysed. {route.sentence}".strip()}
    return {}


def _chunks(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), VALUES_PER_QUERY):
        yield values[start : start + VALUES_PER_QUERY]
