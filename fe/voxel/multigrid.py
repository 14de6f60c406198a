"""Geometric multigrid for voxel models: the preconditioner, in single precision.

Every coarse level is the voxel model of twice the element size whose modulus is the mean of its eight children
(empty ones count as zero), rediscretised. Smoother: Chebyshev polynomial over 3 x 3 block-Jacobi, of degree 2 on the
finest level and twice the degree on each coarser one: coarse models of porous bone join what is separate, and much
smoothing there costs little (measured, iterations on a tibia's trabecular bone: 121 with degree 2 everywhere, 77 so;
on a femur 18 and 16). V-cycle; the coarsest level is solved directly. Supports are handed down to the coarse nodes at
the same places. W-cycles do not pay: the coarse models are somewhat too soft, a second visit corrects too much, and
on porous bone it diverges (measured).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from fe.voxel.diagonal import invert_blocks
from fe.voxel.element import largest_jacobi_eigenvalue
from fe.voxel.kernels import smooth_slabs, start_smoothing
from fe.voxel.numbering import Numbering, number_voxels
from fe.voxel.operator import StiffnessOperator, stiffness_operator
from fe.voxel.transfer import add_interpolated, restrict_rows
from fe.voxel.workers import Workers

Float32s = NDArray[np.float32]

COARSEST_NODES = 1500
"""A level with no more nodes is solved directly. Measured on femurs: one level further the elements are as thick as
the shaft, and iterations double or triple."""

SMOOTHING_DEGREE = 2
"""On the finest level; twice as much on each coarser one."""

SMOOTHING_RATIO = 10.0
"""The smoother damps the upper nine tenths of the spectrum of D^-1 K."""

HALF = np.float32(0.5)

LEAST_NODES = 20_000
LEAST_COARSE_NODES = 4000
"""A thread gets at least this many nodes: less is done before it has woken up."""

REGULARISATION = 1e-6
"""Relative shift of the coarsest diagonal: parts of a coarse model that the supports miss stay solvable."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level: operator, smoother and supports.

    Attributes
    ----------
    operator
        Single-precision stiffness.
    is_fixed : (3, nodes) bool array
        Held degrees of freedom.
    fixed : (fixed,) int64 array
        The same as entries of a ravelled (3, nodes) vector.
    inverse : (6, nodes) float32 array
        Inverse diagonal blocks, zero where fixed.
    bound
        Upper bound of the spectrum of D^-1 K.
    """

    operator: StiffnessOperator
    is_fixed: NDArray[np.bool_]
    fixed: NDArray[np.int64]
    inverse: Float32s
    bound: float

    def release(self, vector: NDArray[np.floating]) -> None:
        """Set the fixed entries of a (3, nodes) vector to zero."""
        vector.reshape(-1)[self.fixed] = 0


class Vectors:
    """Work space of one level: iterate x, right-hand side b, product y, smoothing direction d, all (3, nodes)."""

    def __init__(self, nodes: int) -> None:
        self.x, self.b, self.y, self.d = (np.zeros((3, nodes), np.float32) for _ in range(4))


@dataclass(frozen=True, slots=True)
class Work:
    """What one solve writes to, and the threads it runs on: solves with a work space each may run side by side."""

    workers: Workers
    vectors: tuple[Vectors, ...]


@dataclass(frozen=True, slots=True)
class Multigrid:
    """The hierarchy, finest level first, and the factors of the coarsest."""

    levels: tuple[Level, ...]
    coarsest: SuperLU

    def work(self, workers: Workers) -> Work:
        """Return a work space for this hierarchy."""
        return Work(workers, tuple(Vectors(level.operator.numbering.node_count) for level in self.levels))

    def with_moduli(self, modulus_mpa: NDArray[np.floating]) -> "Multigrid":
        """Return the hierarchy of other moduli ((nz, ny, nx)) on the same elements and supports."""
        modulus = modulus_mpa.astype(np.float32)
        levels = []
        for level in self.levels:
            levels.append(_level(level.operator.with_moduli(modulus), level.is_fixed, level.bound))
            modulus = _halve(modulus)
        return Multigrid(tuple(levels), _factorise(levels[-1]))

    def precondition(self, work: Work) -> None:
        """Set the finest x of the work space to an approximate solution of K x = its b, by one cycle."""
        self._cycle(0, work)

    def _cycle(self, depth: int, work: Work) -> None:
        level, fine = self.levels[depth], work.vectors[depth]
        if depth == len(self.levels) - 1:
            solution = self.coarsest.solve(fine.b.T.astype(float).ravel())
            fine.x[:] = solution.reshape(-1, 3).T
            level.release(fine.x)
            return
        coarse_level, coarse = self.levels[depth + 1], work.vectors[depth + 1]
        degree = SMOOTHING_DEGREE << depth
        _smooth(level, fine, work.workers, degree, from_zero=True)
        level.operator.residual(fine.b, fine.x, fine.y, work.workers)
        level.release(fine.y)
        self._restrict(depth, fine.y, coarse.b, work.workers)
        coarse_level.release(coarse.b)
        self._cycle(depth + 1, work)
        self._interpolate(depth, coarse.x, fine.x, work.workers)
        level.release(fine.x)
        _smooth(level, fine, work.workers, degree, from_zero=False)

    def _restrict(self, depth: int, y: Float32s, b: Float32s, workers: Workers) -> None:
        fine, coarse = (level.operator.numbering for level in self.levels[depth : depth + 2])
        workers.run(
            coarse.node_count,
            LEAST_COARSE_NODES,
            lambda begin, end: restrict_rows(begin, end, fine.node_rows, coarse.node_rows, HALF, y, b),
        )

    def _interpolate(self, depth: int, coarse_x: Float32s, x: Float32s, workers: Workers) -> None:
        fine, coarse = (level.operator.numbering for level in self.levels[depth : depth + 2])
        workers.run(
            fine.node_count,
            LEAST_NODES,
            lambda begin, end: add_interpolated(begin, end, fine.node_rows, coarse.node_numbers, HALF, coarse_x, x),
        )


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
    modulus = modulus_mpa.astype(np.float32, copy=False)
    operator = stiffness_operator(finest.numbering, modulus, size_mm, poisson_ratio, np.float32)
    bound = largest_jacobi_eigenvalue(operator.element_stiffness)
    levels = [_level(operator, is_fixed, bound)]
    while operator.numbering.node_count > COARSEST_NODES and min(modulus.shape) > 1:
        modulus = _halve(modulus)
        size_mm = (2 * size_mm[0], 2 * size_mm[1], 2 * size_mm[2])
        coarse_numbering = number_voxels(modulus > 0)
        is_fixed = _hand_down(is_fixed, operator.numbering, coarse_numbering)
        operator = stiffness_operator(coarse_numbering, modulus, size_mm, poisson_ratio, np.float32)
        levels.append(_level(operator, is_fixed, bound))
    return Multigrid(tuple(levels), _factorise(levels[-1]))


def _halve(modulus: Float32s) -> Float32s:
    """Return the grid of twice the element size; each value is the mean of eight children."""
    padded = np.pad(modulus, [(0, n % 2) for n in modulus.shape])
    nz, ny, nx = padded.shape
    return padded.reshape(nz // 2, 2, ny // 2, 2, nx // 2, 2).mean(axis=(1, 3, 5), dtype=np.float32)


def _hand_down(is_fixed: NDArray[np.bool_], fine: Numbering, coarse: Numbering) -> NDArray[np.bool_]:
    """Return the supports of the coarse nodes.

    Fixed are those at the place of a fixed fine node, and those that interpolate to fixed fine nodes only: without
    the second rule, a support between two coarse layers would be lost.
    """
    near_free = np.empty((3, coarse.node_count), np.float32)
    is_free = (~is_fixed).astype(np.float32)
    restrict_rows(0, coarse.node_count, fine.node_rows, coarse.node_rows, HALF, is_free, near_free)
    places = 2 * coarse.node_places
    inside = (places < fine.node_numbers.shape).all(axis=1)
    same = np.full(coarse.node_count, -1, np.int32)
    same[inside] = fine.node_numbers[tuple(places[inside].T)]
    return (near_free == 0) | (is_fixed[:, same] & (same >= 0))


def _level(operator: StiffnessOperator, is_fixed: NDArray[np.bool_], bound: float) -> Level:
    blocks = operator.diagonal_blocks()
    invert_blocks(blocks, is_fixed, blocks)
    return Level(operator, is_fixed, np.flatnonzero(is_fixed), blocks, bound)


def _factorise(level: Level) -> SuperLU:
    """Factorise the coarsest level, fixed rows and columns replaced by the identity."""
    matrix = level.operator.matrix()
    component, node = np.divmod(level.fixed, level.operator.numbering.node_count)
    free = np.ones(matrix.shape[0])
    free[3 * node + component] = 0
    keep = sparse.diags_array(free)
    shift = sparse.diags_array(np.where(free > 0, REGULARISATION * matrix.diagonal(), 1.0))
    return splu((keep @ matrix @ keep + shift).tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})


def chebyshev_factors(bound: float, degree: int) -> list[tuple[np.float32, np.float32]]:
    """Return (keep, add) of every smoothing step, for the interval [bound / SMOOTHING_RATIO, bound] of D^-1 K."""
    low = bound / SMOOTHING_RATIO
    centre, radius = (bound + low) / 2, (bound - low) / 2
    rho = radius / centre
    factors = [(np.float32(0), np.float32(1 / centre))]
    for _ in range(degree - 1):
        next_rho = 1 / (2 * centre / radius - rho)
        factors.append((np.float32(next_rho * rho), np.float32(2 * next_rho / radius)))
        rho = next_rho
    return factors


def _smooth(level: Level, v: Vectors, workers: Workers, degree: int, *, from_zero: bool) -> None:
    """Apply the Chebyshev smoother."""
    factors = chebyshev_factors(level.bound, degree)
    if from_zero:
        _start(level, v, factors.pop(0)[1], workers)
    for keep, add in factors:
        level.operator.each_slab(smooth_slabs, (v.x, v.y, v.b, level.inverse, keep, add, v.d), workers)


def _start(level: Level, v: Vectors, add: np.float32, workers: Workers) -> None:
    workers.run(
        level.operator.numbering.node_count,
        LEAST_NODES,
        lambda begin, end: start_smoothing(begin, end, v.b, level.inverse, add, v.d, v.x),
    )
