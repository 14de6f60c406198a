"""Finding the vertebrae of a spine phantom (European Spine Phantom): cores of known density in denser shells.

The cores lie one above the other along the phantom. A core is what a shell encloses in its slices; the spinal canal is
enclosed too, so of all cores those are taken whose CT numbers lie on a line over the certificate's densities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.volume import Volume

SHELL_HU = 400.0
"""Cortex of the phantom: 400 mg/cm3 of hydroxyapatite read 550 HU and more, its densest core 300 [m] assumption."""

SMOOTHING_MM = 0.8
"""Standard deviation of the Gaussian before the threshold: noise must not open a shell."""

DEPTH_MM = 4.0
"""How deep inside its shell a core is measured."""

LEAST_CORE_MM3 = 1500.0
"""Smallest measured core: a body of 30 mm across and 12 mm high, 4 mm inside, holds 2600 mm3 [m] assumption."""

MOST_CORES = 10
"""More enclosed places than this are no phantom."""

AXIS_MM = 12.0
"""How far the cores' centres may lie from one line along the phantom."""

LEAST_CORRELATION = 0.999
"""Of the cores' HU with the certificate's densities: three points lie on a line more easily than five."""


@dataclass(frozen=True, slots=True)
class Core:
    """One core: mean CT number and its standard deviation, HU; volume, mm3; centre (slice, row, column)."""

    hu: float
    hu_sd: float
    volume_mm3: float
    centre: tuple[float, float, float]


def find_cores(upright: Volume, density_mg_per_cm3: Sequence[float]) -> tuple[Core, ...] | None:
    """Find the cores of a spine phantom, in the order of rising density.

    Parameters
    ----------
    upright
        The CT in canonical order; the phantom lies along the first axis.
    density_mg_per_cm3
        Of the cores, any order.

    Returns
    -------
    tuple of Core or None
        None where no set of cores fits.
    """
    cores = _cores(upright)
    wanted = np.sort(np.asarray(density_mg_per_cm3, dtype=np.float64))
    if not len(wanted) <= len(cores) <= MOST_CORES:
        return None
    best: tuple[float, tuple[Core, ...]] | None = None
    for some in combinations(cores, len(wanted)):
        ordered = tuple(sorted(some, key=lambda core: core.hu))
        if not _is_column(ordered, upright.spacing_mm):
            continue
        correlation = float(np.corrcoef(wanted, [core.hu for core in ordered])[0, 1])
        if correlation >= LEAST_CORRELATION and (best is None or correlation > best[0]):
            best = correlation, ordered
    return None if best is None else best[1]


def _cores(upright: Volume) -> list[Core]:
    """Measure everything that dense shells enclose, slice by slice."""
    spacing_mm = upright.spacing_mm
    smooth = ndimage.gaussian_filter(upright.hu, [SMOOTHING_MM / length for length in spacing_mm])
    shell = smooth >= SHELL_HU
    enclosed = np.stack([ndimage.binary_fill_holes(one) & ~one for one in shell])
    depth = ndimage.distance_transform_edt(np.pad(enclosed, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    parts, count = ndimage.label(depth >= DEPTH_MM)
    cores = []
    for number in range(1, count + 1):
        inside = parts == number
        volume_mm3 = int(np.count_nonzero(inside)) * upright.voxel_mm3
        if volume_mm3 >= LEAST_CORE_MM3:
            values: NDArray[np.float64] = upright.hu[inside].astype(np.float64)
            slice_, row, column = (float(one) for one in ndimage.center_of_mass(inside))
            cores.append(Core(float(values.mean()), float(values.std()), volume_mm3, (slice_, row, column)))
    return cores


def _is_column(cores: Sequence[Core], spacing_mm: tuple[float, float, float]) -> bool:
    """Whether cores lie above one another, not side by side."""
    places = np.array([core.centre for core in cores]) * np.array(spacing_mm)
    aside = np.abs(places[:, 1:] - places[:, 1:].mean(axis=0)).max()
    return bool(aside <= AXIS_MM and np.diff(np.sort(places[:, 0])).min() > DEPTH_MM)
