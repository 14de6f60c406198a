"""Pictures put together: views and charts under one title, with colour scale, scale bar, letters and marks.

White ground; every colour map grows in brightness from end to end, so that a grey print and a colour-blind reader see
the same order; every line has a marker or a dash of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import offset_copy

from dicom_node.strength.scene import Point3, View

DPI = 120
HEIGHT_INCH, WIDEST_INCH = 4.6, 5.6
"""Height of a view or a chart, and the most that a view takes across."""

SCALE_BAR_MM = (50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5)
"""The longest that fits into two fifths of a view is drawn."""

SCALE_BAR_DROP_POINTS = 26
TITLE_INCH, CAPTION_INCH, GAP_INCH, BAR_INCH = 0.95, 0.55, 0.25, 1.15
INK = "#222222"
MARK = "#00B7EB"
"""Of what points at a place; lies outside of the colour maps used."""

MARK_OFFSETS_POINTS = tuple(
    (side * aside, below) for aside in (24, 48, 72, 96) for below in (-24, 24, 0) for side in (1, -1)
)
"""Where a mark's words may stand; of equally empty places the first is taken."""

WORDS_INCH = (0.8, 0.2)
"""Room that a mark's words take."""

POINTS_PER_INCH = 72.0
WHITE = 250

LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""Ends of the patient's axes x, y, z: towards smaller, towards larger."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A ring around a place, with a few words beside it."""

    point_mm: Point3
    words: str


@dataclass(frozen=True, slots=True, eq=False)
class Picture3D:
    """One view of a plate, with its marks and caption; letters where the patient's axes are known."""

    view: View = field(repr=False)
    caption: str
    marks: tuple[Mark, ...] = ()
    has_letters: bool = True


@dataclass(frozen=True, slots=True)
class Scale:
    """The colour scale of a plate.

    Attributes
    ----------
    label
        What the colour says, with unit.
    colours, limits, is_log
        As the views were drawn.
    steps
        Words for the whole numbers between the limits, where the colour says a kind and no quantity.
    """

    label: str
    colours: str | ListedColormap
    limits: tuple[float, float]
    is_log: bool = False
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """A drawing beside the views.

    Attributes
    ----------
    draw
        Draws into the axes it is given.
    width_inch
        Room for it.
    is_polar
        Whether its axes are polar.
    """

    draw: Callable[[Axes], None] = field(repr=False)
    width_inch: float = 4.6
    is_polar: bool = False


def plate(
    title: str,
    subtitle: str,
    *,
    caution: str,
    views: Sequence[Picture3D] = (),
    scale: Scale | None = None,
    charts: Sequence[Chart] = (),
) -> bytes:
    """Put a picture together.

    Parameters
    ----------
    title, subtitle
        Bone, side and model; what the picture shows, in one line.
    caution
        What a reader of the picture alone must know; at its foot.
    views, scale
        Drawn side by side at one scale of millimetres, with their colour scale.
    charts
        To the right of them.

    Returns
    -------
    bytes
        PNG.
    """
    tallest_mm = max((one.view.height_mm for one in views), default=1.0)
    widest_mm = max((one.view.width_mm for one in views), default=1.0)
    inch_per_mm = min(HEIGHT_INCH / tallest_mm, WIDEST_INCH / widest_mm)
    widths = [one.view.width_mm * inch_per_mm for one in views]
    lengths = [*widths, *([BAR_INCH] if scale else []), *(chart.width_inch for chart in charts)]
    width = sum(lengths) + GAP_INCH * (len(lengths) + 1)
    height = TITLE_INCH + HEIGHT_INCH + CAPTION_INCH
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def room(
        left: float, across: float, low: float = CAPTION_INCH, up: float = HEIGHT_INCH
    ) -> tuple[float, float, float, float]:
        return left / width, low / height, across / width, up / height

    left = GAP_INCH
    for number, (one, across) in enumerate(zip(views, widths, strict=True)):
        up = one.view.height_mm * inch_per_mm
        axes = figure.add_axes(room(left, across, CAPTION_INCH + (HEIGHT_INCH - up) / 2, up))
        _draw_view(axes, one, inch_per_mm)
        if number == 0:
            _draw_scale_bar(figure, axes, one.view)
        left += across + GAP_INCH
    if scale:
        _draw_scale(figure.add_axes(room(left + 0.1, 0.18, CAPTION_INCH + 0.5, HEIGHT_INCH - 1.0)), scale)
        left += BAR_INCH + GAP_INCH
    for chart in charts:
        place = room(
            left + 0.75, chart.width_inch - 0.95, CAPTION_INCH + 0.25, HEIGHT_INCH - (1.0 if chart.is_polar else 0.45)
        )
        chart.draw(figure.add_axes(place, projection="polar" if chart.is_polar else None))
        left += chart.width_inch + GAP_INCH
    figure.text(GAP_INCH / width, 1 - 0.16 / height, title, fontsize=13, weight="bold", color=INK, va="top")
    figure.text(GAP_INCH / width, 1 - 0.5 / height, subtitle, fontsize=10, color=INK, va="top")
    figure.text(1 - GAP_INCH / width, 0.1 / height, caution, fontsize=8, color=INK, ha="right", va="bottom")
    written = BytesIO()
    figure.savefig(written, format="png", dpi=DPI)
    return written.getvalue()


