"""Results of an evaluation as rows: CSV for machines, Markdown for people."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from dicom_node.evaluation.masks import MaskScore
from dicom_node.evaluation.values import GroupResult, Threshold
from inference.agreement import Agreement, Interval, Roc

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Head, rows."""

NOTHING = "-"
"""There is no such number."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run as a formula by spreadsheets; names of cases come from files."""


def to_csv(table: Table) -> str:
    """Return a table as CSV; a name that a spreadsheet would run as a formula gets an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table[0])
    writer.writerows([_inert(cell) for cell in row] for row in table[1])
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [_line(table[0]), "|" + "---|" * len(table[0]), *map(_line, table[1])]
    return "\n".join(lines) + "\n"


def case_table(scores: Sequence[MaskScore]) -> Table:
    """One row a case and structure."""
    head = (
        "case",
        "structure",
        "Dice",
        "IoU",
        "AUC",
        "HD, mm",
        "HD95, mm",
        "mean surface distance, mm",
        "volume, ml",
        "reference, ml",
        "would fit",
    )
    rows: list[tuple[str, ...]] = [
        (
            one.case,
            one.structure,
            f"{one.dice:.4f}",
            f"{one.iou:.4f}",
            _number(one.auc, 4),
            f"{one.hd_mm:.2f}",
            f"{one.hd95_mm:.2f}",
            f"{one.surface_mm:.3f}",
            f"{one.volume_ml:.2f}",
            f"{one.reference_ml:.2f}",
            one.fits_better,
        )
        for one in scores
    ]
    return head, rows


def structure_table(scores: Sequence[MaskScore]) -> Table:
    """One row a structure, and one for all: mean and standard deviation over cases, and how many had none."""
    head = (
        "structure",
        "cases",
        "Dice",
        "IoU",
        "AUC",
        "HD, mm",
        "HD95, mm",
        "mean surface distance, mm",
        "Dice above 0.9",
        "missed",
        "invented",
        "misnamed",
    )
    names = list(dict.fromkeys(one.structure for one in scores))
    groups = [(name, [one for one in scores if one.structure == name]) for name in names]
    return head, [_structure_row(name, some) for name, some in (*groups, ("all", list(scores)))]


def agreement_table(results: Sequence[GroupResult], unit: str) -> Table:
    """One row a group, as in the tables of the papers; a group that cannot be compared says why."""
    head = (
        "group", "cases", "R2", "Pearson r", "Spearman", "ICC(2,1)", f"bias, {unit}", f"95 % limits, {unit}",
        "mean absolute difference, %", "p (paired t)", "line",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for result in results:
        found, name = result.agreement, result.group or "all"
        if found is None:
            rows.append((name, str(len(result.cases)), *["-"] * 8, result.reason))
            continue
        rows.append(
            (
                name,
                str(found.count),
                _number(found.r2, 3),
                _interval(found.pearson),
                _interval(found.spearman),
                _interval(found.icc),
                _interval(found.bias, 2),
                f"{found.limits[0]:.2f} to {found.limits[1]:.2f} (each +-{found.limits_error:.2f})",
                _number(found.relative_difference_percent, 2),
                f"{found.p_value:.3g}",
                line_words(found),
            )
        )
    return head, rows


def decision_table(results: Sequence[GroupResult]) -> Table:
    """One row a group and limit."""
    head = (
        "group", "positive", "TP", "FP", "FN", "TN", "sensitivity", "specificity", "PPV", "NPV", "accuracy", "AUC",
        "best cut-off (Youden): sensitivity, specificity",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for result in results:
        for threshold, found, curve in result.decisions:
            counts = (found.true_positive, found.false_positive, found.false_negative, found.true_negative)
            shares = (found.sensitivity, found.specificity, found.ppv, found.npv, found.accuracy)
            auc = "-" if curve is None else _interval(curve.auc)
            rows.append(
                (
                    result.group or "all",
                    threshold.words,
                    *map(str, counts),
                    *map(_interval, shares),
                    auc,
                    _best(threshold, curve),
                )
            )
    return head, rows


def confusion_table(results: Sequence[GroupResult]) -> Table:
    """One row a group and category of the reference; columns are the measured categories."""
    first = next(result.confusion for result in results if result.confusion is not None)
    head = ("group", "reference", *(f"measured {name}" for name in first.names))
    rows: list[tuple[str, ...]] = [
        (result.group or "all", name, *map(str, row))
        for result in results
        if result.confusion is not None
        for name, row in zip(result.confusion.names, result.confusion.counts, strict=True)
    ]
    return head, rows


def notice_table(sentences: Sequence[str]) -> Table:
    """One row a notice."""
    return ("notice",), [(sentence,) for sentence in sentences]


def _best(threshold: Threshold, curve: Roc | None) -> str:
    if curve is None:
        return "-"
    at = curve.best
    score = float(curve.thresholds[at])
    cut = "at most" if threshold.is_below else "at least"
    value = -score if threshold.is_below else score
    return f"{cut} {value:.4g}: {curve.true_positive_rate[at]:.3f}, {1 - curve.false_positive_rate[at]:.3f}"


def line_words(found: Agreement) -> str:
    """Return the least-squares line in words."""
    return f"{found.slope:.3f} x {'-' if found.intercept < 0 else '+'} {abs(found.intercept):.2f}"


def _structure_row(name: str, scores: Sequence[MaskScore]) -> tuple[str, ...]:
    both = [one for one in scores if one.volume_ml > 0 and one.reference_ml > 0]
    missed = sum(one.volume_ml == 0 for one in scores)
    invented = sum(one.reference_ml == 0 for one in scores)
    good = sum(one.dice > 0.9 for one in scores)
    return (
        name,
        str(len(scores)),
        _spread([one.dice for one in scores], 3),
        _spread([one.iou for one in scores], 3),
        _spread([one.auc for one in scores if not np.isnan(one.auc)], 3),
        _spread([one.hd_mm for one in both], 2),
        _spread([one.hd95_mm for one in both], 2),
        _spread([one.surface_mm for one in both], 2),
        f"{good} of {len(scores)}",
        str(missed),
        str(invented),
        str(sum(bool(one.fits_better) for one in scores)),
    )


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    sd = f" +- {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{sd}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def _interval(one: Interval, digits: int = 3) -> str:
    if np.isnan(one.value):
        return "-"
    return f"{one.value:.{digits}f} ({one.low:.{digits}f} to {one.high:.{digits}f})"


def _inert(cell: str) -> str:
    try:
        float(cell)
    except ValueError:
        return f"'{cell}" if cell.startswith(FORMULA) and cell != NOTHING else cell
    return cell


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
