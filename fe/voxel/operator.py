"""The stiffness of a voxel model as an operator: products, diagonal blocks and, for small models, a matrix.

The operator knows nothing of supports: it is the free stiffness. Forces are N, displacements mm, both (3, nodes)
arrays with one row per component of (x, y, z).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from fe.voxel.diagonal import corner_sums
from fe.voxel.element import hex8_stiffness, walsh_blocks
from fe.voxel.kernels import energy_slabs, residual_slabs
from fe.voxel.numbering import Numbering
from fe.voxel.workers import ALONE, Workers

Floats = NDArray[np.floating]

LEAST_ELEMENTS = 8000
"""A thread gets at least this many elements: less is done before it has woken up."""


@dataclass(frozen=True, slots=True)
class StiffnessOperator:
    """Matrix-free stiffness in one floating type.

    Attributes
    ----------
    numbering
        Nodes and elements.
    modulus_mpa : (elements,) array
        Young's modulus of every element.
    element_stiffness : (24, 24) float64 array
        Stiffness of one element of unit modulus.
    blocks : (8, 9) array
        Its Walsh-Hadamard blocks in the operator's type.
    """

    numbering: Numbering
    modulus_mpa: Floats
    element_stiffness: NDArray[np.float64]
    blocks: Floats

    def multiply(self, x: Floats, out: Floats, workers: Workers = ALONE) -> Floats:
        """Write K x to ``out`` ((3, nodes), the operator's type) and return it."""
        self.energy(x, out, workers)
        return out

    def residual(self, b: Floats, x: Floats, out: Floats, workers: Workers) -> None:
        """Write b - K x to ``out``."""
        self.each_slab(residual_slabs, (x, out, b), workers)

    def energy(self, x: Floats, out: Floats, workers: Workers) -> float:
        """Write K x to ``out`` and return x K x."""
        energy = np.empty(len(self.numbering.slab_nodes))
        self.each_slab(energy_slabs, (x, out, energy), workers)
        return float(energy.sum())

    def each_slab(self, kernel: Callable[..., None], arrays: tuple[object, ...], workers: Workers) -> None:
        """Run a kernel of ``fe.voxel.kernels`` over all slabs, one colour after the other."""
        n = self.numbering
        slabs = len(n.slab_nodes)
        least = 1 + slabs * LEAST_ELEMENTS // (2 * n.element_count)
        model = (n.slab_runs, n.slab_nodes, n.run_nodes, n.run_first, self.modulus_mpa, self.blocks)
        for colour in (0, 1):
            workers.run((slabs + 1 - colour) // 2, least, partial(_call, kernel, (colour, *model, *arrays)))

    def with_moduli(self, modulus_mpa: Floats) -> "StiffnessOperator":
        """Return the operator of other moduli ((nz, ny, nx), read where there are elements)."""
        return replace(self, modulus_mpa=modulus_mpa[self.numbering.is_bone].astype(self.blocks.dtype))

    def diagonal_blocks(self) -> Floats:
        """Return the symmetric 3 x 3 diagonal blocks as (6, nodes): xx, yy, zz, xy, yz, xz."""
        n = self.numbering
        sums = np.zeros((4, n.node_count), self.modulus_mpa.dtype)
        corner_sums(n.run_nodes, n.run_first, self.modulus_mpa, sums)
        k0 = self.element_stiffness.astype(sums.dtype)
        blocks = np.empty((6, n.node_count), sums.dtype)
        for row, part, factor in zip(
            blocks, (0, 0, 0, 1, 2, 3), (k0[0, 0], k0[1, 1], k0[2, 2], k0[0, 1], k0[1, 2], k0[0, 2]), strict=True
        ):
            np.multiply(sums[part], factor, out=row)
        return blocks

    def matrix(self) -> sparse.csr_array:
        """Assemble the sparse matrix; row ``3 node + component``. For coarse levels and tests."""
        dofs = (3 * self.numbering.connectivity()[:, :, None] + np.arange(3)).reshape(-1, 24)
        rows = np.repeat(dofs, 24, axis=1).ravel()
        columns = np.tile(dofs, (1, 24)).ravel()
        values = (self.modulus_mpa.astype(float)[:, None] * self.element_stiffness.ravel()).ravel()
        size = 3 * self.numbering.node_count
        return sparse.coo_array((values, (rows, columns)), shape=(size, size)).tocsr()


def _call(kernel: Callable[..., None], arguments: tuple[object, ...], begin: int, end: int) -> None:
    kernel(begin, end, *arguments)


def stiffness_operator(
    numbering: Numbering,
    modulus_mpa: Floats,
    size_mm: tuple[float, float, float],
    poisson_ratio: float,
    dtype: DTypeLike = np.float64,
) -> StiffnessOperator:
    """Build the operator.

    Parameters
    ----------
    numbering
        Nodes and elements.
    modulus_mpa : (nz, ny, nx) array
        Young's modulus on the grid; read where ``numbering.is_bone``.
    size_mm
        Element edges along (z, y, x).
    poisson_ratio
        nu of all elements.
    dtype
        float32 or float64.
    """
    stiffness = hex8_stiffness(size_mm, poisson_ratio)
    return StiffnessOperator(
        numbering=numbering,
        modulus_mpa=modulus_mpa[numbering.is_bone].astype(dtype),
        element_stiffness=stiffness,
        blocks=walsh_blocks(stiffness).astype(dtype),
    )
