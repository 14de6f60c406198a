"""An elastic body reduced to its answers to unit forces, so that every load case is dense algebra only.

The supports of all cases are the same, so the displacement under any load is a sum of columns: the answers to three
unit forces on the loaded part, and to unit forces on every *patch* of the surface that ever touches something.
Patches are weighted groups of nodes; a force on a patch is spread by its weights, and its displacement is the mean by
the same weights, which keeps the compliance symmetric. Columns are computed when a case first needs them and serve all
cases afterwards. Of a column only what is needed is kept: how far it moves the patches, and the strains at the places
where failure counts.

Nothing here knows how the body is meshed: bricks and tetrahedra enter as two functions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Doubles = NDArray[np.float64]

BATCH = 24
"""Columns solved at a time: enough for all threads, few enough that their displacements stay small in memory."""

LOAD = -1
"""Stands for the loaded part among the patches."""

IN_SPAN = 1e-9
"""A normal whose part outside of a patch's columns has less than this square of its length is a sum of them."""


@dataclass(frozen=True, slots=True)
class Responses:
    """Answers of a body to several loads.

    Attributes
    ----------
    displacement_mm : (loads, 3, nodes) array
        Components (x, y, z).
    residual : (loads,) array
        True relative residual of each.
    iterations
        Iterations of all loads together, 0 for a direct solver.
    """

    displacement_mm: Doubles
    residual: Doubles
    iterations: int


Solver = Callable[[Doubles, float], Responses]
"""Forces (loads, 3, nodes) in N and a relative tolerance to answers."""

Strains = Callable[[Doubles], Doubles]
"""Displacement (3, nodes) to engineering strains (places, 6) at the places where failure counts."""


@dataclass(slots=True)
class CondensedBody:
    """A body and the columns computed so far.

    A patch has no more columns than directions in which it was pushed, and at most three: the unit forces of its
    columns are perpendicular, and every later direction in their span is a sum of them.

    Attributes
    ----------
    solve, strains
        The body.
    load_n : (3, 3, nodes) array
        Three unit loads, along x, y and z.
    patches : (patches, nodes) sparse array
        Weights; every row adds up to 1.
    tolerance
        Relative residual of the columns.
    patch : (columns,) int array
        The patch each column pushes, ``LOAD`` for the first three.
    axis : (columns, 3) array
        Direction of each column's unit force.
    moved_mm : (columns, patches, 3) array
        Displacement of every patch under each column's unit force.
    strain : (columns, 6 places) float32 array
        Strains under each column's unit force.
    residual_n : (columns,) array
        Norm of each column's residual.
    iterations
        Of all columns together.
    """

    solve: Solver
    strains: Strains
    load_n: Doubles
    patches: sparse.csr_array
    tolerance: float
    patch: NDArray[np.int64] = field(init=False)
    axis: Doubles = field(init=False)
    moved_mm: Doubles = field(init=False)
    strain: NDArray[np.float32] = field(init=False)
    residual_n: Doubles = field(init=False)
    iterations: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.patch = np.full(3, LOAD)
        self.axis = np.eye(3)
        self.moved_mm, self.strain, self.residual_n = self._answers(self.load_n)

    @property
    def column_count(self) -> int:
        """Columns computed so far."""
        return len(self.moved_mm)

    @property
    def patch_count(self) -> int:
        """Number of patches."""
        return int(self.patches.shape[0])

    def spans(self, normal: Doubles) -> NDArray[np.bool_]:
        """Return the (patches,) mask of those whose columns make up a unit force along a normal (3,)."""
        on_patch = self.patch != LOAD
        squares = (self.axis[on_patch] @ normal) ** 2
        return np.bincount(self.patch[on_patch], squares, minlength=self.patch_count) > 1 - IN_SPAN

    def add(self, wanted: Iterable[tuple[int, Doubles]]) -> None:
        """Compute the columns that pairs of patch and normal still lack."""
        begin = self.column_count
        for patch, normal in wanted:
            axes = self.axis[self.patch == patch]
            rest = normal - axes.T @ (axes @ normal)
            length = float(np.linalg.norm(rest))
            if length**2 > IN_SPAN:
                self.patch = np.append(self.patch, patch)
                self.axis = np.vstack((self.axis, rest / length))
        for start in range(begin, len(self.patch), BATCH):
            part = slice(start, start + BATCH)
            weights = self.patches[self.patch[part]].toarray()
            moved, strain, residual = self._answers(self.axis[part, :, None] * weights[:, None, :])
            self.moved_mm = np.concatenate((self.moved_mm, moved))
            self.strain = np.concatenate((self.strain, strain))
            self.residual_n = np.concatenate((self.residual_n, residual))

    def _answers(self, forces_n: Doubles) -> tuple[Doubles, NDArray[np.float32], Doubles]:
        """Solve for unit loads; return what is kept: patches moved, strains, norms of the residuals."""
        answers = self.solve(forces_n, self.tolerance)
        self.iterations += answers.iterations
        norms = np.linalg.norm(forces_n.reshape(len(forces_n), -1), axis=1)
        return (
            np.array([self.patches @ displacement.T for displacement in answers.displacement_mm]),
            np.array(
                [self.strains(displacement).ravel() for displacement in answers.displacement_mm], dtype=np.float32
            ),
            answers.residual * norms,
        )

    def factors(self, load_n: Doubles, patch_force_n: Doubles, normal: Doubles) -> Doubles:
        """Return the factor (columns,) of every column under a load (3,) and forces (patches,) along a normal (3,)."""
        along = np.append(patch_force_n, 0.0)[self.patch] * (self.axis @ normal)
        along[:3] = load_n
        return np.asarray(along)

    def strain_under(self, factors: Doubles) -> Doubles:
        """Return the strains (places, 6) of a sum of columns."""
        used = np.flatnonzero(factors)
        return np.asarray(factors[used].astype(np.float32) @ self.strain[used], dtype=np.float64).reshape(-1, 6)

    def force_under(self, factors: Doubles) -> Doubles:
        """Return the nodal forces (3, nodes) of a sum of columns; those that came after the factors count nothing."""
        force = np.tensordot(factors[:3], self.load_n, axes=1)
        used = 3 + np.flatnonzero(factors[3:])
        return np.asarray(force + (factors[used, None] * self.axis[used]).T @ self.patches[self.patch[used]])

    def compliance(self, normal: Doubles) -> Doubles:
        """Return the (patches, patches) displacements along a normal under unit forces along it.

        Columns of patches whose span does not hold the normal are incomplete and must not be used.
        """
        along = (self.axis @ normal)[3:, None] * (self.moved_mm[3:] @ normal)
        compliance = np.zeros((self.patch_count, self.patch_count))
        np.add.at(compliance, self.patch[3:], along)
        return compliance.T

    def load_displacement(self, load: Doubles, normal: Doubles) -> Doubles:
        """Return the displacements (patches,) along a normal under a load (3,)."""
        return np.asarray(np.einsum("c,cpd,d->p", load, self.moved_mm[:3], normal))

    def residual_bound(self, factors: Doubles) -> float:
        """Return an upper bound of the residual's norm of a sum of columns over the norm of its forces."""
        bound = float(np.abs(factors) @ self.residual_n[: len(factors)])
        return bound / float(np.linalg.norm(self.force_under(factors)))
