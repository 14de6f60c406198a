"""The same strength for the mask eroded and dilated: runs ``fe.sensitivity``, and shows what comes out."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

from rich.table import Table

from dicom_node.strength.bone import Bone
from dicom_node.strength.charts import step_chart
from dicom_node.strength.outcome import Drawing, Outcome, Progress
from dicom_node.strength.plates import plate
from fe.sensitivity import Sensitivity

MODEL_SHARE = 0.25
"""Of the progress bar: the mask as given; its four changed versions take the rest."""


def first_part(progress: Progress) -> Progress:
    """Return the progress of the mask as given, where its changed versions follow."""
    return lambda done, stage: progress(MODEL_SHARE * done, stage)


def with_sensitivity(
    outcome: Outcome, bone: Bone, compute: Callable[[Progress], Sensitivity], progress: Progress
) -> Outcome:
    """Add to an outcome what the changed masks give.

    Parameters
    ----------
    outcome
        Of the mask as given.
    bone
        For the picture's title.
    compute
        Computes the strengths of the changed masks.
    progress
        Told from ``MODEL_SHARE`` to 1.
    """
    found = compute(lambda done, stage: progress(MODEL_SHARE + (1 - MODEL_SHARE) * done, stage))
    return replace(
        outcome,
        values={**outcome.values, "sensitivity": {"steps": [asdict(step) for step in found.steps], **_interval(found)}},
        flags=(*outcome.flags, *found.flags),
        tables=(*outcome.tables, _table(found)),
        draw=lambda: _draw(outcome.draw, found, bone),
    )


def _interval(found: Sensitivity) -> dict[str, dict[str, float]]:
    return {"low_n": found.low_n, "high_n": found.high_n}


def _table(found: Sensitivity) -> Table:
    names = list(found.low_n)
    table = Table(
        "mask", "Dice", *(f"{name.replace('_', ' ')}, N" for name in names), title="Sensitivity", title_justify="left"
    )
    for step in found.steps:
        cells = [f"{step.strengths_n[name]:,.0f} ({step.difference_percent[name]:+.1f} %)" for name in step.strengths_n]
        table.add_row(_words(step.step_voxels), f"{step.dice:.3f}", *(cells or [step.reason]))
    return table


def _words(step: int) -> str:
    if step == 0:
        return "as given"
    return f"{'eroded' if step < 0 else 'dilated'} by {abs(step)} voxel{'s' if abs(step) > 1 else ''}"


def _draw(before: Callable[[], Iterator[Drawing]], found: Sensitivity, bone: Bone) -> Iterator[Drawing]:
    yield from before()
    lines = {
        name: [(float(step.step_voxels), step.strengths_n[name]) for step in found.steps if name in step.strengths_n]
        for name in found.low_n
    }
    yield (
        "sensitivity",
        plate(
            f"{bone.name}, sensitivity",
            "Strength over the mask's size",
            caution=bone.caution,
            charts=[step_chart(lines)],
        ),
    )
