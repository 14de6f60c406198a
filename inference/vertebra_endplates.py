"""Endplates: where the vertebral bodies begin and end along the spinal curve.

A body is what lies between a lower and an upper endplate with a cortical rind around it; a disc is what lies
between an upper endplate and the next lower one and has none. Which bright plates pair up to bodies is decided
for the whole spine at once by dynamic programming. docs/methods/segmentation-spine.md, step 4.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.spinal_canal import WorkingGrid
from inference.spinal_curve import STEP_MM, SpinalCurve, straightened

CORE_FRONT_MM = (10.0, 32.0)
"""Depth range in front of the canal's middle that is inside every body from T11 to L5. [m] assumption."""

CORE_LEFT_MM = 12.0
"""Half width that is inside every body from T11 to L5 (width 35 to 50 mm). [m] assumption."""

PIVOT_FRONT_MM = 22.0
"""Middle of the body in front of the canal's middle: 8 mm of canal and half of 30 mm. [m] assumption."""

TILTS_SAGITTAL = np.tan(np.deg2rad(np.arange(-24, 25, 6)))
TILTS_CORONAL = np.tan(np.deg2rad(np.arange(-12, 13, 6)))
"""Slopes of endplates against the plane across the canal; wedged L5 reaches 20 degrees. [m] assumption."""

PLATE_RANGE_HU = (-100.0, 600.0)
"""Clipping before plates are measured, so that gas in a disc or a dense osteophyte does not outweigh them. [m]."""

PLATE_FLANK_MM = 4.5
"""A plate is brighter than what lies this far on both sides of it. [m] assumption."""

PLATE_QUANTILE, PLATE_FLOOR_HU = 0.9, 25.0
"""Plate contrast that counts as 1: this quantile along the spine, at least the floor. [m] assumption."""

BODY_HEIGHT_MM, BODY_HEIGHT_SD_MM, BODY_HEIGHT_RANGE_MM = 25.0, 8.0, (10.0, 40.0)
"""Between the endplates of one body: T11 to L5 22 to 30 mm, crushed ones to 10 mm. [m] assumption."""

DISC_HEIGHT_MM, DISC_HEIGHT_SD_MM, DISC_HEIGHT_RANGE_MM = 8.0, 4.0, (2.0, 24.0)
"""Between the endplates around one disc: 4 to 14 mm. [m] assumption."""

PLATE_MARGIN = 0.25
"""Plate contrast below which a plate speaks against itself. [m] assumption."""

RIND_WEIGHT, INNER_PLATE_WEIGHT, HEIGHT_WEIGHT = 1.0, 1.0, 0.25
"""Weights of the rind, of a plate inside a body, and of an unusual height, against one plate. [m] assumption."""

INNER_MARGIN_MM = 5.0
"""A plate within this distance of a body's end belongs to that end. [m] assumption."""

GAS_HU, GAS_WEIGHT = -200.0, 4.0
"""CT number of gas, as in a vacuum disc or between dry bones, and what its share costs a body. [m]."""

UNUSUAL_LIMIT = 4.0
"""A height off by two standard deviations is as unusual as it gets: fractures have any height. [m]."""

RIND_LEFT_MM, RIND_FRONT_MM = (16.0, 30.0), (26.0, 46.0)
"""Where the cortical rind lies at the sides and in front. [m] assumption."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for endplates and rind at every point of the curve; all (n,) float64 arrays.

    Attributes
    ----------
    plate
        Contrast of the best-tilted bright plate, 1 is usual for this spine.
    rind
        Brightness of the cortical rind, 0 to 1 between this spine's discs and bodies.
    gas
        Share of the plane across that is gas, 0 to 1.
    tilt_sagittal, tilt_coronal
        Slopes of that plate: rise along the curve per mm to the front and to the left.
    """

    plate: NDArray[np.float64]
    rind: NDArray[np.float64]
    gas: NDArray[np.float64]
    tilt_sagittal: NDArray[np.float64]
    tilt_coronal: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plate:
    """One endplate: the index of its crossing with the body's middle line, and its slopes."""

    position: int
    tilt_sagittal: float
    tilt_coronal: float


