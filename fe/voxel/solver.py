"""Conjugate gradients in double precision around the single-precision multigrid cycle.

One ``ElasticModel`` (stiffness, supports, hierarchy) serves any number of loads.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fe.errors import BadModulus, NotConverged, UnsupportedModel
from fe.voxel.krylov import advance, inner_product, norm_of, turn
from fe.voxel.multigrid import Multigrid, Work, build_multigrid
from fe.voxel.numbering import Numbering, number_voxels
from fe.voxel.operator import StiffnessOperator, stiffness_operator
from fe.voxel.supports import check_supports
from fe.voxel.workers import ALONE, Workers

Vector = NDArray[np.float64]

TOLERANCE = 1e-6
"""Default norm of the residual over the norm of the load. At 1e-6 strains are exact to about five digits."""

MAX_ITERATIONS = 300

RUNS = 3
"""How often the iteration starts, the first time included, when its residual has drifted from the true one."""

SIDE_BY_SIDE_NODES = 1_000_000
"""Larger models solve one load at a time: each load needs work space of its own, 150 bytes per node. At 97 000 elements
both ways take the same processor time (0.28 s a load, measured); small models only gain from threads this way."""

DRIFT = 2.0
"""The true residual may exceed the tolerance by this factor."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Displacements under one load.

    Attributes
    ----------
    displacement_mm : (3, nodes) array
        Components (x, y, z).
    iterations
        Iterations of the conjugate gradients.
    residual
        Norm of the true residual ``f - K u`` on the free degrees of freedom over the norm of the load.
    """

    displacement_mm: Vector
    iterations: int
    residual: float


@dataclass(frozen=True, slots=True)
class ElasticModel:
    """A linear elastic voxel model with supports, ready to be loaded.

    Attributes
    ----------
    operator
        Free stiffness, double precision.
    is_fixed : (3, nodes) bool array
        Degrees of freedom held by supports.
    multigrid
        The preconditioner.
    workers
        Threads of the solver.
    """

    operator: StiffnessOperator
    is_fixed: NDArray[np.bool_]
    multigrid: Multigrid
    workers: Workers

    @property
    def numbering(self) -> Numbering:
        """Nodes and elements."""
        return self.operator.numbering

    @property
    def dof(self) -> int:
        """Number of free degrees of freedom."""
        return int(self.is_fixed.size - self.is_fixed.sum())

    def forces(self, displacement_mm: Vector) -> Vector:
        """Return K u, N: the nodal forces that hold a displacement."""
        return np.asarray(self.operator.multiply(displacement_mm, np.empty_like(displacement_mm), self.workers))


def elastic_model(
    modulus_mpa: NDArray[np.floating],
    size_mm: tuple[float, float, float],
    poisson_ratio: float,
    is_fixed: NDArray[np.bool_],
    numbering: Numbering | None = None,
    threads: int | None = None,
) -> ElasticModel:
    """Set up a model.

    Parameters
    ----------
    modulus_mpa : (nz, ny, nx) array
        Young's modulus, 0 where there is no element.
    size_mm
        Element edges along (z, y, x).
    poisson_ratio
        nu.
    is_fixed : (3, nodes) bool array
        Held degrees of freedom, nodes in the order of ``number_voxels(modulus_mpa > 0)``.
    numbering
        That numbering, when the caller already has it.
    threads
        Threads of the solver; all cores the process may use when left out.

    Raises
    ------
    BadModulus
        A modulus is negative or not finite, or no element has one.
    UnsupportedModel
        The supports do not hold every part of the model.
    """
    _check_moduli(modulus_mpa)
    numbering = number_voxels(modulus_mpa > 0) if numbering is None else numbering
    check_supports(numbering, is_fixed)
    operator = stiffness_operator(numbering, modulus_mpa, size_mm, poisson_ratio)
    multigrid = build_multigrid(modulus_mpa, size_mm, poisson_ratio, is_fixed, operator)
    return ElasticModel(operator, is_fixed, multigrid, Workers(threads))


def with_moduli(model: ElasticModel, modulus_mpa: NDArray[np.floating]) -> ElasticModel:
    """Return the model with other moduli; elements, numbering and supports stay, and only what needs it is rebuilt.

    Parameters
    ----------
    model
        The model; it stays usable.
    modulus_mpa : (elements,) array
        Young's modulus of every element, in the order of the numbering.

    Raises
    ------
    BadModulus
        A modulus is not a finite positive number, or their count is not that of the elements.
    """
    count = model.numbering.element_count
    if modulus_mpa.shape != (count,) or not (modulus_mpa > 0).all():
        raise BadModulus(f"{count} positive moduli are needed, one for every element.")
    _check_moduli(modulus_mpa)
    dense = np.zeros(model.numbering.is_bone.shape)
    dense[model.numbering.is_bone] = modulus_mpa
    return replace(model, operator=model.operator.with_moduli(dense), multigrid=model.multigrid.with_moduli(dense))


def _check_moduli(modulus_mpa: NDArray[np.floating]) -> None:
    """Refuse moduli that are negative or not finite, and a grid without any."""
    low, high = float(modulus_mpa.min()), float(modulus_mpa.max())  # NaN passes through both
    if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high > 0):
        raise BadModulus(
            f"Young's moduli of {low:g} to {high:g} MPa were given; expected are finite ones, 0 where nothing is."
        )


def solve(
    model: ElasticModel,
    force_n: Vector,
    *,
    prescribed_mm: Vector | None = None,
    start_mm: Vector | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> Solution:
    """Solve K u = f with preconditioned conjugate gradients (Hestenes and Stiefel 1952).

    1. u = prescribed displacement on the held degrees of freedom, the start elsewhere; r = f - K u on the free ones.
    2. z = one multigrid cycle on r, scaled to unit norm so that single precision holds it.
    3. p = z + beta p; u += alpha p; r -= alpha K p; repeat from 2 until r is small.
    4. The residual reported is computed afresh from u; a drift beyond ``DRIFT`` restarts from 1.

    Parameters
    ----------
    model
        Stiffness, supports and preconditioner.
    force_n : (3, nodes) array
        Nodal loads; entries on held degrees of freedom are ignored.
    prescribed_mm : (3, nodes) array, optional
        Displacement of the held degrees of freedom; 0 when left out.
    start_mm : (3, nodes) array, optional
        A guess of the free displacements; 0 when left out. It changes the iterations needed, not what is reached.
    tolerance
        Relative residual to reach, over the norm of f - K u for u = the prescribed displacement and nothing else.
    max_iterations
        Limit of iterations.

    Raises
    ------
    NotConverged
        The tolerance was not reached, or the iteration broke down on a value that is not finite.
    UnsupportedModel
        There is neither load nor prescribed displacement, or it is not finite.
    """
    force_n = np.ascontiguousarray(force_n, dtype=np.float64)
    u, r = np.zeros_like(force_n), force_n.copy()
    model.multigrid.levels[0].release(r)
    if prescribed_mm is not None:
        u[model.is_fixed] = prescribed_mm[model.is_fixed]
        _free_residual(model, force_n, u, r)
    scale = norm_of(r, model.workers)
    if start_mm is not None:
        np.copyto(u, start_mm, where=~model.is_fixed)
        _free_residual(model, force_n, u, r)
    if not np.isfinite(scale):
        raise UnsupportedModel("The load holds values that are not finite.")
    if scale == 0:
        raise UnsupportedModel("No load acts on a free degree of freedom.")
    iterations = 0
    work = model.multigrid.work(model.workers)
    for _ in range(RUNS):
        iterations = _iterate(model, work, u, r, tolerance * scale, iterations, max_iterations)
        residual = _free_residual(model, force_n, u, r)
        if residual <= DRIFT * tolerance * scale:
            return Solution(u, iterations, residual / scale)
    raise NotConverged(iterations, residual / scale, tolerance)


def solve_many(
    model: ElasticModel,
    forces_n: NDArray[np.float64],
    *,
    prescribed_mm: NDArray[np.float64] | None = None,
    starts_mm: NDArray[np.float64] | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[Solution, ...]:
    """Solve for many loads, each on a thread of its own; large models one after the other on all threads.

    Parameters
    ----------
    model
        Stiffness, supports and preconditioner.
    forces_n : (loads, 3, nodes) array
        Nodal loads.
    prescribed_mm, starts_mm : (loads, 3, nodes) arrays, optional
        As for ``solve``, one for every load.
    tolerance, max_iterations
        As for ``solve``.

    Raises
    ------
    NotConverged, UnsupportedModel
        As ``solve``, for the first load that fails.
    """
    side_by_side = model.numbering.node_count <= SIDE_BY_SIDE_NODES
    shared = replace(model, workers=ALONE) if side_by_side else model

    def one(load: int) -> Solution:
        return solve(
            shared,
            forces_n[load],
            prescribed_mm=None if prescribed_mm is None else prescribed_mm[load],
            start_mm=None if starts_mm is None else starts_mm[load],
            tolerance=tolerance,
            max_iterations=max_iterations,
        )

    with ThreadPoolExecutor(model.workers.threads if side_by_side else 1, "fe-load") as pool:
        return tuple(pool.map(one, range(len(forces_n))))


def _free_residual(model: ElasticModel, force_n: Vector, u: Vector, out: Vector) -> float:
    """Set ``out`` to f - K u with zeros on held degrees of freedom; return its norm."""
    model.operator.residual(force_n, u, out, model.workers)
    model.multigrid.levels[0].release(out)
    return norm_of(out, model.workers)


def _iterate(
    model: ElasticModel, work: Work, u: Vector, r: Vector, goal: float, iterations: int, max_iterations: int
) -> int:
    """Run conjugate gradients from the residual r, updating u and r in place; return the iterations so far."""
    norm = scale = norm_of(r, work.workers)
    if norm <= goal:
        return iterations
    p, q = np.zeros_like(r), np.empty_like(r)
    b, z = work.vectors[0].b, work.vectors[0].x
    np.multiply(r, 1 / scale, out=b, casting="same_kind")
    rz_before = 0.0
    while norm > goal and iterations < max_iterations:
        model.multigrid.precondition(work)
        rz = scale * scale * inner_product(b, z, work.workers)
        turn(p, rz / rz_before if rz_before else 0.0, z, scale, work.workers)
        curvature = model.operator.energy(p, q, work.workers)
        model.multigrid.levels[0].release(q)
        if not curvature > 0:  # not positive definite, or not finite
            break
        scale, rz_before = norm, rz
        norm = advance(rz / curvature, p, q, u, r, scale, b, work.workers)
        iterations += 1
    return iterations
