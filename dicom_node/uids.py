"""What a UID is (PS3.5 9.1)."""

import re

UID_LENGTH = 64
PATTERN = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")


def is_uid(text: str) -> bool:
    """Tell whether a text is a UID and nothing more.

    pydicom's ``UID.is_valid`` takes one with a line end behind it, and quotes another text in a warning.
    """
    return len(text) <= UID_LENGTH and PATTERN.fullmatch(text) is not None
