"""The compiled diagonal blocks of a voxel model, and their inverses for the smoother."""

import numpy as np
from numba import njit

from fe.voxel.kernels import FAST

ONE, NOTHING = np.float64(1), np.float64(0)


@njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
def corner_sums(run_nodes, run_first, modulus, sums):  # type: ignore[no-untyped-def]
    """Add up the moduli around every node: plain, and with the signs of its corners' xy, yz and xz parities.

    All corners of a brick have the same diagonal block but for the signs of its off-diagonal entries.

    Parameters
    ----------
    run_nodes, run_first
        Of ``fe.voxel.numbering.Numbering``.
    modulus : (elements,) array
        Young's modulus.
    sums : (4, nodes) array
        Zeros; the sums are added.
    """
    for run in range(len(run_nodes)):
        first, n = run_first[run], run_first[run + 1] - run_first[run]
        source = modulus[first : first + n]
        for corner in range(8):
            i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
            node = run_nodes[run, corner >> 1] + i
            for part in range(4):
                odd = 0 if part == 0 else (i ^ j if part == 1 else (j ^ k if part == 2 else i ^ k))
                target = sums[part, node : node + n]
                if odd:
                    for e in range(n):
                        target[e] -= source[e]
                else:
                    for e in range(n):
                        target[e] += source[e]


@njit(nogil=True, error_model="numpy", cache=True)
def invert_blocks(blocks, is_fixed, inverse):  # type: ignore[no-untyped-def]
    """Invert symmetric 3 x 3 blocks on their free components; rows and columns of held ones become zero.

    ``blocks`` and ``inverse`` are (6, nodes) arrays: xx, yy, zz, xy, yz, xz; they may be the same.
    """
    for i in range(blocks.shape[1]):
        xx, yy, zz = np.float64(blocks[0, i]), np.float64(blocks[1, i]), np.float64(blocks[2, i])
        xy, yz, xz = np.float64(blocks[3, i]), np.float64(blocks[4, i]), np.float64(blocks[5, i])
        fx, fy, fz = is_fixed[0, i], is_fixed[1, i], is_fixed[2, i]
        if fx:
            xx, xy, xz = ONE, NOTHING, NOTHING
        if fy:
            yy, xy, yz = ONE, NOTHING, NOTHING
        if fz:
            zz, yz, xz = ONE, NOTHING, NOTHING
        a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
        share = 1.0 / (xx * a + xy * b + xz * c)
        inverse[0, i] = 0.0 if fx else a * share
        inverse[1, i] = 0.0 if fy else (xx * zz - xz * xz) * share
        inverse[2, i] = 0.0 if fz else (xx * yy - xy * xy) * share
        inverse[3, i] = b * share
        inverse[4, i] = (xy * xz - xx * yz) * share
        inverse[5, i] = c * share
