"""The FastAPI application: REST under ``/api``, and the pages.

There are no accounts yet: the service listens on the loopback address by default, answers only to the host names it
is known by, and takes changes only from its own pages or from programs without an Origin, so that a foreign web page
cannot make them.
"""

from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dicom_node import __version__, clock
from dicom_node.db.associations import recent_associations
from dicom_node.db.commitments import recent_commitments
from dicom_node.db.jobs import resubmit
from dicom_node.db.models import Peer
from dicom_node.db.peers import add_peer, all_peers, remove_peer, set_profile
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ConfigurationError, NodeError, NotFound
from dicom_node.settings import Settings
from dicom_node.web import views
from dicom_node.web.pages import page_routes
from dicom_node.web.schemas import (
    AssociationOut,
    CommitmentOut,
    Health,
    JobDetail,
    JobOut,
    PeerIn,
    PeerOut,
    PeerProfile,
    QuarantineOut,
    StudyOut,
)

HERE = Path(__file__).parent
ERROR_STATUS: tuple[tuple[type[NodeError], int], ...] = ((NotFound, 404), (ConfigurationError, 409), (NodeError, 500))
"""First match wins."""


def create_app(databases: Databases, settings: Settings, dicom_port: int) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    databases
        The node's databases.
    settings
        The node's settings.
    dicom_port
        The port the DICOM service really listens on.
    """
    app = FastAPI(title="OsteoNode", version=__version__, docs_url="/api/docs", openapi_url="/api/openapi.json")
    app.middleware("http")(_refuse_foreign_origin)
    names = ["localhost", "127.0.0.1", "[::1]", settings.web_host, *settings.web_names]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)
    app.add_exception_handler(NodeError, _translate)
    app.include_router(_read_routes(databases, settings, dicom_port))
    app.include_router(_network_routes(databases))
    app.include_router(_write_routes(databases))
    app.include_router(page_routes(settings.ae_title, dicom_port))
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return app


def _read_routes(databases: Databases, settings: Settings, dicom_port: int) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    def health() -> Health:
        """Tell whether the node accepts instances, and how many jobs are in which state."""
        return views.health(databases, settings, dicom_port)

    @router.get("/api/studies")
    def studies() -> list[StudyOut]:
        """List every study that has arrived."""
        return views.studies(databases)

    @router.get("/api/jobs")
    def jobs() -> list[JobOut]:
        """List the newest jobs."""
        return views.jobs(databases, settings)

    @router.get("/api/jobs/{job_id}")
    def job(job_id: str) -> JobDetail:
        """Return one job with its report."""
        found = views.job(databases, settings, job_id)
        if found is None:
            raise HTTPException(404, f"There is no job {job_id}.")
        return found

    @router.get("/api/jobs/{job_id}/pictures/{name}")
    def picture(job_id: str, name: str) -> FileResponse:
        """Return one picture of a job's report."""
        path = views.picture_path(settings, job_id, name)
        if path is None:
            raise HTTPException(404, "There is no such picture.")
        return FileResponse(path, media_type="image/png")

    @router.get("/api/quarantine")
    def quarantine() -> list[QuarantineOut]:
        """List what was kept aside, with the cause."""
        return views.quarantine(databases)

    return router


def _network_routes(databases: Databases) -> APIRouter:
    router = APIRouter()

    @router.get("/api/associations")
    def associations() -> list[AssociationOut]:
        """List the associations that ended last: who sent how much, and how it ended."""
        with transaction(databases.hospital) as session:
            return [AssociationOut.model_validate(row) for row in recent_associations(session)]

    @router.get("/api/commitments")
    def commitments() -> list[CommitmentOut]:
        """List the newest requests for storage commitment."""
        with transaction(databases.hospital) as session:
            return [CommitmentOut.model_validate(row) for row in recent_commitments(session)]

    return router


def _write_routes(databases: Databases) -> APIRouter:
    router = APIRouter(prefix="/api")

    @router.get("/peers")
    def peers() -> list[PeerOut]:
        """List the peers."""
        with transaction(databases.hospital) as session:
            return [PeerOut.model_validate(peer) for peer in all_peers(session)]

    @router.post("/peers", status_code=201)
    def create_peer(peer: PeerIn) -> PeerOut:
        """Add a peer."""
        with transaction(databases.hospital) as session:
            return PeerOut.model_validate(add_peer(session, Peer(**peer.row())))

    @router.patch("/peers/{name}")
    def change_profile(name: str, profile: PeerProfile) -> PeerOut:
        """Set which objects a peer gets and in which SR class."""
        with transaction(databases.hospital) as session:
            return PeerOut.model_validate(set_profile(session, name, **profile.columns()))

    @router.delete("/peers/{name}", status_code=204)
    def delete_peer(name: str) -> None:
        """Remove a peer."""
        with transaction(databases.hospital) as session:
            remove_peer(session, name)

    @router.post("/jobs/{job_id}/retry", status_code=202)
    def retry(job_id: str) -> JobOut:
        """Run a job again from the start."""
        with transaction(databases.research) as session:
            return JobOut.model_validate(resubmit(session, job_id, clock.now()))

    return router


async def _refuse_foreign_origin(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Answer 403 to a change a foreign web page asks for."""
    origin = request.headers.get("origin")
    if request.method not in ("GET", "HEAD") and origin and urlsplit(origin).netloc != request.headers.get("host"):
        return JSONResponse({"detail": "Changes are accepted from the node's own pages only."}, status_code=403)
    return await call_next(request)


async def _translate(request: Request, error: Exception) -> Response:
    """Turn an error of the node into its HTTP answer."""
    del request
    status = next((code for kind, code in ERROR_STATUS if isinstance(error, kind)), 500)
    return JSONResponse({"detail": str(error)}, status_code=status)
