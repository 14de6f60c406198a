"""Tables of failure loads by mask: table 3 of [Saillard2024], every bone, and what could not be computed."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_node.evaluation.strength_models import LOAD_MODELS
from dicom_node.evaluation.strength_values import STEPS, WORDS, BoneLoads, GroupTest, LoadGroup, group_test
from dicom_node.evaluation.tables import Table
from inference.labels import BY_KEY

LEAST_P = 0.001


def mask_table(groups: Sequence[LoadGroup]) -> Table:
    """Table 3 of [Saillard2024]: mean and standard deviation over bones, by version of the automatic mask."""
    head = ("bones", "figure", *(WORDS[step] for step in STEPS))
    return head, [row for group in groups for row in _rows(group)]


def load_table(groups: Sequence[LoadGroup]) -> Table:
    """One row a bone and load, as the supplementary tables of [Saillard2024] have it."""
    head = (
        "case", "structure", "load", "reference, N", *(f"{WORDS[step]}, N" for step in STEPS),
        "difference of the automatic, %", "Dice of the automatic", "calibrated", "the node would withhold it",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for group in groups:
        for number, bone in enumerate(group.bones):
            plain = STEPS.index(0)
            rows.append(
                (
                    bone.case,
                    bone.structure,
                    group.title,
                    f"{group.reference_n[number]:.0f}",
                    *(_number(value, "{:.0f}") for value in group.loads_n[number]),
                    _number(group.difference_percent[number, plain], "{:.2f}"),
                    f"{group.dice[number, plain]:.4f}",
                    "yes" if bone.is_calibrated else "no",
                    ", ".join(bone.withheld) or "no",
                )
            )
    return head, rows


def missing_table(bones: Sequence[BoneLoads]) -> Table:
    """One row a load that could not be computed, with its reason."""
    rows: list[tuple[str, ...]] = []
    for bone in bones:
        place = (bone.case, bone.structure, bone.model)
        if bone.reason:
            rows.append((*place, "all", "all", bone.reason))
        for load in () if bone.reason else LOAD_MODELS[bone.model].loads:
            if load not in bone.reference_n:
                rows.append((*place, load, "reference", "The model gave no such load."))
            rows += [
                (*place, load, WORDS[step.step_voxels], step.reason or "The model gave no such load.")
                for step in bone.steps
                if load not in step.loads_n
            ]
    return ("case", "structure", "model", "load", "mask", "reason"), rows


def caution(bones: Sequence[BoneLoads]) -> str:
    """Say what no reader of the loads may miss."""
    uncalibrated = sum(not one.is_calibrated for one in bones)
    if uncalibrated:
        return (
            f"Research use only. UNCALIBRATED: densities of {uncalibrated} of {len(bones)} bones by the default line."
        )
    return "Research use only."


def missing_sentence(bones: Sequence[BoneLoads]) -> str:
    """Say how many bones have all loads, and how many have not; empty where every bone has all of them."""
    without = [one for one in bones if one.reason]
    some = [one for one in bones if not one.reason and any(step.reason for step in one.steps)]
    if not without and not some:
        return ""
    names = ", ".join(f"{one.case} {BY_KEY[one.structure].name}" for one in (*without, *some)[:5])
    more = ", ..." if len(without) + len(some) > 5 else ""
    return (
        f"Of {len(bones)} bones, {len(without)} have no load and {len(some)} lack some ({names}{more}); "
        "missing.md says why."
    )


def _rows(group: LoadGroup) -> Iterator[tuple[str, ...]]:
    test = group_test(group)
    known = np.isfinite(group.loads_n).sum(axis=0)
    yield group.title, "Dice", *_spreads(group.dice, 3)
    yield group.title, "absolute difference of the load, N", *_spreads(np.abs(group.difference_n), 0)
    yield group.title, "absolute difference of the load, %", *_spreads(np.abs(group.difference_percent), 2)
    yield group.title, "difference of the load, %", *_spreads(group.difference_percent, 2)
    yield group.title, "bones with a load", *(f"{count} of {len(group.bones)}" for count in known)
    yield group.title, _test_words(test), *(_p_words(test, step) for step in STEPS)


def _spreads(values: NDArray[np.float64], digits: int) -> list[str]:
    """Return mean and standard deviation of every column, over its numbers."""
    return [_spread(column[np.isfinite(column)], digits) for column in values.T]


def _spread(values: NDArray[np.float64], digits: int) -> str:
    if values.size == 0:
        return "-"
    sd = f" +- {values.std(ddof=1):.{digits}f}" if values.size > 1 else ""
    return f"{values.mean():.{digits}f}{sd}"


def _test_words(found: GroupTest) -> str:
    if found.test is None:
        return "p against the reference: too few bones to test"
    overall = found.test
    return (
        f"p against the reference (Dunn), after Friedman's test of {overall.methods} masks in {overall.cases} bones: "
        f"{_p(overall.p_value)}"
    )


def _p_words(found: GroupTest, step: int) -> str:
    p_value = found.p_value(step)
    return "-" if p_value is None else _p(p_value)


def _p(value: float) -> str:
    return f"< {LEAST_P:g}" if value < LEAST_P else f"{value:.3f}"


def _number(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else "-"
