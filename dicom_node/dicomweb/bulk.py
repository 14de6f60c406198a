"""Large values of a dataset by their place in it, and the media types of compressed frames (PS3.18 8.7.3.3)."""

import re
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from pydicom import Dataset
from pydicom.uid import UID

from dicom_node.dicomweb.dicom_json import BINARY_VRS
from dicom_node.dicomweb.stored_file import read_header

OCTETS = "application/octet-stream"
PLACE = re.compile(r"[0-9A-Fa-f]{8}(/\d{1,6}/[0-9A-Fa-f]{8}){0,8}")
ENCAPSULATED_DOCUMENT = "00420011"
FRAME_TYPES: dict[str, str] = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/mp4",
    "1.2.840.10008.1.2.4.108": "video/mp4",
}


def frame_type(syntax: UID) -> str:
    """Return the media type of a compressed frame; octets where the standard names none."""
    return FRAME_TYPES.get(str(syntax), OCTETS)


def bulk_value(path: Path, place: str) -> tuple[bytes, str]:
    """Return a value by its place, ``TAG`` or ``TAG/item/TAG`` with items from 0, and its media type.

    Raises
    ------
    HTTPException
        400 when the place is none, 404 when there is no binary value.
    """
    if not PLACE.fullmatch(place):
        raise HTTPException(400, "The address holds something that is not the place of a value.")
    header = read_header(path).dataset
    element = _element(header, place.split("/"))
    if element is None or element.VR not in BINARY_VRS:
        raise HTTPException(404, "The instance has no such binary value.")
    kind = OCTETS
    if place == ENCAPSULATED_DOCUMENT:
        kind = document_type(header)
    return bytes(element.value or b""), kind


def document_type(header: Dataset) -> str:
    """Return the media type of an encapsulated document; octets where its header names none that is known."""
    named = str(header.get("MIMETypeOfEncapsulatedDocument", "")).lower()
    return named if named in ("application/pdf", "text/xml", "model/stl", "model/obj", "model/mtl") else OCTETS


def _element(dataset: Dataset, steps: list[str]) -> Any:
    tag = int(steps[0], 16)
    if tag not in dataset:
        return None
    try:
        element = dataset[tag]
    except Exception:  # noqa: BLE001 - a value that breaks its VR is no value
        return None
    if len(steps) == 1:
        return element
    if element.VR != "SQ" or int(steps[1]) >= len(element.value):
        return None
    return _element(element.value[int(steps[1])], steps[2:])
