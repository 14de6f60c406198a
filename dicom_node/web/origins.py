"""What pages of other origins can have a browser ask of the node: nothing beyond following a link.

Changes are taken from the node's own pages, and from programs, which name no page. A browser names the page that asks:
by Origin, and by Sec-Fetch-Site also where it sends no Origin (Fetch Metadata Request Headers, W3C). So a foreign page
cannot have it read patients' data either, although it would not get to see them.
"""

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dicom_node.dicomweb.place import PREFIX

DATA = ("/api/", f"{PREFIX}/")
"""Where answers hold data."""


class OriginCheck:
    """ASGI middleware that answers 403 to what a foreign web page asks for; it never touches a body.

    Parameters
    ----------
    app
        What it guards.
    is_friend
        Tells whether pages of a foreign origin may read and change what is at a path; the origin is empty where the
        browser does not say it, as for what a page embeds.
    """

    def __init__(self, app: ASGIApp, is_friend: Callable[[str, str], bool]) -> None:
        self._app = app
        self._is_friend = is_friend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "http" and self._is_foreign(Headers(scope=scope), scope["method"], scope["path"]):
            sentence = "Only the node's own pages may ask for this."
            await JSONResponse({"detail": sentence}, status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_foreign(self, headers: Headers, method: str, path: str) -> bool:
        origin = headers.get("origin", "")
        is_other_page = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if method in ("GET", "HEAD"):
            is_link = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
            is_other = is_other_page and not is_link and path.startswith(DATA)
        else:
            is_other = is_other_page or (origin != "" and urlsplit(origin).netloc != headers.get("host"))
        return is_other and not self._is_friend(origin, path)
