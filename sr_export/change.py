"""Change since an earlier examination, and whether it is larger than the measurement's own scatter.

The least significant change (LSC) is 2.77 times the precision error, so that a larger change is real with 95 percent
confidence [IscdPrecision]. Where the precision of a number is not known, no change of it is called significant.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sr_export.codes import concept
from sr_export.inputs import Group, Measurement, PriorValue, Report
from sr_export.sr_groups import rounded

Verdict = Literal["significant", "not significant", "LSC not known", "not comparable"]

LSC_FACTOR = 2.77
"""1.96 times the square root of 2: two measurements, 95 percent confidence [IscdPrecision]."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Precision error of a concept, as a part of its value, and where it comes from."""

    relative_error: float
    source: str


SPINE_PRECISION = Precision(
    0.03,
    "Below 3 percent between analyses of one observer, asynchronous QCT of the spine [Wang2017, abstract read]; taken "
    "as its upper end. Not measured with this software nor at the site [m assumption]",
)
PRECISION: dict[str, Precision] = {
    "trabecular_vbmd": SPINE_PRECISION,
    "l1_l2_mean_trabecular_vbmd": SPINE_PRECISION,
    "t12_l1_mean_trabecular_vbmd": SPINE_PRECISION,
    "t12_l2_mean_trabecular_vbmd": SPINE_PRECISION,
}
"""Concept key -> precision error. Strengths are absent on purpose: repeat scans of this model are not published, and
the figures of other models do not carry over."""


@dataclass(frozen=True, slots=True)
class Change:
    """One number beside its earlier self.

    Attributes
    ----------
    group, measurement
        The number now.
    prior
        The number then.
    difference
        Now less then, of the rounded values that are printed.
    lsc
        Least significant change at the earlier value, in the concept's unit; None where it is not known.
    verdict
        What the difference means.
    """

    group: Group
    measurement: Measurement
    prior: PriorValue
    difference: float
    lsc: float | None
    verdict: Verdict


def changes(report: Report) -> tuple[Change, ...]:
    """Return the changes of every number that has an earlier value, in the report's order, the latest one taken."""
    return tuple(_changes(report))


def _changes(report: Report) -> Iterator[Change]:
    by_date = sorted(report.prior, key=lambda prior: prior.study_date)
    latest = {(prior.concept, prior.structure, prior.laterality): prior for prior in by_date}
    for group in report.groups:
        for measurement in group.measurements:
            prior = latest.get((measurement.concept, group.structure, group.laterality))
            if prior is not None:
                yield change(group, measurement, prior, is_calibrated=report.calibration.is_calibrated)


def change(group: Group, measurement: Measurement, prior: PriorValue, *, is_calibrated: bool) -> Change:
    """Compare a number with its earlier self.

    Parameters
    ----------
    group, measurement
        The number now.
    prior
        The same concept of the same bone, earlier.
    is_calibrated
        Whether the number now is calibrated.
    """
    key = measurement.concept
    before = rounded(key, prior.value)
    difference = float(rounded(key, measurement.value) - before)
    precision = PRECISION.get(key)
    lsc = LSC_FACTOR * precision.relative_error * abs(before) if precision is not None else None
    verdict: Verdict
    if concept(key).needs_calibration and not (is_calibrated and prior.is_calibrated):
        verdict = "not comparable"
    elif lsc is None:
        verdict = "LSC not known"
    else:
        verdict = "significant" if abs(difference) >= lsc else "not significant"
    return Change(group, measurement, prior, difference, lsc, verdict)
