"""Where a peer is, as the settings say the node calls it."""

from dicom_node.db.models import Peer
from dicom_node.errors import ConfigurationError
from dicom_node.net.scu import Address
from dicom_node.net.tls import TlsFiles, client_context
from dicom_node.settings import Settings


def address_of(peer: Peer, settings: Settings) -> Address:
    """Return a peer's address; certificates are read anew, so that a renewed one counts at once.

    Raises
    ------
    ConfigurationError
        When the peer uses TLS and the node has no usable certificate.
    """
    tls = None
    if peer.uses_tls:
        files = tls_files(settings)
        if files is None:
            raise ConfigurationError(
                f"Peer {peer.name} uses TLS; set tls_certificate_file, tls_key_file and tls_authority_file."
            )
        tls = client_context(files)
    return Address(peer.ae_title, peer.host, peer.port, settings.ae_title, tls)


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return the files for TLS, None where they are not set."""
    certificate, key, authority = (
        settings.tls_certificate_file,
        settings.tls_key_file,
        settings.tls_authority_file,
    )
    return TlsFiles(certificate, key, authority) if certificate and key and authority else None
