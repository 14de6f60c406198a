"""Friedman's test and Dunn's comparisons against a published example, closed forms and their level under no effect."""

import numpy as np
import pytest
from scipy import stats

from inference.rank_tests import rank_test

ROUNDING_FIRST_BASE = np.array(
    [
        [5.40, 5.50, 5.55], [5.85, 5.70, 5.75], [5.20, 5.60, 5.50], [5.55, 5.50, 5.40], [5.90, 5.85, 5.70],
        [5.45, 5.55, 5.60], [5.40, 5.40, 5.35], [5.45, 5.50, 5.35], [5.25, 5.15, 5.00], [5.85, 5.80, 5.70],
        [5.25, 5.20, 5.10], [5.65, 5.55, 5.45], [5.60, 5.35, 5.45], [5.05, 5.00, 4.95], [5.50, 5.50, 5.40],
        [5.45, 5.55, 5.50], [5.55, 5.55, 5.35], [5.45, 5.50, 5.55], [5.50, 5.45, 5.25], [5.65, 5.60, 5.40],
        [5.70, 5.65, 5.55], [6.30, 6.30, 6.25],
    ]
)  # fmt: skip
"""Seconds of 22 runners by three ways around first base [HollanderWolfe1973], with ties; chi-square 11.143 there."""


def test_friedman_gives_the_published_statistic_with_ties() -> None:
    found = rank_test(ROUNDING_FIRST_BASE)
    assert found.chi2 == pytest.approx(11.143, abs=5e-4)
    assert found.p_value == pytest.approx(0.003805, abs=1e-6)
    assert (found.cases, found.methods) == (22, 3)


def test_friedman_agrees_with_another_implementation() -> None:
    table = np.random.default_rng(1).normal(size=(12, 6)) + np.arange(6) / 5
    theirs = stats.friedmanchisquare(*table.T)
    found = rank_test(table)
    assert (found.chi2, found.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_dunns_z_of_methods_in_the_same_order_everywhere() -> None:
    table = np.arange(10.0)[:, None] + [0.0, 0.1, 0.2]
    found = rank_test(table)
    assert found.mean_ranks == (1.0, 2.0, 3.0)
    # Standard error sqrt(k (k + 1) / 6 n) = sqrt(12 / 60); three pairs.
    expected = [1.0, *(3 * 2 * stats.norm.sf(step / np.sqrt(0.2)) for step in (1.0, 2.0))]
    assert found.control_p_values == pytest.approx(expected)


def test_the_control_may_be_any_column() -> None:
    found = rank_test(ROUNDING_FIRST_BASE, control=2)
    assert found.control_p_values[2] == 1.0
    assert found.control_p_values[0] < 0.05


def test_methods_that_never_differ_are_not_significant() -> None:
    found = rank_test(np.tile(np.arange(8.0)[:, None], (1, 4)))
    assert (found.chi2, found.p_value) == (0.0, 1.0)
    assert set(found.control_p_values) == {1.0}


def test_equal_methods_are_called_different_at_most_at_the_level() -> None:
    rng = np.random.default_rng(3)
    found = [rank_test(rng.normal(size=(15, 6))) for _ in range(600)]
    # 30 expected at 5 %; three standard deviations of a binomial count are 16. Bonferroni is conservative.
    assert sum(one.p_value < 0.05 for one in found) <= 46
    assert sum(min(one.control_p_values) < 0.05 for one in found) <= 46


@pytest.mark.parametrize(
    ("table", "control", "sentence"),
    [
        (np.zeros((2, 4)), 0, "at least 3 cases"),
        (np.zeros((5, 2)), 0, "3 methods"),
        (np.zeros(5), 0, "expected at least"),
        (np.full((4, 4), np.nan), 0, "not finite"),
        (np.zeros((4, 4)), 4, "none of 4"),
    ],
)
def test_what_cannot_be_tested_is_refused(table: np.ndarray, control: int, sentence: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=sentence):
        rank_test(table, control)
