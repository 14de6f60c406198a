"""Agreement of two methods over many cases: correlation, intraclass correlation, Bland-Altman, decisions, ROC.

Pure functions of arrays. Intervals are at 95 % and their method is named beside each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Z95 = float(stats.norm.ppf(0.975))
ROUNDING = 1e-12
"""Share of the variance that counts as none: methods that differ by a millionth of the cases' spread. Without it the
rounding of equal values divides by zero."""
LEAST_CASES = 3
"""Fewer have no correlation, and no standard deviation worth a limit."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Measured against reference values of the same cases, in their unit.

    Attributes
    ----------
    count
        Cases.
    slope, intercept, r2
        Least-squares line of measured over reference, and its coefficient of determination. This and the correlations
        are not a number where all measured values are the same.
    pearson
        Correlation; interval by Fisher's transform.
    spearman
        Rank correlation; interval by Fisher's transform with the standard error of [BonettWright2000].
    icc
        ICC(2,1), two-way random effects, absolute agreement, single measures [McGrawWong1996]; interval by F.
    bias
        Mean of measured - reference; interval by Student's t [BlandAltman1999].
    limits
        Bias -+ 1.96 standard deviations of the differences.
    limits_error
        Half of the 95 % interval of each limit, t sqrt(3 / n) sd [BlandAltman1999].
    relative_difference_percent
        Mean of |measured - reference| / |reference|, as in table 3 of [Saillard2024], over the cases whose reference
        is not 0; not a number without such a case.
    p_value
        Of a paired t test for bias.
    """

    count: int
    slope: float
    intercept: float
    r2: float
    pearson: Interval
    spearman: Interval
    icc: Interval
    bias: Interval
    limits: tuple[float, float]
    limits_error: float
    relative_difference_percent: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Decision:
    """A yes-or-no decision against the truth; proportions with Wilson's intervals [Wilson1927]."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    accuracy: Interval


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """Receiver operating characteristic: one point a threshold, and the area with DeLong's interval [DeLong1988]."""

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    auc: Interval

    @property
    def best(self) -> int:
        """Index of the threshold with the largest sensitivity + specificity - 1 [Youden1950], the strictest of equals.

        Chosen on the cases themselves, so that its figures are too good for other cases.
        """
        return int(np.argmax(self.true_positive_rate - self.false_positive_rate))


def agree(measured: ArrayLike, reference: ArrayLike) -> Agreement:
    """Compare two methods.

    Parameters
    ----------
    measured, reference : (case,) arrays
        In one unit, finite.

    Raises
    ------
    ValueError
        For fewer than three cases, other shapes, values that are not finite, or a reference without spread.
    """
    x, y = _pair(measured, reference)
    line, n = stats.linregress(y, x), x.size
    r = float(line.rvalue) if np.ptp(x) > 0 else float("nan")
    difference = x - y
    sd, t = float(difference.std(ddof=1)), float(stats.t.ppf(0.975, n - 1))
    bias = float(difference.mean())
    relative = np.abs(difference[y != 0] / y[y != 0])
    return Agreement(
        count=n,
        slope=float(line.slope),
        intercept=float(line.intercept),
        r2=r**2,
        pearson=_fisher(r, n),
        spearman=_rank_correlation(x, y),
        icc=intraclass(np.column_stack([x, y])),
        bias=Interval(bias, bias - t * sd / np.sqrt(n), bias + t * sd / np.sqrt(n)),
        limits=(bias - Z95 * sd, bias + Z95 * sd),
        limits_error=t * sd * float(np.sqrt(3.0 / n)),
        relative_difference_percent=100.0 * float(np.mean(relative)) if relative.size else float("nan"),
        p_value=float(stats.ttest_rel(x, y).pvalue) if sd > 0 else (1.0 if bias == 0 else 0.0),
    )


def decide(predicted: Sequence[bool] | NDArray[np.bool_], truth: Sequence[bool] | NDArray[np.bool_]) -> Decision:
    """Count a decision against the truth.

    Raises
    ------
    ValueError
        For no case, or other shapes.
    """
    said, true = np.asarray(predicted, dtype=bool), np.asarray(truth, dtype=bool)
    if said.shape != true.shape or said.ndim != 1 or said.size == 0:
        raise ValueError(f"{said.shape} decisions for {true.shape} cases; expected one for each of at least one")
    tp, fp = int((said & true).sum()), int((said & ~true).sum())
    fn, tn = int((~said & true).sum()), int((~said & ~true).sum())
    return Decision(
        tp,
        fp,
        fn,
        tn,
        sensitivity=wilson(tp, tp + fn),
        specificity=wilson(tn, tn + fp),
        ppv=wilson(tp, tp + fp),
        npv=wilson(tn, tn + fn),
        accuracy=wilson(tp + tn, said.size),
    )


