"""Uploads: files go to disk as they come, are durable before they wait, and are imported once whatever happens."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from dicom_node import clock
from dicom_node.db.models import Instance
from dicom_node.db.session import Databases, transaction
from dicom_node.pipeline import uploads
from dicom_node.pipeline.uploads import Uploads, upload_folder
from dicom_node.settings import Settings
from dicom_node.web.app import create_app
from tests.unit.dicom_node.dicomweb_app import file_of, make_ct
from tests.unit.dicom_node.test_import_files import zipped


def make_client(databases: Databases, settings: Settings) -> TestClient:
    return TestClient(create_app(databases, settings, 1), base_url="http://localhost")


def upload(client: TestClient, *files: bytes) -> str:
    """Upload files and have them wait; return the import's id."""
    import_id = str(client.post("/api/imports").json()["id"])
    for content in files:
        assert client.post(f"/api/imports/{import_id}/files", content=content).status_code == 204
    assert client.post(f"/api/imports/{import_id}/start").status_code == 202
    return import_id


def kept(databases: Databases) -> int:
    with transaction(databases.hospital) as session:
        return len(session.scalars(sa.select(Instance)).all())


def test_an_upload_is_imported_and_its_files_are_gone(databases: Databases, settings: Settings, tmp_path: Path) -> None:
    client = make_client(databases, settings)
    archive = zipped(tmp_path / "a.zip", x=file_of(make_ct()), note=b"text").read_bytes()
    import_id = upload(client, archive, file_of(make_ct()))
    (waiting,) = client.get("/api/imports").json()
    assert (waiting["state"], waiting["file_count"]) == ("WAITING", 2)
    assert kept(databases) == 0
    Uploads(databases, settings, clock.now)()
    (done,) = client.get("/api/imports").json()
    assert (done["state"], done["done_count"], done["file_count"]) == ("DONE", 3, 3)
    assert [(one["files"], one["words"]) for one in done["counts"]] == [(2, "imported"), (1, "no DICOM")]
    assert kept(databases) == 2
    assert not upload_folder(settings, import_id).exists()


def test_an_upload_that_was_interrupted_is_imported_again_and_nothing_twice(
    databases: Databases, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(databases, settings)
    upload(client, *[file_of(make_ct()) for _ in range(4)])
    dying = Uploads(databases, settings, clock.now)
    with monkeypatch.context() as patched:
        patched.setattr(uploads.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            dying()
    assert client.get("/api/imports").json()[0]["state"] == "RUNNING"
    Uploads(databases, settings, clock.now)()
    (done,) = client.get("/api/imports").json()
    assert (done["state"], done["counts"][0]["words"]) == ("DONE", "here already")
    assert kept(databases) == 4


def test_a_node_that_stops_leaves_the_rest_for_its_next_start(databases: Databases, settings: Settings) -> None:
    client = make_client(databases, settings)
    import_id = upload(client, file_of(make_ct()))
    stopping = Uploads(databases, settings, clock.now)
    stopping.close()
    stopping()
    assert client.get("/api/imports").json()[0]["state"] == "RUNNING"
    assert upload_folder(settings, import_id).exists()
    Uploads(databases, settings, clock.now)()
    assert client.get("/api/imports").json()[0]["state"] == "DONE"


def test_an_upload_over_the_limit_is_refused_while_it_comes(databases: Databases, settings: Settings) -> None:
    client = make_client(databases, settings.model_copy(update={"upload_limit_bytes": 5000}))
    import_id = client.post("/api/imports").json()["id"]
    path = f"/api/imports/{import_id}/files"
    assert client.post(path, content=b"x" * 3000).status_code == 204
    assert client.post(path, content=b"x" * 3000).status_code == 413
    assert len(list(upload_folder(settings, import_id).iterdir())) == 1


def test_a_full_disk_is_said(databases: Databases, settings: Settings) -> None:
    client = make_client(databases, settings.model_copy(update={"reserve_bytes": 10**18}))
    import_id = client.post("/api/imports").json()["id"]
    answer = client.post(f"/api/imports/{import_id}/files", content=b"x" * 3000)
    assert answer.status_code == 507
    assert "Free some space" in answer.json()["detail"]


def test_an_import_takes_files_until_it_is_started_and_not_without_any(
    databases: Databases, settings: Settings
) -> None:
    client = make_client(databases, settings)
    empty = client.post("/api/imports").json()["id"]
    assert client.post(f"/api/imports/{empty}/start").status_code == 409
    started = upload(client, b"x")
    assert client.post(f"/api/imports/{started}/files", content=b"x").status_code == 409
    for unknown in ("f" * 32, "..%2f..", "x"):
        assert client.post(f"/api/imports/{unknown}/files", content=b"x").status_code in (404, 405)


def test_what_nobody_finished_uploading_is_forgotten(databases: Databases, settings: Settings) -> None:
    client = make_client(databases, settings)
    import_id = client.post("/api/imports").json()["id"]
    client.post(f"/api/imports/{import_id}/files", content=b"x")
    Uploads(databases, settings, clock.now)()
    assert client.get("/api/imports").json()[0]["state"] == "RECEIVING"
    Uploads(databases, settings, lambda: clock.now() + 2 * uploads.ABANDONED_AFTER)()
    (gone,) = client.get("/api/imports").json()
    assert (gone["state"], gone["sentence"]) == ("FAILED", "The upload was not finished; its files are gone.")
    assert not upload_folder(settings, import_id).exists()


def test_a_foreign_page_cannot_upload(databases: Databases, settings: Settings) -> None:
    client = make_client(databases, settings)
    assert client.post("/api/imports", headers={"Origin": "http://evil.example"}).status_code == 403


def test_the_page_has_its_script(databases: Databases, settings: Settings) -> None:
    client = make_client(databases, settings)
    assert "Drop files, folders or ZIP archives here" in client.get("/import").text
    assert client.get("/static/import.js").status_code == 200


def test_an_import_that_fails_unforeseen_ends_and_the_next_one_is_begun(
    databases: Databases, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_client(databases, settings)
    first, second = (upload(app, file_of(make_ct())) for _ in range(2))
    with monkeypatch.context() as broken:
        broken.setattr(uploads, "import_paths", lambda *args, **options: 1 / 0)
        Uploads(databases, settings, clock.now)()
    assert not upload_folder(settings, first).exists(), "patients' files stay nowhere"
    Uploads(databases, settings, clock.now)()
    states = {one["id"]: one["state"] for one in app.get("/api/imports").json()}
    assert states == {first: "FAILED", second: "DONE"}
