"""Failure load by mask, as figure 2 of [Saillard2024]."""

import numpy as np
from matplotlib.figure import Figure

from dicom_node.evaluation.figures import COLOURS, INK, SOFT, png
from dicom_node.evaluation.strength_values import SIGNIFICANT, STEPS, LoadGroup, group_test

SHORT = {-2: "eroded\n2 voxels", -1: "eroded\n1 voxel", 0: "automatic", 1: "dilated\n1 voxel", 2: "dilated\n2 voxels"}
AUTOMATIC, REFERENCE = COLOURS[0], COLOURS[1]
LEAST_BOX = 5
"""Quartiles of fewer values are drawn by nobody; their points say it all."""


def load_figure(group: LoadGroup, caution: str) -> bytes:
    """Draw the loads of every bone by mask, with quartiles; bones are joined by lines, a star is p < 0.05.

    Parameters
    ----------
    group
        One row of the table.
    caution
        What the figure's foot says.

    Returns
    -------
    bytes
        PNG.
    """
    figure = Figure(figsize=(8.2, 5.0), dpi=110, layout="constrained")
    axes = figure.subplots()
    loads_kn = np.column_stack([group.reference_n, group.loads_n]) / 1000.0
    places = range(loads_kn.shape[1])
    for row in loads_kn:
        axes.plot(places, row, color=SOFT, lw=0.6, alpha=0.6, zorder=1)
    for place, column in zip(places, loads_kn.T, strict=True):
        values = column[np.isfinite(column)]
        colour = REFERENCE if place == 0 else AUTOMATIC
        if values.size >= LEAST_BOX:
            axes.boxplot(
                values, positions=[place], widths=0.5, showfliers=False, manage_ticks=False,
                boxprops={"color": colour}, whiskerprops={"color": colour}, capprops={"color": colour},
                medianprops={"color": colour, "lw": 2},
            )  # fmt: skip
        axes.plot(np.full(values.size, place), values, "o", color=colour, ms=4, alpha=0.8, zorder=3)
    top = float(np.nanmax(loads_kn))
    test = group_test(group)
    for place, step in enumerate(STEPS, start=1):
        p_value = test.p_value(step)
        if p_value is not None and p_value < SIGNIFICANT:
            axes.annotate("*", (place, top * 1.04), ha="center", fontsize=15, color=INK)
    counts = np.isfinite(loads_kn).sum(axis=0)
    names = ("reference", *(SHORT[step] for step in STEPS))
    axes.set_xticks(places, [f"{name}\nn = {count}" for name, count in zip(names, counts, strict=True)], fontsize=9)
    axes.set(ylabel="failure load, kN", ylim=(0.0, top * 1.15))
    axes.set_title(f"{group.title}: failure load by mask", fontsize=11, color=INK)
    star = "* p < 0.05 against the reference (Friedman, Dunn). " if test.test is not None else ""
    figure.supxlabel(f"{star}{caution}", fontsize=8, color=SOFT)
    return png(figure)
