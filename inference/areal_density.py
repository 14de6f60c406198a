"""Areal density of the proximal femur, g/cm2: its calibrated density projected front to back in the standard pose.

What projectional densitometry would see of the bone alone, after CTXA [Khoo2009] [Cann2014]. It is not DXA: no fat is
subtracted, no scanner of DXA was compared, and no T-score follows from it. Definitions: docs/methods/vbmd.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.calibration import CalibrationRecord, rho_qct_mg_per_cm3
from inference.femoral_neck import find_head, find_neck, points_lps_mm
from inference.femoral_pose import Pose
from inference.femoral_regions import PARTS, HipRegion, HipRegions, hip_regions
from inference.labels import BY_KEY, FEMURS
from inference.quality import QualityFlag, forbids_density
from inference.volume import Box, Volume, boxes_of, canonical, crop

Mask = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

STEP_MM = 1.0
"""Grid of the projection; a third of a coarse voxel. Projectional densitometry has about 1 mm [m]."""

RIM_MM = 2.0
"""Mineral is counted so far beyond the mask, and at least one voxel: the cortex that blur and partial volume spread
there [m] assumption."""

SOFT_MM = 8.0
"""Soft tissue is looked for from the rim to this far beyond the mask, and smoothed over half of it [m] assumption."""

SHOWN_BELOW_MM = 20.0
"""Shaft that is projected below the total hip, for the picture alone."""

DEEPEST_MM = 100.0
"""Where the total hip's end is not known nothing deeper than this below the head's centre is projected."""

G_PER_CM2_PER_MG_MM_PER_CM3 = 1e-4
"""1 mg/cm3 over a path of 1 mm: 0.001 g/cm3 times 0.1 cm."""


@dataclass(frozen=True, slots=True)
class ArealDensity:
    """Areal density of one region of one femur.

    Attributes
    ----------
    structure
        ``femur_right`` or ``femur_left``.
    region
        ``neck``, ``trochanter`` or ``total_hip``.
    abmd_g_per_cm2
        Mineral over projected area.
    mineral_g
        Mineral in the region.
    area_cm2
        Projected area of the bone in the region.
    """

    structure: str
    region: HipRegion
    abmd_g_per_cm2: float
    mineral_g: float
    area_cm2: float


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The femur as projected, and where its regions lie.

    Attributes
    ----------
    structure
        ``femur_right`` or ``femur_left``.
    abmd_g_per_cm2 : (up, lateral) float32 array
        Areal density; both axes grow as they are named, in steps of ``STEP_MM``.
    bone : (up, lateral) bool array
        Where there is bone in front of the viewer.
    parts : (up, lateral) uint8 array
        Parts of ``inference.femoral_regions`` of regions that are whole, beyond the silhouette too: the mineral of its
        rim counts. 0 elsewhere.
    neck_deg
        Angle between neck and shaft.
    """

    structure: str
    abmd_g_per_cm2: FloatArray = field(repr=False)
    bone: Mask = field(repr=False)
    parts: NDArray[np.uint8] = field(repr=False)
    neck_deg: float


@dataclass(frozen=True, slots=True, eq=False)
class ArealResult:
    """Areal densities of both femurs, the pictures they were taken from, and what was flagged."""

    densities: tuple[ArealDensity, ...] = ()
    projections: tuple[Projection, ...] = ()
    flags: tuple[QualityFlag, ...] = ()


def areal_g_per_cm2(density_path_mg_mm_per_cm3: float) -> float:
    """Convert a density in mg/cm3, summed over a path in mm, to an areal density in g/cm2."""
    return density_path_mg_mm_per_cm3 * G_PER_CM2_PER_MG_MM_PER_CM3


