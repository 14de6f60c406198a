"""Strains of a solved mesh at nodes: from the elements around each node, weighted by their volume.

Inside an element the strains of quadratic tetrahedra are nearly linear and jump from element to element. The mean over
the elements around a node converges with the square of the edge, at surface nodes too
(tests/verification/test_fe_tetra.py). Where materials differ, strains really do jump, and the mean mixes both sides.
"""

import numpy as np
from numpy.typing import NDArray

from fe.tetra import kernels
from fe.tetra.element import NODE_PLACES, natural_slopes
from fe.tetra.mesh import TetMesh, corner_volumes_mm3

Doubles = NDArray[np.float64]

CENTRE: Doubles = np.full((1, 4), 0.25)
"""Barycentric coordinates of an element's centre."""


def strains_at(mesh: TetMesh, displacement_mm: Doubles, places: Doubles = CENTRE) -> Doubles:
    """Return the engineering strains (elements, points, 6) at the same places of all elements.

    Parameters
    ----------
    mesh
        Nodes and elements.
    displacement_mm : (3, nodes) array
        Components (x, y, z).
    places : (points, 4) array
        Barycentric coordinates; the centre when left out.
    """
    slopes = natural_slopes(places)
    u = np.ascontiguousarray(displacement_mm.T)
    return np.asarray(kernels.strains_at(mesh.nodes_mm, mesh.elements, slopes, u))


def strains_at_nodes(mesh: TetMesh, displacement_mm: Doubles) -> Doubles:
    """Return the engineering strains (nodes, 6): the mean over the elements around each node, by their volume."""
    of_element = strains_at(mesh, displacement_mm, NODE_PLACES)
    volume = np.repeat(corner_volumes_mm3(mesh.nodes_mm, mesh.elements), mesh.elements.shape[1])
    node = mesh.elements.ravel()
    total = np.bincount(node, volume, minlength=mesh.node_count)
    flat = of_element.reshape(-1, 6)
    sums = [np.bincount(node, volume * flat[:, c], minlength=mesh.node_count) for c in range(6)]
    return np.column_stack(sums) / total[:, None]
