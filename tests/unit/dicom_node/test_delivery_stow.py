"""STOW-RS, Orthanc's interface and credentials against a small web server that answers as it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.net.dicomweb_store import held_by_qido, judge, offer_by_stow
from dicom_node.net.orthanc import held_by_orthanc, offer_to_orthanc
from dicom_node.net.presence import InstanceKey
from dicom_node.net.remote import WebServer
from dicom_node.storage.files import write_durably
from dicom_node.storage.intake import Arrival
from dicom_node.storage.part10 import file_head

SECRET = "s3cret-of-the-pacs"


class Service:
    """A web server with one answer for posts and one for searches; it keeps what it was sent."""

    def __init__(self) -> None:
        self.code, self.body, self.headers = 200, b"", {}
        self.found: list[object] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                service.requests.append((self.path, dict(self.headers), content))
                self.answer(service.code, service.body, service.headers)

            def do_GET(self) -> None:
                service.requests.append((self.path, dict(self.headers), b""))
                self.answer(200 if service.found else 204, json.dumps(service.found).encode() if service.found else b"")

            def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(code)
                for name, value in {"Content-Type": "application/dicom+json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                del arguments

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/dicom-web"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


@pytest.fixture
def ct_file(tmp_path: Path, make_arrival: Callable[..., Arrival]) -> Path:
    one = make_arrival()
    write_durably(
        tmp_path / "ct.dcm",
        [file_head(one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid), one.dataset],
    )
    return tmp_path / "ct.dcm"


def failed(reason: int, key: str = "00081198") -> bytes:
    return json.dumps({key: {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}).encode()


def stored() -> bytes:
    return json.dumps({"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]}}).encode()


def warned(reason: int) -> bytes:
    return json.dumps({"00081199": {"vr": "SQ", "Value": [{"00081196": {"vr": "US", "Value": [reason]}}]}}).encode()


def offer(service: Service, path: Path, **options: object) -> tuple[list[int], list[str]]:
    """Offer one file; return the statuses of receipts and the outcomes of refusals."""
    statuses: list[int] = []
    server = WebServer("web", service.url, answer_timeout_s=2, **options)
    found = offer_by_stow(server, [path], lambda _, status: statuses.append(status))
    return statuses, [one.outcome for one in found.refusals]


@pytest.mark.parametrize(
    ("code", "body", "status"),
    [
        (200, stored(), 0x0000),
        (200, warned(0xB007), 0xB007),
        (202, warned(0xB000), 0xB000),
        (409, failed(0x0111), 0x0111),
        (409, failed(0xB00E), 0xB00E),
    ],
)
def test_an_object_that_is_there_has_its_receipt_with_any_warning(
    service: Service, ct_file: Path, code: int, body: bytes, status: int
) -> None:
    service.code, service.body = code, body
    assert offer(service, ct_file) == ([status], [])


@pytest.mark.parametrize(
    ("code", "body", "outcome"),
    [
        (200, b"", "limited"),
        (200, b"<html>Log in</html>", "limited"),
        (200, b"{}", "limited"),
        (200, b'{"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}', "limited"),
        (202, failed(0xA900), "refused"),
        (200, failed(0xC000), "refused"),
        (202, failed(0x0110, "0008119A"), "limited"),
        (202, b"not json", "limited"),
        (202, json.dumps({"00081198": {"Value": [{"00081197": {"Value": ["x"]}}]}}).encode(), "limited"),
        (409, failed(0x0122), "class_refused"),
        (409, failed(0xC000), "refused"),
        (400, b"", "refused"),
        (413, b"too large", "refused"),
        (304, b"", "refused"),
        (200, b'{"00081198": {"Value": [{}]}}', "limited"),
    ],
)
def test_an_object_that_is_not_there_has_none(
    service: Service, ct_file: Path, code: int, body: bytes, outcome: str
) -> None:
    service.code, service.body = code, body
    assert offer(service, ct_file) == ([], [outcome])


@pytest.mark.parametrize(("code", "body"), [(500, b""), (503, b""), (429, b""), (409, failed(0xA700))])
def test_a_service_that_says_come_again_is_away(service: Service, ct_file: Path, code: int, body: bytes) -> None:
    service.code, service.body = code, body
    with pytest.raises(PeerUnavailable):
        offer(service, ct_file)


@pytest.mark.parametrize("code", [200, 409])
def test_an_answer_that_names_nothing_counts_as_there_only_if_a_search_finds_it(
    service: Service, ct_file: Path, code: int
) -> None:
    service.code = code
    assert offer(service, ct_file) == ([], ["limited"])
    uid = str(dcmread(ct_file).SOPInstanceUID)
    service.found = [{"00080018": {"vr": "UI", "Value": ["1.2.3"]}}]
    assert offer(service, ct_file) == ([], ["limited"]), "it found another one"
    service.found = [{"00080018": {"vr": "UI", "Value": [uid]}}]
    assert offer(service, ct_file) == ([0x0111], [])


def test_what_is_sent_is_the_file_itself(service: Service, ct_file: Path) -> None:
    offer(service, ct_file)
    path, headers, body = service.requests[0]
    assert path == "/dicom-web/studies"
    boundary = headers["Content-Type"].rpartition("boundary=")[2]
    head, _, content = body.partition(b"\r\n\r\n")
    assert head.endswith(b"Content-Type: application/dicom")
    assert content == ct_file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    assert "Authorization" not in headers


def test_a_redirection_is_not_followed_and_is_no_receipt(service: Service, ct_file: Path) -> None:
    service.code, service.headers = 302, {"Location": f"{service.url}/log-in"}
    with pytest.raises(PeerUnavailable):
        offer(service, ct_file)
    assert len(service.requests) == 1


def test_a_service_that_is_not_there_or_does_not_speak_http_is_away(
    ct_file: Path, free_port: Callable[[], int]
) -> None:
    for url in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid/dicom-web"):
        with pytest.raises(PeerUnavailable):
            offer_by_stow(WebServer("web", url), [ct_file], lambda *_: None)


def test_an_answer_without_end_is_not_read_to_its_end(service: Service, ct_file: Path) -> None:
    service.code, service.body = 202, b" " * 3_000_000
    assert offer(service, ct_file) == ([], ["limited"])


@pytest.mark.parametrize(
    "said", [None, {}, {"00081198": []}, {"00081198": {"Value": "x"}}, {"00081198": {"Value": [3]}}]
)
def test_a_body_of_another_shape_is_no_answer(said: dict[str, object] | None) -> None:
    assert judge(200, said) == judge(202, said) == judge(409, said) == 0x0110
    assert judge(418, said) == 0xC000


def credentials(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "pacs.credentials"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_credentials_are_read_anew_and_sent_as_user_or_token(service: Service, ct_file: Path, tmp_path: Path) -> None:
    file = credentials(tmp_path, f"# of the PACS\nuser = node\npassword = {SECRET}=x\n")
    server = WebServer("web", service.url, file)
    offer_by_stow(server, [ct_file], lambda *_: None)
    assert service.requests[-1][1]["Authorization"].startswith("Basic ")
    credentials(tmp_path, f"token = {SECRET}")
    offer_by_stow(server, [ct_file], lambda *_: None)
    assert service.requests[-1][1]["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (f"user = node\npassword = {SECRET}", 0o644, "chmod 600"),
        (f"pass = {SECRET}", 0o600, "needs the lines"),
        (f"token = {SECRET} and more", 0o600, "needs the lines"),
        (f"user = node\npassword = {SECRET}\ntoken = {SECRET}", 0o600, "needs the lines"),
        ("", 0o600, "needs the lines"),
    ],
)
def test_a_credentials_file_that_cannot_be_used_is_named_and_not_quoted(
    service: Service, tmp_path: Path, text: str, mode: int, words: str
) -> None:
    server = WebServer("web", service.url, credentials(tmp_path, text, mode))
    with pytest.raises(ConfigurationError, match=words) as caught:
        server.session()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(server)


def test_certificates_are_judged_by_what_the_machine_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "machine.pem").write_text("x")
    (tmp_path / "hospital.pem").write_text("x")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "machine.pem"))
    assert WebServer("web", "https://x").session().verify == str(tmp_path / "machine.pem")
    named = WebServer("web", "https://x", authority_file=tmp_path / "hospital.pem")
    assert named.session().verify == str(tmp_path / "hospital.pem")


def test_a_missing_credentials_file_is_said(service: Service, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        WebServer("web", service.url, tmp_path / "none").session()


@pytest.mark.parametrize("code", [401, 403])
def test_refused_credentials_are_an_administrators_business_and_are_quoted_nowhere(
    service: Service, ct_file: Path, tmp_path: Path, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    service.code, service.body = code, SECRET.encode()
    server = WebServer("web", service.url, credentials(tmp_path, f"token = {SECRET}"))
    for send in (offer_by_stow, offer_to_orthanc):
        with pytest.raises(ConfigurationError, match="credentials") as caught:
            send(server, [ct_file], lambda *_: None)
        assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (200, {"ID": "x", "Status": "Success"}, 0x0000),
        (200, {"ID": "x", "Status": "AlreadyStored"}, 0x0111),
        (200, {"ID": "x", "Status": "FilteredOut"}, "limited"),
        (200, {"ID": "x", "Status": "Failure"}, "limited"),
        (400, {"OrthancStatus": 15}, "refused"),
        (404, {}, "refused"),
    ],
)
def test_what_orthanc_says_of_an_upload_decides(
    service: Service, ct_file: Path, code: int, body: object, expected: object
) -> None:
    service.code, service.body = code, json.dumps(body).encode()
    statuses: list[int] = []
    found = offer_to_orthanc(WebServer("orthanc", service.url), [ct_file], lambda _, status: statuses.append(status))
    assert (statuses or [one.outcome for one in found.refusals]) == [expected]


@pytest.mark.parametrize(
    ("code", "body"), [(200, {"ID": "x"}), (200, []), (409, {"Message": "busy"}), (507, {}), (502, {}), (200, "x")]
)
def test_an_orthanc_that_is_busy_full_or_says_nothing_is_asked_again(
    service: Service, ct_file: Path, code: int, body: object
) -> None:
    service.code, service.body = code, json.dumps(body).encode()
    with pytest.raises(PeerUnavailable):
        offer_to_orthanc(WebServer("orthanc", service.url), [ct_file], lambda *_: None)


def test_a_search_with_a_strange_answer_finds_nothing_it_was_not_asked_for(service: Service) -> None:
    key = InstanceKey("1.2", "1.2.3", "1.2.3.4")
    server = WebServer("web", service.url)
    assert held_by_qido(server, [key]) == set()
    service.found = [{"00080018": {"vr": "UI", "Value": ["9.9"]}}, {}]
    assert held_by_qido(server, [key]) == set()
    service.body = b"[]"
    assert held_by_orthanc(server, [key]) == set()
    service.body = b'"x'
    with pytest.raises(PeerUnavailable):
        held_by_orthanc(server, [key])