@dataclass(frozen=True, slots=True)
class Slab:
    """One vertebral body between two endplates, the bottom one nearer to the feet."""

    bottom: Plate
    top: Plate

    @property
    def middle(self) -> float:
        """Position of the body's middle on the curve."""
        return (self.bottom.position + self.top.position) / 2

    @property
    def height_mm(self) -> float:
        """Distance of the endplates along the curve, mm."""
        return (self.top.position - self.bottom.position) * STEP_MM


def find_slabs(grid: WorkingGrid, curve: SpinalCurve) -> tuple[Slab, ...]:
    """Find the vertebral bodies along the curve.

    Parameters
    ----------
    grid
        The working grid.
    curve
        The spinal curve.

    Returns
    -------
    tuple of Slab
        From the feet to the head. A sacral segment with an endplate on both sides is a slab too.
    """
    evidence = plate_evidence(grid, curve)
    ends = _best_chain(evidence)
    plates = [Plate(s, float(evidence.tilt_sagittal[s]), float(evidence.tilt_coronal[s])) for s, _ in ends]
    return tuple(
        Slab(plates[i], plates[i + 1]) for i, (_, is_top) in enumerate(ends[:-1]) if not is_top and i + 1 < len(ends)
    )


def plate_evidence(grid: WorkingGrid, curve: SpinalCurve) -> Evidence:
    """Measure plates and rind along the curve."""
    front_mm = np.arange(CORE_FRONT_MM[0], CORE_FRONT_MM[1] + 0.1, 2.0)
    left_mm = np.arange(-CORE_LEFT_MM, CORE_LEFT_MM + 0.1, 2.0)
    raw = straightened(grid, curve, front_mm, left_mm)
    core = np.clip(raw, *PLATE_RANGE_HU)
    best = np.full(len(core), -np.inf)
    slopes = np.zeros((2, len(core)))
    for sagittal, coronal in product(TILTS_SAGITTAL, TILTS_CORONAL):
        rise_mm = sagittal * (front_mm[:, None] - PIVOT_FRONT_MM) + coronal * left_mm[None]
        contrast = _ridge(_tilted_mean(core, rise_mm / STEP_MM))
        better = contrast > best
        best[better] = contrast[better]
        slopes[:, better] = [[sagittal], [coronal]]
    scale = max(float(np.quantile(best, PLATE_QUANTILE)), PLATE_FLOOR_HU)
    gas = (raw < GAS_HU).mean(axis=(1, 2))
    return Evidence(np.clip(best / scale, 0, 1.5), _rind(grid, curve), gas, slopes[0], slopes[1])


