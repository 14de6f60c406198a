"""QIDO-RS: what is found at each level, by what, and how much of it is told."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from pydicom.uid import SegmentationStorage, generate_uid

from dicom_node import clock
from dicom_node.db.dicomweb_tables import CatalogueInstance
from dicom_node.db.models import Instance, Result, StudyVersion
from dicom_node.db.session import Databases, transaction
from dicom_node.dicomweb import catalogue, query
from dicom_node.settings import Settings
from tests.unit.dicom_node.dicomweb_app import file_of, make_client, make_ct, store

FIND = "/dicom-web/studies"


MATCHES: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"PatientName": "müller^änne"}, True),
    ({"PatientName": "M*LLER*"}, True),
    ({"PatientName": "M?ller*"}, True),
    ({"PatientName": "Müller"}, False),
    ({"PatientName": ""}, True),
    ({"PatientName": "*"}, True),
    ({"00100020": "MRN-1"}, True),
    ({"PatientID": "mrn-1"}, False),
    ({"PatientID": "MRN-?"}, True),
    ({"PatientID": "mrn*"}, False),
    ({"PatientID": "MRN_1"}, False),
    ({"PatientID": "%"}, False),
    ({"PatientID": "[M]RN-1"}, False),
    ({"PatientID": "[M]RN*"}, False),
    ({"PatientID": "' OR 1=1 --"}, False),
    ({"PatientID": "\\"}, False),
    ({"AccessionNumber": "ACC-1"}, True),
    ({"StudyDescription": "*pelvis"}, True),
    ({"StudyDate": "20260914"}, True),
    ({"StudyDate": "20260101-20261231"}, True),
    ({"StudyDate": "-20260913"}, False),
    ({"StudyDate": "20260914-"}, True),
    ({"StudyDate": "20261231-20260101"}, False),
    ({"StudyTime": "101532"}, True),
    ({"StudyTime": "10-1015"}, True),
    ({"StudyTime": "11-"}, False),
    ({"PatientBirthDate": "19400102"}, True),
    ({"ModalitiesInStudy": "CT"}, True),
    ({"ModalitiesInStudy": "MR,CT"}, True),
    ({"ModalitiesInStudy": "MR\\PT"}, False),
    ({"Modality": "CT", "SeriesNumber": "3"}, True),
    ({"SeriesNumber": "4"}, False),
    ({"StudyInstanceUID": "1.2.3"}, False),
    ({"StudyInstanceUID": "1.2.3,1.2.4"}, False),
]
"""A search, and whether it finds the study of ``make_ct``."""
REFUSED: list[dict[str, str]] = [
    {"limit": "-1"},
    {"limit": "1e3"},
    {"limit": "9" * 30},
    {"offset": "x"},
    {"StudyDate": "2026"},
    {"StudyDate": "yesterday"},
    {"StudyDate": "20260101-20260201-20260301"},
    {"StudyTime": "noon"},
    {"SeriesNumber": "three"},
    {"StudyInstanceUID": "1.2.x"},
    {"StudyInstanceUID": ",".join(["1.2"] * 1001)},
    {"PatientID": "x" * 5000},
    {"PatientID": "a\0b"},
    {"NoSuchAttribute": "1"},
    {"includefield": "NoSuchAttribute"},
    {"'; DROP TABLE": "1"},
    {"0010002Z": "1"},
]


@pytest.fixture
def client(databases: Databases, settings: Settings) -> TestClient:
    return make_client(databases, settings)


def found(answer: Any, tag: str = "0020000D") -> list[Any]:
    """Return an element's first value of every result."""
    assert answer.status_code == 200, answer.text
    return [one[tag]["Value"][0] for one in answer.json()]


def test_a_study_is_told_with_what_the_standard_requires(client: TestClient) -> None:
    study = generate_uid()
    series = [generate_uid(), generate_uid()]
    for number in range(3):
        store(client, make_ct(StudyInstanceUID=study, SeriesInstanceUID=series[0], InstanceNumber=number))
    store(client, make_ct(StudyInstanceUID=study, SeriesInstanceUID=series[1], Modality="SR"))
    answer = client.get(FIND)
    assert answer.headers["content-type"] == "application/dicom+json"
    (one,) = answer.json()
    values = {tag: element["Value"] for tag, element in one.items()}
    assert values["00080020"] == ["20260914"]
    assert values["00080061"] == ["CT", "SR"]
    assert values["00081190"] == [f"http://127.0.0.1:8080/dicom-web/studies/{study}"]
    assert values["00100010"] == [{"Alphabetic": "Müller^Änne"}]
    assert values["00201206"] == [2]
    assert values["00201208"] == [4]


