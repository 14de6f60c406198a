"""Calibration records as JSON text: a list of objects with exactly the fields of ``CalibrationRecord``.

Unknown fields, missing fields, wrong types, impossible values and repeated names are errors: a calibration
that is nearly right is wrong. Dates are ISO 8601.
"""

import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, cast

from inference.calibration import ASH_LINES, CalibrationRecord, Material
from inference.errors import CalibrationError

SLOPE_RANGE = (0.3, 1.5)
"""Plausible slopes, mg/cm3 per HU: 0.6 to 0.9 is usual from 80 to 140 kV [m] assumption. A slope in g/cm3
per HU,
a thousand times smaller, falls outside."""

INTERCEPT_RANGE = (-100.0, 100.0)
"""Plausible intercepts, mg/cm3 [m] assumption."""

KVP_RANGE = (60.0, 160.0)
"""Tube voltages of CT scanners, kV [m] assumption."""


def records_from_json(text: str) -> tuple[CalibrationRecord, ...]:
    """Read calibration records.

    Parameters
    ----------
    text
        JSON: a list of objects.

    Returns
    -------
    tuple of CalibrationRecord
        In the order of the text; none is the default record.

    Raises
    ------
    CalibrationError
        Naming the record by its place and the field.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise CalibrationError(
            f"Found text that is not JSON at line {error.lineno}, column {error.colno}; expected a list of records."
        ) from None
    if not isinstance(values, list):
        raise CalibrationError(f"Found {type(values).__name__}; expected a list of calibration records.")
    records = tuple(_record(value, f"record {place}") for place, value in enumerate(values, start=1))
    names = [record.record_id for record in records]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise CalibrationError(
                f"Found the same record_id in records {names.index(name) + 1} and {place + 1}; expected unique ones."
            )
    return records


def _record(value: object, where: str) -> CalibrationRecord:
    """Read one record."""
    if not isinstance(value, dict):
        raise CalibrationError(f"Found {type(value).__name__} in {where}; expected an object.")
    missing, unknown = sorted(set(FIELDS) - set(value)), sorted(set(value) - set(FIELDS))
    if missing or unknown:
        raise CalibrationError(
            f"Found fields missing {missing} and unknown {unknown} in {where}; expected exactly {sorted(FIELDS)}."
        )
    fields: Mapping[str, Any] = {name: read(value[name], f"{name} of {where}") for name, read in FIELDS.items()}
    record = CalibrationRecord(**fields)
    if cast(date, record.valid_until) < cast(date, record.measured_on):
        raise CalibrationError(f"Found valid_until before measured_on in {where}; expected a later day.")
    return record


def _name(value: object, where: str) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise CalibrationError(f"Found no text in {where}; expected a name.")
    return value.strip()


def _text(value: object, where: str) -> str:
    """Text, empty or not."""
    if not isinstance(value, str):
        raise CalibrationError(f"Found {type(value).__name__} in {where}; expected text.")
    return value.strip()


def _material(value: object, where: str) -> Material:
    """One of the materials with a known line to ash density."""
    if not isinstance(value, str) or value not in ASH_LINES:
        raise CalibrationError(f"Found an unknown material in {where}; expected one of {sorted(ASH_LINES)}.")
    return value


def _day(value: object, where: str) -> date:
    """Read an ISO date."""
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise CalibrationError(f"Found no date in {where}; expected YYYY-MM-DD.") from None


def _between(bounds: tuple[float, float], unit: str) -> Callable[[object, str], float]:
    """Make a reader of numbers within bounds."""

    def read(value: object, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CalibrationError(f"Found {type(value).__name__} in {where}; expected a number in {unit}.")
        if not bounds[0] <= value <= bounds[1]:
            raise CalibrationError(
                f"Found {value:g} in {where}; expected {bounds[0]:g} to {bounds[1]:g} {unit}. Check the unit."
            )
        return float(value)

    return read


FIELDS: dict[str, Callable[[object, str], object]] = {
    "record_id": _name,
    "manufacturer": _name,
    "model_name": _name,
    "kvp": _between(KVP_RANGE, "kV"),
    "convolution_kernel": _text,
    "material": _material,
    "phantom": _name,
    "slope_mg_per_cm3_per_hu": _between(SLOPE_RANGE, "mg/cm3 per HU"),
    "intercept_mg_per_cm3": _between(INTERCEPT_RANGE, "mg/cm3"),
    "measured_on": _day,
    "valid_until": _day,
}
"""Every field of a record and how it is read."""
