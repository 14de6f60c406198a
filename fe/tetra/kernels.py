"""The compiled inner loops of the tetrahedra: neighbours, sparse rows, stiffness, forces, strains.

Compiled by numba on first use and cached on disk. Vectors are (nodes, 3) arrays here: an element gathers its nodes.
"""

import numpy as np
from numba import njit

FAST = {"contract", "nsz", "reassoc", "arcp"}
"""Allowed liberties of arithmetic; NaN and infinity keep their meaning, so a bad value is seen."""


@njit(error_model="numpy", cache=True, nogil=True)
def neighbours(elements, node_count):  # type: ignore[no-untyped-def]
    """Return for every node its neighbours with a number not below its own, itself first, sorted.

    Returns
    -------
    first : (nodes + 1,) int64 array
        Neighbours of node n are ``nodes[first[n] : first[n + 1]]``.
    nodes : int32 array
    """
    per_element = elements.shape[1]
    begin = np.zeros(node_count + 1, dtype=np.int64)
    for element in elements:
        for node in element:
            begin[node + 1] += 1
    for node in range(node_count):
        begin[node + 1] += begin[node]
    used_by = np.empty(elements.size, dtype=np.int32)
    place = begin[:-1].copy()
    for e in range(elements.shape[0]):
        for node in elements[e]:
            used_by[place[node]] = e
            place[node] += 1
    first = np.zeros(node_count + 1, dtype=np.int64)
    nodes = np.empty(elements.shape[0] * per_element * (per_element + 1) // 2, dtype=np.int32)
    seen_at = np.full(node_count, -1, dtype=np.int32)
    count = 0
    for node in range(node_count):
        start = count
        for k in range(begin[node], begin[node + 1]):
            for other in elements[used_by[k]]:
                if other >= node and seen_at[other] != node:
                    seen_at[other] = node
                    nodes[count] = other
                    count += 1
        nodes[start:count].sort()
        first[node + 1] = count
    return first, nodes[:count].copy()


@njit(error_model="numpy", cache=True, nogil=True)
def sparse_rows(first, nodes, number):  # type: ignore[no-untyped-def]  # noqa: C901 - plain nested loops, as the compiler wants them
    """Return the rows of the upper triangle over the free degrees of freedom.

    Parameters
    ----------
    first, nodes
        From ``neighbours``.
    number : (nodes, 3) int32 array
        Number of each degree of freedom, growing; -1 where it is held.

    Returns
    -------
    row_first, columns
        CSR.
    block_first : int32 array
        For each entry of ``nodes``: columns of the row that lie before it, were the row's own node whole.
    """
    free = 0
    for value in number.ravel():
        free += value >= 0
    row_first = np.zeros(free + 1, dtype=np.int64)
    block_first = np.empty(len(nodes), dtype=np.int32)
    for node in range(len(first) - 1):
        width = 0
        for k in range(first[node], first[node + 1]):
            block_first[k] = width
            for value in number[nodes[k]]:
                width += value >= 0
        before = 0
        for value in number[node]:
            if value >= 0:
                row_first[value + 1] = width - before
                before += 1
    for row in range(free):
        row_first[row + 1] += row_first[row]
    columns = np.empty(row_first[free], dtype=np.int32)
    for node in range(len(first) - 1):
        for row in number[node]:
            if row < 0:
                continue
            place = row_first[row]
            for k in range(first[node], first[node + 1]):
                for column in number[nodes[k]]:
                    if column >= row:
                        columns[place] = column
                        place += 1
    return row_first, columns, block_first


@njit(error_model="numpy", cache=True, nogil=True)
def _gradients(points, slopes, out):  # type: ignore[no-untyped-def]
    """Write the gradients (nodes, 3) of the shape functions at one place; return the Jacobian's determinant."""
    j = np.zeros((3, 3))
    for n in range(points.shape[0]):
        for row in range(3):
            for column in range(3):
                j[row, column] += points[n, row] * slopes[n, column]
    a = j[1, 1] * j[2, 2] - j[1, 2] * j[2, 1]
    b = j[1, 2] * j[2, 0] - j[1, 0] * j[2, 2]
    c = j[1, 0] * j[2, 1] - j[1, 1] * j[2, 0]
    determinant = j[0, 0] * a + j[0, 1] * b + j[0, 2] * c
    i = np.empty((3, 3))
    i[0, 0], i[1, 0], i[2, 0] = a, b, c
    i[0, 1] = j[0, 2] * j[2, 1] - j[0, 1] * j[2, 2]
    i[1, 1] = j[0, 0] * j[2, 2] - j[0, 2] * j[2, 0]
    i[2, 1] = j[0, 1] * j[2, 0] - j[0, 0] * j[2, 1]
    i[0, 2] = j[0, 1] * j[1, 2] - j[0, 2] * j[1, 1]
    i[1, 2] = j[0, 2] * j[1, 0] - j[0, 0] * j[1, 2]
    i[2, 2] = j[0, 0] * j[1, 1] - j[0, 1] * j[1, 0]
    for n in range(points.shape[0]):
        for row in range(3):
            out[n, row] = (slopes[n, 0] * i[0, row] + slopes[n, 1] * i[1, row] + slopes[n, 2] * i[2, row]) / determinant
    return determinant


@njit(error_model="numpy", cache=True, nogil=True)
def _scatter(block, s, t, first, nodes, block_first, number, row_first, values):  # type: ignore[no-untyped-def]
    """Add the 3 x 3 block of nodes (s, t) to the upper triangle: transposed where s > t."""
    p, q = min(s, t), max(s, t)
    low, high = first[p], first[p + 1]
    while high - low > 1:
        middle = (low + high) // 2
        if nodes[middle] > q:
            high = middle
        else:
            low = middle
    before = 0
    for row in range(3):
        if number[p, row] < 0:
            continue
        place = row_first[number[p, row]] + block_first[low] - before
        for column in range(3):
            if number[q, column] >= 0:
                if p != q or column >= row:
                    values[place] += block[row, column] if s <= t else block[column, row]
                place += 1
        before += 1


@njit(error_model="numpy", fastmath=FAST, cache=True, nogil=True)
def _isotropic_block(ratio, m, block):  # type: ignore[no-untyped-def]
    """Write ratio m + m^T + trace(m) 1."""
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    for row in range(3):
        for column in range(3):
            block[row, column] = ratio * m[row, column] + m[column, row]
        block[row, row] += trace


@njit(error_model="numpy", fastmath=FAST, cache=True, nogil=True)
def add_isotropic(points, elements, ratio, shear, slopes, weights, first, nodes, block_first, number, row_first):  # type: ignore[no-untyped-def]
    """Return the values of the upper triangle for isotropic elements of one Poisson's ratio.

    With M_ab the integral of shear * grad N_a (outer) grad N_b, the block of nodes a, b is
    ratio M_ab + M_ab^T + trace(M_ab) 1.

    Parameters
    ----------
    points : (nodes, 3) array
    elements : (elements, k) int32 array
    ratio
        Lame's first constant over the shear modulus.
    shear : (elements, points) array
        Shear modulus at the integration points, MPa.
    slopes, weights
        Natural slopes (points, k, 3) and weights (points,) of the rule.
    first, nodes, block_first, number, row_first
        The pattern.
    """
    k = elements.shape[1]
    values = np.zeros(row_first[-1])
    corner = np.empty((k, 3))
    g = np.empty((k, 3))
    outer = np.empty((k, k, 3, 3))
    block = np.empty((3, 3))
    for e in range(elements.shape[0]):
        for n in range(k):
            corner[n] = points[elements[e, n]]
        outer[:] = 0.0
        for p in range(len(weights)):
            scale = shear[e, p] * weights[p] * _gradients(corner, slopes[p], g) / 6
            for a in range(k):
                x, y, z = scale * g[a, 0], scale * g[a, 1], scale * g[a, 2]
                for b in range(a, k):
                    for column in range(3):
                        outer[a, b, 0, column] += x * g[b, column]
                        outer[a, b, 1, column] += y * g[b, column]
                        outer[a, b, 2, column] += z * g[b, column]
        for a in range(k):
            for b in range(a, k):
                _isotropic_block(ratio, outer[a, b], block)
                _scatter(block, elements[e, a], elements[e, b], first, nodes, block_first, number, row_first, values)
    return values


@njit(error_model="numpy", fastmath=FAST, cache=True, nogil=True)
def multiply_isotropic(points, elements, ratio, shear, slopes, weights, u, out):  # type: ignore[no-untyped-def]  # noqa: C901 - plain nested loops, as the compiler wants them
    """Add the nodal forces of displacements ``u`` (nodes, 3, loads) of isotropic elements to ``out``.

    Gradients are computed once per element for all loads; other parameters as in ``add_isotropic``.
    """
    k = elements.shape[1]
    loads = u.shape[2]
    corner = np.empty((k, 3))
    g = np.empty((k, 3))
    slope = np.empty((3, 3, loads))
    for e in range(elements.shape[0]):
        for n in range(k):
            corner[n] = points[elements[e, n]]
        for p in range(len(weights)):
            scale = shear[e, p] * weights[p] * _gradients(corner, slopes[p], g) / 6
            slope[:] = 0.0
            for n in range(k):
                node = elements[e, n]
                for c in range(3):
                    x, y, z = g[n, 0], g[n, 1], g[n, 2]
                    for load in range(loads):
                        slope[c, 0, load] += x * u[node, c, load]
                        slope[c, 1, load] += y * u[node, c, load]
                        slope[c, 2, load] += z * u[node, c, load]
            for load in range(loads):
                pressure = ratio * (slope[0, 0, load] + slope[1, 1, load] + slope[2, 2, load])
                for c in range(3):
                    slope[c, c, load] = scale * (2 * slope[c, c, load] + pressure)
                for c in range(3):
                    for d in range(c):
                        both = scale * (slope[c, d, load] + slope[d, c, load])
                        slope[c, d, load] = both
                        slope[d, c, load] = both
            for n in range(k):
                node = elements[e, n]
                x, y, z = g[n, 0], g[n, 1], g[n, 2]
                for c in range(3):
                    for load in range(loads):
                        out[node, c, load] += x * slope[c, 0, load] + y * slope[c, 1, load] + z * slope[c, 2, load]


@njit(error_model="numpy", cache=True, nogil=True)
def strains_at(points, elements, slopes, displacement):  # type: ignore[no-untyped-def]
    """Return the engineering strains (elements, points, 6) at the same places of all elements.

    Parameters
    ----------
    points, displacement : (nodes, 3) arrays
    elements : (elements, k) int32 array
    slopes : (points, k, 3) array
        Natural slopes at the places.
    """
    k = elements.shape[1]
    out = np.zeros((elements.shape[0], slopes.shape[0], 6))
    corner = np.empty((k, 3))
    g = np.empty((k, 3))
    for e in range(elements.shape[0]):
        for n in range(k):
            corner[n] = points[elements[e, n]]
        for p in range(slopes.shape[0]):
            _gradients(corner, slopes[p], g)
            for n in range(k):
                u, v, w = displacement[elements[e, n]]
                out[e, p, 0] += g[n, 0] * u
                out[e, p, 1] += g[n, 1] * v
                out[e, p, 2] += g[n, 2] * w
                out[e, p, 3] += g[n, 1] * u + g[n, 0] * v
                out[e, p, 4] += g[n, 2] * v + g[n, 1] * w
                out[e, p, 5] += g[n, 2] * u + g[n, 0] * w
    return out