def test_series_and_instances_are_found_below_their_study(client: TestClient) -> None:
    ds, other = make_ct(), make_ct()
    store(client, ds, other)
    series = client.get(f"{FIND}/{ds.StudyInstanceUID}/series")
    assert found(series, "0020000E") == [ds.SeriesInstanceUID]
    assert found(series, "00201209") == [1]
    instances = client.get(f"{FIND}/{ds.StudyInstanceUID}/instances")
    assert found(instances, "00080018") == [ds.SOPInstanceUID]
    (one,) = client.get(f"{FIND}/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances").json()
    assert (one["00280010"]["Value"], one["00280011"]["Value"], one["00200013"]["Value"]) == ([4], [6], [1])
    assert {*found(client.get("/dicom-web/instances"), "00080018")} == {ds.SOPInstanceUID, other.SOPInstanceUID}
    (everywhere,) = client.get("/dicom-web/series", params={"StudyInstanceUID": ds.StudyInstanceUID}).json()
    assert everywhere["00100020"]["Value"] == ["MRN-1"], "a series searched for everywhere is told with its study"


def test_attributes_match_as_the_standard_says(client: TestClient) -> None:
    ds = make_ct()
    store(client, ds)
    for parameters, matches in MATCHES:
        uids = found(client.get(FIND, params=parameters))
        assert uids == ([ds.StudyInstanceUID] if matches else []), parameters


def test_a_list_of_uids_finds_each_of_them(client: TestClient) -> None:
    instances = [make_ct() for _ in range(3)]
    store(client, *instances)
    uids = [str(one.StudyInstanceUID) for one in instances[:2]]
    for separator in (",", "\\"):
        assert {*found(client.get(FIND, params={"StudyInstanceUID": separator.join(uids)}))} == {*uids}


def test_a_search_that_cannot_be_understood_is_refused_without_its_value(client: TestClient) -> None:
    for parameters in REFUSED:
        answer = client.get(FIND, params=parameters)
        assert answer.status_code == 400, parameters
        values = [value for value in parameters.values() if len(value) > 2 and value != "1.2.x"]
        assert not [value for value in values if value in answer.text], parameters


def test_pages_follow_one_another_and_a_cut_answer_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    store(client, *[make_ct(StudyDate=f"2026090{number}") for number in range(1, 6)])
    pages = [client.get(FIND, params={"limit": 2, "offset": offset}) for offset in (0, 2, 4)]
    assert [found(page, "00080020") for page in pages] == [
        ["20260905", "20260904"],
        ["20260903", "20260902"],
        ["20260901"],
    ]
    assert ["additional results" in page.headers.get("warning", "") for page in pages] == [True, True, False]
    monkeypatch.setattr(query, "PAGE", 3)
    answer = client.get(FIND, params={"limit": 1_000_000})
    assert len(answer.json()) == 3
    assert "additional results" in answer.headers["warning"]


def test_what_is_not_supported_is_said_in_a_warning(client: TestClient) -> None:
    store(client, make_ct())
    answer = client.get(FIND, params={"fuzzymatching": "true", "PatientComments": "x", "InstanceNumber": "7"})
    assert len(answer.json()) == 1
    warnings = answer.headers.get_list("warning")
    assert warnings[-1] == (
        '299 http://127.0.0.1:8080/dicom-web: "The fuzzymatching parameter is not supported. '
        'Only literal matching has been performed."'
    )
    assert ["PatientComments" in warnings[0], "InstanceNumber" in warnings[1]] == [True, True]


