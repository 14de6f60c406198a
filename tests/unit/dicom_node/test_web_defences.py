"""What keeps patients' data where they are: no request slips past the audit, no answer runs as a script of the node."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom.uid import generate_uid

from dicom_node.db.audit import head, page_of_messages
from dicom_node.db.session import Databases, transaction
from dicom_node.settings import Settings
from dicom_node.web import views
from dicom_node.web.app import create_app
from dicom_node.web.pages import PAGES
from tests.unit.dicom_node.dicomweb_app import make_ct, place, store

SECRET = "Mustermann"
CDA = b"<doc><script xmlns='http://www.w3.org/1999/xhtml'>fetch('/api/jobs')</script></doc>"


@pytest.fixture
def web(databases: Databases, settings: Settings) -> TestClient:
    app = create_app(databases, settings, 1)
    return TestClient(app, base_url="http://127.0.0.1:8080", client=("127.0.0.1", 50000), raise_server_exceptions=False)


def last_kind(databases: Databases) -> str:
    with transaction(databases.hospital) as session:
        return page_of_messages(session, 1)[0].kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/dicom-web/studies", "query"),
        ("/dicom-web/studies%0A", "query"),
        ("{study}/metadata", "instances_transferred"),
        ("{study}/metadata%0A", "instances_transferred"),
    ],
)
def test_an_address_with_a_line_end_is_told_like_any_other_or_not_answered(
    web: TestClient, databases: Databases, path: str, kind: str
) -> None:
    ds = make_ct()
    assert store(web, ds).status_code == 200
    with transaction(databases.hospital) as session:
        before = head(session).number
    answer = web.get(path.format(study=f"/dicom-web/studies/{ds.StudyInstanceUID}"))
    with transaction(databases.hospital) as session:
        told = head(session).number - before
    assert (answer.status_code, told) in ((200, 1), (404, 0))
    if told:
        assert last_kind(databases) == kind


def test_a_document_with_a_script_runs_as_none_of_the_node_s(web: TestClient) -> None:
    document = make_ct(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.2",
        PixelData=None,
        EncapsulatedDocument=CDA + b" " * (len(CDA) % 2),
        MIMETypeOfEncapsulatedDocument="text/xml",
    )
    assert store(web, document).status_code == 200
    for path in ("rendered", "bulkdata/00420011"):
        answer = web.get(f"{place(document)}/{path}", headers={"Accept": "text/xml"})
        assert answer.headers["content-type"].startswith("text/xml")
        policy = answer.headers["content-security-policy"]
        assert "sandbox" in policy
        assert "allow-" not in policy
        assert "default-src 'none'" in policy


@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_no_other_page_shows_a_page_of_the_node_inside_itself_and_no_foreign_script_runs(
    web: TestClient, path: str
) -> None:
    headers = web.get(path).headers
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_what_the_node_tells_of_patients_is_kept_by_no_cache(web: TestClient) -> None:
    for path in ("/api/studies", "/api/requests", "/dicom-web/studies"):
        assert web.get(path).headers["cache-control"] == "no-store", path


def test_a_failure_of_any_route_is_answered_and_logged_without_a_word_of_the_request(
    web: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    def fail(*args: object) -> None:
        del args
        raise ValueError(SECRET)

    monkeypatch.setattr(views, "quarantine", fail)
    answer = web.get("/api/quarantine", params={"name": SECRET})
    assert (answer.status_code, answer.json()) == (500, {"detail": "The node could not answer this."})
    streams = capsys.readouterr()
    assert "ValueError" in streams.out + streams.err + caplog.text, "nobody learns of it"
    assert SECRET not in streams.out + streams.err + caplog.text


def test_an_error_of_the_database_does_not_quote_the_values_it_was_given(databases: Databases) -> None:
    with pytest.raises(Exception, match="syntax error") as error, databases.hospital.begin() as connection:
        connection.exec_driver_sql("INSERT INTO nothing VALUES (?)", (SECRET,))
    assert SECRET not in str(error.value)


def test_a_foreign_page_that_hides_its_origin_changes_nothing(web: TestClient) -> None:
    for headers in ({"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        answer = web.post("/api/imports", headers={**headers, "Content-Type": "text/plain"})
        assert answer.status_code == 403, headers
    assert web.post("/api/imports", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 201
    assert web.post("/api/imports").status_code == 201, "a program says nothing of a page"


def test_a_foreign_page_cannot_make_a_browser_search(web: TestClient) -> None:
    asked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert web.get(f"/dicom-web/studies/{generate_uid()}", headers=asked).status_code == 403
    assert web.get("/api/studies", headers=asked).status_code == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert web.get("/studies", headers=link).status_code == 200, "a link on another page leads here"
