"""The report in every SR class under the validators that are not ours, DCMTK's renderer, and a real archive."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from result_factory import make_report, make_source

from dicom_node import clock
from dicom_node.db.deliveries import begin_again, open_deliveries, replace_results
from dicom_node.db.instances import is_own_result
from dicom_node.db.models import Delivery, Peer, Result
from dicom_node.db.session import prepare_databases, transaction
from dicom_node.errors import PeerUnavailable
from dicom_node.net.scu import Address, echo
from dicom_node.pipeline.delivery import Outbox
from dicom_node.pipeline.validators import findings, missing_validators
from dicom_node.settings import Settings
from sr_export.build import build_results
from sr_export.fallback import REPORT_CLASSES, fall_back, fallback_problems
from tests.conftest import wait_for

pytestmark = pytest.mark.needs_binary

OLDER = [key for key in REPORT_CLASSES if key != "comprehensive_3d"]
JOB = "d" * 32
OLD_ARCHIVE = """
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianImplicit
[[PresentationContexts]]
[Old]
PresentationContext1 = VerificationSOPClass\\Uncompressed
PresentationContext2 = BasicTextSRStorage\\Uncompressed
PresentationContext3 = EnhancedSRStorage\\Uncompressed
PresentationContext4 = SecondaryCaptureImageStorage\\Uncompressed
[[Profiles]]
[Old]
PresentationContexts = Old
"""
"""DCMTK's storescp as an archive of its time: two SR classes, no SEG, no PDF, Implicit VR only."""


@pytest.fixture(scope="module")
def report() -> Dataset:
    """A report with a predecessor and every kind of content."""
    source = make_source()
    first = build_results(source, make_report(groups=(), regions=(), pictures=()))
    return build_results(source, make_report(pictures=()), previous=[first.sr]).sr


def write(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("key", OLDER)
def test_every_class_passes_all_three_validators_without_any_error_or_warning(
    tmp_path: Path, binary: Callable[[str], str], report: Dataset, key: str
) -> None:
    for name in ("dciodvfy", "dcentvfy", "java"):
        binary(name)
    if missing_validators():
        pytest.skip("PixelMed is not installed")
    path = write(fall_back(report, REPORT_CLASSES[key]), tmp_path / f"{key}.dcm")
    assert findings([path], write(report, tmp_path / "report.dcm")) == ()
    assert fallback_problems(report, dcmread(path)) == ()


def test_a_number_in_basic_text_would_be_refused(tmp_path: Path, binary: Callable[[str], str], report: Dataset) -> None:
    binary("dciodvfy")
    variant = fall_back(report, REPORT_CLASSES["enhanced"])
    variant.SOPClassUID = variant.file_meta.MediaStorageSOPClassUID = REPORT_CLASSES["basic_text"].sop_class_uid
    found = findings([write(variant, tmp_path / "wrong.dcm")], write(report, tmp_path / "report.dcm"))
    assert any(one.severity == "error" for one in found)


@pytest.mark.parametrize("key", OLDER)
def test_dcmtk_renders_every_class_with_names_values_and_units(
    tmp_path: Path, binary: Callable[[str], str], report: Dataset, key: str
) -> None:
    path, html = write(fall_back(report, REPORT_CLASSES[key]), tmp_path / "sr.dcm"), tmp_path / "sr.html"
    subprocess.run([binary("dsr2html"), "+U8", path, html], check=True, capture_output=True)
    text = html.read_text()
    for expected in ("RESEARCH USE ONLY", "L1 trabecular vBMD", "104", "mg/cm3", "Right femur strength, fall", "2660"):
        assert expected in text, expected
    assert text.index("RESEARCH USE ONLY") < text.index("L1 trabecular vBMD")


def answers(address: Address) -> bool:
    try:
        echo(address)
    except PeerUnavailable:
        return False
    return True


def test_an_old_archive_gets_the_report_it_can_read_and_the_rest_is_named(
    tmp_path: Path, binary: Callable[[str], str]
) -> None:
    (tmp_path / "old.cfg").write_text(OLD_ARCHIVE)
    kept = tmp_path / "kept"
    kept.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = Settings(data_dir=tmp_path / "data", ae_title="NODE", verify_identity=False, reserve_bytes=0)
    databases = prepare_databases(settings)
    arguments = [binary("storescp"), "-xf", tmp_path / "old.cfg", "Old", "-od", kept, str(port)]
    archive = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(Address("OLD", "127.0.0.1", port, "NODE")), 10, "an answer of the archive")
        rows = []
        for number, dataset in enumerate(build_results(make_source(), make_report(pictures=())).datasets):
            uid, sop_class = str(dataset.SOPInstanceUID), str(dataset.SOPClassUID)
            kind = {"SR": "sr", "SEG": "seg", "DOC": "pdf"}.get(dataset.Modality, "page")
            path = f"results/{JOB}/1/{number}-{kind}.dcm"
            write(dataset, settings.hospital_dir / path)
            rows.append(
                Result(sop_instance_uid=uid, sop_class_uid=sop_class, job_id=JOB, attempt=1, kind=kind, path=path)
            )
        peer = Peer(name="old", ae_title="OLD", host="127.0.0.1", port=port, may_send=False, receives_results=True)
        with transaction(databases.hospital) as session:
            replace_results(session, JOB, 1, rows)
            session.add(peer)
            session.flush()
            (delivery_id,) = open_deliveries(session, JOB, 1, [peer], clock.now())
        outbox = Outbox(databases, settings)
        assert outbox.deliver(delivery_id, 1) == "FAILED"
        with transaction(databases.hospital) as session:
            sentence = session.get_one(Delivery, delivery_id).sentence
            session.get_one(Peer, peer.id).objects = "sr,sc"
            begin_again(session.get_one(Delivery, delivery_id), clock.now())
        assert "1.2.840.10008.5.1.4.1.1.66.4" in sentence, "it takes no SEG"
        assert "takes the report in no class" not in sentence
        assert outbox.deliver(delivery_id, 2) == "SENT", "by its profile nothing is missing now"
    finally:
        archive.terminate()
        archive.wait(10)
    found = [dcmread(path) for path in kept.iterdir()]
    assert {str(one.Modality) for one in found} == {"SR", "OT"}
    (sr,) = [one for one in found if one.Modality == "SR"]
    assert sr.SOPClassUID == REPORT_CLASSES["enhanced"].sop_class_uid
    assert sr.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    with transaction(databases.hospital) as session:
        assert is_own_result(session, str(sr.SOPInstanceUID))
    databases.dispose()
