"""Completeness against real PACSs: Orthanc with more images than were sent, and what each kind of peer counts."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import build_context
from test_bad_input import sphere_scan

from dicom_node.demo.fake_ct import FakePatient, write_series
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, Orthanc, free_port
from dicom_node.net.counts import Catalogue, DicomwebCatalogue, OrthancCatalogue, dimse_catalogue
from dicom_node.net.remote import WebServer
from dicom_node.net.scu import Address, associate, echo, send_files
from dicom_node.net.statuses import SUCCESS
from tests.conftest import wait_for

pytestmark = pytest.mark.needs_binary
PATIENT = FakePatient()
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
BY = {"actor": "Olga Operator"}
SENT, HELD_BACK = 37, 3


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A CT of 40 slices."""
    return write_series(sphere_scan(), tmp_path / "ct", PATIENT, seed=f"{tmp_path}")


def study_of(files: list[Path]) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def queried_orthanc(node: LocalNode, make_orthanc: Callable[[LocalNode], Orthanc], **changes: object) -> Orthanc:
    """Start an Orthanc that the node may ask for studies."""
    orthanc = make_orthanc(node)
    httpx.delete(f"{node.url}/api/peers/Orthanc").raise_for_status()
    peer = {"name": "PACS", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": orthanc.port, "is_queried": True}
    web = {"url": orthanc.url} if changes.get("kind") == "orthanc" else {}
    node.post("/api/peers", {**peer, **changes, **web})
    return orthanc


def send(node: LocalNode, files: list[Path]) -> None:
    send_files(Address(node.ae_title, "127.0.0.1", node.dicom_port, AE_TITLE), files)


def only_study(node: LocalNode) -> dict[str, Any]:
    found = node.get("/api/studies")
    return dict(found[0]) if found else {}


def state_is(node: LocalNode, *states: str) -> Callable[[], dict[str, Any] | None]:
    return lambda: study if (study := only_study(node)).get("state") in states else None


@pytest.mark.parametrize("kind", ["dimse", "orthanc"])
def test_a_study_waits_until_everything_the_pacs_has_is_here(
    make_node: Callable[..., LocalNode], make_orthanc: Callable[[LocalNode], Orthanc], files: list[Path], kind: str
) -> None:
    node = make_node(completeness_wait_s=120)
    orthanc = queried_orthanc(node, make_orthanc, kind=kind)
    orthanc.take(files)
    send(node, files[:SENT])
    study = wait_for(
        lambda: one if "37" in (one := only_study(node)).get("sentence", "") else None, 30, "the PACS's count"
    )
    assert study["state"] == "waiting_pacs"
    assert study["sentence"] == "PACS has 40 instances of the study, here are 37."
    assert node.get("/api/jobs") == []
    send(node, files[SENT:])
    study = wait_for(state_is(node, "routed"), 60, "the study to be routed")
    assert (study["instance_count"], study["versions"][0]["incomplete"]) == (40, "")
    assert len(node.get("/api/jobs")) == 1
    log = (node.data_dir.parent / "node.log").read_text()
    assert not [word for word in PATIENT.identifiers if word in log]


def test_what_the_pacs_never_sends_is_held_for_an_operator_or_flagged(
    make_node: Callable[..., LocalNode], make_orthanc: Callable[[LocalNode], Orthanc], files: list[Path]
) -> None:
    node = make_node(completeness_wait_s=3, completeness_policy="hold")
    orthanc = queried_orthanc(node, make_orthanc)
    orthanc.take(files)
    send(node, files[:SENT])
    study = wait_for(state_is(node, "incomplete"), 30, "the study to be held")
    assert node.get("/api/jobs") == []
    node.kill()
    node.start()
    assert only_study(node)["state"] == "incomplete", "a held study is held across a restart"
    node.post(f"/api/studies/{study['study_instance_uid']}/orders", {"action": "proceed", **BY})
    study = wait_for(state_is(node, "routed"), 10, "the study to be routed")
    (version,) = study["versions"]
    assert version["forced_by"] == BY["actor"]
    assert version["incomplete"] == "PACS has 40 instances of the study, here are 37."


def test_a_pacs_that_is_away_stops_nothing_for_ever_and_no_other_study(
    make_node: Callable[..., LocalNode], files: list[Path], tmp_path: Path
) -> None:
    node = make_node(completeness_wait_s=6)
    peer = {"name": "PACS", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": free_port(), "is_queried": True}
    node.post("/api/peers", peer)
    node.post("/api/peers", {**peer, "name": "Scanner", "ae_title": "SCANNER", "is_queried": False})
    rule = {"name": "Scanner", "conditions": [{"field": "calling_aet", "operator": "is", "value": "SCANNER"}]}
    node.post("/api/rules", {**BY, "rule": {**rule, "completeness": {"pacs": "off"}}})
    node.post("/api/rules/Scanner/place", {**BY, "place": 1})
    other = write_series(sphere_scan(), tmp_path / "other", PATIENT, seed=f"other {tmp_path}")
    send(node, files)
    send_files(Address(node.ae_title, "127.0.0.1", node.dicom_port, "SCANNER"), other)
    states = wait_for(
        lambda: (
            found
            if (found := {one["study_instance_uid"]: one for one in node.get("/api/studies")})
            and found[study_of(other)]["state"] == "routed"
            else None
        ),
        15,
        "the other study",
    )
    assert states[study_of(files)]["state"] in ("arriving", "waiting_pacs")
    study = wait_for(
        lambda: one if (one := node.get(f"/api/studies/{study_of(files)}"))["state"] == "routed" else None,
        40,
        "the study",
    )
    assert "PACS has not said" in study["versions"][0]["incomplete"]


def result_like(files: list[Path], path: Path) -> Path:
    """Write an SR into the study of the files."""
    ds = dcmread(files[0], stop_before_pixels=True)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SeriesInstanceUID, ds.Modality = generate_uid(), "SR"
    ds.save_as(path)
    return path


def expect_catalogue(catalogue: Catalogue, files: list[Path], *, counts: bool = True) -> None:
    """Check every list of a PACS that holds the files and one SR beside them."""
    header = dcmread(files[0], stop_before_pixels=True)
    study, series = str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
    assert catalogue.study_count(study) == (True, len(files) + 1 if counts else None)
    assert catalogue.study_count("1.2.3.4.5") == (False, None)
    rows = {row.modality: row for row in catalogue.series_counts(study)}
    assert rows["CT"].series_instance_uid == series
    assert [rows[one].instance_count for one in ("CT", "SR")] == ([len(files), 1] if counts else [None, None])
    assert catalogue.instances(study, series) == {str(dcmread(one).SOPInstanceUID) for one in files}
    assert catalogue.instances(study, "1.2.3.4.5") == set()


def test_orthanc_counts_the_same_by_every_way_of_asking(
    binary: Callable[[str], str], files: list[Path], tmp_path: Path
) -> None:
    plugins = [str(DICOMWEB_PLUGIN)] if DICOMWEB_PLUGIN.exists() else []
    orthanc = Orthanc(binary("Orthanc"), tmp_path / "orthanc", Address("NODE", "127.0.0.1", 1, AE_TITLE), plugins)
    try:
        orthanc.take([*files, result_like(files, tmp_path / "sr.dcm")])
        with dimse_catalogue(Address(AE_TITLE, "127.0.0.1", orthanc.port, "NODE")) as catalogue:
            expect_catalogue(catalogue, files)
        expect_catalogue(OrthancCatalogue(WebServer("PACS", orthanc.url)), files)
        if plugins:
            expect_catalogue(DicomwebCatalogue(WebServer("PACS", f"{orthanc.url}/dicom-web")), files)
    finally:
        orthanc.close()


@pytest.fixture
def dcmqrscp(binary: Callable[[str], str], tmp_path: Path) -> Iterator[int]:
    """DCMTK's archive, which does not count; returns its port."""
    port, folder = free_port(), tmp_path / "qrscp"
    folder.mkdir()
    (tmp_path / "qr.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 8\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {folder} RW (200, 1024mb) ANY\nAETable END\n"
    )
    command = [binary("dcmqrscp"), "-c", str(tmp_path / "qr.cfg"), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = Address("ARCHIVE", "127.0.0.1", port, "NODE")

    def answers() -> bool:
        try:
            echo(address)
        except Exception:  # noqa: BLE001 - not yet
            return False
        return True

    wait_for(answers, 20, "dcmqrscp")
    yield port
    process.terminate()
    process.wait(10)


def test_instances_are_counted_here_where_the_pacs_does_not_count(
    dcmqrscp: int, files: list[Path], tmp_path: Path
) -> None:
    address = Address("ARCHIVE", "127.0.0.1", dcmqrscp, "NODE")
    send_files(address, [*files, result_like(files, tmp_path / "sr.dcm")])
    with dimse_catalogue(address) as catalogue:
        expect_catalogue(catalogue, files, counts=False)


def test_a_study_waits_for_a_pacs_that_does_not_count(
    make_node: Callable[..., LocalNode], dcmqrscp: int, files: list[Path]
) -> None:
    send_files(Address("ARCHIVE", "127.0.0.1", dcmqrscp, "NODE"), files)
    node = make_node(completeness_wait_s=120)
    node.post(
        "/api/peers",
        {
            "name": "PACS",
            "ae_title": "ARCHIVE",
            "host": "127.0.0.1",
            "port": dcmqrscp,
            "is_queried": True,
            "receives_results": False,
        },
    )
    node.post(
        "/api/peers", {"name": "CT", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": 1, "receives_results": False}
    )
    send(node, files[:SENT])
    study = wait_for(
        lambda: one if "37" in (one := only_study(node)).get("sentence", "") else None, 30, "the PACS's count"
    )
    assert study["sentence"] == "PACS has 40 instances of the study, here are 37."
    send(node, files[SENT:])
    wait_for(state_is(node, "routed"), 60, "the study to be routed")


def test_an_open_association_is_waited_for(make_node: Callable[..., LocalNode], files: list[Path]) -> None:
    node = make_node(quiet_s=1.0, released_quiet_s=0.5, idle_timeout_s=60)
    node.post(
        "/api/peers", {"name": "CT", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": 1, "receives_results": False}
    )
    address = Address(node.ae_title, "127.0.0.1", node.dicom_port, AE_TITLE)
    with associate(address, [build_context(CTImageStorage, ExplicitVRLittleEndian)]) as assoc:
        assert assoc.send_c_store(dcmread(files[0])).Status == SUCCESS
        study = wait_for(lambda: only_study(node) or None, 10, "the study")
        assert study["is_open"]
        with pytest.raises(pytest.fail.Exception):
            wait_for(state_is(node, "routed"), 2.5, "what must not come: it is quiet twice over")
    wait_for(state_is(node, "routed"), 4, "the study after the release")
