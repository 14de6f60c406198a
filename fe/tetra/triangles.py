"""Closed surfaces of triangles: what they enclose, whether they are closed, and mending them.

Points are (n, 3) arrays, triangles (m, 3) numbers of points, counter-clockwise from outside.
"""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fe.errors import BadMesh, MissingTool

Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]

VOLUME_TOLERANCE = 1e-6
"""Relative error of a volume that was set."""


def is_closed(triangles: NDArray[np.integer]) -> bool:
    """Return whether every edge joins exactly two triangles that turn the same way round."""
    ends = np.concatenate([triangles[:, (a, b)] for a, b in ((0, 1), (1, 2), (2, 0))]).astype(np.int64)
    key = ends[:, 0] * (int(triangles.max()) + 1) + ends[:, 1]
    back = ends[:, 1] * (int(triangles.max()) + 1) + ends[:, 0]
    return len(np.unique(key)) == len(key) and bool(np.isin(back, key).all())


def enclosed_mm3(points_mm: Doubles, triangles: NDArray[np.integer]) -> float:
    """Return the volume inside a closed surface, positive when triangles turn counter-clockwise from outside."""
    a, b, c = (points_mm[triangles[:, n]] for n in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def repaired(points: Doubles, triangles: NDArray[np.integer]) -> tuple[Doubles, Ints]:
    """Return the surface closed and free of self-intersections, by MeshFix [Attene2010].

    Raises
    ------
    MissingTool
        MeshFix is not installed.
    BadMesh
        It did not succeed.
    """
    try:
        library = import_module("pymeshfix")
    except ImportError as error:
        raise MissingTool("The surface has defects that need MeshFix: pip install pymeshfix.") from error
    tool = library.MeshFix(np.ascontiguousarray(points), np.ascontiguousarray(triangles, dtype=np.int32))
    tool.repair()
    faces: Ints = np.asarray(tool.faces, dtype=np.int32)
    if len(faces) == 0 or not is_closed(faces):
        raise BadMesh("The surface of the mask is not closed, and MeshFix could not mend it.")
    return np.asarray(tool.points, dtype=np.float64), faces


def turned_outside(points: Doubles, triangles: NDArray[np.integer]) -> tuple[Doubles, Ints]:
    """Return the surface without points that no triangle uses, its triangles counter-clockwise from outside."""
    numbers, renumbered = np.unique(triangles, return_inverse=True)
    points, faces = points[numbers], renumbered.reshape(-1, 3).astype(np.int32)
    return points, faces if enclosed_mm3(points, faces) > 0 else faces[:, ::-1]


def largest_part(points: Doubles, triangles: Ints) -> tuple[Doubles, Ints]:
    """Return the connected part with the most triangles, turned outside."""
    graph = coo_array(
        (np.ones(2 * len(triangles), dtype=np.int8), (triangles[:, (0, 1)].ravel(), triangles[:, (1, 2)].ravel())),
        shape=(len(points), len(points)),
    )
    count, label = connected_components(graph, directed=False)
    if count > 1:
        of_triangle = label[triangles[:, 0]]
        triangles = triangles[of_triangle == np.bincount(of_triangle).argmax()]
    return turned_outside(points, triangles)


def with_volume(points: Doubles, triangles: Ints, volume_mm3: float) -> Doubles:
    """Return the points moved along their normals until the surface encloses the volume (Newton's method)."""
    normals = vertex_normals(points, triangles)
    for _ in range(10):
        error = enclosed_mm3(points, triangles) - volume_mm3
        if abs(error) <= VOLUME_TOLERANCE * volume_mm3:
            break
        points = points - error / area_mm2(points, triangles) * normals
    return points


def vertex_normals(points: Doubles, triangles: Ints) -> Doubles:
    """Return outward unit normals at the vertices, averaged by area."""
    a, b, c = (points[triangles[:, n]] for n in range(3))
    of_triangle = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for n in range(3):
        np.add.at(normals, triangles[:, n], of_triangle)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(float).tiny))


def area_mm2(points: Doubles, triangles: Ints) -> float:
    """Return the area of all triangles."""
    a, b, c = (points[triangles[:, n]] for n in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def edge_lengths_mm(points: Doubles, triangles: Ints) -> Doubles:
    """Return the lengths (3 triangles,) of the edges, each once per triangle."""
    a, b, c = (points[triangles[:, n]] for n in range(3))
    return np.concatenate([np.linalg.norm(q - p, axis=1) for p, q in ((a, b), (b, c), (c, a))])


def polydata(points: Doubles, triangles: Ints) -> Any:
    """Return the surface as PyVista's."""
    return import_module("pyvista").PolyData.from_regular_faces(points, triangles)


def distances_mm(points: Doubles, triangles: Ints, places: Doubles) -> Doubles:
    """Return the distances of places from a surface."""
    import pyvista

    surface = polydata(points, triangles)
    measured = pyvista.PolyData(places).compute_implicit_distance(surface)
    return np.abs(np.asarray(measured["implicit_distance"], dtype=np.float64))
