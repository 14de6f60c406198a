"""DICOM over TLS on real sockets: both sides show a certificate of the hospital's authority."""

import ipaddress
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dicom_node import clock
from dicom_node.db.models import Peer
from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.net.scp import Listener, Receiver
from dicom_node.net.scu import Address, echo
from dicom_node.net.tls import TlsFiles, client_context, server_context
from dicom_node.pipeline.addresses import address_of
from dicom_node.settings import Settings


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), is_authority=True)
        (self.folder / "ca.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, address: str = "127.0.0.1") -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._sign(subject, key.public_key(), address=address)
        certificate, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return TlsFiles(certificate, key_file, self.folder / "ca.pem")

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool = False, address: str = ""
    ) -> x509.Certificate:
        now = clock.now()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if address:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


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
