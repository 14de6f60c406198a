"""The result as JSON: numbers with their units, what they rest on, and checksums instead of paths.

Nothing of a path is kept: folders and files are often named after patients. docs/fe-command.md describes every key.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from dicom_node import __version__
from dicom_node.strength.bone import Bone
from dicom_node.strength.outcome import Outcome
from fe.flags import FLAG_MEANINGS
from inference.quality import FLAGS

SCHEMA = "osteonode-fe-1"
"""Raised with every change of a key's meaning."""

PURPOSE = "Research use only; not verified by a physician; not for diagnosis or treatment."


def result_json(model: str, bone: Bone, outcome: Outcome, created: datetime) -> bytes:
    """Return the whole result as UTF-8 JSON without NaN or infinity (null stands for both).

    Parameters
    ----------
    model
        Name of the model on the command line.
    bone, outcome
        What went in and what came out.
    created
        When.
    """
    content = {
        "schema": SCHEMA,
        "purpose": PURPOSE,
        "software": {"name": "OsteoNode", "version": __version__},
        "created": created.isoformat(timespec="seconds"),
        "model": model,
        "headline": outcome.headline,
        "bone": {"key": bone.key, "name": bone.name, "side": bone.side or None, "level": bone.level or None},
        "input": _input(bone),
        "calibration": _calibration(bone),
        **outcome.values,
        "facts": _facts(outcome),
        "flags": [*_quality_flags(bone), *_model_flags(outcome)],
    }
    return json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are none become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [plain(one) for one in value]
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a result.")


def _input(bone: Bone) -> dict[str, Any]:
    image = bone.scan.volume
    return {
        "image": {
            "kind": bone.scan.file.kind,
            "sha256": bone.scan.file.sha256,
            "shape": image.hu.shape,
            "spacing_mm": image.spacing_mm,
            "affine_lps_mm": image.affine_lps,
            "manufacturer": image.acquisition.manufacturer or None,
            "kvp_kv": image.acquisition.kvp,
            "convolution_kernel": image.acquisition.convolution_kernel or None,
        },
        "mask": {
            "kind": bone.mask_file.kind,
            "sha256": bone.mask_file.sha256,
            "label": bone.label,
            "voxels": int(bone.mask.sum()),
            "volume_mm3": bone.volume_mm3,
        },
        "model_origin_lps_mm": bone.affine_lps[:3, 3],
        "model_axes_lps": bone.turned(np.eye(3)),
    }


def _calibration(bone: Bone) -> dict[str, Any]:
    record = bone.scan.record
    if record is None:
        method = "densities as given" if bone.scan.material else "none: the model takes no density"
        return {"method": method, "material": bone.scan.material}
    return {
        "method": "default line, not of this scanner" if record.is_default else "asynchronous, by record",
        "record_id": record.record_id,
        "material": record.material,
        "phantom": record.phantom,
        "slope_mg_per_cm3_per_hu": record.slope_mg_per_cm3_per_hu,
        "intercept_mg_per_cm3": record.intercept_mg_per_cm3,
        "measured_on": record.measured_on,
    }


def _facts(outcome: Outcome) -> dict[str, Any]:
    values = asdict(outcome.facts)
    low, high = values.pop("youngs_modulus_range_mpa")
    return {**values, "youngs_modulus_minimum_mpa": low, "youngs_modulus_maximum_mpa": high}


def _quality_flags(bone: Bone) -> list[dict[str, Any]]:
    return [
        {
            "code": flag.code,
            "of": "input",
            "meaning": FLAGS[flag.code].meaning,
            "sentence": flag.sentence,
            "forbids_strength": FLAGS[flag.code].forbids_strength and flag.concerns(bone.key),
            "evidence": dict(flag.evidence),
        }
        for flag in bone.flags
    ]


def _model_flags(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "code": flag.code,
            "of": "model",
            "meaning": FLAG_MEANINGS.get(flag.code),
            "sentence": flag.sentence,
            "forbids_strength": False,
            "evidence": dict(flag.evidence),
        }
        for flag in outcome.flags
    ]
