"""How a training went: a table and a picture."""

import csv
import io
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Losses = Sequence[tuple[int, float]]
Figures = Sequence[tuple[int, Mapping[str, float]]]
UNITS = ("mm", "hu", "mg_per_cm3")
"""Figures of one unit share a panel; those without one are ratios."""


def history_csv(losses: Losses, figures: Figures) -> str:
    """Return one row a validation: step, smoothed loss, every figure."""
    names = list(dict.fromkeys(name for _, row in figures for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "loss", *names])
    for (step, loss), (_, row) in zip(losses, figures, strict=True):
        writer.writerow([step, f"{loss:.5g}", *(f"{row[name]:.5g}" if name in row else "" for name in names)])
    return text.getvalue()


def curve(name: str, steps: int, losses: Losses, figures: Figures) -> bytes:
    """Draw the loss and the figures over the steps as a PNG: a panel for the loss and one for every unit."""
    names = list(dict.fromkeys(key for _, row in figures for key in row))
    units = list(dict.fromkeys(_unit(key) for key in names))
    figure = Figure(figsize=(4.5 * (1 + len(units)), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 1 + len(units), squeeze=False)[0]
    panels[0].plot(*zip(*losses, strict=True), marker=".", color="black")
    panels[0].set(title=f"{name}: loss", xlabel="step", xlim=(0, steps))
    for unit, panel in zip(units, panels[1:], strict=True):
        for key in names:
            if _unit(key) == unit:
                points = [(step, row[key]) for step, row in figures if key in row]
                panel.plot(*zip(*points, strict=True), marker=".", label=key)
        panel.set(title=f"validation, {unit}" if unit else "validation", xlabel="step", xlim=(0, steps))
        panel.legend(fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _unit(name: str) -> str:
    """Return the unit that a figure's name ends in, or nothing."""
    return next((unit for unit in UNITS if name.endswith(f"_{unit}")), "")
