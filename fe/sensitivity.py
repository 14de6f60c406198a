"""How much a strength depends on the mask: eroded and dilated by whole voxels, as in table 3 of [Saillard2024].

The steps are taken in the voxel grid of the scan, through faces: one voxel is one pixel within the slice and one slice
across. Density does not change: a dilated mask holds what the volume holds there, soft tissue or the neighbouring
bone, and an eroded one loses its outermost cortex. Where the mask meets the edge of the scan it is cut, not bounded:
nothing is eroded from there.

A changed mask may have no strength (eroded away, torn apart, no head left). That is part of the answer, with its
reason, and never an exception: how far a mask may be wrong before the model breaks down is what was asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.box import box_around
from fe.errors import BadMask, BadSpacing, EmptyMask, FeError
from fe.flags import ModelFlag
from fe.outcome import say_nothing

Bools = NDArray[np.bool_]
Start = TypeVar("Start")
Failure = Literal["eroded_away", "torn_apart", "no_strength"]

STEPS = (-2, -1, 1, 2)
"""Voxels: negative erodes, positive dilates [Saillard2024]."""

TORN_FRACTION = 0.05
"""An eroded mask is torn apart when more than this fraction of it is no longer connected with its largest part, beyond
what was not connected before: the strength would be that of a fragment [project's assumption]."""

INCOMPLETE = "sensitivity_incomplete"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Start]):
    """What a model says about one mask.

    Attributes
    ----------
    strengths_n
        Strength by name, for example ``stance_min``; the same names for every mask.
    start
        Whatever helps the model with a similar mask: displacements, a lattice, or None.
    """

    strengths_n: Mapping[str, float]
    start: Start


Evaluate = Callable[[Bools, Start | None], Outcome[Start]]