def test_fields_asked_for_are_told_besides(client: TestClient) -> None:
    ds = make_ct(PatientComments="walks", ProtocolName="Pelvis", KVP=120, ImageComments="blurred")
    store(client, ds)
    path = f"{FIND}/{ds.StudyInstanceUID}/instances"
    assert "00104000" not in client.get(FIND).json()[0]
    assert client.get(FIND, params={"includefield": "PatientComments"}).json()[0]["00104000"]["Value"] == ["walks"]
    assert client.get(FIND, params={"includefield": "00104000,StudyID"}).json()[0]["00104000"]["Value"] == ["walks"]
    assert "00180060" not in client.get(path).json()[0]
    assert client.get(path, params={"includefield": "KVP"}).json()[0]["00180060"]["Value"] == [120.0]
    everything = client.get(path, params={"includefield": "all"}).json()[0]
    assert everything["00204000"]["Value"] == ["blurred"]
    assert "7FE00010" not in everything


def test_a_search_sees_what_was_acknowledged_before_it(client: TestClient) -> None:
    study = generate_uid()
    for number in range(1, 4):
        store(client, make_ct(StudyInstanceUID=study, SeriesDescription=f"as of {number}"))
        assert found(client.get(FIND), "00201208") == [number]
        assert len(client.get(f"{FIND}/{study}/instances").json()) == number


def test_a_study_sent_again_under_a_corrected_name_is_found_under_that_one(client: TestClient) -> None:
    ds = make_ct()
    store(client, ds)
    assert len(client.get(FIND, params={"PatientName": "Müller*"}).json()) == 1
    ds.PatientName, ds.InstanceNumber = "Maier^Anna", 9
    store(client, ds)
    assert client.get(FIND, params={"PatientName": "Müller*"}).json() == []
    (one,) = client.get(FIND, params={"PatientName": "Maier*"}).json()
    assert one["00201208"]["Value"] == [1], "the same instance in two contents is one"
    (instance,) = client.get(f"{FIND}/{ds.StudyInstanceUID}/instances").json()
    assert instance["00200013"]["Value"] == [9]


def test_a_header_full_of_nonsense_hides_nothing_else(client: TestClient) -> None:
    ds = make_ct(StudyDate="not a date", PatientName="A\\B^^^=^", SeriesNumber=None, PatientID="x" * 500)
    store(client, ds)
    (one,) = client.get(FIND).json()
    assert one["0020000D"]["Value"] == [ds.StudyInstanceUID]
    assert client.get(FIND, params={"StudyDate": "20000101-"}).json() == []


def test_a_search_over_more_files_than_one_may_read_is_too_broad(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = make_ct()
    store(client, ds, make_ct(), make_ct())
    monkeypatch.setattr(catalogue, "INDEX_LIMIT", 2)
    answer = client.get("/dicom-web/instances")
    assert answer.status_code == 413
    assert client.get(f"{FIND}/{ds.StudyInstanceUID}/instances").status_code == 200


@pytest.fixture
def make_result(databases: Databases, settings: Settings) -> Callable[..., str]:
    """Return a factory of result objects as the pipeline leaves them."""

    def make(study: str, job_id: str, version: int = 1, attempt: int = 1, kind: str = "seg") -> str:
        ds = make_ct(StudyInstanceUID=study, SOPClassUID=SegmentationStorage, Modality="SEG", SeriesDescription=kind)
        path = f"results/{job_id}-{attempt}-{ds.SOPInstanceUID}.dcm"
        (settings.hospital_dir / "results").mkdir(exist_ok=True)
        (settings.hospital_dir / path).write_bytes(file_of(ds))
        with transaction(databases.hospital) as session:
            if not session.scalars(sa.select(StudyVersion).where(StudyVersion.job_id == job_id)).all():
                session.add(
                    StudyVersion(
                        study_instance_uid=study,
                        version=version,
                        instance_count=1,
                        ct_count=1,
                        job_id=job_id,
                        created_at=clock.now(),
                    )
                )
            session.add(
                Result(
                    sop_instance_uid=ds.SOPInstanceUID,
                    sop_class_uid=ds.SOPClassUID,
                    job_id=job_id,
                    attempt=attempt,
                    kind=kind,
                    path=path,
                )
            )
        return str(ds.SOPInstanceUID)

    return make


def test_what_the_node_made_is_found_beside_what_it_holds(client: TestClient, make_result: Callable[..., str]) -> None:
    ds = make_ct()
    store(client, ds)
    client.get(FIND)
    uid = make_result(ds.StudyInstanceUID, "a" * 32)
    (study,) = client.get(FIND).json()
    assert study["00080061"]["Value"] == ["CT", "SEG"]
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [2])
    path = f"{FIND}/{ds.StudyInstanceUID}/instances"
    assert {*found(client.get(path), "00080018")} == {uid, ds.SOPInstanceUID}
    assert client.get(f"{FIND}/{ds.StudyInstanceUID}/metadata").status_code == 200
    assert len(client.get(f"{FIND}/{ds.StudyInstanceUID}/metadata").json()) == 2


