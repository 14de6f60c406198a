"""What is asked of the node over HTTP, told in its audit: changes, and what DICOMweb gives of a study.

One place for all routes: a change is told by method and path once it has succeeded, so that a route that is new is
told of too. Bodies are never looked at.
"""

import re
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from anyio.to_thread import run_sync
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node import clock
from dicom_node.audit.events import (
    Event,
    Party,
    StudyInstances,
    configuration_changed,
    instances_sent,
    operator_action,
    query_answered,
    web_client,
)
from dicom_node.audit.queries import web_query
from dicom_node.audit.recorder import record
from dicom_node.db.session import Databases
from dicom_node.dicomweb.place import PREFIX
from dicom_node.settings import Settings

TOLD_AGAIN_AFTER = timedelta(minutes=5)
"""A viewer asks for a study's frames one by one; the same client and study are one event in so long."""
MAX_REMEMBERED = 10_000
READING = ("GET", "HEAD", "OPTIONS")
SEARCH = re.compile(rf"{PREFIX}(/studies/[0-9.]+)?(/series/[0-9.]+)?/(studies|series|instances)/?")
STUDY = re.compile(rf"{PREFIX}/studies/([0-9.]+)(/.*)?")


class Change(NamedTuple):
    """Paths that begin so change the network, the software, or are an operator's action."""

    prefix: str
    kind: Literal["network", "software", "operator"]


CHANGES = (
    Change("/api/peers", "network"),
    Change("/api/rule", "software"),
    Change("/api/calibration", "software"),
    Change("/api/", "operator"),
)
"""First match wins."""
NO_CHANGES = re.compile(r"/api/(peers/[^/]+/echo|imports/[^/]+/files)/?")
"""What changes nothing although it is a POST, and the files of an import, whose start is told."""
ORDER = re.compile(r"/api/studies/([0-9.]+)/orders/?")


class AuditTrail:
    """ASGI middleware that tells of requests that succeeded, after their answer.

    Parameters
    ----------
    app
        What it watches.
    databases, settings
        Where the audit is.
    """

    def __init__(self, app: ASGIApp, databases: Databases, settings: Settings) -> None:
        self._app = app
        self._databases = databases
        self._settings = settings
        self._told: dict[tuple[str, ...], datetime] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and tell of it."""
        if scope["type"] == "http" and not scope["path"].isprintable():  # a route would take a line end at its own end
            await JSONResponse({"detail": "There is no such address."}, 404)(scope, receive, send)
            return
        if scope["type"] != "http" or not _is_told(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            events = self._events(scope) if status < 400 else []
            if events:
                await run_sync(lambda: record(self._databases, self._settings, *events))

    def _events(self, scope: Scope) -> list[Event]:
        client = web_client(scope["client"][0] if scope.get("client") else "this machine")
        method, path = scope["method"], scope["path"]
        if path.startswith(f"{PREFIX}/"):
            return self._dicomweb_events(client, path, scope["query_string"].decode("latin-1"))
        kind = next(change.kind for change in CHANGES if path.startswith(change.prefix))
        resource, sentence = path.removeprefix("/api/"), f"{method} {path}"
        if kind == "operator":
            ordered = ORDER.fullmatch(path)
            return [operator_action(client, resource, sentence, StudyInstances(ordered[1]) if ordered else None)]
        return [configuration_changed(client, kind, resource, sentence)]

    def _dicomweb_events(self, client: Party, path: str, query: str) -> list[Event]:
        """Return the event of a search or a retrieval; what is stored is told of where it is kept."""
        if SEARCH.fullmatch(path):
            is_new = self._is_new(("search", client.name, path, query))
            return [query_answered(client, web_query(path, query))] if is_new else []
        found = STUDY.fullmatch(path)
        if found is None or not self._is_new(("study", client.name, found[1])):
            return []
        return [instances_sent(client, StudyInstances(found[1]), requestor=client)]

    def _is_new(self, key: tuple[str, ...]) -> bool:
        now = clock.now()
        if key in self._told and now - self._told[key] < TOLD_AGAIN_AFTER:
            return False
        if len(self._told) >= MAX_REMEMBERED:
            self._told.clear()
        self._told[key] = now
        return True


def _is_told(method: str, path: str) -> bool:
    """Tell whether a request is told of, if it succeeds."""
    if path.startswith(f"{PREFIX}/"):
        return method == "GET"
    return path.startswith("/api/") and method not in READING and not NO_CHANGES.fullmatch(path)
