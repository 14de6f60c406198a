"""Differences among methods applied to the same cases, by ranks: Friedman's test, and Dunn's comparison with a control.

What [Saillard2024] tests failure loads with. Pure functions of arrays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEAST_CASES, LEAST_METHODS = 3, 3
"""Fewer cases can show nothing at 5 %; fewer methods are a paired comparison, not Friedman's."""


@dataclass(frozen=True, slots=True)
class RankTest:
    """Outcome of Friedman's test and of the comparisons with one method.

    Attributes
    ----------
    cases, methods
        Size of the table.
    chi2, p_value
        Friedman's statistic, corrected for ties, and its probability by chi-square with ``methods - 1`` degrees of
        freedom: an approximation below about ten cases.
    mean_ranks
        Of every method, 1 the smallest.
    control_p_values
        Of every method against the control by Dunn's z [Dunn1964], two-sided, multiplied by the number of all pairs of
        methods (Bonferroni), as SPSS does it; 1 for the control.
    """

    cases: int
    methods: int
    chi2: float
    p_value: float
    mean_ranks: tuple[float, ...]
    control_p_values: tuple[float, ...]


def rank_test(values: ArrayLike, control: int = 0) -> RankTest:
    """Test whether methods differ, and which differ from the control.

    Parameters
    ----------
    values : (case, method) array
        Finite.
    control
        Column that the others are compared with.

    Raises
    ------
    ValueError
        For fewer than three cases or methods, values that are not finite, or a control that is no column.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < LEAST_CASES or table.shape[1] < LEAST_METHODS:
        raise ValueError(f"a table of {table.shape}; expected at least {LEAST_CASES} cases and {LEAST_METHODS} methods")
    if not np.isfinite(table).all():
        raise ValueError("a value is not finite; leave the case out, or say why it has none")
    if not 0 <= control < table.shape[1]:
        raise ValueError(f"column {control} is none of {table.shape[1]} methods")
    n, k = table.shape
    ranks = stats.rankdata(table, axis=1)
    mean = ranks.mean(axis=0)
    chi2 = _friedman(ranks)
    z = (mean - mean[control]) / np.sqrt(k * (k + 1) / (6.0 * n))
    dunn = np.minimum(1.0, 2 * stats.norm.sf(np.abs(z)) * (k * (k - 1) / 2))
    return RankTest(
        cases=n,
        methods=k,
        chi2=chi2,
        p_value=float(stats.chi2.sf(chi2, k - 1)),
        mean_ranks=tuple(float(one) for one in mean),
        control_p_values=tuple(float(one) for one in dunn),
    )


def _friedman(ranks: NDArray[np.float64]) -> float:
    """Return Friedman's chi-square of ranks (case, method); 0 where every case ties all methods."""
    n, k = ranks.shape
    between = float(((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum()) * n
    within = float(((ranks - (k + 1) / 2) ** 2).sum()) / (n * (k - 1))
    return between / within if within > 0 else 0.0
