"""Where the outer face of a bone's cortex lies on the normals of its coarse surface.

Every point of a surface reads the CT along its normal, chooses a fall of CT number together with its neighbours
(quadratic relaxation between the choice and a smooth surface [Steinbruecker2009]), and places the edge by a model of
the blurred cortex [Treece2010]: for a cortex thinner than the blur, half of the maximum lies up to a blur's width
outside the bone.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.bone_surfaces import STEP_MM, BoneSurface, FloatArray
from inference.surface_kernels import fit_cortices, sample_rays
from inference.volume import Volume

Mask = NDArray[np.bool_]

SAMPLE_MM = 0.5
"""Between samples of a profile: below the smallest blur of a CT."""
INWARD_MM, OUTWARD_MM = 7.0, 10.0
"""Profiles reach so far: beyond the band by a cortex and its blur, and by a gap to the next bone."""
GAP_WIDTH_MM = 6.0
"""Behind a fall the rise to the next bone is looked for so far. [m] assumption."""
CLIP_HU = (-100.0, 2000.0)
"""Lung and gas count as fat, metal as no more than this. [m] assumption."""
METAL_HU = 1900.0
"""Bone is darker: 99 % of compact bone at 120 kVp [m] assumption. A normal that meets more sees metal and its streaks;
the surface stays there."""
WINDOW_MM = 1.0
"""A fall is between the means of this far inside and outside: half the narrowest joint space. [m] assumption."""
NOISE_HU, HALF_GAIN_HU = 30.0, 100.0
"""Falls below the first are noise; one higher by the second gains half of what the highest could. [m] assumption."""
PASSED_GAIN = 0.3
"""A fall of this gain farther inside is the bone's own surface, already passed. [m] assumption."""
FAR_COST = 0.15
"""Cost of a place at the end of the band, in gains. [m] assumption."""
INTRUSION_COST_PER_MM = 0.3
"""Cost of a place inside another bone's surface. [m] assumption."""
GAP_MM = 3.5
"""Nearer than this to another bone a fall counts only as much as the rise behind it: both bound a gap. [m]
assumption."""
RIDGE_MM, RIDGE_SHARE = 1.0, 0.25
"""Where the distance along the normal differs more than this, and this share of it, from the surface's own distance,
the normal has crossed to another side of the bone. [m] assumption."""
BEND_COSTS_PER_MM2 = (0.0, 0.03, 0.06, 0.12, 0.25)
"""Cost of differing from the neighbours' mean, in successive rounds. [m] assumption."""
STIFFNESS = 0.5
"""Weight of the neighbours' mean against a clear edge. [m] assumption."""
SMOOTHINGS = 6
"""Rounds in which neighbours exchange their places: edges are averaged over as many points."""
FEWEST_WEIGHT = 0.02
"""Weight of a point without an edge. [m] assumption."""
BLUR_MM = 0.4
"""Standard deviation of a scanner's own blur: 0.9 mm full width at half maximum. [m] assumption."""
CORTEX_MM, CORTEX_HU = 1.0, 900.0
"""Usual cortex before any blur. [m] assumption."""
SPREAD = np.array([1.0, 2.0, 300.0, 25.0])
"""Of the edge about the fall that was chosen and of the cortex's thickness, mm; of its level and of the samples about
the model, HU. [m] assumption."""
LEAST_STEP_HU, FULL_STEP_HU = 50.0, 200.0
"""Falls from cortex to outside: the least that is fitted, and the one that is wholly believed. [m] assumption."""


def placed_edges(
    volume: Volume, surface: BoneSurface, own_mm: FloatArray, others_mm: FloatArray, band_mm: float
) -> NDArray[np.float64]:
    """Find how far every point of a surface lies from the cortex's outer face.

    Parameters
    ----------
    volume
        The CT.
    surface
        The bone's surface.
    own_mm, others_mm : (z, y, x) float32 arrays
        Signed distances from this surface and from the nearest other bone, at the cells of the surface's patch.
    band_mm
        How far the face may lie from the surface.

    Returns
    -------
    (point,) float64 array
        Outward, mm.
    """
    if len(surface.points) == 0:
        return np.zeros(0)
    offsets = np.arange(-INWARD_MM, OUTWARD_MM + SAMPLE_MM / 2, SAMPLE_MM)
    profiles = _sampled(volume.hu, volume.spacing_mm, surface, offsets, CLIP_HU)
    is_metal = profiles.max(axis=1) > METAL_HU
    profiles = 0.5 * (profiles + surface.neighbours @ profiles)
    band = slice(round((INWARD_MM - band_mm) / SAMPLE_MM), round((INWARD_MM + band_mm) / SAMPLE_MM) + 1)
    own, others = (
        _sampled(field, (STEP_MM,) * 3, surface, offsets[band], (-1e3, 1e3), surface.patch.origin_mm)
        for field in (own_mm, others_mm)
    )
    gain = _gains(profiles, others, band)
    gain[is_metal] = 0.0
    choice = _agreed(_costs(gain, own, others, offsets[band], band_mm), gain, offsets[band], surface)
    choice[is_metal] = 0.0
    return _fitted(profiles, offsets, choice, surface, volume.spacing_mm, ~is_metal)


