"""Volumetric bone mineral density of every bone that may be measured, and the mean of L1 and L2.

A number is never made for a structure with a flag that forbids its density, and a category only from a valid
calibration. Where a bone is measured is ``inference.regions``; definitions, limits and known errors:
docs/methods/vbmd.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.calibration import CalibrationRecord, rho_qct_mg_per_cm3
from inference.labels import BY_KEY, FEMURS, VERTEBRAE
from inference.quality import QualityFlag, forbids_category, forbids_density
from inference.regions import CORE_DEPTH_MM, Region, femoral_regions, trabecular_core
from inference.volume import Box, Orientation, Volume, boxes_of, canonical, crop

Category = Literal["osteoporosis", "osteopenia", "normal"]
Mask = NDArray[np.bool_]

CORE_DEPTH_STEP_MM = 1.0
"""The interval of a density holds its value with a core this much deeper and shallower."""

MIN_REGION_MM3: dict[Region, float] = {
    "trabecular_core": 1000.0,
    "femoral_neck": 3000.0,
    "trochanter": 5000.0,
    "total_hip": 15000.0,
    "proximal_femur": 10000.0,
}
"""Smallest region: about a quarter of a small adult's [m] assumption."""

MIN_REGION_VOXELS = 100
"""Fewest voxels of a region: independent noise of 40 HU then moves the mean by 3 mg/cm3 [m] assumption."""

DENSE_HU = 400.0
"""Denser than cancellous bone of a vertebral body; cortex and sclerosis [m] assumption."""

MAX_DENSE_FRACTION = 0.01
"""Part of a core that noise may lift above ``DENSE_HU``. Measured on a patient: 0 to 0.002 in four cores,
0.025
in one with a Schmorl's node."""

LUMBAR_LEVELS = ("L1", "L2")
LUMBAR_SUBSTITUTE = "T12"
"""The mean of L1 and L2, T12 in place of one that cannot be measured [Niu2023]."""

OSTEOPOROSIS_BELOW_MG_PER_CM3 = 80.0
NORMAL_ABOVE_MG_PER_CM3 = 120.0
"""Limits of the mean trabecular density by ACR and ISCD, as cited by [Niu2023]."""

CATEGORY_MATERIAL = "K2HPO4"
"""The limits are K2HPO4 equivalents (Mindways QCT in [Niu2023]); hydroxyapatite numbers differ by up to a
tenth."""


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """Density of one structure.

    Attributes
    ----------
    structure
        Key of ``inference.labels``.
    region
        Where in the structure it was measured.
    vbmd_mg_per_cm3
        Mean calibrated density (rho_qct) of the region.
    low_mg_per_cm3, high_mg_per_cm3
        Span of the value over regions 1 mm shallower and deeper; equal to the value where a region has no
        depth.
        It says how much the region's surface matters, not how good the calibration is.
    standard_error_mg_per_cm3
        Standard deviation of the region's voxels / sqrt(voxels): noise and texture, voxels taken as
        independent.
    hu_mean, hu_sd
        Of the region, HU.
    volume_mm3
        Of the region.
    voi : (slice, row, column) bool array
        The region inside ``voi_box``, on the volume's own grid.
    voi_box
        Where ``voi`` lies in the volume.
    grid_shape
        Shape of the volume.
    """

    structure: str
    region: Region
    vbmd_mg_per_cm3: float
    low_mg_per_cm3: float
    high_mg_per_cm3: float
    standard_error_mg_per_cm3: float
    hu_mean: float
    hu_sd: float
    volume_mm3: float
    voi: Mask
    voi_box: Box
    grid_shape: tuple[int, int, int]

    @property
    def voi_mask(self) -> Mask:
        """The region as a (slice, row, column) bool array on the whole of the volume's grid, newly made."""
        mask = np.zeros(self.grid_shape, dtype=np.bool_)
        mask[self.voi_box] = self.voi
        return mask


