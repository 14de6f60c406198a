"""What every model's result carries, whatever the model: the facts behind the number, and the field for pictures."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fe.errors import NotInBalance

CellType = Literal["hexahedron", "quadratic_tetra"]

VTK_HEXAHEDRON = [0, 1, 3, 2, 4, 5, 7, 6]
"""The project's corners n = i + 2 j + 4 k in VTK's order."""


def say_nothing(fraction: float, text: str) -> None:
    """Progress that nobody asked for."""


BALANCE_LIMIT = 1e-2
"""Forces that do not add up to nothing within this part of the load are no solution: the strength may be wrong by as
much [project's assumption]. Measured: 1e-5 and less in linear femurs, 3e-5 in vertebrae, 1.4e-4 in softening femurs
of usual density and 2.6e-3 with an eighth of it."""


def balanced(reaction_balance: float, limit: float = BALANCE_LIMIT) -> float:
    """Return the norm of the sum of all forces over the load, if it is within its limit.

    Raises
    ------
    NotInBalance
        It is not, or is not a number.
    """
    if not reaction_balance <= limit:
        raise NotInBalance(reaction_balance, limit)
    return reaction_balance


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Size and trustworthiness of a solved model.

    Attributes
    ----------
    element_count, dof
        Elements, and free degrees of freedom.
    element_mm
        Edge of the elements; for tetrahedra the edge asked for.
    youngs_modulus_range_mpa
        Smallest and largest Young's modulus.
    dropped_elements
        Elements (or voxels) of islands that were left out.
    iterations
        Iterations of the linear solver, all solves together; 0 for a direct solver.
    residual
        Largest relative residual of the solves behind the number, or an upper bound of it.
    reaction_balance
        Norm of the sum of all forces, reactions included, over the norm of the load.
    active_contact_nodes
        Nodes that touch the ground at failure, 0 in a model without contact.
    """

    element_count: int
    dof: int
    element_mm: float
    youngs_modulus_range_mpa: tuple[float, float]
    dropped_elements: int
    iterations: int
    residual: float
    reaction_balance: float
    active_contact_nodes: int = 0


@dataclass(frozen=True, slots=True)
class MeshField:
    """A mesh with values on it, for files and pictures.

    Attributes
    ----------
    points_mm : (nodes, 3) array
        LPS, relative to the centre of the input's first voxel.
    cells : (cells, 8) or (cells, 10) int array
        Node numbers in the order of VTK's ``cell_type``. For bricks the project's corner n = i + 2 j + 4 k becomes
        (0, 1, 3, 2, 4, 5, 7, 6).
    cell_type
        VTK's name of the cells.
    cell_values
        Name with unit -> (cells,) array.
    point_values
        Name with unit -> (nodes,) or (nodes, 3) array.
    """

    points_mm: NDArray[np.float64]
    cells: NDArray[np.integer]
    cell_type: CellType
    cell_values: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    point_values: dict[str, NDArray[np.floating]] = field(default_factory=dict)
