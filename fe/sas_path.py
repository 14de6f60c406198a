"""Loading a voxel model to failure by a growing displacement, with elements that soften.

Explicit secant method [SasCode]: one linear solution per increment, after which every element gets the secant modulus
of its largest strain so far. Stiffness never rises, and an element that is relieved goes straight back to the origin.
The secants of one increment serve the next, so the load lags by one increment; it converges with the increment.

Three things make it fast, none changes what is computed: a solution starts from the two before, continued in a line
(exact as long as nothing yields); the multigrid hierarchy is kept until it has become a poor preconditioner; and the
load comes from the energy, whose error is the square of the solution's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fe.errors import NoFailure, UnsupportedModel
from fe.material import POISSON_RATIO
from fe.sas_law import SOFTENING, SofteningLaw, equivalent_strain
from fe.voxel.element import strain_matrix
from fe.voxel.numbering import Numbering
from fe.voxel.solver import Solution, elastic_model, solve, with_moduli

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

REBUILD_FACTOR = 1.5
"""The hierarchy is made anew when a solution takes this many times the iterations of the first one with it. Measured
on a femur: 1 costs 19 hierarchies and saves 8 % of the iterations, 3 saves three hierarchies and costs 20 % more."""

MAX_ITERATIONS = 2000
"""Softening spreads the stiffness over six decades, and iterations grow with it."""

COUNT_SLACK = 1e-9
"""Increments: a rounding error must not drop the last one."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How the displacement grows.

    Attributes
    ----------
    increment_mm
        Displacement per linear solution [SasCode].
    largest_mm
        Where the loading ends at the latest [SasCode].
    stop_drop
        The loading ends when the load has fallen by this fraction of its maximum; 1 goes on to ``largest_mm`` as the
        source does [project's assumption].
    tolerance
        Relative residual of the linear solver.
    """

    increment_mm: float = 0.025
    largest_mm: float = 4.0
    stop_drop: float = 0.05
    tolerance: float = 1e-6

    @property
    def count(self) -> int:
        """Number of increments at most."""
        return int(np.floor(self.largest_mm / self.increment_mm + COUNT_SLACK))


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Elements, their law, and what is displaced.

    Attributes
    ----------
    numbering
        Nodes and elements.
    law
        One curve per element.
    element_mm
        Edge of the elements.
    is_fixed : (3, nodes) bool array
        Degrees of freedom that are held or displaced.
    pattern : (3, nodes) array
        Displacement of the fixed degrees of freedom per mm of loading; 0 where held.
    poisson_ratio
        Of all elements, in every phase.
    """

    numbering: Numbering
    law: SofteningLaw
    element_mm: float
    is_fixed: Bools
    pattern: Doubles
    poisson_ratio: float = POISSON_RATIO


@dataclass(frozen=True, slots=True)
class LoadingPath:
    """The path to failure and beyond.

    Attributes
    ----------
    displacement_mm, load_n : (increments,) arrays
        The load-displacement curve; the load is the reaction along the pattern.
    softened : (increments,) int array
        Elements that soften or have softened after each increment.
    peak
        Index of the largest load.
    peak_displacement_mm : (3, nodes) array
        Displacements at the largest load.
    peak_strain : (elements,) array
        Largest equivalent strain of every element up to the largest load.
    first_softened
        Element that softened first, the most strained of those of one increment; None when none has softened at the
        largest load.
    iterations
        Of the linear solver, all increments together.
    residual, reaction_balance
        Largest of all increments; the balance is the norm of the sum of all reactions over the load.
    """

    displacement_mm: Doubles
    load_n: Doubles
    softened: NDArray[np.int64]
    peak: int
    peak_displacement_mm: Doubles = field(repr=False)
    peak_strain: Doubles = field(repr=False)
    first_softened: int | None
    iterations: int
    residual: float
    reaction_balance: float

    @property
    def peak_load_n(self) -> float:
        """The largest load."""
        return float(self.load_n[self.peak])

    @property
    def stiffness_n_per_mm(self) -> float:
        """Slope of the curve's first increment, which is elastic."""
        return float(self.load_n[0] / self.displacement_mm[0])


class _Loading:
    """The state between two increments, in the order in which ``advance`` makes it."""

    def __init__(self, loaded: LoadedModel, steps: Steps) -> None:
        self.loaded, self.steps = loaded, steps
        size_mm = (loaded.element_mm,) * 3
        self.model = elastic_model(
            _on_grid(loaded.numbering, loaded.law.youngs_modulus_mpa),
            size_mm,
            loaded.poisson_ratio,
            loaded.is_fixed,
            loaded.numbering,
        )
        self.nodes = loaded.numbering.connectivity()
        self.strain_matrix = strain_matrix(size_mm)
        self.increments = 0
        self.displacement = self.before = np.zeros((3, loaded.numbering.node_count))
        self.strain = np.zeros(loaded.numbering.element_count)
        self.secant = loaded.law.youngs_modulus_mpa
        self.fresh_iterations: int | None = None
        self.iterations, self.residual, self.imbalance = 0, 0.0, 0.0

    def advance(self) -> float:
        """Add one increment: displace, solve, soften. Return the load in N."""
        self.increments += 1
        displacement_mm = self.increments * self.steps.increment_mm
        solution = solve(
            self.model,
            np.zeros_like(self.displacement),
            prescribed_mm=self.loaded.pattern * displacement_mm,
            start_mm=2 * self.displacement - self.before,
            tolerance=self.steps.tolerance,
            max_iterations=MAX_ITERATIONS,
        )
        self.before, self.displacement = self.displacement, solution.displacement_mm
        load_n = self._measure(solution, displacement_mm)
        self._soften(solution.iterations)
        return load_n

    def _measure(self, solution: Solution, displacement_mm: float) -> float:
        forces_n = self.model.forces(self.displacement)
        load_n = float((self.displacement * forces_n).sum()) / displacement_mm
        reaction_n = np.where(self.loaded.is_fixed, forces_n, 0.0).sum(axis=1)
        self.iterations += solution.iterations
        self.residual = max(self.residual, solution.residual)
        self.imbalance = max(self.imbalance, float(np.linalg.norm(reaction_n)) / load_n)
        return load_n

    def _soften(self, iterations: int) -> None:
        by_node = np.ascontiguousarray(self.displacement.T)
        strains = np.einsum("en,sn->es", by_node[self.nodes].reshape(-1, 24), self.strain_matrix)
        self.strain = np.maximum(self.strain, equivalent_strain(strains, self.loaded.poisson_ratio))
        secant = self.loaded.law.secant_mpa(self.strain)
        if np.array_equal(secant, self.secant):
            return
        self.secant = secant
        if self.fresh_iterations is None:
            self.fresh_iterations = iterations
        if iterations > REBUILD_FACTOR * self.fresh_iterations:
            self.model = with_moduli(self.model, secant)
            self.fresh_iterations = None
        else:
            operator = self.model.operator.with_moduli(_on_grid(self.loaded.numbering, secant))
            self.model = replace(self.model, operator=operator)


def load_to_failure(
    loaded: LoadedModel,
    steps: Steps,
    tell: Callable[[float], None] | None = None,
) -> LoadingPath:
    """Displace a model until it has failed.

    1. Solve for the next displacement with the secant moduli so far.
    2. Take the equivalent strain at the elements' centres, and the secant of the largest one so far.
    3. Repeat until the load has dropped, or the largest displacement is reached.

    Parameters
    ----------
    loaded
        Elements, law, supports and displacement.
    steps
        Increments and where to stop.
    tell
        Called with the fraction 0..1 of the largest displacement.

    Raises
    ------
    NoFailure
        The load still rises at the largest displacement.
    NotConverged
        A linear solution failed.
    UnsupportedModel
        Nothing is displaced, the displaced part carries no load, or the steps leave no increment.
    """
    if steps.count < 1 or not loaded.pattern.any():
        raise UnsupportedModel("Nothing is displaced, or by less than one increment.")
    loading = _Loading(loaded, steps)
    loads: list[float] = []
    softened: list[int] = []
    first, peak, at_peak = None, 0, (loading.displacement, loading.strain)
    while len(loads) < steps.count:
        loads.append(loading.advance())
        is_soft = loaded.law.phase(loading.strain) >= SOFTENING
        softened.append(int(is_soft.sum()))
        if first is None and is_soft.any():
            first = int(np.argmax(np.where(is_soft, loading.strain / loaded.law.plateau_end, 0.0)))
        if loads[-1] >= loads[peak]:
            peak, at_peak = len(loads) - 1, (loading.displacement, loading.strain)
        if tell is not None:
            tell(len(loads) / steps.count)
        if loads[-1] < (1 - steps.stop_drop) * loads[peak]:
            break
    _check_failed(loads, peak, steps)
    return LoadingPath(
        displacement_mm=np.arange(1, len(loads) + 1, dtype=np.float64) * steps.increment_mm,
        load_n=np.array(loads),
        softened=np.array(softened),
        peak=peak,
        peak_displacement_mm=at_peak[0],
        peak_strain=at_peak[1],
        first_softened=first if softened[peak] else None,
        iterations=loading.iterations,
        residual=loading.residual,
        reaction_balance=loading.imbalance,
    )


def _check_failed(loads: list[float], peak: int, steps: Steps) -> None:
    if peak == len(loads) - 1:
        raise NoFailure(
            f"After {len(loads)} increments of {steps.increment_mm} mm the load still rises ({loads[peak]:.0f} N)."
        )


def _on_grid(numbering: Numbering, values: Doubles) -> Doubles:
    """Return element values on the element grid, 0 where there is none."""
    dense = np.zeros(numbering.is_bone.shape)
    dense[numbering.is_bone] = values
    return dense