def _draw_view(axes: Axes, one: Picture3D, inch_per_mm: float) -> None:
    view = one.view
    half_width, half_height = view.width_mm / 2, view.height_mm / 2
    axes.imshow(view.rgb, extent=(-half_width, half_width, -half_height, half_height), interpolation="lanczos")
    axes.set_axis_off()
    for edge, align in ((-1, "left"), (1, "right")) if view.camera.is_straight and one.has_letters else ():
        letter = _letter(edge * view.camera.right)
        axes.text(edge * half_width, half_height, letter, ha=align, va="bottom", fontsize=11, weight="bold", color=INK)
    axes.text(0, -half_height, one.caption, ha="center", va="top", fontsize=9, color=INK)
    for mark in one.marks:
        _draw_mark(axes, mark, view, inch_per_mm)


def _letter(direction: np.ndarray) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return LETTERS[axis][int(direction[axis] > 0)]


def _draw_mark(axes: Axes, mark: Mark, view: View, inch_per_mm: float) -> None:
    across, up = view.place(mark.point_mm)
    axes.plot(across, up, "o", ms=15, mfc="none", mec="white", mew=4)
    axes.plot(across, up, "o", ms=15, mfc="none", mec=MARK, mew=2)
    aside, below = max(MARK_OFFSETS_POINTS, key=lambda offset: _emptiness(view, (across, up), offset, inch_per_mm))
    text = axes.annotate(
        mark.words,
        (across, up),
        xytext=(aside, below),
        textcoords="offset points",
        ha="left" if aside > 0 else "right",
        va="center",
        fontsize=9,
        color=INK,
        arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.8, "shrinkB": 8},
        annotation_clip=False,
    )
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _emptiness(view: View, at_mm: tuple[float, float], offset: tuple[int, int], inch_per_mm: float) -> float:
    """Return how much of the room for a mark's words is white, 0 to 1; less than nothing beyond the picture."""
    aside, below = (points / POINTS_PER_INCH / inch_per_mm for points in offset)
    wide, high = (inch / inch_per_mm for inch in WORDS_INCH)
    left = at_mm[0] + (aside if aside > 0 else aside - wide) + view.width_mm / 2
    low = at_mm[1] + below - high / 2 + view.height_mm / 2
    corner, far = np.array([left, low]), np.array([left + wide, low + high])
    if min(*corner, *(np.array([view.width_mm, view.height_mm]) - far)) < 0:
        return -1.0
    rows = view.rgb.shape[0]
    per_mm = rows / view.height_mm
    x0, x1 = (int(x * per_mm) for x in (corner[0], far[0]))
    y0, y1 = (rows - int(y * per_mm) for y in (far[1], corner[1]))
    return float((view.rgb[y0:y1, x0:x1] > WHITE).all(axis=2).mean())


def _draw_scale_bar(figure: Figure, axes: Axes, view: View) -> None:
    """Draw a bar below the caption, so that it meets no bone."""
    length = next((mm for mm in SCALE_BAR_MM if mm <= view.width_mm / 2.5), SCALE_BAR_MM[-1])
    left, low = -view.width_mm / 2, -view.height_mm / 2
    drop = offset_copy(axes.transData, figure, y=-SCALE_BAR_DROP_POINTS, units="points")
    axes.plot([left, left + length], [low, low], color=INK, lw=3, solid_capstyle="butt", clip_on=False, transform=drop)
    axes.annotate(
        f"{length:g} mm",
        (left + length, low),
        xytext=(5, -SCALE_BAR_DROP_POINTS),
        fontsize=9,
        color=INK,
        va="center",
        textcoords="offset points",
        annotation_clip=False,
    )


def _draw_scale(axes: Axes, scale: Scale) -> None:
    norm = LogNorm(*scale.limits) if scale.is_log else Normalize(*scale.limits)
    bar = axes.figure.colorbar(ScalarMappable(norm, colormaps.get_cmap(scale.colours)), cax=axes)
    if scale.steps:
        bar.set_ticks(range(len(scale.steps)), labels=list(scale.steps))
        bar.ax.tick_params(length=0)
    bar.set_label(scale.label, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=9, colors=INK)
    bar.outline.set_linewidth(0.5)
