"""Principal strains, averaging and the first failure."""

import numpy as np
import pytest

from fe.criterion import ball_average, first_failure, principal_strains


def test_principal_strains_are_the_eigenvalues():
    rng = np.random.default_rng(3)
    strains = rng.standard_normal((200, 6)) * 1e-3
    strains[0] = 0
    strains[1] = (1e-3, 1e-3, 1e-3, 0, 0, 0)
    tensors = np.empty((200, 3, 3))
    tensors[:, [0, 1, 2], [0, 1, 2]] = strains[:, :3]
    for (a, b), column in {(0, 1): 3, (1, 2): 4, (0, 2): 5}.items():
        tensors[:, a, b] = tensors[:, b, a] = strains[:, column] / 2
    values = np.linalg.eigvalsh(tensors)
    largest, smallest = principal_strains(strains)
    np.testing.assert_allclose(largest, values[:, 2], atol=1e-10)
    np.testing.assert_allclose(smallest, values[:, 0], atol=1e-10)


def test_the_ball_average_is_the_mean_over_the_ball():
    rng = np.random.default_rng(4)
    points, values = rng.uniform(0, 10, (300, 3)), rng.standard_normal((300, 2))
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= 2.5
    expected = (near @ values) / near.sum(axis=1)[:, None]
    np.testing.assert_allclose(ball_average(points, values, 2.5), expected, rtol=1e-12)


def test_the_first_failure_names_the_limit_that_is_reached_first():
    points = np.array([(0.0, 0, 0), (100.0, 0, 0), (200.0, 0, 0)])
    largest, smallest = np.array([0.001, 0.002, 0.0]), np.array([-0.001, -0.0021, -0.004])
    failure = first_failure(points, largest, smallest, 3.0, 0.0073, 0.0104)
    assert (failure.mode, failure.element) == ("compression", 2)
    assert failure.load_factor == pytest.approx(0.0104 / 0.004)
    stronger = first_failure(points, largest, smallest, 3.0, 0.0073, 0.0300)
    assert (stronger.mode, stronger.element) == ("tension", 1)


def test_a_single_sharp_value_is_averaged_away():
    points = np.column_stack((np.arange(7.0), np.zeros(7), np.zeros(7)))
    largest = np.zeros(7)
    largest[3] = 0.007
    failure = first_failure(points, largest, np.zeros(7), 3.0, 0.0073, 0.0104)
    assert failure.load_factor == pytest.approx(0.0073 / (0.007 / 4))  # at an end of the row, over 4 points
