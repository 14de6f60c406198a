"""Which calibration a scan gets: a phantom in the scan, a record of the scanner, the patient's own tissues, or none.

A phantom that lies with the patient goes before a record, as it was measured in the very scan; a record before the
tissues, which are known less well than a phantom; the default line, flagged ``uncalibrated``, comes last.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.calibration import CalibrationRecord
from inference.internal_calibration import LEAST_TISSUES, internal_line
from inference.labels import FEMURS
from inference.phantom import Phantom, calibrate_from_phantom
from inference.quality import STUDY, QualityFlag, forbids_density
from inference.tissues import sample_tissues
from inference.volume import Volume, canonical

CONTRAST_FLAGS = frozenset({"contrast_given", "contrast_seen"})
"""With contrast agent in it, muscle is no reference."""

Calibrated = tuple[CalibrationRecord, tuple[QualityFlag, ...]]


def calibrate_scan(
    volume: Volume,
    labels: NDArray[np.uint8],
    record: CalibrationRecord,
    flags: Sequence[QualityFlag],
    phantoms: Sequence[Phantom] = (),
    *,
    may_use_tissues: bool = False,
) -> Calibrated:
    """Choose the calibration of a scan.

    Parameters
    ----------
    volume
        The CT, any orientation.
    labels : (slice, row, column) uint8 array
        Bones on its grid.
    record
        The scanner's record, or the default one.
    flags
        Everything flagged so far, ``uncalibrated`` among it where ``record`` is the default.
    phantoms
        Phantoms that may lie in the site's scans.
    may_use_tissues
        Whether the patient's own tissues may stand in for a phantom or a record.

    Returns
    -------
    record : CalibrationRecord
        The one to use.
    flags : tuple of QualityFlag
        All of ``flags`` that still hold, and new ones.

    Raises
    ------
    CalibrationError
        If two phantoms fit the same rods.
    """
    found = calibrate_from_phantom(volume, phantoms) if phantoms else None
    if found is not None:
        return found.record(), _without_uncalibrated(flags)
    if not record.is_default or not may_use_tissues:
        return record, tuple(flags)
    return _from_tissues(volume, labels, record, flags)


def _from_tissues(
    volume: Volume, labels: NDArray[np.uint8], record: CalibrationRecord, flags: Sequence[QualityFlag]
) -> Calibrated:
    """Calibrate by the patient's tissues where they can be trusted; keep the default line otherwise."""
    forbidden = any(flag.definition.forbids_density and flag.subject == STUDY for flag in flags)
    if forbidden or any(flag.code in CONTRAST_FLAGS for flag in flags):
        return record, tuple(flags)
    upright, orientation = canonical(volume)
    sound = [key for key in FEMURS if not forbids_density(flags, key)]
    samples = sample_tissues(upright, orientation.apply(labels), sound)
    line = internal_line({key: sample.hu for key, sample in samples.items()}, volume.acquisition.kvp)
    if line is None or not line.is_plausible:
        return record, tuple(flags)
    used = ", ".join(key.replace("_", " ") for key in samples)
    sentence = (
        f"Calibrated by the patient's own tissues ({used}): effective energy {line.energy_kev:.0f} keV, standard error "
        f"{line.standard_error_mg_per_cm3:.0f} mg/cm3; expected a phantom or a record of the scanner."
    )
    evidence = (
        ("energy_kev", round(line.energy_kev, 1)),
        ("standard_error_mg_per_cm3", round(line.standard_error_mg_per_cm3, 1)),
        *((f"{key}_hu", round(samples[key].hu, 1)) for key in LEAST_TISSUES),
    )
    flag = QualityFlag("internal_calibration", STUDY, sentence, evidence)
    return line.record(), (*_without_uncalibrated(flags), flag)


def _without_uncalibrated(flags: Sequence[QualityFlag]) -> tuple[QualityFlag, ...]:
    """Drop what a calibration found in the scan answers."""
    return tuple(flag for flag in flags if flag.code != "uncalibrated")
