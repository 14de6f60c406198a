"""The vector steps of the conjugate gradients, each one pass over memory, on all threads.

Vectors are (3, nodes) arrays. Sums come in parts of ``CHUNK`` numbers, so that they do not depend on the number of
threads; BLAS is not used, because its threads would fight with those of the kernels.
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fe.voxel.kernels import FAST
from fe.voxel.workers import Workers

Floats = NDArray[np.floating]

CHUNK = 1 << 15
"""Numbers of one part: 256 kB in double precision, a fraction of the second cache level."""

LEAST_CHUNKS = 2
"""A thread gets at least this many parts: less is done before it has woken up."""


def inner_product(a: Floats, b: Floats, workers: Workers) -> float:
    """Return the inner product, added up in double precision."""
    return _sum(a.size, workers, lambda begin, end, sums: _multiply(begin, end, a.ravel(), b.ravel(), sums))


def norm_of(a: Floats, workers: Workers) -> float:
    """Return the Euclidean norm."""
    return float(np.sqrt(inner_product(a, a, workers)))


def turn(p: Floats, keep: float, z: Floats, add: float, workers: Workers) -> None:
    """Set ``p = keep p + add z``."""
    workers.run(_chunks(p.size), LEAST_CHUNKS, lambda begin, end: _turn(begin, end, keep, add, z.ravel(), p.ravel()))


def advance(
    step: float, p: Floats, q: Floats, u: Floats, r: Floats, scale: float, b: Floats, workers: Workers
) -> float:
    """Add ``step p`` to u and ``-step q`` to r; set ``b = r / scale``; return the norm of r."""
    flat = p.ravel(), q.ravel(), u.ravel(), r.ravel(), b.ravel()
    squares = _sum(p.size, workers, lambda begin, end, sums: _advance(begin, end, step, 1 / scale, *flat, sums))
    return float(np.sqrt(squares))


def _chunks(size: int) -> int:
    return -(-size // CHUNK)


def _sum(size: int, workers: Workers, work: Callable[[int, int, NDArray[np.float64]], None]) -> float:
    sums = np.empty(_chunks(size))
    workers.run(len(sums), LEAST_CHUNKS, lambda begin, end: work(begin, end, sums))
    return float(sums.sum())


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def _turn(begin, end, keep, add, z, p):  # type: ignore[no-untyped-def]
    first, stop = begin * CHUNK, min(end * CHUNK, len(p))
    source, target = z[first:stop], p[first:stop]
    for i in range(stop - first):
        target[i] = keep * target[i] + add * source[i]


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def _advance(begin, end, step, scale, p, q, u, r, b, squares):  # type: ignore[no-untyped-def]
    for chunk in range(begin, end):
        first, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, len(u))
        source, target = p[first:stop], u[first:stop]
        for i in range(stop - first):
            target[i] += step * source[i]
        source, target = q[first:stop], r[first:stop]
        total = 0.0
        for i in range(stop - first):
            value = target[i] - step * source[i]
            target[i] = value
            total += value * value
        squares[chunk] = total
        single = b[first:stop]
        for i in range(stop - first):
            single[i] = scale * target[i]


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def _multiply(begin, end, a, b, sums):  # type: ignore[no-untyped-def]
    for chunk in range(begin, end):
        first, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, len(a))
        left, right = a[first:stop], b[first:stop]
        total = 0.0
        for i in range(stop - first):
            total += np.float64(left[i]) * np.float64(right[i])
        sums[chunk] = total
