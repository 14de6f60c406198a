"""Pictures from arrays: bones on CT, and where a femur fails. No identifier is ever drawn.

Arrays are canonical: axis 0 to the head, axis 1 to the back, axis 2 to the patient's LEFT. Pictures follow
the viewer's convention: the head is up, the patient's right is on the left side, the front is on the left of
a sagittal view. Colours are told apart by colour-blind readers and every bone is also lettered, so that a
grey print says the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.ndimage import label

Plane = Literal["coronal", "sagittal"]
DEPTH_AXIS: dict[Plane, int] = {"coronal": 1, "sagittal": 2}
EDGE_LETTERS: dict[Plane, tuple[str, str]] = {"coronal": ("R", "L"), "sagittal": ("A", "P")}

WINDOW_HU = (-150.0, 600.0)
"""Bone and soft tissue both visible; radiological convention [m] assumption."""
MARGIN_MM = 30.0
"""Shown around the outlined bones."""
SCALE_BAR_MM = 50.0
DPI = 240
HEIGHT_INCH = 3.2
FOOT = 0.34
"""Room below a femur for the colour scale, as a part of its height."""
STROKE = [withStroke(linewidth=2.5, foreground="black")]

COLOURS: tuple[str, ...] = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00")
"""[OkabeIto2008] without its black and its dark blue, which vanish on CT."""
AREAL_FOOT = 0.24
"""The same below a projected density, which stands on its own."""
AREAL_MOST_G_PER_CM2 = 1.8
"""White: cortex of a strong shaft [m] assumption. One scale for all, so that pictures compare."""
RISK_COLOURS = "inferno"
"""Grows in brightness from 0 to 1, so it survives grey printing and colour blindness."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One region to outline: ``mask`` a canonical (slice, row, column) bool array, ``label`` its letters."""

    label: str
    mask: NDArray[np.bool_]


def draw_regions(
    hu: NDArray[np.float32],
    layers: Sequence[Layer],
    spacing_mm: tuple[float, float, float],
    plane: Plane = "coronal",
    index: int | None = None,
) -> NDArray[np.uint8]:
    """Draw one CT plane with the outlined regions.

    Parameters
    ----------
    hu : (slice, row, column) float array
        Canonical CT numbers, HU.
    layers
        Regions on the same grid; colours follow their order.
    spacing_mm
        Along (slice, row, column).
    plane
        ``coronal`` or ``sagittal``.
    index
        Plane number along the depth axis; without it the plane that shows most of every region.

    Returns
    -------
    rgb : (row, column, 3) uint8 array
    """
    depth = DEPTH_AXIS[plane]
    masks = [layer.mask for layer in layers]
    shown = best_plane(masks, depth) if index is None and layers else index
    at = hu.shape[depth] // 2 if shown is None else shown
    window = _crop(masks, hu.shape, depth, spacing_mm)
    across_mm, up_mm = spacing_mm[3 - depth], spacing_mm[0]
    image = np.take(hu, at, axis=depth)[window]
    figure, axes = _canvas(image.shape[1] * across_mm, image.shape[0] * up_mm)
    extent = (0.0, image.shape[1] * across_mm, 0.0, image.shape[0] * up_mm)
    axes.imshow(
        image,
        cmap="gray",
        vmin=WINDOW_HU[0],
        vmax=WINDOW_HU[1],
        origin="lower",
        extent=extent,
        interpolation="bilinear",
    )
    for number, layer in enumerate(layers):
        _outline(axes, np.take(layer.mask, at, axis=depth)[window], layer.label, number, (up_mm, across_mm))
    _letters(axes, EDGE_LETTERS[plane], extent)
    _scale_bar(axes, extent)
    return _rgb(figure)


