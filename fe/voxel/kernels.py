"""The compiled product with the stiffness, and the steps that follow it while its result is still in the cache.

Compiled by numba on first use and cached on disk. Vectors are (3, nodes) arrays, one row per component of
(x, y, z). Elements come as *runs*: neighbours along x, whose nodes have consecutive numbers, so that no
connectivity is stored and loads are contiguous. Several runs fill one buffer, a lane per node: lane ``l`` holds the
element between the nodes of lanes ``l`` and ``l + 1``, and the last lane of a run an element of no stiffness.

Sums over elements go slab by slab in two colours: no two threads ever touch one node, and no result depends on the
number of threads. The layer of nodes between two slabs is complete when the slab of the second colour is done.
"""

import numpy as np
from numba import njit

LANES = 128
"""Nodes per row of a buffer: its 37 rows stay in the first two cache levels, and loops are long enough to fill
vector registers (measured, million elements/s without the copies: 64 lanes 136, 128 lanes 249, 256 lanes 258)."""

STRIDE = LANES + 16
"""Numbers from one row of a buffer to the next. Buffers are flat and their rows at fixed distances: only so does the
compiler know that they do not overlap."""

FAST = {"contract", "nsz", "reassoc", "arcp"}
"""Allowed liberties of arithmetic; NaN and infinity keep their meaning, so divergence is seen."""


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _load(run, done, stop, run_nodes, run_first, modulus, x, nodes, lanes):  # type: ignore[no-untyped-def]
    """Fill the buffer from element ``done`` of ``run`` on; return the run and the element to go on with."""
    lane = 0
    while run < stop and lane < LANES - 1:
        rest = run_first[run + 1] - run_first[run] - done
        n = min(LANES - 1 - lane, rest)
        first = run_first[run] + done
        source, target = modulus[first : first + n], lanes[lane : lane + n]
        for i in range(n):
            target[i] = source[i]
        lanes[lane + n] = 0
        for row in range(4):
            first = run_nodes[run, row] + done
            for c in range(3):
                place = (4 * c + row) * STRIDE + lane
                source, target = x[c, first : first + n + 1], nodes[place : place + n + 1]
                for i in range(n + 1):
                    target[i] = source[i]
        lane += n + 1
        done += n
        if n == rest:
            run, done = run + 1, 0
    lanes[lane:] = 0
    return run, done


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _add(run, done, stop, run_nodes, run_first, y, shares):  # type: ignore[no-untyped-def]
    """Add to the nodes that filled the buffer, in the same order, the shares of the elements on both sides."""
    lane = 0
    while run < stop and lane < LANES - 1:
        rest = run_first[run + 1] - run_first[run] - done
        n = min(LANES - 1 - lane, rest)
        for row in range(4):
            first = run_nodes[run, row] + done
            for c in range(3):
                place = (4 * c + row) * STRIDE + lane
                source, target = shares[place : place + 12 * STRIDE + n + 2], y[c, first : first + n + 1]
                for i in range(n + 1):
                    target[i] += source[i + 1] + source[i + 12 * STRIDE]
        lane += n + 1
        done += n
        if n == rest:
            run, done = run + 1, 0


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _parities(nodes, row, lane):  # type: ignore[no-untyped-def]
    """Return the Walsh-Hadamard transform of one component over the eight corners of a lane's element."""
    i = row * STRIDE + lane
    a, b = nodes[i], nodes[i + 1]
    c, d = nodes[i + STRIDE], nodes[i + STRIDE + 1]
    e, f = nodes[i + 2 * STRIDE], nodes[i + 2 * STRIDE + 1]
    g, h = nodes[i + 3 * STRIDE], nodes[i + 3 * STRIDE + 1]
    a, b, c, d, e, f, g, h = a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h
    a, b, c, d, e, f, g, h = a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h
    return a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _couple(blocks, row, modulus, a, b, c):  # type: ignore[no-untyped-def]
    """Multiply three coupled parities by the modulus and their 3 x 3 block."""
    a, b, c = modulus * a, modulus * b, modulus * c
    return (
        blocks[row, 0] * a + blocks[row, 1] * b + blocks[row, 2] * c,
        blocks[row, 3] * a + blocks[row, 4] * b + blocks[row, 5] * c,
        blocks[row, 6] * a + blocks[row, 7] * b + blocks[row, 8] * c,
    )


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _corners(parities, row, lane, shares):  # type: ignore[no-untyped-def]
    """Store the inverse transform: rows 0..11 hold the shares of the lane's own node, rows 12..23 of the next one.

    Lane ``l`` is stored at place ``l + 1``, so that the element before lane 0 is there too, and zero.
    """
    a, b, c, d, e, f, g, h = parities
    a, b, c, d, e, f, g, h = a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h
    a, b, c, d, e, f, g, h = a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h
    i = row * STRIDE + lane + 1
    shares[i], shares[i + 12 * STRIDE] = a + b, a - b
    shares[i + STRIDE], shares[i + 13 * STRIDE] = c + d, c - d
    shares[i + 2 * STRIDE], shares[i + 14 * STRIDE] = e + f, e - f
    shares[i + 3 * STRIDE], shares[i + 15 * STRIDE] = g + h, g - h


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _elements(nodes, lanes, blocks, shares):  # type: ignore[no-untyped-def]
    """Multiply every lane's element: corners to parities, their blocks, and back."""
    for lane in range(LANES):
        m = lanes[lane]
        x0, x1, x2, x3, x4, x5, x6, x7 = _parities(nodes, 0, lane)
        y0, y1, y2, y3, y4, y5, y6, y7 = _parities(nodes, 4, lane)
        z0, z1, z2, z3, z4, z5, z6, z7 = _parities(nodes, 8, lane)
        x1, y2, z4 = _couple(blocks, 0, m, x1, y2, z4)
        x0, y3, z5 = _couple(blocks, 1, m, x0, y3, z5)
        x3, y0, z6 = _couple(blocks, 2, m, x3, y0, z6)
        x2, y1, z7 = _couple(blocks, 3, m, x2, y1, z7)
        x5, y6, z0 = _couple(blocks, 4, m, x5, y6, z0)
        x4, y7, z1 = _couple(blocks, 5, m, x4, y7, z1)
        x7, y4, z2 = _couple(blocks, 6, m, x7, y4, z2)
        x6, y5, z3 = _couple(blocks, 7, m, x6, y5, z3)
        _corners((x0, x1, x2, x3, x4, x5, x6, x7), 0, lane, shares)
        _corners((y0, y1, y2, y3, y4, y5, y6, y7), 4, lane, shares)
        _corners((z0, z1, z2, z3, z4, z5, z6, z7), 8, lane, shares)


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _multiply_slab(slab, slab_runs, slab_nodes, run_nodes, run_first, modulus, blocks, x, y, buffers):  # type: ignore[no-untyped-def]
    """Set y = K x on the nodes that are the slab's own and add its share to those of its neighbours.

    The slabs of odd number come second: the layers between slabs are theirs to complete, those of even number set
    them first.
    """
    nodes, shares, lanes = buffers
    begin, end = own_nodes(slab, slab_nodes, slab & 1 == 0)
    for c in range(3):
        y[c, begin:end] = 0
    run, done, stop = slab_runs[slab], 0, slab_runs[slab + 1]
    while run < stop:
        next_run, next_done = _load(run, done, stop, run_nodes, run_first, modulus, x, nodes, lanes)
        _elements(nodes, lanes, blocks, shares)
        _add(run, done, stop, run_nodes, run_first, y, shares)
        run, done = next_run, next_done


