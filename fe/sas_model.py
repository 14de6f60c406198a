"""The femur as the voxel model loads it: cup on the head, embedded distal end, smoothed density, one law per element.

The cup is a cylinder of soft plastic between the head's surface and a plane above it, along the load's direction; the
nodes of that plane are displaced and held against moving sideways. Under the cup lies an influence region that yields
but never softens, or the head would crumble where the load enters. The distal end is embedded in a block that hardly
deforms and stands on held nodes. Moduli and the kinds of parts are the source's [SasCode]; its example of a femur,
which would show their sizes, is not published with the program, so the sizes are assumptions.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.errors import UnsupportedModel
from fe.femur_frame import FemurFrame
from fe.load_cases import LoadCase
from fe.material import ToAsh
from fe.sas_law import SofteningLaw, softening_law
from fe.sas_path import LoadedModel, Steps
from fe.voxel.grid import DensityGrid
from fe.voxel.numbering import Numbering, number_voxels

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

CUP_MPA = 2_000.0
"""Young's modulus of the cup [SasCode]."""

INFLUENCE_MPA, INFLUENCE_STRENGTH_MPA = 20_000.0, 200.0
"""Young's modulus and strength under the cup [SasCode]."""

EMBEDDING_MPA = 200_000.0
"""Young's modulus of the embedded end [SasCode]."""

FWHM_OVER_SIGMA = float(np.sqrt(8 * np.log(2)))

AXIAL = LoadCase(
    "axial",
    "stance",
    frontal_deg=0.0,
    second_deg=0.0,
    source="An axial compression that mimics standing [Saillard2024]; along the shaft's axis instead of the scan's",
)

SMOOTHING_REACH_MM, SMOOTHING_REACH_STEP_MM = 6.0, 4.0
"""Neighbours of the Gauss filter [SasCode]."""

NOTHING, BONE, CUP, INFLUENCE, EMBEDDING = -1, 0, 1, 2, 3
"""What a place of the grid holds."""

SLACK_MM = 1e-6
"""Slack of distances, so that ties fall the same way on mirrored grids."""


@dataclass(frozen=True, slots=True)
class SasSettings:
    """Every choice of the model that is not the law. Sizes are [m assumption]s where no source is named.

    Attributes
    ----------
    steps
        Increments and where to stop.
    load
        Direction in which the head is pushed.
    cortical_from_mg_per_cm3
        Elements of at least this ash density are cortical, before smoothing; the source segments the two phases.
    smoothing_fwhm_mm
        Full width at half maximum of the Gauss filter of the density [SasCode].
    cup_radius_mm
        Radius of the cup, a disc of 30 mm.
    cup_thickness_mm
        Height of the displaced plane above the top of the head.
    influence_mm
        Depth of the influence region under the cup.
    embedding_mm
        Height of the embedded distal end.
    end_zone_mm, held_area_fraction
        The distal end is the lowest layer with at least this fraction of the largest section within the zone, so that
        a ragged mask does not stand on the tip of one element.
    """

    steps: Steps = field(default_factory=Steps)
    load: LoadCase = AXIAL
    cortical_from_mg_per_cm3: float = 600.0
    smoothing_fwhm_mm: float = 3.0
    cup_radius_mm: float = 15.0
    cup_thickness_mm: float = 5.0
    influence_mm: float = 6.0
    embedding_mm: float = 6.0
    end_zone_mm: float = 10.0
    held_area_fraction: float = 0.5


@dataclass(frozen=True, slots=True)
class SasModel:
    """The loaded femur and what its elements are.

    Attributes
    ----------
    loaded
        For ``fe.sas_path.load_to_failure``.
    grid
        The femur with room around it for the cup.
    part : (elements,) int8 array
        ``BONE``, ``CUP``, ``INFLUENCE`` or ``EMBEDDING``.
    rho_ash_mg_per_cm3 : (elements,) array
        Smoothed ash density, 0 in the cup.
    direction : (3,) array
        LPS unit vector of the displacement.
    """

    loaded: LoadedModel
    grid: DensityGrid
    part: NDArray[np.int8]
    rho_ash_mg_per_cm3: Doubles
    direction: Doubles

    def element_points_mm(self) -> Doubles:
        """Return the centres of all elements, (elements, 3) LPS mm."""
        return self.grid.points_mm(np.argwhere(self.loaded.numbering.is_bone))


def sas_model(grid: DensityGrid, frame: FemurFrame, to_ash: ToAsh, settings: SasSettings) -> SasModel:
    """Set up the model.

    1. Room around the bone, the cup in it, the influence region below the cup, the embedded end.
    2. Ash density, smoothed over the bone's neighbours outside of the influence region.
    3. The law of every element; cup, influence region and embedded end get theirs.
    4. Supports: the distal nodes are held, the cup's upper nodes displaced.

    Parameters
    ----------
    grid
        The femur on cubic elements.
    frame
        Its landmarks.
    to_ash
        rho_QCT to rho_ash, both mg/cm3.
    settings
        Sizes and direction.

    Raises
    ------
    UnsupportedModel
        The cup does not meet the bone, or the bone ends at the cup.
    BadDensity, BadSpacing
        The law has no meaning for these elements.
    """
    direction = frame.vector(*settings.load.components())
    wide = _with_room(grid, settings)
    parts = _parts(wide, frame, direction, settings)
    numbering = number_voxels(parts != NOTHING)
    part = parts[numbering.is_bone]
    rho_ash = np.where(wide.is_bone, to_ash(wide.rho_qct_mg_per_cm3), 0.0)
    counts = wide.is_bone & (parts != INFLUENCE)
    smooth = _smoothed(rho_ash, counts, wide.element_mm, settings.smoothing_fwhm_mm)[numbering.is_bone]
    is_cortical = rho_ash[numbering.is_bone] >= settings.cortical_from_mg_per_cm3
    law = _with_parts(softening_law(smooth, is_cortical, wide.element_mm), part)
    held = numbering.node_places[:, 0] <= _distal_layer(wide, settings)
    displaced = _touching(numbering, parts == CUP)
    heights, _ = _along_and_across(wide.node_points_mm(numbering.node_places), frame, direction)
    displaced &= heights >= frame.head_radius_mm + settings.cup_thickness_mm - wide.element_mm / 2 - SLACK_MM
    if not displaced.any() or (held & displaced).any():
        raise UnsupportedModel("There is no bone between the held end and the cup on the head.")
    is_fixed = np.repeat((held | displaced)[None], 3, axis=0)
    pattern = np.where(displaced, direction[:, None], 0.0)
    return SasModel(LoadedModel(numbering, law, wide.element_mm, is_fixed, pattern), wide, part, smooth, direction)


