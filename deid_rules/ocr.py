"""Text burned into pixels, found by optical character recognition: for what no rule can decide.

Optional: it needs the extra ``ocr`` (RapidOCR with ONNX Runtime; the models are in its wheel and nothing is
fetched). What is found is a reason for quarantine or for `blank_rectangles`; that nothing is found is no proof.
"""

from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from deid_rules.elements import DECODING_ERRORS
from deid_rules.errors import OcrUnavailable, UnreadableElement
from deid_rules.filters import Rectangle

_PIXEL_DATA = 0x7FE00010
_MARGIN = 32
"""[m] assumption: pixels added round the image, as the detector misses text at the very edge."""

MIN_CONFIDENCE = 0.5
"""RapidOCR's own default for the recognizer's score."""

MAX_FRAMES = 3
"""First, middle and last frame are read: burned-in headers stand in all of them."""


@dataclass(frozen=True, slots=True)
class TextBox:
    """One piece of text found in an image. A repr does not show the text: it may be a name.

    Attributes
    ----------
    rectangle
        Where it stands, in pixels.
    confidence
        Of the recognizer, 0..1.
    text
        What it reads.
    """

    rectangle: Rectangle
    confidence: float
    text: str = field(repr=False)


class TextFinder(Protocol):
    """Whatever can look for text in an image."""

    def find_text(self, dataset: Dataset) -> tuple[TextBox, ...]:
        """Return the pieces of text in an image."""
        ...


class RapidOcrFinder:
    """`TextFinder` by RapidOCR, on the CPU.

    Raises
    ------
    OcrUnavailable
        The extra is not installed.
    """

    def __init__(self) -> None:
        self._read = _engine()

    def find_text(self, dataset: Dataset) -> tuple[TextBox, ...]:
        """Look for text in the first, middle and last frame.

        Raises
        ------
        UnreadableElement
            The pixels cannot be decoded.
        """
        frames = _frames(dataset)
        chosen = sorted({0, len(frames) // 2, len(frames) - 1})[:MAX_FRAMES]
        return tuple(box for index in chosen for box in self._boxes(frames[index]))

    def _boxes(self, frame: NDArray[np.generic]) -> list[TextBox]:
        image = np.pad(_grey(frame), _MARGIN)
        found, _ = self._read(np.repeat(image[:, :, None], 3, axis=2))
        rows, columns = frame.shape[:2]
        return [
            TextBox(_bounds(corners, rows, columns), float(score), str(text))
            for corners, text, score in found or ()
            if float(score) >= MIN_CONFIDENCE
        ]


def find_text(dataset: Dataset) -> tuple[TextBox, ...]:
    """Look for text in an image with the optional RapidOCR.

    Raises
    ------
    OcrUnavailable
        The extra is not installed.
    UnreadableElement
        The pixels cannot be decoded.
    """
    return _finder().find_text(dataset)


@cache
def _finder() -> RapidOcrFinder:
    return RapidOcrFinder()


def _engine() -> Any:
    try:
        library = import_module("rapidocr_onnxruntime")
    except ImportError:
        raise OcrUnavailable("text recognition is not installed; install osteonode with its extra: ocr") from None
    return library.RapidOCR()


def _frames(dataset: Dataset) -> NDArray[np.generic]:
    """Return [frame, row, column] or [frame, row, column, sample]."""
    try:
        pixels: NDArray[np.generic] = dataset.pixel_array
    except (*DECODING_ERRORS, RuntimeError):
        raise UnreadableElement(_PIXEL_DATA, "pixels") from None
    has_frames = int(dataset.get("NumberOfFrames") or 1) > 1
    return pixels if has_frames else pixels[None]


def _grey(frame: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Stretch the values to 8 bits, from the 1st percentile to the maximum: burned-in text is the brightest."""
    values = frame.astype(np.float64)
    if values.ndim == 3:
        values = values.mean(axis=2)
    low, high = np.percentile(values, 1), values.max()
    return (np.clip((values - low) / max(high - low, 1.0), 0, 1) * 255).astype(np.uint8)


def _bounds(corners: list[list[float]], rows: int, columns: int) -> Rectangle:
    """Return the upright rectangle round four corners, inside the image."""
    across = [point[0] - _MARGIN for point in corners]
    down = [point[1] - _MARGIN for point in corners]
    left, top = max(int(min(across)), 0), max(int(min(down)), 0)
    right, bottom = min(int(max(across)) + 1, columns), min(int(max(down)) + 1, rows)
    return Rectangle(left, top, max(right, left + 1), max(bottom, top + 1))
