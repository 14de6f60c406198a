"""A PACS beside the node: Orthanc where it is installed, otherwise the node's own stand-in.

Both keep what they get, send a study to the node by C-STORE and give back what the node delivered.
"""

import json
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from orthanc_api_client import OrthancApiClient
from pydicom import dcmread

from dicom_node.errors import ConfigurationError
from dicom_node.net.archive import FolderArchive
from dicom_node.net.scu import Address, send_files

AE_TITLE = "PACS"
NODE_NAME = "node"
BINARY_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


class Pacs(Protocol):
    """What the demonstration and the tests need of a PACS."""

    name: str
    port: int

    def take(self, files: Sequence[Path]) -> None:
        """Archive files, as if a scanner had sent them."""

    def send_study(self, study_instance_uid: str) -> int:
        """Send a study to the node by C-STORE; return the number of instances."""

    def fetch_study(self, study_instance_uid: str, folder: Path) -> list[Path]:
        """Write everything the PACS holds of a study into a folder."""

    def close(self) -> None:
        """Stop."""


def start_pacs(folder: Path, node: Address) -> Pacs:
    """Start Orthanc if it is installed, otherwise the stand-in."""
    binary = shutil.which("Orthanc", path=BINARY_PATH)
    return Orthanc(binary, folder, node) if binary else StandIn(folder, node)


def free_port() -> int:
    """Return a port of the loopback address nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StandIn:
    """The node's own stand-in PACS."""

    name = "the node's stand-in PACS"

    def __init__(self, folder: Path, node: Address) -> None:
        self._archive = FolderArchive(AE_TITLE, folder)
        self._node = node
        self.port = self._archive.port

    def take(self, files: Sequence[Path]) -> None:
        """Archive files over DICOM."""
        send_files(Address(AE_TITLE, "127.0.0.1", self.port, "SCANNER"), files)

    def send_study(self, study_instance_uid: str) -> int:
        """Send a study to the node."""
        paths = self._paths(study_instance_uid)
        send_files(self._node, paths)
        return len(paths)

    def fetch_study(self, study_instance_uid: str, folder: Path) -> list[Path]:
        """Copy a study's files."""
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(path, folder / path.name)) for path in self._paths(study_instance_uid)]

    def close(self) -> None:
        """Stop listening."""
        self._archive.close()

    def _paths(self, study_instance_uid: str) -> list[Path]:
        headers = [(path, dcmread(path, specific_tags=["StudyInstanceUID"])) for path in self._archive.files]
        return [path for path, header in headers if header.StudyInstanceUID == study_instance_uid]


class Orthanc:
    """A native Orthanc on free ports of the loopback address."""

    name = "Orthanc"

    def __init__(self, binary: str, folder: Path, node: Address, plugins: Sequence[str] = ()) -> None:
        self.port, self.http_port = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(folder, node, plugins), indent=1))
        with (folder / "orthanc.log").open("w") as log:
            self._process = subprocess.Popen([binary, str(configuration)], stdout=log, stderr=log)  # noqa: S603 - fixed
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.client = OrthancApiClient(self.url)
        if not self.client.wait_started(timeout=60):
            self.close()
            raise ConfigurationError(f"Orthanc did not start; see {folder / 'orthanc.log'}.")

    def take(self, files: Sequence[Path]) -> None:
        """Archive files over DICOM."""
        send_files(Address(AE_TITLE, "127.0.0.1", self.port, "SCANNER"), files)

    def send_study(self, study_instance_uid: str) -> int:
        """Send a study to the node."""
        study = self._study(study_instance_uid)
        self.client.modalities.send(NODE_NAME, [study])
        return len(self.client.studies.get_instances_ids(study))

    def fetch_study(self, study_instance_uid: str, folder: Path) -> list[Path]:
        """Download a study's files."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, instance in enumerate(self.client.studies.get_instances_ids(self._study(study_instance_uid))):
            paths.append(folder / f"{number:05d}.dcm")
            paths[-1].write_bytes(self.client.instances.get_file(instance))
        return paths

    def close(self) -> None:
        """Stop the process."""
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _study(self, study_instance_uid: str) -> str:
        study = self.client.studies.lookup(study_instance_uid)
        if study is None:
            raise ConfigurationError("The PACS does not hold the study.")
        return str(study)

    def _configuration(self, folder: Path, node: Address, plugins: Sequence[str]) -> dict[str, object]:
        return {
            "Name": AE_TITLE,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http_port,
            "HttpBindAddresses": ["127.0.0.1"],
            "DicomAet": AE_TITLE,
            "DicomPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomCheckCalledAet": False,
            "OverwriteInstances": False,
            "Plugins": list(plugins),
            "DicomModalities": {NODE_NAME: [node.ae_title, node.host, node.port]},
        }
