"""The proximal femur as a loaded structure: load cases, supports, and the regions where failure counts.

Both cases share one stiffness with the distal end fixed, so one set-up serves all directions:

- stance: a force on the head along the case's direction; the distal end is fixed.
- fall: the same force on the head pushes the greater trochanter against the ground. The distal end is a rigid block
  on a hinge at the knee, free to turn about the axis normal to the plane of load and shaft. Three forces hold a hinged
  bone in balance, so the ground's force follows from the moment about the hinge alone, and the strains are those of
  the bone with a fixed end under head force and ground force together: the rigid turn adds none. The ground's force is
  spread evenly over the patch of the trochanter that faces the ground, along the ground's normal (no friction).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fe.errors import TrochanterNotFound
from fe.femur_frame import SHAFT_START, FemurFrame
from fe.voxel.grid import DensityGrid
from fe.voxel.numbering import Numbering

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LoadCase:
    """One direction of the force on the femoral head, by angles in the anatomical frame.

    Attributes
    ----------
    name
        Key of the case, for example ``stance``.
    kind
        ``stance``: the angles turn the force away from straight down the shaft. ``fall``: away from straight lateral.
    frontal_deg
        Stance: towards lateral. Fall: towards proximal, the adduction of the thigh on the ground.
    second_deg
        Towards posterior. Stance: in the sagittal plane. Fall: in the transverse plane, the internal rotation.
    source
        Where the angles come from; ``[m assumption]`` where not verified.
    """

    name: str
    kind: Literal["stance", "fall"]
    frontal_deg: float
    second_deg: float
    source: str

    def components(self) -> tuple[float, float, float]:
        """Return the (lateral, anterior, proximal) components of the unit direction."""
        frontal, second = np.tan(np.radians((self.frontal_deg, self.second_deg)))
        raw = {"stance": (frontal, -second, -1.0), "fall": (1.0, -second, frontal)}[self.kind]
        lateral, anterior, proximal = np.array(raw) / np.linalg.norm(raw)
        return (float(lateral), float(anterior), float(proximal))


STANCE = LoadCase(
    "stance",
    "stance",
    frontal_deg=13.0,
    second_deg=8.0,
    source="Peak of normal walking measured with instrumented implants: about 13 degrees from medial to lateral and 8 "
    "degrees from front to back [Bergmann2001; m assumption]",
)
SIDEWAYS_FALL = LoadCase(
    "sideways_fall",
    "fall",
    frontal_deg=10.0,
    second_deg=15.0,
    source="The usual laboratory fall: 10 degrees of adduction, 15 degrees of internal rotation [Courtney1994, "
    "Pinilla1996; m assumption]",
)
DEFAULT_CASES: tuple[LoadCase, ...] = (STANCE, SIDEWAYS_FALL)


@dataclass(frozen=True, slots=True)
class FemurSettings:
    """Every choice of the femur model that is not a material law. All are [m assumption]s unless a source is named.

    Attributes
    ----------
    applied_load_n
        Force of the linear solution; strengths scale with it and do not depend on it.
    cap_half_angle_deg
        The load is spread over the head's surface within this angle of the load's line, weighted by its cosine.
    cap_exclusion_deg
        Within this angle, the head's surface does not count for failure.
    support_depth_mm
        The trochanter's patch: surface within this depth of the point nearest to the ground.
    support_exclusion_mm
        Surface this near to the patch does not count for failure.
    distal_excluded_fraction
        The lowest part of the model that does not count for failure (CT2S: a third), as far as it is shaft.
    end_zone_mm
        Height above the distal end that never counts, whatever it is: the held end disturbs the strains there.
    averaging_radius_mm
        Principal strains are averaged over the surface within this radius (CT2S).
    tension_limit, compression_limit
        Principal strains at failure [Schileo2008, Altai2019].
    knee_distance_mm
        From the head's centre down the shaft to the knee's axis: the thigh of an adult.
    held_area_fraction
        The distal end is held where the bone's section has at least this fraction of its size just above.
    """

    applied_load_n: float = 1000.0
    cap_half_angle_deg: float = 40.0
    cap_exclusion_deg: float = 65.0
    support_depth_mm: float = 4.0
    support_exclusion_mm: float = 8.0
    distal_excluded_fraction: float = 1 / 3
    end_zone_mm: float = 10.0
    averaging_radius_mm: float = 3.0
    tension_limit: float = 0.0073
    compression_limit: float = 0.0104
    knee_distance_mm: float = 400.0
    held_area_fraction: float = 0.5


HEAD_REACH = 1.15
"""Surface within this many head radii of the head's centre belongs to the head."""


