"""Strength over the direction of the load as a polar plot: of the report's pictures and of the ``fe`` command's.

Angle is the turn, distance from the tip the strength, one line a tilt. Every line has a colour, a marker and a dash of
its own, so that a grey print and a colour-blind reader tell them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sr_export.figures import DPI, HEIGHT_INCH

LINES = (
    ("#000000", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#0072B2", "^", "-."),
    ("#009E73", "D", ":"),
    ("#CC79A7", "v", (0, (6, 2, 1, 2))),
    ("#56B4E9", "P", (0, (1, 1))),
)
"""Colour [OkabeIto2008], marker and dash of each line: any one of the three tells them apart."""

INK = "#222222"
RING = "#00B7EB"
"""Around the weakest direction; no line has it."""

TURN_MARGIN_DEG = 4.0
LEAST_TICK_GAP_DEG = 10.0
"""Between two written turns."""
LEAST_HALF_FAN_DEG = 30.0
"""So that stances and falls are drawn alike."""

N_PER_KN = 1000.0
FAN_INCH = 3.1
"""Width of one plot of a picture."""
WORDS_PT = 12.0
"""Of a picture, which the page shows at about half its size."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Strength of one direction: turn to the front or back, tilt upwards, and load."""

    turn_deg: float
    tilt_deg: float
    load_n: float


@dataclass(frozen=True, slots=True)
class Fan:
    """One polar plot.

    Attributes
    ----------
    title
        What the directions are.
    directions
        At least one, in any order; positive turns are towards posterior.
    tilt_words
        What a positive tilt is, for example ``towards lateral``.
    """

    title: str
    directions: tuple[Direction, ...]
    tilt_words: str


def plot_directions(axes: PolarAxes, directions: Sequence[Direction], words_pt: float) -> None:
    """Draw one line a tilt into polar axes, ring the weakest direction, and set angles and distances.

    Parameters
    ----------
    directions
        At least one, in any order; positive turns are towards posterior.
    words_pt
        Size of the tick labels.
    """
    for number, tilt in enumerate(sorted({one.tilt_deg for one in directions})):
        line = sorted((one.turn_deg, one.load_n / N_PER_KN) for one in directions if one.tilt_deg == tilt)
        colour, marker, dash = LINES[number % len(LINES)]
        angles, loads = np.radians([turn for turn, _ in line]), [load for _, load in line]
        axes.plot(angles, loads, color=colour, marker=marker, ms=5, ls=dash, lw=1.4, label=_degrees(tilt))
    weakest = min(directions, key=lambda one: one.load_n)
    axes.plot(
        np.radians(weakest.turn_deg),
        weakest.load_n / N_PER_KN,
        "o",
        ms=15,
        mfc="none",
        mec=RING,
        mew=2.4,
        clip_on=False,
    )
    _set_fan(axes, directions, words_pt)


def _set_fan(axes: PolarAxes, directions: Sequence[Direction], words_pt: float) -> None:
    """Point the fan upwards, posterior to the right, from no strength at its tip to the largest."""
    turns = sorted({one.turn_deg for one in directions})
    widest = max(LEAST_HALF_FAN_DEG, *map(abs, turns)) + TURN_MARGIN_DEG
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_thetamin(-widest)
    axes.set_thetamax(widest)
    shown = _apart(turns)
    axes.set_xticks(np.radians(shown), [_degrees(turn, "+" if turn else "") for turn in shown])
    axes.set_ylim(0, max(one.load_n for one in directions) / N_PER_KN * 1.05)
    axes.tick_params(labelsize=words_pt, colors=INK)
    axes.grid(color="#CCCCCC", lw=0.6)


def _apart(turns_deg: Sequence[float]) -> list[float]:
    """Return the turns whose numbers can be written without running into one another."""
    shown: list[float] = []
    for turn in turns_deg:
        if not shown or turn - shown[-1] >= LEAST_TICK_GAP_DEG:
            shown.append(turn)
    return shown


def draw_directions(fans: Sequence[Fan]) -> NDArray[np.uint8]:
    """Draw polar plots side by side, with their titles and the tilts' legends.

    Parameters
    ----------
    fans
        At least one.

    Returns
    -------
    rgb : (row, column, 3) uint8 array
    """
    figure = Figure(figsize=(FAN_INCH * len(fans), HEIGHT_INCH), dpi=DPI, facecolor="white")
    for number, fan in enumerate(fans):
        axes = figure.add_axes(((number + 0.05) / len(fans), 0.14, 0.9 / len(fans), 0.72), projection="polar")
        assert isinstance(axes, PolarAxes), "polar axes were asked for"
        plot_directions(axes, fan.directions, WORDS_PT - 1)
        top_kn = axes.get_ylim()[1]
        ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, top_kn)
        axes.set_yticks([tick for tick in ticks if 0 < tick <= top_kn])
        middle = (number + 0.5) / len(fans)
        figure.text(middle, 0.92, f"{fan.title}, kN", fontsize=WORDS_PT + 1, weight="bold", color=INK, ha="center")
        for side, words in ((0.05, "anterior"), (0.95, "posterior")):
            place = (number + side) / len(fans)
            figure.text(place, 0.3, words, fontsize=WORDS_PT - 1, color=INK, ha="left" if side < 0.5 else "right")
        figure.text(middle, 0.115, f"tilt {fan.tilt_words}", fontsize=WORDS_PT - 1, color=INK, ha="center", va="center")
        figure.legend(
            *axes.get_legend_handles_labels(),
            fontsize=WORDS_PT - 1,
            loc="center",
            bbox_to_anchor=(middle, 0.045),
            frameon=False,
            ncols=4,
            handlelength=1.9,
            handletextpad=0.2,
            columnspacing=0.6,
        )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _degrees(angle_deg: float, sign: str = "") -> str:
    return f"{angle_deg:{sign}.0f}\N{DEGREE SIGN}"
