"""From a mask to a smooth closed surface of triangles with one edge length.

1. Keep the mask's largest face-connected part, close its cavities, pad it (a mask may touch the array's edge).
2. Signed distance to the voxels' border in mm, smoothed by a fraction of a voxel along each axis, resampled to a step
   between 1/6 and 1/2.5 of the edge: staircases go, whatever the spacing.
3. The level of that field that encloses the mask's own volume, as triangles (marching cubes).
4. Clusters of equal area become the vertices of a new surface [Valette2004], which are moved along their normals until
   the volume is the mask's again.
5. The result is closed, manifold and turned outside, or it is an error; MeshFix repairs it where it is installed.

How far the surface lies from the mask's border is measured and part of the result.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from fe.errors import BadMask, BadSpacing, EmptyMask, MissingTool, TooThin
from fe.tetra.triangles import (
    area_mm2,
    distances_mm,
    edge_lengths_mm,
    enclosed_mm3,
    is_closed,
    largest_part,
    polydata,
    repaired,
    turned_outside,
    with_volume,
)

Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

SMOOTHING_VOXELS = 0.7
"""Standard deviation of the Gaussian on the distance, in voxels of each axis. On a ball of 24 mm it leaves a roughness
of a tenth of a voxel (r.m.s.); 0.5 leaves half as much again, and 1.0 flattens edges and valleys for little gain
[measured, docs/methods/tetrahedra.md]."""

STEPS_PER_EDGE = (2.5, 6.0)
"""The field's step is at most 1/2.5 of the edge, so that at least six vertices of marching cubes make one cluster, and
need not be finer than a sixth [project's assumption]."""

KEPT_VOLUME = 0.95
"""A surface that encloses less than this fraction of the mask lost a part to smoothing: too thin for the scan's voxels
[project's assumption]."""


@dataclass(frozen=True, slots=True)
class BoneSurface:
    """A closed surface, and what became of the mask.

    Attributes
    ----------
    points_mm : (vertices, 3) array
        LPS (x, y, z), relative to the centre of voxel (0, 0, 0).
    triangles : (triangles, 3) int array
        Counter-clockwise from outside.
    edge_mm
        Mean edge length.
    volume_mm3, mask_volume_mm3
        Enclosed by the surface; of the mask's largest part with its cavities.
    mean_distance_mm, distance95_mm, max_distance_mm
        Distances of the centres of the mask's outer voxel faces from the surface.
    islands, dropped_voxels
        Parts of the mask that were left out, and the voxels in them.
    filled_voxels
        Voxels of cavities that were closed.
    is_repaired
        MeshFix had to mend the surface.
    """

    points_mm: Doubles
    triangles: Ints
    edge_mm: float
    volume_mm3: float
    mask_volume_mm3: float
    mean_distance_mm: float
    distance95_mm: float
    max_distance_mm: float
    islands: int
    dropped_voxels: int
    filled_voxels: int
    is_repaired: bool


def bone_surface(mask: Bools, spacing_mm: tuple[float, float, float], edge_mm: float) -> BoneSurface:
    """Return the smooth closed surface of a mask.

    Parameters
    ----------
    mask : (slice, row, column) bool array
        The bone.
    spacing_mm
        Voxel spacing along (slice, row, column).
    edge_mm
        Edge of the triangles.

    Raises
    ------
    BadMask, EmptyMask, BadSpacing
        The input cannot describe a bone.
    TooThin
        The bone is thinner than the edge, or smoothing takes half of it away.
    BadMesh
        The surface is not closed, and MeshFix could not mend it.
    MissingTool
        PyVista or pyacvd is not installed.
    """
    _check(mask, spacing_mm, edge_mm)
    body, corner, islands, dropped, filled = _body(mask)
    spacing = np.array(spacing_mm, dtype=float)
    distance = _signed_distance(body, spacing)
    if 2 * distance.max() < edge_mm:
        raise TooThin(
            f"The bone is at most {2 * distance.max():.1f} mm thick, less than the edge of {edge_mm:.1f} mm: "
            "use a smaller edge."
        )
    volume = float(body.sum() * spacing.prod())
    points, triangles = _level_surface(_smooth_field(distance, spacing, edge_mm, volume), volume)
    points, triangles = _uniform(points, triangles, edge_mm)
    is_repaired = not is_closed(triangles)
    if is_repaired:
        points, triangles = repaired(points, triangles)
    points = with_volume(points, triangles, volume)
    points = (points + corner * spacing)[:, ::-1]
    triangles = triangles[:, ::-1]
    away = distances_mm(points, triangles, _outer_faces(body, corner, spacing))
    return BoneSurface(
        points_mm=np.ascontiguousarray(points),
        triangles=np.ascontiguousarray(triangles, dtype=np.int32),
        edge_mm=float(edge_lengths_mm(points, triangles).mean()),
        volume_mm3=enclosed_mm3(points, triangles),
        mask_volume_mm3=volume,
        mean_distance_mm=float(away.mean()),
        distance95_mm=float(np.percentile(away, 95)),
        max_distance_mm=float(away.max()),
        islands=islands,
        dropped_voxels=dropped,
        filled_voxels=filled,
        is_repaired=is_repaired,
    )


def _check(mask: Bools, spacing_mm: tuple[float, float, float], edge_mm: float) -> None:
    lengths = np.array([*spacing_mm, edge_mm], dtype=float)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise BadSpacing(f"Spacing {tuple(spacing_mm)} mm and edge {edge_mm} mm must be positive lengths.")
    if mask.dtype != np.bool_ or mask.ndim != 3:
        raise BadMask(f"The mask must be a boolean volume; it is {mask.dtype} of shape {mask.shape}.")
    if not mask.any():
        raise EmptyMask("The mask holds no voxel.")


PADDING = 4
"""Empty voxels around the body: more than smoothing reaches."""


def _body(mask: Bools) -> tuple[Bools, Doubles, int, int, int]:
    """Return the padded largest part without cavities, its corner's index, islands, and voxels dropped and filled."""
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    largest = 1 + int(np.argmax(sizes))
    box = ndimage.find_objects(labels, max_label=largest)[largest - 1]
    body = np.pad(labels[box] == largest, PADDING)
    whole = ndimage.binary_fill_holes(body)
    corner = np.array([extent.start - PADDING for extent in box], dtype=float)
    return whole, corner, count - 1, int(sizes.sum() - sizes.max()), int(whole.sum() - body.sum())


def _signed_distance(body: Bools, spacing: Doubles) -> Doubles:
    """Return the distance (mm) to the border between inside and outside, positive inside.

    Distances are to the nearest voxel centre on the other side, less half of the smallest spacing: the border lies
    between the centres.
    """
    half = spacing.min() / 2
    inside, outside = (ndimage.distance_transform_edt(part, sampling=spacing) for part in (body, ~body))
    return np.where(body, inside - half, half - outside)


@dataclass(frozen=True, slots=True)
class _Field:
    """A smooth signed distance (mm, positive inside) on a grid, and the level that is the surface."""

    values: Doubles
    step_mm: Doubles
    level: float


def _smooth_field(distance: Doubles, spacing: Doubles, edge_mm: float, volume_mm3: float) -> _Field:
    """Return the smoothed and resampled distance with the level that encloses the volume."""
    coarsest, finest = (edge_mm / steps for steps in STEPS_PER_EDGE)
    step = np.clip(spacing, finest, coarsest)
    sigma = np.maximum(SMOOTHING_VOXELS * spacing, np.where(step > spacing, step / 2, 0.0))
    smooth = ndimage.gaussian_filter(distance, sigma / spacing)
    shape = np.maximum(np.ceil((np.array(smooth.shape) - 1) * spacing / step - ROUNDING).astype(int) + 1, 2)
    if tuple(shape) != smooth.shape:
        smooth = ndimage.zoom(smooth, shape / np.array(smooth.shape), order=3, mode="nearest")
    step = (np.array(distance.shape) - 1) * spacing / (np.array(smooth.shape) - 1)
    level = _level_of_volume(smooth, step, volume_mm3)
    if not smooth.min() < level < smooth.max():
        raise TooThin("Smoothing takes the bone away: it is about as thin as the voxels.")
    return _Field(smooth, step, level)


ROUNDING = 1e-6
"""Steps: a rounding error in the spacing must not resample a grid that fits."""


def _level_surface(field: _Field, volume_mm3: float) -> tuple[Doubles, Ints]:
    """Return the largest part of the level surface; points in mm along (slice, row, column), turned outside."""
    vertices, faces, _, _ = marching_cubes(field.values, field.level, spacing=tuple(field.step_mm))
    points, triangles = largest_part(np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int32))
    if enclosed_mm3(points, triangles) < KEPT_VOLUME * volume_mm3:
        raise TooThin("Smoothing tears the bone apart: it is about as thin as the voxels.")
    return points, triangles