@dataclass(frozen=True, slots=True)
class FemurSurface:
    """Nodes and surface elements of a femur in anatomical coordinates.

    Attributes
    ----------
    frame
        The anatomical frame.
    node_points, element_points : (nodes, 3) and (elements, 3) arrays
        (lateral, anterior, proximal) coordinates, mm.
    is_surface_node, is_surface_element : bool arrays
        True where something outside the bone is next to it.
    """

    frame: FemurFrame
    node_points: Doubles
    element_points: Doubles
    is_surface_node: Bools
    is_surface_element: Bools


@dataclass(frozen=True, slots=True)
class CaseLoads:
    """The forces of one case.

    Attributes
    ----------
    force_n : (3, nodes) array
        LPS components.
    counts : (elements,) bool array
        Surface elements where failure counts.
    support_force_n
        The ground's force, 0 in stance.
    """

    force_n: Doubles
    counts: Bools
    support_force_n: float


def femur_surface(grid: DensityGrid, frame: FemurFrame, numbering: Numbering) -> FemurSurface:
    """Collect the nodes and elements of a femur in anatomical coordinates."""
    touching = np.zeros(numbering.node_count, dtype=np.int8)
    padded = np.pad(grid.is_bone, 1).astype(np.int8)
    places = numbering.node_places
    for dz, dy, dx in np.ndindex(2, 2, 2):
        touching += padded[places[:, 0] + dz, places[:, 1] + dy, places[:, 2] + dx]
    k, j, i = (index + 1 for index in np.nonzero(grid.is_bone))
    neighbours = sum(
        padded[k + dk, j + dj, i + di]
        for dk, dj, di in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
    )
    return FemurSurface(
        frame=frame,
        node_points=frame.coordinates_mm(grid.node_points_mm(places)),
        element_points=frame.coordinates_mm(grid.points_mm(np.argwhere(grid.is_bone))),
        is_surface_node=touching < 8,
        is_surface_element=np.asarray(neighbours < 6),
    )


def held_distal_nodes(grid: DensityGrid, numbering: Numbering, settings: FemurSettings) -> Bools:
    """Return the (nodes,) mask of the distal end that is held.

    The end is the lowest layer of elements whose area is at least ``held_area_fraction`` of the largest one in the
    end zone, so that a ragged mask does not leave the bone on the tip of one element. Everything below is held too.
    """
    areas = grid.is_bone.sum(axis=(1, 2))
    lowest = int(np.flatnonzero(areas)[0])
    zone = areas[lowest : lowest + max(1, round(settings.end_zone_mm / grid.element_mm))]
    end = lowest + int(np.argmax(zone >= settings.held_area_fraction * zone.max()))
    return np.asarray(numbering.node_places[:, 0] <= end)


def case_loads(surface: FemurSurface, case: LoadCase, settings: FemurSettings) -> CaseLoads:
    """Return the nodal forces of a case and where its failure counts.

    Raises
    ------
    TrochanterNotFound
        The fall has no trochanter to land on, or the ground's force would pull.
    """
    direction = np.array(case.components())
    weights = _cap_weights(surface, direction, settings.cap_half_angle_deg)
    share = np.outer(direction, weights) * settings.applied_load_n
    counts = surface.is_surface_element & ~_near_cap(surface, direction, settings.cap_exclusion_deg)
    counts &= ~_is_distal(surface, settings)
    support_force_n = 0.0
    if case.kind == "fall":
        patch = _support_patch(surface, direction, settings.support_depth_mm)
        support_force_n = _support_force(surface, weights, patch, direction, settings)
        share[:, patch] -= np.outer(direction, np.full(patch.sum(), support_force_n / patch.sum()))
        counts &= ~_near_patch(surface, patch, settings.support_exclusion_mm)
    axes = np.array([surface.frame.lateral, surface.frame.anterior, surface.frame.proximal])
    return CaseLoads(axes.T @ share, counts, support_force_n)


