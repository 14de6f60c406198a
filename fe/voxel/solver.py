"""Conjugate gradients in double precision around the single-precision multigrid cycle.

One ``ElasticModel`` (stiffness, supports, hierarchy) serves any number of loads.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.errors import NotConverged, UnsupportedModel
from fe.voxel.multigrid import Multigrid, build_multigrid
from fe.voxel.numbering import Numbering, number_voxels
from fe.voxel.operator import StiffnessOperator, stiffness_operator
from fe.voxel.workers import Workers

Vector = NDArray[np.float64]

TOLERANCE = 1e-6
"""Default norm of the residual over the norm of the load. At 1e-6 strains are exact to about five digits."""

MAX_ITERATIONS = 300

RUNS = 3
"""How often the iteration starts, the first time included, when its residual has drifted from the true one."""

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
    """

    operator: StiffnessOperator
    is_fixed: NDArray[np.bool_]
    multigrid: Multigrid

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
        return np.asarray(self.operator.multiply(displacement_mm, np.empty_like(displacement_mm)))


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
    UnsupportedModel
        Nothing is held.
    """
    if not is_fixed.any():
        raise UnsupportedModel("No degree of freedom is held: the model would float.")
    numbering = number_voxels(modulus_mpa > 0) if numbering is None else numbering
    operator = stiffness_operator(numbering, modulus_mpa, size_mm, poisson_ratio, workers=Workers(threads))
    return ElasticModel(operator, is_fixed, build_multigrid(modulus_mpa, size_mm, poisson_ratio, is_fixed, operator))


def solve(
    model: ElasticModel,
    force_n: Vector,
    *,
    prescribed_mm: Vector | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> Solution:
    """Solve K u = f with preconditioned conjugate gradients (Hestenes and Stiefel 1952).

    1. u = prescribed displacement on the held degrees of freedom, 0 elsewhere; r = f - K u on the free ones.
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
    tolerance
        Relative residual to reach, over the norm of f - K u of step 1.
    max_iterations
        Limit of iterations.

    Raises
    ------
    NotConverged
        The tolerance was not reached, or the iteration broke down on a value that is not finite.
    UnsupportedModel
        There is neither load nor prescribed displacement, or it is not finite.
    """
    u = np.zeros((3, model.numbering.node_count))
    if prescribed_mm is not None:
        u[model.is_fixed] = prescribed_mm[model.is_fixed]
    r = _free_residual(model, force_n, u)
    scale = _norm(r)
    if not np.isfinite(scale):
        raise UnsupportedModel("The load holds values that are not finite.")
    if scale == 0:
        raise UnsupportedModel("No load acts on a free degree of freedom.")
    iterations = 0
    for _ in range(RUNS):
        iterations = _iterate(model, u, r, tolerance * scale, iterations, max_iterations)
        r = _free_residual(model, force_n, u)
        if _norm(r) <= DRIFT * tolerance * scale:
            return Solution(u, iterations, _norm(r) / scale)
    raise NotConverged(iterations, _norm(r) / scale, tolerance)


def _dot(a: Vector, b: NDArray[np.floating]) -> float:
    """Return the inner product without BLAS, whose threads would fight with those of the kernels."""
    return float(np.einsum("ij,ij->", a, b))


def _norm(a: Vector) -> float:
    return float(np.sqrt(_dot(a, a)))


def _free_residual(model: ElasticModel, force_n: Vector, u: Vector) -> Vector:
    """Return f - K u with zeros on held degrees of freedom."""
    residual = force_n - model.forces(u)
    residual[model.is_fixed] = 0
    return residual


def _iterate(model: ElasticModel, u: Vector, r: Vector, goal: float, iterations: int, max_iterations: int) -> int:
    """Run conjugate gradients from the residual r, updating u and r in place; return the iterations so far."""
    p = np.zeros_like(r)
    q = np.empty_like(r)
    rz_before = 0.0
    norm = _norm(r)
    while norm > goal and iterations < max_iterations:
        z = model.multigrid.precondition(r / norm)
        rz = norm * _dot(r, z)
        p *= rz / rz_before if rz_before else 0.0
        p += norm * z
        model.operator.multiply(p, q)
        q[model.is_fixed] = 0
        curvature = _dot(p, q)
        if not curvature > 0:  # not positive definite, or not finite
            break
        step = rz / curvature
        u += step * p
        r -= step * q
        rz_before = rz
        norm = _norm(r)
        iterations += 1
    return iterations
