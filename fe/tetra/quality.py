"""How good the shapes of a mesh's elements are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.errors import BadMesh
from fe.tetra.element import NODE_PLACES, gradients_per_mm, quadrature
from fe.tetra.mesh import EDGES, TetMesh, check_order, corner_volumes_mm3, distances_from_middles

Doubles = NDArray[np.float64]

LEAST_DIHEDRAL_DEG = 1.0
"""Elements with a smaller dihedral angle are flat for all purposes [project's assumption]; TetGen's worst elements of
bones have 3 to 5 degrees [measured]."""


@dataclass(frozen=True, slots=True)
class MeshQuality:
    """Figures of a mesh of quadratic tetrahedra.

    Attributes
    ----------
    element_count, node_count
        Size.
    volume_mm3
        Of all elements, curved edges included.
    min_dihedral_deg, mean_min_dihedral_deg, max_dihedral_deg
        Dihedral angles between the corners' planes: smallest of all, mean of each element's smallest, largest of all.
    min_radius_ratio, mean_radius_ratio
        3 times the inscribed over the circumscribed sphere's radius: 1 for a regular tetrahedron, 0 for a flat one.
    min_scaled_jacobian
        Smallest over largest determinant of the Jacobian in an element, worst element, taken at the nodes and at 14
        integration points: 1 with straight edges.
    mean_edge_mm, min_edge_mm, max_edge_mm
        Lengths between corners.
    """

    element_count: int
    node_count: int
    volume_mm3: float
    min_dihedral_deg: float
    mean_min_dihedral_deg: float
    max_dihedral_deg: float
    min_radius_ratio: float
    mean_radius_ratio: float
    min_scaled_jacobian: float
    mean_edge_mm: float
    min_edge_mm: float
    max_edge_mm: float


def mesh_quality(mesh: TetMesh) -> MeshQuality:
    """Measure a mesh.

    Raises
    ------
    BadMesh
        The order of the nodes is wrong, an element is flat or inside out, or has a dihedral angle below
        ``LEAST_DIHEDRAL_DEG``.
    """
    check_order(mesh)
    angles = check_shapes(mesh)
    least, volumes = _jacobians(mesh)
    ratio = radius_ratios(mesh)
    ends = mesh.nodes_mm[mesh.elements[:, EDGES]]
    length = np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=2)
    return MeshQuality(
        element_count=mesh.element_count,
        node_count=mesh.node_count,
        volume_mm3=float(volumes.sum()),
        min_dihedral_deg=float(angles.min()),
        mean_min_dihedral_deg=float(angles.min(axis=1).mean()),
        max_dihedral_deg=float(angles.max()),
        min_radius_ratio=float(ratio.min()),
        mean_radius_ratio=float(ratio.mean()),
        min_scaled_jacobian=float(least.min()),
        mean_edge_mm=float(length.mean()),
        min_edge_mm=float(length.min()),
        max_edge_mm=float(length.max()),
    )


def check_shapes(mesh: TetMesh) -> Doubles:
    """Return the dihedral angles (elements, 6), degrees, when none is nearly flat.

    Raises
    ------
    BadMesh
        An element has a dihedral angle below ``LEAST_DIHEDRAL_DEG``.
    """
    angles = dihedral_angles_deg(mesh)
    smallest = angles.min(axis=1)
    if not smallest.min() >= LEAST_DIHEDRAL_DEG:
        raise BadMesh(
            f"{int((~(smallest >= LEAST_DIHEDRAL_DEG)).sum())} of {mesh.element_count} elements are nearly flat: the "
            f"smallest dihedral angle is {smallest.min():.2f} degrees, {LEAST_DIHEDRAL_DEG:.0f} is allowed."
        )
    return angles


STRAIGHT = 1e-9
"""A mid-edge node nearer to its edge's middle than this fraction of the edge makes a straight edge: rounding."""


def _jacobians(mesh: TetMesh) -> tuple[Doubles, Doubles]:
    """Return smallest over largest Jacobian (elements,), and the volumes (elements,); straight edges need no points."""
    least = np.ones(mesh.element_count)
    volume = corner_volumes_mm3(mesh.nodes_mm, mesh.elements)
    curved = distances_from_middles(mesh.nodes_mm, mesh.elements).max(axis=1) > STRAIGHT
    if curved.any():
        rule = quadrature(5)
        places = np.vstack((NODE_PLACES, rule.places))
        _, jacobian = gradients_per_mm(mesh.nodes_mm[mesh.elements[curved]], places)
        least[curved] = jacobian.min(axis=1) / jacobian.max(axis=1)
        volume[curved] = jacobian[:, len(NODE_PLACES) :] @ rule.weights
    return least, volume


def dihedral_angles_deg(mesh: TetMesh) -> Doubles:
    """Return the six dihedral angles (elements, 6) between the planes of the corners."""
    normals = _face_normals(mesh)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    cosine = np.stack([-np.einsum("ei,ei->e", normals[:, a], normals[:, b]) for a, b in pairs], axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def radius_ratios(mesh: TetMesh) -> Doubles:
    """Return 3 r / R (elements,) of the tetrahedra between the corners.

    r = 3 V / A, and 6 V R is the root of (p+q+r)(p+q-r)(p-q+r)(-p+q+r) / 16 with the products p, q, r of opposite
    edges' lengths (Crelle's formula).
    """
    volume = corner_volumes_mm3(mesh.nodes_mm, mesh.elements)
    area = np.linalg.norm(_face_normals(mesh), axis=2).sum(axis=1) / 2
    ends = mesh.nodes_mm[mesh.elements[:, EDGES]]
    length = np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=2)
    p, q, r = (length[:, a] * length[:, b] for a, b in ((0, 5), (1, 3), (2, 4)))
    crelle = np.sqrt((p + q + r) * (p + q - r) * (p - q + r) * (-p + q + r)) / 4
    return np.asarray(3 * (3 * volume / area) / (crelle / (6 * volume)))


def _face_normals(mesh: TetMesh) -> Doubles:
    """Return outward normals (elements, 4, 3), twice the face's area long, of the faces opposite each corner."""
    corner = mesh.nodes_mm[mesh.elements[:, :4]]
    faces = ((1, 2, 3), (0, 3, 2), (0, 1, 3), (0, 2, 1))
    return np.stack([np.cross(corner[:, b] - corner[:, a], corner[:, c] - corner[:, a]) for a, b, c in faces], axis=1)
