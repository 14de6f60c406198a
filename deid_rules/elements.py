"""Elements as pydicom holds them, raw or decoded, read without decoding and without changing the dataset."""

import struct
from collections.abc import Iterator
from copy import copy, deepcopy
from typing import TypeAlias

from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from deid_rules.errors import UnreadableElement

Element: TypeAlias = DataElement | RawDataElement

_NULL_PADDED = frozenset({"UI", "OB", "UN", "OW"})
_ITEM_STARTS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00", b"\xfe\xff\xdd\xe0", b"\xff\xfe\xe0\xdd")
"""An item, or the end of a sequence, in either byte order (PS3.5 7.5)."""

DECODING_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OSError,
    NotImplementedError,
    RecursionError,
    struct.error,
)
"""What pydicom raises on broken bytes; its messages quote values, so they stop here."""


def elements_of(dataset: Dataset) -> Iterator[tuple[int, Element]]:
    """Yield (tag, element) as held, raw where not yet decoded; a deferred value is read."""
    for tag, element in dataset.items():
        if element.value is None and element.is_raw and element.length:
            yield int(tag), _deferred(dataset, int(tag))
        else:
            yield int(tag), element


def _deferred(dataset: Dataset, tag: int) -> Element:
    try:
        return dataset.get_item(tag)
    except DECODING_ERRORS:
        raise UnreadableElement(tag, "deferred value") from None


def own_copy(element: DataElement) -> DataElement:
    """Copy a decoded element, so that whoever edits the clean dataset does not edit the source."""
    return copy(element) if isinstance(element.value, bytes) or element.is_buffered else deepcopy(element)


def value_bytes(element: Element) -> bytes:
    """Return the value of a text-like element as bytes, the values of a decoded one joined by backslashes."""
    value = element.value
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (MultiValue, list, tuple)):
        return b"\\".join(_one(part) for part in value)
    return _one(value)


def _one(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode("utf-8", "surrogateescape")


def ascii_text(element: Element) -> str:
    """Return the value of a text-like element, byte for byte as Latin-1, without padding."""
    return value_bytes(element).decode("latin-1").strip("\0 ")


def made(tag: int, vr: str, value: bytes) -> RawDataElement:
    """Make an element from encoded bytes, padded to even length."""
    if len(value) % 2:
        value += b"\0" if vr in _NULL_PADDED else b" "
    return RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)


def small_number(dataset: Dataset, tag: int) -> int | None:
    """Return the first value of a US or SS element as an unsigned number, None where it has none."""
    element = dataset.get_item(tag) if tag in dataset else None
    if element is None or element.value is None:
        return None
    if isinstance(element.value, bytes):
        little = not element.is_raw or element.is_little_endian
        return int.from_bytes(element.value[:2], "little" if little else "big") if element.value else None
    first = element.value[0] if isinstance(element.value, MultiValue) and element.value else element.value
    return int(first) & 0xFFFF if isinstance(first, int) else None


def text_of(dataset: Dataset, tag: int) -> str:
    """Return a top-level text value byte for byte as Latin-1, empty where absent."""
    element = dataset.get_item(tag) if tag in dataset else None
    return "" if element is None else ascii_text(element)


def opened_items(dataset: Dataset, element: Element) -> Sequence:
    """Open a sequence without touching the source; UN holds it as implicit little endian (PS3.5 6.2.2)."""
    if isinstance(element.value, Sequence):
        return element.value
    raw = element if element.is_raw else made(element.tag, "UN", value_bytes(element))
    if raw.VR == "UN":
        raw = raw._replace(is_implicit_VR=True, is_little_endian=True)
    if raw.value and raw.value[:4] not in _ITEM_STARTS:
        raise UnreadableElement(int(element.tag), "sequence")
    try:
        opened = convert_raw_data_element(
            raw._replace(VR="SQ"), encoding=dataset.original_character_set, ds=dataset
        ).value
    except DECODING_ERRORS:
        raise UnreadableElement(int(element.tag), "sequence") from None
    if not isinstance(opened, Sequence):
        raise UnreadableElement(int(element.tag), "sequence")
    return opened
