"""From whole vertebrae to vertebral bodies: other segmenters label both as one, densities and strengths need the body.

The body is what lies in front of the spinal canal. The canal's front wall is read from the vertebra itself: in its
midline, nothing of it lies between the canal's middle and the body.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import BY_KEY, VERTEBRAE
from inference.quality import QualityFlag
from inference.spinal_canal import find_canal, working_grid
from inference.spinal_curve import SpinalCurve, curve_through
from inference.volume import Volume, canonical

Mask = NDArray[np.bool_]

MIDLINE_MM = 5.0
"""Half the width of the strip in which the wall is looked for: inside the pedicles, which are 20 mm apart or more."""

WALL_PERCENTILE = 2.0
"""Of the midline voxels' distances in front of the canal's middle: the wall, but for stray voxels. Chosen on one
patient, where the bodies then agree with another network's bodies to Dice 0.95 to 0.98."""

WALL_RANGE_MM = (2.0, 20.0)
"""Where the wall may lie in front of the tracked middle: ``inference.spinal_canal`` allows it 6 to 18 mm, and the
smoothed line cuts corners [m] assumption."""

ARCH_MM = 6.0
"""A mask that nowhere reaches farther behind its wall has no arch: the reference's bodies of one patient reach 3.1 mm
behind it (the wall is hollow), the whole vertebrae 40 mm and more [m] assumption."""


def spinal_curve_of(upright: Volume) -> SpinalCurve | None:
    """Return the line through the spinal canal of a canonical volume; None where no canal is found."""
    canal = find_canal(working_grid(upright))
    return None if canal is None else curve_through(canal)


def cut_body(vertebra: Mask, curve: SpinalCurve, spacing_mm: tuple[float, float, float]) -> Mask | None:
    """Cut the arch and its processes off a vertebra.

    Parameters
    ----------
    vertebra : (slice, row, column) bool array
        One whole vertebra in the canonical volume.
    curve
        From ``spinal_curve_of`` the same volume.
    spacing_mm
        Of the volume.

    Returns
    -------
    (slice, row, column) bool array or None
        The body, in one piece, or the mask itself where it has no arch; None where the mask has no wall in front of the
        canal.
    """
    cells = np.argwhere(vertebra)
    if cells.size == 0:
        return None
    points_mm = cells * np.array(spacing_mm)
    near = curve.position_of(points_mm)
    away = points_mm - curve.points_mm[near]
    ahead_mm = (away * curve.front[near]).sum(axis=1)
    aside_mm = np.abs((away * curve.left[near]).sum(axis=1))
    midline = ahead_mm[(aside_mm <= MIDLINE_MM) & (ahead_mm > 0)]
    wall_mm = float(np.percentile(midline, WALL_PERCENTILE)) if midline.size else 0.0
    if not WALL_RANGE_MM[0] <= wall_mm <= WALL_RANGE_MM[1]:
        return None
    if wall_mm - float(ahead_mm.min()) <= ARCH_MM:
        return vertebra
    body = np.zeros_like(vertebra)
    body[tuple(cells[ahead_mm >= wall_mm].T)] = True
    parts, count = ndimage.label(body)
    if count == 0:
        return None
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts[body])[1:])))


def cut_bodies(volume: Volume, labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[QualityFlag, ...]]:
    """Cut the arches off all vertebrae of a label map; a body without arch keeps its shape.

    Parameters
    ----------
    volume
        The CT, any orientation.
    labels : (slice, row, column) uint8 array
        On its grid; vertebrae whole or bodies only.

    Returns
    -------
    labels : (slice, row, column) uint8 array
        A vertebra that could not be cut is left out.
    flags : tuple of QualityFlag
        ``bone_not_separated`` for each that was left out.
    """
    upright, orientation = canonical(volume)
    turned = orientation.apply(labels).copy()
    present = [BY_KEY[key] for key in VERTEBRAE if (turned == BY_KEY[key].value).any()]
    curve = spinal_curve_of(upright) if present else None
    flags = []
    for structure in present:
        mask = turned == structure.value
        body = None if curve is None else cut_body(mask, curve, upright.spacing_mm)
        turned[mask] = 0
        if body is None:
            sentence = f"{structure.key}: the mask could not be cut in front of the spinal canal; a body was expected."
            flags.append(QualityFlag("bone_not_separated", structure.key, sentence))
        else:
            turned[body] = structure.value
    return np.ascontiguousarray(orientation.restore(turned)), tuple(flags)
