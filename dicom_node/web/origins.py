"""Changes are taken from the node's own pages, and from programs, which send no Origin; a foreign page makes none."""

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class OriginCheck:
    """ASGI middleware that answers 403 to a change a foreign web page asks for; it never touches a body.

    Parameters
    ----------
    app
        What it guards.
    is_friend
        Tells whether pages of a foreign origin may change what is at a path.
    """

    def __init__(self, app: ASGIApp, is_friend: Callable[[str, str], bool]) -> None:
        self._app = app
        self._is_friend = is_friend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin and urlsplit(origin).netloc != headers.get("host") and not self._is_friend(origin, scope["path"]):
                sentence = "Changes are accepted from the node's own pages only."
                await JSONResponse({"detail": sentence}, status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)
