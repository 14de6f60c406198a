"""Deterministic segmentation of both proximal femurs and hip bones in a CT, without a trained network.

Steps: find the femoral heads (``inference.hip_joint``), cut the bones apart around them
(``inference.hip_separation``), make each solid, check that it looks like a femur, and move its surface to the
bone threshold on the CT's own grid. What cannot be found or separated is flagged and not labelled.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from inference.errors import SegmentationError
from inference.hip_check import check_femur, metal_flags
from inference.hip_joint import RADIUS_LIMITS_MM, FemoralHead, find_femoral_heads, fit_sphere
from inference.hip_separation import (
    BONE_ABOVE_SOFT_HU,
    FEMUR_LENGTH_MM,
    FEMUR_WIDTH_MM,
    HIP_DEPTH_MM,
    HIP_HEIGHT_MM,
    SeparatedHip,
    bone_threshold_hu,
    separate_bones,
    solid_bones,
    structure_of,
)
from inference.labels import BY_KEY, FEMURS
from inference.morphology import (
    FAR_MM,
    Box,
    FloatArray,
    Mask,
    WorkGrid,
    bridge_air_gaps,
    fill_sections,
    resample_to,
    signed_distance_mm,
    work_grid,
)
from inference.quality import QualityFlag
from inference.volume import Volume

SEARCH_STEP_MM = 2.0
"""Grid on which heads are searched: a twelfth of a head's radius. [m] assumption."""
WORK_STEP_MM = 1.5
"""Grid on which bones are separated: half the narrowest joint space. [m] assumption."""
HALF_PELVIS_MM = 85.0
"""From the head's centre to the mid-sagittal plane, where only one head is seen; adults 75 to 100. [m]
assumption."""
BAND_MM = 1.5
"""How far the surface may move on the CT's own grid: one working voxel. [m] assumption."""
NEIGHBOUR_MM = 2.5
"""The brightest voxel so near is the cortex that a voxel's partial volume comes from. [m] assumption."""
BRIGHTEST_HU = 1500.0
"""Cortex; metal counts as that. [m] assumption."""
HEAD_SHELL_MM = 4.0
"""Surface points this far from the largest inscribed ball belong to the head. [m] assumption."""

Labels = NDArray[np.uint8]


def segment_hips(volume: Volume) -> tuple[Labels, tuple[QualityFlag, ...]]:
    """Label both proximal femurs and hip bones of a CT.

    Parameters
    ----------
    volume
        CT in canonical order (``inference.volume.canonical``): axes grow to the head, the back and the left.

    Returns
    -------
    labels : (slice, row, column) uint8 array
        Values of ``inference.labels`` for femurs and hip bones, 0 elsewhere. Solid bones with their marrow.
    flags
        ``not_found``, ``bone_not_separated``, ``truncated_bone``, ``short_shaft`` and ``metal`` on femurs.
        A femur with one of the first three is not labelled, nor is its hip bone.
    """
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    heads = find_femoral_heads(_bridged(work_grid(volume.hu, volume.spacing_mm, SEARCH_STEP_MM))[0])
    flags: list[QualityFlag] = []
    if heads:
        region = _region(volume, heads)
        grid, gaps = _bridged(work_grid(volume.hu, volume.spacing_mm, WORK_STEP_MM, region))
        threshold_hu = bone_threshold_hu(grid)
        flooded = separate_bones(grid, heads, _midline_mm(heads), threshold_hu)
        for head in heads:
            hip = solid_bones(grid, flooded, head)
            found = check_femur(hip, _extent_mm(volume))
            flags.extend((*found, *metal_flags(hip)))
            if not any(flag.definition.forbids_density for flag in found):
                _write_native(labels, volume, gaps[hip.box], hip, threshold_hu)
    return labels, (*_missing(heads), *flags)


def find_femoral_head(volume: Volume, femur_mask: NDArray[np.bool_]) -> tuple[tuple[float, float, float], float]:
    """Fit a least-squares sphere to the femoral head of a segmented femur.

    Parameters
    ----------
    volume
        Gives the geometry; any orientation.
    femur_mask : (slice, row, column) bool array
        One proximal femur, solid.

    Returns
    -------
    centre_mm : tuple of float
        (x, y, z), LPS.
    radius_mm : float

    Raises
    ------
    SegmentationError
        When the mask is empty, or no sphere of a head's size fits.
    """
    index = np.argwhere(femur_mask)
    if len(index) == 0:
        raise SegmentationError("The femur mask is empty; expected a segmented proximal femur.")
    box = tuple(slice(int(low), int(high) + 1) for low, high in zip(index.min(0), index.max(0), strict=True))
    mask = np.pad(femur_mask[box], 1)
    spacing = np.asarray(volume.spacing_mm)
    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    centre = np.array(np.unravel_index(int(np.argmax(depth)), mask.shape)) * spacing
    radius = float(depth.max())
    surface = marching_cubes(ndimage.gaussian_filter(mask.astype(np.float32), 0.5), 0.5, spacing=tuple(spacing))[0]
    for _ in range(10):
        near = np.abs(np.linalg.norm(surface - centre, axis=1) - radius) < HEAD_SHELL_MM
        if near.sum() < 50:
            break
        centre, radius = fit_sphere(surface[near].astype(np.float64))
    if not RADIUS_LIMITS_MM[0] <= radius <= RADIUS_LIMITS_MM[1]:
        raise SegmentationError(
            f"The sphere fitted to the femoral head has a radius of {radius:.1f} mm; expected "
            f"{RADIUS_LIMITS_MM[0]:.0f} to {RADIUS_LIMITS_MM[1]:.0f} mm. Check the femur mask."
        )
    start = np.array([span.start for span in box]) - 1
    point = volume.affine_lps @ np.append(centre / spacing + start, 1.0)
    return (float(point[0]), float(point[1]), float(point[2])), radius


