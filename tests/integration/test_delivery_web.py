"""A real Orthanc as a destination: by its own interface, by its DICOMweb plug-in, and by DIMSE."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from delivery_results import DICOMWEB_PLUGIN, JOB, built, delivery, open_for, put_peer, put_results, receipts
from pydicom import dcmread

from dicom_node.db.models import Delivery, Peer
from dicom_node.db.session import Databases, prepare_databases, transaction
from dicom_node.demo.pacs import Orthanc
from dicom_node.net.scu import Address
from dicom_node.pipeline.delivery import Outbox
from dicom_node.settings import Settings
from dicom_node.web.peer_routes import verify

pytestmark = pytest.mark.needs_binary
NODE = Address("NODE", "127.0.0.1", 1, "PACS")
USER, PASSWORD = "node", "pass-of-the-archive"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", ae_title="NODE", reserve_bytes=0)


@pytest.fixture
def databases(settings: Settings) -> Iterator[Databases]:
    opened = prepare_databases(settings)
    yield opened
    opened.dispose()


@pytest.fixture
def outbox(databases: Databases, settings: Settings) -> Outbox:
    return Outbox(databases, settings)


class Archive(Orthanc):
    """An Orthanc with further settings."""

    def __init__(self, binary: str, folder: Path, **changes: object) -> None:
        self._changes = changes
        super().__init__(binary, folder, NODE, [str(DICOMWEB_PLUGIN)])

    def _configuration(self, folder: Path, node: Address, plugins: object) -> dict[str, object]:
        return {**super()._configuration(folder, node, plugins), **self._changes}  # type: ignore[arg-type]

    def holds(self) -> list[str]:
        """Return the SOP Instance UIDs of everything it holds, each as often as it holds it."""
        return sorted(
            self.client.instances.get_tags(one)["SOPInstanceUID"] for one in self.client.instances.get_all_ids()
        )


@pytest.fixture
def make_archive(tmp_path: Path, binary: Callable[[str], str]) -> Iterator[Callable[..., Archive]]:
    if not DICOMWEB_PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plug-in is not installed")
    running: list[Archive] = []

    def make(**changes: object) -> Archive:
        running.append(Archive(binary("Orthanc"), tmp_path / f"orthanc{len(running)}", **changes))
        return running[-1]

    yield make
    for one in running:
        one.close()


def peer_of(databases: Databases, archive: Archive, kind: str, **columns: object) -> Peer:
    urls = {"orthanc": archive.url, "dicomweb": f"{archive.url}/dicom-web", "dimse": ""}
    own = {"ae_title": "PACS", "port": archive.port} if kind == "dimse" else {}
    return put_peer(databases, kind, kind=kind, url=urls[kind], is_checked=True, **{**own, **columns})


@pytest.mark.parametrize("kind", ["orthanc", "dicomweb", "dimse"])
def test_results_arrive_once_are_found_and_the_same_results_again_change_nothing(
    make_archive: Callable[..., Archive], databases: Databases, settings: Settings, outbox: Outbox, kind: str
) -> None:
    archive = make_archive()
    uids = put_results(databases, settings, built())
    peer = peer_of(databases, archive, kind)
    assert verify(peer, settings).is_there
    (number,) = open_for(databases, peer)
    assert outbox.deliver(number, 1) == "CONFIRMED"
    assert archive.holds() == sorted(uids)
    stored = archive.fetch_study(_study(settings), settings.data_dir / "back")
    sent = {str(one.SOPInstanceUID): one for one in map(dcmread, (settings.hospital_dir / "results").rglob("*.dcm"))}
    for path in stored:
        one = dcmread(path)
        assert one == sent[str(one.SOPInstanceUID)], "every value is what was sent"
    assert all(row.found_at for row in receipts(databases, number).values())
    with transaction(databases.hospital) as session:
        session.query(Delivery).delete()
        session.flush()
    (again,) = open_for(databases, peer)
    assert outbox.deliver(again, 1) == "CONFIRMED"
    assert archive.holds() == sorted(uids), "no copy"


@pytest.mark.parametrize("kind", ["orthanc", "dicomweb"])
def test_a_changed_result_is_a_new_series_that_cites_its_predecessor(
    make_archive: Callable[..., Archive], databases: Databases, settings: Settings, outbox: Outbox, kind: str
) -> None:
    archive = make_archive()
    first = built()
    put_results(databases, settings, first)
    (number,) = open_for(databases, peer_of(databases, archive, kind))
    outbox.deliver(number, 1)
    (report,) = [one for one in first if one.Modality == "SR"]
    second = built(previous=[report], headline="Another one.")
    uids = put_results(databases, settings, second, attempt=2)
    open_for(databases, attempt=2)
    assert outbox.deliver(number, delivery(databases, number).number) == "CONFIRMED"
    assert set(uids) <= set(archive.holds())
    found = [dcmread(path) for path in archive.fetch_study(_study(settings), settings.data_dir / "back")]
    reports = [one for one in found if one.Modality == "SR"]
    assert len({one.SeriesInstanceUID for one in reports}) == 2
    cited = [one for one in reports if "PredecessorDocumentsSequence" in one]
    assert str(report.SOPInstanceUID) in str(cited[0].PredecessorDocumentsSequence)


@pytest.mark.parametrize("kind", ["orthanc", "dicomweb"])
def test_wrong_credentials_wait_for_an_administrator_and_the_right_ones_count_at_once(
    make_archive: Callable[..., Archive],
    databases: Databases,
    settings: Settings,
    outbox: Outbox,
    tmp_path: Path,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "guard.lua").write_text(
        "function IncomingHttpRequestFilter(method, uri, ip, username, headers) "
        f"return uri == '/system' or headers['authorization'] == '{expected}' end"
    )
    archive = make_archive(LuaScripts=[str(tmp_path / "guard.lua")])
    file = tmp_path / "credentials"
    file.write_text(f"user = {USER}\npassword = wrong-{PASSWORD}\n")
    file.chmod(0o600)
    put_results(databases, settings, built())
    peer = peer_of(databases, archive, kind, credentials_file=str(file))
    (number,) = open_for(databases, peer)
    assert outbox.deliver(number, 1) == "PENDING"
    assert "does not accept the credentials" in delivery(databases, number).sentence
    file.write_text(f"user = {USER}\npassword = {PASSWORD}\n")
    assert outbox.deliver(number, 2) == "CONFIRMED"
    assert PASSWORD not in caplog.text
    assert not any(PASSWORD.encode() in path.read_bytes() for path in settings.data_dir.rglob("*.db*"))


def test_a_study_of_another_patient_in_the_archive_stops_the_delivery_whatever_the_kind(
    make_archive: Callable[..., Archive], databases: Databases, settings: Settings, outbox: Outbox, tmp_path: Path
) -> None:
    archive = make_archive()
    datasets = built()
    put_results(databases, settings, datasets)
    other = built()[0]
    other.PatientID = "MERGED-1"
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    archive.client.upload_file(str(tmp_path / "other.dcm"))
    for kind in ("orthanc", "dicomweb", "dimse"):
        (number,) = open_for(databases, peer_of(databases, archive, kind))
        assert outbox.deliver(number, 1) == "FAILED"
        sentence = delivery(databases, number).sentence
        assert "another patient ID" in sentence
        assert "MERGED" not in sentence
    assert archive.holds() == ["1.2.3.4"]


def test_an_object_that_a_filter_of_the_archive_throws_away_is_no_success(
    make_archive: Callable[..., Archive], databases: Databases, settings: Settings, outbox: Outbox, tmp_path: Path
) -> None:
    script = tmp_path / "filter.lua"
    script.write_text('function ReceivedInstanceFilter(dicom) return dicom["Modality"] ~= "SEG" end\n')
    archive = make_archive(LuaScripts=[str(script)])
    put_results(databases, settings, built())
    (number,) = open_for(databases, peer_of(databases, archive, "orthanc"))
    for one in (1, 2):
        assert outbox.deliver(number, one) == "PENDING"
    assert outbox.deliver(number, 3) == "FAILED"
    assert "0x0124" in delivery(databases, number).sentence
    assert archive.holds() == sorted(receipts(databases, number))
    assert len(archive.holds()) == sum(one.Modality != "SEG" for one in built())


def test_an_archive_that_is_down_comes_back_and_gets_everything_and_no_other_peer_waits_for_it(
    make_archive: Callable[..., Archive], databases: Databases, settings: Settings
) -> None:
    up, down = make_archive(), make_archive()
    uids = put_results(databases, settings, built())
    away = peer_of(databases, down, "orthanc")
    there = put_peer(databases, "there", kind="dicomweb", url=f"{up.url}/dicom-web")
    first, second = open_for(databases, away, there)
    down.close()
    outbox = Outbox(databases, settings.model_copy(update={"delivery_backoff_s": 0.1}))
    assert outbox.deliver(first, 1) == "PENDING"
    assert outbox.deliver(second, 1) == "SENT"
    down = make_archive()
    with transaction(databases.hospital) as session:
        session.get_one(Peer, away.id).url = down.url
    assert outbox.deliver(first, 2) == "CONFIRMED"
    assert down.holds() == up.holds() == sorted(uids)


def test_what_was_stored_before_a_crash_without_a_receipt_is_there_once(
    make_archive: Callable[..., Archive], databases: Databases, settings: Settings
) -> None:
    archive = make_archive()
    uids = put_results(databases, settings, built())

    class Crash(BaseException):
        """The process ends here."""

    @replace_receipts
    def crash(*_: object) -> None:
        raise Crash

    for kind in ("orthanc", "dicomweb", "dimse"):
        (number,) = open_for(databases, peer_of(databases, archive, kind))
        with pytest.raises(Crash):
            crash(databases, settings).deliver(number, 1)
        assert receipts(databases, number) == {}
        assert Outbox(databases, settings).deliver(number, 1) == "CONFIRMED"
        assert archive.holds() == sorted(uids)


def replace_receipts(write: Callable[..., None]) -> Callable[[Databases, Settings], Outbox]:
    """Return a factory of outboxes that write no receipt but do something else."""

    class Other(Outbox):
        __slots__ = ()

        def _receipts(self, delivery_id: int) -> Callable[..., None]:
            return write

    return lambda databases, settings: Other(databases, settings)


def _study(settings: Settings) -> str:
    path = next((settings.hospital_dir / "results" / JOB).rglob("*.dcm"))
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
