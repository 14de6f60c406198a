"""The stiffness of a voxel model as an operator: products, diagonal blocks and, for small models, a matrix.

The operator knows nothing of supports: it is the free stiffness. Forces are N, displacements mm, both (3, nodes)
arrays with one row per component of (x, y, z).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from fe.voxel.element import hex8_stiffness, walsh_blocks
from fe.voxel.kernels import multiply_slabs
from fe.voxel.numbering import Numbering
from fe.voxel.workers import Workers

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
    workers
        Threads of the products.
    """

    numbering: Numbering
    modulus_mpa: Floats
    element_stiffness: NDArray[np.float64]
    blocks: Floats
    workers: Workers

    def multiply(self, x: Floats, out: Floats) -> Floats:
        """Write K x to ``out`` ((3, nodes), the operator's type) and return it."""
        n = self.numbering
        out[:] = 0
        slabs = len(n.slab_runs) - 1
        least = 1 + slabs * LEAST_ELEMENTS // (2 * n.element_count)
        for colour in (0, 1):

            def work(begin: int, end: int, colour: int = colour) -> None:
                multiply_slabs(
                    begin,
                    end,
                    colour,
                    n.slab_runs,
                    n.run_nodes,
                    n.run_first,
                    self.modulus_mpa,
                    self.blocks,
                    x,
                    out,
                )

            self.workers.run((slabs + 1 - colour) // 2, least, work)
        return out

    def diagonal_blocks(self) -> NDArray[np.float64]:
        """Return the symmetric 3 x 3 diagonal blocks as (6, nodes): xx, yy, zz, xy, yz, xz.

        All corners of a brick share one diagonal; the off-diagonal entries change sign with the corner.
        """
        numbering = self.numbering
        nz, ny, nx = numbering.is_bone.shape
        dense = np.zeros((nz, ny, nx))
        dense[numbering.is_bone] = self.modulus_mpa
        sums = np.zeros((4, nz + 1, ny + 1, nx + 1))
        for n in range(8):
            i, j, k = n & 1, (n >> 1) & 1, n >> 2
            corner = np.s_[k : k + nz, j : j + ny, i : i + nx]
            for total, sign in zip(sums, (1, (-1) ** (i + j), (-1) ** (j + k), (-1) ** (i + k)), strict=True):
                total[corner] += sign * dense
        at_nodes = sums[:, numbering.node_numbers >= 0]
        k0 = self.element_stiffness
        factors = np.array([k0[0, 0], k0[1, 1], k0[2, 2], k0[0, 1], k0[1, 2], k0[0, 2]])
        return factors[:, None] * at_nodes[[0, 0, 0, 1, 2, 3]]

    def matrix(self) -> sparse.csr_array:
        """Assemble the sparse matrix; row ``3 node + component``. For coarse levels and tests."""
        dofs = (3 * self.numbering.connectivity()[:, :, None] + np.arange(3)).reshape(-1, 24)
        rows = np.repeat(dofs, 24, axis=1).ravel()
        columns = np.tile(dofs, (1, 24)).ravel()
        values = (self.modulus_mpa.astype(float)[:, None] * self.element_stiffness.ravel()).ravel()
        size = 3 * self.numbering.node_count
        return sparse.coo_array((values, (rows, columns)), shape=(size, size)).tocsr()


def stiffness_operator(
    numbering: Numbering,
    modulus_mpa: Floats,
    size_mm: tuple[float, float, float],
    poisson_ratio: float,
    dtype: DTypeLike = np.float64,
    workers: Workers | None = None,
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
    workers
        Threads to use; the calling thread alone when left out.
    """
    stiffness = hex8_stiffness(size_mm, poisson_ratio)
    return StiffnessOperator(
        numbering=numbering,
        modulus_mpa=modulus_mpa[numbering.is_bone].astype(dtype),
        element_stiffness=stiffness,
        blocks=walsh_blocks(stiffness).astype(dtype),
        workers=Workers(1) if workers is None else workers,
    )
