"""A report on disk: the research side writes it, the hospital side reads it.

``report.json`` holds every value; ``regions.npz`` the masks, bit-packed; ``pictures/*.png`` the pictures. None of
them names a patient, so the folder can be handed to a scientist as it is.
"""

import json
from dataclasses import asdict, replace
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dicom_node.storage.files import write_durably
from sr_export.inputs import (
    Algorithm,
    CalibrationStatement,
    Equipment,
    Finding,
    Group,
    Measurement,
    Picture,
    PriorValue,
    Region,
    Report,
    Statement,
)

FORMAT = 1


def save_report(report: Report, folder: Path, extra: dict[str, Any]) -> None:
    """Write a report into a folder, durably; ``extra`` joins the JSON (pseudonym, segmenter, solver figures).

    ``report.json`` comes last: where it is, the rest is too.
    """
    for picture in report.pictures:
        buffer = BytesIO()
        Image.fromarray(picture.rgb).save(buffer, "PNG")
        write_durably(folder / "pictures" / f"{picture.key}.png", [buffer.getvalue()])
    shape = report.regions[0].mask.shape if report.regions else (0, 0, 0)
    packed = {region.key: np.packbits(region.mask) for region in report.regions}
    buffer = BytesIO()
    np.savez_compressed(buffer, shape=np.asarray(shape), **packed)  # type: ignore[arg-type]
    write_durably(folder / "regions.npz", [buffer.getvalue()])
    values = {"format": FORMAT, **extra, **asdict(_without_arrays(report))}
    write_durably(folder / "report.json", [json.dumps(values, indent=1, default=_plain).encode()])


def load_report(folder: Path) -> Report:
    """Read a report back from a folder."""
    values = json.loads((folder / "report.json").read_text())
    masks = _load_masks(folder / "regions.npz")
    regions = tuple(Region(**{**region, "mask": masks[region["key"]]}) for region in values["regions"])
    by_key = {region.key: region for region in regions}
    return Report(
        job_reference=values["job_reference"],
        created=datetime.fromisoformat(values["created"]),
        headline=values["headline"],
        regions=regions,
        groups=tuple(_group(group, by_key) for group in values["groups"]),
        findings=tuple(Finding(**finding) for finding in values["findings"]),
        calibration=_calibration(values["calibration"]),
        algorithms=tuple(_algorithm(algorithm) for algorithm in values["algorithms"]),
        equipment=Equipment(**values["equipment"]),
        technical=tuple((name, value) for name, value in values["technical"]),
        limits=tuple(values["limits"]),
        pictures=tuple(_picture(picture, folder) for picture in values["pictures"]),
        prior=tuple(_prior(prior) for prior in values.get("prior", ())),
    )


def load_affine_lps(folder: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the (4, 4) index-to-LPS map, mm, of the volume the masks were made on."""
    return np.asarray(json.loads((folder / "report.json").read_text())["grid"]["affine_lps"], dtype=np.float64)


def _without_arrays(report: Report) -> Report:
    empty = np.zeros((0, 0, 0), bool)
    blank = np.zeros((0, 0, 3), np.uint8)
    return replace(
        report,
        regions=tuple(replace(region, mask=empty) for region in report.regions),
        groups=tuple(
            replace(group, region=replace(group.region, mask=empty) if group.region else None)
            for group in report.groups
        ),
        pictures=tuple(replace(picture, rgb=blank) for picture in report.pictures),
    )


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return None
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a report")


def _load_masks(path: Path) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    with np.load(path) as stored:
        shape = tuple(int(n) for n in stored["shape"])
        size = int(np.prod(shape))
        return {
            key: np.unpackbits(stored[key], count=size).reshape(shape).astype(bool)
            for key in stored.files
            if key != "shape"
        }


def _group(values: dict[str, Any], regions: dict[str, Region]) -> Group:
    region = values["region"]
    return Group(
        **{
            **values,
            "measurements": tuple(Measurement(**measurement) for measurement in values["measurements"]),
            "findings": tuple(Finding(**finding) for finding in values["findings"]),
            "region": regions[region["key"]] if region else None,
            "statements": tuple(Statement(**statement) for statement in values.get("statements", ())),
        }
    )


def _calibration(values: dict[str, Any]) -> CalibrationStatement:
    measured_on = values["measured_on"]
    return CalibrationStatement(**{**values, "measured_on": date.fromisoformat(measured_on) if measured_on else None})


def _prior(values: dict[str, Any]) -> PriorValue:
    return PriorValue(**{**values, "study_date": date.fromisoformat(values["study_date"])})


def _algorithm(values: dict[str, Any]) -> Algorithm:
    return Algorithm(**{**values, "parameters": tuple(values["parameters"])})


def _picture(values: dict[str, Any], folder: Path) -> Picture:
    rgb = np.asarray(Image.open(folder / "pictures" / f"{values['key']}.png").convert("RGB"))
    return Picture(**{**values, "rgb": rgb})
