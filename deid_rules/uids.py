"""Keyed mapping of UIDs: one original gives one clean UID, and nobody without the key can tell which.

A clean UID is ``2.25.`` and a UUID (PS3.5 B.2) made of HMAC-SHA256 over project and original UID. No table is
needed to stay consistent over slices, runs and machines; the way back is the hospital's table of pairs.
An unkeyed hash is not used: whoever holds a list of real UIDs could try them all (PS3.15 E.1.1 note 3).
"""

import hmac
from base64 import b32encode
from dataclasses import dataclass, field

from pydicom.uid import UID_dictionary

from deid_rules.errors import InvalidKey

MIN_KEY_BYTES = 16
"""128 bit, the strength of the mapped UID itself."""

_CONTEXT_GROUPS = "1.2.840.10008.6.1."
"""Context group UIDs (PS3.6 Table A-3); pydicom's dictionary does not list them."""

CODING_SCHEMES = frozenset(
    {
        "2.16.840.1.113883.6.1",  # LOINC, PS3.16 Table 8-1
        "2.16.840.1.113883.6.8",  # UCUM, PS3.16 Table 8-1
        "2.16.840.1.113883.6.96",  # SNOMED CT, PS3.16 Table 8-1
        "2.16.840.1.113883.6.256",  # RadLex, PS3.16 Table 8-1
        "2.16.840.1.113883.6.119",  # FMA, PS3.16 Table 8-1
    }
)
"""UIDs of coding schemes outside DICOM's own root that tell nothing about a patient."""


def is_registered(uid: str) -> bool:
    """Tell whether a UID is defined by the standard (SOP class, transfer syntax, well-known instance ...)."""
    return uid in UID_dictionary or (
        uid.startswith(_CONTEXT_GROUPS) and uid[len(_CONTEXT_GROUPS) :].isdecimal() and len(uid) < 24
    )


@dataclass(frozen=True, slots=True)
class UidMapper:
    """Maps original to clean UIDs for one project.

    Attributes
    ----------
    key
        Secret, at least 16 bytes. Never shown.
    project
        Name of the project or recipient: the same UID has unrelated clean UIDs in two projects.

    Raises
    ------
    InvalidKey
        The key is shorter than 16 bytes.
    """

    key: bytes = field(repr=False)
    project: str

    def __post_init__(self) -> None:
        if len(self.key) < MIN_KEY_BYTES:
            raise InvalidKey(f"the UID key has {len(self.key)} bytes; expected at least {MIN_KEY_BYTES}")

    def map(self, uid: str) -> str:
        """Return the clean UID, or the UID itself where it is registered or empty."""
        if not uid or is_registered(uid):
            return uid
        number = int.from_bytes(self._digest("uid/1", uid)[:16], "big")
        return f"2.25.{_as_uuid(number)}"

    def short_code(self, purpose: str, value: str) -> str:
        """Return ten base-32 characters (50 bit) that stand for ``value``, for attributes with a short ID."""
        return b32encode(self._digest(purpose, value)[:10]).decode("ascii")[:10]

    def _digest(self, purpose: str, value: str) -> bytes:
        message = "\0".join((purpose, self.project, value)).encode("utf-8", "surrogateescape")
        return hmac.digest(self.key, message, "sha256")


def _as_uuid(number: int) -> int:
    """Set version 8 (vendor-specific) and the variant bits of a 128-bit number (RFC 9562, 5.8)."""
    number = (number & ~(0xF << 76)) | (0x8 << 76)
    return (number & ~(0x3 << 62)) | (0x2 << 62)
