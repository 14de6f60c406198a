"""A plastic body whose ends are moved: load steps, Newton's method, conjugate gradients.

Every Newton step solves the tangent by conjugate gradients, applied element by element and preconditioned by the
elastic body (``fe.tetra.two_level``): the tangent is never stiffer than that and differs from it only where the body
flows, so few iterations are needed and nothing is set up twice [Simo1998, Eisenstat1996].
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fe.errors import NotConverged
from fe.tetra.plasticity import PlasticBody, Response, respond, tangent_product
from fe.voxel.workers import Workers

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

LOOSEST, SAFETY = 0.1, 0.5
"""Relative tolerance of the conjugate gradients: the loosest, and the fraction of the last Newton step's reduction
squared that is asked for, so that convergence stays superlinear without solving more than is used
[Eisenstat1996, choice 2]."""

MAX_LINEAR = 400
"""Iterations of the conjugate gradients for one Newton step; the best direction so far is used after that."""

START_TOLERANCE = 0.01
"""Relative tolerance of the elastic solution over that of the loading: elastic steps then need nothing more."""

MAX_NEWTON = 30
"""Newton steps before an increment is cut."""

MAX_CUTS = 6
"""How often an increment may be halved."""

LINE_SEARCH = 8
"""Trial lengths of one Newton step at most."""

SLOPE_LEFT = 0.5
"""A trial length is taken when the slope of the energy along the step has fallen to this fraction [m assumption]."""


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One converged state of the loading.

    Attributes
    ----------
    fraction
        Of the prescribed displacement.
    reaction_n
        Sum of the forces (x, y, z) that hold the moved nodes.
    yielded_fraction
        Fraction of the volume with plastic strain.
    residual
        Norm of the forces left on free nodes over the norm of the forces on held and moved nodes, the largest so far.
    newton_steps, linear_iterations
        Work done.
    """

    fraction: float
    reaction_n: tuple[float, float, float]
    yielded_fraction: float
    residual: float
    newton_steps: int
    linear_iterations: int


@dataclass(frozen=True, slots=True)
class PlasticSolution:
    """The end of the loading and the way to it.

    Attributes
    ----------
    path
        Every converged state, in order, the unloaded one left out.
    elastic_iterations
        Iterations that found the elastic solution to start from.
    displacement_mm : (nodes, 3) array
        At the end.
    response
        Forces, stresses and plastic strains at the end.
    """

    path: tuple[LoadPoint, ...]
    elastic_iterations: int
    displacement_mm: Doubles = field(repr=False)
    response: Response = field(repr=False)


@dataclass(frozen=True, slots=True)
class _State:
    """A converged state from which the next increment starts."""

    fraction: float
    displacement: Doubles
    plastic: Doubles
    scale_n: float
    """Largest norm of the forces on prescribed nodes so far: unloaded bodies have nothing else to compare with."""


@dataclass(frozen=True, slots=True)
class PlasticProblem:
    """A body and where its supports go. Arrays are (nodes, 3) here, as in the compiled loops.

    Attributes
    ----------
    body
        Elements, integration points and yield stresses.
    is_prescribed : (nodes, 3) bool array
        Held or moved degrees of freedom.
    prescribed_mm : (nodes, 3) array
        Where they are at the end of the loading.
    precondition
        Returns an approximate elastic displacement (nodes, 3) under forces on free nodes: symmetric, positive definite,
        0 where prescribed.
    tolerance
        On ``LoadPoint.residual``.
    workers
        Threads.
    """

    body: PlasticBody
    is_prescribed: Bools
    prescribed_mm: Doubles
    precondition: Callable[[Doubles], Doubles]
    tolerance: float
    workers: Workers

    @property
    def dof(self) -> int:
        """Free degrees of freedom."""
        return int((~self.is_prescribed).sum())

    def moved(self) -> Bools:
        """Return the nodes (nodes,) with a prescribed displacement other than zero."""
        return np.asarray(((self.prescribed_mm != 0) & self.is_prescribed).any(axis=1))


def load(
    problem: PlasticProblem, fractions: tuple[float, ...], tell: Callable[[float], None] | None = None
) -> PlasticSolution:
    """Move the prescribed nodes to fractions of their displacement, one after the other.

    1. Start every increment from the last one continued in a straight line; the first from the elastic solution.
    2. Newton's method with a line search; halve the increment where it does not converge.

    Parameters
    ----------
    problem
        What is loaded.
    fractions
        Of the prescribed displacement, in the order of loading; may fall, which unloads.
    tell
        Called with every fraction that was reached.

    Raises
    ------
    NotConverged
        An increment of ``2 ** -MAX_CUTS`` of its size still does not converge.
    """
    unit, iterations = _elastic_unit(problem)
    state = _State(0.0, np.zeros_like(unit), problem.body.no_plastic_strain(), 0.0)
    rate = unit
    path: list[LoadPoint] = []
    response: Response | None = None
    for target in fractions:
        cuts, whole = 0, target - state.fraction
        while state.fraction != target:
            part = whole / 2**cuts
            goal = target if abs(target - state.fraction) <= abs(part) else state.fraction + part
            try:
                point, displacement, response = _increment(problem, state, goal, rate, unit)
            except NotConverged:
                if cuts == MAX_CUTS:
                    raise
                cuts += 1
                continue
            rate = (displacement - state.displacement) / (goal - state.fraction)
            state = _State(goal, displacement, response.plastic_strain, max(state.scale_n, _held_n(problem, response)))
            path.append(point)
            cuts = max(0, cuts - 1)
            if tell is not None:
                tell(goal)
    if response is None:
        response = respond(problem.body, state.displacement, state.plastic, problem.workers)
    return PlasticSolution(tuple(path), iterations, state.displacement, response)