def test_of_results_the_last_attempt_of_the_last_version_is_shown(
    client: TestClient, databases: Databases, make_result: Callable[..., str]
) -> None:
    ds = make_ct()
    store(client, ds)
    path = f"{FIND}/{ds.StudyInstanceUID}/instances"

    def shown() -> set[str]:
        return {*found(client.get(path), "00080018")} - {str(ds.SOPInstanceUID)}

    first = make_result(ds.StudyInstanceUID, "a" * 32)
    make_result(ds.StudyInstanceUID, "a" * 32, kind="sr_enhanced")
    make_result(ds.StudyInstanceUID, "a" * 32, kind="kos")
    assert shown() == {first}, "the forms for some destination are not shown"
    again = make_result(ds.StudyInstanceUID, "a" * 32, attempt=2)
    assert shown() == {again}
    later = make_result(ds.StudyInstanceUID, "b" * 32, version=2)
    assert shown() == {later}
    with transaction(databases.hospital) as session:
        session.execute(sa.delete(Result).where(Result.sop_instance_uid == later))
    assert shown() == {again}, "a withdrawn result is gone, and its series with it"
    assert len(client.get(f"{FIND}/{ds.StudyInstanceUID}/series").json()) == 2


def test_the_catalogue_is_made_again_from_the_files(
    client: TestClient, databases: Databases, settings: Settings
) -> None:
    store(client, make_ct(), make_ct())
    before = client.get("/dicom-web/instances").json()
    with transaction(databases.hospital) as session:
        for table in ("catalogue_instances", "catalogue_series", "catalogue_studies"):
            session.execute(sa.text(f"DELETE FROM {table}"))
    assert make_client(databases, settings).get("/dicom-web/instances").json() == before
    with transaction(databases.hospital) as session:
        assert len(session.scalars(sa.select(CatalogueInstance)).all()) == 2


def test_a_clock_that_was_once_ahead_hides_nothing_that_arrives_later(
    client: TestClient, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as wrong:
        ahead = clock.now() + timedelta(days=400)
        wrong.setattr(clock, "now", lambda: ahead)
        store(client, make_ct())
        assert len(client.get(FIND).json()) == 1
    store(client, make_ct())
    assert len(client.get(FIND).json()) == 2


def test_an_instance_whose_file_is_broken_hides_no_other(
    client: TestClient, databases: Databases, settings: Settings
) -> None:
    broken, whole = make_ct(), make_ct()
    whole.StudyInstanceUID = broken.StudyInstanceUID
    store(client, broken, whole)
    client.get(f"{FIND}/{whole.StudyInstanceUID}/instances")
    with transaction(databases.hospital) as session:
        path = session.scalars(sa.select(Instance.path).where(Instance.sop_instance_uid == broken.SOPInstanceUID)).one()
    (settings.hospital_dir / path).unlink()
    uids = {str(broken.SOPInstanceUID), str(whole.SOPInstanceUID)}
    study = f"{FIND}/{whole.StudyInstanceUID}"
    for answer in (client.get(f"{study}/instances", params={"includefield": "all"}), client.get(f"{study}/metadata")):
        assert answer.status_code == 200
        assert {*found(answer, "00080018")} == uids, "a viewer has to know that there is one more"


def test_an_instance_that_is_no_longer_shown_is_not_given_either(
    client: TestClient, make_result: Callable[..., str]
) -> None:
    ds = make_ct()
    store(client, ds)
    uid = make_result(ds.StudyInstanceUID, "a" * 32)
    (made,) = client.get(f"{FIND}/{ds.StudyInstanceUID}/instances", params={"SOPInstanceUID": uid}).json()
    address = f"{FIND}/{ds.StudyInstanceUID}/series/{made['0020000E']['Value'][0]}/instances/{uid}"
    assert client.get(address).status_code == 200
    make_result(ds.StudyInstanceUID, "b" * 32, version=2)
    assert client.get(address).status_code == 404, "a viewer that knows its address must not go on showing it"