BISECTIONS = 24
"""Halvings of the range of the field, some 100 mm: the level is found to 1e-5 mm."""


def _level_of_volume(smooth: Doubles, step: Doubles, volume_mm3: float) -> float:
    """Return the level above which the field encloses a volume.

    A cell whose centre is d inside the surface is filled by 1/2 + d / step: exact to second order, as the field's
    slope is near 1.
    """
    width = float(np.cbrt(step.prod()))
    low, high = float(smooth.min()), float(smooth.max())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        filled = float(np.clip(0.5 + (smooth - middle) / width, 0, 1).sum() * step.prod())
        low, high = (middle, high) if filled > volume_mm3 else (low, middle)
    return (low + high) / 2


EQUILATERAL_AREA = 3**0.5 / 2
"""Area per vertex of a surface of equilateral triangles, in squared edges: each vertex has two triangles."""

FEWEST_VERTICES = 20


ATTEMPTS = (1.0, 1.01, 0.99, 1.02, 0.98)
"""Shares of the number of vertices tried in turn: clusters that meet in a bad place leave a defect now and then, and
others do not [measured: one surface of about ten needs the second]."""


def _uniform(points: Doubles, triangles: Ints, edge_mm: float) -> tuple[Doubles, Ints]:
    """Return a surface of nearly equilateral triangles with a given edge, closed if one attempt is."""
    try:
        import pyacvd
        import pyvista
    except ImportError as error:
        raise MissingTool("Tetrahedra need PyVista and pyacvd: pip install 'osteonode[fe]'.") from error
    count = max(round(area_mm2(points, triangles) / (EQUILATERAL_AREA * edge_mm**2)), FEWEST_VERTICES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyvista.PyVistaDeprecationWarning)  # pyacvd 0.4 uses a renamed property
        clusters = pyacvd.Clustering(polydata(points, triangles))
        for share in ATTEMPTS:
            clusters.cluster(round(share * count))
            mesh = clusters.create_mesh(moveclus=False)
            surface = turned_outside(np.asarray(mesh.points, dtype=np.float64), np.asarray(mesh.regular_faces))
            if is_closed(surface[1]):
                break
    return surface


def _outer_faces(body: Bools, corner: Doubles, spacing: Doubles) -> Doubles:
    """Return the centres (n, 3) LPS mm of the voxel faces between inside and outside."""
    centres = []
    for axis in range(3):
        at = np.argwhere(np.diff(body.astype(np.int8), axis=axis)).astype(float)
        at[:, axis] += 0.5
        centres.append(at)
    return np.asarray(((np.concatenate(centres) + corner) * spacing)[:, ::-1])
