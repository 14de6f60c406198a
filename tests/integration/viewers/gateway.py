"""One web origin for the browser: the viewer's files, and Orthanc's DICOMweb behind the same address."""

import json
import mimetypes
import threading
import urllib.request
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

CONFIGURATION = Path(__file__).with_name("app-config.js")
ARCHIVE_PATHS = ("/dicom-web", "/wado")
RENDERED = "/rendered"
REQUEST_LIMIT_S = 120
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class Gateway:
    """A server on a free port of the loopback address; a context manager."""

    def __init__(self, viewer: Path, archive_port: int) -> None:
        handler = type("Handler", (_Handler,), {"viewer": viewer.resolve(), "archive_port": archive_port})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the viewer is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answer one request: the archive's paths from the archive, any other with a file of the viewer."""

    viewer: Path
    archive_port: int
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith(ARCHIVE_PATHS):
            self._pass_on()
        elif path == "/app-config.js":
            self._send_file(CONFIGURATION)
        else:
            file = (self.viewer / path.lstrip("/")).resolve()
            is_inside = file.is_relative_to(self.viewer) and file.is_file()
            self._send_file(file if is_inside else self.viewer / "index.html")

    def do_POST(self) -> None:
        self._pass_on()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write nothing: an address holds a study's UID."""

    def _pass_on(self) -> None:
        """Ask the archive the same, and pass its answer on."""
        if self.path.split("?")[0].endswith(RENDERED) and (document := self._document()) is not None:
            self._send(HTTPStatus.OK, "application/pdf", document)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key: value for key in ("Accept", "Content-Type") if (value := self.headers.get(key))}
        headers["Forwarded"] = f"host={self.headers['Host']};proto=http"
        archive = HTTPConnection("127.0.0.1", self.archive_port, timeout=REQUEST_LIMIT_S)
        archive.request(self.command, self.path, body or None, headers)
        answer = archive.getresponse()
        self._send(answer.status, answer.getheader("Content-Type", "application/octet-stream"), answer.read())
        archive.close()

    def _document(self) -> bytes | None:
        """Return the PDF of an instance; Orthanc 1.10 answers 400 when a viewer asks for one as rendered."""
        uid = self.path.split("/instances/")[1].split("/")[0]
        root = f"http://127.0.0.1:{self.archive_port}"
        with urllib.request.urlopen(f"{root}/tools/lookup", data=uid.encode()) as answer:
            (found,) = json.load(answer)
        with urllib.request.urlopen(f"{root}/instances/{found['ID']}/metadata/SopClassUid") as answer:
            if answer.read().decode() != "1.2.840.10008.5.1.4.1.1.104.1":
                return None
        with urllib.request.urlopen(f"{root}/instances/{found['ID']}/pdf") as answer:
            return bytes(answer.read())

    def _send_file(self, file: Path) -> None:
        kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        self._send(HTTPStatus.OK, kind, file.read_bytes())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        """Answer, if the page still waits; the two policies let the viewer share memory with its workers."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            self.wfile.write(body)
