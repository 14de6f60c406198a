"""Finding the rods of a calibration phantom beside the patient: equal circles, equally spaced, on one line.

Works on the mean of a stack of slices, with the phantom's axis along the patient. A rod is a circle at whose edge
the CT number steps: uniform within, uniform just outside, different across. The line is found by the weakest of its
rods, so that a chance circle (a vessel, a table tube) makes none. What the rods hold is ``inference.phantom``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import fftconvolve

from inference.volume import Volume

GRID_MM = 1.0
"""Pixel of the search: a rod of 16 mm has 200 of them."""

SLAB_MM = 30.0
"""Thickness of one averaged stack: noise falls, and a rod tilted by 3 degrees against the slices moves by 1.6 mm."""

SMOOTHING_MM = 1.0
"""Standard deviation of the Gaussian that the search, not the measurement, sees: noise falls by 3.5."""

RADII_MM = (6.0, 7.5, 9.0, 10.5, 12.0)
"""Radii of rods that are looked for: those of the phantoms sold have 16 to 25 mm diameter [m] assumption."""

SPACING_MM = (22.0, 60.0)
"""Distances of neighbouring rods that are looked for [m] assumption."""

LARGEST_TILT_DEG = 8.0
"""Slope of the line of rods in the image: the phantom lies flat on the table."""

EDGE_MM = 1.5
"""The edge itself, blurred by the kernel, is left out on both of its sides."""

RING_MM = 2.0
"""Width of the ring just outside of the edge."""

SECTORS = 6
"""Parts of that ring, each of which must differ from the inside: the pad's own edge may be near, all around it not."""

STEP_SCORE = 2.5
"""Least step at the weakest rod's edge, in standard deviations of the two rings [m] assumption. Measured on digital
phantoms: rods score 6 to 40, the best chance line in two patients 2.1."""

FLOOR_HU = 4.0
"""Smallest standard deviation of a ring: the mean of a slab is never quite free of noise and rounding."""

INNER_FRACTION = 0.6
"""Part of the radius that is measured: free of the blurred edge down to rods of 6 mm at a kernel of 2 mm."""

WANDER_MM = 4.0
"""How far a rod may lie from the same rod in the neighbouring slab."""

LEAST_ROD_HU = -300.0
"""What no rod reads: a row of circles fits into the air between pad and table as well as a row of rods."""

HU_RANGE = (-1024.0, 1500.0)
"""Values are clipped to this, so that one metal edge does not outshine all."""


Accept = Callable[[tuple[float, ...]], bool]


@dataclass(frozen=True, slots=True)
class RodLine:
    """The rods of one phantom in one scan.

    Attributes
    ----------
    hu
        Mean CT number of each rod, HU, from the patient's right to left.
    hu_sd
        Standard deviation of the slabs' means of each rod, HU: drift along the table.
    radius_mm, spacing_mm
        Radius of the rods, and distance of neighbours.
    centres_lps_mm
        Per slab, the (rod, xyz) centres, LPS mm.
    score
        Step at the weakest rod's edge, in standard deviations; median over the slabs.
    """

    hu: tuple[float, ...]
    hu_sd: tuple[float, ...]
    radius_mm: float
    spacing_mm: float
    centres_lps_mm: tuple[NDArray[np.float64], ...]
    score: float


@dataclass(frozen=True, slots=True)
class _Slab:
    """The mean of a stack of slices on the search's grid, and where its first pixel and its middle lie."""

    image: NDArray[np.float32]
    origin_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Found:
    """One slab's line: middle of the first rod (row, column), step to the next, radius, score."""

    first_mm: NDArray[np.float64]
    step_mm: NDArray[np.float64]
    radius_mm: float
    score: float


