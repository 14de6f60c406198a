"""The DICOMweb service as one router."""

from fastapi import APIRouter

from dicom_node.audit.recorder import record
from dicom_node.db.session import Databases
from dicom_node.dicomweb.archive import Archive
from dicom_node.dicomweb.catalogue import Catalogue
from dicom_node.dicomweb.place import PREFIX
from dicom_node.dicomweb.render import render_routes
from dicom_node.dicomweb.retrieve import retrieve_routes
from dicom_node.dicomweb.search import search_routes
from dicom_node.dicomweb.store import store_routes
from dicom_node.settings import Settings
from dicom_node.storage.intake import Intake


def dicomweb_routes(databases: Databases, settings: Settings) -> APIRouter:
    """Make the routes of QIDO-RS, WADO-RS and STOW-RS."""
    archive = Archive(
        engine=databases.hospital,
        folder=settings.hospital_dir,
        catalogue=Catalogue(databases.hospital, settings.hospital_dir),
        intake=Intake(databases.hospital, settings.hospital_dir, settings.reserve_bytes, settings.watermark_percent),
        instance_limit_bytes=settings.instance_limit_bytes,
        idle_timeout_s=settings.idle_timeout_s,
        tell=lambda *events: record(databases, settings, *events),
    )
    router = APIRouter(prefix=PREFIX, tags=["DICOMweb"])
    for routes in (search_routes, store_routes, retrieve_routes, render_routes):
        router.include_router(routes(archive))
    return router