@dataclass(frozen=True, slots=True)
class MaskStep:
    """One changed mask.

    Attributes
    ----------
    step_voxels
        Negative eroded, positive dilated, 0 the mask as given.
    step_mm
        The same along (slice, row, column).
    volume_mm3
        Volume of the mask.
    dice
        Overlap with the mask as given.
    strengths_n
        Strength by name; empty when there is none.
    difference_percent
        Difference from the mask as given, in percent of its strength, by name.
    failure
        Why there is no strength: nothing is left, the bone is torn apart, or the model found no answer.
    reason
        The same in words; empty when there is a strength.
    """

    step_voxels: int
    step_mm: tuple[float, float, float]
    volume_mm3: float
    dice: float
    strengths_n: dict[str, float]
    difference_percent: dict[str, float]
    failure: Failure | None
    reason: str


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Strengths of a mask and of its changed versions.

    Attributes
    ----------
    steps
        From the most eroded to the most dilated; the mask as given is among them.
    low_n, high_n
        Smallest and largest strength by name, over the masks that have one; the given mask's lies between.
    flags
        ``sensitivity_incomplete`` with the steps that have no strength.
    """

    steps: tuple[MaskStep, ...]
    low_n: dict[str, float]
    high_n: dict[str, float]
    flags: tuple[ModelFlag, ...]


def sensitivity(
    mask: Bools,
    spacing_mm: tuple[float, float, float],
    evaluate: Evaluate[Start],
    *,
    steps: Sequence[int] = STEPS,
    base: Outcome[Start] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Sensitivity:
    """Evaluate a strength on a mask and on its eroded and dilated versions.

    1. The mask as given, unless its outcome is known; what it raises is raised.
    2. Outwards from it, step by step, each with the start of the last one before it that had an answer.

    Parameters
    ----------
    mask : (slice, row, column) bool array
        The bone.
    spacing_mm
        Voxel spacing along (slice, row, column).
    evaluate
        Mask and start, None for the mask as given, to strengths. Errors of ``fe`` count as an answer.
    steps
        Whole voxels, each once, without 0.
    base
        The outcome of the mask as given, when it is known already.
    progress
        Called with a fraction 0..1 and a short text.

    Raises
    ------
    BadMask, EmptyMask, BadSpacing
        The mask or the spacing cannot be used, or a step is not a whole number of voxels other than 0.
    FeError
        The mask as given has no strength.
    """
    _check(mask, spacing_mm, steps)
    tell = progress if progress is not None else say_nothing
    tell(0.0, "Strength of the mask as given")
    base = evaluate(mask, None) if base is None else base
    rows = {0: _row(0, mask, mask, spacing_mm, base, base.strengths_n)}
    for outwards in (sorted((s for s in steps if s < 0), reverse=True), sorted(s for s in steps if s > 0)):
        start = base.start
        for step in outwards:
            tell(len(rows) / (len(steps) + 1), f"Strength of the mask changed by {step:+d} voxels")
            changed = stepped_mask(mask, step)
            answer = answer_of(changed, mask, evaluate, start)
            if isinstance(answer, Outcome):
                start = answer.start
            rows[step] = _row(step, changed, mask, spacing_mm, answer, base.strengths_n)
    tell(1.0, "Sensitivity computed")
    table = tuple(rows[step] for step in sorted(rows))
    return Sensitivity(table, _extreme(table, min), _extreme(table, max), _flags(table))


def stepped_mask(mask: Bools, step: int) -> Bools:
    """Return the mask eroded (negative) or dilated by a number of voxels, through faces; never across the edge."""
    if step == 0:
        return mask
    changed = np.zeros_like(mask)
    box = box_around(mask, abs(step))
    if step < 0:
        changed[box] = ndimage.binary_erosion(mask[box], iterations=-step, border_value=1)
    else:
        changed[box] = ndimage.binary_dilation(mask[box], iterations=step)
    return changed


def _check(mask: Bools, spacing_mm: tuple[float, float, float], steps: Sequence[int]) -> None:
    if mask.dtype != np.bool_ or mask.ndim != 3:
        raise BadMask(f"The mask must be a boolean volume; it is {mask.dtype} with {mask.ndim} dimensions.")
    if not mask.any():
        raise EmptyMask("The mask holds no voxel.")
    if not all(np.isfinite(length) and length > 0 for length in spacing_mm):
        raise BadSpacing(f"Spacing {tuple(spacing_mm)} mm must be positive lengths.")
    if len(set(steps)) != len(steps) or not all(step == int(step) and step != 0 for step in steps):
        raise BadMask(f"Steps must be different whole numbers of voxels other than 0, not {tuple(steps)}.")


def answer_of(
    changed: Bools, mask: Bools, evaluate: Evaluate[Start], start: Start | None
) -> Outcome[Start] | tuple[Failure, str]:
    """Return the outcome of a changed mask, or why it has none; ``mask`` is what was changed."""
    if not changed.any():
        return "eroded_away", "The mask is thinner than what was eroded."
    loose = _loose_fraction(changed) - _loose_fraction(mask)
    if loose > TORN_FRACTION:
        return "torn_apart", f"{loose:.0%} of the mask lost its connection with the rest."
    try:
        return evaluate(changed, start)
    except FeError as error:
        return "no_strength", str(error)


def _loose_fraction(mask: Bools) -> float:
    """Return the fraction of a mask that does not belong to its largest face-connected part."""
    labels, _ = ndimage.label(mask[box_around(mask)])
    sizes = np.bincount(labels.ravel())[1:]
    return 1 - float(sizes.max() / sizes.sum())


def _row(
    step: int,
    changed: Bools,
    mask: Bools,
    spacing_mm: tuple[float, float, float],
    answer: Outcome[Start] | tuple[Failure, str],
    reference_n: Mapping[str, float],
) -> MaskStep:
    strengths = dict(answer.strengths_n) if isinstance(answer, Outcome) else {}
    failure, reason = (None, "") if isinstance(answer, Outcome) else answer
    along_slice, along_row, along_column = (step * length for length in spacing_mm)
    return MaskStep(
        step_voxels=step,
        step_mm=(along_slice, along_row, along_column),
        volume_mm3=float(changed.sum() * np.prod(spacing_mm)),
        dice=2 * float((changed & mask).sum()) / float(changed.sum() + mask.sum()),
        strengths_n=strengths,
        difference_percent={name: 100 * (value / reference_n[name] - 1) for name, value in strengths.items()},
        failure=failure,
        reason=reason,
    )


def _extreme(table: tuple[MaskStep, ...], choose: Callable[[Sequence[float]], float]) -> dict[str, float]:
    rows = [row.strengths_n for row in table if row.failure is None]
    return {name: choose([row[name] for row in rows]) for name in rows[0]}


def _flags(table: tuple[MaskStep, ...]) -> tuple[ModelFlag, ...]:
    failed = [row for row in table if row.failure is not None]
    if not failed:
        return ()
    words = "; ".join(f"{row.step_voxels:+d} voxels: {row.reason.rstrip('.')}" for row in failed)
    return (
        ModelFlag(
            INCOMPLETE,
            f"The strength could not be computed for {len(failed)} of {len(table) - 1} changed masks ({words}). The "
            "interval leaves them out, so it is too narrow.",
            tuple(("step_voxels", float(row.step_voxels)) for row in failed),
        ),
    )
