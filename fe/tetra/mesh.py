"""Quadratic tetrahedra: their nodes, their order, their boundary.

An element is 4 corners, then one node on each edge (0,1) (1,2) (0,2) (0,3) (1,3) (2,3): the order of VTK's quadratic
tetrahedron and of CalculiX' C3D10. Corner 3 lies on the side of the triangle (0, 1, 2) from which it turns
counter-clockwise, so that the volume is positive. Other programs use other orders (TetGen's is one), and a wrong one
still runs and answers with a bone several times too stiff; so ``tet_mesh`` holds every mesh against its geometry.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from fe.errors import BadMesh

Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]

EDGES = ((0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3))
"""Corners at the ends of the edges that carry nodes 4 to 9."""

FACES = ((1, 2, 3, 5, 9, 8), (0, 3, 2, 7, 9, 6), (0, 1, 3, 4, 8, 7), (0, 2, 1, 6, 5, 4))
"""Nodes of the face opposite corner 0 to 3: three corners, counter-clockwise from outside, then their mid-edges."""

CURVED_EDGE = 0.25
"""A mid-edge node may lie this fraction of the edge's length away from its middle: an arc of 90 degrees bulges 0.21,
while a node of another edge is at least 0.43 away in a tetrahedron with equal edges [derived]."""

SAMPLE = 1000
"""Elements from which an unknown order is read; all are held against it afterwards."""


@dataclass(frozen=True, slots=True)
class TetMesh:
    """Quadratic tetrahedra.

    Attributes
    ----------
    nodes_mm : (nodes, 3) array
        LPS (x, y, z), relative to the centre of the input's first voxel.
    elements : (elements, 10) int array
        Node numbers in the module's order.
    """

    nodes_mm: Doubles
    elements: Ints

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return len(self.nodes_mm)

    @property
    def element_count(self) -> int:
        """Number of elements."""
        return len(self.elements)

    def centres_mm(self) -> Doubles:
        """Return the mean of every element's corners, (elements, 3)."""
        return np.asarray(self.nodes_mm[self.elements[:, :4]].mean(axis=1))


def quadratic_mesh(nodes_mm: Doubles, corners: NDArray[np.integer]) -> TetMesh:
    """Return quadratic tetrahedra with straight edges from linear ones; their own nodes keep their numbers.

    Parameters
    ----------
    nodes_mm : (nodes, 3) array
        Points.
    corners : (elements, 4) int array
        Node numbers; elements that are inside out are turned.

    Raises
    ------
    BadMesh
        An element has no volume, a node does not exist, or nothing is left.
    """
    corners = _turned(np.asarray(nodes_mm, dtype=np.float64), np.array(corners, dtype=np.int64))
    ends = np.sort(corners[:, EDGES], axis=2).reshape(-1, 2)
    _, first, number = np.unique(ends[:, 0] * len(nodes_mm) + ends[:, 1], return_index=True, return_inverse=True)
    middles = nodes_mm[ends[first]].mean(axis=1)
    elements = np.hstack((corners, len(nodes_mm) + number.reshape(-1, len(EDGES))))
    return tet_mesh(np.concatenate((nodes_mm, middles)), elements)


def tet_mesh(nodes_mm: Doubles, elements: NDArray[np.integer]) -> TetMesh:
    """Return quadratic tetrahedra in the project's order, whatever the order of the mid-edge nodes given.

    1. The order is read from the geometry: which mid-edge node lies nearest to which edge's middle.
    2. Nodes are put into the project's order and unused ones dropped.
    3. Every mid-edge node of every element is held against its edge.

    Parameters
    ----------
    nodes_mm : (nodes, 3) array
        Points.
    elements : (elements, 10) int array
        4 corners, then 6 mid-edge nodes in one order for all elements. Edges may be curved.

    Raises
    ------
    BadMesh
        No order of the mid-edge nodes fits, an element is degenerate or inside out, or the arrays make no mesh.
    """
    nodes_mm = np.ascontiguousarray(nodes_mm, dtype=np.float64)
    elements = np.asarray(elements)
    _check_arrays(nodes_mm, elements)
    elements = np.hstack((elements[:, :4], elements[:, 4:][:, _mid_order(nodes_mm, elements[:SAMPLE])]))
    mesh = TetMesh(nodes_mm, elements.astype(np.int32))
    check_order(mesh)
    used = np.zeros(len(nodes_mm), dtype=bool)
    used[elements] = True
    if used.all():
        return mesh
    return TetMesh(nodes_mm[used], (np.cumsum(used) - 1)[elements].astype(np.int32))


