"""Numbers for the nodes and elements of a voxel model, in the order that the compiled loops need.

Elements and nodes are numbered along x first, then y, then z, empty places left out. Neighbouring elements along
x form a *run*; the nodes of a run have consecutive numbers in each of its four node rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_SLABS = 64
"""Slabs are the unit of parallel work: two colours of at most this many halves keep up to 32 cores busy."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Numbers of a voxel model.

    Attributes
    ----------
    is_bone : (nz, ny, nx) bool array
        True where there is an element.
    node_numbers : (nz + 1, ny + 1, nx + 1) int32 array
        Number of the node at every grid point, -1 where no element touches it.
    node_places : (nodes, 3) int32 array
        Grid place (z, y, x) of every node.
    run_nodes : (runs, 4) int32 array
        First node of each run's rows (y, z) = (0, 0), (1, 0), (0, 1), (1, 1).
    run_first : (runs + 1,) int32 array
        First element of each run, then the number of elements.
    slab_runs : (slabs + 1,) int32 array
        First run of each slab of layers, then the number of runs.
    """

    is_bone: NDArray[np.bool_]
    node_numbers: NDArray[np.int32]
    node_places: NDArray[np.int32]
    run_nodes: NDArray[np.int32]
    run_first: NDArray[np.int32]
    slab_runs: NDArray[np.int32]

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return len(self.node_places)

    @property
    def element_count(self) -> int:
        """Number of elements."""
        return int(self.run_first[-1])

    def connectivity(self) -> NDArray[np.int32]:
        """Return the eight node numbers of every element, (elements, 8), corner n = i + 2 j + 4 k."""
        k, j, i = np.nonzero(self.is_bone)
        corners = [self.node_numbers[k + (n >> 2), j + ((n >> 1) & 1), i + (n & 1)] for n in range(8)]
        return np.stack(corners, axis=1)


def number_voxels(is_bone: NDArray[np.bool_]) -> Numbering:
    """Assign numbers to the nodes and elements of a voxel model.

    Parameters
    ----------
    is_bone : (nz, ny, nx) bool array
        True where there is an element.
    """
    node_numbers = _node_numbers(is_bone)
    edges = np.diff(is_bone.astype(np.int8), axis=2, prepend=0, append=0)
    k, j, begin = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[2]
    run_first = np.concatenate(([0], np.cumsum(end - begin))).astype(np.int32)
    rows = [node_numbers[k + dz, j + dy, begin] for dz in (0, 1) for dy in (0, 1)]
    return Numbering(
        is_bone=is_bone,
        node_numbers=node_numbers,
        node_places=np.stack(np.nonzero(node_numbers >= 0), axis=1).astype(np.int32),
        run_nodes=np.stack(rows, axis=1),
        run_first=run_first,
        slab_runs=_slab_runs(k, is_bone.sum(axis=(1, 2))),
    )


def _node_numbers(is_bone: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return a number for every grid point that an element touches, -1 for the others."""
    nz, ny, nx = is_bone.shape
    is_node = np.zeros((nz + 1, ny + 1, nx + 1), dtype=bool)
    for dz, dy, dx in np.ndindex(2, 2, 2):
        is_node[dz : dz + nz, dy : dy + ny, dx : dx + nx] |= is_bone
    numbers = np.cumsum(is_node, dtype=np.int32).reshape(is_node.shape) - np.int32(1)
    numbers[~is_node] = -1
    return numbers


def _slab_runs(run_layers: NDArray[np.int64], layer_elements: NDArray[np.int64]) -> NDArray[np.int32]:
    """Cut the layers into slabs with about equal numbers of elements; return the first run of each."""
    layers = len(layer_elements)
    filled = np.concatenate(([0], np.cumsum(layer_elements)))
    wanted = np.linspace(0, filled[-1], min(layers, MAX_SLABS) + 1)
    bounds = np.searchsorted(filled, wanted)
    bounds[0], bounds[-1] = 0, layers
    return np.searchsorted(run_layers, np.unique(bounds)).astype(np.int32)
