"""Readers for the three file kinds of the GIAS shape models: components, mesh topology, element basis.

``.pc`` is a pickled dictionary of numpy arrays: the mean of all coordinates (all x, then y, then z), the
principal components and their variances. ``.mesh`` (JSON) lists curved surface elements and which of their
nodes are one; ``.ens`` (JSON) names the Lagrange basis of each kind of element. Nodes are counted element by
element, in order, a shared node once. A quadrilateral's nodes run along its first direction fastest; a
triangle's rows get one node shorter each.

A pickle can run any program, so only the four names that a numpy array needs are admitted.
"""

import io
import json
import pickle
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dicom_node.errors import ConfigurationError

NODE_ROWS: dict[str, tuple[int, ...]] = {
    "quad44": (4, 4, 4, 4),
    "quad54": (5, 5, 5, 5),
    "quad55": (5, 5, 5, 5, 5),
    "tri10": (4, 3, 2, 1),
    "tri15": (5, 4, 3, 2, 1),
}
"""Nodes in each row of an element, by kind; rows of equal length make a quadrilateral."""

MAX_BYTES = 64 * 2**20
"""A component file larger than this is not one of these models (LLP26 has 2 MB)."""

_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return _ADMITTED[module, name]


@dataclass(frozen=True, slots=True)
class Components:
    """Mean and principal components of corresponding points.

    Attributes
    ----------
    mean_mm : (p, 3)
        Mean position of every node.
    modes_mm : (m, p, 3)
        Displacement of every node at one standard deviation of each component, largest first.
    """

    mean_mm: NDArray[np.float64]
    modes_mm: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Topology:
    """Curved elements over shared nodes.

    Attributes
    ----------
    elements
        The kind of each element and its node numbers.
    node_count
        How many nodes there are.
    """

    elements: tuple[tuple[str, tuple[int, ...]], ...]
    node_count: int


def read_components(path: Path) -> Components:
    """Read a ``.pc`` file; components without variance are left out.

    Raises
    ------
    ConfigurationError
        When the file is missing, too large, not such a pickle, holds anything but arrays, or arrays that do
        not fit one another.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path.name} has more than {MAX_BYTES} bytes; it is no shape model")
        content = _ArraysOnly(io.BytesIO(path.read_bytes())).load()
        mean = np.asarray(content["mean"], dtype=float)
        modes = np.asarray(content["modes"], dtype=float)
        variances = np.asarray(content["weights"], dtype=float)
    except (OSError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{path.name} could not be read as shape components: {error}") from error
    fits = mean.ndim == 1 and mean.size % 3 == 0 and modes.shape == (mean.size, variances.size)
    if not fits or not all(np.isfinite(array).all() for array in (mean, modes, variances)):
        raise ConfigurationError(
            f"{path.name} holds a mean of shape {mean.shape}, components of {modes.shape} and variances of "
            f"{variances.shape}; (3p,), (3p, m) and (m,) of finite numbers are expected"
        )
    kept = variances > 1e-9 * variances.max(initial=0)
    scaled = modes[:, kept] * np.sqrt(variances[kept])
    return Components(mean.reshape(3, -1).T.copy(), scaled.T.reshape(kept.sum(), 3, -1).transpose(0, 2, 1).copy())


def read_topology(mesh: Path, ensemble: Path) -> Topology:
    """Read ``.mesh`` and ``.ens`` files.

    Raises
    ------
    ConfigurationError
        When a file is missing or not of the form this module describes.
    """
    try:
        content = json.loads(mesh.read_text())
        order = json.loads(ensemble.read_text())["custom_map"] or {}
        kinds = [content["elements"][str(e)].split()[1] for e in range(len(content["elements"]))]
        elements, count = _numbered(kinds, content["connectivity"])
        expected = int(content["number_of_points"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{mesh.name} could not be read as a mesh: {error!r}") from error
    if count != expected or any(int(key) != value for key, value in order.items()):
        raise ConfigurationError(f"{mesh.name} has {count} nodes in its elements; {expected} in order are expected")
    return Topology(elements, count)


def _numbered(kinds: list[str], connectivity: dict[str, str]) -> tuple[tuple[tuple[str, tuple[int, ...]], ...], int]:
    """Give every node a number; a node that is one with an earlier element's takes that one's."""
    numbers: dict[str, int] = {}
    elements = []
    count = 0
    for element, kind in enumerate(kinds):
        nodes = []
        for local in range(sum(NODE_ROWS[kind])):
            key = f"{element}_{local}"
            shared = [numbers[other] for other in connectivity.get(key, "").split() if other in numbers]
            numbers[key] = shared[0] if shared else count
            count += not shared
            nodes.append(numbers[key])
        elements.append((kind, tuple(nodes)))
    return tuple(elements), count


@cache
def lagrange_weights(kind: str, subdivisions: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return how one element's finer points follow from its nodes, and the triangles between them.

    Parameters
    ----------
    kind
        A key of ``NODE_ROWS``.
    subdivisions
        Into how many pieces each step between two nodes is divided.

    Returns
    -------
    weights : (q, n)
        Weight of each of the element's n nodes in each of the q finer points.
    triangles : (t, 3)
        Numbers of the finer points, all turned the same way.
    """
    rows = NODE_ROWS[kind]
    is_quad = len(set(rows)) == 1
    nodes = [(i, j) for j, length in enumerate(rows) for i in range(length)]
    along, across = rows[0] - 1, len(rows) - 1
    finer = [
        (i, j)
        for j in range(across * subdivisions + 1)
        for i in range(along * subdivisions + 1 - (0 if is_quad else j))
    ]
    weights = np.array(
        [
            [_shape(node, (i / subdivisions, j / subdivisions), along, across, is_quad) for node in nodes]
            for i, j in finer
        ]
    )
    return weights, _triangles(finer)


