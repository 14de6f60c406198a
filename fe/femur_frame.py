"""The anatomical frame of a proximal femur, found in its mask alone.

Left femurs are mirrored first, so that one set of rules serves both sides: in the code below, medial is +x, back is
+y, head is +z. The frame's axes have names instead of numbers: lateral, anterior, proximal. Its frontal plane holds
the neck and the shaft; the condyles, which would define it otherwise, are rarely in a hip CT, so the anteversion of
the neck is not part of the frame [m assumption].
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.errors import BadInput, HeadNotFound, LandmarkNotFound, TrochanterNotFound
from fe.voxel.grid import DensityGrid

Doubles = NDArray[np.float64]
Side = Literal["R", "L"]
Point = tuple[float, float, float]

HEAD_RADIUS_RANGE_MM = (16.0, 34.0)
"""Adult femoral heads have diameters of about 36 to 60 mm [m assumption]; wider here by a margin."""

HEAD_SEARCH_MM = 80.0
"""The head's centre lies within this distance below the top of the femur."""

HEAD_MIN_COVERAGE = 0.35
"""Least fraction of the sphere's surface that the mask must show [project's assumption]."""

HEAD_MAX_ROUGHNESS = 0.1
"""Largest root mean square distance from the sphere, over its radius [project's assumption]."""

NECK_RANGE = (0.8, 1.5)
"""Where the neck's axis is traced: distance from the head's centre over the head's radius [project's assumption]."""

SHAFT_START = 3.5
"""The shaft begins this many head radii below the head's centre, below the lesser trochanter [project's
assumption]."""

SHAFT_END = 8.0
"""The shaft's axis is fitted down to this many head radii, so that its bow has little effect."""

SHAFT_MIN_MM = 30.0
"""Least length of shaft that gives an axis [project's assumption]."""

TROCHANTER_RANGE = (-3.0, 1.0)
"""Height of the greater trochanter's most lateral point relative to the head's centre, in head radii."""

TROCHANTER_MIN_LATERAL = 1.7
"""Least lateral distance of that point from the head's centre, in head radii."""

TROCHANTER_CAP_MM = 2.0
"""The landmark is the centroid of the surface within this depth of the extreme point."""


@dataclass(frozen=True, slots=True)
class FemurFrame:
    """Landmarks and axes, LPS mm relative to the input array's first voxel.

    Attributes
    ----------
    side
        ``R`` or ``L``.
    head_centre_mm, head_radius_mm
        Sphere fitted to the head; the frame's origin.
    lateral, anterior, proximal
        Unit vectors, perpendicular to one another. They are mirror images on the two sides.
    neck_axis
        Unit vector from the head's centre through the neck to the trochanters.
    trochanter_mm
        Most lateral point of the greater trochanter.
    neck_shaft_deg
        Angle between neck and shaft (caput-collum-diaphysis angle).
    shaft_mm
        Length of shaft that the mask shows below the trochanters, 0 when none.
    has_shaft_axis
        False when too little shaft is seen and ``proximal`` is the scan's long axis.
    head_roughness
        Root mean square distance of the head's surface from the sphere, over its radius.
    """

    side: Side
    head_centre_mm: Point
    head_radius_mm: float
    lateral: Point
    anterior: Point
    proximal: Point
    neck_axis: Point
    trochanter_mm: Point
    neck_shaft_deg: float
    shaft_mm: float
    has_shaft_axis: bool
    head_roughness: float

    def coordinates_mm(self, points_mm: Doubles) -> Doubles:
        """Return (lateral, anterior, proximal) coordinates (n, 3) of LPS points (n, 3)."""
        axes = np.array([self.lateral, self.anterior, self.proximal])
        return np.asarray((points_mm - np.array(self.head_centre_mm)) @ axes.T)

    def vector(self, lateral: float, anterior: float, proximal: float) -> Doubles:
        """Return the LPS vector with these anatomical components."""
        axes = np.array([self.lateral, self.anterior, self.proximal])
        return np.asarray(np.array([lateral, anterior, proximal]) @ axes)


