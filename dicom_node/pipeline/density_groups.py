"""Densities as groups of the report: vertebrae, their mean, and the regions of a femur."""

from collections.abc import Iterator, Sequence

from inference.areal_density import ArealDensity
from inference.contrast_correction import CorrectedDensity
from inference.densitometry import Density, LumbarMean
from inference.femoral_regions import HipRegion
from inference.regions import Region as RegionOfDensity
from sr_export.inputs import Group, Measurement, Region

DENSITOMETRY = "densitometry"
"""Key of the algorithm that measures them."""

HIP_REGIONS: tuple[tuple[HipRegion, RegionOfDensity, str], ...] = (
    ("neck", "femoral_neck", "neck"),
    ("trochanter", "trochanter", "trochanter"),
    ("total_hip", "total_hip", "total hip"),
)
"""A region as projected, the same one in the bone, and what people call it; concepts begin with the first."""


def voi_region(density: Density) -> Region:
    """Return the volume of interest of a vertebra."""
    name = f"{density.structure} trabecular VOI"
    return Region(f"{density.structure}_voi", name, density.structure, "", density.voi_mask)


def lumbar_group(lumbar: LumbarMean, corrected: CorrectedDensity | None) -> Group:
    """Return the mean of two vertebrae, and beside it the corrected one."""
    concept = "_".join(level.lower() for level in lumbar.levels) + "_mean_trabecular_vbmd"
    return Group(
        key="lumbar_mean",
        name=f"Mean of {' and '.join(lumbar.levels)}",
        structure="lumbar_spine",
        laterality="",
        algorithm=DENSITOMETRY,
        measurements=(Measurement(concept, lumbar.vbmd_mg_per_cm3), *_corrected(concept, corrected)),
        category=lumbar.category,
    )


def vertebra_group(density: Density, corrected: CorrectedDensity | None) -> Group:
    """Return the trabecular density of one vertebra, and beside it the corrected one."""
    return Group(
        key=density.structure,
        name=f"{density.structure} trabecular",
        structure=density.structure,
        laterality="",
        algorithm=DENSITOMETRY,
        measurements=(
            _vbmd("trabecular_vbmd", density),
            *_corrected("trabecular_vbmd", corrected),
            Measurement("mean_hu", density.hu_mean),
            Measurement("voi_volume", density.volume_mm3),
        ),
        region=voi_region(density),
    )


def _corrected(concept: str, corrected: CorrectedDensity | None) -> tuple[Measurement, ...]:
    """Return the contrast-corrected value that stands beside a measured one."""
    if corrected is None:
        return ()
    value, low, high = corrected.vbmd_mg_per_cm3, corrected.low_mg_per_cm3, corrected.high_mg_per_cm3
    return (Measurement(f"{concept}_contrast_corrected", value, low, high),)


def femur_groups(region: Region, volumetric: Sequence[Density], projected: Sequence[ArealDensity]) -> Iterator[Group]:
    """Yield a femur's densities, a group a region: volumetric and, where the scan shows the hip whole, areal."""
    densities = {one.region: one for one in volumetric if one.structure == region.key}
    areal = {one.region: one for one in projected if one.structure == region.key}
    for flat, solid, name in HIP_REGIONS:
        numbers = []
        if solid in densities:
            numbers.append(_vbmd(f"{flat}_integral_vbmd", densities[solid]))
        if flat in areal:
            numbers.append(Measurement(f"{flat}_areal_bmd", areal[flat].abmd_g_per_cm2))
        if numbers:
            yield _femur_density_group(region, solid, name, numbers)
    if "proximal_femur" in densities:
        numbers = [_vbmd("integral_vbmd", densities["proximal_femur"])]
        yield _femur_density_group(region, "density", "proximal", numbers)


def _femur_density_group(region: Region, key: str, name: str, numbers: Sequence[Measurement]) -> Group:
    return Group(
        key=f"{region.key}_{key}",
        name=f"{region.name}, {name} density",
        structure="femur",
        laterality=region.laterality,
        algorithm=DENSITOMETRY,
        measurements=tuple(numbers),
        region=region,
    )


def _vbmd(concept: str, density: Density) -> Measurement:
    """Return a density; its interval is how far the depth of the region moves it, where the region has a depth."""
    value, low, high = density.vbmd_mg_per_cm3, density.low_mg_per_cm3, density.high_mg_per_cm3
    return Measurement(concept, value) if low == high else Measurement(concept, value, low, high)
