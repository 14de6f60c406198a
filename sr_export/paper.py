"""An A4 page in millimetres from its top left corner, with a cursor that moves down and turns the page.

Drawn with matplotlib's object interface, so one layout becomes a vector PDF and an image without any state.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from typing import Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from sr_export.fonts import drawable, font

WIDTH_MM, HEIGHT_MM = 210.0, 297.0
MARGIN_MM = 14.0
RIGHT_MM = WIDTH_MM - MARGIN_MM
CONTENT_MM = WIDTH_MM - 2 * MARGIN_MM
BOTTOM_MM = HEIGHT_MM - 17.0
"""Below this lies the footer."""
MM_PER_INCH = 25.4
MM_PER_POINT = MM_PER_INCH / 72
LINE_SPACING = 1.32
RASTER_DPI = 144
"""The image of a page is 1190 x 1684 pixels, 6 MB uncompressed; its smallest text is 13 pixels high."""

NAVY, INK, GREY, RULE, PALE = "#1b365d", "#1a1a1a", "#5c6470", "#c3c9d2", "#f2f4f7"
RED, AMBER, AMBER_PALE = "#8f1d21", "#a66a00", "#fff3d6"
"""Dark on pale throughout, so that the page prints in grey."""

Align = Literal["left", "center", "right"]


@dataclass(slots=True)
class Paper:
    """Pages under construction.

    Attributes
    ----------
    head
        Draws the top of every new page and leaves the cursor below it.
    y_mm
        The cursor, from the top of the current page.
    """

    head: "Callable[[Paper], None]"
    figures: list[Figure] = field(default_factory=list)
    y_mm: float = 0.0

    def __post_init__(self) -> None:
        self.turn()

    @property
    def figure(self) -> Figure:
        """The current page."""
        return self.figures[-1]

    def turn(self) -> None:
        """Begin a new page."""
        self.figures.append(Figure(figsize=(WIDTH_MM / MM_PER_INCH, HEIGHT_MM / MM_PER_INCH), facecolor="white"))
        self.y_mm = 0.0
        self.head(self)

    def need(self, height_mm: float) -> None:
        """Turn the page unless this height is left on it."""
        if self.y_mm + height_mm > BOTTOM_MM:
            self.turn()

    def text(
        self,
        x_mm: float,
        y_mm: float,
        words: str,
        size_pt: float = 8.5,
        *,
        weight: str = "normal",
        colour: str = INK,
        align: Align = "left",
    ) -> None:
        """Write one line whose top is at ``y_mm``."""
        words = drawable(words)
        self.figure.text(
            x_mm / WIDTH_MM,
            1 - (y_mm + ascent_mm(size_pt)) / HEIGHT_MM,
            words,
            fontproperties=font(words, size_pt, weight),
            color=colour,
            ha=align,
            va="baseline",
            parse_math=False,
        )

    def paragraph(
        self,
        x_mm: float,
        words: str,
        width_mm: float,
        size_pt: float = 8.5,
        *,
        weight: str = "normal",
        colour: str = INK,
    ) -> None:
        """Write wrapped lines at the cursor and move it below them."""
        for line in wrapped(words, width_mm, size_pt, weight):
            self.text(x_mm, self.y_mm, line, size_pt, weight=weight, colour=colour)
            self.y_mm += line_mm(size_pt)

    def box(self, x_mm: float, y_mm: float, width_mm: float, height_mm: float, face: str, edge: str = "none") -> None:
        """Fill a rectangle whose top left corner is given."""
        self.figure.add_artist(
            Rectangle(
                (x_mm / WIDTH_MM, 1 - (y_mm + height_mm) / HEIGHT_MM),
                width_mm / WIDTH_MM,
                height_mm / HEIGHT_MM,
                facecolor=face,
                edgecolor=edge,
                linewidth=0.8,
                transform=self.figure.transFigure,
                zorder=0,
            )
        )

    def rule(self, y_mm: float, colour: str = RULE, width_pt: float = 0.6) -> None:
        """Draw a line across the content."""
        height = 1 - y_mm / HEIGHT_MM
        ends = [MARGIN_MM / WIDTH_MM, RIGHT_MM / WIDTH_MM]
        self.figure.add_artist(
            Line2D(ends, [height, height], color=colour, linewidth=width_pt, transform=self.figure.transFigure)
        )

    def image(self, x_mm: float, y_mm: float, width_mm: float, height_mm: float, rgb: NDArray[np.uint8]) -> None:
        """Place a (row, column, 3) picture."""
        axes = self.figure.add_axes(
            (
                x_mm / WIDTH_MM,
                1 - (y_mm + height_mm) / HEIGHT_MM,
                width_mm / WIDTH_MM,
                height_mm / HEIGHT_MM,
            )
        )
        axes.imshow(rgb, aspect="auto", interpolation="antialiased")
        axes.set_axis_off()


def line_mm(size_pt: float) -> float:
    """Distance from one line to the next, mm."""
    return size_pt * MM_PER_POINT * LINE_SPACING


def ascent_mm(size_pt: float) -> float:
    """Height of a line's baseline below its top, mm; DejaVu Sans rises 0.93 em."""
    return size_pt * MM_PER_POINT * 0.93