def draw_strain(
    risk: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    failure_index: tuple[float, float, float] | None,
) -> NDArray[np.uint8]:
    """Draw where a femur comes nearest to failure, seen from the front and through the bone.

    Parameters
    ----------
    risk : (slice, row, column) float array
        Canonical; strain over its limit at the failure load, 1 where the bone fails, NaN outside the bone.
        Each point of the picture shows the largest value through the bone's depth, so that a place that fails behind
        is seen as well.
    spacing_mm
        Along (slice, row, column).
    failure_index
        (slice, row, column) of the failing point, marked with a ring; None draws none.

    Where a load presses the bone and near a held end, strain passes its limit without counting as failure.

    Returns
    -------
    rgb : (row, column, 3) uint8 array
    """
    bone = np.isfinite(risk)
    silhouette: NDArray[np.bool_] = np.asarray(bone.any(axis=1))
    image = np.where(silhouette, np.where(bone, risk, -np.inf).max(axis=1), np.nan)
    up_mm, across_mm = spacing_mm[0], spacing_mm[2]
    extent = (0.0, image.shape[1] * across_mm, 0.0, image.shape[0] * up_mm)
    pad_mm = 0.08 * extent[3]
    figure, axes = _canvas(extent[1] + 2 * pad_mm, extent[3] * (1 + FOOT) + pad_mm, "white")
    colours = colormaps[RISK_COLOURS]
    shown = axes.imshow(image, cmap=colours, vmin=0, vmax=1, origin="lower", extent=extent, interpolation="nearest")
    _edge(axes, silhouette, (up_mm, across_mm))
    axes.set_xlim(-pad_mm, extent[1] + pad_mm)
    axes.set_ylim(-FOOT * extent[3], extent[3] + pad_mm)
    if failure_index is not None:
        _mark(axes, (failure_index[2] + 0.5) * across_mm, (failure_index[0] + 0.5) * up_mm, extent)
    _letters(axes, EDGE_LETTERS["coronal"], (-pad_mm, extent[1] + pad_mm, 0.0, extent[3]), dark=True)
    _colour_bar(figure, axes, shown, (0.0, 0.5, 1.0), "strain / limit")
    return _rgb(figure)


def draw_areal(
    areal_g_per_cm2: NDArray[np.float32], bone: NDArray[np.bool_], regions: Sequence[tuple[str, NDArray[np.bool_]]]
) -> NDArray[np.uint8]:
    """Draw a projected areal density with the outlines of its regions.

    Parameters
    ----------
    areal_g_per_cm2 : (up, across) float array
        Areal density on a grid of 1 mm; up grows to the head, across to the patient's left.
    bone : (up, across) bool array
        Silhouette of the bone, outlined thinly.
    regions
        (letters, (up, across) bool array) of every region to outline; colours follow their order.

    Returns
    -------
    rgb : (row, column, 3) uint8 array
    """
    extent = (0.0, float(bone.shape[1]), 0.0, float(bone.shape[0]))
    pad_mm = 0.08 * extent[3]
    figure, axes = _canvas(extent[1] + 2 * pad_mm, extent[3] * (1 + AREAL_FOOT), "white")
    shown = axes.imshow(
        np.where(bone, areal_g_per_cm2, np.nan),
        cmap="gray",
        vmin=0,
        vmax=AREAL_MOST_G_PER_CM2,
        origin="lower",
        extent=extent,
        interpolation="nearest",
    )
    _edge(axes, bone, (1.0, 1.0))
    for number, (letters, mask) in enumerate(regions):
        _outline(axes, mask, letters, number, (1.0, 1.0), tint=0.0)
    axes.set_xlim(-pad_mm, extent[1] + pad_mm)
    axes.set_ylim(-AREAL_FOOT * extent[3], extent[3])
    _letters(axes, EDGE_LETTERS["coronal"], (-pad_mm, extent[1] + pad_mm, 0.0, extent[3]), dark=True)
    _colour_bar(figure, axes, shown, (0.0, AREAL_MOST_G_PER_CM2 / 2, AREAL_MOST_G_PER_CM2), "g/cm2")
    return _rgb(figure)


def best_plane(masks: Sequence[NDArray[np.bool_]], depth: int) -> int:
    """Return the plane along ``depth`` that shows most of every mask, small ones counting like large ones."""
    others = tuple(axis for axis in range(3) if axis != depth)
    areas = [mask.sum(axis=others).astype(float) for mask in masks if mask.any()]
    if not areas:
        return masks[0].shape[depth] // 2
    return int(np.argmax(sum(np.sqrt(area / area.max()) for area in areas)))


def _crop(
    masks: Sequence[NDArray[np.bool_]],
    shape: tuple[int, ...],
    depth: int,
    spacing_mm: tuple[float, float, float],
) -> tuple[slice, slice]:
    """Window (slice axis, across axis) around all masks, with a margin."""
    across = 3 - depth
    present = [mask.any(axis=depth) for mask in masks if mask.any()]
    if not present:
        return slice(0, shape[0]), slice(0, shape[across])
    union = np.logical_or.reduce(present)
    window = []
    for axis, spacing, count in ((0, spacing_mm[0], shape[0]), (1, spacing_mm[across], shape[across])):
        used = np.flatnonzero(union.any(axis=1 - axis))
        margin = round(MARGIN_MM / spacing)
        window.append(slice(max(int(used[0]) - margin, 0), min(int(used[-1]) + margin + 1, count)))
    return window[0], window[1]


def _canvas(width_mm: float, height_mm: float, face: str = "black") -> tuple[Figure, Axes]:
    """Figure of the picture's own proportions, filled by its axes."""
    figure = Figure(figsize=(HEIGHT_INCH * width_mm / height_mm, HEIGHT_INCH), dpi=DPI, facecolor=face)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