def _tilted_mean(core: NDArray[np.float32], rise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of ``core`` over tilted planes: position s reads column (front, left) at s + ``rise``."""
    total = np.zeros(len(core))
    at = np.arange(len(core))
    for index in np.ndindex(rise.shape):
        total += np.interp(at + rise[index], at, core[(slice(None), *index)])
    return total / rise.size


def _ridge(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness of a profile above the mean of what lies ``PLATE_FLANK_MM`` on both sides."""
    fine = ndimage.gaussian_filter1d(profile, 1.0 / STEP_MM, mode="nearest")
    at = np.arange(len(fine))
    flank = PLATE_FLANK_MM / STEP_MM
    return np.asarray(fine - (np.interp(at - flank, at, fine) + np.interp(at + flank, at, fine)) / 2)


def _rind(grid: WorkingGrid, curve: SpinalCurve) -> NDArray[np.float64]:
    """Brightness of the cortical rind: left, right and front, each the brightest on its way out."""
    depth_mm = np.arange(CORE_FRONT_MM[0], CORE_FRONT_MM[1] - 3.9, 2.0)
    out_mm = np.arange(RIND_LEFT_MM[0], RIND_LEFT_MM[1] + 0.1, 2.0)
    across_mm = np.arange(-8.0, 8.1, 2.0)
    ahead_mm = np.arange(RIND_FRONT_MM[0], RIND_FRONT_MM[1] + 0.1, 2.0)
    sides = [
        straightened(grid, curve, depth_mm, out_mm).max(axis=2),
        straightened(grid, curve, depth_mm, -out_mm).max(axis=2),
        straightened(grid, curve, ahead_mm, across_mm).max(axis=1),
    ]
    bright = np.mean([np.clip(side, *PLATE_RANGE_HU).mean(axis=1) for side in sides], axis=0)
    low, high = np.quantile(bright, [0.1, 0.9])
    return np.asarray(np.clip((bright - low) / max(high - low, PLATE_FLOOR_HU), 0, 1))


def _best_chain(evidence: Evidence) -> list[tuple[int, bool]]:
    """Alternating (position, is it a top endplate) of the chain with the largest score, feet to head.

    ``total[kind][s]`` is the best score of a chain that ends with a bottom (0) or top (1) plate at s; a chain
    may begin and end anywhere.
    """
    count = len(evidence.plate)
    gain = evidence.plate - PLATE_MARGIN
    total = np.tile(gain, (2, 1))
    came_from = np.full((2, count), -1)
    spans = (_body_score(evidence), _disc_score(evidence))
    for s in range(count):
        for kind in (0, 1):
            score, lengths = spans[1 - kind]
            starts = s - lengths[lengths <= s]
            if starts.size == 0:
                continue
            candidates = total[1 - kind][starts] + score[: starts.size, s]
            best = int(candidates.argmax())
            if candidates[best] > 0:
                total[kind, s] += candidates[best]
                came_from[kind, s] = starts[best]
    return _unwound(total, came_from)


def _unwound(total: NDArray[np.float64], came_from: NDArray[np.int64]) -> list[tuple[int, bool]]:
    kind, s = (int(i) for i in np.unravel_index(int(total.argmax()), total.shape))
    chain = [(s, kind == 1)]
    while came_from[kind, s] >= 0:
        s = int(came_from[kind, s])
        kind = 1 - kind
        chain.append((s, kind == 1))
    return chain[::-1]


def _body_score(evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score of a body of every length that ends at every position, and the lengths (in steps)."""
    lengths = np.arange(int(BODY_HEIGHT_RANGE_MM[0] / STEP_MM), int(BODY_HEIGHT_RANGE_MM[1] / STEP_MM) + 1)
    usual = _height_score(lengths, BODY_HEIGHT_MM, BODY_HEIGHT_SD_MM)
    rind = 2 * _trailing_mean(evidence.rind, lengths) - 1
    inner = np.zeros_like(rind)
    margin = int(INNER_MARGIN_MM / STEP_MM)
    for row, length in enumerate(lengths):
        for s in range(length, len(evidence.plate)):
            inside = evidence.plate[s - length + margin : s - margin]
            inner[row, s] = inside.max() if inside.size else 0.0
    gas = GAS_WEIGHT * _trailing_mean(evidence.gas, lengths)
    return usual[:, None] + RIND_WEIGHT * rind - INNER_PLATE_WEIGHT * inner - gas, lengths


def _disc_score(evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score of a disc of every length that ends at every position, and the lengths (in steps)."""
    lengths = np.arange(int(DISC_HEIGHT_RANGE_MM[0] / STEP_MM), int(DISC_HEIGHT_RANGE_MM[1] / STEP_MM) + 1)
    usual = _height_score(lengths, DISC_HEIGHT_MM, DISC_HEIGHT_SD_MM)
    return usual[:, None] + RIND_WEIGHT * (1 - 2 * _trailing_mean(evidence.rind, lengths)), lengths


def _height_score(lengths: NDArray[np.int64], mean_mm: float, sd_mm: float) -> NDArray[np.float64]:
    unusual = ((lengths * STEP_MM - mean_mm) / sd_mm) ** 2
    return -HEIGHT_WEIGHT * np.minimum(unusual, UNUSUAL_LIMIT)


def _trailing_mean(profile: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """(length, position) mean of ``profile`` over the ``length`` steps that end at ``position``."""
    sums = np.concatenate([[0.0], np.cumsum(profile)])
    ends = np.arange(len(profile)) + 1
    starts = np.clip(ends[None] - lengths[:, None] - 1, 0, None)
    return np.asarray((sums[ends][None] - sums[starts]) / (ends[None] - starts))
