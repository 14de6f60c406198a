"""Structured blocks of tetrahedra for model problems: a unit cube cut into tetrahedra, then mapped.

Each cube of the grid becomes six tetrahedra around its diagonal (Kuhn's cut), so that neighbours fit and planes of
constant coordinate are planes of faces. Mid-edge nodes are mapped like the others: edges follow curved boundaries.
"""

from collections.abc import Callable
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from fe.tetra.mesh import TetMesh, quadratic_mesh, tet_mesh

Doubles = NDArray[np.float64]
Map = Callable[[Doubles], Doubles]


def block_corners(counts: tuple[int, int, int]) -> tuple[Doubles, NDArray[np.int64]]:
    """Return the points (n, 3) of a unit cube cut into ``counts`` (x, y, z) cells, and its linear tetrahedra (m, 4)."""
    nx, ny, nz = counts
    places = np.indices((nx + 1, ny + 1, nz + 1)).reshape(3, -1).T
    number = np.arange(len(places)).reshape(nx + 1, ny + 1, nz + 1)
    cells = np.indices(counts).reshape(3, -1).T
    corners = []
    for axes in permutations(range(3)):
        step = np.zeros((4, 3), dtype=np.int64)
        for n, axis in enumerate(axes, 1):
            step[n] = step[n - 1]
            step[n, axis] = 1
        at = cells[:, None, :] + step
        corners.append(number[at[..., 0], at[..., 1], at[..., 2]])
    return places / np.array(counts, dtype=float), np.concatenate(corners)


def block_mesh(counts: tuple[int, int, int], mapping: Map) -> TetMesh:
    """Return a mapped block of quadratic tetrahedra.

    Parameters
    ----------
    counts
        Cells along (x, y, z).
    mapping
        Points (n, 3) of the unit cube to mm.
    """
    return _mapped(*block_corners(counts), mapping)


def ball_octant_mesh(count: int, radius_mm: float) -> TetMesh:
    """Return the octant x, y, z >= 0 of a ball, centred on the origin, with ``count`` shells of equal thickness.

    The simplex 1 >= x >= y >= z >= 0 of the block is mapped to the octant; planes of constant x become spheres.
    """
    points, corners = block_corners((count, count, count))
    centre = points[corners].mean(axis=1)
    corners = corners[(centre[:, 0] > centre[:, 1]) & (centre[:, 1] > centre[:, 2])]
    used, corners = np.unique(corners, return_inverse=True)

    def mapping(place: Doubles) -> Doubles:
        direction = np.column_stack((place[:, 0] - place[:, 1], place[:, 1] - place[:, 2], place[:, 2]))
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        return radius_mm * place[:, :1] * direction / np.where(length > 0, length, 1.0)

    return _mapped(points[used], corners.reshape(-1, 4), mapping)


def _mapped(points: Doubles, corners: NDArray[np.int64], mapping: Map) -> TetMesh:
    straight = quadratic_mesh(points, corners)
    return tet_mesh(mapping(straight.nodes_mm), straight.elements)
