"""What every density model asks of a scan inside a bone's mask: no cavities, a bone's density, and no metal."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.box import box_around
from fe.errors import BadDensity
from fe.flags import ModelFlag
from fe.voxel.grid import DensityGrid

Bools = NDArray[np.bool_]

LEAST_MEAN_MG_PER_CM3 = 20.0
"""A femur with a smaller mean density is refused: whole femurs have more than 100, marrow fat alone is near 0, and
densities in g/cm3 are below 2 [project's assumption]. The mean and not the median, because fatty marrow can fill more
than half of an osteoporotic femur that its cortex still carries."""

METAL_MG_PER_CM3 = 2000.0
"""Denser is metal: cortical bone's mineral stays below about 1500 [m assumption], and scanners that clip at 3071 HU
show metal with little more than 2000."""

LEAST_METAL_VOXELS = 4
"""Smaller connected pieces are noise [project's assumption]."""


def without_cavities(mask: Bools) -> Bools:
    """Return a mask with its closed cavities filled; what is not a mask comes back as it is, for others to refuse."""
    if mask.dtype != np.bool_ or mask.ndim != 3 or not mask.any():
        return mask
    box = box_around(mask)
    outside = np.pad(~mask[box], 1, constant_values=True)
    labels, _ = ndimage.label(outside)
    whole = mask.copy()
    whole[box] = (labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return whole


def check_femur_density(grid: DensityGrid) -> None:
    """Refuse a femur that is too light to be bone.

    Raises
    ------
    BadDensity
        The mean density of the elements is below ``LEAST_MEAN_MG_PER_CM3``.
    """
    mean = float(grid.rho_qct_mg_per_cm3[grid.is_bone].mean())
    if mean < LEAST_MEAN_MG_PER_CM3:
        raise BadDensity(
            f"The mean density inside the mask is {mean:.3g} mg/cm3, at least {LEAST_MEAN_MG_PER_CM3:.0f} are expected "
            "of a femur: this is not calibrated density in mg/cm3 (in g/cm3, perhaps), or not bone."
        )


def metal_flags(
    rho_qct_mg_per_cm3: NDArray[np.floating], mask: Bools, spacing_mm: tuple[float, float, float]
) -> Iterator[ModelFlag]:
    """Yield a flag where a connected piece inside the mask is denser than any bone.

    Parameters
    ----------
    rho_qct_mg_per_cm3, mask : (slice, row, column) arrays
        Density and bone.
    spacing_mm
        Voxel spacing along (slice, row, column).
    """
    box = box_around(mask)
    labels, _ = ndimage.label(mask[box] & (rho_qct_mg_per_cm3[box] > METAL_MG_PER_CM3))
    sizes = np.bincount(labels.ravel())[1:]
    sizes = sizes[sizes >= LEAST_METAL_VOXELS]
    if sizes.size:
        metal_mm3 = float(sizes.sum()) * float(np.prod(spacing_mm))
        yield ModelFlag(
            "metal",
            f"{metal_mm3:.0f} mm3 inside the mask are denser than {METAL_MG_PER_CM3:.0f} mg/cm3: metal, not bone. The "
            "model takes it for the stiffest bone, and its streaks change the density around it: the strength has no "
            "meaning for this bone.",
            (("metal_mm3", metal_mm3), ("pieces", float(sizes.size))),
        )
