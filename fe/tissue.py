"""What the voxels of a micro-CT or HR-pQCT image are made of: labels, tissues, moduli, scanner presets.

Every voxel of a micro-finite-element model is tissue, so its modulus is that of the tissue itself and does not follow
from a porosity. It belongs to a voxel size and a segmentation: the partial volume of larger voxels makes trabeculae
thicker, and the published modulus makes up for that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.errors import BadDensity, BadMask, BadMaterial, BadModulus, BadSpacing
from fe.voxel.grid import DENSITY_RANGE_MG_PER_CM3

Doubles = NDArray[np.float64]
Labels = NDArray[np.integer] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DensityScaledModulus:
    """A modulus that grows with the voxel's own density: ``reference_mpa * (rho / reference_rho) ** exponent``.

    Attributes
    ----------
    reference_mpa
        Young's modulus at the reference density.
    reference_mg_per_cm3
        That density.
    exponent
        Without unit.
    minimum_mpa, maximum_mpa
        The modulus is kept between these; how many voxels were is reported.
    source
        Where the law comes from.
    """

    reference_mpa: float
    reference_mg_per_cm3: float
    exponent: float
    minimum_mpa: float
    maximum_mpa: float
    source: str

    def __call__(self, density_mg_per_cm3: NDArray[np.floating]) -> Doubles:
        """Return the modulus, MPa, before the limits."""
        ratio = np.maximum(np.asarray(density_mg_per_cm3, dtype=np.float64), 0.0) / self.reference_mg_per_cm3
        return np.asarray(self.reference_mpa * ratio**self.exponent)


@dataclass(frozen=True, slots=True)
class Tissue:
    """The material of one label.

    Attributes
    ----------
    name
        For tables, for example ``cortical bone``.
    youngs_modulus_mpa
        One number, or a law of the voxel's density.
    source
        Where the modulus comes from.
    counts
        False for embedding and caps, which carry load but never fail.
    """

    name: str
    youngs_modulus_mpa: float | DensityScaledModulus
    source: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class ScannerPreset:
    """The tissue modulus that belongs to a scanner's voxel.

    Attributes
    ----------
    name
        Scanner.
    voxel_mm
        Its voxel.
    youngs_modulus_mpa
        Of all bone.
    source
        Where it comes from.
    """

    name: str
    voxel_mm: float
    youngs_modulus_mpa: float
    source: str


XTREMECT_I = ScannerPreset(
    "XtremeCT I", 0.082, 6829.0, "MacNeil 2008; the same number in a peer's workflow [MacNeil2008, ParOSolPy]"
)
XTREMECT_II = ScannerPreset(
    "XtremeCT II", 0.0607, 8748.0, "Whittier 2018; the same number in a peer's workflow [Whittier2018, ParOSolPy]"
)
PRESETS: tuple[ScannerPreset, ...] = (XTREMECT_I, XTREMECT_II)

PRESET_SLACK = 0.02
"""A voxel's edges may differ by this fraction from a preset's: 60.7 and 61 um are one scanner, 82 and 60.7 are not
[project's assumption]."""

BONE_LABEL = 1
TRABECULAR_LABEL = 100
CORTICAL_LABEL = 127
"""Labels of the scanner maker's evaluation, used by its peers too [ParOSolPy]; 1 is a mask without compartments."""

BONE_NAMES: dict[int, str] = {
    BONE_LABEL: "bone",
    TRABECULAR_LABEL: "trabecular bone",
    CORTICAL_LABEL: "cortical bone",
}

PMMA = Tissue("PMMA", 2500.0, "Caps in a peer's hip workflow [ParOSolPy]", counts=False)
"""Bone cement as used for embedding."""

LARGEST_DENSITY_MG_PER_CM3 = 3000.0
"""More is no bone but a scanner's native units, or metal: solid hydroxyapatite has 3160, bone tissue at most about 1300
[m assumption]."""

BONE_THRESHOLD_MG_PER_CM3 = 320.0
"""Bone against marrow for trabecular bone at 60.7 um, mg hydroxyapatite/cm3 [Whittier2020; m assumption]."""


def preset_for(spacing_mm: tuple[float, float, float]) -> ScannerPreset:
    """Return the preset of a voxel size.

    Raises
    ------
    BadMaterial
        No scanner known here has such voxels: the modulus must then be given.
    """
    for preset in PRESETS:
        if np.allclose(spacing_mm, preset.voxel_mm, rtol=PRESET_SLACK, atol=0):
            return preset
    known = " or ".join(f"{preset.voxel_mm} mm ({preset.name})" for preset in PRESETS)
    raise BadMaterial(
        f"Voxels of {tuple(round(float(s), 5) for s in spacing_mm)} mm have no published tissue modulus here "
        f"(known: {known}): give the tissues."
    )


def preset_tissues(preset: ScannerPreset) -> dict[int, Tissue]:
    """Return the tissues of the usual labels, all with the preset's modulus."""
    return {
        label: Tissue(name, preset.youngs_modulus_mpa, f"{preset.name}: {preset.source}")
        for label, name in BONE_NAMES.items()
    }


def bone_labels(
    density_mg_per_cm3: NDArray[np.floating],
    threshold_mg_per_cm3: float = BONE_THRESHOLD_MG_PER_CM3,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Segment bone from marrow: label 1 where the density is at least the threshold, inside the mask.

    Smoothing before the threshold (a Gaussian, or Laplace-Hamming at 82 um) is the caller's.

    Parameters
    ----------
    density_mg_per_cm3 : (slice, row, column) array
        Mineral density, mg hydroxyapatite/cm3; values above ``LARGEST_DENSITY_MG_PER_CM3``, as native units of a
        scanner have, are refused.
    threshold_mg_per_cm3
        Lowest density of bone.
    mask : (slice, row, column) bool array, optional
        The specimen, everything inside its contour; the whole volume when left out.

    Raises
    ------
    BadDensity
        Not a density.
    BadMask
        The mask has another shape or is not boolean.
    """
    inside = np.ones(density_mg_per_cm3.shape, dtype=bool) if mask is None else mask
    if inside.dtype != np.bool_ or inside.shape != density_mg_per_cm3.shape:
        raise BadMask(
            f"The mask must be boolean of shape {density_mg_per_cm3.shape}, not {inside.dtype} {inside.shape}."
        )
    if not np.isfinite(threshold_mg_per_cm3):
        raise BadDensity("The threshold must be a finite density.")
    _check_density(density_mg_per_cm3[inside])
    return (inside & (density_mg_per_cm3 >= threshold_mg_per_cm3)).astype(np.uint8) * np.uint8(BONE_LABEL)


def tissue_table(
    labels: Labels, spacing_mm: tuple[float, float, float], tissues: Mapping[int, Tissue] | None
) -> dict[int, Tissue]:
    """Return the tissue of every label that occurs.

    Raises
    ------
    BadSpacing
        The spacing is not three positive lengths.
    BadMask
        The labels are not a volume of integers.
    BadMaterial
        A label has no tissue.
    BadModulus
        A tissue's modulus is not positive.
    """
    lengths = np.asarray(spacing_mm, dtype=float)
    if lengths.shape != (3,) or not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise BadSpacing(f"The spacing (slice, row, column) must be three positive lengths, not {spacing_mm}.")
    if labels.ndim != 3 or labels.dtype.kind not in "iub":
        raise BadMask(f"Labels must be a volume of integers, 0 outside; found {labels.dtype} of shape {labels.shape}.")
    present = [int(label) for label in np.unique(labels) if label]
    table = preset_tissues(preset_for(spacing_mm)) if tissues is None else dict(tissues)
    missing = [label for label in present if label not in table]
    if missing:
        raise BadMaterial(f"Labels {missing} have no material; known labels: {sorted(table)}.")
    for label in present:
        _check_tissue(table[label])
    return {label: table[label] for label in present}


def tissue_modulus_mpa(
    labels: Labels,
    table: Mapping[int, Tissue],
    density_mg_per_cm3: NDArray[np.floating] | None = None,
    modulus_mpa: NDArray[np.floating] | None = None,
) -> tuple[Doubles, int]:
    """Return every voxel's Young's modulus, 0 where the label is 0, and how many voxels a law's limits held.

    Parameters
    ----------
    labels : (slice, row, column) int array
        Tissue of every voxel.
    table
        From ``tissue_table``.
    density_mg_per_cm3 : array of the same shape, optional
        Needed by tissues whose modulus follows the density.
    modulus_mpa : array of the same shape, optional
        Moduli that replace the table's inside the labels.

    Raises
    ------
    BadDensity, BadModulus
        A density or modulus is missing, of another shape, or impossible.
    """
    if modulus_mpa is not None:
        return _given_modulus(labels, modulus_mpa), 0
    modulus = np.zeros(labels.shape)
    limited = 0
    for label, tissue in table.items():
        inside = labels == label
        law = tissue.youngs_modulus_mpa
        if isinstance(law, DensityScaledModulus):
            values = law(_densities(density_mg_per_cm3, inside, tissue))
            modulus[inside] = np.clip(values, law.minimum_mpa, law.maximum_mpa)
            limited += int(((values < law.minimum_mpa) | (values > law.maximum_mpa)).sum())
        else:
            modulus[inside] = law
    return modulus, limited


def _check_tissue(tissue: Tissue) -> None:
    law = tissue.youngs_modulus_mpa
    numbers = (
        (law.reference_mpa, law.reference_mg_per_cm3, law.exponent, law.minimum_mpa, law.maximum_mpa - law.minimum_mpa)
        if isinstance(law, DensityScaledModulus)
        else (law,)
    )
    if not (np.isfinite(numbers).all() and min(numbers) > 0):
        raise BadModulus(f"The tissue {tissue.name!r} needs a positive finite modulus, not {law}.")


def _given_modulus(labels: Labels, modulus_mpa: NDArray[np.floating]) -> Doubles:
    if modulus_mpa.shape != labels.shape:
        raise BadModulus(f"The moduli have shape {modulus_mpa.shape}, the labels {labels.shape}.")
    inside = labels != 0
    values = modulus_mpa[inside]
    wrong = int((~(np.isfinite(values) & (values > 0))).sum())
    if wrong:
        raise BadModulus(f"{wrong} labelled voxels have no positive finite modulus.")
    return np.where(inside, modulus_mpa, 0.0)


def _densities(density: NDArray[np.floating] | None, inside: NDArray[np.bool_], tissue: Tissue) -> Doubles:
    if density is None or density.shape != inside.shape:
        found = "none" if density is None else f"one of shape {density.shape}"
        raise BadDensity(f"The tissue {tissue.name!r} needs a density of shape {inside.shape}; found {found}.")
    values = np.asarray(density[inside], dtype=np.float64)
    _check_density(values)
    return values


def _check_density(values: NDArray[np.floating]) -> None:
    if not np.isfinite(values).all():
        raise BadDensity(f"{int((~np.isfinite(values)).sum())} voxels hold no finite density.")
    low, high = DENSITY_RANGE_MG_PER_CM3[0], LARGEST_DENSITY_MG_PER_CM3
    if values.size and (values.min() < low or values.max() > high):
        raise BadDensity(
            f"Densities of {values.min():.0f}..{values.max():.0f} mg/cm3 found, {low:.0f}..{high:.0f} expected: "
            "these may be the scanner's native units."
        )
