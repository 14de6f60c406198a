"""The table of values: vertebrae as rows, femurs as columns, everything else as a list; nothing is left out.

A grid's cell is a measurement of the report, printed with the decimals of its concept and its interval.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sr_export.codes import PRINTED_UNITS, concept, finding_code
from sr_export.concepts import FEMURS, SIDES, SUBJECT_WORDS, VERTEBRAE
from sr_export.inputs import Finding, Group, Measurement, Report
from sr_export.page_words import SUBJECT_FEMURS, forbidding
from sr_export.sr_groups import printed_value

SHORT_NAMES: dict[str, str] = {
    "trabecular_vbmd": "vBMD",
    "trabecular_vbmd_contrast_corrected": "Less contrast",
    "mean_hu": "CT number",
    "voi_volume": "Volume",
    "vertebral_strength": "Strength (CT-FE)",
    "integral_vbmd": "Integral vBMD",
    "neck_integral_vbmd": "Neck integral vBMD",
    "trochanter_integral_vbmd": "Trochanter integral vBMD",
    "total_hip_integral_vbmd": "Total hip integral vBMD",
    "neck_areal_bmd": "Neck areal BMD (not DXA)",
    "trochanter_areal_bmd": "Trochanter areal BMD (not DXA)",
    "total_hip_areal_bmd": "Total hip areal BMD (not DXA)",
    "femur_mean_hu": "Mean CT number",
    "femur_strength_stance": "Strength, stance",
    "femur_strength_fall": "Strength, fall",
    "femur_strength_stance_minimum": "Strength, stance, min",
    "femur_strength_stance_maximum": "Strength, stance, max",
    "femur_strength_fall_minimum": "Strength, fall, min",
    "femur_strength_fall_maximum": "Strength, fall, max",
}
"""Names of concepts where the row or column already says the bone; others print theirs without the bone."""

Numbers = tuple[tuple[Group, Measurement], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its name, its unit where the columns have none, a cell or None a column, and why cells are empty."""

    name: str
    unit: str
    cells: tuple[Measurement | None, ...]
    missing: str = ""
    is_mean: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: ``columns`` are (name, unit) beside the rows' names."""

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    needs_calibration: bool


def interval(measurement: Measurement) -> str:
    """Return the interval as it is printed; empty where none is known."""
    key, low, high = measurement.concept, measurement.low, measurement.high
    if low is not None and high is not None:
        return f"{printed_value(key, low)} to {printed_value(key, high)}"
    if low is not None:
        return f"from {printed_value(key, low)}"
    return f"to {printed_value(key, high)}" if high is not None else ""


def spine_grid(report: Report) -> Grid | None:
    """Return the vertebrae, measured or refused, from the head down, and their means; None where there are none."""
    levels, means = _numbers_of_spine(report)
    refused = {one.subject: one for one in forbidding(report) if one.subject in VERTEBRAE}
    if not levels and not means and not refused:
        return None
    of_means = (column_of_mean(mean.concept) for mean in means)
    columns = tuple(dict.fromkeys((*of_means, *(key for _, key in levels))))
    rows = [
        _level_row(level, [levels.get((level, column)) for column in columns], refused.get(level))
        for level in VERTEBRAE
        if level in refused or any(level == found for found, _ in levels)
    ]
    for levels_averaged in dict.fromkeys(concept(mean.concept).mean_of for mean in means):
        cells = {
            column_of_mean(mean.concept): mean for mean in means if concept(mean.concept).mean_of == levels_averaged
        }
        rows.append(
            Row(f"Mean {', '.join(levels_averaged)}", "", tuple(cells.get(one) for one in columns), is_mean=True)
        )
    heads = tuple((short_name(key), unit(key)) for key in columns)
    return Grid("Spine, trabecular", heads, tuple(rows), any(concept(key).needs_calibration for key in columns))


def _numbers_of_spine(report: Report) -> tuple[dict[tuple[str, str], Measurement], list[Measurement]]:
    """Return (level, concept) -> number, and the means over levels, each concept once."""
    levels: dict[tuple[str, str], Measurement] = {}
    means: dict[str, Measurement] = {}
    for group in report.groups:
        for number in group.measurements:
            if group.structure in VERTEBRAE:
                levels.setdefault((group.structure, number.concept), number)
            elif concept(number.concept).mean_of:
                means.setdefault(number.concept, number)
    return levels, list(means.values())


def column_of_mean(key: str) -> str:
    """Return the concept of single levels whose column a mean stands in."""
    corrected = "_contrast_corrected"
    return f"trabecular_vbmd{corrected}" if key.endswith(corrected) else "trabecular_vbmd"


def _level_row(level: str, cells: Sequence[Measurement | None], refused: Finding | None) -> Row:
    reason = finding_code(refused.code).meaning if refused is not None else ""
    if any(cell is not None for cell in cells):
        return Row(level, "", tuple(cells))
    return Row(level, "", tuple(cells), missing=f"not measured: {reason}")


def femur_grid(report: Report) -> Grid | None:
    """Return both femurs' numbers, right before left as on the images; None where none has any."""
    numbers: dict[tuple[str, str], Measurement] = {}
    for group in report.groups:
        if group.structure in FEMURS and group.laterality:
            for number in group.measurements:
                numbers.setdefault((number.concept, group.laterality), number)
    if not numbers:
        return None
    refused = {SUBJECT_FEMURS[one.subject] for one in forbidding(report) if one.subject in SUBJECT_FEMURS}
    sides = [side for side in SIDES if side in refused or any(side == found for _, found in numbers)]
    keys = tuple(dict.fromkeys(key for key, _ in numbers))
    rows = tuple(Row(short_name(key), unit(key), tuple(numbers.get((key, side)) for side in sides)) for key in keys)
    heads = tuple((SUBJECT_WORDS[side], "") for side in sides)
    return Grid("Femur (strength: CT-FE)", heads, rows, any(concept(key).needs_calibration for key in keys))


def left_over(report: Report, grids: Sequence[Grid]) -> tuple[tuple[Group, tuple[Measurement, ...]], ...]:
    """Return the numbers that no grid holds, by group."""
    shown = {id(cell) for grid in grids for row in grid.rows for cell in row.cells if cell is not None}
    rest = ((group, tuple(one for one in group.measurements if id(one) not in shown)) for group in report.groups)
    return tuple((group, numbers) for group, numbers in rest if numbers)


def short_name(key: str) -> str:
    """Return a concept's name without the bone it is said of."""
    if key in SHORT_NAMES:
        return SHORT_NAMES[key]
    name = concept(key).name.replace("{subject}", "").strip()
    return name[:1].upper() + name[1:]


def unit(key: str) -> str:
    """Return a concept's unit as people write it."""
    return PRINTED_UNITS[concept(key).unit.value]


def refused_femurs(report: Report) -> Iterator[str]:
    """Say of every femur that is not measured, or only in part, why."""
    for one in forbidding(report):
        if one.subject in SUBJECT_FEMURS:
            side = SUBJECT_WORDS[SUBJECT_FEMURS[one.subject]]
            numbers = any(
                group.structure in FEMURS and group.laterality == SUBJECT_FEMURS[one.subject] for group in report.groups
            )
            state = "measured only in part" if numbers else "not measured"
            yield f"{side} femur {state}: {finding_code(one.code).meaning}."