def _outline(
    axes: Axes,
    mask: NDArray[np.bool_],
    letters: str,
    number: int,
    spacing_mm: tuple[float, float],
    *,
    tint: float = 0.22,
) -> None:
    """Tint, outline and letter one mask. ``mask`` is (up, across), ``spacing_mm`` in the same order."""
    if not mask.any():
        return
    colour = COLOURS[number % len(COLOURS)]
    up = (np.arange(mask.shape[0]) + 0.5) * spacing_mm[0]
    across = (np.arange(mask.shape[1]) + 0.5) * spacing_mm[1]
    filled = mask.astype(float)
    axes.contourf(across, up, filled, levels=[0.5, 1.5], colors=[colour], alpha=tint)
    axes.contour(across, up, filled, levels=[0.5], colors="black", linewidths=2.6)
    axes.contour(across, up, filled, levels=[0.5], colors=[colour], linewidths=1.5)
    rows, columns = np.nonzero(_largest_part(mask))
    axes.text(
        across[columns].mean(),
        up[rows].mean(),
        letters,
        color="white",
        fontsize=9,
        weight="bold",
        ha="center",
        va="center",
        path_effects=STROKE,
        parse_math=False,
    )


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected part of a (row, column) mask, which carries the letters."""
    parts, count = label(mask)
    if count < 2:
        return mask
    largest: NDArray[np.bool_] = parts == 1 + int(np.argmax(np.bincount(parts[mask])[1:]))
    return largest


def _letters(
    axes: Axes, letters: tuple[str, str], extent: tuple[float, float, float, float], *, dark: bool = False
) -> None:
    """Write the side letters at the left and right edge, half way up."""
    left, right, bottom, top = extent
    inset = 0.025 * (right - left)
    height = bottom + 0.93 * (top - bottom)
    style: dict[str, Any] = {
        "fontsize": 14,
        "weight": "bold",
        "va": "center",
        "color": "#1a1a1a" if dark else "white",
    }
    effects = [] if dark else STROKE
    axes.text(left + inset, height, letters[0], ha="left", path_effects=effects, **style)
    axes.text(right - inset, height, letters[1], ha="right", path_effects=effects, **style)


def _scale_bar(axes: Axes, extent: tuple[float, float, float, float]) -> None:
    """Draw five centimetres at the foot, in the middle: hips lie on both sides of it."""
    right, foot = (extent[1] + SCALE_BAR_MM) / 2, 0.035 * extent[3]
    axes.plot([right - SCALE_BAR_MM, right], [foot, foot], color="white", linewidth=2.5, path_effects=STROKE)
    axes.text(
        right - SCALE_BAR_MM / 2,
        foot + 0.012 * extent[3],
        "5 cm",
        color="white",
        fontsize=9,
        ha="center",
        va="bottom",
        path_effects=STROKE,
    )
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])


def _edge(axes: Axes, mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> None:
    """Draw the edge of a mask (up, across), also where it touches the border of its array."""
    padded = np.pad(mask, 1).astype(float)
    up = (np.arange(padded.shape[0]) - 0.5) * spacing_mm[0]
    across = (np.arange(padded.shape[1]) - 0.5) * spacing_mm[1]
    axes.contour(across, up, padded, levels=[0.5], colors="#1a1a1a", linewidths=1.2)


def _mark(axes: Axes, x_mm: float, y_mm: float, extent: tuple[float, float, float, float]) -> None:
    """Ring the failing point in white and black, and say what it is."""
    for size, colour, width in ((14, "black", 3.4), (14, "white", 1.6)):
        axes.plot(
            [x_mm],
            [y_mm],
            marker="o",
            markersize=size,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=width,
        )
    away = 1 if x_mm < extent[1] / 2 else -1
    upward = 1 if y_mm < 0.7 * extent[3] else -1
    axes.annotate(
        "fails here",
        (x_mm, y_mm),
        xytext=(away * 26, upward * 30),
        textcoords="offset points",
        color="white",
        fontsize=13,
        weight="bold",
        ha="left" if away > 0 else "right",
        path_effects=STROKE,
        arrowprops={"arrowstyle": "-", "color": "black", "linewidth": 1.4, "shrinkB": 9},
    )


def _colour_bar(
    figure: Figure, axes: Axes, shown: ScalarMappable, ticks: tuple[float, float, float], words: str
) -> None:
    """Draw a horizontal scale below the bone, with words in place of its middle number."""
    place = axes.inset_axes((0.12, 0.115, 0.76, 0.045))
    bar = figure.colorbar(shown, cax=place, orientation="horizontal")
    bar.set_ticks(list(ticks), labels=[f"{ticks[0]:g}", words, f"{ticks[2]:g}"])
    bar.ax.tick_params(labelsize=12, length=2)


def _rgb(figure: Figure) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
