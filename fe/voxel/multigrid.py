"""Geometric multigrid for voxel models: the preconditioner, in single precision.

Every coarse level is the voxel model of twice the element size whose modulus is the mean of its eight children
(empty ones count as zero), rediscretised. Smoother: Chebyshev polynomial of degree 2 over 3 x 3 block-Jacobi.
V-cycle; the coarsest level is solved directly. Supports are handed down to the coarse nodes at the same places.
Measured on a femur, V-cycles need fewer iterations than W-cycles, because the coarse models are slightly too soft and
a second visit corrects too much.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import SuperLU, splu

from fe.voxel.element import largest_jacobi_eigenvalue
from fe.voxel.kernels import add_prolongation, chebyshev_step, restrict_residual
from fe.voxel.numbering import number_voxels
from fe.voxel.operator import StiffnessOperator, stiffness_operator

Float32s = NDArray[np.float32]

COARSEST_NODES = 1500
"""A level with no more nodes is solved directly. Measured on femurs: one level further the elements are as thick as
the shaft, and iterations double or triple."""

SMOOTHING_DEGREE = 2
SMOOTHING_RATIO = 10.0
"""The smoother damps the upper nine tenths of the spectrum of D^-1 K."""

HALF = np.float32(0.5)

LEAST_NODES = 20_000
LEAST_COARSE_NODES = 4000
"""A thread gets at least this many nodes: less is done before it has woken up."""

REGULARISATION = 1e-6
"""Relative shift of the coarsest diagonal: parts of a coarse model that the supports miss stay solvable."""


@dataclass(slots=True)
class Level:
    """One level: operator, smoother, supports and work space.

    Attributes
    ----------
    operator
        Single-precision stiffness.
    fixed : (fixed,) int64 array
        Fixed entries of a ravelled (3, nodes) vector.
    inverse : (6, nodes) float32 array
        Inverse diagonal blocks, zero where fixed.
    bound
        Upper bound of the spectrum of D^-1 K.
    x, b, y, d : (3, nodes) float32 arrays
        Iterate, right-hand side, product, smoothing direction.
    """

    operator: StiffnessOperator
    fixed: NDArray[np.int64]
    inverse: Float32s
    bound: float
    x: Float32s = field(init=False)
    b: Float32s = field(init=False)
    y: Float32s = field(init=False)
    d: Float32s = field(init=False)

    def __post_init__(self) -> None:
        shape = (3, self.operator.numbering.node_count)
        self.x, self.b, self.y, self.d = (np.zeros(shape, np.float32) for _ in range(4))

    def release(self, vector: Float32s) -> None:
        """Set the fixed entries of a (3, nodes) vector to zero."""
        vector.reshape(-1)[self.fixed] = 0


@dataclass(frozen=True, slots=True)
class Multigrid:
    """The hierarchy, finest level first, and the factors of the coarsest."""

    levels: tuple[Level, ...]
    coarsest: SuperLU

    def precondition(self, residual: NDArray[np.floating]) -> Float32s:
        """Return an approximate solution of K x = ``residual`` by one cycle.

        Parameters
        ----------
        residual : (3, nodes) array
            Scaled by the caller so that single precision holds it.

        Returns
        -------
        (3, nodes) float32 array
            The hierarchy's own work space: valid until the next call.
        """
        finest = self.levels[0]
        finest.b[:] = residual
        self._cycle(0)
        return finest.x

    def _cycle(self, depth: int) -> None:
        level = self.levels[depth]
        if depth == len(self.levels) - 1:
            solution = self.coarsest.solve(level.b.T.astype(float).ravel())
            level.x[:] = solution.reshape(-1, 3).T
            level.release(level.x)
            return
        coarse = self.levels[depth + 1]
        _smooth(level, from_zero=True)
        level.operator.multiply(level.x, level.y)
        level.y.reshape(-1)[level.fixed] = level.b.reshape(-1)[level.fixed]
        fine_numbering, coarse_numbering = level.operator.numbering, coarse.operator.numbering
        level.operator.workers.run(
            coarse_numbering.node_count,
            LEAST_COARSE_NODES,
            lambda begin, end: restrict_residual(
                begin,
                end,
                coarse_numbering.node_places,
                fine_numbering.node_numbers,
                level.b,
                level.y,
                HALF,
                coarse.b,
            ),
        )
        coarse.release(coarse.b)
        self._cycle(depth + 1)
        level.operator.workers.run(
            fine_numbering.node_count,
            LEAST_NODES,
            lambda begin, end: add_prolongation(
                begin,
                end,
                fine_numbering.node_places,
                coarse_numbering.node_numbers,
                coarse.x,
                HALF,
                level.x,
            ),
        )
        level.release(level.x)
        _smooth(level, from_zero=False)


def build_multigrid(
    modulus_mpa: NDArray[np.floating],
    size_mm: tuple[float, float, float],
    poisson_ratio: float,
    is_fixed: NDArray[np.bool_],
    finest: StiffnessOperator,
) -> Multigrid:
    """Build the hierarchy of a voxel model.

    Parameters
    ----------
    modulus_mpa : (nz, ny, nx) array
        Young's modulus, 0 where there is no element.
    size_mm
        Element edges along (z, y, x).
    poisson_ratio
        nu.
    is_fixed : (3, nodes) bool array
        Fixed degrees of freedom of the finest level.
    finest
        The finest level's operator in any precision; its numbering is shared.
    """
    modulus = modulus_mpa.astype(np.float32)
    operator = stiffness_operator(finest.numbering, modulus, size_mm, poisson_ratio, np.float32, finest.workers)
    bound = largest_jacobi_eigenvalue(operator.element_stiffness)
    levels = [_level(operator, is_fixed, bound)]
    while operator.numbering.node_count > COARSEST_NODES and min(modulus.shape) > 1:
        modulus = _halve(modulus)
        size_mm = (2 * size_mm[0], 2 * size_mm[1], 2 * size_mm[2])
        coarse_numbering = number_voxels(modulus > 0)
        is_fixed = _hand_down(is_fixed, operator.numbering.node_numbers, coarse_numbering.node_places)
        operator = stiffness_operator(coarse_numbering, modulus, size_mm, poisson_ratio, np.float32, finest.workers)
        levels.append(_level(operator, is_fixed, bound))
    return Multigrid(tuple(levels), _factorise(levels[-1]))


def _halve(modulus: Float32s) -> Float32s:
    """Return the grid of twice the element size; each value is the mean of eight children."""
    padded = np.pad(modulus, [(0, n % 2) for n in modulus.shape])
    nz, ny, nx = padded.shape
    return padded.reshape(nz // 2, 2, ny // 2, 2, nx // 2, 2).mean(axis=(1, 3, 5), dtype=np.float32)


def _hand_down(
    is_fixed: NDArray[np.bool_], fine_numbers: NDArray[np.int32], coarse_places: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Return the supports of the coarse nodes.

    Fixed are those at the place of a fixed fine node, and those that interpolate to fixed fine nodes only: without
    the second rule, a support between two coarse layers would be lost.
    """
    has_node = np.pad(fine_numbers, (0, 1), constant_values=-1) >= 0
    places = tuple(2 * coarse_places.T)
    fixed = np.empty((3, len(coarse_places)), dtype=bool)
    for component in range(3):
        is_free = np.zeros(has_node.shape, dtype=bool)
        is_free[has_node] = ~is_fixed[component]
        near_free = ndimage.maximum_filter(is_free, size=3, mode="constant")
        fixed[component] = (has_node & ~is_free)[places] | ~near_free[places]
    return fixed