def measure_areal(
    volume: Volume, labels: NDArray[np.uint8], record: CalibrationRecord, flags: Sequence[QualityFlag] = ()
) -> ArealResult:
    """Measure the areal density of every femur that may be measured, in the regions that the scan shows whole.

    Parameters
    ----------
    volume
        The CT, any orientation.
    labels : (slice, row, column) uint8 array
        On the volume's grid; other bones are kept out of a femur's rim.
    record
        The calibration.
    flags
        Everything flagged so far; a flag that forbids density leaves its structure out.
    """
    upright, orientation = canonical(volume)
    turned = orientation.apply(labels)
    boxes = boxes_of(turned)
    densities: list[ArealDensity] = []
    projections: list[Projection] = []
    raised: list[QualityFlag] = []
    for key in FEMURS:
        box = boxes.get(BY_KEY[key].value)
        if box is None or forbids_density(flags, key):
            continue
        regions, found = _regions(crop(upright, box), turned[box] == BY_KEY[key].value, key)
        raised.extend(found)
        if regions is None or not regions.whole:
            continue
        wide = _wider(box, upright)
        projection = project(crop(upright, wide), turned[wide], key, regions, record)
        projections.append(projection)
        densities.extend(_densities(projection, regions))
    return ArealResult(tuple(densities), tuple(projections), tuple(raised))


def project(
    volume: Volume, labels: NDArray[np.uint8], key: str, regions: HipRegions, record: CalibrationRecord
) -> Projection:
    """Project one femur front to back in its standard pose.

    1. Mineral: calibrated density in the mask; in the rim what exceeds the soft tissue nearby, as a voxel there holds
       both. On average over the surface's places within a voxel the two halves of its edge cancel.
    2. Silhouette: the mask, smoothed by half a voxel so that its steps do not widen it.
    3. Both are sampled on a grid of 1 mm along the pose's axes, and the mineral is summed from front to back.

    Parameters
    ----------
    volume
        The femur and what is around it, canonical order.
    labels : (slice, row, column) uint8 array
        On its grid.
    key
        ``femur_right`` or ``femur_left``.
    regions
        Pose and regions.
    record
        The calibration.
    """
    mask = labels == BY_KEY[key].value
    low, high = _bounds_mm(volume, mask, regions)
    shape = (round((high[2] - low[2]) / STEP_MM) + 1, round((high[0] - low[0]) / STEP_MM) + 1)
    up_mm, lateral_mm = (low[axis] + STEP_MM * np.arange(count) for axis, count in zip((2, 0), shape, strict=True))
    mineral = _mineral_mg_per_cm3(volume, mask, (labels > 0) & ~mask, record)
    soft_edge = ndimage.gaussian_filter(mask.astype(np.float32), 0.5)
    path = np.zeros(shape, dtype=np.float64)
    bone = np.zeros(shape, dtype=np.bool_)
    for depth_mm in np.arange(low[1], high[1] + STEP_MM / 2, STEP_MM):
        index = _index(volume, regions.pose, up_mm, lateral_mm, float(depth_mm))
        path += ndimage.map_coordinates(mineral, index, order=1, mode="constant") * STEP_MM
        bone |= ndimage.map_coordinates(soft_edge, index, order=1, mode="constant") > 0.5
    abmd: FloatArray = np.asarray(areal_g_per_cm2(1.0) * path, dtype=np.float32)
    kept = [part for region in regions.whole for part in PARTS[region]]
    parts = regions.part_of(*np.broadcast_arrays(lateral_mm[None, :], up_mm[:, None]))
    return Projection(key, abmd, bone, np.where(np.isin(parts, kept), parts, 0).astype(np.uint8), regions.pose.neck_deg)


def _regions(volume: Volume, mask: Mask, key: str) -> tuple[HipRegions | None, tuple[QualityFlag, ...]]:
    """Return the regions of a femur; None, without a flag of its own, where ``inference.regions`` finds no neck."""
    head = find_head(volume, mask)
    neck = find_neck(volume, mask, head) if head is not None else None
    return hip_regions(volume, mask, head, neck, key) if head is not None and neck is not None else (None, ())


