"""The brick's stiffness against its definition."""

import numpy as np
import pytest

from fe.voxel.element import (
    elasticity_matrix,
    hex8_stiffness,
    largest_jacobi_eigenvalue,
    strain_matrix,
    walsh_blocks,
)

SIZE_MM = (1.3, 0.7, 2.0)
NU = 0.3


def corners(size_mm):
    dz, dy, dx = size_mm
    return np.array([(dx * (n & 1), dy * ((n >> 1) & 1), dz * (n >> 2)) for n in range(8)])


def test_the_stiffness_is_symmetric_and_has_exactly_six_rigid_modes():
    stiffness = hex8_stiffness(SIZE_MM, NU)
    values = np.linalg.eigvalsh(stiffness)
    np.testing.assert_allclose(stiffness, stiffness.T, atol=1e-14 * values[-1])
    assert (np.abs(values[:6]) < 1e-13 * values[-1]).all()
    assert (values[6:] > 1e-3 * values[-1]).all()


def test_translations_and_rotations_need_no_force():
    points = corners(SIZE_MM)
    stiffness = hex8_stiffness(SIZE_MM, NU)
    for axis in np.eye(3):
        for mode in (np.tile(axis, (8, 1)), np.cross(axis, points)):
            np.testing.assert_allclose(stiffness @ mode.ravel(), 0, atol=1e-13)


def test_a_uniform_strain_stores_its_exact_energy():
    rng = np.random.default_rng(0)
    gradient = rng.standard_normal((3, 3))
    u = (corners(SIZE_MM) @ gradient.T).ravel()
    strain = strain_matrix(SIZE_MM) @ u
    energy = strain @ elasticity_matrix(NU) @ strain * np.prod(SIZE_MM)
    assert u @ hex8_stiffness(SIZE_MM, NU) @ u == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(strain[:3], np.diag(gradient), rtol=1e-12)
    assert strain[3] == pytest.approx(gradient[0, 1] + gradient[1, 0])


def test_the_stiffness_is_integrated_exactly():
    points, weights = np.polynomial.legendre.leggauss(4)
    exact = np.zeros((24, 24))
    for x, wx in zip(points, weights, strict=True):
        for y, wy in zip(points, weights, strict=True):
            for z, wz in zip(points, weights, strict=True):
                b = strain_matrix(SIZE_MM, (x, y, z))
                exact += b.T @ elasticity_matrix(NU) @ b * wx * wy * wz * np.prod(SIZE_MM) / 8
    np.testing.assert_allclose(hex8_stiffness(SIZE_MM, NU), exact, atol=1e-13 * exact.max())


def test_the_walsh_blocks_hold_the_whole_stiffness():
    stiffness = hex8_stiffness(SIZE_MM, NU)
    blocks = walsh_blocks(stiffness).reshape(8, 3, 3)
    bit = np.array([[1.0, 1.0], [1.0, -1.0]])
    transform = np.kron(np.kron(np.kron(bit, bit), bit), np.eye(3))
    middle = np.zeros((24, 24))
    for parity in range(8):
        index = [3 * (parity ^ (1 << c)) + c for c in range(3)]
        middle[np.ix_(index, index)] = blocks[parity]
    np.testing.assert_allclose(transform @ middle @ transform, stiffness, atol=1e-13 * np.abs(stiffness).max())


def test_a_matrix_without_the_bricks_symmetry_has_no_walsh_blocks():
    stiffness = hex8_stiffness(SIZE_MM, NU)
    stiffness[0, 5] *= 1.1
    with pytest.raises(ValueError, match="brick"):
        walsh_blocks(stiffness)


def test_the_jacobi_bound_is_reached_by_a_single_brick():
    stiffness = hex8_stiffness(SIZE_MM, NU)
    blocks = np.zeros_like(stiffness)
    for n in range(8):
        part = slice(3 * n, 3 * n + 3)
        blocks[part, part] = stiffness[part, part]
    values = np.linalg.eigvals(np.linalg.solve(blocks, stiffness)).real
    assert largest_jacobi_eigenvalue(stiffness) == pytest.approx(values.max(), rel=1e-10)
