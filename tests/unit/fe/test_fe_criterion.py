"""Principal strains, averaging and the first failure."""

import numpy as np
import pytest

from fe.criterion import Limits, first_failure, neighbourhoods, principal_strains
from fe.errors import UnsupportedModel

LIMITS = Limits(0.0073, 0.0104)


def stretched(largest, smallest):
    """Return strains whose principal values are the arguments and zero."""
    strains = np.zeros((len(largest), 6))
    strains[:, 0], strains[:, 2] = largest, smallest
    return strains


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


def test_neighbours_are_the_points_within_the_radius_and_the_point_itself():
    points = np.random.default_rng(4).uniform(0, 10, (300, 3))
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= 2.5
    np.testing.assert_array_equal(neighbourhoods(points, 2.5).toarray(), near)


def test_the_first_failure_names_the_limit_that_is_reached_first():
    points = np.array([(0.0, 0, 0), (100.0, 0, 0), (200.0, 0, 0)])
    strains = stretched([0.001, 0.002, 0.0], [-0.001, -0.0021, -0.004])
    everywhere, alone = np.ones(3, dtype=bool), neighbourhoods(points, 3.0)
    failure = first_failure(strains, everywhere, alone, LIMITS)
    assert (failure.mode, failure.place) == ("compression", 2)
    assert failure.fraction == pytest.approx(0.004 / 0.0104)
    stronger = first_failure(strains, everywhere, alone, Limits(0.0073, 0.0300))
    assert (stronger.mode, stronger.place) == ("tension", 1)


def test_a_single_sharp_value_is_averaged_away():
    points = np.column_stack((np.arange(7.0), np.zeros(7), np.zeros(7)))
    strains = np.zeros((7, 6))
    strains[3, 0] = 0.007
    failure = first_failure(strains, np.ones(7, dtype=bool), neighbourhoods(points, 3.0), LIMITS)
    assert failure.fraction == pytest.approx(0.007 / 4 / 0.0073)  # at an end of the row, over 4 points


def test_places_that_do_not_count_neither_fail_nor_enter_a_mean():
    points = np.column_stack((np.arange(4.0), np.zeros(4), np.zeros(4)))
    strains = np.zeros((4, 6))
    strains[:, 0] = (0.009, 0.003, 0.003, 0.001)
    counts = np.array([False, True, True, True])
    failure = first_failure(strains, counts, neighbourhoods(points, 1.0), LIMITS)
    assert failure.fraction == pytest.approx(0.003 / 0.0073)
    assert failure.place == 1


def test_a_surface_where_nothing_counts_is_an_error():
    with pytest.raises(UnsupportedModel):
        first_failure(np.zeros((2, 6)), np.zeros(2, dtype=bool), neighbourhoods(np.eye(3)[:2], 1.0), LIMITS)
