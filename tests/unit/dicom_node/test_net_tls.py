"""DICOM over TLS on real sockets: both sides show a certificate of the hospital's authority."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.db.models import Peer
from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.net.scp import Listener, Receiver
from dicom_node.net.scu import Address, echo
from dicom_node.net.tls import TlsFiles, client_context, server_context
from dicom_node.pipeline.addresses import address_of
from dicom_node.settings import Settings
from tests.certificates import Authority


@pytest.fixture
def hospital(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "hospital")


@pytest.fixture
def listening(hospital: Authority) -> Callable[[TlsFiles], Receiver]:
    return lambda files: Receiver("NODE", [Listener("127.0.0.1", 0, server_context(files))], lambda arrival: None)


def call(running: Receiver, files: TlsFiles | None) -> None:
    echo(Address("NODE", "127.0.0.1", running.port, "SENDER", client_context(files) if files else None))


def test_a_peer_with_a_certificate_of_the_authority_is_served(
    hospital: Authority, listening: Callable[[TlsFiles], Receiver]
) -> None:
    running = listening(hospital.issue("node"))
    try:
        call(running, hospital.issue("peer"))
    finally:
        running.close()


def test_a_foreign_certificate_or_none_is_not_let_in_and_honest_peers_are_still_served(
    hospital: Authority, listening: Callable[[TlsFiles], Receiver], tmp_path: Path
) -> None:
    foreign = Authority(tmp_path, "foreign").issue("peer")
    running = listening(hospital.issue("node"))
    try:
        for files in (TlsFiles(foreign.certificate, foreign.key, hospital.folder / "ca.pem"), None):
            with pytest.raises(PeerUnavailable):
                call(running, files)
        call(running, hospital.issue("peer"))
    finally:
        running.close()


def test_a_node_whose_certificate_names_another_host_is_not_called(
    hospital: Authority, listening: Callable[[TlsFiles], Receiver]
) -> None:
    running = listening(hospital.issue("node", address="127.0.0.2"))
    try:
        with pytest.raises(PeerUnavailable):
            call(running, hospital.issue("peer"))
    finally:
        running.close()


@pytest.mark.parametrize("broken", ["certificate", "key", "authority"])
def test_a_file_that_cannot_be_used_is_named(hospital: Authority, broken: str) -> None:
    files = hospital.issue("node")
    getattr(files, broken).write_text("nothing")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        server_context(files)


def test_a_peer_with_tls_is_called_with_the_certificates_of_the_settings(hospital: Authority, tmp_path: Path) -> None:
    peer = Peer(name="PACS", ae_title="PACS", host="127.0.0.1", port=1, uses_tls=True)
    with pytest.raises(ConfigurationError, match="uses TLS"):
        address_of(peer, Settings(data_dir=tmp_path))
    files = hospital.issue("node")
    settings = Settings(
        data_dir=tmp_path,
        tls_certificate_file=files.certificate,
        tls_key_file=files.key,
        tls_authority_file=files.authority,
    )
    assert address_of(peer, settings).tls is not None
    peer.uses_tls = False
    assert address_of(peer, settings).tls is None


@pytest.mark.parametrize(
    "fields",
    [{"dicom_tls_port": 2762}, {"tls_key_file": Path("key.pem")}, {"dicom_plain": False}],
)
def test_settings_that_would_leave_tls_half_done_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="tls"):
        Settings(**fields)


def test_a_caller_that_says_nothing_keeps_nobody_out(
    hospital: Authority, listening: Callable[[TlsFiles], Receiver]
) -> None:
    running = listening(hospital.issue("node"))
    silent = socket.create_connection(("127.0.0.1", running.port))
    try:
        call(running, hospital.issue("peer"))
    finally:
        silent.close()
        running.close()
