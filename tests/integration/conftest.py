"""The real counterparts: a node process, Orthanc, DCMTK."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgresql_server import PostgresqlServer

from dicom_node.demo.fake_ct import FakePatient, read_nifti, write_series
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, Orthanc
from dicom_node.net.scu import Address
from dicom_node.public_data import fetch

PATIENT = FakePatient()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., LocalNode]]:
    """Return a factory of running nodes with a short quiet time."""
    running: list[LocalNode] = []

    def make(**settings: object) -> LocalNode:
        node = LocalNode(tmp_path / f"node{len(running)}", tmp_path / "node.log", **{"quiet_s": 1.5, **settings})
        running.append(node)
        return node.start()

    yield make
    for node in running:
        node.stop()


@pytest.fixture
def make_orthanc(tmp_path: Path, binary: Callable[[str], str]) -> Iterator[Callable[[LocalNode], Orthanc]]:
    """Return a factory of native Orthancs that know a node, and that the node knows as a peer."""
    running: list[Orthanc] = []

    def make(node: LocalNode) -> Orthanc:
        address = Address(node.ae_title, "127.0.0.1", node.dicom_port, AE_TITLE)
        orthanc = Orthanc(binary("Orthanc"), tmp_path / f"orthanc{len(running)}", address)
        running.append(orthanc)
        node.post("/api/peers", {"name": "Orthanc", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": orthanc.port})
        return orthanc

    yield make
    for orthanc in running:
        orthanc.close()


@pytest.fixture(scope="session")
def patient_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The real patient's CT as a DICOM series under a fake identity."""
    folder = tmp_path_factory.mktemp("patient")
    return write_series(read_nifti(fetch("patient") / "example_ct.nii.gz"), folder, PATIENT, seed="integration")


@pytest.fixture(scope="session")
def postgresql(binary: Callable[[str], str]) -> Iterator[PostgresqlServer]:
    """A private PostgreSQL server; each test makes databases of its own."""
    binary("psql")
    server = PostgresqlServer()
    yield server
    server.stop()
