"""Whether neighbouring slices of a CT continue one another: planes of air, seams between bodies, slices out of order.

Two bodies under one header have regular positions; only the pictures tell. Both checks compare averages over cells of
6 mm, which noise hardly reaches, and both leave the ends of the stack alone: there a reformatted series has blank
slices, wedges and slices half of air. docs/methods/quality-flags.md.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.quality import STUDY, QualityFlag
from inference.volume import Volume

PADDING_HU = -1024.0
"""Padding, and what a scanner reads below it, count as air."""

GAP_DEPTH_HU = 100.0
"""How far a thin plane lies below the tissue on both of its sides: a tenth of a voxel of air [m]
assumption."""

GAP_FRACTION = 0.4
"""Part of the body's columns that one gap must cut. Measured: a slab phantom 0.51 to 0.97 at its gaps, two
patients at most 0.12 and 0.28."""

GAP_WINDOW_MM = 14.0
"""Height within which one gap, tilted or not, is seen: less than the 25 mm between an Alderson phantom's
slabs."""

GAP_CELL_MM = 6.0
"""Width of the columns in which gaps are looked for: averages noise away."""

BODY_HU = -250.0
"""Tissue after closing of thin gaps; lung lies below [m] assumption."""

STEP_RANGE_HU = (-1000.0, 300.0)
"""Values are clipped to this before neighbouring slices are compared: neither padding nor metal makes a step."""

MIN_BODY_CELLS = 50
"""Less tissue in a slice, or in two neighbours, is no body: 18 cm2."""

END_MM = 5.0
"""Ends of a column of tissue that are not compared: interpolated slices there hold part of the air beyond. The longest
voxel that any number is made from."""

SEAM_RATIO, SEAM_WINDOW = 3.0, 6
"""A step between two slices this many times that of the slices around, six on either side. Measured: at most 1.4 in
two patients, resampled to 1 to 6 mm and turned by up to 15 degrees too, and in 19 digital trunks; 11 to 14 between two
bodies, 4.1 to 6.7 where 25 to 30 mm lack, 3.7 to 5.9 where 20 to 24 mm repeat."""

LEAST_STEP_HU = 40.0
"""Smaller steps are nothing, whatever the ratio: thin slices without noise hardly differ."""

SHUFFLED_STEP_HU = 120.0
"""Commonest step of slices that do not follow one another. Measured: 16 to 33 in two patients and a phantom, 58 in
slices of 5 mm, 64 of 6 mm; 201 to 458 in shuffled and interleaved ones."""


def air_gaps(volume: Volume) -> QualityFlag | None:
    """Flag thin planes of air through the body."""
    gaps, widest = gap_planes(volume)
    if not gaps:
        return None
    return QualityFlag(
        "air_gaps",
        STUDY,
        f"{gaps} thin planes of air cut through the body, the widest through {100 * widest:.0f} percent of "
        "it; expected none. This is a phantom built of slabs, or slices are damaged.",
        (("gaps", float(gaps)), ("widest_fraction", widest)),
    )


def gap_planes(volume: Volume) -> tuple[int, float]:
    """Count thin planes of low density that cut most of the body's columns.

    1. Average the volume in cells of 6 x 6 mm within the slice.
    2. Close every column along the slice axis over 14 mm: gaps are filled, thicker air is not, nor is air at its ends.
    3. A cell is in a gap where closing raised it by 100 HU inside the body; it marks the 14 mm around it.
    4. A run of slices in which 40 percent of the body is marked is one gap; less than 18 cm2 is no body.

    Parameters
    ----------
    volume
        Slices along axis 0.

    Returns
    -------
    gaps : int
        Number of runs.
    widest : float
        Largest marked fraction of the body in a slice.
    """
    cells = _cells(volume)
    width = max(3, 2 * round(GAP_WINDOW_MM / 2 / volume.spacing_mm[0]) + 1)
    beyond = np.pad(cells, ((width, width), (0, 0), (0, 0)), constant_values=PADDING_HU)
    closed = ndimage.grey_closing(beyond, size=(width, 1, 1))[width:-width]
    body = closed > BODY_HU
    marked = ndimage.maximum_filter((closed - cells > GAP_DEPTH_HU) & body, size=(width, 1, 1)) & body
    sizes = body.sum(axis=(1, 2))
    fractions = np.where(sizes >= MIN_BODY_CELLS, marked.sum(axis=(1, 2)) / np.maximum(1, sizes), 0.0)
    _, gaps = ndimage.label(fractions > GAP_FRACTION)
    return int(gaps), float(fractions.max())


def broken_stack(volume: Volume) -> QualityFlag | None:
    """Flag neighbouring slices that do not continue one another: two bodies, or slices out of order."""
    steps_hu, places = slice_steps(volume)
    if not steps_hu.size:
        return None
    usual_hu = float(np.median(steps_hu))
    around = np.array([_median_around(steps_hu, place) for place in range(len(steps_hu))])
    ratios = np.where(steps_hu >= LEAST_STEP_HU, steps_hu / np.maximum(around, 1.0), 0.0)
    worst = int(ratios.argmax())
    evidence = (("largest_step_ratio", float(ratios[worst])), ("median_step_hu", usual_hu))
    if usual_hu > SHUFFLED_STEP_HU:
        sentence = (
            f"Neighbouring slices differ by {usual_hu:.0f} HU on average; expected less than {SHUFFLED_STEP_HU:g} HU. "
            "Their pictures are not in the order of their positions."
        )
        return QualityFlag("broken_stack", STUDY, sentence, evidence)
    if ratios[worst] < SEAM_RATIO:
        return None
    sentence = (
        f"Slices {places[worst] + 1} and {places[worst] + 2} of {volume.hu.shape[0]} differ {ratios[worst]:.0f} times "
        f"as much as those around them; expected less than {SEAM_RATIO:g} times. Another body begins there, or slices "
        "lack."
    )
    return QualityFlag("broken_stack", STUDY, sentence, evidence)


def slice_steps(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Measure how much each slice of the body differs from the next.

    A cell counts between the first and the last tissue of its own column, 5 mm at both ends left out, and there where
    either slice shows tissue.

    Parameters
    ----------
    volume
        Slices along axis 0.

    Returns
    -------
    steps_hu : (n,) float64 array
        Mean absolute difference over the cells of 6 mm that count, HU.
    places : (n,) int64 array
        Index of the first slice of each pair with enough cells, ascending.
    """
    cells = np.clip(_cells(volume), *STEP_RANGE_HU)
    tissue = cells > BODY_HU
    inside = _within_columns(tissue, int(np.ceil(END_MM / volume.spacing_mm[0])))
    counted = inside[1:] & inside[:-1] & (tissue[1:] | tissue[:-1])
    counts = counted.sum(axis=(1, 2))
    change = np.abs(np.diff(cells, axis=0)) * counted
    places = np.flatnonzero(counts >= MIN_BODY_CELLS)
    return change.sum(axis=(1, 2), dtype=np.float64)[places] / counts[places], places


