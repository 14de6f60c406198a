"""The unused bits of native pixels, where old scanners kept overlays (text burned beside the image)."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from deid_rules.elements import small_number

_BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT = 0x00280100, 0x00280101, 0x00280102
_PIXEL_REPRESENTATION, _PADDING, _PADDING_LIMIT = 0x00280103, 0x00280120, 0x00280121


def clear_unused_bits(dataset: Dataset, pixels: bytes, little_endian: bool) -> bytes | None:
    """Clear the bits of native pixel data that carry no pixel.

    Parameters
    ----------
    dataset
        Holds Bits Allocated, Bits Stored, High Bit, Pixel Representation and the padding values.
    pixels
        Value of Pixel Data in a native transfer syntax.
    little_endian
        Byte order of the values.

    Returns
    -------
    bytes or None
        New pixel data, or None where nothing had to change. Bits above the high bit become the sign of a
        signed value and zero for an unsigned one (PS3.5 8.1.1); the padding values stay as they are.
    """
    layout = _layout(dataset)
    if layout is None:
        return None
    allocated, stored, high, is_signed = layout
    if len(pixels) % (allocated // 8):
        return None
    words = np.frombuffer(pixels, dtype=np.dtype(f"{'<' if little_endian else '>'}u{allocated // 8}"))
    if words.size == 0 or (high == stored - 1 and _all_within(words, stored, is_signed)):
        return None
    clean = _clean(words, allocated, stored, high, is_signed)
    padding = [small_number(dataset, tag) for tag in (_PADDING, _PADDING_LIMIT)]
    for value in padding:
        if value is not None:
            clean = np.where(words == value, words, clean)
    return None if np.array_equal(clean, words) else clean.astype(words.dtype).tobytes()


def _layout(dataset: Dataset) -> tuple[int, int, int, bool] | None:
    """Return (allocated, stored, high bit, signed) where bits are unused, None otherwise."""
    allocated, stored = small_number(dataset, _BITS_ALLOCATED), small_number(dataset, _BITS_STORED)
    if allocated not in (8, 16, 32) or stored is None or not 0 < stored < allocated:
        return None
    high = small_number(dataset, _HIGH_BIT)
    if high is None or not stored - 1 <= high < allocated:
        high = stored - 1
    return allocated, stored, high, small_number(dataset, _PIXEL_REPRESENTATION) == 1


def _all_within(words: NDArray[np.unsignedinteger], stored: int, is_signed: bool) -> bool:
    """Tell whether every word is already a ``stored``-bit number in the low bits."""
    if not is_signed:
        return bool(words.max() < 1 << stored)
    signed = words.view(words.dtype.str.replace("u", "i"))
    return bool(signed.min() >= -(1 << (stored - 1)) and signed.max() < 1 << (stored - 1))


def _clean(
    words: NDArray[np.unsignedinteger], allocated: int, stored: int, high: int, is_signed: bool
) -> NDArray[np.unsignedinteger]:
    """Keep bits high-stored+1 .. high; above them the sign or zero, below them zero."""
    native = words.astype(f"u{allocated // 8}")
    low = high + 1 - stored
    mask = ((1 << stored) - 1) << low
    if not is_signed:
        return native & native.dtype.type(mask)
    shift = allocated - 1 - high
    signed = (native << native.dtype.type(shift)).view(f"i{allocated // 8}")
    extended = (signed >> signed.dtype.type(shift)).view(native.dtype)
    return (extended >> native.dtype.type(low)) << native.dtype.type(low)