def _elastic_unit(problem: PlasticProblem) -> tuple[Doubles, int]:
    """Return the elastic displacement under the whole prescribed displacement, and the iterations it took."""
    unit = np.where(problem.is_prescribed, problem.prescribed_mm, 0.0)
    # A state far below yield has the elastic tangent.
    still = respond(problem.body, np.zeros_like(unit), problem.body.no_plastic_strain(), problem.workers)
    pull = tangent_product(problem.body, still, unit, problem.workers)
    free, iterations = _tangent_solve(problem, still, -pull, START_TOLERANCE * problem.tolerance)
    return unit + free, iterations


def _increment(
    problem: PlasticProblem, state: _State, goal: float, rate: Doubles, unit: Doubles
) -> tuple[LoadPoint, Doubles, Response]:
    """Find the equilibrium at one fraction of the prescribed displacement."""
    step = goal - state.fraction
    displacement, response = _best_start(
        problem, state, (state.displacement + step * rate, state.displacement + step * unit)
    )
    residual, steps, iterations = _residual(problem, state, response), 0, 0
    tolerance = LOOSEST
    while residual > problem.tolerance:
        if steps == MAX_NEWTON:
            raise NotConverged(steps, residual, problem.tolerance)
        asked = max(tolerance, SAFETY * problem.tolerance / residual)
        direction, done = _tangent_solve(problem, response, -response.force_n, asked)
        displacement, response = _line_search(problem, state, displacement, response, direction)
        last, residual = residual, _residual(problem, state, response)
        tolerance = min(LOOSEST, max(SAFETY * (residual / last) ** 2, 1e-6))
        steps += 1
        iterations += done
    pull = response.force_n[problem.moved()].sum(axis=0)
    reaction = (float(pull[0]), float(pull[1]), float(pull[2]))
    volume, yielded = problem.body.volume_mm3, response.plastic_strain.any(axis=2)
    fraction = float(volume[yielded].sum() / volume.sum())
    return LoadPoint(goal, reaction, fraction, residual, steps, iterations), displacement, response


def _best_start(problem: PlasticProblem, state: _State, starts: tuple[Doubles, ...]) -> tuple[Doubles, Response]:
    """Return the start with the smallest residual."""
    tried = [(start, respond(problem.body, start, state.plastic, problem.workers)) for start in starts]
    return min(tried, key=lambda pair: _residual(problem, state, pair[1]))


def _residual(problem: PlasticProblem, state: _State, response: Response) -> float:
    """Return the norm of the forces on free nodes over the largest norm of those on prescribed ones."""
    free = float(np.linalg.norm(response.force_n[~problem.is_prescribed]))
    scale = max(state.scale_n, _held_n(problem, response))
    return free / scale if scale > 0 else (0.0 if free == 0 else np.inf)


def _held_n(problem: PlasticProblem, response: Response) -> float:
    return float(np.linalg.norm(response.force_n[problem.is_prescribed]))


def _tangent_solve(
    problem: PlasticProblem, response: Response, force_n: Doubles, tolerance: float
) -> tuple[Doubles, int]:
    """Solve tangent x = force on the free nodes by preconditioned conjugate gradients; return x and the iterations."""
    remaining = np.where(problem.is_prescribed, 0.0, force_n)
    wanted = tolerance * float(np.linalg.norm(remaining))
    x = np.zeros_like(remaining)
    z = problem.precondition(remaining)
    p, rz = z, float(np.vdot(remaining, z))
    for iteration in range(1, MAX_LINEAR + 1):
        q = np.where(problem.is_prescribed, 0.0, tangent_product(problem.body, response, p, problem.workers))
        stiffness = float(np.vdot(p, q))
        if not stiffness > 0:
            break
        x = x + (rz / stiffness) * p
        remaining = remaining - (rz / stiffness) * q
        if np.linalg.norm(remaining) <= wanted:
            return x, iteration
        z = problem.precondition(remaining)
        last, rz = rz, float(np.vdot(remaining, z))
        p = z + (rz / last) * p
    return x, iteration


def _line_search(
    problem: PlasticProblem, state: _State, start: Doubles, response: Response, direction: Doubles
) -> tuple[Doubles, Response]:
    """Go along a direction of descent until the slope of the energy has fallen.

    The incremental energy of perfect plasticity is convex, and its slope along the direction is the work of the
    remaining forces; the length is bracketed and found by the rule of false position.
    """
    slope = float(np.vdot(response.force_n, direction))
    low, low_slope, high, high_slope, length = 0.0, slope, np.inf, np.inf, 1.0
    for _ in range(LINE_SEARCH):
        displacement = start + length * direction
        trial = respond(problem.body, displacement, state.plastic, problem.workers)
        here = float(np.vdot(trial.force_n, direction))
        if abs(here) <= SLOPE_LEFT * abs(slope):
            break
        if here > 0:
            high, high_slope = length, here
        else:
            low, low_slope = length, here
        if np.isfinite(high):
            length = low + (high - low) * float(np.clip(low_slope / (low_slope - high_slope), 0.1, 0.9))
        else:
            length *= 2
    return displacement, trial