def find_femur_frame(grid: DensityGrid, side: Side) -> FemurFrame:
    """Find head, neck, shaft and greater trochanter of a femur.

    1. Head: the largest ball that fits into the upper bone, then a least-squares sphere on the surface away from
       the neck.
    2. Shaft: line through the centroids of the cross-sections below the trochanters; the scan's long axis where the
       mask ends too early.
    3. Neck: line from the head's centre through the centroids of the neck's sections.
    4. Greater trochanter: the most lateral surface.

    Parameters
    ----------
    grid
        The femur on its element grid, canonical axes.
    side
        ``R`` or ``L``.

    Raises
    ------
    HeadNotFound, TrochanterNotFound, LandmarkNotFound
        The mask does not show the anatomy, or shows the other side's.
    BadInput
        The side is neither ``R`` nor ``L``.
    """
    if side not in ("R", "L"):
        raise BadInput(f"The side must be R or L, not {side!r}.")
    mirror = np.array([1.0 if side == "R" else -1.0, 1.0, 1.0])
    centres = grid.points_mm(np.argwhere(grid.is_bone)) * mirror
    surface = _surface_points(grid) * mirror
    inner_centre, inner_radius = _largest_ball(grid)
    centre, radius, roughness = _fit_head(surface, centres, inner_centre * mirror, inner_radius, grid.element_mm)
    proximal, shaft_mm = _shaft_axis(centres, centre, radius, grid.element_mm)
    has_axis = proximal is not None
    up = proximal if proximal is not None else np.array([0.0, 0.0, 1.0])
    neck = _neck_axis(centres, centre, radius)
    lateral = neck - (neck @ up) * up
    lateral /= np.linalg.norm(lateral)
    if lateral[0] > 0:
        raise LandmarkNotFound(f"The neck leaves the head towards the midline; is this the {side} femur?")
    trochanter = _trochanter(surface, centre, radius, lateral, up)
    return FemurFrame(
        side=side,
        head_centre_mm=point_of(centre * mirror),
        head_radius_mm=radius,
        lateral=point_of(lateral * mirror),
        anterior=point_of(np.cross(up, lateral) * mirror),
        proximal=point_of(up * mirror),
        neck_axis=point_of(neck * mirror),
        trochanter_mm=point_of(trochanter * mirror),
        neck_shaft_deg=float(np.degrees(np.arccos(np.clip(neck @ up, -1, 1)))),
        shaft_mm=shaft_mm,
        has_shaft_axis=has_axis,
        head_roughness=roughness,
    )


def point_of(vector: Doubles) -> Point:
    """Return a vector (3,) as a tuple."""
    x, y, z = (float(v) for v in vector)
    return (x, y, z)


def _surface_points(grid: DensityGrid) -> Doubles:
    """Return the centres of all element faces that look outside, (n, 3) mm."""
    padded = np.pad(grid.is_bone, 1).astype(np.int8)
    faces = [np.argwhere(np.diff(padded, axis=axis)) - 1 + 0.5 * np.eye(3)[axis] for axis in range(3)]
    return grid.points_mm(np.concatenate(faces))


def _largest_ball(grid: DensityGrid) -> tuple[Doubles, float]:
    """Return centre and radius of the largest ball inside the upper part of the bone."""
    depth = ndimage.distance_transform_edt(np.pad(grid.is_bone, 1))[1:-1, 1:-1, 1:-1]
    top = int(np.flatnonzero(grid.is_bone.any(axis=(1, 2)))[-1])
    lowest = max(0, top - int(np.ceil(HEAD_SEARCH_MM / grid.element_mm)))
    depth[:lowest] = 0
    deepest = np.argwhere(depth >= depth.max() - 0.5)
    return grid.points_mm(deepest).mean(axis=0), float(depth.max() - 0.5) * grid.element_mm


