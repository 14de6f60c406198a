"""The compiled ways between two levels of the multigrid, row by row of nodes.

Nodes come as *runs* too: neighbours along x with consecutive numbers. A fine run lies between coarse runs of up to
four rows, so that interpolation is a sum of rows, then a widening along x; restriction is its transpose. Coarse nodes
around a fine node always exist, because a coarse element stands wherever one of its children does.
"""

import numpy as np
from numba import njit

from fe.voxel.kernels import FAST


@njit(fastmath=FAST, error_model="numpy", cache=True)
def _row_at(node, node_run_first, node_run_rows, rows):  # type: ignore[no-untyped-def]
    """Return the row of the first run that begins at ``node`` or later."""
    run = np.searchsorted(node_run_first, node)
    return rows if run >= len(node_run_rows) else node_run_rows[run]


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def restrict_rows(begin, end, fine, coarse, half, y, b):  # type: ignore[no-untyped-def]
    """Set ``b = P^T y``, P the trilinear interpolation, on the coarse rows that start in nodes ``begin .. end - 1``.

    Parameters
    ----------
    begin, end
        Coarse nodes.
    fine, coarse
        ``Numbering.node_rows`` of both levels.
    half
        0.5 in the type of the vectors.
    y, b : (3, fine nodes), (3, coarse nodes) arrays
        Fine residual and coarse right-hand side.
    """
    nz, ny, _, fine_rows, _, fine_start, fine_first = fine
    _, coarse_ny, coarse_nx, rows, run_rows, coarse_start, coarse_first = coarse
    line = np.zeros(2 * coarse_nx + 1, y.dtype)
    for row in range(
        _row_at(begin, coarse_first, run_rows, len(rows) - 1), _row_at(end, coarse_first, run_rows, len(rows) - 1)
    ):
        if rows[row] == rows[row + 1]:
            continue
        k, j = 2 * (row // coarse_ny), 2 * (row % coarse_ny)
        for c in range(3):
            line[:] = 0
            for dk in range(max(-1, -k), min(2, nz - k)):
                for dj in range(max(-1, -j), min(2, ny - j)):
                    weight = (half if dk else half + half) * (half if dj else half + half)
                    fine_row = (k + dk) * ny + j + dj
                    for run in range(fine_rows[fine_row], fine_rows[fine_row + 1]):
                        first, n = fine_first[run], fine_first[run + 1] - fine_first[run]
                        source, target = y[c, first : first + n], line[fine_start[run] + 1 : fine_start[run] + 1 + n]
                        for i in range(n):
                            target[i] += weight * source[i]
            for run in range(rows[row], rows[row + 1]):
                first, n = coarse_first[run], coarse_first[run + 1] - coarse_first[run]
                source, target = (
                    line[2 * coarse_start[run] : 2 * coarse_start[run] + 2 * n + 1],
                    b[c, first : first + n],
                )
                for i in range(n):
                    target[i] = source[2 * i + 1] + half * (source[2 * i] + source[2 * i + 2])


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def add_interpolated(begin, end, fine, coarse_numbers, half, coarse_x, x):  # type: ignore[no-untyped-def]
    """Add ``P coarse_x`` to x on the fine runs that start in nodes ``begin .. end - 1``.

    ``coarse_numbers`` is the dense array of coarse node numbers; other arguments mirror ``restrict_rows``.
    """
    _, ny, nx, _, run_rows, start, node_first = fine
    line = np.zeros(nx + 4, x.dtype)
    wide = np.zeros(2 * nx + 8, x.dtype)
    for run in range(np.searchsorted(node_first, begin), min(np.searchsorted(node_first, end), len(start))):
        first, n = node_first[run], node_first[run + 1] - node_first[run]
        k, j = run_rows[run] // ny, run_rows[run] % ny
        odd, low = start[run] & 1, start[run] >> 1
        count = ((start[run] + n) >> 1) - low + 1
        weight = (half if k & 1 else half + half) * (half if j & 1 else half + half)
        for c in range(3):
            sums = line[: count + 1]
            sums[:] = 0
            for dk in range(1 + (k & 1)):
                for dj in range(1 + (j & 1)):
                    at = coarse_numbers[(k >> 1) + dk, (j >> 1) + dj, low]
                    source = coarse_x[c, at : at + count]
                    for i in range(len(source)):
                        sums[i] += weight * source[i]
            for i in range(count):
                wide[2 * i] = line[i]
                wide[2 * i + 1] = half * (line[i] + line[i + 1])
            source, target = wide[odd : odd + n], x[c, first : first + n]
            for i in range(n):
                target[i] += source[i]
