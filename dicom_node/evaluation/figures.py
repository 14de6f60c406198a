"""Figures of an evaluation, like those of the papers: regression and Bland-Altman, ROC, Dice by structure."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dicom_node.evaluation.masks import MaskScore
from dicom_node.evaluation.tables import line_words
from dicom_node.evaluation.values import GroupResult
from inference.agreement import Agreement

Values = NDArray[np.float64]
INK, SOFT = "#1b2733", "#8a97a3"
DARK = 0.55
"""Share from which a cell is dark, so that its words are white."""

COLOURS = ("#0b5cab", "#c8741a", "#1a6b3c", "#8a3ea8", "#a3261d", "#2b8a8a")


def agreement_figure(result: GroupResult, quantity: str) -> bytes:
    """Draw measured over reference with its line, and differences over means with their limits; a PNG.

    Raises
    ------
    ValueError
        When the group has no agreement.
    """
    if result.agreement is None:
        raise ValueError(f"group {result.group} cannot be compared: {result.reason}")
    figure = Figure(figsize=(10.5, 4.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    measured = np.array([case.measured for case in result.cases])
    reference = np.array([case.reference for case in result.cases])
    _regression(left, measured, reference, result.agreement, quantity)
    _bland_altman(right, measured, reference, result.agreement, quantity)
    figure.suptitle(f"{result.group or 'All cases'}, n = {result.agreement.count}", fontsize=11, color=INK)
    return png(figure)


def roc_figure(result: GroupResult) -> bytes | None:
    """Draw every limit's curve, with the limit itself and the best cut-off; None where no limit has both classes."""
    curves = [(threshold, decision, curve) for threshold, decision, curve in result.decisions if curve is not None]
    if not curves:
        return None
    figure = Figure(figsize=(5.6, 5.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for (threshold, decision, curve), colour in zip(curves, COLOURS * len(curves), strict=False):
        auc = curve.auc
        words = f"{threshold.words}: AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
        axes.step(curve.false_positive_rate, curve.true_positive_rate, where="post", color=colour, label=words)
        axes.plot(1 - decision.specificity.value, decision.sensitivity.value, "o", color=colour, ms=6)
        at = curve.best
        axes.plot(
            curve.false_positive_rate[at], curve.true_positive_rate[at], "D", ms=8, mfc="none", mec=colour, mew=1.2
        )
    axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls="--")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.plot([], [], "o", color=SOFT, ms=6, label="the limit itself")
    axes.plot([], [], "D", ms=8, mfc="none", mec=SOFT, mew=1.2, label="best cut-off of these cases (Youden)")
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    axes.set_title(f"{result.group or 'All cases'}, n = {len(result.cases)}", fontsize=11, color=INK)
    return png(figure)


def confusion_figure(result: GroupResult, quantity: str) -> bytes | None:
    """Draw cases by category of reference and measured value; None without limits."""
    if result.confusion is None:
        return None
    names, counts = result.confusion.names, result.confusion.counts
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.5 + 1.15 * len(names), 1.3 + 1.05 * len(names)), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > DARK else INK
        axes.text(
            column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour, fontsize=10
        )
    places = range(len(names))
    axes.set_xticks(places, names, fontsize=9)
    axes.set_yticks(places, names, fontsize=9)
    axes.set(xlabel=f"measured {quantity}", ylabel=f"reference {quantity}")
    axes.set_title(f"{result.group or 'All cases'}, n = {len(result.cases)}", fontsize=11, color=INK)
    return png(figure)


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
    return png(figure)


def _regression(axes: Axes, measured: Values, reference: Values, found: Agreement, quantity: str) -> None:
    ends = np.array([min(measured.min(), reference.min()), max(measured.max(), reference.max())])
    axes.plot(ends, ends, color=SOFT, lw=0.8, ls="--", label="identity")
    axes.plot(ends, found.slope * ends + found.intercept, color=COLOURS[0], label="least squares")
    axes.plot(reference, measured, "o", color=INK, ms=4, alpha=0.7)
    axes.set(xlabel=f"reference {quantity}", ylabel=f"measured {quantity}")
    axes.set_title(f"y = {line_words(found)},  R2 = {found.r2:.3f}", fontsize=10)
    axes.legend(fontsize=9, frameon=False, loc="upper left")


def _bland_altman(axes: Axes, measured: Values, reference: Values, found: Agreement, quantity: str) -> None:
    axes.plot((measured + reference) / 2, measured - reference, "o", color=INK, ms=4, alpha=0.7)
    axes.axhline(0.0, color=SOFT, lw=0.8, ls="--")
    bands = [(one - found.limits_error, one + found.limits_error) for one in found.limits]
    for low, high in (*bands, (found.bias.low, found.bias.high)):
        axes.axhspan(low, high, color=COLOURS[0], alpha=0.1, lw=0)
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
    axes.set(xlabel=f"mean of both, {quantity}", ylabel=f"measured - reference {quantity}")
    axes.set_title("Bland-Altman; bands: 95 % intervals", fontsize=10)
    axes.margins(y=0.15)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
