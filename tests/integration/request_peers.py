"""Real PACSs for the tests of requests: DCMTK's dcmqrscp, and a node's request side without its web service."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread

from dicom_node import clock
from dicom_node.db.models import Peer
from dicom_node.db.peers import add_peer
from dicom_node.db.requests import get_request
from dicom_node.db.session import Databases, prepare_databases, transaction
from dicom_node.demo.pacs import free_port
from dicom_node.net.scu import Address, send_files
from dicom_node.pipeline.requests import Requests
from dicom_node.pipeline.requests_adding import add_request
from dicom_node.pipeline.requests_input import RequestIn
from dicom_node.receiving import Receiving
from dicom_node.settings import Settings

QR_TITLE = "DCMQR"
AT_REST = ("CHOOSE", "RECEIVED", "DONE", "FAILED", "CANCELLED")


class Dcmqrscp:
    """DCMTK's image archive on a free port."""

    def __init__(self, binary: str, folder: Path, node_title: str, node_port: int) -> None:
        self.port = free_port()
        storage = folder / "qr"
        storage.mkdir(parents=True)
        configuration = folder / "dcmqrscp.cfg"
        configuration.write_text(
            f"NetworkTCPPort = {self.port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
            f"HostTable BEGIN\nnode = ({node_title}, 127.0.0.1, {node_port})\nHostTable END\n"
            "VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{QR_TITLE} {storage} RW (200, 1024mb) ANY\nAETable END\n"
        )
        with (folder / "dcmqrscp.log").open("w") as log:
            self._process = subprocess.Popen([binary, "-c", str(configuration)], stdout=log, stderr=log)
        wait_for(lambda: _listens(self.address), 20)

    @property
    def address(self) -> Address:
        """Where it is, as a scanner calls it."""
        return Address(QR_TITLE, "127.0.0.1", self.port, "SCANNER")

    def take(self, files: Sequence[Path]) -> None:
        """Archive files over DICOM."""
        send_files(self.address, files)

    def close(self) -> None:
        """Stop."""
        self._process.terminate()
        self._process.wait(timeout=10)


def _listens(address: Address) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port)) == 0


def wait_for(condition: Callable[[], Any], timeout_s: float) -> Any:
    """Return what a condition becomes."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


class RequestSide:
    """Databases, receiver and request passes of a node, in this process."""

    def __init__(self, folder: Path, **settings: object) -> None:
        values = {"reserve_bytes": 0, "dicom_host": "127.0.0.1", "dicom_port": free_port(), "request_backoff_s": 0.2}
        self.settings = Settings(data_dir=folder, **{**values, **settings})
        self.databases: Databases = prepare_databases(self.settings)
        self._receiving = Receiving(self.settings, self.databases)
        self.requests = Requests(self.databases, self.settings)

    def close(self) -> None:
        """Stop."""
        self.requests.close()
        self._receiving.close()
        self.databases.dispose()

    def add_peer(self, name: str, ae_title: str, port: int, **changes: object) -> None:
        """Add a peer that is queried."""
        values = {"host": "127.0.0.1", "may_send": True, "receives_results": False, "is_queried": True, **changes}
        with transaction(self.databases.hospital) as session:
            add_peer(session, Peer(name=name, ae_title=ae_title, port=port, **values))

    def ask(self, **fields: object) -> str:
        """Add a request."""
        with transaction(self.databases.hospital) as session:
            return add_request(session, RequestIn.model_validate(fields), self.settings, clock.now())

    def row(self, request_id: str) -> Any:
        """Return a request as it stands."""
        with transaction(self.databases.hospital) as session:
            return get_request(session, request_id)

    def run(self, request_id: str, states: Sequence[str] = AT_REST, said: str = "", timeout_s: float = 60) -> Any:
        """Make passes until a request is in one of some states, and its sentence says something."""

        def comes() -> Any:
            self.requests(clock.now())
            row = self.row(request_id)
            return row if row.state in states and said in row.sentence else None

        return wait_for(comes, timeout_s)


@contextmanager
def request_side(folder: Path, **settings: object) -> Iterator[RequestSide]:
    """Give a request side and stop it."""
    side = RequestSide(folder, **settings)
    try:
        yield side
    finally:
        side.close()


def changed_copies(files: Sequence[Path], folder: Path, **values: str) -> list[Path]:
    """Return copies of DICOM files with other values; new UIDs go with a ``study`` suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = values.pop("suffix", "")
    paths = []
    for number, path in enumerate(files):
        dataset = dcmread(path)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        if suffix:
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(dataset, keyword, f"{getattr(dataset, keyword)[:58]}.{suffix}")
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        paths.append(folder / f"{number:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths
