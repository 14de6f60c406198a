"""Meshes seen by a parallel camera, off screen: a picture without words, and where every point lies on it.

Points are LPS mm as ``fe`` gives them: x to the patient's left, y to the back, z to the head. Words, scales and
letters are drawn around the picture by ``dicom_node.strength.plates``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dicom_node.strength.graphics import pyvista

Doubles = NDArray[np.float64]
Point3 = tuple[float, float, float]

LONGEST_PIXELS = 1000
MARGIN = 1.06
"""Room around the parts."""

SLIMMEST = 0.75
"""Least width of a picture over its height: room for words beside a bone."""

HEXAHEDRON = 12
"""VTK's number of the cell type."""

AMBIENT, DIFFUSE = 0.45, 0.55
"""Enough light everywhere that shade does not change what a colour says; together 1, the colour itself."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Where a picture is seen from.

    Attributes
    ----------
    name
        For its caption, for example ``from the front``.
    sight, up
        LPS unit vectors: into the picture, and up in it.
    """

    name: str
    sight: Point3
    up: Point3 = (0.0, 0.0, 1.0)

    @property
    def right(self) -> Doubles:
        """LPS unit vector to the right in the picture."""
        return np.cross(self.sight, self.up)

    @property
    def is_straight(self) -> bool:
        """Whether it looks along an axis of the patient."""
        return max(abs(one) for one in self.sight) == 1.0


