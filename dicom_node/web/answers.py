"""What every answer of the web service has in common: headers that keep it safe in a browser, and no word too much.

Answers of DICOMweb get their headers in `dicom_node.dicomweb.access`.
"""

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.dicomweb.access import is_dicomweb
from dicom_node.jobs.failure import describe_failure
from dicom_node.logs import log

LOG = log(__name__)
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""Nothing comes from elsewhere, no script stands in a page, and no foreign page shows one of ours inside itself."""


class SafeAnswers:
    """ASGI middleware that adds ``HEADERS``, and keeps what the REST interface tells out of every cache."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through."""
        if scope["type"] != "http" or is_dicomweb(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if scope["path"].startswith("/api/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, add)


class Unforeseen:
    """ASGI middleware that answers what failed unforeseen without a word of the request, and logs kind and place."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through."""
        has_begun = False

        async def watch(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if scope["type"] != "http":
                raise
            LOG.error("request_failed", failure=describe_failure(error), method=scope["method"])
            if has_begun:
                raise ConnectionError("an answer could not be completed") from None
            await JSONResponse({"detail": "The node could not answer this."}, 500)(scope, receive, send)
