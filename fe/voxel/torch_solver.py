"""The same conjugate gradients and the same multigrid on PyTorch tensors, for models on a graphics card.

Takes an ``ElasticModel`` as it is: moduli, Walsh-Hadamard blocks, smoother, supports and coarsest factors are its own,
so that both ways take the same steps up to rounding. Elements gather their nodes and scatter their forces; levels
exchange vectors through sparse interpolation matrices; the coarsest level is solved on the processor. Nothing else in
``fe`` imports PyTorch, and this module only those who ask for it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from fe.errors import MissingTool, NotConverged, UnsupportedModel
from fe.voxel.multigrid import SMOOTHING_DEGREE, Level, chebyshev_factors
from fe.voxel.numbering import Numbering
from fe.voxel.operator import StiffnessOperator
from fe.voxel.solver import DRIFT, MAX_ITERATIONS, RUNS, TOLERANCE, ElasticModel, Solution

Tensor = torch.Tensor
Vector = NDArray[np.float64]

CHUNK_ELEMENTS = 4_000_000
"""Elements gathered at once: 0.4 GB of work space in single precision."""

ALONG_COMPONENTS = (1, 2, 4)
"""Parity block p couples the parities p ^ 1 of x, p ^ 2 of y and p ^ 4 of z (``fe.voxel.element.walsh_blocks``)."""


@dataclass(frozen=True, slots=True)
class _Stiffness:
    """An operator on the device: its nodes (elements, 8), moduli and blocks (8, 3, 3)."""

    nodes: Tensor
    modulus: Tensor
    blocks: Tensor
    hadamard: Tensor

    def multiply(self, x: Tensor) -> Tensor:
        """Return K x of a (3, nodes) tensor."""
        y = torch.zeros_like(x)
        for begin in range(0, len(self.nodes), CHUNK_ELEMENTS):
            part = slice(begin, begin + CHUNK_ELEMENTS)
            corners = self.nodes[part]
            forces = self._coupled(x[:, corners] @ self.hadamard) * self.modulus[part, None]
            parities = torch.stack([row[:, _xor(bit)] for row, bit in zip(forces, ALONG_COMPONENTS, strict=True)])
            y.index_add_(1, corners.reshape(-1), (parities @ self.hadamard).reshape(3, -1))
        return y

    def _coupled(self, parities: Tensor) -> Tensor:
        """Multiply the parities (3, elements, 8) by their blocks; entry p of component c stands for p ^ bit of c."""
        rows = torch.stack([row[:, _xor(bit)] for row, bit in zip(parities, ALONG_COMPONENTS, strict=True)])
        return torch.einsum("pab,bep->aep", self.blocks, rows)


@dataclass(frozen=True, slots=True)
class _TorchLevel:
    """One level of the multigrid on the device; ``down`` and ``up`` are absent on the coarsest."""

    stiffness: _Stiffness
    inverse: Tensor
    is_free: Tensor
    factors: list[tuple[float, float]]
    up: Tensor | None
    down: Tensor | None

    def smooth(self, x: Tensor | None, b: Tensor) -> Tensor:
        """Apply the Chebyshev smoother from x, from zero when there is none."""
        step = torch.zeros_like(b)
        for keep, add in self.factors:
            r = b if x is None else b - self.stiffness.multiply(x)
            step = keep * step + add * self._unscaled(r)
            x = step if x is None else x + step
        assert x is not None
        return x

    def _unscaled(self, r: Tensor) -> Tensor:
        xx, yy, zz, xy, yz, xz = self.inverse
        a, b, c = r
        return torch.stack((xx * a + xy * b + xz * c, xy * a + yy * b + yz * c, xz * a + yz * b + zz * c))


def solve_on_torch(
    model: ElasticModel,
    force_n: Vector,
    *,
    device: str = "cpu",
    prescribed_mm: Vector | None = None,
    start_mm: Vector | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> Solution:
    """Solve K u = f as ``fe.voxel.solver.solve`` does, on a device of PyTorch.

    Parameters
    ----------
    model
        Stiffness, supports and preconditioner.
    force_n, prescribed_mm, start_mm : (3, nodes) arrays
        As for ``fe.voxel.solver.solve``.
    device
        ``cpu``, ``cuda`` or ``cuda:0``...
    tolerance, max_iterations
        As for ``fe.voxel.solver.solve``.

    Raises
    ------
    MissingTool
        PyTorch does not have the device.
    NotConverged, UnsupportedModel
        As for ``fe.voxel.solver.solve``.
    """
    where = _device(device)
    f = torch.as_tensor(np.array(force_n, dtype=np.float64), device=where)
    is_fixed = torch.as_tensor(model.is_fixed, device=where)
    stiffness = _stiffness(model.operator, where)
    levels = _levels(model, where)
    u = torch.zeros_like(f)
    if prescribed_mm is not None:
        u[is_fixed] = torch.as_tensor(prescribed_mm, dtype=f.dtype, device=where)[is_fixed]

    def residual() -> Tensor:
        return (f - stiffness.multiply(u)).masked_fill(is_fixed, 0)

    r = residual()
    scale = float(r.norm())
    if not np.isfinite(scale) or scale == 0:
        raise UnsupportedModel("The load is not finite, or acts on no free degree of freedom.")
    if start_mm is not None:
        u = torch.where(is_fixed, u, torch.as_tensor(start_mm, dtype=f.dtype, device=where))
        r = residual()
    iterations = 0
    for _ in range(RUNS):
        iterations = _iterate(model, stiffness, levels, u, r, tolerance * scale, iterations, max_iterations)
        r = residual()
        if float(r.norm()) <= DRIFT * tolerance * scale:
            return Solution(u.cpu().numpy(), iterations, float(r.norm()) / scale)
    raise NotConverged(iterations, float(r.norm()) / scale, tolerance)


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MissingTool(
            f"The device {name} was asked for, but PyTorch {torch.__version__} finds no CUDA device: install its CUDA "
            "build and a driver, or compute on the processor."
        )
    return device


def _xor(bit: int) -> list[int]:
    return [parity ^ bit for parity in range(8)]


def _stiffness(operator: StiffnessOperator, device: torch.device) -> _Stiffness:
    bit = np.array([[1.0, 1.0], [1.0, -1.0]])
    hadamard = np.kron(np.kron(bit, bit), bit).astype(operator.blocks.dtype)
    nodes = torch.as_tensor(operator.numbering.connectivity(), device=device)
    modulus, blocks, transform = (
        torch.as_tensor(a, device=device) for a in (operator.modulus_mpa, operator.blocks.reshape(8, 3, 3), hadamard)
    )
    return _Stiffness(nodes, modulus, blocks, transform)


def _levels(model: ElasticModel, device: torch.device) -> list[_TorchLevel]:
    levels = model.multigrid.levels
    result = []
    for depth, level in enumerate(levels):
        is_coarsest = depth == len(levels) - 1
        up = None if is_coarsest else _interpolation(level, levels[depth + 1])
        result.append(
            _TorchLevel(
                stiffness=_stiffness(level.operator, device),
                inverse=torch.as_tensor(level.inverse, device=device),
                is_free=torch.as_tensor(~level.is_fixed, device=device),
                factors=[
                    (float(keep), float(add)) for keep, add in chebyshev_factors(level.bound, SMOOTHING_DEGREE << depth)
                ],
                up=None if up is None else _sparse_tensor(up, device),
                down=None if up is None else _sparse_tensor(up.T.tocsr(), device),
            )
        )
    return result


def _interpolation(fine: Level, coarse: Level) -> sparse.csr_array:
    """Return the trilinear interpolation (fine nodes, coarse nodes) of one component."""
    numbering: Numbering = fine.operator.numbering
    places, numbers = numbering.node_places, coarse.operator.numbering.node_numbers
    low, odd = places >> 1, places & 1
    rows, columns, values = [], [], []
    for corner in np.ndindex(2, 2, 2):
        takes = np.flatnonzero((odd >= corner).all(axis=1))
        rows.append(takes)
        columns.append(numbers[tuple((low[takes] + corner).T)])
        values.append(0.5 ** odd[takes].sum(axis=1))
    triplets = np.concatenate(values).astype(np.float32), (np.concatenate(rows), np.concatenate(columns))
    return sparse.coo_array(triplets, shape=(numbering.node_count, coarse.operator.numbering.node_count)).tocsr()


def _sparse_tensor(matrix: sparse.csr_array, device: torch.device) -> Tensor:
    triplets = matrix.tocoo()
    indices, values = torch.as_tensor(np.stack((triplets.row, triplets.col))), torch.as_tensor(triplets.data)
    return torch.sparse_coo_tensor(indices, values, matrix.shape, check_invariants=True).to(device).coalesce()


def _cycle(model: ElasticModel, levels: list[_TorchLevel], depth: int, b: Tensor) -> Tensor:
    """Return an approximate solution of K x = b by one V-cycle."""
    level = levels[depth]
    if level.up is None or level.down is None:
        solution = model.multigrid.coarsest.solve(b.T.double().cpu().numpy().ravel()).reshape(-1, 3).T
        return torch.as_tensor(solution, dtype=b.dtype, device=b.device) * level.is_free
    x = level.smooth(None, b)
    r = (b - level.stiffness.multiply(x)) * level.is_free
    coarse_b = (level.down @ r.T).T.contiguous() * levels[depth + 1].is_free
    x = x + (level.up @ _cycle(model, levels, depth + 1, coarse_b).T).T * level.is_free
    return level.smooth(x, b)


def _iterate(
    model: ElasticModel,
    stiffness: _Stiffness,
    levels: list[_TorchLevel],
    u: Tensor,
    r: Tensor,
    goal: float,
    iterations: int,
    max_iterations: int,
) -> int:
    """Run conjugate gradients from the residual r, updating u and r in place; return the iterations so far."""
    p, rz_before = torch.zeros_like(r), 0.0
    is_free = levels[0].is_free
    norm = float(r.norm())
    while norm > goal and iterations < max_iterations:
        z = _cycle(model, levels, 0, (r / norm).float()).double() * norm
        rz = float((r * z).sum())
        p = z + (rz / rz_before if rz_before else 0.0) * p
        q = stiffness.multiply(p) * is_free
        curvature = float((p * q).sum())
        if not curvature > 0:  # not positive definite, or not finite
            break
        u += rz / curvature * p
        r -= rz / curvature * q
        rz_before, norm = rz, float(r.norm())
        iterations += 1
    return iterations
