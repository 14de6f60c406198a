"""The request side against real PACSs: studies found and retrieved whole, by every way, and what goes wrong."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from conftest import PATIENT
from postgresql_server import PostgresqlServer
from pydicom import dcmread
from request_peers import QR_TITLE, Dcmqrscp, RequestSide, changed_copies, request_side, wait_for

from dicom_node import clock
from dicom_node.db.request_tables import RequestMatch
from dicom_node.db.requests import (
    cancel,
    cancel_batch,
    choose_match,
    events_of,
    get_request,
    held_instances,
    matches_of,
    requests_of_batch,
    retry,
)
from dicom_node.db.session import BASES, transaction
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, Orthanc
from dicom_node.logs import configure_logging
from dicom_node.net.scu import Address
from dicom_node.pipeline.requests_csv import add_batch
from dicom_node.web import request_views as views

SLICES = 12
WAYS = {
    "dcmqrscp by C-GET": ("dcmqrscp", {"retrieve_by": "get"}),
    "dcmqrscp by C-MOVE": ("dcmqrscp", {"retrieve_by": "move"}),
    "Orthanc by C-GET": ("orthanc", {"retrieve_by": "get"}),
    "Orthanc by C-MOVE": ("orthanc", {"retrieve_by": "move"}),
    "Orthanc by QIDO-RS and WADO-RS": ("orthanc", {"kind": "dicomweb"}),
    "Orthanc by its own interface": ("orthanc", {"kind": "orthanc"}),
}
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture
def side(tmp_path: Path) -> Iterator[RequestSide]:
    with request_side(tmp_path / "node") as made:
        yield made


@pytest.fixture
def slices(patient_files: list[Path]) -> list[Path]:
    return patient_files[:SLICES]


@pytest.fixture
def make_pacs(
    tmp_path: Path, binary: Callable[[str], str], side: RequestSide
) -> Iterator[Callable[..., Dcmqrscp | Orthanc]]:
    running: list[Dcmqrscp | Orthanc] = []

    def make(program: str, **peer: object) -> Dcmqrscp | Orthanc:
        folder = tmp_path / f"pacs{len(running)}"
        if program == "dcmqrscp":
            folder.mkdir()
            pacs: Dcmqrscp | Orthanc = Dcmqrscp(
                binary("dcmqrscp"), folder, side.settings.ae_title, side.settings.dicom_port
            )
            title = QR_TITLE
        else:
            if peer.get("kind") == "dicomweb" and not PLUGIN.exists():
                pytest.skip("Orthanc's DICOMweb plugin is not installed")
            node = Address(side.settings.ae_title, "127.0.0.1", side.settings.dicom_port, AE_TITLE)
            plugins = [str(PLUGIN)] if PLUGIN.exists() else []
            pacs = Orthanc(binary("Orthanc"), folder, node, plugins)
            url = {"dicomweb": f"{pacs.url}/dicom-web", "orthanc": pacs.url}.get(str(peer.get("kind")), "")
            peer, title = {"url": url, **peer}, AE_TITLE
        running.append(pacs)
        side.add_peer(str(peer.pop("name", "PACS")), title, pacs.port, **peer)
        return pacs

    yield make
    for pacs in running:
        pacs.close()


def held_count(side: RequestSide, study: str) -> int:
    with transaction(side.databases.hospital) as session:
        return sum(len(one) for one in held_instances(session, study).values())


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_study_is_found_and_comes_whole(
    way: str, side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path]
) -> None:
    kind, peer = WAYS[way]
    make_pacs(kind, **peer).take(slices)
    row = side.run(side.ask(reference="T-1", patient_id=PATIENT.patient_id))
    assert (row.state, row.expected_count, row.received_count) == ("RECEIVED", SLICES, SLICES), row.sentence
    study = str(dcmread(slices[0], stop_before_pixels=True).StudyInstanceUID)
    assert row.study_instance_uid == study
    assert held_count(side, study) == SLICES


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_accession_number_alone_finds_it(
    way: str, side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path]
) -> None:
    kind, peer = WAYS[way]
    make_pacs(kind, **peer).take(slices[:2])
    row = side.run(side.ask(reference="T-1", accession_number=PATIENT.accession_number))
    assert row.state == "RECEIVED", row.sentence


def test_a_study_that_comes_later_is_waited_for(
    side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path]
) -> None:
    pacs = make_pacs("orthanc")
    asked = side.ask(reference="T-1", patient_id=PATIENT.patient_id)
    side.run(asked, ("WAITING",), "PACS holds no such study.")
    pacs.take(slices)
    assert side.run(asked).state == "RECEIVED"


def test_waiting_ends_with_a_sentence(tmp_path: Path, make_pacs: Callable[..., Orthanc], side: RequestSide) -> None:
    make_pacs("orthanc")
    side.requests._settings = side.settings.model_copy(update={"request_wait_s": 0.0})
    row = side.run(side.ask(reference="T-1", patient_id="NOBODY-1"))
    assert (row.state, row.sentence) == ("FAILED", "Given up after 0 hours. PACS holds no such study.")


def test_a_pacs_that_is_away_is_waited_for(
    side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path]
) -> None:
    side.add_peer("Away", "AWAY", 9, kind="dimse")
    asked = side.ask(reference="T-1", patient_id=PATIENT.patient_id)
    side.run(asked, ("WAITING",), "does not answer")
    make_pacs("orthanc").take(slices)
    row = side.run(asked)
    assert row.state == "RECEIVED", "a second PACS has it"


def test_of_two_studies_a_person_chooses(
    side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path], tmp_path: Path
) -> None:
    pacs = make_pacs("orthanc")
    older = changed_copies(slices[:3], tmp_path / "older", suffix="2", StudyDate="20250101", AccessionNumber="ACC-OLD")
    pacs.take([*slices, *older])
    asked = side.ask(reference="T-1", patient_id=PATIENT.patient_id)
    row = side.run(asked)
    assert (row.state, row.sentence) == ("CHOOSE", "2 studies match; choose the one that is meant.")
    with transaction(side.databases.hospital) as session:
        matches: list[RequestMatch] = matches_of(session, [asked])[asked]
        assert [match.instance_count for match in matches] == [SLICES, 3]
        choose_match(session, asked, matches[1].id, clock.now())
    row = side.run(asked, ("RECEIVED",))
    assert row.received_count == 3


def test_dates_narrow_two_studies_to_one(
    side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path], tmp_path: Path
) -> None:
    pacs = make_pacs("dcmqrscp")
    older = changed_copies(slices[:3], tmp_path / "older", suffix="2", StudyDate="20250101", AccessionNumber="ACC-OLD")
    pacs.take([*slices[:4], *older])
    row = side.run(side.ask(reference="T-1", patient_id=PATIENT.patient_id, study_date_to="2025-12-31"))
    assert (row.state, row.received_count) == ("RECEIVED", 3)


def test_another_patients_study_is_refused(
    side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path]
) -> None:
    make_pacs("orthanc").take(slices)
    row = side.run(side.ask(reference="T-1", patient_id="OTHER-77", accession_number=PATIENT.accession_number))
    assert row.state == "FAILED"
    assert "belongs to another patient id" in row.sentence
    assert "OTHER-77" not in row.sentence
    assert held_count(side, str(dcmread(slices[0], stop_before_pixels=True).StudyInstanceUID)) == 0


@pytest.mark.parametrize("way", [way for way in WAYS if "C-GET" in way or "own" in way], ids=str)
def test_a_study_that_holds_another_patients_image_is_refused(
    way: str, side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path], tmp_path: Path
) -> None:
    kind, peer = WAYS[way]
    pacs = make_pacs(kind, **peer)
    pacs.take([*changed_copies(slices[:1], tmp_path / "mixed", PatientID="OTHER-77"), *slices[1:4]])
    row = side.run(
        side.ask(reference="T-1", accession_number=PATIENT.accession_number), ("FAILED", "WAITING"), "patient"
    )
    assert "another patient id" in row.sentence or "under two patients" in row.sentence
    assert "OTHER-77" not in row.sentence


def test_images_that_do_not_come_are_counted_and_tried_again(
    side: RequestSide, make_pacs: Callable[..., Dcmqrscp], slices: list[Path], tmp_path: Path
) -> None:
    pacs = make_pacs("dcmqrscp")
    pacs.take(slices)
    lost = sorted(path for path in (tmp_path / "pacs0" / "qr").iterdir() if path.name.startswith("CT"))[5]
    kept = lost.read_bytes()
    lost.unlink()
    asked = side.ask(reference="T-1", patient_id=PATIENT.patient_id)
    wanted = f"1 of {SLICES} images did not come from {QR_TITLE}."
    side.run(asked, ("RETRIEVING",), wanted)
    lost.write_bytes(kept)
    row = side.run(asked)
    assert (row.state, held_count(side, row.study_instance_uid)) == ("RECEIVED", SLICES)
    with transaction(side.databases.hospital) as session:
        assert any(wanted in event.sentence for event in events_of(session, asked))


def test_a_request_is_cancelled_and_begun_again(
    side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path]
) -> None:
    pacs = make_pacs("orthanc")
    asked = side.ask(reference="T-1", patient_id=PATIENT.patient_id)
    with transaction(side.databases.hospital) as session:
        cancel(session, asked, clock.now())
    pacs.take(slices)
    assert side.requests(clock.now()) == 0, "nobody acts on it"
    with transaction(side.databases.hospital) as session:
        retry(session, asked, clock.now())
    assert side.run(asked).state == "RECEIVED"


@pytest.mark.parametrize("way", [way for way in WAYS if "MOVE" not in way], ids=str)
def test_a_retrieval_that_is_cancelled_ends_at_once(
    way: str, side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, peer = WAYS[way]
    make_pacs(kind, **peer).take(slices)
    asked = side.ask(reference="T-1", patient_id=PATIENT.patient_id)
    keep = side.requests._keep

    def keep_three(arrival: object) -> object:
        kept = keep(arrival)
        if held_count(side, study) == 3:
            with transaction(side.databases.hospital) as session:
                cancel(session, asked, clock.now())
            side.requests._renew(clock.now())
        return kept

    study = str(dcmread(slices[0], stop_before_pixels=True).StudyInstanceUID)
    monkeypatch.setattr(side.requests, "_keep", keep_three)
    side.run(asked, ("CANCELLED",))
    wait_for(lambda: not side.requests._running, 10)
    assert held_count(side, study) == 3


def test_a_study_that_is_here_already_is_not_sent_again(
    side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path]
) -> None:
    make_pacs("orthanc").take(slices)
    first = side.run(side.ask(reference="T-1", patient_id=PATIENT.patient_id))
    with transaction(side.databases.hospital) as session:
        cancel(session, first.id, clock.now())
    row = side.run(side.ask(reference="T-2", patient_id=PATIENT.patient_id))
    assert row.state == "RECEIVED"
    assert f"{SLICES} were here before" in row.sentence
    assert held_count(side, row.study_instance_uid) == SLICES


def test_what_another_process_left_is_taken_over(
    side: RequestSide, make_pacs: Callable[..., Orthanc], slices: list[Path]
) -> None:
    make_pacs("orthanc").take(slices)
    asked = side.ask(reference="T-1", patient_id=PATIENT.patient_id)
    with transaction(side.databases.hospital) as session:
        row = get_request(session, asked)
        row.claimed_by, row.claimed_until = "a process that died", clock.now() + timedelta(seconds=1)
    assert side.requests(clock.now()) == 0
    assert side.run(asked).state == "RECEIVED"


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_identifier_is_logged(
    way: str,
    side: RequestSide,
    make_pacs: Callable[..., Orthanc],
    slices: list[Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure_logging("DEBUG")
    kind, peer = WAYS[way]
    make_pacs(kind, **peer).take(slices[:2])
    side.run(side.ask(reference="T-1", patient_id=PATIENT.patient_id))
    side.run(side.ask(reference="T-2", accession_number="NOWHERE-17"), ("WAITING",))
    told = capfd.readouterr()
    for word in (PATIENT.patient_id, PATIENT.accession_number, "NOWHERE-17", *PATIENT.identifiers):
        assert word not in told.out + told.err, word


def test_the_queue_works_on_postgresql(
    postgresql: PostgresqlServer, tmp_path: Path, make_pacs: Callable[..., Dcmqrscp], slices: list[Path]
) -> None:
    urls = {f"{name}_database_url": postgresql.fresh(f"requests_{name}") for name in BASES}
    with request_side(tmp_path / "pg", **urls) as side:
        pacs = make_pacs("dcmqrscp")
        pacs.take(slices)
        side.add_peer("PACS", QR_TITLE, pacs.port, requests_per_minute=100)
        text = f"reference,patient_id\nT-1,{PATIENT.patient_id}\nT-2,NOBODY-2\n"
        with transaction(side.databases.hospital) as session:
            batch_id = add_batch(session, text.encode(), "two.csv", side.settings, clock.now()).batch_id
            ids = [row.id for row in requests_of_batch(session, batch_id)]
        assert side.run(ids[0]).state == "RECEIVED"
        side.run(ids[1], ("WAITING",), "holds no such study")
        page = views.page(side.databases, side.settings, "", batch_id, 10)
        assert page.counts == {"RECEIVED": 1, "WAITING": 1}
        assert views.page(side.databases, side.settings, "", "", 10).counts == page.counts
        with transaction(side.databases.hospital) as session:
            assert cancel_batch(session, batch_id, clock.now()) == 1
        assert len(list(views.result_lines(side.databases, batch_id))) == 3


def test_a_node_that_is_killed_while_it_retrieves_goes_on_and_analyses_once(
    make_node: Callable[..., LocalNode], make_orthanc: Callable[[LocalNode], Orthanc], patient_files: list[Path]
) -> None:
    node = make_node(strength_interval=False, element_mm=3, completeness_wait_s=30)
    orthanc = make_orthanc(node)
    httpx.patch(f"{node.url}/api/peers/Orthanc", json={"is_queried": True}).raise_for_status()
    orthanc.take(patient_files)
    asked = {"reference": "TRIAL-0042", "patient_id": PATIENT.patient_id, "ethnicity": "White British", "weight_kg": 80}
    request_id = node.post("/requests", asked)["id"]
    state = lambda: node.get(f"/api/requests/{request_id}")  # noqa: E731 - asked again and again
    wait_for(lambda: state()["state"] == "RETRIEVING", 60)
    node.kill()
    node.start()
    row = wait_for(lambda: (one := state())["state"] in ("DONE", "FAILED") and one, 400)
    assert row["state"] == "DONE", row["sentence"]
    assert row["received_count"] == len(patient_files)
    (job,) = node.get("/api/jobs")
    assert job["id"] == row["job_id"]
    subject = node.get(f"/api/jobs/{row['job_id']}")["report"]["subject"]
    assert subject["weight_kg"] == {"value": 61.5, "source": "header"}
    assert subject["ethnicity"] == {"value": "White British", "source": "request"}
    assert subject["reference"] == "TRIAL-0042"
    assert any("different weight" in event["sentence"] for event in row["history"])
    for path in (node.data_dir / "research").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert PATIENT.patient_id.encode() not in content, path.name
