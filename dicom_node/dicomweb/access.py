"""Who may use DICOMweb: a guard before its routes.

Its answers hold patients' names, so it is for the node's own machine and for the addresses an administrator names;
viewers in browsers need their origin named too (Fetch standard, CORS).
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.dicomweb.place import PREFIX
from dicom_node.errors import ConfigurationError

METHODS = "GET, HEAD, POST, OPTIONS"
PREFLIGHT_S = "600"
Network = IPv4Network | IPv6Network


def is_dicomweb(path: str) -> bool:
    """Tell whether a path is one of DICOMweb's."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse IP addresses and networks.

    Raises
    ------
    ConfigurationError
        When one is none.
    """
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError:
        raise ConfigurationError("dicomweb_clients holds IP addresses and networks, as 10.1.0.0/16.") from None


def parse_origins(texts: Sequence[str]) -> frozenset[str]:
    """Check origins: scheme and host, as a browser sends them.

    Raises
    ------
    ConfigurationError
        When one is none.
    """
    for text in texts:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            raise ConfigurationError("web_origins holds origins, as https://viewer.example or http://localhost:3000.")
    return frozenset(texts)


class DicomwebGuard:
    """ASGI middleware in front of everything; paths that are not DICOMweb's pass through untouched.

    Parameters
    ----------
    app
        What it guards.
    networks
        Addresses that may call, beside the machine's own.
    origins
        Origins of viewers that may call.
    """

    def __init__(self, app: ASGIApp, networks: Sequence[Network], origins: frozenset[str]) -> None:
        self._app = app
        self._networks = networks
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http" or not is_dicomweb(scope["path"]):
            await self._app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin", "")
        is_viewer = origin in self._origins
        send = _with_headers(send, origin if is_viewer else "", may_be_embedded=bool(self._origins))
        if not self._may_call(scope.get("client")):
            sentence = "DICOMweb answers this machine, and the addresses named by the setting dicomweb_clients."
            answer: Response = JSONResponse({"detail": sentence}, 403)
        elif scope["method"] == "OPTIONS" and is_viewer:
            answer = _preflight(Headers(scope=scope))
        else:
            await self._app(scope, receive, send)
            return
        await answer(scope, receive, send)

    def _may_call(self, client: tuple[str, int] | None) -> bool:
        if client is None:
            return True  # a socket of the file system, which is this machine's
        try:
            address = ip_address(client[0])
        except ValueError:
            return False
        plain = getattr(address, "ipv4_mapped", None) or address
        return plain.is_loopback or any(plain in network for network in self._networks)


def _preflight(headers: Headers) -> Response:
    asked = headers.get("access-control-request-headers", "")
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": asked if asked.isascii() and asked.isprintable() else "",
            "Access-Control-Max-Age": PREFLIGHT_S,
        },
    )


def _with_headers(send: Send, origin: str, *, may_be_embedded: bool) -> Send:
    """Add what every answer has: no cache keeps it, the viewer's origin may read it.

    A document is embedded by a viewer without an Origin header, so any page may embed it where a viewer's origin is set
    and none where not (Fetch standard, Cross-Origin-Resource-Policy); a page cannot read what it embeds. A document
    that is no PDF may hold a script, which would run with the rights of the node's own pages; so none may run.
    """

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Cache-Control"] = "no-store"
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Cross-Origin-Resource-Policy"] = "cross-origin" if may_be_embedded else "same-origin"
            headers["Cross-Origin-Embedder-Policy"] = "require-corp"
            if not headers.get("content-type", "").startswith("application/pdf"):
                headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
            headers.append("Vary", "Origin")
            if origin:
                headers["Access-Control-Allow-Origin"] = origin
                headers["Access-Control-Expose-Headers"] = "Content-Type, Content-Location, Warning"
        await send(message)

    return add
