"""A linear elastic model of quadratic tetrahedra: one factorisation, any number of loads.

Displacements and forces are (3, nodes) arrays with components (x, y, z), as in the voxel models. Supports may be any
set of degrees of freedom; what they prescribe can differ from load to load.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fe.errors import NotConverged, UnsupportedModel
from fe.outcome import MeshField
from fe.tetra.assembly import StiffnessPattern, stiffness_pattern
from fe.tetra.factor import Factor, FactorName, factorise
from fe.tetra.mesh import TetMesh

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

RESIDUAL_LIMIT = 1e-8
"""Largest relative residual of a direct solution that is believed. Double precision leaves 1e-12 on short bones and
1e-10 on long ones [measured]; more than 1e-8 after a correction means a nearly singular stiffness."""

CORRECTIONS = 1
"""Steps of iterative refinement where the first solution is not good enough."""

BATCH = 32
"""Right-hand sides solved together: enough to fill the vector registers, few enough to keep memory small."""

LOOSE = 1e-7
"""A rigid motion that moves the held degrees of freedom less than this fraction of what another one does is not held:
well above rounding, well below a support of one element on a long bone."""


@dataclass(frozen=True, slots=True)
class TetSolutions:
    """Displacements under one or several loads.

    Attributes
    ----------
    displacement_mm : (loads, 3, nodes) array
        Components (x, y, z).
    residual : (loads,) array
        Norm of the true residual ``f - K u`` on the free degrees of freedom over the norm of the load there.
    """

    displacement_mm: Doubles
    residual: Doubles


@dataclass(frozen=True, slots=True)
class TetModel:
    """A factorised model.

    Attributes
    ----------
    mesh
        Nodes and elements.
    modulus_mpa : (elements,) array
        Young's modulus.
    poisson_ratio
        nu.
    is_fixed : (3, nodes) bool array
        Degrees of freedom held by supports.
    pattern
        Numbering of the free degrees of freedom.
    factor
        The factorised stiffness.
    """

    mesh: TetMesh
    modulus_mpa: Doubles
    poisson_ratio: float
    is_fixed: Bools
    pattern: StiffnessPattern
    factor: Factor

    @property
    def dof(self) -> int:
        """Number of free degrees of freedom."""
        return self.pattern.dof

    def forces(self, displacement_mm: Doubles) -> Doubles:
        """Return K u, N: the nodal forces that hold displacements (..., 3, nodes), element by element."""
        many = displacement_mm.reshape(-1, *displacement_mm.shape[-2:])
        forces = self.pattern.multiply(self.modulus_mpa, self.poisson_ratio, many)
        return forces.reshape(displacement_mm.shape)

    def field(self, displacement_mm: Doubles | None = None) -> MeshField:
        """Return mesh and moduli, with one displacement (3, nodes) if given, for files and pictures."""
        points = {} if displacement_mm is None else {"displacement_mm": np.ascontiguousarray(displacement_mm.T)}
        return MeshField(
            self.mesh.nodes_mm,
            self.mesh.elements,
            "quadratic_tetra",
            {"youngs_modulus_mpa": self.modulus_mpa},
            dict(points),
        )


def tetra_model(
    mesh: TetMesh,
    modulus_mpa: Doubles,
    poisson_ratio: float,
    is_fixed: Bools,
    *,
    threads: int | None = None,
    backend: FactorName | None = None,
) -> TetModel:
    """Assemble and factorise a model.

    Parameters
    ----------
    mesh
        Nodes and elements, one connected body.
    modulus_mpa : (elements,) array
        Young's modulus.
    poisson_ratio
        nu, between -1 and 0.5, both excluded.
    is_fixed : (3, nodes) bool array
        Degrees of freedom held by supports.
    threads, backend
        See ``fe.tetra.factor.factorise``.

    Raises
    ------
    UnsupportedModel
        A part of the model can move without strain, nothing can move, or a modulus is not positive.
    FactorisationFailed
        See ``fe.tetra.factor.factorise``.
    """
    modulus_mpa = np.asarray(modulus_mpa, dtype=np.float64)
    _check(mesh, modulus_mpa, poisson_ratio, is_fixed)
    pattern = stiffness_pattern(mesh, is_fixed)
    factor = factorise(pattern.isotropic(modulus_mpa, poisson_ratio), threads=threads, backend=backend)
    return TetModel(mesh, modulus_mpa, poisson_ratio, is_fixed, pattern, factor)


def solve(model: TetModel, force_n: Doubles, *, prescribed_mm: Doubles | None = None) -> TetSolutions:
    """Solve for one load (3, nodes); see ``solve_many``."""
    return solve_many(model, force_n[None], prescribed_mm=None if prescribed_mm is None else prescribed_mm[None])


def solve_many(model: TetModel, forces_n: Doubles, *, prescribed_mm: Doubles | None = None) -> TetSolutions:
    """Solve K u = f for several loads.

    1. u = prescribed displacements on the held degrees of freedom; r = f - K u.
    2. u += K^-1 r on the free ones, by the factor.
    3. The residual is computed afresh from u, element by element, not from the matrix; one that is too large is
       solved for again, once.

    Parameters
    ----------
    forces_n : (loads, 3, nodes) array
        Nodal loads; entries on held degrees of freedom are ignored.
    prescribed_mm : (loads, 3, nodes) array, optional
        Displacement of the held degrees of freedom; 0 when left out.

    Raises
    ------
    UnsupportedModel
        There is neither load nor prescribed displacement, it is not finite, or has a wrong shape.
    NotConverged
        The true residual is larger than ``RESIDUAL_LIMIT``.
    """
    shape = (3, model.mesh.node_count)
    if forces_n.ndim != 3 or forces_n.shape[1:] != shape:
        raise UnsupportedModel(f"Loads of shape {forces_n.shape} found, (loads, 3, {model.mesh.node_count}) expected.")
    u = np.zeros(forces_n.shape)
    r = np.array(forces_n, dtype=np.float64)
    if prescribed_mm is not None:
        u[:] = np.where(model.is_fixed, prescribed_mm, 0.0)
        r -= model.forces(u)
    r[:, model.is_fixed] = 0
    scale = np.linalg.norm(r.reshape(len(r), -1), axis=1)
    if not np.isfinite(scale).all():
        raise UnsupportedModel("The load holds values that are not finite.")
    if not scale.all():
        raise UnsupportedModel("No load acts on a free degree of freedom.")
    residual = np.full(len(r), np.inf)
    for _ in range(1 + CORRECTIONS):
        for begin in range(0, len(r), BATCH):
            part = slice(begin, begin + BATCH)
            u[part] += model.pattern.spread(model.factor.solve(model.pattern.gather(r[part])))
        r = forces_n - model.forces(u)
        r[:, model.is_fixed] = 0
        residual = np.linalg.norm(r.reshape(len(r), -1), axis=1) / scale
        if residual.max(initial=0.0) <= RESIDUAL_LIMIT:
            return TetSolutions(u, residual)
    raise NotConverged(CORRECTIONS, float(residual.max()), RESIDUAL_LIMIT)


def reactions_n(model: TetModel, force_n: Doubles, displacement_mm: Doubles) -> Doubles:
    """Return the supports' forces (3, nodes) under a load (3, nodes); 0 on free degrees of freedom."""
    return np.where(model.is_fixed, model.forces(displacement_mm) - force_n, 0.0)