def check_order(mesh: TetMesh) -> None:
    """Hold every mid-edge node against its edge, and every element's corners against their sense of rotation.

    Raises
    ------
    BadMesh
        A node lies further than ``CURVED_EDGE`` from the middle of its edge, or corners are inside out.
    """
    away = distances_from_middles(mesh.nodes_mm, mesh.elements).max(axis=1)
    if not (away <= CURVED_EDGE).all():
        raise BadMesh(
            f"{int((~(away <= CURVED_EDGE)).sum())} of {mesh.element_count} elements have a mid-edge node up to "
            f"{away.max():.2f} edge lengths away from the middle of its edge, {CURVED_EDGE} are allowed: the order "
            "of the nodes is wrong."
        )
    volume = corner_volumes_mm3(mesh.nodes_mm, mesh.elements)
    if not (volume > 0).all():
        raise BadMesh(f"{int((~(volume > 0)).sum())} of {mesh.element_count} elements are flat or inside out.")


def corner_volumes_mm3(nodes_mm: Doubles, elements: NDArray[np.integer]) -> Doubles:
    """Return the signed volumes of the tetrahedra between the corners."""
    corner = nodes_mm[elements[:, :4]]
    a, b, c = (corner[:, n] - corner[:, 0] for n in (1, 2, 3))
    return np.asarray(np.einsum("ij,ij->i", np.cross(a, b), c) / 6)


def boundary_faces(mesh: TetMesh) -> tuple[Ints, Ints]:
    """Return the faces that belong to one element only.

    Returns
    -------
    faces : (faces, 6) int array
        Three corners counter-clockwise from outside, then the nodes on their edges (0,1) (1,2) (2,0).
    elements : (faces,) int array
        The element behind each face.
    """
    every = mesh.elements[:, FACES].reshape(-1, 6)
    corners = np.sort(every[:, :3], axis=1).astype(np.int64)
    key = (corners[:, 0] * mesh.node_count + corners[:, 1]) * mesh.node_count + corners[:, 2]
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    alone = np.sort(first[count == 1])
    return every[alone], (alone // len(FACES)).astype(np.int32)


def _turned(nodes_mm: Doubles, corners: NDArray[np.int64]) -> NDArray[np.int64]:
    if corners.ndim != 2 or corners.shape[1] != 4 or corners.size == 0:
        raise BadMesh(f"Corners of shape {corners.shape} found, (elements, 4) expected.")
    _check_nodes(nodes_mm, corners)
    inside_out = corner_volumes_mm3(nodes_mm, corners) < 0
    corners[inside_out] = corners[inside_out][:, (1, 0, 2, 3)]
    return corners


def _check_arrays(nodes_mm: Doubles, elements: NDArray[np.integer]) -> None:
    if elements.ndim != 2 or elements.shape[1] != 10 or elements.size == 0:
        raise BadMesh(f"Elements of shape {elements.shape} found, (elements, 10) expected.")
    _check_nodes(nodes_mm, elements)


def _check_nodes(nodes_mm: Doubles, elements: NDArray[np.integer]) -> None:
    if nodes_mm.ndim != 2 or nodes_mm.shape[1] != 3 or not np.isfinite(nodes_mm).all():
        raise BadMesh(f"Nodes must be finite points (nodes, 3); they have shape {nodes_mm.shape}.")
    if elements.min() < 0 or elements.max() >= len(nodes_mm):
        raise BadMesh(f"Elements use nodes {elements.min()} to {elements.max()}; there are {len(nodes_mm)}.")


def distances_from_middles(nodes_mm: Doubles, elements: NDArray[np.integer]) -> Doubles:
    """Return (elements, 6): distance of each mid-edge node from the middle of its edge, over the edge's length."""
    ends = nodes_mm[elements[:, EDGES]]
    length = np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=2)
    away = np.linalg.norm(nodes_mm[elements[:, 4:]] - ends.mean(axis=2), axis=2)
    return np.asarray(away / np.maximum(length, np.finfo(float).tiny))


def _mid_order(nodes_mm: Doubles, elements: NDArray[np.integer]) -> list[int]:
    """Return for every edge which of the six mid-edge nodes given lies on it, over all elements together."""
    middles = nodes_mm[elements[:, EDGES]].mean(axis=2)
    given = nodes_mm[elements[:, 4:]]
    away = np.linalg.norm(given[:, None, :, :] - middles[:, :, None, :], axis=3).mean(axis=0)
    return list(
        min(permutations(range(6)), key=lambda order: float(sum(away[edge, node] for edge, node in enumerate(order))))
    )