def _bridged(grid: WorkGrid) -> tuple[WorkGrid, Mask]:
    """Return the grid with planes of air bridged, and where they were."""
    hu, gaps = bridge_air_gaps(grid)
    return WorkGrid(hu, grid.step_mm, grid.origin_mm), gaps


def _extent_mm(volume: Volume) -> NDArray[np.float64]:
    """(z, y, x) of the last voxel's centre."""
    return (np.array(volume.hu.shape) - 1) * np.asarray(volume.spacing_mm)


def _midline_mm(heads: tuple[FemoralHead, ...]) -> float:
    """Return x of the mid-sagittal plane."""
    if len(heads) == 2:
        return float((heads[0].centre_mm[2] + heads[1].centre_mm[2]) / 2)
    return float(heads[0].centre_mm[2] - heads[0].lateral * HALF_PELVIS_MM)


def _region(volume: Volume, heads: tuple[FemoralHead, ...]) -> Box:
    """Return the CT's voxels that can hold the femurs and hip bones of these heads."""
    centres = np.array([head.centre_mm for head in heads])
    low = centres.min(0) - np.array([FEMUR_LENGTH_MM, HIP_DEPTH_MM, FEMUR_WIDTH_MM])
    high = centres.max(0) + np.array([HIP_HEIGHT_MM, HIP_DEPTH_MM, FEMUR_WIDTH_MM])
    low[2] = min(low[2], _midline_mm(heads))
    high[2] = max(high[2], _midline_mm(heads))
    spans = []
    for start, stop, count, length in zip(low, high, volume.hu.shape, volume.spacing_mm, strict=True):
        first = int(np.clip(start // length, 0, count - 1))
        spans.append(slice(first, int(np.clip(stop // length + 2, first + 1, count))))
    return (spans[0], spans[1], spans[2])


def _write_native(labels: Labels, volume: Volume, gaps: Mask, hip: SeparatedHip, threshold_hu: float) -> None:
    """Write one hip's two bones into ``labels``, surfaces at the bone threshold of the CT's own voxels."""
    small = hip.grid
    spacing = volume.spacing_mm
    top = small.position_mm(np.array(small.hu.shape)) + BAND_MM
    low = np.maximum(np.floor((small.origin_mm - small.step_mm) / spacing), 0).astype(int)
    high = np.minimum(np.ceil(top / spacing) + 1, volume.hu.shape).astype(int)
    box: Box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    gap = resample_to(gaps.astype(np.float32), small, box, spacing, 0.0) > 0.0
    distances = [
        resample_to(signed_distance_mm(mask, small.step_mm), small, box, spacing, FAR_MM)
        for mask in (hip.femur, hip.hip_bone)
    ]
    dense = _dense(volume.hu[box], spacing, threshold_hu)
    femur = _refined(distances[0], distances[1], dense, gap)
    hip_bone = _refined(distances[1], distances[0], dense, gap) & ~femur
    labels[box][hip_bone] = hip.hip_structure.value
    labels[box][femur] = hip.femur_structure.value


def _refined(own_mm: FloatArray, other_mm: FloatArray, dense: Mask, gap: Mask) -> Mask:
    """Decide the voxels within ``BAND_MM`` of a surface by ``dense``, smoothed over their neighbours."""
    bone = np.where(gap, own_mm < 0, dense) & (own_mm <= other_mm)
    band = np.abs(own_mm) <= BAND_MM
    rough = np.where(band, bone, own_mm < 0)
    smooth = ndimage.uniform_filter(rough.astype(np.float32), 3, mode="nearest") > 0.5
    return fill_sections(np.where(band, smooth & (own_mm <= other_mm), rough), axes=(0,))


def _dense(hu: FloatArray, spacing_mm: tuple[float, float, float], threshold_hu: float) -> Mask:
    """Return what is bone by the half-maximum rule: nearer to the brightest neighbour than to muscle."""
    muscle_hu = threshold_hu - BONE_ABOVE_SOFT_HU
    size = [2 * int(NEIGHBOUR_MM / length) + 1 for length in spacing_mm]
    brightest = ndimage.maximum_filter(np.minimum(hu, BRIGHTEST_HU), size=size, mode="nearest")
    dense: Mask = hu > np.maximum(threshold_hu, (brightest + muscle_hu) / 2)
    return dense


def _missing(heads: tuple[FemoralHead, ...]) -> tuple[QualityFlag, ...]:
    """Return a flag for every femur whose head was not found."""
    found = {structure_of("femur", head).key for head in heads}
    return tuple(
        QualityFlag("not_found", key, f"{BY_KEY[key].name}: no hip joint was found on this side of the scan.")
        for key in FEMURS
        if key not in found
    )