@dataclass(frozen=True, slots=True)
class LumbarMean:
    """Mean trabecular density of two vertebrae.

    Attributes
    ----------
    vbmd_mg_per_cm3
        Mean of the two.
    levels
        The two levels, cranial first.
    category
        None where calibration or a flag forbids one.
    no_category_because
        The sentence that says why, empty where there is a category.
    """

    vbmd_mg_per_cm3: float
    levels: tuple[str, str]
    category: Category | None
    no_category_because: str = ""


def measure_density(
    volume: Volume, labels: NDArray[np.uint8], record: CalibrationRecord, flags: Sequence[QualityFlag] = ()
) -> tuple[tuple[Density, ...], tuple[QualityFlag, ...]]:
    """Measure every vertebral body and femur that may be measured.

    Parameters
    ----------
    volume
        The CT, any orientation.
    labels : (slice, row, column) uint8 array
        On the volume's grid.
    record
        The calibration.
    flags
        Everything flagged so far; a flag that forbids density leaves its structure out.

    Returns
    -------
    densities : tuple of Density
        Vertebrae from the head down, then femurs; of a femur the neck, the trochanter and the total hip.
    flags : tuple of QualityFlag
        New flags: where no region could be made, or another than the usual one was.
    """
    upright, orientation = canonical(volume)
    turned = orientation.apply(labels)
    densities: list[Density] = []
    raised: list[QualityFlag] = []
    boxes = boxes_of(turned)
    for key in (*VERTEBRAE, *FEMURS):
        box = boxes.get(BY_KEY[key].value)
        if box is None or forbids_density(flags, key):
            continue
        part, mask = crop(upright, box), turned[box] == BY_KEY[key].value
        found, flagged = (_femur if key in FEMURS else _vertebra)(part, mask, record, key)
        raised.extend(flagged)
        densities.extend(_on_grid(one, box, orientation, turned.shape) for one in found)
    return tuple(densities), tuple(raised)


def lumbar_mean(
    densities: Iterable[Density], record: CalibrationRecord, flags: Sequence[QualityFlag] = ()
) -> LumbarMean | None:
    """Average L1 and L2, T12 in place of one of them, and categorise the mean where that is allowed.

    Parameters
    ----------
    densities
        From ``measure_density``.
    record
        The calibration they were measured with; the default one gives no category.
    flags
        All flags.

    Returns
    -------
    LumbarMean or None
        None where fewer than two of the three levels were measured.
    """
    cores = {one.structure: one for one in densities if one.region == "trabecular_core"}
    measured = [level for level in (*LUMBAR_LEVELS, LUMBAR_SUBSTITUTE) if level in cores][:2]
    if len(measured) < len(LUMBAR_LEVELS):
        return None
    upper, lower = sorted(measured, key=VERTEBRAE.index)
    mean = (cores[upper].vbmd_mg_per_cm3 + cores[lower].vbmd_mg_per_cm3) / 2
    reason = _no_category_because(record, flags, (upper, lower))
    return LumbarMean(mean, (upper, lower), None if reason else category(mean), reason)


def category(vbmd_mg_per_cm3: float) -> Category:
    """Categorise a mean trabecular spine density in mg/cm3: below 80, 80 to 120, above 120 [Niu2023]."""
    if vbmd_mg_per_cm3 < OSTEOPOROSIS_BELOW_MG_PER_CM3:
        return "osteoporosis"
    return "normal" if vbmd_mg_per_cm3 > NORMAL_ABOVE_MG_PER_CM3 else "osteopenia"


def _no_category_because(record: CalibrationRecord, flags: Sequence[QualityFlag], levels: tuple[str, str]) -> str:
    """Say why there is no category; empty where there may be one."""
    if record.is_default:
        return "No category: the scan is not calibrated."
    if record.material != CATEGORY_MATERIAL:
        return f"No category: its limits are {CATEGORY_MATERIAL} equivalents, not {record.material}."
    forbidding = [flag for flag in flags if any(forbids_category((flag,), level) for level in levels)]
    if not forbidding:
        return ""
    meanings = sorted({flag.definition.meaning[0].lower() + flag.definition.meaning[1:] for flag in forbidding})
    return f"No category: {'; '.join(meanings)}."


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """A region in canonical order inside its box, and the values taken there."""

    structure: str
    region: Region
    voi: Mask
    hu: NDArray[np.float64]
    record: CalibrationRecord
    other_hu_means: tuple[float, ...]
    volume_mm3: float


