"""The statistical shape model of pelvis and femur: loading it, and drawing people from it.

LLP26 [Zhang2016] describes pelvis, left femur, patella, tibia and fibula of 26 people by corresponding nodes and
their principal components. Its axes are those of the patient (LPS): x to the left, y to the back, z to the
head, in mm. The right femur is the mirrored left one, perturbed a little on its own.

A drawn person stands in a frame of its own: origin midway between the hip joints, x through both of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.transform import Rotation

from dicom_node.errors import ConfigurationError
from dicom_node.training.shapes.gias import read_components, read_topology, surface_operator

COMPONENTS_FILE = "LLP26_rigid.pc"
PELVIS_FILES = ("pelvis_combined_cubic_flat.mesh", "pelvis_combined_cubic_flat.ens")
FEMUR_FILES = ("femur_left_quartic_flat.mesh", "femur_left_quartic_flat.ens")

FEMUR_FIRST_NODE = 1946
"""The components' points are those of the pelvis, then those of the left femur (equal to the mean meshes to 1e-12)."""

PELVIS_PARTS: dict[str, slice] = {
    "hip_right": slice(0, 540),
    "hip_left": slice(540, 1080),
    "sacrum": slice(1080, 1946),
}
"""Nodes of each connected part of the pelvis mesh; node k of the right hip bone is node k + 540 of the left."""

SIDES = ("right", "left")

HEAD_NODES = 121
"""The femur mesh's first eight elements, with these nodes, are the head: a sphere fits them to 0.4 mm on average."""

SOCKET_RADIUS_MM = 25.0
SOCKET_BANDS_MM = (9.0, 6.0, 4.0, 3.0, 3.0, 3.0)
"""First guess of the acetabulum's radius, and how far a point of it may be off the fitted ball, step by step."""

ENDPLATE_NORMAL = (0.0, -0.77, 0.64)
ENDPLATE_HALF_MM = 16.0
"""Where the mean sacrum's endplate looks, and half the width of the strip of it that counts."""

SYMPHYSIS_MM = 3.0
"""Least gap between the hip bones in front (the mean person's is 4 mm; some drawn ones would overlap)."""

HIP_DISTANCE_MM = 162.4
"""Between the hip joints of the mean person."""

KNEE_MM = 40.0
"""The lowest part of the femur, whose middle is taken for the knee."""

SUBDIVISIONS = 2
"""Each step between nodes (4 to 15 mm) is halved: the facets then stay within about 0.5 mm of the curved elements."""

CLIP_SD = 2.5
COMPONENT_COUNT = 15
"""The first 15 of 25 components hold 96 % of the variance; the others are mostly noise of 26 people."""

MIRROR_SD = 0.15
"""How much the right femur's coefficients differ from the left one's, in standard deviations [m assumption]."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A closed triangulated surface, its normals pointing outwards.

    Attributes
    ----------
    points_mm : (n, 3)
        Points (x, y, z), LPS.
    triangles : (t, 3)
        Point numbers.
    """

    points_mm: NDArray[np.float64]
    triangles: NDArray[np.intp]

    def moved(self, points_mm: NDArray[np.float64]) -> "Surface":
        """Return the same triangles on other points."""
        return Surface(points_mm, self.triangles)


@dataclass(frozen=True, slots=True)
class Sphere:
    """A ball that fits a joint surface."""

    centre_mm: NDArray[np.float64]
    radius_mm: float


@dataclass(frozen=True, slots=True)
class Person:
    """One drawn skeleton.

    Attributes
    ----------
    bones
        ``hip_right``, ``hip_left`` and ``sacrum`` in the pelvis's frame; ``femur_right`` and ``femur_left`` in
        their neutral rotation with the head's centre at the origin.
    sockets
        Where each femur's head belongs, and the radius of the acetabulum, by the femur's key.
    heads_mm
        The radius of each femur's head.
    size
        The distance between the hip joints relative to the mean person's.
    """

    bones: dict[str, Surface]
    sockets: dict[str, Sphere]
    heads_mm: dict[str, float]
    size: float


