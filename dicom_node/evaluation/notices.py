"""What looks wrong in values before any statistic: units mixed, sides or levels exchanged. Hints, never corrections."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from dicom_node.evaluation.values import Case

THOUSAND = (500.0, 2000.0)
"""A ratio in this range is a thousand: g/cm3 for mg/cm3, kN for N, um for mm. No two measurements of one bone differ
so much."""

LEAST_CASES = 3
EXCHANGED_FITS = 0.5
"""Two groups look exchanged when the mean difference would fall below this fraction [project's assumption]."""


def notices(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return a sentence for each thing that looks wrong."""
    return (*_units(cases), *_exchanged(cases))


def _units(cases: Sequence[Case]) -> Iterator[str]:
    apart = [one for one in cases if _is_thousandfold(one.measured, one.reference)]
    if apart:
        yield (
            f"In {len(apart)} of {len(cases)} cases ({_first(apart)}) measured and reference differ about a "
            "thousandfold: are units mixed, g/cm3 with mg/cm3 or kN with N?"
        )
    usual = float(np.median([abs(one.reference) for one in cases])) if len(cases) >= LEAST_CASES else 0.0
    odd = [one for one in cases if one not in apart and _is_thousandfold(one.reference, usual)]
    if odd:
        yield (
            f"In {len(odd)} of {len(cases)} cases ({_first(odd)}) both values differ about a thousandfold from those "
            "of the other cases: are they in another unit?"
        )


def _exchanged(cases: Sequence[Case]) -> Iterator[str]:
    """Compare every two groups as they are and exchanged, over the cases that have both."""
    by_group: dict[str, dict[str, Case]] = {}
    for one in cases:
        by_group.setdefault(one.group, {})[one.case] = one
    for left, right in combinations(by_group, 2):
        names = by_group[left].keys() & by_group[right].keys()
        if len(names) < LEAST_CASES:
            continue
        pairs = [(by_group[left][name], by_group[right][name]) for name in sorted(names)]
        own = np.mean([abs(a.measured - a.reference) + abs(b.measured - b.reference) for a, b in pairs]) / 2
        other = np.mean([abs(a.measured - b.reference) + abs(b.measured - a.reference) for a, b in pairs]) / 2
        if other < EXCHANGED_FITS * own:
            yield (
                f"{left} and {right} would fit exchanged: the mean difference of {len(pairs)} cases would be "
                f"{other:.4g} instead of {own:.4g}. Are sides or levels swapped in one of the two?"
            )


def _is_thousandfold(one: float, other: float) -> bool:
    if one == 0 or other == 0:
        return False
    ratio = abs(one / other)
    return any(THOUSAND[0] <= some <= THOUSAND[1] for some in (ratio, 1 / ratio))


def _first(cases: Sequence[Case]) -> str:
    group = f" {cases[0].group}" if cases[0].group else ""
    return f"the first is {cases[0].case}{group}"
