"""Patient pseudonyms: random, with a check character, so that a code typed by hand is right or refused.

A pseudonym says nothing about the patient: it is random, not computed, so that no key and no list of
patients leads back to it. Form: prefix, hyphen, 16 base-32 characters (80 bit, RFC 4648), one check
character (ISO/IEC 7064, MOD 37,36), for example ``ON-`` and 17 more characters.
"""

import re
from base64 import b32encode

from deid_rules.errors import InvalidSubject

RANDOM_BYTES = 10
"""80 bit: among a million subjects the chance of one clash is 4e-13."""

DEFAULT_PREFIX = "ON"
_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PREFIX = re.compile(r"[A-Z0-9]{1,12}")
_BODY = re.compile(r"[A-Z2-7]{16}")


def pseudonym_from_bytes(random_bytes: bytes, prefix: str = DEFAULT_PREFIX) -> str:
    """Write ten random bytes as a pseudonym.

    Parameters
    ----------
    random_bytes
        Exactly ten bytes from a cryptographic source.
    prefix
        Project prefix, 1 to 12 capital letters or digits.

    Raises
    ------
    InvalidSubject
        The number of bytes or the prefix is wrong.
    """
    if len(random_bytes) != RANDOM_BYTES:
        raise InvalidSubject(f"a pseudonym needs {RANDOM_BYTES} random bytes, got {len(random_bytes)}")
    if _PREFIX.fullmatch(prefix) is None:
        raise InvalidSubject("a pseudonym prefix is 1 to 12 capital letters or digits")
    body = b32encode(random_bytes).decode("ascii")
    return f"{prefix}-{body}{_check_character(prefix + body)}"


def is_valid(pseudonym: str, prefix: str = DEFAULT_PREFIX) -> bool:
    """Tell whether a text is a pseudonym of this prefix with the right check character."""
    head, _, tail = pseudonym.rpartition("-")
    return (
        head == prefix
        and len(tail) == 17
        and _BODY.fullmatch(tail[:16]) is not None
        and _check_character(prefix + tail[:16]) == tail[16]
    )


def _check_character(text: str) -> str:
    """Return the check character of ISO/IEC 7064 MOD 37,36 (hybrid system)."""
    remainder = 36
    for character in text:
        total = (remainder + _CHARACTERS.index(character)) % 36 or 36
        remainder = total * 2 % 37
    return _CHARACTERS[(37 - remainder) % 36]
