"""Datasets as DICOM JSON (PS3.18 annex F): values inline, pixels and large binary values by their address."""

import json
import math
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from pydicom import DataElement, Dataset

MEDIA_TYPE = "application/dicom+json"
INLINE_LIMIT_BYTES = 1024
"""A binary value with more is given by its address."""
BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"})
JsonDataset = dict[str, dict[str, Any]]


def json_of(
    dataset: Dataset, address: Callable[[str], str] | None = None, tags: tuple[str, ...] | None = None, place: str = ""
) -> JsonDataset:
    """Return a dataset as a JSON object; an element whose value cannot be read is given without one.

    Parameters
    ----------
    dataset
        Without its pixels.
    address
        Makes the address of a large binary value from its place, ``TAG`` or ``TAG/item/TAG`` with items from 0;
        without it such values are left out.
    tags
        Only these, as eight hexadecimal digits.
    place
        Where ``dataset`` is inside the one ``address`` knows.
    """
    chosen = sorted(dataset.keys()) if tags is None else [tag for tag in map(_number, tags) if tag in dataset]
    found: JsonDataset = {}
    for tag in chosen:
        if int(tag) & 0xFFFF == 0:
            continue  # group lengths say nothing about the object
        name = f"{int(tag):08X}"
        try:
            element = dataset[tag]
            found[name] = _element(element, address, f"{place}{name}")
        except Exception:  # noqa: BLE001 - a value that breaks its VR must not hide the others
            found[name] = {"vr": "UN"}
    return found


def dumps(value: object) -> bytes:
    """Return JSON as bytes."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _number(tag: str) -> int:
    return int(tag, 16)


def _element(element: DataElement, address: Callable[[str], str] | None, place: str) -> dict[str, Any]:
    if element.VR == "SQ":
        items = [json_of(item, address, None, f"{place}/{index}/") for index, item in enumerate(element.value)]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    if element.VR in BINARY_VRS:
        return _binary(element, address, place)
    found: dict[str, Any] = element.to_json_dict(None, 0)
    if "Value" in found and element.VR in ("FL", "FD", "DS"):
        found["Value"] = [None if isinstance(one, float) and not math.isfinite(one) else one for one in found["Value"]]
    return found


def _binary(element: DataElement, address: Callable[[str], str] | None, place: str) -> dict[str, Any]:
    vr = "OW" if element.VR == "OB or OW" else element.VR
    content = bytes(element.value or b"")
    if not content:
        return {"vr": vr}
    if len(content) <= INLINE_LIMIT_BYTES:
        return {"vr": vr, "InlineBinary": b64encode(content).decode("ascii")}
    return {"vr": vr, "BulkDataURI": address(place)} if address is not None else {"vr": vr}
