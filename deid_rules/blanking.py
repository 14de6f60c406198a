"""Erase rectangles of an image, in every frame.

The values become zero, as in CTP and `deid`. Native pixels are edited in place; compressed ones are decoded first
and written native, so that nothing of the erased part is left in a codec's residue.
"""

from collections.abc import Iterable
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian

from deid_rules.elements import DECODING_ERRORS, elements_of, made, small_number, text_of
from deid_rules.errors import UnreadableElement
from deid_rules.filters import Rectangle
from deid_rules.markers import transfer_syntax_of
from deid_rules.options import CLEAN_PIXEL_DATA_CODE, METHOD_MEANINGS

_PIXEL_DATA, _METHOD_CODES = 0x7FE00010, 0x00120064
_ROWS, _COLUMNS, _SAMPLES, _PLANAR, _BITS = 0x00280010, 0x00280011, 0x00280002, 0x00280006, 0x00280100
_FRAMES, _PHOTOMETRIC = 0x00280008, 0x00280004
_SUBSAMPLED = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"})


def blank_rectangles(dataset: Dataset, rectangles: Iterable[Rectangle]) -> Dataset:
    """Erase rectangles in every frame of an image.

    Parameters
    ----------
    dataset
        The de-identified image; it is not changed. Take the rectangles from the original header.
    rectangles
        Parts outside the image are cut off; one that is kept gives back what earlier ones erase.

    Returns
    -------
    Dataset
        A copy with new pixel data, in a native transfer syntax. Where the dataset lists its de-identification
        methods, the option Clean Pixel Data (113101) is added. Without rectangles the dataset itself.

    Raises
    ------
    UnreadableElement
        The pixels cannot be decoded, or their layout is not one of whole samples of 8, 16 or 32 bits.
    """
    wanted = tuple(rectangles)
    if not wanted:
        return dataset
    native = _native(dataset)
    frames = _frames(native)
    _erase(frames, _mask(frames.shape[1], frames.shape[2], wanted))
    value = _encoded(frames, native)
    clean = _twin(native)
    clean[_PIXEL_DATA] = made(_PIXEL_DATA, "OW" if small_number(native, _BITS) != 8 else "OB", value)
    _claim(clean)
    return clean


def _twin(dataset: Dataset) -> Dataset:
    """Return a second dataset with the same elements, whose own list of them may be changed."""
    held = {element.tag: element for _, element in elements_of(dataset)}
    twin = Dataset(held, parent_encoding=dataset.original_character_set)
    twin.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    twin.preamble = getattr(dataset, "preamble", None)
    if getattr(dataset, "file_meta", None) is not None:
        twin.file_meta = deepcopy(dataset.file_meta)
    return twin


def _native(dataset: Dataset) -> Dataset:
    """Return the dataset, or a decoded copy of a compressed one."""
    if not transfer_syntax_of(dataset).is_compressed:
        return dataset
    decoded = deepcopy(dataset)
    try:
        decoded.decompress(generate_instance_uid=False)
    except (*DECODING_ERRORS, RuntimeError):
        raise UnreadableElement(_PIXEL_DATA, "pixels") from None
    return decoded


def _frames(dataset: Dataset) -> NDArray[np.unsignedinteger]:
    """Return the pixels as [frame, row, column, sample], a copy that may be written to."""
    layout = _layout(dataset)
    element = dataset.get_item(_PIXEL_DATA) if _PIXEL_DATA in dataset else None
    value = b"" if element is None or not isinstance(element.value, bytes) else element.value
    if layout is None:
        raise UnreadableElement(_PIXEL_DATA, "pixels")
    count, rows, columns, samples, dtype, is_planar = layout
    size = count * rows * columns * samples
    if size == 0 or len(value) < size * dtype.itemsize:
        raise UnreadableElement(_PIXEL_DATA, "pixels")
    flat = np.frombuffer(value, dtype=dtype, count=size).copy()
    if is_planar:
        return flat.reshape(count, samples, rows, columns).transpose(0, 2, 3, 1)
    return flat.reshape(count, rows, columns, samples)


def _layout(dataset: Dataset) -> tuple[int, int, int, int, np.dtype[np.unsignedinteger], bool] | None:
    """Return frames, rows, columns, samples, type, and whether planes follow one another; None where unknown."""
    rows, columns, bits = (small_number(dataset, tag) for tag in (_ROWS, _COLUMNS, _BITS))
    frames = text_of(dataset, _FRAMES) or "1"
    if not rows or not columns or bits not in (8, 16, 32) or not frames.isdecimal():
        return None
    if text_of(dataset, _PHOTOMETRIC) in _SUBSAMPLED:
        return None
    samples = small_number(dataset, _SAMPLES) or 1
    order = ">" if transfer_syntax_of(dataset) == ExplicitVRBigEndian else "<"
    is_planar = samples > 1 and small_number(dataset, _PLANAR) == 1
    return int(frames), rows, columns, samples, np.dtype(f"{order}u{bits // 8}"), is_planar


def _mask(rows: int, columns: int, rectangles: tuple[Rectangle, ...]) -> NDArray[np.bool_]:
    """Return what is erased, [row, column]."""
    mask = np.zeros((rows, columns), dtype=np.bool_)
    for rectangle in rectangles:
        mask[rectangle.top : rectangle.bottom, rectangle.left : rectangle.right] = not rectangle.is_kept
    return mask


def _erase(frames: NDArray[np.unsignedinteger], mask: NDArray[np.bool_]) -> None:
    frames[:, mask, :] = 0


def _encoded(frames: NDArray[np.unsignedinteger], dataset: Dataset) -> bytes:
    """Encode [frame, row, column, sample] in the order the dataset's Planar Configuration says."""
    if frames.shape[3] > 1 and small_number(dataset, _PLANAR) == 1:
        frames = frames.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(frames).tobytes()


def _claim(clean: Dataset) -> None:
    """Add Clean Pixel Data to the methods of a de-identified dataset."""
    if _METHOD_CODES not in clean:
        return
    present = list(clean[_METHOD_CODES].value)
    if any(item.get("CodeValue") == CLEAN_PIXEL_DATA_CODE for item in present):
        return
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = CLEAN_PIXEL_DATA_CODE, "DCM"
    item.CodeMeaning = METHOD_MEANINGS[CLEAN_PIXEL_DATA_CODE]
    clean.add_new(_METHOD_CODES, "SQ", Sequence([*present, item]))
