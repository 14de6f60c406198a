"""Calibration from a phantom: parts of known density, found and regressed.

A phantom is described by its certificate, one for each phantom made (``phantoms_from_json``); nothing is assumed
about one that is not described. Finding its parts: ``inference.rods`` for rods in a row, scanned with or without a
patient; ``inference.spine_phantom`` for vertebrae, scanned alone. Units: mg/cm3 and HU.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inference.calibration import ASH_LINES, CalibrationRecord, Material
from inference.errors import CalibrationError
from inference.rods import RodLine, find_rods
from inference.spine_phantom import find_cores
from inference.volume import Volume, canonical

Shape = Literal["rods", "spine"]

WATER_SLOPE = 0.2174
WATER_INTERCEPT_HU = 999.6
"""Solution to equivalent density: sigma_ct = sigma_ref - 0.2174, beta_ct = beta_ref + 999.6 (Mindways' guide, as in
Ogo's source): dissolved K2HPO4 displaces water."""

LEAST_CORRELATION = 0.995
"""Of the rods' HU with their line: rods in the wrong order, or no rods at all, stay below [m] assumption."""

LARGEST_RESIDUAL_HU = 12.0
"""Of one rod from the line: a digital phantom under a noise of 50 HU has 2 [m] assumption."""

SLOPE_HU_PER_MG = (0.7, 3.0)
"""Plausible sensitivity of a scanner, HU per mg/cm3, from 140 to 70 kV [m] assumption."""

FIELDS = frozenset({"name", "material", "shape", "rods"})
SHAPES = ("rods", "spine")
ROD_FIELDS = frozenset({"density_mg_per_cm3", "water_mg_per_cm3"})
ROD_COUNT = (3, 8)


@dataclass(frozen=True, slots=True)
class Phantom:
    """A calibration phantom as its certificate describes it.

    Attributes
    ----------
    name
        Of the phantom, shown in results.
    material
        What the rods hold.
    density_mg_per_cm3
        Of the material in each rod, in the order they lie.
    water_mg_per_cm3
        Of the water in each rod, for rods that are solutions (Mindways); empty for solid ones.
    shape
        ``rods`` in a row beside the patient, or the vertebrae of a ``spine`` one above the other.
    """

    name: str
    material: Material
    density_mg_per_cm3: tuple[float, ...]
    water_mg_per_cm3: tuple[float, ...] = ()
    shape: Shape = "rods"


@dataclass(frozen=True, slots=True)
class PhantomLine:
    """What a phantom in a scan says about that scan.

    Attributes
    ----------
    phantom
        The phantom.
    hu, hu_sd
        What its parts read, HU, in the certificate's order; spread along a rod, or within a core.
    slope_mg_per_cm3_per_hu, intercept_mg_per_cm3
        rho = intercept + slope HU.
    standard_error_mg_per_cm3
        Of the line in the middle of the rods' range, from the scatter of the rods around it.
    residual_hu
        Largest distance of a rod from the line.
    is_reversed
        Whether the phantom lay the other way round than its certificate lists it.
    rods
        Where rods were found; None for a spine.
    """

    phantom: Phantom
    hu: tuple[float, ...]
    hu_sd: tuple[float, ...]
    slope_mg_per_cm3_per_hu: float
    intercept_mg_per_cm3: float
    standard_error_mg_per_cm3: float
    residual_hu: float
    is_reversed: bool
    rods: RodLine | None = None

    @property
    def equivalent_hu(self) -> tuple[float, ...]:
        """What each part would read as a solution in pure water, HU; what it reads for solid parts."""
        water = self.phantom.water_mg_per_cm3
        if not water:
            return self.hu
        displaced = [WATER_INTERCEPT_HU - WATER_SLOPE * density for density in self.phantom.density_mg_per_cm3]
        return tuple(hu - own + pure for hu, own, pure in zip(self.hu, water, displaced, strict=True))

    def record(self) -> CalibrationRecord:
        """Return the line as the calibration of the scan that holds the phantom, and of no other."""
        return CalibrationRecord(
            record_id="phantom in the scan",
            manufacturer="",
            model_name="",
            kvp=None,
            convolution_kernel="",
            material=self.phantom.material,
            phantom=self.phantom.name,
            slope_mg_per_cm3_per_hu=self.slope_mg_per_cm3_per_hu,
            intercept_mg_per_cm3=self.intercept_mg_per_cm3,
            measured_on=None,
            valid_until=None,
            standard_error_mg_per_cm3=self.standard_error_mg_per_cm3,
        )


def calibrate_from_phantom(volume: Volume, phantoms: Sequence[Phantom]) -> PhantomLine | None:
    """Find one of the phantoms in a scan and take the scan's line from it.

    Parameters
    ----------
    volume
        The CT, any orientation.
    phantoms
        Those of the site.

    Returns
    -------
    PhantomLine or None
        The line with the least residual; None where no phantom is in view.

    Raises
    ------
    CalibrationError
        If two phantoms with different lines fit the same rods.
    """
    upright, _ = canonical(volume)
    found = [line for phantom in phantoms if (line := FINDERS[phantom.shape](upright, phantom)) is not None]
    best = min(found, key=lambda line: line.residual_hu, default=None)
    rivals = [line.phantom.name for line in found if best is not None and _differs(line, best)]
    if best is not None and rivals:
        raise CalibrationError(
            f"Found rods that fit {best.phantom.name} and {rivals[0]} with different densities; "
            "keep only the phantom that lies on this scanner's table."
        )
    return best


def phantoms_from_json(text: str) -> tuple[Phantom, ...]:
    """Read the certificates of phantoms: a JSON list of objects with name, material and rods.

    Each rod, or vertebra of a phantom of shape ``spine``, has ``density_mg_per_cm3`` and, in a solution,
    ``water_mg_per_cm3``.

    Raises
    ------
    CalibrationError
        Naming the phantom by its place and what is wrong.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise CalibrationError(
            f"Found text that is not JSON at line {error.lineno}, column {error.colno}; expected a list of phantoms."
        ) from None
    if not isinstance(values, list):
        raise CalibrationError(f"Found {type(values).__name__}; expected a list of phantoms.")
    return tuple(_phantom(value, f"phantom {place}") for place, value in enumerate(values, start=1))


def _line_of_rods(upright: Volume, phantom: Phantom) -> PhantomLine | None:
    """Find a phantom of rods and fit its line."""
    rods = find_rods(upright, len(phantom.density_mg_per_cm3), lambda hu: _fit_either_way(hu, phantom) is not None)
    fit = None if rods is None else _fit_either_way(rods.hu, phantom)
    if rods is None or fit is None:
        return None
    step = -1 if fit[4] else 1
    return _line(phantom, rods.hu[::step], rods.hu_sd[::step], fit, rods)


def _line_of_spine(upright: Volume, phantom: Phantom) -> PhantomLine | None:
    """Find a spine phantom and fit its line."""
    cores = find_cores(upright, phantom.density_mg_per_cm3)
    if cores is None:
        return None
    ranks = np.argsort(np.argsort(phantom.density_mg_per_cm3))
    ordered = [cores[int(rank)] for rank in ranks]
    hu = tuple(core.hu for core in ordered)
    fit = _fit(np.array(hu), phantom, is_reversed=False)
    return None if fit is None else _line(phantom, hu, tuple(core.hu_sd for core in ordered), fit, None)


FINDERS: dict[Shape, Callable[[Volume, Phantom], PhantomLine | None]] = {
    "rods": _line_of_rods,
    "spine": _line_of_spine,
}


def _line(
    phantom: Phantom, hu: tuple[float, ...], hu_sd: tuple[float, ...], fit: "Fit", rods: RodLine | None
) -> PhantomLine:
    """Turn HU over density into density over HU."""
    slope_hu, intercept_hu, residual_hu, spread_hu, is_reversed = fit
    return PhantomLine(
        phantom=phantom,
        hu=hu,
        hu_sd=hu_sd,
        slope_mg_per_cm3_per_hu=1 / slope_hu,
        intercept_mg_per_cm3=-intercept_hu / slope_hu,
        standard_error_mg_per_cm3=spread_hu / slope_hu / float(np.sqrt(len(hu))),
        residual_hu=residual_hu,
        is_reversed=is_reversed,
        rods=rods,
    )


Fit = tuple[float, float, float, float, bool]
"""HU per mg/cm3, HU at zero density, largest residual in HU, standard deviation of the residuals in HU, reversed."""


def _fit_either_way(hu: Sequence[float], phantom: Phantom) -> Fit | None:
    """Fit the rods in the certificate's order and in the reverse; None where neither is a line."""
    fits = [_fit(np.asarray(hu)[::step], phantom, is_reversed=step < 0) for step in (1, -1)]
    return min((fit for fit in fits if fit is not None), key=lambda fit: fit[3], default=None)


def _fit(hu: NDArray[np.float64], phantom: Phantom, *, is_reversed: bool) -> Fit | None:
    """Regress the rods' HU, less that of their water, on density."""
    density = np.array(phantom.density_mg_per_cm3)
    water = np.array(phantom.water_mg_per_cm3) if phantom.water_mg_per_cm3 else np.zeros_like(density)
    slope, intercept = np.polyfit(density, hu - water, 1)
    residuals = hu - water - (intercept + slope * density)
    correlation = float(np.corrcoef(density, hu - water)[0, 1])
    residual_hu, spread_hu = float(np.abs(residuals).max()), float(np.sqrt((residuals**2).sum() / (len(hu) - 2)))
    if phantom.water_mg_per_cm3:
        slope, intercept = slope - WATER_SLOPE, intercept + WATER_INTERCEPT_HU
    is_line = correlation >= LEAST_CORRELATION and residual_hu <= LARGEST_RESIDUAL_HU
    if not is_line or not SLOPE_HU_PER_MG[0] <= slope <= SLOPE_HU_PER_MG[1]:
        return None
    return float(slope), float(intercept), residual_hu, spread_hu, is_reversed


def _differs(line: PhantomLine, best: PhantomLine) -> bool:
    """Whether two lines differ by more than their errors at 100 HU, or in material."""
    values = [one.intercept_mg_per_cm3 + 100 * one.slope_mg_per_cm3_per_hu for one in (line, best)]
    allowed = 3 * (line.standard_error_mg_per_cm3 + best.standard_error_mg_per_cm3)
    return abs(values[0] - values[1]) > allowed or line.phantom.material != best.phantom.material


def _phantom(value: object, where: str) -> Phantom:
    """Read one certificate."""
    if not isinstance(value, dict) or set(value) | {"shape"} != FIELDS:
        raise CalibrationError(f"Found other fields in {where}; expected name, material, rods and shape.")
    name, material, rods = value["name"], value["material"], value["rods"]
    if not isinstance(name, str) or not name.strip():
        raise CalibrationError(f"Found no name in {where}; expected the phantom's name and serial number.")
    if not isinstance(material, str) or material not in ASH_LINES:
        raise CalibrationError(f"Found an unknown material in {where}; expected one of {sorted(ASH_LINES)}.")
    shape = value.get("shape", "rods")
    if shape not in SHAPES:
        raise CalibrationError(f"Found an unknown shape in {where}; expected one of {list(SHAPES)}.")
    if not isinstance(rods, list) or not ROD_COUNT[0] <= len(rods) <= ROD_COUNT[1]:
        raise CalibrationError(f"Found no list of {ROD_COUNT[0]} to {ROD_COUNT[1]} rods in {where}.")
    with_water = isinstance(rods[0], dict) and "water_mg_per_cm3" in rods[0]
    wanted = ROD_FIELDS if with_water else ROD_FIELDS - {"water_mg_per_cm3"}
    for rod in rods:
        if not isinstance(rod, dict) or set(rod) != wanted:
            raise CalibrationError(f"Found rods of different fields in {where}; expected {sorted(wanted)} in each.")
    density = tuple(_number(rod["density_mg_per_cm3"], (-200.0, 1500.0), where) for rod in rods)
    water = tuple(_number(rod["water_mg_per_cm3"], (700.0, 1300.0), where) for rod in rods) if with_water else ()
    if max(density) - min(density) < 50.0:
        raise CalibrationError(f"Found rods within 50 mg/cm3 in {where}; a line needs a wider range. Check the unit.")
    return Phantom(name.strip(), material, density, water, shape)


def _number(value: Any, bounds: tuple[float, float], where: str) -> float:
    """Read a density within bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:
        raise CalibrationError(f"Found a density outside {bounds[0]:g} to {bounds[1]:g} mg/cm3 in {where}.")
    return float(value)
