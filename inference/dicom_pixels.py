"""Stored pixel values of one CT slice to HU.

Uncompressed and compressed transfer syntaxes go through pydicom's decoders, frame by frame, so that only one
slice is ever held beside the volume. Sources: PS3.5 8.1.1 (bits beyond Bits Stored carry no meaning),
PS3.3 C.7.5.1.1.2 (pixel padding), C.11.1.1 (rescale).
"""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian
from scipy import ndimage

from inference.dicom_headers import Frame, number_of_frames
from inference.errors import TruncatedPixelData, UnsupportedPixels

AIR_HU = -1024.0
"""What padding, and everything below it, becomes: the lowest CT number of a 12-bit scanner."""

LEAST_TISSUE_HU = -900.0
"""Padding above this reads like something in the patient, so only what reaches the slice's edge is taken for it
[m] assumption: converters write a padding value of 0 beside an intercept of 0, and water then is 0 too."""


def check_pixels(dataset: Dataset, where: str) -> None:
    """Refuse pixels that cannot become HU, before anything is decoded.

    Parameters
    ----------
    dataset
        A CT instance with pixel data.
    where
        Names the instance in messages without a UID, for example ``image 3 of 160``.

    Raises
    ------
    TruncatedPixelData
        If uncompressed pixel data are shorter than rows x columns x frames x bytes.
    UnsupportedPixels
        If the pixels are not one-channel integers of 8 or 16 bits, or no decoder is installed.
    """
    _check_layout(dataset, where)
    syntax = transfer_syntax(dataset)
    if syntax.is_compressed and not syntax.is_deflated:
        _check_decoder(syntax, where)
    else:
        _check_length(dataset, where)


def _check_layout(dataset: Dataset, where: str) -> None:
    """Refuse pixels that are not those of a CT Image (PS3.3 C.8.2.1)."""
    rows, columns, samples, allocated, stored, high = (
        int(dataset.get(keyword) or 0)
        for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit")
    )
    photometric = str(dataset.get("PhotometricInterpretation", ""))[:16]
    is_usual = (
        rows > 0
        and columns > 0
        and samples == 1
        and allocated in (8, 16)
        and 0 < stored <= allocated
        and high == stored - 1
        and photometric == "MONOCHROME2"
        and dataset.get("PixelRepresentation") in (0, 1)
    )
    if not is_usual:
        raise UnsupportedPixels(
            f"Found {rows}x{columns} pixels of {samples} samples, {allocated} bits, {stored} stored, high bit "
            f"{high}, {photometric or 'no photometric interpretation'} in {where}; expected one sample of 8 or 16 "
            "bits, high bit = bits stored - 1, MONOCHROME2. Send the scanner's own images."
        )


def transfer_syntax(dataset: Dataset) -> UID:
    """Transfer syntax of the dataset's file meta; uncompressed little endian where there is none."""
    meta = getattr(dataset, "file_meta", None)
    return getattr(meta, "TransferSyntaxUID", None) or ExplicitVRLittleEndian


def hu_from_frame(frame: Frame, where: str) -> NDArray[np.float32]:
    """Decode one slice to HU.

    Parameters
    ----------
    frame
        The slice.
    where
        Names the instance in messages.

    Returns
    -------
    (row, column) float32 array
        HU; padding and values below -1024 HU are -1024.

    Raises
    ------
    UnsupportedPixels
        If the decoder fails.
    """
    try:
        stored = _stored_values(frame)
    except (RuntimeError, ValueError, NotImplementedError, AttributeError, KeyError, TypeError) as error:
        raise UnsupportedPixels(
            f"Found pixels in {where} that could not be decoded ({type(error).__name__}); "
            "expected a complete image. Export the series again, uncompressed if possible."
        ) from None
    hu = stored.astype(np.float32)
    hu *= np.float32(frame.slope)
    hu += np.float32(frame.intercept)
    padding = padding_range(frame.dataset)
    if padding is not None:
        filled = (stored >= padding[0]) & (stored <= padding[1])
        is_odd = padding[1] * frame.slope + frame.intercept > LEAST_TISSUE_HU
        hu[_reaching_the_edge(filled) if is_odd else filled] = AIR_HU
    return np.maximum(hu, np.float32(AIR_HU), out=hu)


def _reaching_the_edge(filled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the pieces of a (row, column) mask that touch its border: padding lies outside of the field of view."""
    pieces, _ = ndimage.label(filled)
    rim = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    return np.isin(pieces, rim[rim > 0])


def padding_range(dataset: Dataset) -> tuple[int, int] | None:
    """Find the stored values that are padding, ends included; None where the header names none."""
    value = dataset.get("PixelPaddingValue")
    if value is None or value == "":
        return None
    signed = int(dataset.PixelRepresentation) == 1
    limit = dataset.get("PixelPaddingRangeLimit")
    first = _signed_16(int(value)) if signed else int(value) & 0xFFFF
    last = first if limit in (None, "") else (_signed_16(int(limit)) if signed else int(limit) & 0xFFFF)
    return (min(first, last), max(first, last))


def _stored_values(frame: Frame) -> NDArray[np.int32]:
    """Decode the stored integers of one slice, the meaningless high bits removed, the sign applied."""
    dataset = frame.dataset
    raw = pixel_array(_with_syntax(dataset), index=frame.index, raw=True)
    stored = raw.astype(np.int32)
    shift = 32 - int(dataset.BitsStored)
    stored <<= shift
    if int(dataset.PixelRepresentation) == 1:
        return stored >> shift
    return (stored.view(np.uint32) >> np.uint32(shift)).view(np.int32)


def _with_syntax(dataset: Dataset) -> Dataset:
    """Return the dataset with a transfer syntax that pydicom can decode by; pixels are shared, not copied."""
    if getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None):
        return dataset
    shown = dataset.group_dataset(0x0028)
    shown.PixelData = dataset.PixelData
    shown["PixelData"].VR = "OW"
    shown.file_meta = FileMetaDataset()
    shown.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return shown


def _signed_16(value: int) -> int:
    """Read a value that an implicit VR reader took for unsigned as the signed number it is."""
    return value - 0x10000 if value > 0x7FFF else value


def _check_decoder(syntax: UID, where: str) -> None:
    """Refuse a compression for which no decoder is installed."""
    try:
        available = bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        available = False
    if not available:
        raise UnsupportedPixels(
            f"Found {syntax.name} compression in {where}, for which no decoder is installed; expected "
            "uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000. Ask the sender to send uncompressed images."
        )


def _check_length(dataset: Dataset, where: str) -> None:
    """Refuse uncompressed pixel data that end early."""
    frames = number_of_frames(dataset)
    expected = int(dataset.Rows) * int(dataset.Columns) * frames * int(dataset.BitsAllocated) // 8
    found = len(dataset.get("PixelData") or b"")
    if found < expected:
        raise TruncatedPixelData(
            f"Found {found} bytes of pixels in {where}; expected {expected}. The file was cut off: send it again."
        )