def _with_room(grid: DensityGrid, settings: SasSettings) -> DensityGrid:
    """Return the grid with empty elements on all sides, enough for the cup."""
    room = int(np.ceil((settings.cup_radius_mm + settings.cup_thickness_mm) / grid.element_mm))
    affine = grid.affine_mm.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, room)
    return replace(
        grid,
        is_bone=np.pad(grid.is_bone, room),
        rho_qct_mg_per_cm3=np.pad(grid.rho_qct_mg_per_cm3, room),
        affine_mm=affine,
    )


def _along_and_across(points_mm: Doubles, frame: FemurFrame, direction: Doubles) -> tuple[Doubles, Doubles]:
    """Return heights above the head's centre against the load, and distances from the load's line through it."""
    offset = points_mm - np.array(frame.head_centre_mm)
    height = -(offset @ direction)
    return height, np.linalg.norm(offset + height[:, None] * direction, axis=1)


def _parts(grid: DensityGrid, frame: FemurFrame, direction: Doubles, settings: SasSettings) -> NDArray[np.int8]:
    """Return what every place of the grid holds."""
    shape = grid.is_bone.shape
    places = np.indices(shape).reshape(3, -1).T
    height, across = _along_and_across(grid.points_mm(places), frame, direction)
    radius_mm = frame.head_radius_mm
    outside_head = np.hypot(height, across) >= radius_mm - grid.element_mm - SLACK_MM
    top_mm = radius_mm + settings.cup_thickness_mm + SLACK_MM
    in_cup = (across <= settings.cup_radius_mm + SLACK_MM) & (height > 0) & (height <= top_mm)
    is_cup = (in_cup & outside_head).reshape(shape) & ~grid.is_bone
    if not is_cup.any():
        raise UnsupportedModel("The cup finds no place on the head: the head's sphere lies inside of the bone.")
    depth_mm = ndimage.distance_transform_edt(~is_cup) * grid.element_mm
    is_below = np.indices(shape)[0] < _distal_layer(grid, settings) + round(settings.embedding_mm / grid.element_mm)
    parts = np.full(shape, NOTHING, dtype=np.int8)
    parts[grid.is_bone] = BONE
    parts[grid.is_bone & is_below] = EMBEDDING
    parts[grid.is_bone & (depth_mm <= settings.influence_mm + SLACK_MM)] = INFLUENCE
    parts[is_cup] = CUP
    labels, _ = ndimage.label(parts != NOTHING)
    parts[labels != labels[grid.is_bone][0]] = NOTHING
    return parts


def _distal_layer(grid: DensityGrid, settings: SasSettings) -> int:
    """Return the lowest layer of elements that is a whole section of the bone."""
    areas = grid.is_bone.sum(axis=(1, 2))
    lowest = int(np.flatnonzero(areas)[0])
    zone = areas[lowest : lowest + max(1, round(settings.end_zone_mm / grid.element_mm))]
    return lowest + int(np.argmax(zone >= settings.held_area_fraction * zone.max()))


def _smoothed(values: Doubles, counts: Bools, element_mm: float, fwhm_mm: float) -> Doubles:
    """Average over the neighbours that count, weighted by a Gauss function of their distance [SasCode].

    Neighbours are those up to ceil((6 mm - h) / 4 mm) elements away along each axis: one at 3 mm. An element without
    any keeps its value.
    """
    reach = int(np.ceil((SMOOTHING_REACH_MM - element_mm) / SMOOTHING_REACH_STEP_MM))
    distance_mm = element_mm * np.arange(-reach, reach + 1)
    weights = np.exp(-(distance_mm**2) / (2 * (fwhm_mm / FWHM_OVER_SIGMA) ** 2))
    total, norm = np.where(counts, values, 0.0), counts.astype(np.float64)
    for axis in range(3):
        total, norm = (ndimage.convolve1d(field, weights, axis, mode="constant") for field in (total, norm))
    return np.asarray(np.divide(total, norm, out=values.copy(), where=norm > 0))


def _with_parts(law: SofteningLaw, part: NDArray[np.int8]) -> SofteningLaw:
    """Give cup, influence region and embedded end their own material."""
    law = law.with_support(part == CUP, CUP_MPA)
    law = law.with_support(part == EMBEDDING, EMBEDDING_MPA)
    return law.with_support(part == INFLUENCE, INFLUENCE_MPA, INFLUENCE_STRENGTH_MPA)


def _touching(numbering: Numbering, which: Bools) -> Bools:
    """Return the nodes (nodes,) of some places of the grid."""
    touched = np.zeros(numbering.node_count, dtype=bool)
    touched[numbering.connectivity()[which[numbering.is_bone]]] = True
    return touched
