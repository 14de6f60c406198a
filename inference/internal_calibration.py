"""Calibration without a phantom: the patient's own air, fat, muscle, blood and cortical bone as references.

The tissues are those of [Michalski2020]; how a line comes from them is ours. The scan's effective energy, gain and
offset are estimated together (maximum a posteriori, Gauss-Newton) from the tissues' CT numbers, each trusted as much
as people differ in it, with the energy usual for the tube voltage as prior. The line is that of a solution of K2HPO4
at that energy, as a Mindways phantom defines it.
The posterior's covariance gives the standard error. Definition, measured errors and limits: docs/methods/vbmd.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.attenuation import TISSUES, mass_attenuation_cm2_per_g, tissue_hu
from inference.calibration import CalibrationRecord
from inference.phantom import WATER_INTERCEPT_HU, WATER_SLOPE

PRIOR_ENERGY_KEV = {80: 53.0, 100: 60.0, 120: 66.0, 140: 72.0}
"""Effective energy inside a body by tube voltage [m] assumption; 66 keV at 120 kV is also what the slope of
``DEFAULT_CALIBRATION`` amounts to."""

PRIOR_SD = (4.0, 0.01, 5.0)
"""Standard deviations of energy (keV), gain, and offset (HU) before a scan is seen [m] assumption: a scanner is kept
within +-4 HU in water (IEC 61223-3-5 [m])."""

ENERGY_RANGE_KEV = (45.0, 100.0)
SAMPLE_SD_HU = 1.0
"""Of a sample's mean, besides what people differ: thousands of voxels."""

LEAST_TISSUES = ("air", "adipose", "muscle")
"""Without these there is no internal calibration."""

LARGEST_MISFIT_SD = 3.0
"""A tissue farther from its fitted CT number, in standard deviations, is not the tissue it was taken for."""

REFERENCE_HU = 150.0
"""Where the standard error is stated: normal cancellous bone of a spine."""

Model = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Scalar = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True)
class InternalLine:
    """What a patient's own tissues say about a scan.

    Attributes
    ----------
    energy_kev
        Effective energy.
    gain, offset_hu
        CT number = gain * ideal CT number + offset.
    slope_mg_per_cm3_per_hu, intercept_mg_per_cm3
        rho = intercept + slope HU, K2HPO4.
    standard_error_mg_per_cm3
        Of the line at 150 HU.
    misfit_sd
        By tissue, distance of its CT number from the fitted one, in standard deviations.
    """

    energy_kev: float
    gain: float
    offset_hu: float
    slope_mg_per_cm3_per_hu: float
    intercept_mg_per_cm3: float
    standard_error_mg_per_cm3: float
    misfit_sd: dict[str, float]

    @property
    def is_plausible(self) -> bool:
        """Whether every tissue lies where it should."""
        return max(map(abs, self.misfit_sd.values())) <= LARGEST_MISFIT_SD

    def record(self) -> CalibrationRecord:
        """Return the line as the calibration of this scan and of no other."""
        return CalibrationRecord(
            record_id="internal, from the patient's tissues",
            manufacturer="",
            model_name="",
            kvp=None,
            convolution_kernel="",
            material="K2HPO4",
            phantom="none",
            slope_mg_per_cm3_per_hu=self.slope_mg_per_cm3_per_hu,
            intercept_mg_per_cm3=self.intercept_mg_per_cm3,
            measured_on=None,
            valid_until=None,
            standard_error_mg_per_cm3=self.standard_error_mg_per_cm3,
        )


def internal_line(hu: Mapping[str, float], kvp: float | None) -> InternalLine | None:
    """Estimate a scan's line from its tissues.

    Parameters
    ----------
    hu
        Mean CT number of each sampled tissue, HU; keys of ``inference.attenuation.TISSUES``.
    kvp
        Tube voltage; without one, or with one far from every usual one, there is no prior and no line.

    Returns
    -------
    InternalLine or None
        None without air, fat or muscle, or without a usual tube voltage.
    """
    prior = _prior(kvp)
    tissues = tuple(tissue for key, tissue in TISSUES.items() if key in hu)
    if prior is None or any(key not in hu for key in LEAST_TISSUES):
        return None
    measured = np.array([hu[tissue.key] for tissue in tissues])
    expected = tissue_hu(tissues, prior[0])
    sd = np.hypot(np.array([tissue.spread for tissue in tissues]) * (expected + 1000.0), SAMPLE_SD_HU)
    sd = np.maximum(sd, 1000.0 * TISSUES["air"].spread)

    def model(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(theta[1] * tissue_hu(tissues, float(np.clip(theta[0], *ENERGY_RANGE_KEV))) + theta[2])

    theta, covariance = _posterior(model, measured, sd, prior)
    line = _line(theta)
    gradient = _gradient(lambda one: float(np.dot(_line(one), (REFERENCE_HU, 1.0))), theta)
    misfit = (measured - model(theta)) / sd
    return InternalLine(
        energy_kev=float(theta[0]),
        gain=float(theta[1]),
        offset_hu=float(theta[2]),
        slope_mg_per_cm3_per_hu=line[0],
        intercept_mg_per_cm3=line[1],
        standard_error_mg_per_cm3=float(np.sqrt(gradient @ covariance @ gradient)),
        misfit_sd={tissue.key: float(value) for tissue, value in zip(tissues, misfit, strict=True)},
    )


def _prior(kvp: float | None) -> NDArray[np.float64] | None:
    """Usual energy, gain 1 and offset 0; None for no usual tube voltage."""
    if kvp is None or not 70.0 <= kvp <= 150.0:
        return None
    energy = np.interp(kvp, list(PRIOR_ENERGY_KEV), list(PRIOR_ENERGY_KEV.values()))
    return np.array([float(energy), 1.0, 0.0])


def _posterior(
    model: Model, measured: NDArray[np.float64], sd: NDArray[np.float64], prior: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Newton to the maximum a posteriori; returns it and its covariance."""
    theta, precision = prior.copy(), np.diag(1.0 / np.square(PRIOR_SD))
    for _ in range(20):
        jacobian = np.column_stack([_slope(model, theta, axis) for axis in range(3)]) / sd[:, None]
        normal = jacobian.T @ jacobian + precision
        pull = jacobian.T @ ((measured - model(theta)) / sd) + precision @ (prior - theta)
        step = np.linalg.solve(normal, pull)
        theta = theta + step
        if float(np.abs(step / PRIOR_SD).max()) < 1e-6:
            break
    return theta, np.asarray(np.linalg.inv(normal), dtype=np.float64)


def _slope(model: Model, theta: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Central difference of the model along one parameter."""
    step = np.zeros(3)
    step[axis] = 0.01 * PRIOR_SD[axis]
    return np.asarray((model(theta + step) - model(theta - step)) / (2 * step[axis]))


def _gradient(function: Scalar, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Central differences of a number along every parameter."""
    steps = np.diag(0.01 * np.array(PRIOR_SD))
    return np.array([(function(theta + step) - function(theta - step)) / (2 * step.max()) for step in steps])


def _line(theta: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept for solutions of K2HPO4: HU = gain (sigma rho - 0.4) + offset."""
    energy = float(np.clip(theta[0], *ENERGY_RANGE_KEV))
    water = mass_attenuation_cm2_per_g("water", energy)
    sigma = theta[1] * (mass_attenuation_cm2_per_g("K2HPO4", energy) / water - WATER_SLOPE)
    beta = theta[2] + theta[1] * (WATER_INTERCEPT_HU - 1000.0)
    return float(1.0 / sigma), float(-beta / sigma)
