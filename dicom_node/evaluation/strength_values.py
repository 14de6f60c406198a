"""Loads of bones by reference and automatic masks, and what [Saillard2024] reports of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from dicom_node.evaluation.strength_models import LOAD_MODELS
from dicom_node.evaluation.values import Case, GroupResult, evaluate
from inference.rank_tests import LEAST_CASES, LEAST_METHODS, RankTest, rank_test

STEPS = (-2, -1, 0, 1, 2)
"""Voxels: negative erodes the automatic mask, positive dilates it [Saillard2024]."""

WORDS = {
    -2: "automatic, eroded by 2 voxels",
    -1: "automatic, eroded by 1 voxel",
    0: "automatic",
    1: "automatic, dilated by 1 voxel",
    2: "automatic, dilated by 2 voxels",
}
"""By step; the columns of the table."""

SIGNIFICANT = 0.05
"""[Saillard2024]"""


@dataclass(frozen=True, slots=True)
class StepLoad:
    """One version of the automatic mask.

    Attributes
    ----------
    step_voxels
        One of ``STEPS``.
    dice
        With the reference.
    loads_n
        By the model's names; empty where there is none.
    reason
        Why there is none.
    """

    step_voxels: int
    dice: float
    loads_n: Mapping[str, float]
    reason: str


@dataclass(frozen=True, slots=True)
class BoneLoads:
    """One bone of one case by one model.

    Attributes
    ----------
    case, structure, model
        What it is.
    reference_n
        Loads of the reference mask; empty where there are none.
    reason
        Why the bone has no reference load, and so no steps.
    steps
        As ``STEPS``; empty where there is no reference load.
    withheld
        Codes of the flags for which the node would not report a strength of this bone.
    is_calibrated
        Whether the densities come from a calibration, or the image holds densities.
    """

    case: str
    structure: str
    model: str
    reference_n: Mapping[str, float]
    reason: str
    steps: tuple[StepLoad, ...]
    withheld: tuple[str, ...]
    is_calibrated: bool


@dataclass(frozen=True, slots=True, eq=False)
class LoadGroup:
    """The bones of one row of the table.

    Attributes
    ----------
    title
        ``Femurs``, ``Vertebrae``, ...
    load
        Name of the load in the model's outcome.
    bones
        Those with a reference load.
    reference_n : (bone,) array
        N.
    loads_n, dice : (bone, step) arrays
        Of the automatic mask by ``STEPS``; not a number where there is no load.
    """

    title: str
    load: str
    bones: tuple[BoneLoads, ...]
    reference_n: NDArray[np.float64] = field(repr=False)
    loads_n: NDArray[np.float64] = field(repr=False)
    dice: NDArray[np.float64] = field(repr=False)

    @property
    def difference_n(self) -> NDArray[np.float64]:
        """Load of the automatic mask less that of the reference, (bone, step)."""
        return self.loads_n - self.reference_n[:, None]

    @property
    def difference_percent(self) -> NDArray[np.float64]:
        """The same in percent of the reference's load."""
        return 100.0 * self.difference_n / self.reference_n[:, None]


@dataclass(frozen=True, slots=True)
class GroupTest:
    """Friedman's test over the reference and the versions of the automatic mask, and Dunn's comparisons.

    Attributes
    ----------
    steps
        The versions that took part: those with a load in half of the bones or more.
    test
        Its columns are the reference, then ``steps``; None where there are too few bones.
    """

    steps: tuple[int, ...]
    test: RankTest | None

    def p_value(self, step: int) -> float | None:
        """Return Dunn's p of a version against the reference; None where it was not compared.

        The comparison follows a significant overall test only [Saillard2024].
        """
        if self.test is None or step not in self.steps or self.test.p_value >= SIGNIFICANT:
            return None
        return self.test.control_p_values[1 + self.steps.index(step)]


def load_groups(bones: Sequence[BoneLoads]) -> tuple[LoadGroup, ...]:
    """Return the bones with a reference load by row of the table, in the order of the models; none is empty."""
    return tuple(_groups(bones))


def _groups(bones: Sequence[BoneLoads]) -> Iterator[LoadGroup]:
    for model, row in LOAD_MODELS.items():
        for load, title in row.loads.items():
            some = tuple(one for one in bones if one.model == model and load in one.reference_n)
            if some:
                yield LoadGroup(
                    title=title,
                    load=load,
                    bones=some,
                    reference_n=np.array([one.reference_n[load] for one in some]),
                    loads_n=np.array([[step.loads_n.get(load, np.nan) for step in one.steps] for one in some]),
                    dice=np.array([[step.dice for step in one.steps] for one in some]),
                )


def group_test(group: LoadGroup) -> GroupTest:
    """Compare the versions of the automatic mask with the reference as [Saillard2024] does.

    Bones count that have a load in all versions that took part.
    """
    known = np.isfinite(group.loads_n)
    takes_part = known.mean(axis=0) >= 0.5
    steps = tuple(step for step, taken in zip(STEPS, takes_part, strict=True) if taken)
    complete = known[:, takes_part].all(axis=1)
    if complete.sum() < LEAST_CASES or 1 + len(steps) < LEAST_METHODS:
        return GroupTest(steps, None)
    table = np.column_stack([group.reference_n, group.loads_n[:, takes_part]])[complete]
    return GroupTest(steps, rank_test(table))


def agreement_of(group: LoadGroup) -> GroupResult | None:
    """Return how loads of the automatic mask as it is agree with the reference's; None for too few bones."""
    loads = group.loads_n[:, STEPS.index(0)]
    cases = [
        Case(f"{bone.case} {bone.structure}", group.title, float(load), float(reference))
        for bone, load, reference in zip(group.bones, loads, group.reference_n, strict=True)
        if np.isfinite(load)
    ]
    try:
        return evaluate(cases)[0]
    except ConfigurationError:
        return None  # too few bones, or all of one load
