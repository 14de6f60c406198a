"""The stiffness of a mesh of tetrahedra as the upper triangle of a sparse matrix, without a detour over triplets.

The pattern depends on mesh and supports only; it is made once and filled as often as the material changes. Held
degrees of freedom are left out of the matrix. The same elements also give nodal forces directly from displacements,
without the matrix: that is how residuals are computed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fe.tetra import kernels
from fe.tetra.element import Quadrature, natural_slopes, quadrature
from fe.tetra.mesh import TetMesh

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

STIFFNESS_RULE = quadrature(2)
"""4 points: exact for straight edges and one modulus per element, and the rule of C3D10."""


@dataclass(frozen=True, slots=True)
class StiffnessPattern:
    """Which entries the upper triangle of a mesh's stiffness has.

    Attributes
    ----------
    points_mm : (nodes, 3) array
    elements : (elements, 4 or 10) int32 array
    number : (nodes, 3) int32 array
        Row of each degree of freedom, -1 where it is held.
    row_first, columns
        CSR.
    first, nodes, block_first
        From ``fe.tetra.kernels``.
    """

    points_mm: Doubles
    elements: NDArray[np.int32]
    number: NDArray[np.int32]
    row_first: NDArray[np.int64]
    columns: NDArray[np.int32]
    first: NDArray[np.int64]
    nodes: NDArray[np.int32]
    block_first: NDArray[np.int32]

    @property
    def dof(self) -> int:
        """Number of free degrees of freedom."""
        return len(self.row_first) - 1

    def isotropic(
        self, modulus_mpa: Doubles, poisson_ratio: float, rule: Quadrature = STIFFNESS_RULE
    ) -> sparse.csr_array:
        """Return the upper triangle, N/mm, for isotropic elements.

        Parameters
        ----------
        modulus_mpa : (elements,) or (elements, points) array
            Young's modulus, of each element or of each of the rule's points.
        poisson_ratio
            nu.
        rule
            Integration rule.
        """
        ratio, shear = self._isotropic(modulus_mpa, poisson_ratio, rule)
        return self._matrix(
            kernels.add_isotropic(self.points_mm, self.elements, ratio, shear, *self._rule(rule), *self._places())
        )

    def multiply(
        self, modulus_mpa: Doubles, poisson_ratio: float, displacement_mm: Doubles, rule: Quadrature = STIFFNESS_RULE
    ) -> Doubles:
        """Return K u (loads, 3, nodes), N, of displacements of all degrees of freedom, element by element.

        Parameters as in ``isotropic``.
        """
        ratio, shear = self._isotropic(modulus_mpa, poisson_ratio, rule)
        u = np.ascontiguousarray(displacement_mm.transpose(2, 1, 0))
        out = np.zeros_like(u)
        kernels.multiply_isotropic(self.points_mm, self.elements, ratio, shear, *self._rule(rule), u, out)
        return np.ascontiguousarray(out.transpose(2, 1, 0))

    def gather(self, values: Doubles) -> Doubles:
        """Return the free degrees of freedom (free,) or (free, k) of (3, nodes) or (k, 3, nodes) values."""
        flat = np.moveaxis(values, -1, -2).reshape(*values.shape[:-2], -1)
        return np.ascontiguousarray(flat[..., self.number.ravel() >= 0].T)

    def spread(self, values: Doubles) -> Doubles:
        """Return (3, nodes) or (k, 3, nodes) with zeros on the held degrees of freedom: the inverse of ``gather``."""
        flat = np.zeros((*values.shape[1:], self.number.size))
        flat[..., self.number.ravel() >= 0] = values.T
        return np.ascontiguousarray(np.moveaxis(flat.reshape(*values.shape[1:], -1, 3), -1, -2))

    def _isotropic(self, modulus_mpa: Doubles, poisson_ratio: float, rule: Quadrature) -> tuple[float, Doubles]:
        """Return lame over shear, and the shear modulus (elements, points)."""
        shear = modulus_mpa / (2 * (1 + poisson_ratio))
        shape = (len(self.elements), len(rule.weights))
        ratio = 2 * poisson_ratio / (1 - 2 * poisson_ratio)
        return ratio, np.ascontiguousarray(np.broadcast_to(shear.reshape(len(shear), -1), shape))

    def _rule(self, rule: Quadrature) -> tuple[Doubles, Doubles]:
        return natural_slopes(rule.places, self.elements.shape[1]), rule.weights

    def _places(self) -> tuple[NDArray[np.integer], ...]:
        return self.first, self.nodes, self.block_first, self.number, self.row_first

    def _matrix(self, values: Doubles) -> sparse.csr_array:
        return sparse.csr_array((values, self.columns, self.row_first), shape=(self.dof, self.dof))


def stiffness_pattern(mesh: TetMesh, is_fixed: Bools) -> StiffnessPattern:
    """Return the pattern of a mesh whose degrees of freedom ``is_fixed`` (3, nodes) are held."""
    return pattern_of(mesh.nodes_mm, mesh.elements, is_fixed)


def pattern_of(points_mm: Doubles, elements: NDArray[np.integer], is_fixed: Bools) -> StiffnessPattern:
    """Return the pattern of tetrahedra with 4 or 10 nodes; see ``stiffness_pattern``."""
    connectivity: NDArray[np.int32] = np.ascontiguousarray(elements, dtype=np.int32)
    is_free = ~is_fixed.T
    number = np.where(is_free, np.cumsum(is_free.ravel()).reshape(is_free.shape) - 1, -1).astype(np.int32)
    first, nodes = kernels.neighbours(connectivity, len(points_mm))
    row_first, columns, block_first = kernels.sparse_rows(first, nodes, number)
    return StiffnessPattern(
        np.ascontiguousarray(points_mm), connectivity, number, row_first, columns, first, nodes, block_first
    )


def lame_constants(modulus_mpa: Doubles, poisson_ratio: float) -> tuple[Doubles, Doubles]:
    """Return Lame's two constants, MPa."""
    shear = modulus_mpa / (2 * (1 + poisson_ratio))
    return shear * (2 * poisson_ratio / (1 - 2 * poisson_ratio)), shear


def isotropic_stress(strain: Doubles, lame_mpa: Doubles, shear_mpa: Doubles) -> Doubles:
    """Return the stress (..., 6), MPa, of engineering strain (..., 6) by Hooke's law."""
    stress = strain * shear_mpa[..., None]
    stress[..., :3] *= 2
    stress[..., :3] += (lame_mpa * strain[..., :3].sum(axis=-1))[..., None]
    return stress
