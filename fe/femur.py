"""The proximal femur as a loaded structure: what holds it, how the head is loaded, and where failure counts.

The distal end is held in every case, so one set of unit responses serves all directions (``fe.condensed``). In a fall
the held end is a rigid block on a hinge at the knee; its turn adds no strain and belongs to the ground
(``fe.ground``).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fe.criterion import Limits
from fe.errors import HeadNotFound
from fe.femur_body import FemurBody
from fe.femur_frame import SHAFT_START, FemurFrame
from fe.ground import TROCHANTER_REACH_MM
from fe.voxel.grid import DensityGrid
from fe.voxel.numbering import Numbering

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]


CT2S_LIMITS = Limits(tension=0.0073, compression=0.0104)
"""Principal strains at failure [Schileo2008, Altai2019]."""


@dataclass(frozen=True, slots=True)
class FemurSettings:
    """Every choice of the femur model that is not a material law. All are [m assumption]s unless a source is named.

    Attributes
    ----------
    cap_half_angle_deg
        The load is spread over the head's surface within this angle of the line from the neck through the head,
        weighted by its cosine.
    cap_exclusion_deg
        Within this angle of that line, the head's surface does not count for failure.
    contact_pitch_mm
        Distance between the patches of the trochanter that meet the ground; larger where the elements are.
    support_depth_mm
        In a fall, the trochanter's surface within this depth of its lowest point ...
    support_exclusion_mm
        ... and what lies this near to it does not count for failure.
    distal_excluded_fraction
        The lowest part of the model that does not count for failure (CT2S: a third), as far as it is shaft.
    end_zone_mm
        Height above the distal end that never counts, whatever it is: the held end disturbs the strains there.
    averaging_radius_mm
        Principal strains are averaged over the surface within this radius (CT2S).
    limits
        Principal strains at failure [Schileo2008, Altai2019].
    knee_distance_mm
        From the head's centre down the shaft to the knee's axis: the thigh of an adult.
    held_area_fraction
        The distal end is held where the bone's section has at least this fraction of its size just above.
    """

    cap_half_angle_deg: float = 60.0
    cap_exclusion_deg: float = 85.0
    contact_pitch_mm: float = 2.0
    support_depth_mm: float = 4.0
    support_exclusion_mm: float = 8.0
    distal_excluded_fraction: float = 1 / 3
    end_zone_mm: float = 10.0
    averaging_radius_mm: float = 3.0
    limits: Limits = CT2S_LIMITS
    knee_distance_mm: float = 400.0
    held_area_fraction: float = 0.5


HEAD_REACH = 1.15
"""Surface within this many head radii of the head's centre belongs to the head."""


def held_distal_nodes(grid: DensityGrid, numbering: Numbering, settings: FemurSettings) -> Bools:
    """Return the (nodes,) mask of the distal end that is held; everything below ``held_end_mm`` is held too."""
    return np.asarray(grid.node_points_mm(numbering.node_places)[:, 2] <= held_end_mm(grid, settings) + SLACK_MM)


SLACK_MM = 1e-6
"""Rounding of heights."""


def held_end_mm(grid: DensityGrid, settings: FemurSettings) -> float:
    """Return the height (LPS z, mm) of the distal end that is held.

    The end is the lower face of the lowest layer of elements whose area is at least ``held_area_fraction`` of the
    largest one in the end zone, so that a ragged mask does not leave the bone on the tip of one element.
    """
    areas = grid.is_bone.sum(axis=(1, 2))
    lowest = int(np.flatnonzero(areas)[0])
    zone = areas[lowest : lowest + max(1, round(settings.end_zone_mm / grid.element_mm))]
    end = lowest + int(np.argmax(zone >= settings.held_area_fraction * zone.max()))
    return float(grid.points_mm(np.array([[end - 0.5, 0.0, 0.0]]))[0, 2])


