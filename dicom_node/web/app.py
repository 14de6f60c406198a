"""The FastAPI application: REST under ``/api``, and the pages.

There are no accounts yet: the service listens on the loopback address by default, answers only to the host names it
is known by, and takes changes only from its own pages or from programs without an Origin, so that a foreign web page
cannot make them.
"""

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dicom_node import __version__
from dicom_node.db.session import Databases
from dicom_node.dicomweb.access import DicomwebGuard, is_dicomweb, parse_networks, parse_origins
from dicom_node.dicomweb.routes import dicomweb_routes
from dicom_node.errors import ConfigurationError, NodeError, NotFound
from dicom_node.settings import Settings
from dicom_node.web import views
from dicom_node.web.answers import SafeAnswers, Unforeseen
from dicom_node.web.audit_trail import AuditTrail
from dicom_node.web.delivery_routes import delivery_routes
from dicom_node.web.import_routes import import_routes
from dicom_node.web.job_routes import job_routes
from dicom_node.web.network_routes import network_routes
from dicom_node.web.origins import OriginCheck
from dicom_node.web.pages import page_routes
from dicom_node.web.peer_routes import peer_routes
from dicom_node.web.request_routes import request_routes
from dicom_node.web.routing_routes import routing_routes
from dicom_node.web.schemas import Health, QuarantineOut

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
    app = FastAPI(
        title="OsteoNode", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )
    origins = parse_origins(settings.web_origins)
    app.add_middleware(Unforeseen)
    app.add_middleware(OriginCheck, is_friend=_friends(origins))
    if settings.dicomweb:
        app.add_middleware(DicomwebGuard, networks=parse_networks(settings.dicomweb_clients), origins=origins)
        app.include_router(dicomweb_routes(databases, settings))
    app.add_middleware(AuditTrail, databases=databases, settings=settings)
    app.add_middleware(SafeAnswers)
    names = ["localhost", "127.0.0.1", "[::1]", settings.web_host, *settings.web_names]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)
    app.add_exception_handler(NodeError, _translate)
    app.include_router(_read_routes(databases, settings, dicom_port))
    app.include_router(network_routes(databases, settings))
    app.include_router(peer_routes(databases, settings))
    app.include_router(delivery_routes(databases))
    app.include_router(job_routes(databases, settings))
    app.include_router(routing_routes(databases, settings))
    app.include_router(request_routes(databases, settings))
    app.include_router(import_routes(databases, settings))
    app.include_router(page_routes(settings.ae_title, dicom_port))
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return app


def _read_routes(databases: Databases, settings: Settings, dicom_port: int) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    def health() -> Health:
        """Tell whether the node accepts instances, and how many jobs are in which state."""
        return views.health(databases, settings, dicom_port)

    @router.get("/api/quarantine")
    def quarantine() -> list[QuarantineOut]:
        """List what was kept aside, with the cause."""
        return views.quarantine(databases)

    return router


def _friends(origins: frozenset[str]) -> Callable[[str, str], bool]:
    """Return what tells whether pages of an origin may use DICOMweb; what viewers embed comes without its origin."""
    return lambda origin, path: is_dicomweb(path) and bool(origins) and origin in ("", *origins)


async def _translate(request: Request, error: Exception) -> Response:
    """Turn an error of the node into its HTTP answer."""
    del request
    status = next((code for kind, code in ERROR_STATUS if isinstance(error, kind)), 500)
    return JSONResponse({"detail": str(error)}, status_code=status)
