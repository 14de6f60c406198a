"""Search what was written for what must not be in it: the patient's known identifiers, as bytes.

`identifiers_of` collects them from the original; `find_residual` searches the encoded file for each of them
in every character set in use, and says which kinds it found, never which value.

What is searched, and what is not:

- Names and physicians by their parts (at least `MIN_WORD` characters) and joined; titles and suffixes are
  not searched. Numbers and dates have at least `MIN_DIGITS` digits. Institutions and addresses are searched
  as a whole and by line. A foreign script counts by its UTF-8 bytes (at least `MIN_FOREIGN_BYTES`), so that a
  Chinese name of two characters counts.
- Letters match in both cases. A word shorter than `FREE_BYTES` counts only when it stands alone, between
  characters that are neither letters nor digits; digits never count inside a longer run of digits.
- Pixel values are searched too, for everything of at least `FREE_BYTES` bytes, but not in UTF-16, whose
  letters are small numbers. Shorter runs of bytes occur in pixels by chance: in 2**19 random bytes a given
  string of 4 is expected 1e-4 times, one of 6 2e-9 times.
- An institution or a person of the staff whose name is part of the manufacturer's or model's name, and the
  `PLACEHOLDERS`, are no identifiers. The patient's own are never exempt.

The encoded file must not be deflated.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from pydicom.dataset import Dataset

from deid_rules.elements import text_of, value_bytes
from deid_rules.texts import SEARCHED, decode, encoded_forms, encodings_of

MIN_WORD = 3
MIN_DIGITS = 5
MIN_FOREIGN_BYTES = 4
FREE_BYTES = 6

PLACEHOLDERS = frozenset({"anonymized", "anonymous", "anonymised", "unknown", "none", "null", "contrast", "yes"})
"""Words that stand where an identifier was; the engine writes the first itself."""

_NAMES = (0x00100010, 0x00101001, 0x00101005, 0x00101060, 0x00102297)
_IDS = (0x00100020, 0x00101000, 0x00101090, 0x00380010)
_STAFF = (0x00080090, 0x00081048, 0x00081050, 0x00081060, 0x00081070, 0x00321032, 0x00400006)
_OTHER_IDS = 0x00101002
_BIRTH_DATE, _ADDRESS, _TELEPHONE, _ACCESSION = 0x00100030, 0x00101040, 0x00102154, 0x00080050
_INSTITUTION = (0x00080080, 0x00080081, 0x00081040)
_MAKER_TAGS = (0x00080070, 0x00081090)
_PIXEL_HEADER = 12
"""Bytes of tag, VR and length before the value of Pixel Data; four fewer without VR."""

_BESIDE_HEADER = _PIXEL_HEADER + 64
"""Read with the header: what would begin in it and end in the pixels."""

_MAY_BE_MAKER = frozenset({"institution", "physician or operator"})
_NAME_KINDS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("patient name", _NAMES),
    ("physician or operator", _STAFF),
)
_WHOLE_KINDS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("patient id", _IDS),
    ("accession number", (_ACCESSION,)),
    ("address", (_ADDRESS,)),
    ("telephone number", (_TELEPHONE,)),
    ("institution", _INSTITUTION),
)
_NAME_SPLIT = re.compile(r"[\s,.;/-]+")
_LINE_SPLIT = re.compile(r"[\\\r\n;]+")
_PLACEHOLDER_DATES = frozenset({"19000101", "00010101", "19700101"})


@dataclass(frozen=True, slots=True)
class KnownIdentifiers:
    """What must not be found: (kind, text) pairs, and the codecs of the source. A repr shows neither.

    Attributes
    ----------
    texts
        Kind and lower-case text.
    encodings
        Python codecs of the source's character sets.
    """

    texts: frozenset[tuple[str, str]] = field(repr=False)
    encodings: tuple[str, ...] = ("latin_1",)

    def __or__(self, other: "KnownIdentifiers") -> "KnownIdentifiers":
        """Join the identifiers of two sources, such as all instances of a study and the identity map."""
        encodings = tuple(dict.fromkeys(self.encodings + other.encodings))
        return KnownIdentifiers(self.texts | other.texts, encodings)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One byte string to find, and what may not stand beside it."""

    kind: str
    value: bytes = field(repr=False)
    bounds: str

    def is_in(self, haystack: bytes) -> bool:
        """Tell whether the pattern occurs in lower-case bytes, standing as it must."""
        start = haystack.find(self.value)
        while start >= 0:
            if not self.bounds or self._stands_alone(haystack, start):
                return True
            start = haystack.find(self.value, start + 1)
        return False

    def _stands_alone(self, haystack: bytes, start: int) -> bool:
        end = start + len(self.value)
        beside = haystack[max(start - 1, 0) : start] + haystack[end : end + 1]
        forbidden = _is_digit if self.bounds == "digits" else _is_letter_or_digit
        return not any(map(forbidden, beside))