def _densities(projection: Projection, regions: HipRegions) -> Iterator[ArealDensity]:
    """Yield the areal densities of the regions that are whole."""
    pixel_cm2 = (STEP_MM / 10.0) ** 2
    for region in regions.whole:
        inside = np.isin(projection.parts, PARTS[region])
        area_cm2 = float(np.count_nonzero(inside & projection.bone)) * pixel_cm2
        mineral_g = float(projection.abmd_g_per_cm2[inside].sum(dtype=np.float64)) * pixel_cm2
        yield ArealDensity(projection.structure, region, mineral_g / area_cm2, mineral_g, area_cm2)


def _wider(box: Box, volume: Volume) -> Box:
    """Widen a box by the reach of the soft tissue, as far as the array goes."""
    spans = [
        slice(max(0, span.start - reach), min(count, span.stop + reach))
        for span, count, reach in zip(
            box, volume.hu.shape, (int(SOFT_MM / length) + 1 for length in volume.spacing_mm), strict=True
        )
    ]
    return (spans[0], spans[1], spans[2])


def _mineral_mg_per_cm3(volume: Volume, mask: Mask, others: Mask, record: CalibrationRecord) -> FloatArray:
    """Return what counts as this femur's mineral in every voxel, mg/cm3."""
    rho = rho_qct_mg_per_cm3(volume.hu, record)
    spacing = volume.spacing_mm
    rim_mm = max(RIM_MM, *spacing)
    beyond_mm = ndimage.distance_transform_edt(~mask, sampling=spacing)
    strange = ndimage.distance_transform_edt(~others, sampling=spacing) <= rim_mm if others.any() else others
    soft = (beyond_mm > rim_mm) & (beyond_mm <= max(SOFT_MM, 2.0 * rim_mm)) & ~strange
    sigma = [SOFT_MM / 2.0 / length for length in spacing]
    weight = ndimage.gaussian_filter(soft.astype(np.float64), sigma)
    beside = ndimage.gaussian_filter(np.where(soft, rho, 0.0), sigma) / np.maximum(weight, 1e-6)
    rim = (beyond_mm > 0.0) & (beyond_mm <= rim_mm) & ~strange & (weight > 1e-3)
    return np.asarray(np.where(mask, rho, np.where(rim, rho - beside, 0.0)), dtype=np.float32)


def _bounds_mm(volume: Volume, mask: Mask, regions: HipRegions) -> NDArray[np.float64]:
    """Return where mask and rim begin and end along the pose's axes, (2, 3), whole steps from the head's centre."""
    local_mm = regions.pose.local_mm(points_lps_mm(np.argwhere(mask), volume))
    margin_mm = 2.0 * max(RIM_MM, *volume.spacing_mm)
    low, high = local_mm.min(axis=0) - margin_mm, local_mm.max(axis=0) + margin_mm
    low[2] = max(low[2], -DEEPEST_MM if regions.bottom_mm is None else regions.bottom_mm - SHOWN_BELOW_MM)
    return np.stack([np.floor(low / STEP_MM), np.ceil(high / STEP_MM)]) * STEP_MM


def _index(
    volume: Volume, pose: Pose, up_mm: NDArray[np.float64], lateral_mm: NDArray[np.float64], depth_mm: float
) -> NDArray[np.float64]:
    """Return the (3, up, lateral) array indices of one plane of the standard pose."""
    up, lateral = (one.ravel() for one in np.meshgrid(up_mm, lateral_mm, indexing="ij"))
    points_mm = pose.lps_mm(np.stack([lateral, np.full(up.size, depth_mm), up], axis=1)) - volume.affine_lps[:3, 3]
    index = np.asarray(np.linalg.solve(volume.affine_lps[:3, :3], points_mm.T), dtype=np.float64)
    return index.reshape(3, up_mm.size, lateral_mm.size)