@njit(fastmath=FAST, error_model="numpy", cache=True)
def own_nodes(slab, slab_nodes, with_shared):  # type: ignore[no-untyped-def]
    """Return the range of a slab's nodes, with or without the layers that it shares with its neighbours.

    ``slab_nodes`` is (slabs, 4): first node of the slab's lowest layer, first above it, first of its uppermost
    layer, first beyond it. The lowest layer of the first slab and the uppermost of the last are shared with none.
    """
    low = 0 if with_shared or slab == 0 else 1
    high = 3 if with_shared or slab == len(slab_nodes) - 1 else 2
    return slab_nodes[slab, low], slab_nodes[slab, high]


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _buffers(x):  # type: ignore[no-untyped-def]
    return np.zeros(12 * STRIDE, x.dtype), np.zeros(24 * STRIDE, x.dtype), np.zeros(LANES, x.dtype)


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def energy_slabs(begin, end, colour, slab_runs, slab_nodes, run_nodes, run_first, modulus, blocks, x, y, energy):  # type: ignore[no-untyped-def]
    """Set y = K x and ``energy[slab]`` to the slab's share of x y, for every second slab; colour 0 comes first.

    Parameters
    ----------
    begin, end, colour
        Slabs ``2 begin + colour, ..., 2 (end - 1) + colour``.
    slab_runs : (slabs + 1,) int32 array
        First run of every slab; slabs are stacked along z and neighbours share one layer of nodes.
    slab_nodes : (slabs, 4) int32 array
        See ``own_nodes``.
    run_nodes : (runs, 4) int32 array
        Number of the first node of each run's four node rows, (y, z) = (0, 0), (1, 0), (0, 1), (1, 1).
    run_first : (runs + 1,) int32 array
        Number of each run's first element.
    modulus : (elements,) array
        Young's modulus, MPa.
    blocks : (8, 9) array
        From ``fe.voxel.element.walsh_blocks``.
    x, y : (3, nodes) arrays
        All floating arrays but the energy have one type.
    energy : (slabs,) array
        Half of its sum is the strain energy.
    """
    buffers = _buffers(x)
    for half in range(begin, end):
        slab = 2 * half + colour
        _multiply_slab(slab, slab_runs, slab_nodes, run_nodes, run_first, modulus, blocks, x, y, buffers)
        first, stop = own_nodes(slab, slab_nodes, colour == 1)
        total = 0.0
        for c in range(3):
            left, right = x[c, first:stop], y[c, first:stop]
            for i in range(stop - first):
                total += left[i] * right[i]
        energy[slab] = total


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def residual_slabs(begin, end, colour, slab_runs, slab_nodes, run_nodes, run_first, modulus, blocks, x, y, b):  # type: ignore[no-untyped-def]
    """Set y = b - K x; arguments as for ``energy_slabs``."""
    buffers = _buffers(x)
    for half in range(begin, end):
        slab = 2 * half + colour
        _multiply_slab(slab, slab_runs, slab_nodes, run_nodes, run_first, modulus, blocks, x, y, buffers)
        first, stop = own_nodes(slab, slab_nodes, colour == 1)
        for c in range(3):
            source, target = b[c, first:stop], y[c, first:stop]
            for i in range(stop - first):
                target[i] = source[i] - target[i]


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def smooth_slabs(  # type: ignore[no-untyped-def]
    begin, end, colour, slab_runs, slab_nodes, run_nodes, run_first, modulus, blocks, x, y, b, inverse, keep, add, d
):
    """One step of the smoother: ``d = keep d + add D^-1 (b - K x)``, ``x += d``; y is work space.

    The iterate changes in place: the nodes of a slab of even number that it shares with no other change at once,
    all others when the slab of odd number that reads them is done.

    ``inverse`` is (6, nodes): xx, yy, zz, xy, yz, xz of the symmetric inverse diagonal blocks, with zeros in the rows
    and columns of held degrees of freedom. Other arguments as for ``energy_slabs``.
    """
    buffers = _buffers(x)
    tile = np.zeros(6 * LANES, x.dtype)
    for half in range(begin, end):
        slab = 2 * half + colour
        _multiply_slab(slab, slab_runs, slab_nodes, run_nodes, run_first, modulus, blocks, x, y, buffers)
        first, stop = own_nodes(slab, slab_nodes, colour == 1)
        for start in range(first, stop, LANES):
            n = min(LANES, stop - start)
            for c in range(3):
                right, left = b[c, start : start + n], y[c, start : start + n]
                for i in range(n):
                    tile[c * LANES + i] = right[i] - left[i]
            _apply_inverse(start, n, inverse, add, tile)
            for c in range(3):
                step, place = d[c, start : start + n], x[c, start : start + n]
                for i in range(n):
                    step[i] = tile[(3 + c) * LANES + i] + keep * step[i]
                    place[i] += step[i]


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def start_smoothing(begin, end, b, inverse, add, d, x):  # type: ignore[no-untyped-def]
    """Set ``x = d = add D^-1 b`` on nodes ``begin .. end - 1``: the smoother's first step from x = 0."""
    tile = np.zeros(6 * LANES, x.dtype)
    for start in range(begin, end, LANES):
        n = min(LANES, end - start)
        for c in range(3):
            right = b[c, start : start + n]
            for i in range(n):
                tile[c * LANES + i] = right[i]
        _apply_inverse(start, n, inverse, add, tile)
        for c in range(3):
            step, place = d[c, start : start + n], x[c, start : start + n]
            for i in range(n):
                step[i] = tile[(3 + c) * LANES + i]
                place[i] = tile[(3 + c) * LANES + i]


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _apply_inverse(start, n, inverse, add, tile):  # type: ignore[no-untyped-def]
    """Multiply rows 0..2 of the tile by ``add`` times the inverse blocks; the product goes to rows 3..5."""
    for c in range(3):
        first = inverse[0 if c == 0 else (3 if c == 1 else 5), start : start + n]
        second = inverse[3 if c == 0 else (1 if c == 1 else 4), start : start + n]
        third = inverse[5 if c == 0 else (4 if c == 1 else 2), start : start + n]
        for i in range(n):
            tile[(3 + c) * LANES + i] = add * (
                first[i] * tile[i] + second[i] * tile[LANES + i] + third[i] * tile[2 * LANES + i]
            )
