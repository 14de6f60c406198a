"""Text in the character sets of DICOM (PS3.5 6.1), decoded without an error or a warning that quotes it."""

import re
from collections.abc import Iterable

from pydicom import charset
from pydicom.dataset import Dataset

from deid_rules.elements import text_of

_FRAGMENTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_DELIMITER = re.compile(rb"(?=[\\^=\r\n\t\f])")
SEARCHED = ("latin_1", "utf_8", "utf_16_le")
"""Searched beside the character sets of the source."""


def encodings_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the Python codecs of a dataset's Specific Character Set; an unknown term reads as Latin-1."""
    terms = text_of(dataset, 0x00080005).split("\\")
    return tuple(charset.python_encoding.get(term.strip(), charset.default_encoding) for term in terms)


def decode(value: bytes, encodings: tuple[str, ...]) -> str:
    """Decode a text value, with replacement characters where it is broken.

    Escape sequences switch the character set until the next one, or until a delimiter for the sets that
    Python's codecs do not switch themselves (PS3.5 6.1.2.5).
    """
    if charset.ESC not in value:
        return value.decode(encodings[0], "replace")
    return "".join(_decode_fragment(fragment, encodings[0]) for fragment in _FRAGMENTS.findall(value))


def _decode_fragment(fragment: bytes, first: str) -> str:
    length = 4 if fragment[:3] in (b"\x1b$(", b"\x1b$)") else 3
    codec = charset.CODES_TO_ENCODINGS.get(fragment[:length])
    if codec is None:
        return fragment.decode(first, "replace")
    if codec in charset.handled_encodings:
        return fragment.decode(codec, "replace")
    switched, *rest = _DELIMITER.split(fragment[length:], maxsplit=1)
    return switched.decode(codec, "replace") + "".join(part.decode(first, "replace") for part in rest)


def encoded_forms(text: str, encodings: Iterable[str]) -> set[bytes]:
    """Return the bytes of a text in every one of the codecs that can write it."""
    forms: set[bytes] = set()
    for encoding in encodings:
        try:
            forms.add(text.encode(encoding))
        except UnicodeError:
            continue
    return forms