def _is_digit(byte: int) -> bool:
    return 0x30 <= byte <= 0x39


def _is_letter_or_digit(byte: int) -> bool:
    return _is_digit(byte) or 0x61 <= byte <= 0x7A or 0x41 <= byte <= 0x5A


def identifiers_of(dataset: Dataset) -> KnownIdentifiers:
    """Collect the identifiers an original dataset carries at its top level.

    Parameters
    ----------
    dataset
        The original.

    Returns
    -------
    KnownIdentifiers
        Names, ids, accession number, birth date in the forms people write it, addresses, institution and
        staff, without placeholders and without what is also the manufacturer's or model's name.
    """
    encodings = encodings_of(dataset)
    found: set[tuple[str, str]] = set()
    for kind, tags in _NAME_KINDS:
        found.update((kind, part) for name in _texts(dataset, tags, encodings) for part in _name_parts(name))
    for kind, tags in _WHOLE_KINDS:
        found.update(
            (kind, line.strip()) for text in _texts(dataset, tags, encodings) for line in _LINE_SPLIT.split(text)
        )
    found.update(("patient id", text) for text in _other_ids(dataset, encodings))
    found.update(("birth date", form) for form in _date_forms(text_of(dataset, _BIRTH_DATE)))
    maker = "\n".join(_texts(dataset, _MAKER_TAGS, encodings))
    known = {(kind, text) for kind, text in found if _is_searched(text)}
    known -= {(kind, text) for kind, text in known if kind in _MAY_BE_MAKER and text in maker}
    return KnownIdentifiers(frozenset(known), encodings)


def _texts(dataset: Dataset, tags: Iterable[int], encodings: tuple[str, ...]) -> Iterator[str]:
    """Yield the lower-case values of the elements that are there."""
    for tag in tags:
        if tag in dataset:
            element = dataset.get_item(tag)
            is_encoded = isinstance(element.value, bytes)
            text = decode(value_bytes(element), encodings if is_encoded else ("utf_8",)).strip("\0 ")
            if text:
                yield text.lower()


def _other_ids(dataset: Dataset, encodings: tuple[str, ...]) -> Iterator[str]:
    """Yield the ids of Other Patient IDs Sequence, where it is already open or opens without a fault."""
    if _OTHER_IDS not in dataset:
        return
    element = dataset.get_item(_OTHER_IDS)
    items = element.value if not isinstance(element.value, bytes) else ()
    for item in items or ():
        yield from _texts(item, (0x00100020,), encodings)


def _name_parts(names: str) -> Iterator[str]:
    """Yield the words of family, given and middle name in every representation, and joined pairs of them."""
    for group in re.split(r"[\\=]", names):
        words = [word for part in group.split("^")[:3] for word in _NAME_SPLIT.split(part) if word]
        yield from words
        if len(words) > 1:
            first, second = words[0], words[1]
            for joint in ("", "^", " ", "_", "."):
                yield first + joint + second
                yield second + joint + first
            yield f"{first}, {second}"


def _date_forms(birth_date: str) -> Iterator[str]:
    """Yield a date as DICOM, ISO, German, British and American texts write it."""
    if len(birth_date) != 8 or not birth_date.isdecimal() or birth_date in _PLACEHOLDER_DATES:
        return
    year, month, day = birth_date[:4], birth_date[4:6], birth_date[6:]
    yield birth_date
    yield from (day + month + year, month + day + year)
    for mark in "-./":
        yield from (mark.join(order) for order in ((year, month, day), (day, month, year), (month, day, year)))


def _is_searched(text: str) -> bool:
    """Tell whether a text is long enough to mean something, and no placeholder."""
    if text in PLACEHOLDERS or not text.strip("0 "):
        return False
    if text.isascii():
        return len(text) >= (MIN_DIGITS if text.isdigit() else MIN_WORD)
    return len(text.encode("utf-8")) >= MIN_FOREIGN_BYTES


