"""The pages: one table of them; each has its template, and its script of the same name in ``static``."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from dicom_node import __version__


class Page(NamedTuple):
    """One page: where it is, the name of its template and script, and its title."""

    path: str
    name: str
    title: str


PAGES = (
    Page("/", "jobs", "Jobs"),
    Page("/studies", "studies", "Studies"),
    Page("/rules", "rules", "Rules"),
    Page("/requests", "requests", "Requests"),
    Page("/deliveries", "deliveries", "Deliveries"),
    Page("/import", "import", "Import"),
    Page("/peers", "peers", "Peers"),
    Page("/network", "network", "Network"),
)


INTERFACE = Page("/api/docs", "interface", "REST interface")
"""In the foot of every page; a page of our own, as FastAPI's would fetch scripts from elsewhere."""


def page_routes(ae_title: str, dicom_port: int) -> APIRouter:
    """Make the routes of all pages."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape()
    )
    router = APIRouter()
    for page in (*PAGES, INTERFACE):
        template = templates.get_template(f"{page.name}.html")
        html = template.render(
            version=__version__, ae_title=ae_title, dicom_port=dicom_port, pages=PAGES, **page._asdict()
        )
        router.add_api_route(page.path, _always(html), response_class=HTMLResponse, include_in_schema=False)
    return router


def _always(html: str) -> Callable[[], str]:
    return lambda: html