def _within_columns(tissue: NDArray[np.bool_], end: int) -> NDArray[np.bool_]:
    """Mark every column from ``end`` slices after its first tissue to as many before its last."""
    below = np.logical_or.accumulate(tissue, axis=0)
    above = np.logical_or.accumulate(tissue[::-1], axis=0)[::-1]
    inside = np.zeros_like(tissue)
    if len(tissue) > 2 * end:
        inside[end:-end] = below[: -2 * end] & above[2 * end :]
    return inside


def _median_around(steps: NDArray[np.float64], place: int) -> float:
    """Median of the steps on both sides of a place, itself left out; infinite where there are none."""
    around = np.concatenate([steps[max(0, place - SEAM_WINDOW) : place], steps[place + 1 : place + 1 + SEAM_WINDOW]])
    return float(np.median(around)) if around.size else float("inf")


def _cells(volume: Volume) -> NDArray[np.float32]:
    """Averages over square cells within each slice; padding counts as air."""
    rows, columns = (max(1, round(GAP_CELL_MM / spacing)) for spacing in volume.spacing_mm[1:])
    high, wide = volume.hu.shape[1] // rows, volume.hu.shape[2] // columns
    cells = np.empty((volume.hu.shape[0], high, wide), dtype=np.float32)
    for place, image in enumerate(volume.hu):
        blocks = np.maximum(image[: high * rows, : wide * columns], PADDING_HU)
        cells[place] = blocks.reshape(high, rows, wide, columns).mean(axis=(1, 3))
    return cells
