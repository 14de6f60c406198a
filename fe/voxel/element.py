"""The eight-node brick on a rectangular grid: exact stiffness, its Walsh-Hadamard blocks, centroid strain.

Node ``n = i + 2 j + 4 k`` of a brick lies at the corner (i, j, k) of (x, y, z); degree of freedom ``3 n + c`` is
component c of (x, y, z). Brick sizes are given as ``(z, y, x)``, like every spacing of the project. Stiffness is
per unit Young's modulus, so that an element's stiffness is its modulus times ``hex8_stiffness``.

The stiffness of a rectangular isotropic brick commutes with the three mirror planes of the brick. In the basis of
the mirror parities (three Walsh-Hadamard transforms over the eight nodes) it falls apart into eight 3 x 3 blocks:
less than half of the arithmetic of the dense 24 x 24 product, and nothing stored per element.
"""

import numpy as np
from numpy.typing import NDArray

GAUSS_POINT = 1.0 / np.sqrt(3.0)
"""Coordinate of the 2-point Gauss rule; 2 x 2 x 2 points integrate the stiffness of a rectangular brick exactly."""

Floats = NDArray[np.float64]


def elasticity_matrix(poisson_ratio: float) -> Floats:
    """Return the isotropic elasticity matrix for a unit Young's modulus.

    Parameters
    ----------
    poisson_ratio
        nu, between -1 and 0.5, both excluded.

    Returns
    -------
    (6, 6) array
        Stress (xx, yy, zz, xy, yz, xz) from engineering strain in the same order (Hooke's law).
    """
    lame = poisson_ratio / ((1 + poisson_ratio) * (1 - 2 * poisson_ratio))
    shear = 1 / (2 * (1 + poisson_ratio))
    matrix = np.diag([2 * shear, 2 * shear, 2 * shear, shear, shear, shear])
    matrix[:3, :3] += lame
    return matrix


def strain_matrix(size_mm: tuple[float, float, float], point: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Floats:
    """Return the strain-displacement matrix B of a brick at one point.

    Parameters
    ----------
    size_mm
        Edge lengths along (z, y, x).
    point
        Natural coordinates (x, y, z) in -1..1; the default is the centroid.

    Returns
    -------
    (6, 24) array
        Engineering strain (xx, yy, zz, xy, yz, xz) from the 24 displacements, 1/mm.
    """
    dz, dy, dx = size_mm
    matrix = np.zeros((6, 24))
    for n in range(8):
        sx, sy, sz = 2 * (n & 1) - 1, 2 * ((n >> 1) & 1) - 1, 2 * (n >> 2) - 1
        fx, fy, fz = 1 + sx * point[0], 1 + sy * point[1], 1 + sz * point[2]
        gx, gy, gz = sx * fy * fz / (4 * dx), fx * sy * fz / (4 * dy), fx * fy * sz / (4 * dz)
        matrix[:, 3 * n : 3 * n + 3] = (
            (gx, 0, 0),
            (0, gy, 0),
            (0, 0, gz),
            (gy, gx, 0),
            (0, gz, gy),
            (gz, 0, gx),
        )
    return matrix


def hex8_stiffness(size_mm: tuple[float, float, float], poisson_ratio: float) -> Floats:
    """Return the stiffness matrix of a brick of unit Young's modulus by full 2 x 2 x 2 Gauss integration.

    Parameters
    ----------
    size_mm
        Edge lengths along (z, y, x).
    poisson_ratio
        nu.

    Returns
    -------
    (24, 24) array
        N/mm per MPa.
    """
    elasticity = elasticity_matrix(poisson_ratio)
    volume_share = float(np.prod(size_mm)) / 8
    stiffness = np.zeros((24, 24))
    for x in (-GAUSS_POINT, GAUSS_POINT):
        for y in (-GAUSS_POINT, GAUSS_POINT):
            for z in (-GAUSS_POINT, GAUSS_POINT):
                b = strain_matrix(size_mm, (x, y, z))
                stiffness += b.T @ elasticity @ b * volume_share
    return stiffness


def walsh_blocks(stiffness: Floats) -> Floats:
    """Return the eight 3 x 3 blocks to which the Walsh-Hadamard transform reduces a brick's stiffness.

    With H the 8 x 8 Hadamard matrix over the corner bits, ``K = H B H`` per component, where B couples only the
    three components ``(p ^ 1, x), (p ^ 2, y), (p ^ 4, z)`` of each parity p.

    Parameters
    ----------
    stiffness : (24, 24) array
        From ``hex8_stiffness``.

    Returns
    -------
    (8, 9) array
        Row p holds the block of parity p, row-major, already divided by 64.

    Raises
    ------
    ValueError
        The matrix does not have the symmetry of a rectangular isotropic brick.
    """
    bit = np.array([[1.0, 1.0], [1.0, -1.0]])
    transform = np.kron(np.kron(np.kron(bit, bit), bit), np.eye(3))
    turned = transform @ stiffness @ transform.T / 64
    blocks = np.empty((8, 9))
    remainder = turned.copy()
    for parity in range(8):
        index = [3 * (parity ^ (1 << c)) + c for c in range(3)]
        blocks[parity] = turned[np.ix_(index, index)].ravel()
        remainder[np.ix_(index, index)] = 0
    if np.abs(remainder).max() > 1e-10 * np.abs(turned).max():
        raise ValueError("The stiffness is not that of a rectangular isotropic brick.")
    return blocks


def largest_jacobi_eigenvalue(stiffness: Floats) -> float:
    """Return an upper bound of the spectrum of D^-1 K, D the 3 x 3 diagonal blocks of K.

    K and D of a whole model are sums over elements of E K0 and E D0, so the Rayleigh quotient of the model is
    never above the largest one of a single element. The bound holds for every distribution of modulus and costs
    nothing, where power iteration would only approach the spectrum from below.
    """
    diagonal = np.zeros_like(stiffness)
    for n in range(8):
        block = slice(3 * n, 3 * n + 3)
        diagonal[block, block] = stiffness[block, block]
    root = np.linalg.inv(np.linalg.cholesky(diagonal))
    return float(np.linalg.eigvalsh(root @ stiffness @ root.T)[-1])