def echo_patterns(identifiers: KnownIdentifiers) -> tuple[Pattern, ...]:
    """Return the patterns for one text value in the source's own character sets."""
    return _patterns(identifiers, ("latin_1", "utf_8", *identifiers.encodings))


def repeats_identifier(value: bytes, patterns: tuple[Pattern, ...]) -> bool:
    """Tell whether one text value holds an identifier."""
    lower = value.lower()
    return any(pattern.value in lower and pattern.is_in(lower) for pattern in patterns)


def find_residual(encoded: bytes, identifiers: KnownIdentifiers) -> tuple[str, ...]:
    """Search an encoded file for known identifiers.

    Parameters
    ----------
    encoded
        The file as written, not deflated.
    identifiers
        From the original, or from the identity map.

    Returns
    -------
    tuple of str
        The kinds found, sorted; empty when there are none. Never a value.
    """
    start = _pixel_start(encoded)
    head = encoded[: start + _BESIDE_HEADER].lower()
    patterns = _patterns(identifiers, (*SEARCHED, *identifiers.encodings))
    found = {pattern.kind for pattern in patterns if pattern.is_in(head)}
    if start == len(encoded):
        return tuple(sorted(found))
    rest = [p for p in echo_patterns(identifiers) if p.kind not in found and len(p.value) >= FREE_BYTES]
    possible = _possible_in(encoded, start + _PIXEL_HEADER, rest)
    if possible:
        tail = encoded[start:].lower()
        found.update(pattern.kind for pattern in possible if pattern.is_in(tail))
    return tuple(sorted(found))


@lru_cache(maxsize=8)
def _patterns(identifiers: KnownIdentifiers, encodings: tuple[str, ...]) -> tuple[Pattern, ...]:
    """Encode every text in every codec, in the cases a script has. The slices of one series share the answer."""
    codecs = tuple(dict.fromkeys(encodings))
    patterns: set[Pattern] = set()
    for kind, text in identifiers.texts:
        bounds = "digits" if text.isdigit() else "" if len(text) >= FREE_BYTES or not text.isascii() else "word"
        cases = {text} if text.isascii() else {text, text.upper(), text.title()}
        for case in cases:
            patterns.update(Pattern(kind, form.lower(), bounds) for form in encoded_forms(case, codecs))
    return tuple(patterns)


def _pixel_start(encoded: bytes) -> int:
    """Return where the top-level Pixel Data element begins, the length of the file where it has none."""
    for mark, order in ((b"\xe0\x7f\x10\x00", "little"), (b"\x7f\xe0\x00\x10", "big")):
        start = encoded.find(mark)
        while start >= 0:
            if _is_pixel_header(encoded, start, order == "little"):
                return start
            start = encoded.find(mark, start + 1)
    return len(encoded)


def _is_pixel_header(encoded: bytes, start: int, is_little: bool) -> bool:
    """Tell whether a tag that looks like Pixel Data is followed by its VR, or by a length that fits."""
    if encoded[start + 4 : start + 8] in (b"OW\0\0", b"OB\0\0"):
        return True
    length = int.from_bytes(encoded[start + 4 : start + 8], "little" if is_little else "big")
    return length == 0xFFFFFFFF or start + 8 + length == len(encoded)


def _possible_in(encoded: bytes, start: int, patterns: list[Pattern]) -> list[Pattern]:
    """Return the patterns that can occur at all in the pixels, from the byte values at every second place.

    Wherever a pattern lies, its bytes of even or those of odd index lie on odd places. The high bytes of CT
    numbers take few values, none of them a letter or digit, so that this nearly always rules all out: first by
    the smallest and largest number alone, then, where these do not, by the values that occur.
    """
    count = max(len(encoded) - start, 0) // 2
    if count == 0:
        return []
    words = np.frombuffer(encoded, dtype="<i2", offset=start, count=count)
    between = range(int(words.min()) >> 8, (int(words.max()) >> 8) + 1)
    left = _made_of(patterns, {high & 0xFF for high in between})
    if not left:
        return []
    present_at = np.zeros(256, dtype=np.bool_)
    present_at[words.view(np.uint8)[1::2]] = True
    return _made_of(left, set(np.flatnonzero(present_at).tolist()))


def _made_of(patterns: list[Pattern], present: set[int]) -> list[Pattern]:
    """Return the patterns whose bytes at every second place are among those present, in lower case."""
    present = present | {byte + 0x20 for byte in present if 0x41 <= byte <= 0x5A}
    return [p for p in patterns if present.issuperset(p.value[0::2]) or present.issuperset(p.value[1::2])]