def wrapped(words: str, width_mm: float, size_pt: float, weight: str = "normal") -> list[str]:
    """Break text into lines no wider than ``width_mm``; a longer word is cut."""
    lines = [""]
    for word in _short_words(drawable(words).split(), width_mm, size_pt, weight):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and not fits(longer, width_mm, size_pt, weight):
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def fitted(words: str, width_mm: float, size_pt: float, weight: str = "normal") -> str:
    """Cut text with an ellipsis so that it fits one line."""
    words = drawable(words)
    if fits(words, width_mm, size_pt, weight):
        return words
    count = _fitting_count(words, width_mm - text_width_mm("...", size_pt, weight), size_pt, weight)
    return words[:count].rstrip() + "..."


def text_width_mm(words: str, size_pt: float, weight: str = "normal") -> float:
    """Return the width of one line, mm: of the document or of the image, whichever is wider."""
    words = drawable(words)
    return max(_document_mm(words, size_pt, weight), _drawn_mm(words, size_pt, weight))


def fits(words: str, width_mm: float, size_pt: float, weight: str = "normal") -> bool:
    """Whether a line is no wider than ``width_mm``; the image is asked only where it can make the difference."""
    document_mm = _document_mm(drawable(words), size_pt, weight)
    if document_mm > width_mm or document_mm * IMAGE_WIDENS <= width_mm:
        return document_mm <= width_mm
    return text_width_mm(words, size_pt, weight) <= width_mm


def pdf_of(figures: list[Figure], created: datetime, title: str) -> bytes:
    """Return the pages as one PDF; equal pages give equal bytes."""
    buffer = BytesIO()
    metadata = {"Title": title, "Creator": "OsteoNode", "CreationDate": created}
    with PdfPages(buffer, metadata=metadata) as pages:
        for figure in figures:
            figure.set_dpi(RASTER_DPI)
            pages.savefig(figure)
    return buffer.getvalue()


def rgb_of(figure: Figure) -> NDArray[np.uint8]:
    """Return a page as a (row, column, 3) image."""
    figure.set_dpi(RASTER_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


MEASURE_PT = 200.0
"""Letters of the document are measured this large, so that fitting to pixels does not round their widths."""


STROKES = "||"
"""Letters are measured between these: no pair with a stroke is kerned, and the document kerns nothing."""

IMAGE_WIDENS = 1.08
"""Letters of the image are fitted to its pixels, which makes small words up to 5 percent wider (measured)."""


def _document_mm(words: str, size_pt: float, weight: str) -> float:
    """Width of a line in the document, mm: the sum of its letters."""
    return sum(_drawn_mm(character, MEASURE_PT, weight) for character in words) * size_pt / MEASURE_PT


@lru_cache(maxsize=16384)
def _drawn_mm(words: str, size_pt: float, weight: str) -> float:
    """Width of a line in the page's image: between two strokes less without it, since a space alone has no width."""
    face = font(words, size_pt, weight)
    dots, _, _ = _renderer().get_text_width_height_descent(words.join(STROKES), face, ismath=False)
    return float(dots) * MM_PER_INCH / RASTER_DPI - _strokes_mm(size_pt, weight)


@lru_cache(maxsize=64)
def _strokes_mm(size_pt: float, weight: str) -> float:
    dots, _, _ = _renderer().get_text_width_height_descent(STROKES, font(STROKES, size_pt, weight), ismath=False)
    return float(dots) * MM_PER_INCH / RASTER_DPI


@lru_cache(maxsize=1)
def _renderer() -> RendererAgg:
    return RendererAgg(8, 8, RASTER_DPI)


def _short_words(words: list[str], width_mm: float, size_pt: float, weight: str) -> list[str]:
    """Cut words that are wider than a line."""
    result: list[str] = []
    for word in words:
        rest = word
        while len(rest) > 1 and not fits(rest, width_mm, size_pt, weight):
            fit = max(_fitting_count(rest, width_mm, size_pt, weight), 1)
            result.append(rest[:fit])
            rest = rest[fit:]
        result.append(rest)
    return result


def _fitting_count(words: str, width_mm: float, size_pt: float, weight: str) -> int:
    """Return how many of the first letters fit a width."""
    counts = range(1, len(words) + 1)
    return bisect_left(counts, True, key=lambda count: not fits(words[:count], width_mm, size_pt, weight))
