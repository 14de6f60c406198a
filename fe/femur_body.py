"""One femur with its distal end held, whatever it is made of: the functions and points that the load cases need.

Bricks and tetrahedra give the same things: nodes on a surface with the smooth place and outward normal of each, places
near the surface where strains count, and a solver for many loads. Points are LPS mm.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.condensed import Solver
from fe.outcome import CellType

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


Law = Callable[[Doubles], Doubles]
"""Density rho_QCT in mg/cm3 to Young's modulus in MPa."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Density and mask as given: (slice, row, column) arrays, and the voxel spacing."""

    rho_qct_mg_per_cm3: NDArray[np.floating]
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class FemurBody:
    """A femur ready to be loaded.

    Attributes
    ----------
    node_points_mm : (nodes, 3) array
        All nodes.
    node_distance_mm
        Distance between neighbouring nodes of the surface.
    surface_nodes : (surface,) int array
        Numbers of the free nodes on the surface; what is held can neither be loaded nor touch anything.
    smooth_mm, normals : (surface, 3) arrays
        Nearest place on the smooth surface, and the outward unit normal there.
    places_mm : (places, 3) array
        Places at the surface where strains can count.
    dof
        Free degrees of freedom.
    cells : (elements, 8) or (elements, 10) int array
        Nodes of the elements, in VTK's order.
    cell_type
        VTK's name of them.
    modulus_mpa : (elements,) array
        Young's modulus.
    solve
        See ``fe.condensed``.
    reactions
        Displacement and force (3, nodes) to the sum (3,) of the supports' forces.
    strains
        Displacement (3, nodes) and numbers of places to engineering strains (chosen, 6) there.
    element_strains
        Displacement (3, nodes) to engineering strains (elements, 6) at the elements' centres.
    centres_mm : (elements, 3) array
        The elements' centres.
    """

    node_points_mm: Doubles
    node_distance_mm: float
    surface_nodes: Ints
    smooth_mm: Doubles
    normals: Doubles
    places_mm: Doubles
    dof: int
    cells: NDArray[np.integer]
    cell_type: CellType
    modulus_mpa: Doubles
    solve: Solver
    reactions: Callable[[Doubles, Doubles], Doubles]
    strains: Callable[[Doubles, Ints], Doubles]
    element_strains: Callable[[Doubles], Doubles]
    centres_mm: Doubles

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return len(self.node_points_mm)

    @property
    def element_count(self) -> int:
        """Number of elements."""
        return len(self.cells)
