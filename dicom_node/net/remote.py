"""Peers on the web: where a DICOMweb service or an Orthanc is, how the node proves who it is, and what goes wrong.

The user and password, or the token, stand in a file that is read anew for every session, so that a changed one counts
at once; no other module ever sees them. They are in no log line, no error, no ``repr`` and no database.

A redirection is never followed: it would turn a POST into the GET of a log-in page, and its 200 into a receipt.
Environment proxies and ``.netrc`` are not used: what is sent belongs to patients.
"""

import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from orthanc_api_client import OrthancApiClient
from orthanc_api_client import exceptions as orthanc_errors
from requests.auth import AuthBase, HTTPBasicAuth

from dicom_node.db.models import Peer
from dicom_node.errors import ConfigurationError, NodeError, PeerUnavailable

UNAUTHORISED = (401, 403)
TEMPORARY = (408, 425, 429, *range(500, 600))
"""HTTP statuses after which the same request may succeed later (RFC 9110 15.5, 15.6; 425: RFC 8470; 429: RFC 6585)."""
MAX_CREDENTIALS_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class WebServer:
    """A DICOMweb service or an Orthanc.

    ``name`` is for sentences. ``authority_file`` holds the PEM certificates that its own is judged by; None: those this
    machine trusts. The time limits are of the connection, and of each silence while it answers.
    """

    name: str
    url: str
    credentials_file: Path | None = None
    authority_file: Path | None = None
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 60.0

    def session(self) -> requests.Session:
        """Open a session with the credentials as the file has them now.

        Raises
        ------
        ConfigurationError
            When a file that is named cannot be used.
        """
        session = _Session(self)
        session.verify = _authorities()
        if self.credentials_file is not None:
            session.auth = _read_credentials(self.name, self.credentials_file)
        if self.authority_file is not None:
            if not self.authority_file.is_file():
                raise ConfigurationError(f"The file with the authority of {self.name}'s certificate is not there.")
            session.verify = str(self.authority_file)
        return session

    def address(self, *parts: str) -> str:
        """Return the address of something below the base address."""
        return "/".join([self.url.rstrip("/"), *parts])


def web_server(peer: Peer, authority_file: Path | None = None) -> WebServer:
    """Return where a peer of kind ``dicomweb`` or ``orthanc`` is.

    Raises
    ------
    ConfigurationError
        When it is a peer of another kind.
    """
    if peer.kind == "dimse" or not peer.url:
        raise ConfigurationError(f"Peer {peer.name} is spoken to by DIMSE; it has no web address.")
    credentials = Path(peer.credentials_file) if peer.credentials_file else None
    return WebServer(peer.name, peer.url, credentials, authority_file)


def dicomweb_client(server: WebServer) -> DICOMwebClient:
    """Return a client of a DICOMweb service; it repeats nothing by itself: when to try again is the caller's business.

    Raises
    ------
    ConfigurationError
        As `WebServer.session`.
    """
    limits = (server.connect_timeout_s, server.answer_timeout_s)
    client = DICOMwebClient(server.url.rstrip("/"), session=server.session(), timeout=limits)
    client.set_http_retry_params(retry=False)
    return client


def orthanc_client(server: WebServer) -> OrthancApiClient:
    """Return a client of an Orthanc's REST interface.

    Raises
    ------
    ConfigurationError
        As `WebServer.session`.
    """
    client = OrthancApiClient(f"{server.url.rstrip('/')}/")
    client._http_session = server.session()  # its own has no time limits, follows redirections, and repeats a POST
    return client


@contextmanager
def asking(server: WebServer) -> Iterator[None]:
    """Turn what the HTTP libraries raise into errors of the node.

    Raises
    ------
    PeerUnavailable
        When there is no connection or no answer in time, or the answer says to come again.
    ConfigurationError
        When the certificate or the credentials are refused, or what was asked for is not there.
    """
    try:
        yield
    except requests.HTTPError as error:
        raise error_of(server, 0 if error.response is None else error.response.status_code) from None
    except orthanc_errors.HttpError as error:
        raise error_of(server, int(error.http_status_code or 0)) from None
    except requests.exceptions.SSLError:
        raise ConfigurationError(
            f"The certificate of {server.name} is not trusted; name its authority in tls_authority_file."
        ) from None
    except (requests.Timeout, orthanc_errors.TimeoutError):
        raise PeerUnavailable(f"{server.name} does not answer in time.") from None
    except (requests.RequestException, orthanc_errors.OrthancApiException):
        raise PeerUnavailable(f"{server.name} cannot be reached; check its address and that it runs.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PeerUnavailable(f"{server.name} gave an answer that cannot be read.") from None


def error_of(server: WebServer, status: int) -> NodeError:
    """Return the error that an HTTP status is."""
    if status in UNAUTHORISED:
        return ConfigurationError(
            f"{server.name} answered HTTP {status}: it does not accept the credentials; check its credentials file."
        )
    if status in TEMPORARY:
        return PeerUnavailable(f"{server.name} answered HTTP {status}; it may answer later.")
    return ConfigurationError(f"{server.name} answered HTTP {status}; check the address of the peer.")


class _Session(requests.Session):
    """A session with time limits, without redirections, proxies and ``.netrc``."""

    def __init__(self, server: WebServer) -> None:
        super().__init__()
        self._server = server
        self.trust_env = False

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request, with the server's time limits where none are given."""
        if options.get("timeout") is None:
            options["timeout"] = (self._server.connect_timeout_s, self._server.answer_timeout_s)
        return super().send(request, **options)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Refuse a redirection."""
        if resp.is_redirect:
            raise requests.ConnectionError(f"{self._server.name} sends the node elsewhere (HTTP {resp.status_code}).")
        return None


class _Token(AuthBase):
    """A bearer token (RFC 6750); kept out of headers that a library might print."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _authorities() -> str | bool:
    """Return the authorities that this machine trusts; those the HTTP library brings where the machine has none."""
    paths = ssl.get_default_verify_paths()
    has_folder = paths.capath is not None and any(Path(paths.capath).iterdir())
    return paths.cafile or (has_folder and str(paths.capath)) or True


def _read_credentials(name: str, file: Path) -> AuthBase:
    """Read ``user = ...`` and ``password = ...``, or ``token = ...``, one a line; ``#`` begins a comment line."""
    try:
        mode = file.stat().st_mode
        with file.open("rb") as stream:
            text = stream.read(MAX_CREDENTIALS_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"The credentials file of {name} cannot be read.") from None
    if mode & stat.S_IRWXO:
        raise ConfigurationError(f"The credentials file of {name} is open to everybody; chmod 600 it.")
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    values = {key.strip().lower(): value.strip() for key, _, value in pairs}
    if set(values) == {"token"} and values["token"].isascii() and " " not in values["token"] and values["token"]:
        return _Token(values["token"])
    if set(values) == {"user", "password"} and values["user"]:
        return HTTPBasicAuth(values["user"].encode(), values["password"].encode())
    raise ConfigurationError(
        f"The credentials file of {name} needs the lines 'user = ...' and 'password = ...', or the line 'token = ...'."
    )