def _shape(node: tuple[int, int], at: tuple[float, float], along: int, across: int, is_quad: bool) -> float:
    """Value of one node's Lagrange polynomial, coordinates counted in steps between nodes."""
    (i, j), (x, y) = node, at
    if is_quad:
        return _polynomial(range(along + 1), i, x) * _polynomial(range(across + 1), j, y)
    third, z = along - i - j, along - x - y
    return _polynomial(range(i + 1), i, x) * _polynomial(range(j + 1), j, y) * _polynomial(range(third + 1), third, z)


def _polynomial(nodes: range, own: int, x: float) -> float:
    """Lagrange's polynomial that is 1 at ``own`` and 0 at the other ``nodes``."""
    return float(np.prod([(x - other) / (own - other) for other in nodes if other != own]))


def _triangles(points: list[tuple[int, int]]) -> NDArray[np.intp]:
    number = {point: n for n, point in enumerate(points)}
    found = []
    for i, j in points:
        lower = ((i, j), (i + 1, j), (i, j + 1))
        upper = ((i + 1, j), (i + 1, j + 1), (i, j + 1))
        found += [corner for corner in (lower, upper) if all(point in number for point in corner)]
    return np.array([[number[point] for point in corner] for corner in found], dtype=np.intp)


def surface_operator(topology: Topology, subdivisions: int) -> tuple[sparse.csr_array, NDArray[np.intp]]:
    """Return the sparse matrix from nodes to finer points, and the closed surface's triangles.

    Points on an edge that two elements share depend on that edge's nodes alone, so both elements give the same
    weights and the two are made one point.

    Returns
    -------
    operator : (q, p)
        Finer points from nodes.
    triangles : (t, 3)
        Numbers of the finer points.

    Raises
    ------
    ConfigurationError
        When the surface is not closed, or not turned one way everywhere.
    """
    numbers: dict[tuple[tuple[int, float], ...], int] = {}
    triangles = []
    for kind, nodes in topology.elements:
        weights, corners = lagrange_weights(kind, subdivisions)
        local = [numbers.setdefault(_signature(row, nodes), len(numbers)) for row in weights]
        triangles.append(np.array(local, dtype=np.intp)[corners])
    entries = [(n, node, weight) for signature, n in numbers.items() for node, weight in signature]
    rows, columns, values = zip(*entries, strict=True)
    operator = sparse.csr_array((values, (rows, columns)), shape=(len(numbers), topology.node_count))
    return operator, _closed(np.concatenate(triangles))


def _signature(row: NDArray[np.float64], nodes: tuple[int, ...]) -> tuple[tuple[int, float], ...]:
    """Name a finer point by the nodes it depends on, so that two elements name it alike."""
    return tuple(sorted((nodes[k], round(float(row[k]), 9)) for k in np.flatnonzero(np.abs(row) > 1e-9)))


def _closed(triangles: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the triangles, once every edge was found once in each direction."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    forward = np.unique(edges, axis=0)
    backward = np.unique(edges[:, ::-1], axis=0)
    if len(forward) != len(edges) or not np.array_equal(forward, backward):
        raise ConfigurationError("The shape model's surface is not closed, or its elements are not turned one way")
    return triangles
