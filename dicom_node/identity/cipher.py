"""Encrypted columns and blind indexes (AES-256-GCM, NIST SP 800-38D; HMAC-SHA256, RFC 2104)."""

import hashlib
import hmac
import secrets
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dicom_node.errors import ConfigurationError
from dicom_node.identity.keys import Keys

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
    except (InvalidTag, ValueError):
        raise ConfigurationError(
            "A column of the identity map does not decrypt: the key files are not those it was written with, "
            "or the database was changed."
        ) from None


def seal(keys: Keys, text: str, column: str, row_id: str) -> bytes:
    """Encrypt a column of a row with the keys in force."""
    return encrypt(keys.column, text, f"{column}|{row_id}|{keys.key_id}")


def unseal(keys: Keys, value: bytes, column: str, row_id: str, key_id: str) -> str:
    """Decrypt a column of a row with the keys it was written with.

    Raises
    ------
    ConfigurationError
        As `decrypt`, and when those keys are missing.
    """
    return decrypt(keys.of(key_id).column, value, f"{column}|{row_id}|{key_id}")


def blind_index(key: bytes, *parts: str) -> str:
    """Return the keyed look-up value of an identity; parts are separated so that they cannot run together."""
    message = b"\x00".join(part.encode("utf-8", "surrogatepass") for part in parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def identity_index(key: bytes, patient_id: str, issuer: str, project: str) -> str:
    """Return the look-up value of a patient: number, issuer and project."""
    return blind_index(key, _normal(patient_id), _normal(issuer), project)


def number_index(key: bytes, patient_id: str, project: str) -> str:
    """Return the look-up value of a number under whatever issuer; a fourth part keeps it apart from patients."""
    return blind_index(key, _normal(patient_id), "", project, "any issuer")


def _normal(text: str) -> str:
    """Write a number the one way it is compared: no outer space, NFKC, capitals (so full-width digits are digits)."""
    return unicodedata.normalize("NFKC", text.replace("\x00", "")).strip().upper()
