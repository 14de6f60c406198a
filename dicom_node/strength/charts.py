"""Curves and directions, for people: force over displacement, strength over the direction of a fall."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.projections.polar import PolarAxes
from numpy.typing import ArrayLike

from dicom_node.strength.plates import INK, MARK, Chart
from sr_export.polar import LINES, Direction, plot_directions

NEAR_THE_END = 0.85
"""Words of a mark beyond this part of the axis stand to its left."""


def direction_chart(title: str, directions: Sequence[Direction], tilt_words: str) -> Chart:
    """Draw strength over direction as a polar plot: angle is the turn, distance the strength, one line a tilt.

    Parameters
    ----------
    title
        What the directions are.
    directions
        Any order; positive turns are towards posterior.
    tilt_words
        What a positive tilt is, for example ``towards lateral``.
    """

    def draw(axes: Axes) -> None:
        assert isinstance(axes, PolarAxes), "the chart asks for polar axes"
        plot_directions(axes, directions, 9)
        axes.set_title(f"{title}\nangle: towards anterior (-) or posterior (+)", fontsize=9, color=INK, pad=20)
        axes.set_xlabel("distance from the tip: strength, kN", fontsize=9, color=INK)
        axes.legend(
            title=tilt_words,
            fontsize=9,
            title_fontsize=9,
            loc="lower left",
            bbox_to_anchor=(-0.1, 0.0),
            frameon=False,
            handlelength=3.2,
        )

    return Chart(draw, width_inch=6.0, is_polar=True)


def curve_chart(
    displacement_mm: ArrayLike,
    force_n: ArrayLike,
    *,
    words: tuple[str, str] = ("displacement, mm", "force, kN"),
    marks: Sequence[tuple[float, float, str]] = (),
) -> Chart:
    """Draw force over displacement.

    Parameters
    ----------
    displacement_mm, force_n
        The steps.
    words
        Of the axes.
    marks
        (displacement mm, force N, words) of points to point at.
    """

    def draw(axes: Axes) -> None:
        along, up = np.asarray(displacement_mm), np.asarray(force_n) / 1000
        axes.plot(along, up, color=INK, lw=1.6, marker="o", ms=2.5)
        axes.set_xlim(0, float(along.max()) * 1.04)
        axes.set_ylim(0, max(float(up.max()), *(force / 1000 for _, force, _ in marks), 0.0) * 1.18)
        axes.set_xlabel(words[0], fontsize=9, color=INK)
        axes.set_ylabel(words[1], fontsize=9, color=INK)
        axes.grid(color="#DDDDDD", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=INK)
        for place, force, text in marks:
            axes.plot(place, force / 1000, "o", ms=12, mfc="none", mec=MARK, mew=2)
            axes.annotate(
                text,
                (place, force / 1000),
                xytext=(0, 12),
                textcoords="offset points",
                ha="right" if place > NEAR_THE_END * along.max() else "center",
                fontsize=9,
                color=INK,
            )

    return Chart(draw)


def step_chart(lines: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
    """Draw strengths over how far the mask was eroded or dilated.

    Parameters
    ----------
    lines
        Name of a strength -> (step in voxels, strength N).
    """

    def draw(axes: Axes) -> None:
        for number, (name, points) in enumerate(lines.items()):
            colour, marker, dash = LINES[number % len(LINES)]
            steps, loads = [step for step, _ in points], [load / 1000 for _, load in points]
            axes.plot(steps, loads, color=colour, marker=marker, ms=6, ls=dash, lw=1.4, label=name.replace("_", " "))
        axes.set_xticks(sorted({step for points in lines.values() for step, _ in points}))
        axes.set_ylim(0, max(load for points in lines.values() for _, load in points) / 1000 * 1.25)
        axes.set_xlabel("eroded (-) or dilated (+), voxels", fontsize=9, color=INK)
        axes.set_ylabel("strength, kN", fontsize=9, color=INK)
        axes.grid(color="#DDDDDD", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=INK)
        axes.legend(fontsize=9, frameon=False, ncols=2, handlelength=3.2, loc="upper left")

    return Chart(draw, width_inch=5.6)
