"""Figures of an evaluation, like those of the papers: regression and Bland-Altman, ROC, Dice by structure."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dicom_node.evaluation.masks import MaskScore
from dicom_node.evaluation.values import GroupResult

Values = NDArray[np.float64]
INK, SOFT = "#1b2733", "#8a97a3"
COLOURS = ("#0b5cab", "#c8741a", "#1a6b3c", "#8a3ea8", "#a3261d", "#2b8a8a")


def agreement_figure(result: GroupResult, quantity: str) -> bytes:
    """Draw measured over reference with its line, and differences over means with their limits; a PNG."""
    figure = Figure(figsize=(10.5, 4.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    measured = np.array([case.measured for case in result.cases])
    reference = np.array([case.reference for case in result.cases])
    _regression(left, measured, reference, result, quantity)
    _bland_altman(right, measured, reference, result, quantity)
    figure.suptitle(f"{result.group or 'All cases'}, n = {result.agreement.count}", fontsize=11, color=INK)
    return _png(figure)


def roc_figure(result: GroupResult) -> bytes | None:
    """Draw the curves of every limit; None where no limit has both classes."""
    curves = [(threshold, curve) for threshold, _, curve in result.decisions if curve is not None]
    if not curves:
        return None
    figure = Figure(figsize=(5.6, 5.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for (threshold, curve), colour in zip(curves, COLOURS * len(curves), strict=False):
        auc = curve.auc
        words = f"{threshold.words}: AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
        axes.step(curve.false_positive_rate, curve.true_positive_rate, where="post", color=colour, label=words)
    axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls="--")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    return _png(figure)


def dice_figure(scores: Sequence[MaskScore]) -> bytes:
    """Draw the Dice coefficient of every case by structure, with the median; a PNG."""
    names = list(dict.fromkeys(one.structure for one in scores))
    figure = Figure(figsize=(max(4.5, 0.8 * len(names) + 1.5), 4.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = np.array([one.dice for one in scores if one.structure == name])
        spread = np.linspace(-0.18, 0.18, values.size) if values.size > 1 else np.zeros(1)
        axes.plot(place + spread, values, "o", color=COLOURS[0], ms=4, alpha=0.7)
        axes.hlines(np.median(values), place - 0.3, place + 0.3, color=INK, lw=1.6)
    axes.axhline(0.9, color=SOFT, lw=0.8, ls="--")
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=30, ha="right")
    axes.set(ylabel="Dice coefficient (bar: median)", ylim=(min(0.0, *(one.dice for one in scores)), 1.02))
    return _png(figure)


def _regression(axes: Axes, measured: Values, reference: Values, result: GroupResult, quantity: str) -> None:
    found = result.agreement
    ends = np.array([min(measured.min(), reference.min()), max(measured.max(), reference.max())])
    axes.plot(ends, ends, color=SOFT, lw=0.8, ls="--", label="identity")
    axes.plot(ends, found.slope * ends + found.intercept, color=COLOURS[0], label="least squares")
    axes.plot(reference, measured, "o", color=INK, ms=4, alpha=0.7)
    axes.set(xlabel=f"reference {quantity}", ylabel=f"measured {quantity}")
    axes.set_title(f"y = {found.slope:.3f} x {found.intercept:+.2f},  R2 = {found.r2:.3f}", fontsize=10)
    axes.legend(fontsize=9, frameon=False, loc="upper left")


def _bland_altman(axes: Axes, measured: Values, reference: Values, result: GroupResult, quantity: str) -> None:
    found = result.agreement
    axes.plot((measured + reference) / 2, measured - reference, "o", color=INK, ms=4, alpha=0.7)
    for value, words, style in (
        (found.bias.value, "bias", "-"),
        (found.limits[0], "-1.96 SD", "--"),
        (found.limits[1], "+1.96 SD", "--"),
    ):
        axes.axhline(value, color=COLOURS[0], ls=style, lw=1.2)
        axes.annotate(
            f"{words} {value:.2f}", (1.0, value), xycoords=("axes fraction", "data"), xytext=(-4, 3),
            textcoords="offset points", ha="right", fontsize=9, color=COLOURS[0],
        )  # fmt: skip
    axes.set(xlabel=f"mean of both, {quantity}", ylabel="measured - reference")
    axes.set_title("Bland-Altman", fontsize=10)
    axes.margins(y=0.15)


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