def _angle_from_cap(points: Doubles, direction: Doubles) -> Doubles:
    """Return the angle (degrees) between points seen from the head's centre and the load's origin."""
    cosine = -(points @ direction) / np.linalg.norm(points, axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _cap_weights(surface: FemurSurface, direction: Doubles, half_angle_deg: float) -> Doubles:
    """Return each node's share of the head's load; shares add up to 1."""
    points = surface.node_points
    angle = _angle_from_cap(points, direction)
    reach = HEAD_REACH * surface.frame.head_radius_mm
    loaded = surface.is_surface_node & (np.linalg.norm(points, axis=1) < reach) & (angle <= half_angle_deg)
    weights = np.where(loaded, np.cos(np.radians(angle)), 0.0)
    return weights / weights.sum()


def _near_cap(surface: FemurSurface, direction: Doubles, exclusion_deg: float) -> Bools:
    points = surface.element_points
    on_head = np.linalg.norm(points, axis=1) < HEAD_REACH * surface.frame.head_radius_mm
    return on_head & (_angle_from_cap(points, direction) <= exclusion_deg)


def _is_distal(surface: FemurSurface, settings: FemurSettings) -> Bools:
    """Return the elements too near to the held end: the lowest third, but of a femur cut short never its neck."""
    height = surface.element_points[:, 2]
    low, high = height.min(), height.max()
    shaft_top = -SHAFT_START * surface.frame.head_radius_mm
    third = low + settings.distal_excluded_fraction * (high - low)
    return np.asarray(height < max(low + settings.end_zone_mm, min(third, shaft_top)))


TROCHANTER_REACH_MM = 30.0
"""The ground is met within this distance of the trochanter's landmark."""


def _support_patch(surface: FemurSurface, direction: Doubles, depth_mm: float) -> Bools:
    """Return the surface nodes of the trochanter that lie nearest to the ground."""
    landmark = surface.frame.coordinates_mm(np.array([surface.frame.trochanter_mm]))[0]
    near = np.linalg.norm(surface.node_points - landmark, axis=1) < TROCHANTER_REACH_MM
    reach = surface.node_points @ direction
    candidates = surface.is_surface_node & near
    if not candidates.any():
        raise TrochanterNotFound("No surface lies near the greater trochanter's landmark.")
    return candidates & (reach > reach[candidates].max() - depth_mm)


def _support_force(
    surface: FemurSurface, weights: Doubles, patch: Bools, direction: Doubles, settings: FemurSettings
) -> float:
    """Return the ground's force from the balance of moments about the hinge at the knee.

    The hinge passes through the point ``knee_distance_mm`` below the head's centre, normal to load and shaft.
    """
    knee = np.array([0.0, 0.0, -settings.knee_distance_mm])
    hinge = np.cross(direction, (0.0, 0.0, 1.0))
    head_arm = hinge @ np.cross(weights @ surface.node_points - knee, direction)
    ground_arm = hinge @ np.cross(surface.node_points[patch].mean(axis=0) - knee, direction)
    ratio = float(head_arm / ground_arm)
    if not 0 < ratio < np.inf:
        raise TrochanterNotFound("The ground would have to pull at the trochanter: the landmarks are wrong.")
    return settings.applied_load_n * ratio


def _near_patch(surface: FemurSurface, patch: Bools, distance_mm: float) -> Bools:
    distance, _ = cKDTree(surface.node_points[patch]).query(surface.element_points, distance_upper_bound=distance_mm)
    return np.isfinite(distance)


SiteRule = Callable[[float, float, float], bool]

FAILURE_SITES: tuple[tuple[str, SiteRule], ...] = (
    ("greater trochanter", lambda along, _, trochanter: trochanter < 1.0 and along > 1.6),
    ("femoral head", lambda along, height, _: along < 0.75 and height > -1.3),
    ("femoral neck", lambda along, height, _: along < 1.8 and height > -2.2),
    ("intertrochanteric region", lambda _, height, __: height > -3.2),
    ("subtrochanteric region", lambda _, height, __: height > -5.0),
    ("femoral shaft", lambda _, __, ___: True),
)
"""First row that holds: distance along the neck axis from the head's centre, height above it, distance from the
greater trochanter's landmark, all in head radii [project's assumption]."""


def failure_site(frame: FemurFrame, point_mm: Doubles) -> str:
    """Return the name of the region of the femur that holds an LPS point."""
    radius = frame.head_radius_mm
    offset = point_mm - np.array(frame.head_centre_mm)
    along = float(offset @ np.array(frame.neck_axis)) / radius
    height = float(offset @ np.array(frame.proximal)) / radius
    trochanter = float(np.linalg.norm(point_mm - np.array(frame.trochanter_mm))) / radius
    return next(name for name, holds in FAILURE_SITES if holds(along, height, trochanter))
