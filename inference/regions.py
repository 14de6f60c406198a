"""Where density is measured inside a bone: the trabecular core of a vertebral body, the regions of a femur.

Geometry of masks only; densities are taken in ``inference.densitometry``. Arrays are in canonical order.
Definitions and their sources: docs/methods/vbmd.md.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.femoral_neck import find_head, find_neck, points_lps_mm
from inference.femoral_regions import hip_regions
from inference.labels import BY_KEY
from inference.quality import QualityFlag
from inference.volume import Volume

Region = Literal["trabecular_core", "femoral_neck", "trochanter", "total_hip", "proximal_femur"]

BESIDE_NECK: tuple[Literal["trochanter", "total_hip"], ...] = ("trochanter", "total_hip")
"""Regions that are measured beside the neck's slab, where the scan shows them whole."""

CORE_DEPTH_MM = 5.0
"""Bone this close to the surface of a vertebral body is not trabecular: cortex, endplate and their blur. On a
real patient's L1 at 3 mm the mean falls from 163 to 114 HU over the first 5 mm and by 3 HU below."""

ANTERIOR_FRACTION = 2.0 / 3.0
"""Part of the body's depth, from the front, that is measured: the basivertebral vein enters behind [m]
assumption."""

PROXIMAL_FEMUR_MM = 70.0
"""The proximal femur ends this far below the head's centre: below the lesser trochanter [m] assumption."""


def trabecular_core(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], depth_mm: float = CORE_DEPTH_MM
) -> NDArray[np.bool_]:
    """Cut the trabecular volume of interest out of a vertebral body.

    1. Keep the anterior two thirds of the body's depth.
    2. Of these keep what lies deeper than ``depth_mm`` below the surface of the whole body.

    Parameters
    ----------
    mask : (slice, row, column) bool array
        One vertebral body in canonical order: rows grow to the back. The array's edge counts as surface.
    spacing_mm
        Along (slice, row, column).
    depth_mm
        Depth below the mask's surface, which lies within half a voxel of the outermost centres.

    Returns
    -------
    (slice, row, column) bool array
        Empty where nothing is deep enough.
    """
    distance_mm = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    core: NDArray[np.bool_] = distance_mm - max(spacing_mm) / 2 > depth_mm
    rows = np.flatnonzero(mask.any(axis=(0, 2)))
    if rows.size:
        back = rows[0] + ANTERIOR_FRACTION * (rows[-1] + 1 - rows[0])
        core[:, np.arange(mask.shape[1]) >= back, :] = False
    return core


def femoral_regions(
    volume: Volume, mask: NDArray[np.bool_], key: str
) -> tuple[tuple[tuple[Region, NDArray[np.bool_]], ...], tuple[QualityFlag, ...]]:
    """Choose the parts of a femur that are measured.

    Parameters
    ----------
    volume
        Gives the grid; canonical order.
    mask : (slice, row, column) bool array
        One femur on the volume's grid.
    key
        ``femur_right`` or ``femur_left``.

    Returns
    -------
    regions : tuple of (str, (slice, row, column) bool array)
        The neck's slab, and trochanter and total hip where they are whole. Where the neck is cut or does not show, all
        bone down to 70 mm below the head's centre, as far as the scan goes. None where the mask has no plausible
        head or contradicts its side.
    flags : tuple of QualityFlag
        What is missing, and why.
    """
    name = BY_KEY[key].name
    head = find_head(volume, mask)
    if head is None:
        sentence = f"{name}: the mask has no head of 17 to 32 mm radius; expected one whole femoral head."
        return (), (QualityFlag("bone_not_separated", key, sentence),)
    neck = find_neck(volume, mask, head)
    if neck is None:
        sentence = (
            f"{name}: the neck is cut by the scan or was not recognised; the density is that of the "
            "proximal femur as far as the scan shows it, and compares only with scans that end alike."
        )
        return (("proximal_femur", _proximal(volume, mask, head.centre_mm[2])),), (
            QualityFlag("neck_not_whole", key, sentence),
        )
    hip, flags = hip_regions(volume, mask, head, neck, key)
    if any(flag.definition.forbids_density for flag in flags):
        return (), flags
    cut: list[tuple[Region, NDArray[np.bool_]]] = [("femoral_neck", neck.mask)]
    if hip is not None:
        cut += [(region, hip.mask_of(region, volume, mask)) for region in BESIDE_NECK if region in hip.whole]
    return tuple(cut), flags


def _proximal(volume: Volume, mask: NDArray[np.bool_], head_height_mm: float) -> NDArray[np.bool_]:
    """Return the bone down to 70 mm below the head's centre."""
    proximal = mask.copy()
    proximal[mask] = points_lps_mm(np.argwhere(mask), volume)[:, 2] > head_height_mm - PROXIMAL_FEMUR_MM
    return proximal
