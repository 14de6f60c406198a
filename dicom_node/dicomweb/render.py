"""Rendered frames and thumbnails: JPEG or PNG with a window (PS3.18 8.3.5, 10.4.1.1.3), and documents as they are."""

import re
from dataclasses import dataclass
from io import BytesIO
from threading import BoundedSemaphore
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from dicom_node.dicomweb.accept import choices, refusal
from dicom_node.dicomweb.archive import Archive
from dicom_node.dicomweb.bulk import ENCAPSULATED_DOCUMENT, OCTETS, bulk_value
from dicom_node.dicomweb.place import Place, read_place
from dicom_node.dicomweb.retrieve import find_frames
from dicom_node.dicomweb.stored_file import PixelLayout, pixel_layout, read_header, read_whole
from dicom_node.errors import InstanceUnreadable
from dicom_node.storage.syntaxes import DEFLATED

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}
FRAME_LIMIT_BYTES = 1 << 26
"""Largest frame that is rendered: the largest mammograms have 5 000 by 6 000 pixels of 16 bits."""
AT_ONCE = BoundedSemaphore(2)
"""Greys are worked on as numbers of 8 bytes, several times over: a gigabyte for the largest frame."""
VIEWPORT_LIMIT = 8192
THUMBNAIL_PIXELS = 128
FUNCTIONS = ("linear", "linear-exact", "sigmoid")


@dataclass(frozen=True, slots=True)
class Window:
    """Centre, width and function of a window (PS3.3 C.11.2.1)."""

    centre: float
    width: float
    function: str


@dataclass(frozen=True, slots=True)
class Looks:
    """How to render: a window or none, the box the picture fits into or none, JPEG quality."""

    window: Window | None
    viewport: tuple[int, int] | None
    quality: int


def render_routes(archive: Archive) -> APIRouter:
    """Make the routes of pictures."""
    router = APIRouter()
    instance_path = "/studies/{study}/series/{series}/instances/{instance}"

    @router.get(f"{instance_path}/rendered")
    @router.get(f"{instance_path}/frames/{{numbers}}/rendered")
    def rendered(request: Request, study: str, series: str, instance: str, numbers: str = "1") -> Response:
        """Retrieve a frame as a picture, or a document as it is."""
        place = read_place(study, series, instance)
        return _rendered(archive, request, place, numbers, read_looks(request))

    @router.get("/studies/{study}/thumbnail")
    @router.get("/studies/{study}/series/{series}/thumbnail")
    @router.get(f"{instance_path}/thumbnail")
    @router.get(f"{instance_path}/frames/{{numbers}}/thumbnail")
    def thumbnail(request: Request, study: str, series: str = "", instance: str = "", numbers: str = "1") -> Response:
        """Retrieve a small picture of something in the middle."""
        looks = read_looks(request)
        small = Looks(looks.window, looks.viewport or (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), looks.quality)
        return _rendered(archive, request, _example(archive, read_place(study, series, instance)), numbers, small)

    return router


def read_looks(request: Request) -> Looks:
    """Read ``window``, ``viewport`` and ``quality``.

    Raises
    ------
    HTTPException
        400 when one of them cannot be understood.
    """
    query = request.query_params
    quality = query.get("quality", "90")
    if not re.fullmatch(r"\d{1,3}", quality) or not 1 <= int(quality) <= 100:
        raise HTTPException(400, "quality is a whole number from 1 to 100.")
    return Looks(_window(query.get("window")), _viewport(query.get("viewport")), int(quality))


def _window(text: str | None) -> Window | None:
    if text is None:
        return None
    parts = text.lower().split(",")
    function = parts[2] if len(parts) == 3 else "linear"
    try:
        centre, width = float(parts[0]), float(parts[1])
    except (ValueError, IndexError):
        centre = width = float("nan")
    if len(parts) > 3 or function not in FUNCTIONS or not (np.isfinite(centre) and np.isfinite(width) and width > 0):
        raise HTTPException(400, "window is a centre, a width above 0 and linear, linear-exact or sigmoid.")
    return Window(centre, width, function)


