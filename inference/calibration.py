"""HU to bone mineral density: scanner calibration records, and which one fits a scan.

A record holds one measured line, rho_qct = intercept + slope HU, for one scanner and protocol, and the
material of the phantom it was measured with. Where no valid record fits, ``DEFAULT_CALIBRATION`` is used and
the flag ``uncalibrated`` travels with every number drawn from it; nothing here looks for a phantom inside
the scan.
Sources: asynchronous calibration by record as in [Benemerito2021] and [Niu2023].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.errors import CalibrationError
from inference.quality import STUDY, QualityFlag
from inference.spectral import spectral_word
from inference.volume import Acquisition
from inference.volume_checks import ascii_text

Material = Literal["K2HPO4", "HA"]

KVP_TOLERANCE = 1.0
"""Tube voltages that differ by less are one protocol, kV: headers round."""

ASH_LINES: dict[Material, tuple[float, float]] = {"K2HPO4": (1.06, 38.9), "HA": (0.839, 69.8)}
"""rho_ash = a rho_qct + b, mg/cm3, by phantom material; as in Ogo's source (K2HPO4 and hydroxyapatite)."""


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """One measured line from HU to density, and where it holds.

    Attributes
    ----------
    record_id
        Name of the record, shown in results.
    manufacturer, model_name
        Of the scanner, compared with the header without regard to case.
    kvp
        Tube voltage; None only in the default record.
    convolution_kernel
        Kernel; empty holds for every kernel of the scanner.
    material
        ``K2HPO4`` or ``HA`` (hydroxyapatite).
    phantom
        Type of the phantom, for example ``European Spine Phantom``.
    slope_mg_per_cm3_per_hu, intercept_mg_per_cm3
        rho_qct = intercept + slope HU, mg/cm3 of the material.
    measured_on, valid_until
        First and last day of the scans that the record may be used for; None only in the default record.
    is_default
        Whether this is no measurement of a scanner but the line used for want of one.
    standard_error_mg_per_cm3
        Of the line, where it was found in the scan itself; None: not known.
    """

    record_id: str
    manufacturer: str
    model_name: str
    kvp: float | None
    convolution_kernel: str
    material: Material
    phantom: str
    slope_mg_per_cm3_per_hu: float
    intercept_mg_per_cm3: float
    measured_on: date | None
    valid_until: date | None
    is_default: bool = False
    standard_error_mg_per_cm3: float | None = None


DEFAULT_CALIBRATION = CalibrationRecord(
    record_id="default",
    manufacturer="",
    model_name="",
    kvp=None,
    convolution_kernel="",
    material="K2HPO4",
    phantom="none",
    slope_mg_per_cm3_per_hu=0.6855,
    intercept_mg_per_cm3=17.45,
    measured_on=None,
    valid_until=None,
    is_default=True,
)
"""The clinical line 0.01745 + 0.0006855 HU g/cm3 found in the source of MekAnOs, the Lyon group's vertebra
model
that [Saillard2024] uses. Its scanner, voltage and phantom are not stated there; K2HPO4 is an assumption
[m]."""


def choose_calibration(
    acquisition: Acquisition, records: Sequence[CalibrationRecord], on: date | None
) -> tuple[CalibrationRecord, tuple[QualityFlag, ...]]:
    """Choose the record for a scan, or the default with the flag ``uncalibrated``.

    Parameters
    ----------
    acquisition
        Scanner and protocol of the scan.
    records
        All records known.
    on
        The true day of the scan, not a shifted one; None, and no record fits, where it is not known.

    Returns
    -------
    record : CalibrationRecord
        Of those that fit, one that names the kernel goes before one for every kernel, a later one before an
        earlier one.
    flags : tuple of QualityFlag
        Empty, or the one flag ``uncalibrated`` with the reason.

    Raises
    ------
    CalibrationError
        If two records fit equally well and hold different lines.
    """
    fitting = [record for record in records if _fits(record, acquisition)]
    valid = [record for record in fitting if _holds_on(record, on)]
    if valid:
        return _best(valid), ()
    return DEFAULT_CALIBRATION, (_uncalibrated(acquisition, len(records), fitting, on),)


