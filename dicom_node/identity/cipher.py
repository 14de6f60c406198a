"""Encrypted columns and blind indexes (AES-256-GCM, NIST SP 800-38D; HMAC-SHA256, RFC 2104)."""

import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dicom_node.errors import ConfigurationError

NONCE_BYTES = 12
"""SP 800-38D 8.2: 96-bit nonces, random here."""


def encrypt(key: bytes, text: str, place: str) -> bytes:
    """Encrypt one column value.

    Parameters
    ----------
    key
        32 bytes.
    text
        The value.
    place
        Where it stands (``table.column|row id|key id``); a value moved elsewhere no longer decrypts.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, text.encode(), place.encode())


def decrypt(key: bytes, value: bytes, place: str) -> str:
    """Decrypt one column value.

    Raises
    ------
    ConfigurationError
        When the key is not the one that encrypted it, or the value was moved or changed.
    """
    try:
        return AESGCM(key).decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], place.encode()).decode()
    except InvalidTag:
        raise ConfigurationError(
            "A column of the identity map does not decrypt: the key files are not those it was written with, "
            "or the database was changed."
        ) from None


def blind_index(key: bytes, *parts: str) -> str:
    """Return the keyed look-up value of an identity; parts are separated so that they cannot run together."""
    message = b"\x00".join(part.encode() for part in parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()