def _fit_head(
    surface: Doubles, centres: Doubles, centre: Doubles, radius: float, element_mm: float
) -> tuple[Doubles, float, float]:
    """Fit a sphere to the head's surface away from the neck; return centre, radius and roughness."""
    _check_radius(radius)
    for _ in range(12):
        distance = np.linalg.norm(centres - centre, axis=1)
        neck = (centres[(distance > 1.2 * radius) & (distance < 2.0 * radius)] - centre).sum(axis=0)
        if not np.linalg.norm(neck) > 0:
            raise HeadNotFound("A ball was found in the mask, but no neck leaves it.")
        neck /= np.linalg.norm(neck)
        offset = surface - centre
        distance = np.linalg.norm(offset, axis=1)
        near = np.abs(distance - radius) < max(0.15 * radius, 1.5 * element_mm)
        chosen = surface[near & (offset @ neck < 0.4 * distance)]
        if len(chosen) < 20:
            raise HeadNotFound("The mask shows no round surface where the head should be.")
        centre, radius = _least_squares_sphere(chosen)
        _check_radius(radius)
    roughness = float(np.sqrt(np.mean((np.linalg.norm(chosen - centre, axis=1) - radius) ** 2))) / radius
    # A sphere made of square faces has 3/2 of the true surface.
    coverage = len(chosen) * element_mm**2 / (1.5 * 4 * np.pi * radius**2)
    if coverage < HEAD_MIN_COVERAGE or roughness > HEAD_MAX_ROUGHNESS + 0.3 * element_mm / radius:
        raise HeadNotFound(
            f"No femoral head: the best sphere (radius {radius:.1f} mm) is covered to {coverage:.0%} and rough to "
            f"{roughness:.0%} of its radius."
        )
    return centre, radius, roughness


def _check_radius(radius: float) -> None:
    low, high = HEAD_RADIUS_RANGE_MM
    if not low <= radius <= high:
        raise HeadNotFound(f"The roundest part has a radius of {radius:.1f} mm; a head has {low:.0f} to {high:.0f} mm.")


def _least_squares_sphere(points: Doubles) -> tuple[Doubles, float]:
    """Fit |p|^2 = 2 c . p + (r^2 - |c|^2), linear in c and r^2 - |c|^2."""
    origin = points.mean(axis=0)
    p = points - origin
    system = np.column_stack((2 * p, np.ones(len(p))))
    solution = np.linalg.lstsq(system, (p**2).sum(axis=1), rcond=None)[0]
    centre = solution[:3]
    return centre + origin, float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))


def _shaft_axis(centres: Doubles, head: Doubles, radius: float, element_mm: float) -> tuple[Doubles | None, float]:
    """Return the shaft's axis pointing up, None when too little is seen, and the length of shaft seen."""
    below = head[2] - centres[:, 2]
    shaft_mm = max(0.0, float(below.max() - SHAFT_START * radius))
    if shaft_mm < SHAFT_MIN_MM:
        return None, shaft_mm
    part = (below > SHAFT_START * radius) & (below < SHAFT_END * radius)
    layers = np.round(below[part] / element_mm).astype(int)
    layers -= layers.min()
    counts = np.bincount(layers)
    sections = np.column_stack([np.bincount(layers, centres[part, axis]) / counts for axis in range(3)])
    sections = sections[counts > 0.5 * np.median(counts)]  # the ragged end of a mask has no say
    axis = np.linalg.svd(sections - sections.mean(axis=0))[2][0]
    return axis * np.sign(axis[2]), shaft_mm


def _neck_axis(centres: Doubles, head: Doubles, radius: float) -> Doubles:
    """Trace the neck: least-squares line from the head's centre through the centroids of its sections."""
    offset = centres - head
    distance = np.linalg.norm(offset, axis=1)
    axis = offset[(distance > 1.2 * radius) & (distance < 2.0 * radius)].sum(axis=0)
    axis /= np.linalg.norm(axis)
    low, high = NECK_RANGE
    for _ in range(10):
        along = offset @ axis
        across = np.linalg.norm(offset - along[:, None] * axis, axis=1)
        neck = (along > low * radius) & (along < high * radius) & (across < radius)
        if not neck.any():
            raise LandmarkNotFound("No neck joins the head.")
        axis = offset[neck].sum(axis=0)
        axis /= np.linalg.norm(axis)
    return np.asarray(axis)


def _trochanter(surface: Doubles, head: Doubles, radius: float, lateral: Doubles, up: Doubles) -> Doubles:
    """Return the most lateral point of the greater trochanter."""
    offset = surface - head
    height = offset @ up / radius
    low, high = TROCHANTER_RANGE
    part = offset[(height > low) & (height < high)]
    reach = part @ lateral
    if reach.max() < TROCHANTER_MIN_LATERAL * radius:
        raise TrochanterNotFound(
            f"The mask ends {reach.max():.0f} mm lateral of the head's centre; the greater trochanter lies at least "
            f"{TROCHANTER_MIN_LATERAL * radius:.0f} mm lateral."
        )
    return np.asarray(head + part[reach > reach.max() - TROCHANTER_CAP_MM].mean(axis=0))