@dataclass(frozen=True, slots=True)
class ShapeModel:
    """LLP26's pelvis and femur as closed surfaces that are linear in the coefficients.

    Attributes
    ----------
    means_mm, modes_mm
        By bone: (n, 3) and (m, n, 3), one standard deviation each.
    triangles
        By bone: (t, 3).
    head_points
        Points of the femur's surface that lie on the head.
    socket_points
        Points of each hip bone's surface that lie on the acetabulum, by the hip bone's key.
    endplate_points
        Points of the sacrum's surface that lie on its upper endplate.
    """

    means_mm: dict[str, NDArray[np.float64]]
    modes_mm: dict[str, NDArray[np.float64]]
    triangles: dict[str, NDArray[np.intp]]
    head_points: NDArray[np.intp]
    socket_points: dict[str, NDArray[np.intp]]
    endplate_points: NDArray[np.intp]

    @classmethod
    def load(cls, folder: Path) -> "ShapeModel":
        """Read the model from the folder that holds its component, mesh and element files.

        Raises
        ------
        ConfigurationError
            When a file is missing or not what is expected.
        """
        components = read_components(folder / COMPONENTS_FILE)
        means, modes, triangles = {}, {}, {}
        for (mesh, ensemble), first, parts in (
            (PELVIS_FILES, 0, PELVIS_PARTS),
            (FEMUR_FILES, FEMUR_FIRST_NODE, {"femur_left": slice(0, None)}),
        ):
            topology = read_topology(folder / mesh, folder / ensemble)
            nodes = slice(first, first + topology.node_count)
            if nodes.stop > len(components.mean_mm):
                raise ConfigurationError(f"{mesh} has more nodes than {COMPONENTS_FILE} describes")
            operator, faces = surface_operator(topology, SUBDIVISIONS)
            for key, part in parts.items():
                rows = _rows_of(operator, part)
                number = np.cumsum(rows) - 1
                means[key] = operator[rows] @ components.mean_mm[nodes]
                modes[key] = np.stack([operator[rows] @ mode[nodes] for mode in components.modes_mm[:COMPONENT_COUNT]])
                triangles[key] = number[faces[rows[faces[:, 0]]]]
        head = np.flatnonzero(~_rows_of(operator, slice(HEAD_NODES, None)))
        sockets = _socket_points(means, triangles, head)
        return cls(means, modes, triangles, head, sockets, _endplate_points(means["sacrum"], triangles["sacrum"]))

    def sample(self, generator: np.random.Generator, sd: float = 1.0) -> Person:
        """Draw one person.

        Parameters
        ----------
        generator
            The source of all randomness.
        sd
            Spread of the coefficients in standard deviations; 0 gives the mean person.
        """
        count = len(self.modes_mm["sacrum"])
        own = np.clip(generator.normal(0.0, 1.0, count) * sd, -CLIP_SD, CLIP_SD)
        other = np.clip(own + generator.normal(0.0, MIRROR_SD, count) * sd, -CLIP_SD, CLIP_SD)
        hips = {key: self._points(key, own) for key in ("hip_right", "hip_left", "sacrum")}
        balls = {side: fitted_sphere(hips[f"hip_{side}"][self.socket_points[f"hip_{side}"]]) for side in SIDES}
        to_frame = _pelvis_frame(balls["right"].centre_mm, balls["left"].centre_mm)
        framed = _parted({key: to_frame(points) for key, points in hips.items()})
        bones = {key: Surface(points, self.triangles[key]) for key, points in framed.items()}
        sockets = {f"femur_{side}": Sphere(to_frame(ball.centre_mm), ball.radius_mm) for side, ball in balls.items()}
        heads = {}
        for key, coefficients in (("femur_left", own), ("femur_right", other)):
            bones[key], heads[key] = self._femur(key, coefficients)
        return Person(bones, sockets, heads, 2 * float(sockets["femur_left"].centre_mm[0]) / HIP_DISTANCE_MM)

    def _points(self, key: str, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.means_mm[key] + np.tensordot(coefficients, self.modes_mm[key], 1)

    def _femur(self, key: str, coefficients: NDArray[np.float64]) -> tuple[Surface, float]:
        """Return a femur with its head at the origin and its knee straight below in the side view."""
        points = self._points("femur_left", coefficients)
        head = fitted_sphere(points[self.head_points])
        points = points - head.centre_mm
        _, y, z = points[points[:, 2] < points[:, 2].min() + KNEE_MM].mean(axis=0)
        points = points @ Rotation.from_euler("x", -np.arctan2(y, -z)).as_matrix().T
        triangles = self.triangles["femur_left"]
        if key == "femur_right":
            points, triangles = points * (-1.0, 1.0, 1.0), triangles[:, ::-1]
        return Surface(points, triangles), head.radius_mm


def fitted_sphere(points_mm: NDArray[np.float64]) -> Sphere:
    """Return the ball whose surface is nearest to the points in the algebraic sense.

    Parameters
    ----------
    points_mm : (n, 3)
        At least four points that are not in one plane.
    """
    system = np.column_stack([2 * points_mm, np.ones(len(points_mm))])
    solution, *_ = np.linalg.lstsq(system, (points_mm**2).sum(axis=1), rcond=None)
    centre = solution[:3]
    return Sphere(centre, float(np.sqrt(solution[3] + centre @ centre)))


def vertex_normals(surface: Surface) -> NDArray[np.float64]:
    """Return the outward unit normal at every point, (n, 3)."""
    corners = surface.points_mm[surface.triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(surface.points_mm)
    for k in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(surface.triangles[:, k], faces[:, axis], len(normals))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _rows_of(operator: sparse.csr_array, nodes: slice) -> NDArray[np.bool_]:
    """Tell which finer points depend on any of the nodes."""
    return np.asarray(abs(operator[:, nodes]).sum(axis=1)).ravel() > 0


def _parted(bones_mm: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Keep the two hip bones apart at the symphysis: half the gap on each side of the middle between them."""
    middle = (bones_mm["hip_right"][:, 0].max() + bones_mm["hip_left"][:, 0].min()) / 2
    right, left = bones_mm["hip_right"].copy(), bones_mm["hip_left"].copy()
    np.minimum(right[:, 0], middle - SYMPHYSIS_MM / 2, out=right[:, 0])
    np.maximum(left[:, 0], middle + SYMPHYSIS_MM / 2, out=left[:, 0])
    return bones_mm | {"hip_right": right, "hip_left": left}


def _pelvis_frame(
    right_mm: NDArray[np.float64], left_mm: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the map into the frame of the two hip joints, with as little turning as that takes."""
    x = (left_mm - right_mm) / np.linalg.norm(left_mm - right_mm)
    z = np.array([0.0, 0.0, 1.0]) - x[2] * x
    z /= np.linalg.norm(z)
    axes = np.stack([x, np.cross(z, x), z])
    middle = (right_mm + left_mm) / 2
    return lambda points: (points - middle) @ axes.T


def _socket_points(
    means_mm: dict[str, NDArray[np.float64]], triangles: dict[str, NDArray[np.intp]], head: NDArray[np.intp]
) -> dict[str, NDArray[np.intp]]:
    """Find the acetabulum of each mean hip bone: what looks at the joint's centre from one distance."""
    left = fitted_sphere(means_mm["femur_left"][head]).centre_mm
    middle = (means_mm["hip_left"][:, 0].mean() + means_mm["hip_right"][:, 0].mean()) / 2
    starts = {"hip_left": left, "hip_right": left * (-1, 1, 1) + (2 * middle, 0, 0)}
    found = {}
    for key, start in starts.items():
        surface = Surface(means_mm[key], triangles[key])
        normals = vertex_normals(surface)
        ball = Sphere(start, SOCKET_RADIUS_MM)
        for band_mm in SOCKET_BANDS_MM:
            inwards = ball.centre_mm - surface.points_mm
            distance = np.linalg.norm(inwards, axis=1)
            facing = np.einsum("ij,ij->i", normals, inwards) > 0.8 * distance
            points = np.flatnonzero(facing & (np.abs(distance - ball.radius_mm) < band_mm))
            if len(points) < 20:
                raise ConfigurationError(f"No acetabulum was found on the shape model's {key.replace('_', ' ')}")
            ball = fitted_sphere(surface.points_mm[points])
        found[key] = points
    return found


def _endplate_points(sacrum_mm: NDArray[np.float64], triangles: NDArray[np.intp]) -> NDArray[np.intp]:
    """Find the mean sacrum's upper endplate: its flat surface in the middle that looks up and forward."""
    normals = vertex_normals(Surface(sacrum_mm, triangles))
    sideways = np.abs(sacrum_mm[:, 0] - np.median(sacrum_mm[:, 0]))
    faces = normals @ ENDPLATE_NORMAL > 0.93
    points = np.flatnonzero(faces & (sideways < ENDPLATE_HALF_MM))
    front = sacrum_mm[points, 1].min()
    points = points[sacrum_mm[points, 1] < front + 2 * ENDPLATE_HALF_MM]
    if len(points) < 10:
        raise ConfigurationError("No upper endplate was found on the shape model's sacrum")
    return points