def _viewport(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(re.fullmatch(r"\d{1,5}", part) for part in parts[:2]) or len(parts) not in (2, 6):
        raise HTTPException(400, "viewport is a width and a height in pixels.")
    width, height = int(parts[0]), int(parts[1])
    if not (0 < width <= VIEWPORT_LIMIT and 0 < height <= VIEWPORT_LIMIT):
        raise HTTPException(400, f"viewport is at most {VIEWPORT_LIMIT} pixels wide and high.")
    return width, height


def _example(archive: Archive, place: Place) -> Place:
    """Return the place of an instance with pixels, from the middle outwards."""
    found = archive.find(place)
    middle = len(found) // 2
    for held in [*found[middle:], *found[:middle]]:
        if pixel_layout(archive.path(held)) is not None:
            return Place(held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid)
    raise HTTPException(404, "There is nothing with pixels.")


def _rendered(archive: Archive, request: Request, place: Place, numbers: str, looks: Looks) -> Response:
    (held,) = archive.find(place)[:1]
    path = archive.path(held)
    if pixel_layout(path) is None:
        value, kind = _document(archive, place)
        if not any(choice.takes(kind) for choice in choices(request)):
            raise refusal(kind)
        return Response(value, headers={"Content-Type": kind})
    name = next((name for choice in choices(request) for name in FORMATS if choice.takes(name)), None)
    if name is None:
        raise refusal(" or ".join(FORMATS))
    layout, wanted = find_frames(archive, place, numbers)
    buffer = BytesIO()
    _picture(layout, wanted[0], looks).save(buffer, FORMATS[name], quality=looks.quality)
    return Response(buffer.getvalue(), media_type=name)


def _document(archive: Archive, place: Place) -> tuple[bytes, str]:
    """Return an encapsulated document; anything else without pixels cannot be rendered."""
    path = archive.path(archive.find(place)[0])
    if int(ENCAPSULATED_DOCUMENT, 16) not in read_header(path).dataset:
        raise HTTPException(406, "An instance without pixels and without a document cannot be rendered.")
    value, kind = bulk_value(path, ENCAPSULATED_DOCUMENT)
    if kind == OCTETS:
        raise HTTPException(406, "The document is of no kind that is rendered.")
    return value, kind


def _picture(layout: PixelLayout, number: int, looks: Looks) -> Image.Image:
    if layout.frame_bits > FRAME_LIMIT_BYTES * 8:
        raise HTTPException(413, "The frame is too large to be rendered.")
    try:
        with AT_ONCE:
            picture = _decoded(layout, number, looks.window)
    except Exception as error:  # noqa: BLE001 - hostile pixels fail in any way
        raise InstanceUnreadable(f"The frame cannot be rendered ({type(error).__name__}).") from None
    if looks.viewport is not None:
        width, height = looks.viewport
        factor = min(width / picture.width, height / picture.height)
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return picture


def _decoded(layout: PixelLayout, number: int, window: Window | None) -> Image.Image:
    header = read_header(layout.path).dataset
    pixels = pixel_array(_source(layout), index=number - 1)
    if layout.photometric == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
    grey_or_rgb = pixels if pixels.ndim == 3 else _grey(pixels, header, window)
    return Image.fromarray(np.ascontiguousarray(_as_bytes(grey_or_rgb)))


def _source(layout: PixelLayout) -> Any:
    """Return what the decoder reads: the file, or the dataset where the file is deflated."""
    return read_whole(layout.path) if layout.syntax in DEFLATED else str(layout.path)


def _grey(pixels: NDArray[Any], header: Dataset, window: Window | None) -> NDArray[np.float64]:
    """Return grey values from 0 to 255: rescaled, windowed, and white for small values where that is meant."""
    values = apply_modality_lut(pixels, header).astype(np.float64)
    window = window or _own_window(header)
    if window is not None:
        shown = 255 * _windowed(values, window)
    else:
        if "VOILUTSequence" in header:
            values = apply_voi_lut(pixels, header).astype(np.float64)
        low, high = float(values.min()), float(values.max())
        shown = 255 * (values - low) / (high - low if high > low else 1.0)
    return 255 - shown if header.get("PhotometricInterpretation") == "MONOCHROME1" else shown


def _own_window(header: Dataset) -> Window | None:
    """Return the header's first window."""
    try:
        centre, width = (np.atleast_1d(header[word].value)[0] for word in ("WindowCenter", "WindowWidth"))
        function = str(header.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
        own = Window(float(centre), float(width), function if function in FUNCTIONS else "linear")
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return own if np.isfinite(own.centre) and own.width > 0 else None


def _windowed(values: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Return values from 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if window.function == "sigmoid":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - window.centre) / window.width, -500, 500))))
    if window.function == "linear-exact":
        return np.clip((values - window.centre) / window.width + 0.5, 0, 1)
    slope = max(window.width - 1, np.finfo(float).tiny)
    return np.clip((values - (window.centre - 0.5)) / slope + 0.5, 0, 1)


def _as_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels of 8 bits; colours of 16 are taken by their upper half."""
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    return np.clip(np.rint(pixels.astype(np.float64)), 0, 255).astype(np.uint8)