def rho_qct_mg_per_cm3(hu: NDArray[np.floating] | float, record: CalibrationRecord) -> NDArray[np.float64]:
    """Convert HU to the equivalent density of the record's material.

    Parameters
    ----------
    hu : array of any shape
        CT numbers, HU.
    record
        The line.

    Returns
    -------
    float64 array of the same shape
        rho_qct = intercept + slope HU, mg/cm3; below zero for fat and air, as measured.
    """
    line = record.intercept_mg_per_cm3 + record.slope_mg_per_cm3_per_hu * np.asarray(hu, dtype=np.float64)
    return np.asarray(line)


def rho_ash_mg_per_cm3(rho_qct: NDArray[np.floating] | float, material: Material) -> NDArray[np.float64]:
    """Convert calibrated density to ash density.

    Parameters
    ----------
    rho_qct : array of any shape
        Equivalent density of ``material``, mg/cm3.
    material
        ``K2HPO4`` or ``HA``.

    Returns
    -------
    float64 array of the same shape
        Ash density, mg/cm3: 1.06 rho + 38.9 for K2HPO4, 0.839 rho + 69.8 for hydroxyapatite.
    """
    slope, intercept = ASH_LINES[material]
    return np.asarray(slope * np.asarray(rho_qct, dtype=np.float64) + intercept)


def _fits(record: CalibrationRecord, acquisition: Acquisition) -> bool:
    """Whether a record was measured on this scanner with this protocol; none is of spectral images."""
    kernel = record.convolution_kernel
    return (
        not record.is_default
        and not spectral_word(acquisition.image_type)
        and _same(record.manufacturer, acquisition.manufacturer)
        and _same(record.model_name, acquisition.model_name)
        and record.kvp is not None
        and acquisition.kvp is not None
        and abs(record.kvp - acquisition.kvp) < KVP_TOLERANCE
        and (not kernel or _same(kernel, acquisition.convolution_kernel))
    )


def _same(one: str, other: str) -> bool:
    """Whether two header texts are the same name; an absent name is the same as nothing."""
    return bool(one.strip()) and one.strip().casefold() == other.strip().casefold()


def _holds_on(record: CalibrationRecord, on: date | None) -> bool:
    """Whether the scan was made within the record's validity."""
    return (
        on is not None
        and record.measured_on is not None
        and record.valid_until is not None
        and record.measured_on <= on <= record.valid_until
    )


def _best(valid: Sequence[CalibrationRecord]) -> CalibrationRecord:
    """Most specific, then latest; refuses a tie of different lines."""

    def rank(record: CalibrationRecord) -> tuple[bool, date]:
        return (bool(record.convolution_kernel), record.measured_on or date.min)

    best = max(valid, key=rank)
    rivals = {
        (record.slope_mg_per_cm3_per_hu, record.intercept_mg_per_cm3, record.material)
        for record in valid
        if rank(record) == rank(best)
    }
    if len(rivals) > 1:
        raise CalibrationError(
            f"Found {len(rivals)} different calibration records of one day for one scanner and protocol; "
            "expected one. Remove the wrong one."
        )
    return best


def _uncalibrated(
    acquisition: Acquisition, known: int, fitting: Sequence[CalibrationRecord], on: date | None
) -> QualityFlag:
    """Say why no record could be used."""
    protocol = " ".join(
        part
        for part in (
            acquisition.manufacturer,
            acquisition.model_name,
            f"at {acquisition.kvp:g} kV" if acquisition.kvp is not None else "at an unknown voltage",
            f"kernel {acquisition.convolution_kernel}" if acquisition.convolution_kernel else "unknown kernel",
        )
        if part
    )
    if fitting and on is None:
        why = "the header has no readable date of the scan, so no calibration record can be valid on it"
    elif fitting:
        why = f"none of the {len(fitting)} calibration records of this scanner and protocol is valid on the day"
    elif known:
        why = f"none of the {known} calibration records is for this scanner and protocol ({protocol})"
    else:
        why = f"no calibration record is stored for this scanner and protocol ({protocol})"
    sentence = f"Not calibrated: {why}. The default line was used; expected a valid record."
    return QualityFlag("uncalibrated", STUDY, ascii_text(sentence), (("calibration", "default"),))