def find_rods(upright: Volume, count: int, is_phantom: Accept) -> RodLine | None:
    """Find ``count`` rods in a row, left to right of the patient.

    Parameters
    ----------
    upright
        The CT in canonical order.
    count
        Rods of the phantom, 3 to 8.
    is_phantom
        Whether CT numbers, from the patient's right to left, can be those of the phantom.

    Returns
    -------
    RodLine or None
        None where fewer than two slabs, or fewer than half of all, show the same line.

    Raises
    ------
    ValueError
        For a number of rods outside 3 to 8.
    """
    if not 3 <= count <= 8:
        raise ValueError(f"{count} rods; a line is looked for with 3 to 8")
    slabs = _slabs(upright)
    found = [(slab, line) for slab in slabs if (line := _line(slab.image, count, is_phantom)) is not None]
    agreeing = _agreeing(found)
    if len(agreeing) < max(2, (len(slabs) + 1) // 2):
        return None
    return _measured(agreeing, count)


def _slabs(upright: Volume) -> list[_Slab]:
    """Average the volume along the body in stacks of about 30 mm, at 1 mm in plane."""
    dz, dy, dx = upright.spacing_mm
    thickness = max(1, round(SLAB_MM / dz))
    x0, y0, z0 = upright.affine_lps[:3, 3]
    slabs = []
    for start in range(0, upright.hu.shape[0] - thickness + 1, thickness):
        mean = np.clip(upright.hu[start : start + thickness], *HU_RANGE).mean(axis=0, dtype=np.float32)
        image = ndimage.zoom(mean, (dy / GRID_MM, dx / GRID_MM), order=1, grid_mode=True, mode="nearest")
        corner = (GRID_MM - dy) / 2, (GRID_MM - dx) / 2
        middle = z0 + (start + (thickness - 1) / 2) * dz
        slabs.append(_Slab(image.astype(np.float32), (x0 + corner[1], y0 + corner[0], middle)))
    return slabs


def _line(image: NDArray[np.float32], count: int, is_phantom: Accept) -> _Found | None:
    """Find the best line of rods in one slab: of the best of each radius, those whose values can be the phantom's."""
    smooth = ndimage.gaussian_filter(image, SMOOTHING_MM / GRID_MM)
    lines = []
    for radius_mm in RADII_MM:
        raw = _step_score(smooth, radius_mm)
        row = _best_row(raw, radius_mm, count)
        line = None if row is None else _refined(raw, row, count)
        if line is not None and is_phantom(_values(image, line, count)):
            lines.append(line)
    return max(lines, key=lambda line: line.score, default=None)


def _step_score(image: NDArray[np.float32], radius_mm: float) -> NDArray[np.float32]:
    """Step (root mean square) across a circle around every pixel in its weakest sector, per spread of the inside.

    Zero where the inside is air.
    """
    level = image.mean()
    image = image - level
    reach = int(np.ceil((radius_mm + EDGE_MM + RING_MM) / GRID_MM))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance, angle = np.hypot(rows, columns) * GRID_MM, np.arctan2(rows, columns)
    disc = distance <= radius_mm - EDGE_MM
    ring = (distance >= radius_mm + EDGE_MM) & (distance <= radius_mm + EDGE_MM + RING_MM)
    square = image**2
    inside = _mean(image, disc)
    variance = np.maximum(_mean(square, disc) - inside**2, 0.0)
    sector = np.floor((angle + np.pi) / (2 * np.pi) * SECTORS).astype(int) % SECTORS
    parts = [ring & (sector == number) for number in range(SECTORS)]
    steps = [_mean(square, part) - 2 * inside * _mean(image, part) + inside**2 for part in parts]
    least = np.where(inside + level < LEAST_ROD_HU, 0.0, np.minimum.reduce(steps) - variance)
    return np.asarray(np.sqrt(np.maximum(least, 0.0) / (variance + FLOOR_HU**2)), dtype=np.float32)


def _mean(image: NDArray[np.float32], part: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean of the image over a shape laid around every pixel."""
    kernel = part[::-1, ::-1].astype(np.float32) / part.sum()
    return np.asarray(fftconvolve(image, kernel, mode="same"))


def _best_row(score: NDArray[np.float32], radius_mm: float, count: int) -> _Found | None:
    """Find the row of circles with the highest geometric mean of scores, none of them below ``STEP_SCORE``.

    Every two peaks that can be its ends are tried; between them the score is read at equal distances.
    """
    peaks = np.argwhere((score == ndimage.maximum_filter(score, size=5)) & (score >= STEP_SCORE))
    ends = peaks[None, :, :] - peaks[:, None, :]
    spacing_mm = np.hypot(ends[..., 0], ends[..., 1]) * GRID_MM / (count - 1)
    tilt_deg = np.rad2deg(np.arctan2(ends[..., 0], np.maximum(ends[..., 1], 1e-9)))
    fits = (spacing_mm >= max(SPACING_MM[0], 2 * radius_mm + EDGE_MM)) & (spacing_mm <= SPACING_MM[1])
    first, last = np.nonzero(fits & (np.abs(tilt_deg) <= LARGEST_TILT_DEG) & (ends[..., 1] > 0))
    if first.size == 0:
        return None
    parts = np.linspace(peaks[first], peaks[last], count)
    nearby = ndimage.maximum_filter(score, size=3)
    index = np.round(parts).astype(int)
    values = nearby[index[..., 0], index[..., 1]]
    means = np.where((values >= STEP_SCORE).all(axis=0), np.log(np.maximum(values, STEP_SCORE)).mean(axis=0), -np.inf)
    best = int(means.argmax())
    if not np.isfinite(means[best]):
        return None
    start, stop = peaks[first[best]] * GRID_MM, peaks[last[best]] * GRID_MM
    return _Found(start.astype(float), (stop - start) / (count - 1), radius_mm, float(np.exp(means[best])))


def _refined(score: NDArray[np.float32], line: _Found, count: int) -> _Found | None:
    """Move each rod to the centre of its own step, then fit the straight, equally spaced row through them."""
    points, values = [], []
    for number in range(count):
        row, column = np.round((line.first_mm + number * line.step_mm) / GRID_MM).astype(int)
        top, left = max(row - 3, 0), max(column - 3, 0)
        window = score[top : row + 4, left : column + 4]
        if window.size == 0:
            return None
        weight = np.maximum(window - window.max() / 2, 0.0)
        grid = np.indices(window.shape)
        points.append([(weight * axis).sum() / weight.sum() for axis in grid] + np.array([top, left], dtype=float))
        values.append(float(window.max()))
    fit = np.polynomial.polynomial.polyfit(np.arange(count), np.array(points) * GRID_MM, 1)
    return _Found(fit[0], fit[1], line.radius_mm, float(np.exp(np.log(values).mean())))


def _agreeing(found: Sequence[tuple[_Slab, _Found]]) -> list[tuple[_Slab, _Found]]:
    """Keep the longest run of slabs whose lines lie at one place, a slow drift allowed."""
    runs: list[list[tuple[_Slab, _Found]]] = []
    for slab, line in found:
        last = runs[-1][-1][1] if runs else None
        if last is None or _distance_mm(last, line) > WANDER_MM:
            runs.append([])
        runs[-1].append((slab, line))
    return max(runs, key=len, default=[])


def _distance_mm(one: _Found, other: _Found) -> float:
    """Largest distance of the first rods and of the steps; infinite for rods of clearly different size."""
    if abs(one.radius_mm - other.radius_mm) > 2.0:
        return float("inf")
    first = float(np.linalg.norm(one.first_mm - other.first_mm))
    return max(first, float(np.linalg.norm(one.step_mm - other.step_mm)) * 4)


def _measured(agreeing: Sequence[tuple[_Slab, _Found]], count: int) -> RodLine:
    """Measure the rods of every slab."""
    radius_mm = float(np.median([line.radius_mm for _, line in agreeing]))
    table, centres = [], []
    for slab, line in agreeing:
        table.append(_values(slab.image, line, count))
        places = _places_mm(line, count)
        x0, y0, z = slab.origin_mm
        centres.append(np.column_stack([x0 + places[:, 1], y0 + places[:, 0], np.full(count, z)]))
    values = np.array(table)
    return RodLine(
        hu=tuple(float(value) for value in values.mean(axis=0)),
        hu_sd=tuple(float(value) for value in values.std(axis=0)),
        radius_mm=radius_mm,
        spacing_mm=float(np.median([np.linalg.norm(line.step_mm) for _, line in agreeing])),
        centres_lps_mm=tuple(centres),
        score=float(np.median([line.score for _, line in agreeing])),
    )


def _places_mm(line: _Found, count: int) -> NDArray[np.float64]:
    """Centres of the rods, (rod, row and column) mm."""
    return np.asarray(line.first_mm + np.arange(count)[:, None] * line.step_mm)


def _values(image: NDArray[np.float32], line: _Found, count: int) -> tuple[float, ...]:
    """Mean of each rod."""
    radius_mm = line.radius_mm * INNER_FRACTION
    return tuple(_disc_mean(image, place, radius_mm) for place in _places_mm(line, count))


def _disc_mean(image: NDArray[np.float32], place_mm: NDArray[np.float64], radius_mm: float) -> float:
    """Mean of a disc."""
    row, column = place_mm / GRID_MM
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    disc = np.hypot(rows - row, columns - column) * GRID_MM <= radius_mm
    return float(image[disc].mean())
