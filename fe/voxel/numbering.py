"""Numbers for the nodes and elements of a voxel model, in the order that the compiled loops need.

Elements and nodes are numbered along x first, then y, then z, empty places left out. Neighbouring elements along
x form a *run*; the nodes of a run have consecutive numbers in each of its four node rows. Nodes form runs too.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]

MIN_SLABS = 64
SLAB_ELEMENTS = 16_000
"""Slabs are the unit of parallel work: two colours of half of 64 keep up to 32 cores busy. Larger models have more of
them, so that what follows a product finds the slab's vectors in the second cache level."""


class NodeRows(NamedTuple):
    """The nodes as runs, row by row; row ``k ny + j`` holds the nodes at (z, y) = (k, j).

    Attributes
    ----------
    nz, ny, nx
        Nodes along each side of the box.
    row_runs : (nz ny + 1,) int32 array
        First run of every row, then the number of runs.
    run_rows, run_start : (runs,) int32 arrays
        Row of each run and place along x of its first node.
    run_first : (runs + 1,) int32 array
        Number of each run's first node, then the number of nodes.
    """

    nz: int
    ny: int
    nx: int
    row_runs: Int32s
    run_rows: Int32s
    run_start: Int32s
    run_first: Int32s


@dataclass(frozen=True, slots=True)
class Numbering:
    """Numbers of a voxel model.

    Attributes
    ----------
    is_bone : (nz, ny, nx) bool array
        True where there is an element.
    node_numbers : (nz + 1, ny + 1, nx + 1) int32 array
        Number of the node at every grid point, -1 where no element touches it.
    node_rows
        The nodes as runs.
    run_nodes : (runs, 4) int32 array
        First node of each run's rows (y, z) = (0, 0), (1, 0), (0, 1), (1, 1).
    run_first : (runs + 1,) int32 array
        First element of each run, then the number of elements.
    slab_runs : (slabs + 1,) int32 array
        First run of each slab of layers, then the number of runs.
    slab_nodes : (slabs, 4) int32 array
        First node of each slab's lowest layer, above it, of its uppermost layer, and beyond it.
    """

    is_bone: NDArray[np.bool_]
    node_numbers: Int32s
    node_rows: NodeRows
    run_nodes: Int32s
    run_first: Int32s
    slab_runs: Int32s
    slab_nodes: Int32s

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return int(self.node_rows.run_first[-1])

    @property
    def element_count(self) -> int:
        """Number of elements."""
        return int(self.run_first[-1])

    @property
    def node_places(self) -> Int32s:
        """Grid place (z, y, x) of every node, (nodes, 3); made anew at every call."""
        rows = self.node_rows
        counts = np.diff(rows.run_first)
        places = np.empty((self.node_count, 3), np.int32)
        places[:, 0] = np.repeat(rows.run_rows // rows.ny, counts)
        places[:, 1] = np.repeat(rows.run_rows % rows.ny, counts)
        places[:, 2] = np.repeat(rows.run_start - rows.run_first[:-1], counts)
        places[:, 2] += np.arange(self.node_count, dtype=np.int32)
        return places

    def connectivity(self) -> Int32s:
        """Return the eight node numbers of every element, (elements, 8), corner n = i + 2 j + 4 k."""
        counts = np.diff(self.run_first)
        along = np.arange(self.element_count, dtype=np.int32) - np.repeat(self.run_first[:-1], counts)
        nodes = np.empty((self.element_count, 8), np.int32)
        nodes[:, 0::2] = np.repeat(self.run_nodes, counts, axis=0) + along[:, None]
        nodes[:, 1::2] = nodes[:, 0::2] + 1
        return nodes


def number_voxels(is_bone: NDArray[np.bool_]) -> Numbering:
    """Assign numbers to the nodes and elements of a voxel model.

    Parameters
    ----------
    is_bone : (nz, ny, nx) bool array
        True where there is an element.
    """
    layers, rows, begin, end = _runs(is_bone)
    run_first = _starts(end - begin)
    node_numbers, node_rows = _number_nodes(is_bone)
    bounds = _slab_bounds(np.bincount(layers, end - begin, len(is_bone)).astype(np.int64))
    layer_nodes = node_rows.run_first[node_rows.row_runs[:: node_rows.ny]]
    low, high = bounds[:-1], bounds[1:]
    return Numbering(
        is_bone=is_bone,
        node_numbers=node_numbers,
        node_rows=node_rows,
        run_nodes=np.stack([node_numbers[layers + k, rows + j, begin] for k in (0, 1) for j in (0, 1)], axis=1),
        run_first=run_first,
        slab_runs=np.searchsorted(layers, bounds).astype(np.int32),
        slab_nodes=np.stack([layer_nodes[at] for at in (low, low + 1, high, high + 1)], axis=1),
    )


def _runs(filled: NDArray[np.bool_]) -> tuple[Int32s, Int32s, Int32s, Int32s]:
    """Return layer, row, first place and the place after the last of every run along x, in order."""
    nz, ny, nx = filled.shape
    # With an empty place at the end of every row, runs are what lies between two changes of the raveled array.
    padded = np.zeros((nz * ny, nx + 1), dtype=bool)
    padded[:, :-1] = filled.reshape(-1, nx)
    flat = padded.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        changes = np.concatenate(([0], changes))
    row, begin = np.divmod(changes[0::2], nx + 1)
    layers, rows = np.divmod(row, ny)
    end = begin + changes[1::2] - changes[0::2]
    return layers.astype(np.int32), rows.astype(np.int32), begin.astype(np.int32), end.astype(np.int32)


def _starts(counts: Int32s) -> Int32s:
    """Return where each of a sequence of blocks starts, and the end."""
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int32))).astype(np.int32)


def _number_nodes(is_bone: NDArray[np.bool_]) -> tuple[Int32s, NodeRows]:
    """Return a number for every grid point that an element touches, -1 for the others, and the nodes' rows."""
    nz, ny, nx = (n + 1 for n in is_bone.shape)
    is_node = np.zeros((nz, ny, nx), dtype=bool)
    is_node[:-1, :-1, :-1] = is_bone
    for axis in range(3):  # one after the other, from the far end: an element touches both of its ends
        np.moveaxis(is_node, axis, 0)[1:] |= np.moveaxis(is_node, axis, 0)[:-1].copy()
    layers, rows, begin, end = _runs(is_node)
    run_rows = layers * np.int32(ny) + rows
    row_runs = np.searchsorted(run_rows, np.arange(nz * ny + 1)).astype(np.int32)
    numbers = np.cumsum(is_node, dtype=np.int32).reshape(is_node.shape)
    numbers -= 1
    numbers[~is_node] = -1
    return numbers, NodeRows(nz, ny, nx, row_runs, run_rows, begin, _starts(end - begin))


def _slab_bounds(layer_elements: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut the layers into slabs with about equal numbers of elements; return their first layers and the end."""
    layers = len(layer_elements)
    filled = np.concatenate(([0], np.cumsum(layer_elements)))
    slabs = min(layers, max(MIN_SLABS, int(filled[-1]) // SLAB_ELEMENTS))
    bounds = np.searchsorted(filled, np.linspace(0, filled[-1], slabs + 1))
    bounds[0], bounds[-1] = 0, layers
    return np.unique(bounds)