Outcome = tuple[tuple[_Measured, ...], tuple[QualityFlag, ...]]


def _vertebra(volume: Volume, mask: Mask, record: CalibrationRecord, key: str) -> Outcome:
    """Measure one vertebral body."""
    core = trabecular_core(mask, volume.spacing_mm)
    others = [
        volume.hu[other]
        for step_mm in (-CORE_DEPTH_STEP_MM, CORE_DEPTH_STEP_MM)
        if (other := trabecular_core(mask, volume.spacing_mm, CORE_DEPTH_MM + step_mm)).any()
    ]
    means = tuple(float(hu.mean(dtype=np.float64)) for hu in others)
    measured, flags = _measured(volume, core, "trabecular_core", record, key, means)
    dense = float((measured[0].hu > DENSE_HU).mean()) if measured else 0.0
    if dense > MAX_DENSE_FRACTION:
        sentence = (
            f"{BY_KEY[key].name}: {100 * dense:.1f} percent of the trabecular core is denser than "
            f"{DENSE_HU:g} HU; expected at most {100 * MAX_DENSE_FRACTION:g} percent."
        )
        flags = (*flags, QualityFlag("uneven_core", key, sentence, (("dense_fraction", dense),)))
    return measured, flags


def _femur(volume: Volume, mask: Mask, record: CalibrationRecord, key: str) -> Outcome:
    """Measure the regions of one femur."""
    regions, flags = femoral_regions(volume, mask, key)
    outcomes = [_measured(volume, voi, region, record, key) for region, voi in regions]
    measured = tuple(one for found, _ in outcomes for one in found)
    return measured, (*(flag for _, flagged in outcomes for flag in flagged), *flags)


def _measured(
    volume: Volume,
    voi: Mask,
    region: Region,
    record: CalibrationRecord,
    key: str,
    other_hu_means: tuple[float, ...] = (),
) -> Outcome:
    """Take the values of a region, or flag it as too small."""
    hu = volume.hu[voi].astype(np.float64)
    volume_mm3, least_mm3 = hu.size * volume.voxel_mm3, MIN_REGION_MM3[region]
    if volume_mm3 >= least_mm3 and hu.size >= MIN_REGION_VOXELS:
        return (_Measured(key, region, voi, hu, record, other_hu_means, volume_mm3),), ()
    sentence = (
        f"{BY_KEY[key].name}: the region to measure holds {volume_mm3:.0f} mm3 in {hu.size} voxels; "
        f"expected at least {least_mm3:g} mm3 and {MIN_REGION_VOXELS} voxels."
    )
    evidence = (("voi_volume_mm3", volume_mm3), ("voi_voxels", float(hu.size)))
    return (), (QualityFlag("voi_too_small", key, sentence, evidence),)


def _on_grid(measured: _Measured, box: Box, orientation: Orientation, shape: tuple[int, ...]) -> Density:
    """Turn a measured region into a density on the volume's own grid."""
    hu, slope = measured.hu, measured.record.slope_mg_per_cm3_per_hu
    means = (float(hu.mean()), *measured.other_hu_means)
    densities = [float(rho_qct_mg_per_cm3(mean, measured.record)) for mean in means]
    grid_shape, grid_box = orientation.restore_box(box, (shape[0], shape[1], shape[2]))
    return Density(
        structure=measured.structure,
        region=measured.region,
        vbmd_mg_per_cm3=densities[0],
        low_mg_per_cm3=min(densities),
        high_mg_per_cm3=max(densities),
        standard_error_mg_per_cm3=float(slope * hu.std() / np.sqrt(hu.size)),
        hu_mean=means[0],
        hu_sd=float(hu.std()),
        volume_mm3=measured.volume_mm3,
        voi=orientation.restore(measured.voi),
        voi_box=grid_box,
        grid_shape=grid_shape,
    )
