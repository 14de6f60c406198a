"""What is known of the patient beside images, from the clean header or else the request; the research side of it.

Age, sex, weight, height and ethnicity; the report says of each which of the two it is from.
"""

import json
import re
from pathlib import Path
from typing import Any

from pydicom import Dataset

FILE = "request.json"
"""In a job's folder: what its request says."""
FIELDS = ("age_years", "sex", "weight_kg", "height_m", "ethnicity")
AGE = re.compile(r"(\d{3})Y", re.ASCII)
RANGES: dict[str, tuple[float, float]] = {
    "age_years": (0, 130),
    "weight_kg": (1.0, 500.0),
    "height_m": (0.3, 2.6),
}
"""Plausible people, smallest and largest [m assumption]. What lies outside is a slip of the unit or the pen, or the 0
that modalities write where nobody entered anything."""


def load_request(folder: Path) -> dict[str, Any]:
    """Return what `hand_over_request` wrote; empty where nobody asked for the study."""
    try:
        values: dict[str, Any] = json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        return {}
    return values


def subject_of(header: Dataset, requested: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of the patient, for ``report.json``.

    Parameters
    ----------
    header
        A clean header.
    requested
        As `load_request`.

    Returns
    -------
    dict
        Field -> ``value`` and ``source`` (``header`` or ``request``); fields nobody knows are left out. Age in years,
        weight in kg, height in m. ``reference``: the request's own, a plain text.
    """
    found = header_values(header)
    subject: dict[str, Any] = {}
    for name in FIELDS:
        value, source = (found[name], "header") if name in found else (requested.get(name), "request")
        if value not in (None, ""):
            subject[name] = {"value": value, "source": source}
    return {**subject, "reference": requested["reference"]} if requested.get("reference") else subject


def header_values(header: Dataset) -> dict[str, float | str]:
    """Return age, sex, weight and height as a header has them (PS3.3 C.7.1.1, C.7.2.2), without what cannot be."""
    values: dict[str, float | str] = {}
    sex = text_of(header, "PatientSex").upper()
    if sex in ("F", "M", "O"):
        values["sex"] = sex
    age = AGE.fullmatch(text_of(header, "PatientAge"))
    numbers = {
        "age_years": age[1] if age else "",
        "weight_kg": text_of(header, "PatientWeight"),
        "height_m": text_of(header, "PatientSize"),
    }
    for name, text in numbers.items():
        number = _number(text)
        low, high = RANGES[name]
        if number is not None and low <= number <= high:
            values[name] = int(number) if name == "age_years" else number
    return values


def text_of(header: Dataset, keyword: str) -> str:
    """Return a value as text without padding; empty where there is none, or none that can be read."""
    try:
        value = header.get(keyword)
        return "" if value is None else str(value).replace("\x00", "").strip()
    except Exception:  # noqa: BLE001 - hostile bytes fail in any way; what cannot be read is as good as not said
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
