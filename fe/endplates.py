"""The endplates of a vertebral body, found on its closed surface.

Works on triangles, so that the same code serves the surface of a mask and the boundary of a tetrahedral mesh. Points
are LPS mm. An endplate is what faces up or down: the two directions in which most of the surface looks, the *poles* of
its normals, are sought near the scan's long axis, so a body may be tilted and wedged. The source finds poles of the
normals too and takes the surface within about 3 mm of a histogram's peak along the axis [MekAnOs]; here the connected
surface around each pole is taken, which needs no histogram and follows a hollow or slanted endplate.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from fe.errors import EndplatesNotFound

Doubles = NDArray[np.float64]
Point = tuple[float, float, float]

POLE_CONE_DEG = 40.0
"""Normals within this angle of a pole belong to it: endplates are hollow by up to 20 degrees at their rims, and walls
stand at 90 degrees to them [m assumption]."""

POLE_STEPS = 60
POLE_SETTLED = 1e-9
"""Change of a pole, squared, below which it stands still."""

HEIGHT_RANGE_MM = (8.0, 50.0)
"""Distance of the endplates' centres: T1 to L5 of adults have 14 to 32 mm, a crushed body half of it; wider by a
margin [m assumption]."""

AREA_RANGE_MM2 = (150.0, 4000.0)
"""Area of an endplate: T1 to L5 have about 300 to 2000 mm2; wider by a margin [m assumption]."""

LEAST_SHARE = 0.35
"""Least area of an endplate over the body's mean cross-section (volume over height): a ball has 2 (1 - cos 40) = 0.35
of its mean section in the cone, a cylinder 1 [derived]."""


@dataclass(frozen=True, slots=True)
class Endplate:
    """One endplate.

    Attributes
    ----------
    faces : (faces,) int array
        Numbers of its triangles.
    centre_mm
        Mean point, weighted with area.
    normal
        Unit vector out of the body: the mean of its triangles' normals.
    area_mm2
        Of the triangles.
    roughness_mm
        Root mean square distance from the plane through centre and normal.
    """

    faces: NDArray[np.intp] = field(repr=False)
    centre_mm: Point
    normal: Point
    area_mm2: float
    roughness_mm: float


@dataclass(frozen=True, slots=True)
class Endplates:
    """Both endplates and the axis between them.

    Attributes
    ----------
    superior, inferior
        The endplates.
    axis
        Unit vector from the inferior to the superior centre.
    height_mm
        Distance of the centres.
    tilt_deg
        Angle between the axis and the scan's long axis.
    wedge_deg
        Angle between the two planes.
    edge_heights_mm
        Distance of the endplates along the axis in the front, middle and back third of the body.
    """

    superior: Endplate
    inferior: Endplate
    axis: Point
    height_mm: float
    tilt_deg: float
    wedge_deg: float
    edge_heights_mm: tuple[float, float, float]


def find_endplates(points_mm: Doubles, triangles: NDArray[np.integer]) -> Endplates:
    """Find the endplates of a vertebral body.

    1. Poles: starting from straight up and straight down, move to the mean of the normals in a cone until nothing
       changes.
    2. Endplate: of the triangles in the cone around a pole, the connected part with the largest area.
    3. Axis, height, tilt, wedge and heights of the thirds.

    Parameters
    ----------
    points_mm : (points, 3) array
        LPS.
    triangles : (triangles, 3) int array
        Closed surface, counter-clockwise from outside.

    Raises
    ------
    EndplatesNotFound
        Nothing faces up or down, or height and area are no vertebral body's.
    """
    normals, areas, centres = _triangle_geometry(points_mm, triangles)
    poles = [_pole(normals, areas, np.array([0.0, 0.0, sign])) for sign in (1.0, -1.0)]
    superior, inferior = (_endplate(points_mm, triangles, normals, areas, centres, pole) for pole in poles)
    between = np.subtract(superior.centre_mm, inferior.centre_mm)
    height = float(np.linalg.norm(between))
    volume = float((areas * (normals * centres).sum(axis=1)).sum() / 3)
    _check(superior, inferior, height, volume)
    axis = between / height
    return Endplates(
        superior=superior,
        inferior=inferior,
        axis=_point(axis),
        height_mm=height,
        tilt_deg=_degrees(axis[2]),
        wedge_deg=_degrees(-float(np.dot(superior.normal, inferior.normal))),
        edge_heights_mm=_edge_heights(superior, inferior, centres, areas, axis),
    )


def _triangle_geometry(points_mm: Doubles, triangles: NDArray[np.integer]) -> tuple[Doubles, Doubles, Doubles]:
    """Return unit normals (triangles, 3), areas and centres; triangles without area keep a zero normal."""
    a, b, c = (points_mm[triangles[:, n]] for n in range(3))
    cross = np.cross(b - a, c - a)
    double = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(double, np.finfo(float).tiny)[:, None], double / 2, (a + b + c) / 3


def _pole(normals: Doubles, areas: Doubles, start: Doubles) -> Doubles:
    """Return the unit vector around which the most surface looks, near ``start`` (mean shift on the sphere)."""
    pole = start
    for _ in range(POLE_STEPS):
        near = normals @ pole > np.cos(np.radians(POLE_CONE_DEG))
        mean = areas[near] @ normals[near]
        if not np.linalg.norm(mean) > 0:
            raise EndplatesNotFound("No part of the surface faces along the body's axis.")
        last, pole = pole, mean / np.linalg.norm(mean)
        if ((pole - last) ** 2).sum() < POLE_SETTLED:
            break
    return pole


def _endplate(
    points_mm: Doubles,
    triangles: NDArray[np.integer],
    normals: Doubles,
    areas: Doubles,
    centres: Doubles,
    pole: Doubles,
) -> Endplate:
    """Return the largest connected part of the surface in the cone around a pole."""
    chosen = np.flatnonzero(normals @ pole > np.cos(np.radians(POLE_CONE_DEG)))
    part = _parts(triangles[chosen], len(points_mm))
    faces = chosen[part == np.argmax(np.bincount(part, areas[chosen]))]
    weight = areas[faces] / areas[faces].sum()
    centre, normal = weight @ centres[faces], weight @ normals[faces]
    normal = normal / np.linalg.norm(normal)
    distance = (centres[faces] - centre) @ normal
    return Endplate(
        faces=faces,
        centre_mm=_point(centre),
        normal=_point(normal),
        area_mm2=float(areas[faces].sum()),
        roughness_mm=float(np.sqrt(weight @ distance**2)),
    )


def _parts(triangles: NDArray[np.integer], point_count: int) -> NDArray[np.integer]:
    """Return the number of the connected part of every triangle; triangles that share an edge are connected."""
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=2).reshape(-1, 2).astype(np.int64)
    key = edges[:, 0] * point_count + edges[:, 1]
    _, edge = np.unique(key, return_inverse=True)
    owner = np.repeat(np.arange(len(triangles)), 3)
    order = np.argsort(edge, kind="stable")
    same = edge[order][1:] == edge[order][:-1]
    one, other = owner[order][:-1][same], owner[order][1:][same]
    graph = sparse.coo_array((np.ones(len(one)), (one, other)), shape=(len(triangles),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1])


def _check(superior: Endplate, inferior: Endplate, height_mm: float, volume_mm3: float) -> None:
    """Refuse what cannot be a vertebral body."""
    low, high = HEIGHT_RANGE_MM
    if not low <= height_mm <= high:
        raise EndplatesNotFound(
            f"The surfaces that face up and down lie {height_mm:.0f} mm apart; the endplates of a vertebral body lie "
            f"{low:.0f} to {high:.0f} mm apart. Is the mask a single vertebra?"
        )
    low, high = AREA_RANGE_MM2
    for name, plate in (("upper", superior), ("lower", inferior)):
        share = plate.area_mm2 * height_mm / volume_mm3
        if not low <= plate.area_mm2 <= high or share < LEAST_SHARE:
            raise EndplatesNotFound(
                f"The surface that faces to the {name} end measures {plate.area_mm2:.0f} mm2, {share:.0%} of the mean "
                f"cross-section; an endplate has {low:.0f} to {high:.0f} mm2 and at least {LEAST_SHARE:.0%}. Is the "
                "mask a vertebral body, whole and upright?"
            )


def _edge_heights(
    superior: Endplate, inferior: Endplate, centres: Doubles, areas: Doubles, axis: Doubles
) -> tuple[float, float, float]:
    """Return the distance of the endplates along the axis in three thirds from front to back."""
    back = np.array([0.0, 1.0, 0.0]) - axis[1] * axis
    back /= np.linalg.norm(back)
    top, bottom = (centres[plate.faces] for plate in (superior, inferior))
    ends = [(float((part @ back).min()), float((part @ back).max())) for part in (top, bottom)]
    start, stop = max(low for low, _ in ends), min(high for _, high in ends)
    heights = []
    for third in range(3):
        low, high = (start + (stop - start) * (third + n) / 3 for n in (0, 1))
        level = [
            _mean_level(centres[plate.faces], areas[plate.faces], axis, back, low, high)
            for plate in (superior, inferior)
        ]
        heights.append(level[0] - level[1])
    return (heights[0], heights[1], heights[2])


def _mean_level(centres: Doubles, areas: Doubles, axis: Doubles, back: Doubles, low: float, high: float) -> float:
    """Return the mean place along the axis of the triangles between two places along ``back``, NaN without any."""
    inside = (centres @ back >= low) & (centres @ back <= high)
    weight = areas[inside]
    return float(weight @ (centres[inside] @ axis) / weight.sum()) if weight.sum() > 0 else float("nan")


def _degrees(cosine: float) -> float:
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _point(vector: Doubles) -> Point:
    x, y, z = (float(v) for v in vector)
    return (x, y, z)