def reaction_balance(model: TetModel, force_n: Doubles, displacement_mm: Doubles) -> float:
    """Return the norm of the sum of all forces, reactions included, over the norm of the largest of the two."""
    reaction = reactions_n(model, force_n, displacement_mm).sum(axis=1)
    load = force_n.sum(axis=1)
    scale = max(float(np.linalg.norm(load)), float(np.linalg.norm(reaction)))
    return float(np.linalg.norm(load + reaction)) / scale if scale > 0 else 0.0


def _check(mesh: TetMesh, modulus_mpa: Doubles, poisson_ratio: float, is_fixed: Bools) -> None:
    if modulus_mpa.shape != (mesh.element_count,) or is_fixed.shape != (3, mesh.node_count):
        raise UnsupportedModel(
            f"Moduli {modulus_mpa.shape} and supports {is_fixed.shape} do not fit {mesh.element_count} elements and "
            f"{mesh.node_count} nodes."
        )
    if not (np.isfinite(modulus_mpa).all() and (modulus_mpa > 0).all()):
        raise UnsupportedModel(f"{int((~(modulus_mpa > 0)).sum())} elements have no positive modulus.")
    if not -1 < poisson_ratio < 0.5:
        raise UnsupportedModel(f"Poisson's ratio {poisson_ratio} is not between -1 and 0.5.")
    if is_fixed.all():
        raise UnsupportedModel("Every degree of freedom is held.")
    for component in _components(mesh):
        if not _is_held(mesh.nodes_mm[component], is_fixed[:, component]):
            raise UnsupportedModel("The supports leave a part of the model free to move: it would float.")


def _components(mesh: TetMesh) -> list[NDArray[np.intp]]:
    """Return the node numbers of each connected part."""
    corner = mesh.elements[:, :1].repeat(mesh.elements.shape[1] - 1, axis=1).ravel()
    graph = coo_array((np.ones(corner.size), (corner, mesh.elements[:, 1:].ravel())), shape=(mesh.node_count,) * 2)
    count, label = connected_components(graph, directed=False)
    return [np.flatnonzero(label == part) for part in range(count)]


def _is_held(points_mm: Doubles, is_fixed: Bools) -> bool:
    """Return whether the supports exclude all six rigid motions."""
    centred = points_mm - points_mm.mean(axis=0)
    centred = centred / max(float(np.abs(centred).max()), np.finfo(float).tiny)
    motions = [np.broadcast_to(axis, centred.shape) for axis in np.eye(3)]
    motions += [np.cross(axis, centred) for axis in np.eye(3)]
    held = np.array([motion.T[is_fixed] for motion in motions])
    if held.shape[1] < len(motions):
        return False
    sizes = np.linalg.svd(held, compute_uv=False)
    return bool(sizes[-1] > LOOSE * sizes[0])