def _level(operator: StiffnessOperator, is_fixed: NDArray[np.bool_], bound: float) -> Level:
    inverse = _inverse_blocks(operator.diagonal_blocks(), is_fixed).astype(np.float32)
    return Level(operator, np.flatnonzero(is_fixed), inverse, bound)


def _inverse_blocks(blocks: NDArray[np.float64], is_fixed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Invert symmetric 3 x 3 blocks (6, nodes) on their free components; fixed rows and columns become zero."""
    xx, yy, zz, xy, yz, xz = blocks.copy()
    fx, fy, fz = is_fixed
    xx[fx], yy[fy], zz[fz] = 1, 1, 1
    xy[fx | fy], yz[fy | fz], xz[fx | fz] = 0, 0, 0
    cofactors = np.stack(
        (
            yy * zz - yz * yz,
            xx * zz - xz * xz,
            xx * yy - xy * xy,
            xz * yz - xy * zz,
            xy * xz - xx * yz,
            xy * yz - xz * yy,
        )
    )
    inverse = cofactors / (xx * cofactors[0] + xy * cofactors[3] + xz * cofactors[5])
    inverse[:3][is_fixed] = 0
    return inverse


def _factorise(level: Level) -> SuperLU:
    """Factorise the coarsest level, fixed rows and columns replaced by the identity."""
    matrix = level.operator.matrix()
    component, node = np.divmod(level.fixed, level.operator.numbering.node_count)
    free = np.ones(matrix.shape[0])
    free[3 * node + component] = 0
    keep = sparse.diags_array(free)
    shift = sparse.diags_array(np.where(free > 0, REGULARISATION * matrix.diagonal(), 1.0))
    return splu((keep @ matrix @ keep + shift).tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})


def _smooth(level: Level, *, from_zero: bool) -> None:
    """Apply the Chebyshev smoother for the interval [bound / SMOOTHING_RATIO, bound] of D^-1 K."""
    low = level.bound / SMOOTHING_RATIO
    centre, radius = (level.bound + low) / 2, (level.bound - low) / 2
    sigma = centre / radius
    rho = 1 / sigma
    keep, add = 0.0, 1 / centre
    for step in range(SMOOTHING_DEGREE):
        is_first = from_zero and step == 0
        if not is_first:
            level.operator.multiply(level.x, level.y)
        if step > 0:
            next_rho = 1 / (2 * sigma - rho)
            keep, add, rho = next_rho * rho, 2 * next_rho / radius, next_rho
        _chebyshev(level, is_first, np.float32(keep), np.float32(add))


def _chebyshev(level: Level, is_first: bool, keep: np.float32, add: np.float32) -> None:
    level.operator.workers.run(
        level.operator.numbering.node_count,
        LEAST_NODES,
        lambda begin, end: chebyshev_step(
            begin, end, is_first, level.b, level.y, level.inverse, level.d, level.x, keep, add
        ),
    )