def roc(score: ArrayLike, truth: Sequence[bool] | NDArray[np.bool_]) -> Roc:
    """Vary the threshold of a score; higher means positive.

    Raises
    ------
    ValueError
        Where positives or negatives are missing, or a score is not finite.
    """
    value, true = np.asarray(score, dtype=np.float64), np.asarray(truth, dtype=bool)
    if value.shape != true.shape or value.ndim != 1 or not np.isfinite(value).all():
        raise ValueError("scores and truth need one finite value for each case")
    if not true.any() or true.all():
        raise ValueError("a curve needs positive and negative cases")
    thresholds = np.concatenate([[np.inf], np.unique(value)[::-1]])
    false, hit = (
        1 - np.searchsorted(np.sort(some), thresholds, side="left") / some.size for some in (value[~true], value[true])
    )
    return Roc(false, hit, thresholds, _delong(value[true], value[~true]))


def wilson(successes: int, trials: int) -> Interval:
    """Return a proportion with Wilson's 95 % interval; not a number with limits 0 and 1 without trials."""
    if trials == 0:
        return Interval(float("nan"), 0.0, 1.0)
    share, z2 = successes / trials, Z95**2 / trials
    centre = (share + z2 / 2) / (1 + z2)
    reach = Z95 * np.sqrt(share * (1 - share) / trials + z2 / (4 * trials)) / (1 + z2)
    return Interval(share, max(0.0, float(centre - reach)), min(1.0, float(centre + reach)))


def intraclass(values: ArrayLike) -> Interval:
    """Return ICC(2,1), two-way random, absolute agreement, single measures, with the interval of [McGrawWong1996].

    Parameters
    ----------
    values : (case, method) array
        Finite, at least two cases and two methods. Not a number where all values are the same.
    """
    table = np.asarray(values, dtype=np.float64)
    (n, k), mean = table.shape, table.mean()
    rows = k * float(((table.mean(axis=1) - mean) ** 2).sum()) / (n - 1)
    columns = n * float(((table.mean(axis=0) - mean) ** 2).sum()) / (k - 1)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + mean
    error = float((rest**2).sum()) / ((n - 1) * (k - 1))
    total = rows + (k - 1) * error + k * (columns - error) / n
    if total == 0:
        return Interval(float("nan"), -1.0, 1.0)
    icc = (rows - error) / total
    if error <= ROUNDING * total:
        return Interval(icc, icc, icc) if columns <= ROUNDING * total else Interval(icc, -1.0, 1.0)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    upper, lower = stats.f.ppf(0.975, n - 1, freedom), stats.f.ppf(0.975, freedom, n - 1)
    spread = k * columns + (k * n - k - n) * error
    low = n * (rows - upper * error) / (upper * spread + n * rows)
    high = n * (lower * rows - error) / (spread + n * lower * rows)
    return Interval(icc, float(low), float(high))


def _pair(measured: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check two lists of values."""
    x, y = np.asarray(measured, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or x.size < LEAST_CASES:
        raise ValueError(f"{x.size} measured for {y.size} reference values; expected pairs, at least {LEAST_CASES}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a value is not finite; leave the case out, or say why it has none")
    if np.ptp(y) == 0:
        raise ValueError("all reference values are the same; no correlation can be computed")
    return x, y


def _fisher(r: float, n: int, inflation: float = 1.0) -> Interval:
    """Interval of a correlation by Fisher's z transform; the whole range for fewer than four cases, or none.

    ``inflation`` multiplies the variance 1 / (n - 3) of z.
    """
    if np.isnan(r):
        return Interval(r, -1.0, 1.0)
    if n < 4 or abs(r) >= 1:
        return Interval(r, -1.0 if n < 4 else r, 1.0 if n < 4 else r)
    z, reach = np.arctanh(r), Z95 * np.sqrt(inflation / (n - 3))
    return Interval(r, float(np.tanh(z - reach)), float(np.tanh(z + reach)))


def _rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> Interval:
    """Spearman's correlation; its z has the variance (1 + r2 / 2) / (n - 3) [BonettWright2000]."""
    r = float(stats.spearmanr(x, y).statistic) if np.ptp(x) > 0 else float("nan")
    return _fisher(r, x.size, 1 + r**2 / 2)


def _delong(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> Interval:
    """Area under the curve as the chance that a positive scores higher, with DeLong's variance.

    The shares that each case beats come from ranks, so that a hundred thousand cases need no table of all pairs.
    """
    beaten = _share_below(positive, negative)
    auc = float(beaten.mean())
    if positive.size < 2 or negative.size < 2:
        return Interval(auc, 0.0, 1.0)
    variance = beaten.var(ddof=1) / positive.size + _share_below(negative, positive).var(ddof=1) / negative.size
    reach = Z95 * float(np.sqrt(variance))
    return Interval(auc, max(0.0, auc - reach), min(1.0, auc + reach))


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each value the share of the others below it; equal ones count half."""
    ordered = np.sort(others)
    both = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    return np.asarray(both / (2.0 * others.size))
