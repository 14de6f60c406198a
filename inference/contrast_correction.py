"""Trabecular density of the spine less what contrast agent adds to it: an option, shown beside the measured value.

Contrast agent in the marrow raises a vertebra's CT number, on average by 13.5 HU in the arterial and by 18.2 HU in the
portal venous phase, in 99 patients scanned in all three [Pompe2015]. That mean rise is taken off; the phase is told by
the enhancement measured in a vessel in front of the spine. A mean of others is not this patient's: the value carries no
category and never stands alone. Definition and limits: docs/methods/vbmd.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference.calibration import CalibrationRecord
from inference.densitometry import Density, LumbarMean
from inference.quality import STUDY, QualityFlag


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a contrast-enhanced CT, and the mean rise of L1's CT number in it, HU."""

    name: str
    rise_hu: float


ARTERIAL = Phase("arterial", 142.3 - 128.8)
PORTAL_VENOUS = Phase("portal venous", 147.0 - 128.8)
"""99 patients without malignancy [Pompe2015, abstract read]; tube voltage and dose of agent are not given there."""

RISES_HU = (ARTERIAL.rise_hu, 126.2 - 112.1, 130.1 - 112.1, PORTAL_VENOUS.rise_hu)
"""Mean rises of both phases, with and without malignancy [Pompe2015]: the interval of a corrected value."""

ARTERIAL_FROM_HU = 200.0
"""A vessel at least this bright is in the arterial phase. The aorta reads 250 to 400 HU then and 130 to 180 HU in the
portal venous phase [m] assumption."""

SOURCE = "Pompe 2015, Eur Radiol 25:283"


@dataclass(frozen=True, slots=True)
class CorrectedDensity:
    """A density less the mean rise, and less the largest and the smallest published mean rise, mg/cm3."""

    vbmd_mg_per_cm3: float
    low_mg_per_cm3: float
    high_mg_per_cm3: float


@dataclass(frozen=True, slots=True)
class ContrastCorrection:
    """Corrected densities of one scan.

    Attributes
    ----------
    phase
        The phase that was assumed; None where nothing was corrected.
    cores
        Corrected trabecular density by vertebra.
    lumbar
        Corrected mean of two vertebrae; None where there is no mean.
    flags
        Says what was done with which evidence, or why nothing was done; empty without contrast agent.
    """

    phase: Phase | None = None
    cores: tuple[tuple[str, CorrectedDensity], ...] = ()
    lumbar: CorrectedDensity | None = None
    flags: tuple[QualityFlag, ...] = ()

    def of_core(self, structure: str) -> CorrectedDensity | None:
        """Return a vertebra's corrected density; None where there is none."""
        return dict(self.cores).get(structure)


def correct_contrast(
    densities: Iterable[Density], lumbar: LumbarMean | None, record: CalibrationRecord, flags: Sequence[QualityFlag]
) -> ContrastCorrection:
    """Correct the trabecular densities of an enhanced scan.

    Parameters
    ----------
    densities, lumbar
        As measured; they stay what they are.
    record
        The calibration they were measured with: its slope turns a rise in HU into one in density.
    flags
        All flags; ``contrast_seen`` carries the enhancement of the vessel.

    Returns
    -------
    ContrastCorrection
        Empty without contrast agent or without a vertebra.
    """
    cores = {one.structure: one.vbmd_mg_per_cm3 for one in densities if one.region == "trabecular_core"}
    codes = {flag.code for flag in flags}
    if not cores or not codes & {"contrast_seen", "contrast_given"}:
        return ContrastCorrection()
    vessel_hu = _vessel_hu(flags)
    if vessel_hu is None:
        return ContrastCorrection(flags=(_not_corrected(),))
    phase = ARTERIAL if vessel_hu >= ARTERIAL_FROM_HU else PORTAL_VENOUS
    slope = record.slope_mg_per_cm3_per_hu
    return ContrastCorrection(
        phase,
        tuple((key, _corrected(value, phase, slope)) for key, value in cores.items()),
        _corrected(lumbar.vbmd_mg_per_cm3, phase, slope) if lumbar is not None else None,
        (_corrected_flag(vessel_hu, phase, slope),),
    )


def _corrected(vbmd_mg_per_cm3: float, phase: Phase, slope: float) -> CorrectedDensity:
    value, low, high = (vbmd_mg_per_cm3 - slope * rise for rise in (phase.rise_hu, max(RISES_HU), min(RISES_HU)))
    return CorrectedDensity(value, low, high)


def _vessel_hu(flags: Sequence[QualityFlag]) -> float | None:
    """Return the measured enhancement of a vessel; None where none was measured."""
    found = [dict(flag.evidence).get("vessel_hu") for flag in flags if flag.code == "contrast_seen"]
    return next((float(value) for value in found if value is not None), None)


def _corrected_flag(vessel_hu: float, phase: Phase, slope: float) -> QualityFlag:
    sentence = (
        f"A vessel in front of the spine reads {vessel_hu:.0f} HU, taken for the {phase.name} phase; the corrected "
        f"densities are the measured ones less {phase.rise_hu:.1f} HU ({slope * phase.rise_hu:.0f} mg/cm3), the mean "
        f"rise of other patients ({SOURCE}). They carry no category."
    )
    evidence = (
        ("vessel_hu", round(vessel_hu, 1)),
        ("phase", phase.name),
        ("rise_hu", round(phase.rise_hu, 1)),
        ("rise_mg_per_cm3", round(slope * phase.rise_hu, 1)),
        ("source", SOURCE),
    )
    return QualityFlag("contrast_corrected", STUDY, sentence, evidence)


def _not_corrected() -> QualityFlag:
    sentence = (
        "The header states a contrast agent, and no enhanced vessel was found in front of the spine; the densities "
        "were not corrected. Expected a vessel of at least 110 HU."
    )
    return QualityFlag("no_contrast_correction", STUDY, sentence)
