"""The compiled inner loops: everything that runs once per element or node and iteration.

Compiled by numba on first use and cached on disk. Vectors are (3, nodes) arrays, one row per component of
(x, y, z). Elements come as *runs*: neighbours along x, whose nodes have consecutive numbers, so that no
connectivity is stored and loads are contiguous. Sums over elements go slab by slab in two colours: no two
threads ever touch one node, and the result does not depend on the number of threads.
"""

import numpy as np
from numba import njit

LANES = 256
"""Elements transformed together: the buffer stays in the first two cache levels, and loops are long enough for
the compiler to fill vector registers (measured: 64 lanes 50, 128 lanes 64, 256 lanes 69 million elements/s)."""

FAST = {"contract", "nsz", "reassoc", "arcp"}
"""Allowed liberties of arithmetic; NaN and infinity keep their meaning, so divergence is seen."""


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _load(x, n, plus, minus):  # type: ignore[no-untyped-def]
    """First butterfly (along x) of n neighbouring elements, straight from the node row ``x``."""
    for lane in range(n):
        a = x[lane]
        b = x[lane + 1]
        plus[lane] = a + b
        minus[lane] = a - b


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _add(y, n, plus, minus):  # type: ignore[no-untyped-def]
    """Last butterfly (along x), added to the node row ``y``; neighbours share a node."""
    carry = plus[0] - plus[0]
    for lane in range(n):
        a = plus[lane]
        b = minus[lane]
        y[lane] += carry + a + b
        carry = a - b
    y[n] += carry


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _butterfly(t0, t1, t2, t3):  # type: ignore[no-untyped-def]
    """Butterflies along y and z of one component and x parity, in place."""
    for lane in range(t0.shape[0]):
        a = t0[lane] + t1[lane]
        b = t0[lane] - t1[lane]
        c = t2[lane] + t3[lane]
        d = t2[lane] - t3[lane]
        t0[lane] = a + c
        t1[lane] = b + d
        t2[lane] = a - c
        t3[lane] = b - d


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _multiply(modulus, t0, t1, t2, block):  # type: ignore[no-untyped-def]
    """Multiply the three coupled parities by the modulus and their 3 x 3 block, in place."""
    m0, m1, m2 = block[0], block[1], block[2]
    m3, m4, m5 = block[3], block[4], block[5]
    m6, m7, m8 = block[6], block[7], block[8]
    for lane in range(t0.shape[0]):
        a = modulus[lane] * t0[lane]
        b = modulus[lane] * t1[lane]
        c = modulus[lane] * t2[lane]
        t0[lane] = m0 * a + m1 * b + m2 * c
        t1[lane] = m3 * a + m4 * b + m5 * c
        t2[lane] = m6 * a + m7 * b + m8 * c


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _load_batch(run, done, stop, run_nodes, run_first, modulus, x, buffer, lanes):  # type: ignore[no-untyped-def]
    """Fill the buffer from element ``done`` of ``run`` on; return the run and the element to go on with."""
    lane = 0
    while run < stop and lane < lanes.shape[0]:
        first = run_first[run] + done
        n = min(lanes.shape[0] - lane, run_first[run + 1] - first)
        lanes[lane : lane + n] = modulus[first : first + n]
        for row in range(4):
            node = run_nodes[run, row] + done
            for c in range(3):
                plus = buffer[c, 2 * row, lane : lane + n]
                minus = buffer[c, 2 * row + 1, lane : lane + n]
                _load(x[c, node : node + n + 1], n, plus, minus)
        lane += n
        done += n
        if first + n == run_first[run + 1]:
            run += 1
            done = 0
    return run, done


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _add_batch(run, done, stop, run_nodes, run_first, y, buffer):  # type: ignore[no-untyped-def]
    """Add the buffer to the nodes of the elements that filled it, in the same order."""
    lane = 0
    while run < stop and lane < buffer.shape[2]:
        first = run_first[run] + done
        n = min(buffer.shape[2] - lane, run_first[run + 1] - first)
        for row in range(4):
            node = run_nodes[run, row] + done
            for c in range(3):
                plus = buffer[c, 2 * row, lane : lane + n]
                minus = buffer[c, 2 * row + 1, lane : lane + n]
                _add(y[c, node : node + n + 1], n, plus, minus)
        lane += n
        done += n
        if first + n == run_first[run + 1]:
            run += 1
            done = 0


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _transform(buffer):  # type: ignore[no-untyped-def]
    for c in range(3):
        for p in range(2):
            _butterfly(buffer[c, p], buffer[c, p + 2], buffer[c, p + 4], buffer[c, p + 6])


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _multiply_slab(run, stop, run_nodes, run_first, modulus, blocks, x, y, buffer, lanes):  # type: ignore[no-untyped-def]
    """Add K x of the runs ``run .. stop - 1`` to y, LANES elements at a time."""
    done = 0
    while run < stop:
        next_run, next_done = _load_batch(run, done, stop, run_nodes, run_first, modulus, x, buffer, lanes)
        _transform(buffer)
        for p in range(8):
            _multiply(lanes, buffer[0, p ^ 1], buffer[1, p ^ 2], buffer[2, p ^ 4], blocks[p])
        _transform(buffer)
        _add_batch(run, done, stop, run_nodes, run_first, y, buffer)
        run, done = next_run, next_done


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def multiply_slabs(begin, end, colour, slab_runs, run_nodes, run_first, modulus, blocks, x, y):  # type: ignore[no-untyped-def]
    """Add K x of the slabs ``2 begin + colour, ..., 2 (end - 1) + colour`` to y.

    Parameters
    ----------
    begin, end, colour
        Which slabs.
    slab_runs : (slabs + 1,) int32 array
        First run of every slab; slabs are stacked along z and neighbours share one layer of nodes.
    run_nodes : (runs, 4) int32 array
        Number of the first node of each run's four node rows, (y, z) = (0, 0), (1, 0), (0, 1), (1, 1).
    run_first : (runs + 1,) int32 array
        Number of each run's first element.
    modulus : (elements,) array
        Young's modulus, MPa.
    blocks : (8, 9) array
        From ``fe.voxel.element.walsh_blocks``.
    x, y : (3, nodes) arrays
        All floating arrays have one type.
    """
    buffer = np.zeros((3, 8, LANES), x.dtype)
    lanes = np.zeros(LANES, x.dtype)
    for half in range(begin, end):
        slab = 2 * half + colour
        first, stop = slab_runs[slab], slab_runs[slab + 1]
        _multiply_slab(first, stop, run_nodes, run_first, modulus, blocks, x, y, buffer, lanes)


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def chebyshev_step(begin, end, is_first, b, y, inverse, d, x, keep, add):  # type: ignore[no-untyped-def]
    """One step of the smoother: ``d = keep d + add D^-1 (b - y)``, ``x += d``; the first step starts from x = 0.

    Works on nodes ``begin .. end - 1``. ``inverse`` is a (6, nodes) array: xx, yy, zz, xy, yz, xz of the symmetric
    inverse diagonal blocks, with zeros in the rows and columns of fixed degrees of freedom.
    """
    for i in range(begin, end):
        r0, r1, r2 = b[0, i], b[1, i], b[2, i]
        if not is_first:
            r0, r1, r2 = r0 - y[0, i], r1 - y[1, i], r2 - y[2, i]
        s0 = add * (inverse[0, i] * r0 + inverse[3, i] * r1 + inverse[5, i] * r2)
        s1 = add * (inverse[3, i] * r0 + inverse[1, i] * r1 + inverse[4, i] * r2)
        s2 = add * (inverse[5, i] * r0 + inverse[4, i] * r1 + inverse[2, i] * r2)
        if is_first:
            d[0, i], d[1, i], d[2, i] = s0, s1, s2
            x[0, i], x[1, i], x[2, i] = s0, s1, s2
        else:
            s0, s1, s2 = s0 + keep * d[0, i], s1 + keep * d[1, i], s2 + keep * d[2, i]
            d[0, i], d[1, i], d[2, i] = s0, s1, s2
            x[0, i] += s0
            x[1, i] += s1
            x[2, i] += s2


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def restrict_residual(begin, end, coarse_places, fine_numbers, b, y, half, coarse):  # type: ignore[no-untyped-def]
    """Set ``coarse = P^T (b - y)`` for coarse nodes ``begin .. end - 1``, P the trilinear interpolation.

    ``coarse_places`` is (nodes, 3) int32, the (z, y, x) place of every coarse node; ``fine_numbers`` is the dense
    array of fine node numbers, -1 where there is none; ``half`` is 0.5 in the type of the vectors.
    """
    nz, ny, nx = fine_numbers.shape
    for q in range(begin, end):
        k, j, i = 2 * coarse_places[q, 0], 2 * coarse_places[q, 1], 2 * coarse_places[q, 2]
        s0, s1, s2 = half - half, half - half, half - half
        for dk in range(max(-1, -k), min(2, nz - k)):
            for dj in range(max(-1, -j), min(2, ny - j)):
                for di in range(max(-1, -i), min(2, nx - i)):
                    f = fine_numbers[k + dk, j + dj, i + di]
                    if f < 0:
                        continue
                    weight = half + half
                    if dk != 0:
                        weight *= half
                    if dj != 0:
                        weight *= half
                    if di != 0:
                        weight *= half
                    s0 += weight * (b[0, f] - y[0, f])
                    s1 += weight * (b[1, f] - y[1, f])
                    s2 += weight * (b[2, f] - y[2, f])
        coarse[0, q], coarse[1, q], coarse[2, q] = s0, s1, s2


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def add_prolongation(begin, end, fine_places, coarse_numbers, coarse, half, x):  # type: ignore[no-untyped-def]
    """Add ``P coarse`` to x for fine nodes ``begin .. end - 1``. Arguments mirror ``restrict_residual``."""
    for f in range(begin, end):
        k, j, i = fine_places[f, 0], fine_places[f, 1], fine_places[f, 2]
        weight = half + half
        if k & 1:
            weight *= half
        if j & 1:
            weight *= half
        if i & 1:
            weight *= half
        s0, s1, s2 = half - half, half - half, half - half
        for dk in range(1 + (k & 1)):
            for dj in range(1 + (j & 1)):
                for di in range(1 + (i & 1)):
                    q = coarse_numbers[(k >> 1) + dk, (j >> 1) + dj, (i >> 1) + di]
                    if q >= 0:
                        s0 += coarse[0, q]
                        s1 += coarse[1, q]
                        s2 += coarse[2, q]
        x[0, f] += weight * s0
        x[1, f] += weight * s1
        x[2, f] += weight * s2
