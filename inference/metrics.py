"""Agreement of two masks, for evaluation reports: overlap, voxels as decisions, surface distances, centroid.

Surfaces are the boundary voxels of a mask (those with a face neighbour outside it), as in the usual
definition of the 95th-percentile Hausdorff distance. Nothing here knows which bone a mask shows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def dice(mask: Mask, reference: Mask) -> float:
    """Overlap of two masks.

    Parameters
    ----------
    mask, reference : bool arrays of one shape

    Returns
    -------
    float
        2 |A and B| / (|A| + |B|), 0 to 1; 1 when both are empty.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _check_shapes(mask, reference)
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(reference))
    return 2.0 * int(np.count_nonzero(mask & reference)) / total if total else 1.0


def iou(mask: Mask, reference: Mask) -> float:
    """Intersection over union of two masks of one shape, 0 to 1; 1 when both are empty.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _check_shapes(mask, reference)
    union = int(np.count_nonzero(mask | reference))
    return int(np.count_nonzero(mask & reference)) / union if union else 1.0


def voxel_auc(mask: Mask, reference: Mask) -> float:
    """Area under the receiver operating characteristic of a mask as a classifier of voxels.

    A mask has one threshold, so the curve has one corner and the area is the mean of sensitivity and specificity: a
    lower bound of what the probabilities behind it would give, and near to (1 + sensitivity) / 2 in a large volume.

    Returns
    -------
    float
        0 to 1; not a number when the reference is empty, or fills the volume.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _check_shapes(mask, reference)
    positives = int(np.count_nonzero(reference))
    negatives = reference.size - positives
    if not positives or not negatives:
        return float("nan")
    hits = int(np.count_nonzero(mask & reference))
    false_alarms = int(np.count_nonzero(mask)) - hits
    return 0.5 * (hits / positives + 1.0 - false_alarms / negatives)


@dataclass(frozen=True, slots=True)
class SurfaceAgreement:
    """Distances between the surfaces of two masks, mm; 0 when both masks are empty, infinite when one is.

    Attributes
    ----------
    mean_mm
        Of each surface from the other, over all voxels of both surfaces (average symmetric distance).
    hd95_mm
        95th percentile, the larger of the two directions.
    hd_mm
        Hausdorff distance: the largest.
    """

    mean_mm: float
    hd95_mm: float
    hd_mm: float


def surface_agreement(mask: Mask, reference: Mask, spacing_mm: tuple[float, float, float]) -> SurfaceAgreement:
    """Measure how far two surfaces lie apart.

    Parameters
    ----------
    mask, reference : (slice, row, column) bool arrays of one shape
    spacing_mm
        Voxel spacing along (slice, row, column).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    pair = _cropped(mask, reference)
    if pair is None:
        nothing = 0.0 if mask.any() == reference.any() else float("inf")
        return SurfaceAgreement(nothing, nothing, nothing)
    there, back = (_surface_distances_mm(one, other, spacing_mm) for one, other in (pair, pair[::-1]))
    return SurfaceAgreement(
        mean_mm=float(np.concatenate([there, back]).mean()),
        hd95_mm=max(float(np.percentile(one, 95)) for one in (there, back)),
        hd_mm=max(float(one.max()) for one in (there, back)),
    )


def surface_distance_mm(mask: Mask, reference: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Return ``mean_mm`` of ``surface_agreement``; raises what it raises."""
    return surface_agreement(mask, reference, spacing_mm).mean_mm


def hd95_mm(mask: Mask, reference: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Return ``hd95_mm`` of ``surface_agreement``; raises what it raises."""
    return surface_agreement(mask, reference, spacing_mm).hd95_mm


def centroid_lps_mm(mask: Mask, affine_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean position of a mask's voxels.

    Parameters
    ----------
    mask : (slice, row, column) bool array
        Not empty.
    affine_lps : (4, 4) float64 array
        Maps indices (slice, row, column) to LPS mm.

    Returns
    -------
    (3,) float64 array
        (x, y, z), LPS mm.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no centroid")
    index = np.argwhere(mask).mean(axis=0)
    return affine_lps[:3, :3] @ index + affine_lps[:3, 3]


def _cropped(mask: Mask, reference: Mask) -> tuple[Mask, Mask] | None:
    """Cut both masks to their common box with a voxel around it; None where one is empty."""
    _check_shapes(mask, reference)
    if not mask.any() or not reference.any():
        return None
    box = ndimage.find_objects((mask | reference).astype(np.uint8))[0]
    return np.pad(mask[box], 1), np.pad(reference[box], 1)


def _surface_distances_mm(mask: Mask, reference: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Distances of a padded mask's surface voxels from the other's surface."""
    distance = ndimage.distance_transform_edt(~_surface(reference), sampling=spacing_mm)
    return np.asarray(distance[_surface(mask)])


def _surface(mask: Mask) -> Mask:
    """Voxels of a padded mask with a face neighbour outside it."""
    return mask & ~ndimage.binary_erosion(mask)


def _check_shapes(mask: Mask, reference: Mask) -> None:
    """Refuse masks of two grids."""
    if mask.shape != reference.shape:
        raise ValueError(f"masks of different shapes: {mask.shape} and {reference.shape}")
