"""STOW-RS: what is answered as stored is durable, and every way to fail has its status and reason."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import HTTPException
from fastapi.testclient import TestClient
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from dicom_node.db.audit import page_of_messages
from dicom_node.db.models import Instance, Quarantined
from dicom_node.db.session import Databases, transaction
from dicom_node.dicomweb import store as store_module
from dicom_node.settings import Settings
from tests.unit.dicom_node.dicomweb_app import file_of, make_client, make_ct, multipart, place, store

IDENTITY = ("Müller", "MRN-1", "ACC-1", "19400102")


OTHER_KINDS: list[tuple[dict[str, Any], int]] = [
    ({"Content-Type": 'multipart/related; type="application/dicom"'}, 400),
    ({"Content-Type": 'multipart/related; type="application/dicom"; boundary="ü"'.encode()}, 400),
    ({"Content-Type": 'multipart/related; type="application/dicom"; boundary=other'}, 400),
    ({"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=xYzZY'}, 415),
    ({"Content-Type": "application/json"}, 415),
    ({}, 415),
    ({"Content-Type": "application/dicom", "Content-Encoding": "gzip"}, 415),
    ({"Content-Type": "application/dicom", "Accept": "application/dicom+xml"}, 406),
]


@pytest.fixture
def client(databases: Databases, settings: Settings) -> TestClient:
    return make_client(databases, settings)


def reasons(answer: Any, tag: str = "00081198") -> list[int]:
    """Return the failure reasons of an answer."""
    return [item["00081197"]["Value"][0] for item in answer.json()[tag]["Value"]]


def test_an_instance_answered_as_stored_is_on_disk_with_its_row(
    client: TestClient, databases: Databases, settings: Settings
) -> None:
    ds = make_ct()
    answer = store(client, ds)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    (item,) = answer.json()["00081199"]["Value"]
    assert item["00081155"]["Value"] == [ds.SOPInstanceUID]
    assert item["00081190"]["Value"][0].endswith(place(ds))
    with transaction(databases.hospital) as session:
        row = session.scalars(sa.select(Instance)).one()
    assert row.calling_aet == "STOW-RS"
    kept, sent = (settings.hospital_dir / row.path).read_bytes(), file_of(ds)
    assert kept[kept.index(b"\x08\x00\x05\x00") :] == sent[sent.index(b"\x08\x00\x05\x00") :]


def test_the_same_instance_again_is_stored_and_kept_once(client: TestClient, databases: Databases) -> None:
    ds = make_ct()
    assert [store(client, ds).status_code for _ in range(2)] == [200, 200]
    with transaction(databases.hospital) as session:
        assert len(session.scalars(sa.select(Instance)).all()) == 1


def test_one_request_may_hold_many_instances(client: TestClient) -> None:
    study = generate_uid()
    instances = [make_ct(StudyInstanceUID=study) for _ in range(25)]
    answer = store(client, *instances, study=study)
    assert answer.status_code == 200
    told = [item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]]
    assert told == [one.SOPInstanceUID for one in instances]


def test_an_instance_of_another_study_fails_and_the_others_are_stored(client: TestClient) -> None:
    mine, other = make_ct(), make_ct()
    answer = store(client, mine, other, study=mine.StudyInstanceUID)
    assert answer.status_code == 202
    assert reasons(answer) == [0xC409]
    assert answer.json()["00081198"]["Value"][0]["00081155"]["Value"] == [other.SOPInstanceUID]
    assert len(answer.json()["00081199"]["Value"]) == 1
    assert store(client, other, study=mine.StudyInstanceUID).status_code == 409


def test_a_full_disk_is_said_with_its_reason(databases: Databases, settings: Settings) -> None:
    full = settings.model_copy(update={"reserve_bytes": 10**18})
    answer = store(make_client(databases, full), make_ct())
    assert answer.status_code == 507
    assert reasons(answer) == [0xA700]


def test_an_instance_over_the_limit_is_refused_and_not_held(databases: Databases, settings: Settings) -> None:
    small = settings.model_copy(update={"instance_limit_bytes": 10_000})
    client = make_client(databases, small)
    large = make_ct(PixelData=b"\0" * 20_000)
    assert store(client, large).status_code == 413
    answer = store(client, large, make_ct())
    assert answer.status_code == 202
    assert reasons(answer, "0008119A") == [0xA700]


def test_dicom_that_is_no_instance_goes_to_quarantine_and_is_not_acknowledged(
    client: TestClient, databases: Databases
) -> None:
    answer = store(client, make_ct(SeriesInstanceUID=None))
    assert answer.status_code == 409
    assert reasons(answer) == [0xC000]
    with transaction(databases.hospital) as session:
        assert session.scalars(sa.select(Quarantined)).one().calling_aet == "STOW-RS"


def test_what_is_no_dicom_fails_and_is_not_kept_anywhere(client: TestClient, databases: Databases) -> None:
    headers, body = multipart(b"no dicom at all", b"", b"\x08\x00garbage of sixteen bytes and more")
    answer = client.post("/dicom-web/studies", headers=headers, content=body)
    assert answer.status_code == 409
    assert reasons(answer, "0008119A") == [0xC000] * 3
    with transaction(databases.hospital) as session:
        assert session.scalars(sa.select(Quarantined)).all() == []


def test_a_part_of_another_type_fails(client: TestClient) -> None:
    headers, body = multipart(file_of(make_ct()), kind="image/jpeg")
    assert client.post("/dicom-web/studies", headers=headers, content=body).status_code == 409


def test_a_body_cut_off_keeps_what_came_whole(client: TestClient) -> None:
    headers, body = multipart(file_of(make_ct()), file_of(make_ct()))
    answer = client.post("/dicom-web/studies", headers=headers, content=body[:-100])
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 1
    assert reasons(answer, "0008119A") == [0xC000]


def test_one_instance_may_be_the_whole_body(client: TestClient) -> None:
    answer = client.post(
        "/dicom-web/studies", headers={"Content-Type": "application/dicom"}, content=file_of(make_ct())
    )
    assert answer.status_code == 200


def test_a_deflated_instance_is_stored(client: TestClient) -> None:
    assert store(client, make_ct(syntax=DeflatedExplicitVRLittleEndian)).status_code == 200


def test_a_request_of_another_kind_is_refused(client: TestClient) -> None:
    _, body = multipart(file_of(make_ct()))
    for headers, status in OTHER_KINDS:
        assert client.post("/dicom-web/studies", headers=headers, content=body).status_code == status, headers


def test_an_empty_body_is_refused(client: TestClient) -> None:
    headers, _ = multipart()
    assert client.post("/dicom-web/studies", headers=headers, content=b"").status_code == 400
    assert client.post("/dicom-web/studies", headers=headers, content=b"--xYzZY--").status_code == 400


def test_an_address_that_names_no_study_is_refused(client: TestClient) -> None:
    headers, body = multipart(file_of(make_ct()))
    for study in ("..%2f..%2fetc", "1.2.x", "1.2.3%0a", "%00", "1" * 65):
        answer = client.post(f"/dicom-web/studies/{study}", headers=headers, content=body)
        assert answer.status_code in (400, 404, 405), study


def test_no_answer_and_no_log_line_names_the_patient(
    client: TestClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = [
        store(client, make_ct()),
        store(client, make_ct(), study=generate_uid()),
        store(client, make_ct(SeriesInstanceUID=None)),
        client.get("/dicom-web/studies", params={"PatientName": "Müller*", "limit": "x"}),
        client.get("/dicom-web/studies", params={"PatientID": "MRN-1", "Nonsense": "MRN-1"}),
    ]
    said = json.dumps([answer.text for answer in answers]) + caplog.text + "".join(capfd.readouterr())
    assert not [word for word in IDENTITY if word in said]


def test_what_was_kept_of_a_request_that_broke_off_is_told_of(
    client: TestClient, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers, body = multipart(file_of(make_ct()), file_of(make_ct()))

    async def break_off(*args: object) -> AsyncIterator[bytes]:
        del args
        yield body[:-500]
        raise HTTPException(408, "The body stopped arriving.")

    monkeypatch.setattr(store_module, "_pieces", break_off)
    assert client.post("/dicom-web/studies", headers=headers, content=body).status_code == 408
    with transaction(databases.hospital) as session:
        assert len(session.scalars(sa.select(Instance)).all()) == 1
        (told,) = page_of_messages(session, 10)
    assert told.sentence == "Received from 127.0.0.1: 1 instance."
