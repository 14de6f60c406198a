"""A preconditioner for quadratic tetrahedra: smoothing on all nodes, a direct solution on the corners.

The displacements that are linear in every element are those of the same mesh with four nodes. Their stiffness is a
tenth of the size, it is factorised once, and what it cannot see, the short waves between corners and mid-edges, a
Chebyshev polynomial of the diagonally scaled stiffness damps [Adams2003]. One cycle is symmetric and positive definite,
so conjugate gradients may use it: 9 to 11 iterations to a residual of 1e-6 on elastic vertebrae [measured], where the
factorised quadratic stiffness needs one, but four times the time and five times the memory in all.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fe.tetra.assembly import StiffnessPattern, pattern_of
from fe.tetra.factor import Factor, factorise
from fe.tetra.mesh import EDGES, TetMesh
from fe.tetra.plasticity import PlasticBody, Response, respond, tangent_product
from fe.voxel.workers import Workers

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

SMOOTHER_DEGREE = 2
SMOOTHER_RATIO = 8.0
"""The smoother damps eigenvalues between the largest and this fraction of it; the corners see the others [measured]."""

POWER_STEPS = 15
POWER_MARGIN = 1.15
"""The power method finds the largest eigenvalue from below; after 15 steps it is within 10 percent [measured]."""


@dataclass(frozen=True, slots=True)
class TwoLevel:
    """The preconditioner of one body and its supports. Arrays are (nodes, 3).

    Attributes
    ----------
    body
        The elements.
    elastic
        The unloaded body's response: its tangent is the elastic stiffness.
    is_prescribed : (nodes, 3) bool array
        Degrees of freedom without unknowns.
    inverse_diagonal : (nodes, 3) array
        Of the stiffness, mm/N; 0 where prescribed.
    largest
        Bound on the eigenvalues of the scaled stiffness.
    prolongation : (nodes, corners) sparse array
        Values at all nodes from values at the corners, which come first.
    pattern, factor
        Of the corners' stiffness.
    workers
        Threads.
    """

    body: PlasticBody
    elastic: Response = field(repr=False)
    is_prescribed: Bools = field(repr=False)
    inverse_diagonal: Doubles = field(repr=False)
    largest: float
    prolongation: sparse.csr_array = field(repr=False)
    pattern: StiffnessPattern = field(repr=False)
    factor: Factor
    workers: Workers

    def __call__(self, force_n: Doubles) -> Doubles:
        """Return an approximate elastic displacement under forces: smooth, correct on the corners, smooth."""
        x, rest = self._smooth(np.zeros_like(force_n), force_n, wants_rest=True)
        corners = np.ascontiguousarray((self.prolongation.T @ rest).T)
        solved = self.pattern.spread(self.factor.solve(self.pattern.gather(corners)))
        step = self._free(self.prolongation @ solved.T)
        return self._smooth(x + step, rest - self.stiffness_times(step), wants_rest=False)[0]

    def stiffness_times(self, displacement_mm: Doubles) -> Doubles:
        """Return the elastic forces on the free degrees of freedom."""
        return self._free(tangent_product(self.body, self.elastic, displacement_mm, self.workers))

    def _free(self, values: Doubles) -> Doubles:
        return np.where(self.is_prescribed, 0.0, values)

    def _smooth(self, x: Doubles, rest: Doubles, *, wants_rest: bool) -> tuple[Doubles, Doubles]:
        """Chebyshev's iteration on the upper part of the spectrum; return x and what is left of the force."""
        low, high = self.largest / SMOOTHER_RATIO, self.largest
        middle, half = (high + low) / 2, (high - low) / 2
        rho = half / middle
        step = self.inverse_diagonal * rest / middle
        for degree in range(SMOOTHER_DEGREE):
            x = x + step
            if degree == SMOOTHER_DEGREE - 1 and not wants_rest:
                break
            rest = rest - self.stiffness_times(step)
            last, rho = rho, 1 / (2 * middle / half - rho)
            step = rho * last * step + 2 * rho / half * (self.inverse_diagonal * rest)
        return x, rest


def two_level(
    mesh: TetMesh,
    body: PlasticBody,
    youngs_modulus_mpa: Doubles,
    poisson_ratio: float,
    is_prescribed: Bools,
    workers: Workers,
) -> TwoLevel:
    """Set up the preconditioner.

    Parameters
    ----------
    mesh
        With straight edges and its corners numbered first, as ``fe.tetra.mesh.quadratic_mesh`` makes it.
    body
        The same elements with their integration points.
    youngs_modulus_mpa : (elements,) array
        E.
    poisson_ratio
        nu.
    is_prescribed : (nodes, 3) bool array
        Held or moved; the corners among them must hold the body.
    workers
        Threads.

    Raises
    ------
    FactorisationFailed
        The corners' stiffness is singular: the body can move.
    """
    corners = mesh.elements[:, :4]
    count = int(corners.max()) + 1
    pattern = pattern_of(mesh.nodes_mm[:count], corners, np.ascontiguousarray(is_prescribed[:count].T))
    factor = factorise(pattern.isotropic(youngs_modulus_mpa, poisson_ratio))
    still = respond(body, np.zeros(mesh.nodes_mm.shape), body.no_plastic_strain(), workers)
    inverse = np.where(is_prescribed, 0.0, 1 / _diagonal(body))
    scaled = TwoLevel(body, still, is_prescribed, inverse, 1.0, _prolongation(mesh, count), pattern, factor, workers)
    return TwoLevel(
        body, still, is_prescribed, inverse, _largest(scaled), scaled.prolongation, pattern, factor, workers
    )


def _prolongation(mesh: TetMesh, count: int) -> sparse.csr_array:
    """Return the matrix that copies the corners and takes the mean of both ends on every edge."""
    mids, first = np.unique(mesh.elements[:, 4:].ravel(), return_index=True)
    ends = mesh.elements[:, EDGES].reshape(-1, 2)[first]
    rows = np.concatenate((np.arange(count), np.repeat(mids, 2)))
    columns = np.concatenate((np.arange(count), ends.ravel()))
    values = np.concatenate((np.ones(count), np.full(2 * len(mids), 0.5)))
    return sparse.csr_array((values, (rows, columns)), shape=(mesh.node_count, count))


def _diagonal(body: PlasticBody) -> Doubles:
    """Return the diagonal (nodes, 3) of the elastic stiffness: sum of V ((lame + mu) g_c^2 + mu |g|^2)."""
    mu = body.shear_mpa[:, None] * body.volume_mm3
    lame = (body.bulk_mpa - 2 / 3 * body.shear_mpa)[:, None] * body.volume_mm3
    squares = body.gradients**2
    own = np.einsum("ep,epnc->enc", lame + mu, squares) + np.einsum("ep,epnc->en", mu, squares)[..., None]
    diagonal = np.zeros((body.node_count, 3))
    for component in range(3):
        diagonal[:, component] = np.bincount(body.elements.ravel(), own[..., component].ravel(), body.node_count)
    return diagonal


def _largest(level: TwoLevel) -> float:
    """Return a bound on the largest eigenvalue of the scaled stiffness, by the power method from a fixed start."""
    x = np.where(level.is_prescribed, 0.0, np.random.default_rng(0).standard_normal(level.is_prescribed.shape))
    size = 1.0
    for _ in range(POWER_STEPS):
        x = x / np.linalg.norm(x)
        x = level.inverse_diagonal * level.stiffness_times(x)
        size = float(np.linalg.norm(x))
    return POWER_MARGIN * size
