"""Who may use DICOMweb: the machine itself, named addresses, viewers of named origins; no log names a patient."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dicom_node.db.session import Databases
from dicom_node.dicomweb.access import DicomwebGuard, parse_networks, parse_origins
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings
from dicom_node.web.answers import Unforeseen
from dicom_node.web.app import create_app
from tests.unit.dicom_node.dicomweb_app import file_of, make_client, make_ct, multipart

VIEWER = "https://viewer.example"


CALLERS = [
    ("127.0.0.1", 200),
    ("::1", 200),
    ("::ffff:127.0.0.1", 200),
    ("10.1.2.3", 200),
    ("::ffff:10.1.2.3", 200),
    ("10.2.0.1", 403),
    ("2001:db8::1", 403),
    ("nonsense", 403),
]


def test_only_this_machine_and_named_addresses_are_answered(databases: Databases, settings: Settings) -> None:
    named = settings.model_copy(update={"dicomweb_clients": ("10.1.0.0/16",)})
    for caller, status in CALLERS:
        answer = make_client(databases, named, caller).get("/dicom-web/studies")
        assert answer.status_code == status, caller
        assert answer.headers["cache-control"] == "no-store"


def test_a_viewer_of_a_named_origin_may_read_and_store(databases: Databases, settings: Settings) -> None:
    named = settings.model_copy(update={"web_origins": (VIEWER,)})
    client = TestClient(create_app(databases, named, 1), base_url="http://127.0.0.1:8080", client=("127.0.0.1", 1))
    origin = {"Origin": VIEWER}
    preflight = client.options(
        "/dicom-web/studies",
        headers={**origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "accept"},
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == VIEWER
    assert preflight.headers["access-control-allow-headers"] == "accept"
    read = client.get("/dicom-web/studies", headers=origin)
    assert (read.status_code, read.headers["access-control-allow-origin"]) == (200, VIEWER)
    assert read.headers["cross-origin-resource-policy"] == "cross-origin", "a viewer embeds documents"
    headers, body = multipart(file_of(make_ct()))
    assert client.post("/dicom-web/studies", headers={**headers, **origin}, content=body).status_code == 200
    assert client.post("/api/peers", json={}, headers=origin).status_code == 403, "the node's own pages are not its"


def test_a_page_of_any_other_origin_can_neither_read_nor_store(databases: Databases, settings: Settings) -> None:
    client = TestClient(create_app(databases, settings, 1), base_url="http://127.0.0.1:8080", client=("127.0.0.1", 1))
    origin = {"Origin": "https://evil.example"}
    read = client.get("/dicom-web/studies", headers=origin)
    assert "access-control-allow-origin" not in read.headers
    assert read.headers["cross-origin-resource-policy"] == "same-origin"
    assert client.options("/dicom-web/studies", headers=origin).status_code == 403
    headers, body = multipart(file_of(make_ct()))
    assert client.post("/dicom-web/studies", headers={**headers, **origin}, content=body).status_code == 403


def test_it_can_be_switched_off(databases: Databases, settings: Settings) -> None:
    off = settings.model_copy(update={"dicomweb": False})
    client = TestClient(create_app(databases, off, 1), base_url="http://127.0.0.1:8080", client=("127.0.0.1", 1))
    assert client.get("/dicom-web/studies").status_code == 404
    assert client.get("/health").status_code == 200


def test_a_failure_nobody_foresaw_is_answered_and_logged_as_its_kind_alone(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    app = FastAPI()

    @app.get("/dicom-web/studies")
    def fail(PatientName: str) -> None:
        raise RuntimeError(PatientName)

    app.add_middleware(Unforeseen)
    app.add_middleware(DicomwebGuard, networks=(), origins=frozenset())
    client = TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1))
    answer = client.get("/dicom-web/studies", params={"PatientName": "Quistgaard"})
    assert answer.status_code == 500
    said = answer.text + caplog.text + "".join(capfd.readouterr())
    assert "RuntimeError" in said
    assert "Quistgaard" not in said


@pytest.mark.parametrize("text", ["10.1.0.0/99", "viewer.example", ""])
def test_a_wrong_network_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_networks([text])


@pytest.mark.parametrize("text", ["viewer.example", "https://viewer.example/", "*", "null", "ftp://viewer.example"])
def test_a_wrong_origin_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_origins([text])