def head_loads(body: FemurBody, frame: FemurFrame, settings: FemurSettings) -> Doubles:
    """Return the nodal forces (3, 3, nodes) of unit forces along x, y and z through the head's centre.

    A joint transmits no moment: each unit force is spread over the cap by the cosine of the angle from the neck's line,
    together with the turning forces that bring its line of action through the head's centre, linear in the distance
    from the cap's centroid (a distributing coupling, RBE3). The spread does not depend on the direction, so all
    directions are sums of three columns.

    1. Weights w, adding up to 1; c their centroid seen from the head's centre.
    2. J = sum of w (|x - c|^2 I - (x - c)(x - c)^T).
    3. For a unit force d: w (d + omega x (x - c)) with J omega = -c x d.

    Raises
    ------
    HeadNotFound
        No node of the surface lies on the cap.
    """
    offset = body.node_points_mm[body.surface_nodes] - np.array(frame.head_centre_mm)
    angle = angle_from_cap_deg(offset, frame)
    on_cap = on_head(offset, frame) & (angle <= settings.cap_half_angle_deg)
    if on_cap.sum() < LEAST_CAP_NODES:
        raise HeadNotFound(f"Only {int(on_cap.sum())} nodes lie on the head's cap: the elements are too large.")
    weights = np.where(on_cap, np.cos(np.radians(angle)), 0.0)
    weights /= weights.sum()
    centroid = weights @ offset
    arm = offset - centroid
    inertia = weights @ (arm**2).sum(axis=1) * np.eye(3) - (weights[:, None] * arm).T @ arm
    forces = np.zeros((3, 3, body.node_count))
    for force, unit in zip(forces, np.eye(3), strict=True):
        omega = -np.linalg.solve(inertia, np.cross(centroid, unit))
        force[:, body.surface_nodes] = (weights[:, None] * (unit + np.cross(omega, arm))).T
    return forces


LEAST_CAP_NODES = 8
"""Fewer nodes cannot carry a force through the centre in every direction."""


def on_head(offset_mm: Doubles, frame: FemurFrame) -> Bools:
    """Return which points, seen from the head's centre, belong to the head."""
    return np.asarray(np.linalg.norm(offset_mm, axis=1) < HEAD_REACH * frame.head_radius_mm)


def angle_from_cap_deg(offset_mm: Doubles, frame: FemurFrame) -> Doubles:
    """Return the angle of points, seen from the head's centre, from the line that leaves the neck through the head."""
    cosine = -(offset_mm @ np.array(frame.neck_axis)) / np.linalg.norm(offset_mm, axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def counting_places(body: FemurBody, frame: FemurFrame, settings: FemurSettings) -> Bools:
    """Return the (places,) mask of the surface where failure counts in every case: outside of cap and distal end."""
    offset = body.places_mm - np.array(frame.head_centre_mm)
    on_cap = on_head(offset, frame) & (angle_from_cap_deg(offset, frame) <= settings.cap_exclusion_deg)
    return ~on_cap & ~_is_distal(frame.coordinates_mm(body.places_mm)[:, 2], frame, settings)


def _is_distal(height: Doubles, frame: FemurFrame, settings: FemurSettings) -> Bools:
    """Return the places too near to the held end: the lowest third, but of a femur cut short never its neck."""
    low, high = height.min(), height.max()
    shaft_top = -SHAFT_START * frame.head_radius_mm
    third = low + settings.distal_excluded_fraction * (high - low)
    return np.asarray(height < max(low + settings.end_zone_mm, min(third, shaft_top)))


def away_from_ground(body: FemurBody, frame: FemurFrame, direction: Doubles, settings: FemurSettings) -> Bools:
    """Return the (places,) mask of the surface that the ground's pressure does not disturb in a fall.

    The trochanter's surface within ``support_depth_mm`` of its lowest point, and what is near to it, is left out: where
    a bone touches the ground it is crushed, not broken.
    """
    near = np.linalg.norm(body.smooth_mm - np.array(frame.trochanter_mm), axis=1) < TROCHANTER_REACH_MM
    reach = np.where(near, body.smooth_mm @ direction, -np.inf)
    patch = body.smooth_mm[reach > reach.max() - settings.support_depth_mm]
    distance, _ = cKDTree(patch).query(body.places_mm, distance_upper_bound=settings.support_exclusion_mm)
    return ~np.isfinite(distance)


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
