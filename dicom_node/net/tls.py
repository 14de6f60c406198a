"""TLS for DICOM: the BCP 195 RFC 9325 TLS Secure Transport Connection Profile (PS3.15 B.12).

Both sides show a certificate: a peer without one that the hospital's authority signed is not let in.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ConfigurationError

CIPHERS = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")
    for signature in ("ECDSA", "RSA")
)
"""The four cipher suites RFC 9325 4.2 recommends for TLS 1.2; TLS 1.3 has its own."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the node's certificate chain, its private key, and the authority that signs peers."""

    certificate: Path
    key: Path
    authority: Path


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what the receiver needs; a caller must show a certificate of the authority.

    Raises
    ------
    ConfigurationError
        When a file is missing or cannot be used.
    """
    return _context(files, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what the sender needs; the peer's certificate must name the host that is called.

    Raises
    ------
    ConfigurationError
        When a file is missing or cannot be used.
    """
    return _context(files, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def _context(files: TlsFiles, context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The TLS files {files.certificate.name}, {files.key.name} and {files.authority.name} cannot be used "
            f"({type(error).__name__}): they must exist, be PEM, and key and certificate must belong together."
        ) from None
    return context
