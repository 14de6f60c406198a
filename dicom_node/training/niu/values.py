"""Reference densities of a site's cases: ``DIR/values.csv`` with the columns ``case`` and ``bmd_mg_per_cm3``."""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from dicom_node.errors import ConfigurationError

COLUMNS = ("case", "bmd_mg_per_cm3")

LEAST_MG_PER_CM3, MOST_MG_PER_CM3 = 2.0, 600.0
"""Cancellous bone of a vertebra has some 20 to 300 mg/cm3. The same in g/cm3, and any areal density in g/cm2, is below
the first; a mean in HU or of cortical bone is above the second [m assumption]."""

LAYOUT = "values.csv has a row a case: case,bmd_mg_per_cm3."


def read_values(folder: Path, cases: Iterable[str]) -> Mapping[str, float]:
    """Read the mean density of every case.

    Parameters
    ----------
    folder
        Holds ``values.csv``.
    cases
        Names; every one needs a value.

    Returns
    -------
    mapping
        Case to mg/cm3.

    Raises
    ------
    ConfigurationError
        When the table is missing, cannot be read, names a case twice or one there is not, lacks one, or holds something
        that is no plausible density in mg/cm3.
    """
    path, names = folder / "values.csv", set(cases)
    if not path.is_file():
        raise ConfigurationError(f"There is no file {path}. {LAYOUT}")
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise ConfigurationError(
            f"values.csv cannot be read; expected comma-separated text in UTF-8. {LAYOUT}"
        ) from None
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise ConfigurationError(f"values.csv has not the columns {' and '.join(COLUMNS)}.")
    values: dict[str, float] = {}
    for row in rows:
        name = (row["case"] or "").strip()
        if name not in names:
            raise ConfigurationError("values.csv names a case that is not in images.")
        if name in values:
            raise ConfigurationError(f"values.csv names {name} twice.")
        values[name] = _density(name, row["bmd_mg_per_cm3"])
    missing = sorted(names - set(values))
    if missing:
        raise ConfigurationError(f"values.csv has no value for {len(missing)} cases, {missing[0]} first.")
    return values


def _density(name: str, text: str | None) -> float:
    """Read a density.

    Raises
    ------
    ConfigurationError
        When it is no plausible one.
    """
    try:
        value = float((text or "").strip())
    except ValueError:
        raise ConfigurationError(f"The density of {name} is no number; expected mg/cm3.") from None
    if not math.isfinite(value):
        raise ConfigurationError(f"The density of {name} is {value}; expected a number. Leave a case without one out.")
    if 0 <= value < LEAST_MG_PER_CM3:
        raise ConfigurationError(
            f"The density of {name} is {value:g}, which looks like g/cm3 or an areal density in g/cm2; expected mg/cm3."
        )
    if not 0 <= value <= MOST_MG_PER_CM3:
        raise ConfigurationError(
            f"The density of {name} is {value:g}; expected {LEAST_MG_PER_CM3:g} to {MOST_MG_PER_CM3:g} mg/cm3."
        )
    return value