def _sampled(
    image: FloatArray,
    spacing_mm: tuple[float, ...],
    surface: BoneSurface,
    offsets: NDArray[np.float64],
    limits: tuple[float, float],
    origin_mm: NDArray[np.float64] | float = 0.0,
) -> FloatArray:
    """Values of a field along the normals, (point, offset)."""
    result = np.empty((len(surface.points), len(offsets)), dtype=np.float32)
    points = surface.points - origin_mm
    sample_rays(image, np.array(spacing_mm), points, surface.normals, offsets, *limits, result)
    return result


def _gains(profiles: FloatArray, others: FloatArray, band: slice) -> FloatArray:
    """How much every place in the band looks like a cortex's outer face, 0 to 1, (point, offset)."""
    width = round(WINDOW_MM / SAMPLE_MM) + 1
    reach = round(GAP_WIDTH_MM / SAMPLE_MM) + 1
    inside = ndimage.uniform_filter1d(profiles, width, axis=1, origin=(width - 1) // 2, mode="nearest")
    outside = ndimage.uniform_filter1d(profiles, width, axis=1, origin=-(width // 2), mode="nearest")
    brightest = ndimage.maximum_filter1d(profiles, reach, axis=1, origin=-(reach // 2), mode="nearest")
    fall, rise = _gain((inside - outside)[:, band]), _gain((brightest - outside)[:, band])
    return np.where(others < GAP_MM, np.minimum(fall, rise), fall)


def _gain(step_hu: FloatArray) -> FloatArray:
    """Turn a step of CT number into a gain that saturates."""
    above = np.maximum(step_hu - NOISE_HU, 0.0)
    return np.asarray(above / (above + HALF_GAIN_HU), dtype=np.float32)


def _costs(
    gain: FloatArray, own: FloatArray, others: FloatArray, offsets: NDArray[np.float64], band_mm: float
) -> FloatArray:
    """Cost of every place in the band, (point, offset)."""
    steps = round(WINDOW_MM / SAMPLE_MM)
    passed = np.zeros_like(gain)
    passed[:, steps:] = np.maximum.accumulate(gain, axis=1)[:, :-steps]
    passed[passed < PASSED_GAIN] = 0.0
    crossed = np.abs(own - offsets) > RIDGE_MM + RIDGE_SHARE * np.abs(offsets)
    cost = np.where(crossed, 3.0, 1.0 - gain) + passed + INTRUSION_COST_PER_MM * np.maximum(-others, 0.0)
    return np.asarray(cost + FAR_COST * (offsets / band_mm) ** 2, dtype=np.float32)


def _agreed(
    cost: FloatArray, gain: FloatArray, offsets: NDArray[np.float64], surface: BoneSurface
) -> NDArray[np.float64]:
    """Choose a place for every point at low cost and near its neighbours', mm."""
    smooth = np.zeros(len(cost))
    for bend_cost in BEND_COSTS_PER_MM2:
        bent = bend_cost * (offsets[None].astype(np.float32) - smooth[:, None].astype(np.float32)) ** 2
        index = (cost + bent).argmin(axis=1)
        weight = np.take_along_axis(gain, index[:, None], axis=1)[:, 0] + FEWEST_WEIGHT
        smooth = _smoothed(offsets[index], weight, surface)
    return smooth


def _smoothed(place_mm: NDArray[np.float64], weight: NDArray[np.floating], surface: BoneSurface) -> NDArray[np.float64]:
    """Let neighbours agree; points of little weight follow the others."""
    smooth = place_mm
    for _ in range(SMOOTHINGS):
        smooth = (weight * place_mm + STIFFNESS * (surface.neighbours @ smooth)) / (weight + STIFFNESS)
    return smooth


def _fitted(
    profiles: FloatArray,
    offsets: NDArray[np.float64],
    choice_mm: NDArray[np.float64],
    surface: BoneSurface,
    spacing_mm: tuple[float, float, float],
    is_fit: Mask,
) -> NDArray[np.float64]:
    """Place the edge by the model of a blurred cortex, near the choice, where ``is_fit``."""
    sigma = np.sqrt(surface.normals**2 @ (np.asarray(spacing_mm) ** 2 / 4 + BLUR_MM**2))
    place, step = np.empty(len(choice_mm)), np.empty(len(choice_mm))
    fit_cortices(
        profiles, offsets, choice_mm, sigma, np.array([CORTEX_MM, CORTEX_HU]), SPREAD, LEAST_STEP_HU, place, step
    )
    place[~is_fit], step[~is_fit] = choice_mm[~is_fit], FULL_STEP_HU
    return _smoothed(place, np.clip(step / FULL_STEP_HU, 0.0, 1.0) + FEWEST_WEIGHT, surface)