FRONT = Camera("from the front", (0.0, 1.0, 0.0))
BACK = Camera("from behind", (0.0, -1.0, 0.0))
FROM_LEFT = Camera("from the patient's left", (-1.0, 0.0, 0.0))
FROM_RIGHT = Camera("from the patient's right", (1.0, 0.0, 0.0))
ABOVE = Camera("from above", (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
OBLIQUE = Camera("from the front, left and above", (-0.48, 0.72, -0.5), (-0.277, 0.416, 0.866))
CAMERAS = (FRONT, BACK, FROM_LEFT, FROM_RIGHT, ABOVE)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One mesh of a scene.

    Attributes
    ----------
    mesh
        Anything PyVista draws.
    values
        Name of the values that colour it; without, ``colour`` does.
    colours, limits, is_log
        Colour map, the values at its ends, and whether it is logarithmic.
    colour, opacity
        Of a mesh without values.
    is_smooth
        Whether light follows the surface as if it had no facets.
    is_lit
        False for a flat cut, whose colours then are those of the scale.
    """

    mesh: Any = field(repr=False)
    values: str | None = None
    colours: Any = "inferno"
    limits: tuple[float, float] = (0.0, 1.0)
    is_log: bool = False
    colour: str = "lightgrey"
    opacity: float = 1.0
    is_smooth: bool = True
    is_lit: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A rendered picture and its geometry.

    Attributes
    ----------
    rgb : (row, column, 3) uint8 array
    width_mm, height_mm
        What the picture shows.
    camera
        Where it was seen from.
    centre_mm
        Point in the middle of the picture.
    """

    rgb: NDArray[np.uint8] = field(repr=False)
    width_mm: float
    height_mm: float
    camera: Camera
    centre_mm: Doubles

    def place(self, point_mm: ArrayLike) -> tuple[float, float]:
        """Return (right, up) mm from the picture's centre."""
        offset = np.asarray(point_mm, dtype=np.float64) - self.centre_mm
        return float(offset @ self.camera.right), float(offset @ np.array(self.camera.up))


def render(parts: Sequence[Part], camera: Camera) -> View:
    """Draw parts on white, seen by a parallel camera that holds all of them.

    Parameters
    ----------
    parts
        At least one.
    camera
        Direction of sight.
    """
    pv = pyvista()
    axes = np.array([camera.right, camera.up])
    corners = np.concatenate([_corners(part.mesh.bounds) for part in parts])
    low, high = (corners @ axes.T).min(axis=0), (corners @ axes.T).max(axis=0)
    width_mm, height_mm = (high - low) * MARGIN
    width_mm = max(width_mm, SLIMMEST * height_mm)
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    centre += axes.T @ ((low + high) / 2 - axes @ centre)
    per_mm = LONGEST_PIXELS / max(width_mm, height_mm)
    size = [max(2, round(width_mm * per_mm)), max(2, round(height_mm * per_mm))]
    plotter = pv.Plotter(off_screen=True, window_size=size, lighting="light kit")
    try:
        plotter.set_background("white")
        for part in parts:
            _add(plotter, part)
        plotter.enable_parallel_projection()
        distance = 2 * float(np.linalg.norm(corners.max(axis=0) - corners.min(axis=0)))
        plotter.camera.position = centre - distance * np.array(camera.sight)
        plotter.camera.focal_point = centre
        plotter.camera.up = camera.up
        plotter.camera.parallel_scale = size[1] / per_mm / 2
        plotter.reset_camera_clipping_range()
        plotter.enable_anti_aliasing("ssaa")
        rgb = np.asarray(plotter.screenshot(return_img=True))[..., :3].copy()
    finally:
        plotter.close()
    return View(rgb, size[0] / per_mm, size[1] / per_mm, camera, centre)


def surface(grid: Any) -> Any:
    """Return the outer surface of a grid with its values; the steps of bricks are rounded, for the eye only."""
    outside = grid.extract_surface(algorithm="dataset_surface", nonlinear_subdivision=1)
    if grid.celltypes[0] == HEXAHEDRON:
        return outside.smooth_taubin(n_iter=20, pass_band=0.08)
    return outside


def arrow(tip_mm: ArrayLike, direction: ArrayLike, length_mm: float) -> Any:
    """Return an arrow that ends at a point."""
    towards = np.asarray(direction, dtype=np.float64)
    start = np.asarray(tip_mm) - length_mm * towards
    return pyvista().Arrow(
        start=start, direction=towards, scale=length_mm, tip_length=0.3, tip_radius=0.1, shaft_radius=0.04
    )


def ground(point_mm: ArrayLike, normal: ArrayLike, radius_mm: float) -> Any:
    """Return a thin disc that touches a point from the side its normal points away from."""
    away = np.asarray(normal, dtype=np.float64)
    thickness_mm = 2.0
    return pyvista().Cylinder(
        center=np.asarray(point_mm) - away * thickness_mm / 2,
        direction=away,
        radius=radius_mm,
        height=thickness_mm,
        resolution=72,
    )


def section(grid: Any, axis: Literal["x", "y", "z"], at_mm: float | None = None) -> Any:
    """Return the cells of a grid behind a plane, as a surface: a cut that shows whole cells.

    Parameters
    ----------
    grid
        Cells with values.
    axis
        The plane's normal; what lies to the patient's right, in front, or above is taken away.
    at_mm
        Where the plane is; the middle of the grid when left out.
    """
    place = "xyz".index(axis)
    middle = grid.center[place] if at_mm is None else at_mm
    centres = grid.cell_centers().points[:, place]
    kept = centres <= middle if axis == "z" else centres >= middle
    return grid.extract_cells(np.flatnonzero(kept)).extract_surface(algorithm="dataset_surface")


def best_camera(mesh: Any, point_mm: ArrayLike, cameras: Sequence[Camera], slack_mm: float) -> Camera:
    """Return the camera that looks most directly at a place of a surface, of those that see it if any does.

    Parameters
    ----------
    mesh
        The surface.
    point_mm
        The place, at most ``slack_mm`` below the surface.
    cameras
        To choose from.
    slack_mm
        As for ``is_seen``.
    """
    facets = mesh.compute_normals(cell_normals=True, point_normals=False)
    outward = np.asarray(facets.cell_data["Normals"][facets.find_closest_cell(point_mm)])

    def merit(camera: Camera) -> tuple[bool, float]:
        return is_seen(mesh, point_mm, camera, slack_mm), -float(outward @ np.array(camera.sight))

    return max(cameras, key=merit)


def is_seen(mesh: Any, point_mm: ArrayLike, camera: Camera, slack_mm: float) -> bool:
    """Whether nothing of a surface lies more than a slack before a point."""
    point = np.asarray(point_mm, dtype=np.float64)
    towards_eye = -np.array(camera.sight)
    hits, _ = mesh.ray_trace(point + slack_mm * towards_eye, point + (slack_mm + mesh.length) * towards_eye)
    return len(hits) == 0


def _corners(bounds: Sequence[float]) -> Doubles:
    x, y, z = (bounds[0:2], bounds[2:4], bounds[4:6])
    return np.array([[a, b, c] for a in x for b in y for c in z], dtype=np.float64)


def _add(plotter: Any, part: Part) -> None:
    look = {"ambient": AMBIENT, "diffuse": DIFFUSE, "specular": 0.0, "smooth_shading": part.is_smooth}
    look["lighting"] = part.is_lit
    if part.values is None:
        plotter.add_mesh(part.mesh, color=part.colour, opacity=part.opacity, **look)
        return
    plotter.add_mesh(
        part.mesh,
        scalars=part.values,
        cmap=part.colours,
        clim=part.limits,
        log_scale=part.is_log,
        show_scalar_bar=False,
        copy_mesh=True,
        **look,
    )
