"""Vertebral bodies: from two endplates to a closed surface, and from the surface to voxels.

Each body has its own straight frame (up between its endplates, front, left). Its wall is a radius for every
height and angle, its endplates are a height for every column; both follow the drop of CT number from cortex to
what lies outside, smoothly, so that pedicles are cut where the wall goes on on both sides of them.
docs/methods/segmentation-spine.md, step 6.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.spinal_curve import SpinalCurve, sampled, unit
from inference.vertebra_endplates import PIVOT_FRONT_MM, Slab
from inference.volume import Volume

SAMPLE_MM = 1.0
"""Sampling of a body's surface along heights, radii and columns."""

ANGLES = 72
"""Directions of the wall's radii, 5 degrees apart: 2 mm at a radius of 25 mm."""

RADIUS_RANGE_MM = (8.0, 36.0)
"""From the middle to the wall: half of 28 mm depth at T11, of 60 mm width at L5. [m] assumption."""

WALL_RANGE_HU = (-50.0, 350.0)
"""Clipping before the drop is measured: fat and lung count as equal, cortex as bright enough. [m] assumption."""

DROP_MM = 2.0
"""The drop is between the means of this far inside and outside. [m] assumption."""

CANAL_CLEARANCE_MM = 4.0
"""The wall stays at least this far in front of the canal's middle, so that it cannot go round it. [m]."""

FORBIDDEN_HU = -1000.0
"""Drop given to where the wall must not be."""

PASSED_DROP_HU, PASSED_MM = 40.0, 4.0
"""A drop above this, at least so far inside, is a wall already passed; marrow averages to less. [m] assumption."""

WALL_MAX_SLOPE_STEPS = 2
"""Largest change of radius between neighbouring angles in the template, in samples. [m] assumption."""

WALL_BAND_MM, PLATE_BAND_MM = 5.0, 5.0
"""How far the wall may leave the template, and an endplate its plane. [m] assumption."""

BAND_COST_HU_PER_MM2 = 2.0
"""Pull to the template or the plane, as drop given up. [m] assumption."""

HEIGHT_SMOOTHING_MM, PLATE_SMOOTHING_MM = 2.5, 3.0
"""Gaussian over heights (wall) and columns (endplates) of the drops before the surface is chosen. [m]."""

TEMPLATE_MARGIN_MM = 4.0
"""The template is made from heights at least this far from both endplates. [m] assumption."""

CENTERINGS = 3
"""Times the middle is moved to the template's centroid."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A body's own frame.

    Attributes
    ----------
    origin_mm : (3,) array
        Middle of the body, grid mm (head, back, left).
    axes : (3, 3) array
        Rows: unit vectors up, front, left of the body in (head, back, left) components.
    """

    origin_mm: NDArray[np.float64]
    axes: NDArray[np.float64]

    def to_grid_mm(self, local_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Grid mm of points given as (..., (up, front, left)) mm."""
        return np.asarray(self.origin_mm + local_mm @ self.axes)

    def to_local_mm(self, grid_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(up, front, left) mm of points given in grid mm."""
        return np.asarray((grid_mm - self.origin_mm) @ self.axes.T)


@dataclass(frozen=True, slots=True)
class BodySurface:
    """The closed surface of one body in its frame.

    Attributes
    ----------
    frame
        The body's frame; its origin is on the axis of the wall.
    heights_mm : (h,) array
        Heights at which the wall is given, ascending.
    radii_mm : (h, ANGLES) array
        The wall; angle k * 360 / ANGLES degrees turns from the front to the left.
    columns_mm : (c,) array
        Front and left coordinates of the endplates' columns.
    bottom_mm, top_mm : (c, c) arrays
        Height of the endplates over (front, left).
    drop_hu
        Median drop of CT number across the wall: how surely there is a wall, HU.
    """

    frame: Frame
    heights_mm: NDArray[np.float64]
    radii_mm: NDArray[np.float64]
    columns_mm: NDArray[np.float64]
    bottom_mm: NDArray[np.float64]
    top_mm: NDArray[np.float64]
    drop_hu: float


def body_frame(curve: SpinalCurve, slab: Slab) -> tuple[Frame, float]:
    """Frame between a slab's endplates, and their distance in mm."""
    centres, normals = [], []
    for plate in (slab.bottom, slab.top):
        s = plate.position
        centres.append(curve.points_mm[s] + curve.front[s] * PIVOT_FRONT_MM)
        normals.append(curve.up[s] - plate.tilt_sagittal * curve.front[s] - plate.tilt_coronal * curve.left[s])
    up = unit(unit(np.array(normals)).sum(axis=0))
    middle = int(slab.middle)
    front = unit(curve.front[middle] - up * (curve.front[middle] @ up))
    left = np.cross(front, up)
    height_mm = float((centres[1] - centres[0]) @ up)
    return Frame((centres[0] + centres[1]) / 2, np.stack([up, front, left])), height_mm


def find_surface(volume: Volume, curve: SpinalCurve, slab: Slab) -> BodySurface:
    """Find a body's surface on the native grid.

    Parameters
    ----------
    volume
        Canonical volume.
    curve
        The spinal curve.
    slab
        The body's endplates.

    Returns
    -------
    BodySurface
        Always a closed surface; ``drop_hu`` tells how well it is founded.
    """
    frame, height_mm = body_frame(curve, slab)
    half = height_mm / 2
    inner = np.arange(-max(half - TEMPLATE_MARGIN_MM, 1.0), max(half - TEMPLATE_MARGIN_MM, 1.0) + 0.1, SAMPLE_MM)
    canal_mm = _canal_points(curve, slab)
    for _ in range(CENTERINGS):
        template = _template(_wall_drops(volume, frame, inner, canal_mm).mean(axis=0))
        frame = _centred(frame, template)
    template = _template(_wall_drops(volume, frame, inner, canal_mm).mean(axis=0))
    heights = np.arange(-half - PLATE_BAND_MM, half + PLATE_BAND_MM + 0.1, SAMPLE_MM)
    radii, drop_hu = _wall(_wall_drops(volume, frame, heights, canal_mm), template, np.abs(heights) <= half)
    columns = np.arange(-RADIUS_RANGE_MM[1], RADIUS_RANGE_MM[1] + 0.1, 2 * SAMPLE_MM)
    bottom = _endplate(volume, frame, columns, -1, _plate_plane(frame, curve, slab, is_top=False, columns_mm=columns))
    top = _endplate(volume, frame, columns, 1, _plate_plane(frame, curve, slab, is_top=True, columns_mm=columns))
    return BodySurface(frame, heights, radii, columns, bottom, top, drop_hu)


def _hu_at(volume: Volume, frame: Frame, local_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    indices = frame.to_grid_mm(local_mm) / np.asarray(volume.spacing_mm)
    return np.clip(sampled(volume.hu, indices), *WALL_RANGE_HU).astype(np.float64)


def _drop(hu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of ``DROP_MM`` before minus mean of ``DROP_MM`` after every sample of the last axis."""
    width = int(DROP_MM / SAMPLE_MM)
    means = ndimage.uniform_filter1d(hu, width, axis=-1, mode="nearest", origin=0)
    after = np.roll(means, -width, axis=-1)
    after[..., -width:] = means[..., -1:]
    return np.asarray(means - after)


def _canal_points(curve: SpinalCurve, slab: Slab) -> NDArray[np.float64]:
    """Points of the canal's middle from one body height below a body to one above, grid mm."""
    reach = slab.top.position - slab.bottom.position
    return curve.points_mm[max(slab.bottom.position - reach, 0) : slab.top.position + reach]


def _wall_drops(
    volume: Volume, frame: Frame, heights_mm: NDArray[np.float64], canal_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(height, angle, radius) drop of CT number going outward, HU; ``FORBIDDEN_HU`` at the canal and behind."""
    angles = 2 * np.pi * np.arange(ANGLES) / ANGLES
    radii = _radii()
    local = np.empty((len(heights_mm), ANGLES, len(radii), 3))
    local[..., 0] = heights_mm[:, None, None]
    local[..., 1] = np.cos(angles)[None, :, None] * radii
    local[..., 2] = np.sin(angles)[None, :, None] * radii
    drops = _drop(_hu_at(volume, frame, local))
    canal = frame.to_local_mm(canal_mm)
    limit = np.interp(heights_mm, canal[:, 0], canal[:, 1]) + CANAL_CLEARANCE_MM
    drops[local[..., 1] < limit[:, None, None]] = FORBIDDEN_HU
    return drops


def _radii() -> NDArray[np.float64]:
    return np.arange(RADIUS_RANGE_MM[0], RADIUS_RANGE_MM[1] + 0.1, SAMPLE_MM)


def _template(drops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius (mm) for every angle: the closed line with the largest drop that passed no wall before.

    ``drops`` is (angle, radius), HU. Without the second condition an enhanced aorta or a rib beside the body
    would be taken for its wall.
    """
    steps = int(PASSED_MM / SAMPLE_MM)
    passed = np.zeros_like(drops)
    passed[:, steps:] = np.maximum.accumulate(drops, axis=1)[:, :-steps]
    gain = drops - np.clip(passed - PASSED_DROP_HU, 0, None)
    return _radii()[_closed_lines(gain[None], WALL_MAX_SLOPE_STEPS)[0]]


def _closed_lines(gain: NDArray[np.float64], max_slope: int) -> NDArray[np.int64]:
    """Radius index for every (height, angle) of the line with the largest sum of ``gain`` (height, angle, radius).

    Viterbi's recursion over three turns, of which the middle one is kept: there the line has closed. Indices of
    neighbouring angles differ by at most ``max_slope``.
    """
    turns = np.concatenate([gain, gain, gain], axis=1)
    heights, rows, count = turns.shape
    total = turns[:, 0].copy()
    came_from = np.zeros(turns.shape, dtype=np.int64)
    options = np.full((2 * max_slope + 1, heights, count), -np.inf)
    index = np.arange(count)
    for row in range(1, rows):
        for k, step in enumerate(range(-max_slope, max_slope + 1)):
            into = slice(max(0, -step), count - max(0, step))
            options[k, :, into] = total[:, max(0, step) : count - max(0, -step)]
        choice = options.argmax(axis=0)
        came_from[:, row] = index + choice - max_slope
        total = options.max(axis=0) + turns[:, row]
    line = np.empty((heights, rows), dtype=np.int64)
    line[:, -1] = total.argmax(axis=1)
    for row in range(rows - 1, 0, -1):
        line[:, row - 1] = np.take_along_axis(came_from[:, row], line[:, row, None], axis=1)[:, 0]
    return line[:, ANGLES : 2 * ANGLES]


def _centred(frame: Frame, template_mm: NDArray[np.float64]) -> Frame:
    """Frame moved to the centroid of the template's polygon."""
    angles = 2 * np.pi * np.arange(ANGLES) / ANGLES
    front, left = template_mm * np.cos(angles), template_mm * np.sin(angles)
    cross = front * np.roll(left, -1) - np.roll(front, -1) * left
    centre = [float(((axis + np.roll(axis, -1)) * cross).sum() / (3 * cross.sum())) for axis in (front, left)]
    return Frame(frame.origin_mm + centre[0] * frame.axes[1] + centre[1] * frame.axes[2], frame.axes)


def _wall(
    drops: NDArray[np.float64], template_mm: NDArray[np.float64], is_between: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """Wall near the template for every height, and the median drop across it between the endplates."""
    radii = _radii()
    away = np.abs(radii[None] - template_mm[:, None])
    smooth = ndimage.gaussian_filter1d(drops, HEIGHT_SMOOTHING_MM / SAMPLE_MM, axis=0, mode="nearest")
    gain = smooth - BAND_COST_HU_PER_MM2 * away[None] ** 2
    gain[:, away > WALL_BAND_MM] = -1e3
    lines = _closed_lines(gain, 1)
    found = np.take_along_axis(drops, lines[..., None], axis=2)[..., 0]
    turned = np.pad(radii[lines], ((0, 0), (2, 2)), mode="wrap")
    wall = ndimage.median_filter(turned, size=(3, 5), mode="nearest")[:, 2:-2]
    return wall, float(np.median(found[is_between]))


def _plate_plane(
    frame: Frame, curve: SpinalCurve, slab: Slab, *, is_top: bool, columns_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Height of an endplate's plane over (front, left) columns of the frame, mm."""
    plate = slab.top if is_top else slab.bottom
    s = plate.position
    point = frame.to_local_mm(curve.points_mm[s] + curve.front[s] * PIVOT_FRONT_MM)
    normal = curve.up[s] - plate.tilt_sagittal * curve.front[s] - plate.tilt_coronal * curve.left[s]
    up, front, left = frame.axes @ normal
    return np.asarray(point[0] - (front * (columns_mm[:, None] - point[1]) + left * (columns_mm[None] - point[2])) / up)


def _endplate(
    volume: Volume, frame: Frame, columns_mm: NDArray[np.float64], direction: int, plane_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Height of an endplate's outer face over (front, left): the largest drop going ``direction`` near the plane."""
    offsets = np.arange(-PLATE_BAND_MM, PLATE_BAND_MM + 0.1, SAMPLE_MM)
    local = np.empty((len(columns_mm), len(columns_mm), len(offsets), 3))
    local[..., 0] = plane_mm[..., None] + direction * offsets
    local[..., 1] = columns_mm[:, None, None]
    local[..., 2] = columns_mm[None, :, None]
    drops = _drop(_hu_at(volume, frame, local))
    sigma = PLATE_SMOOTHING_MM / (columns_mm[1] - columns_mm[0])
    gain = ndimage.gaussian_filter(drops, (sigma, sigma, 0), mode="nearest")
    gain -= BAND_COST_HU_PER_MM2 * offsets**2
    height = plane_mm + direction * offsets[gain.argmax(axis=2)]
    return np.asarray(ndimage.gaussian_filter(ndimage.median_filter(height, size=3), 1.0))


def voxels_inside(volume: Volume, surface: BodySurface) -> tuple[tuple[slice, slice, slice], NDArray[np.bool_]]:
    """Native voxels whose centre is inside a surface.

    Returns
    -------
    box
        Slices of the volume's array.
    inside : bool array
        The mask within ``box``.
    """
    box = _bounding_box(volume, surface)
    spacing = np.asarray(volume.spacing_mm)
    axes = [np.arange(axis.start, axis.stop) for axis in box]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    up, front, left = np.moveaxis(surface.frame.to_local_mm(indices * spacing), -1, 0)
    column = [
        (axis - surface.columns_mm[0]) / (surface.columns_mm[1] - surface.columns_mm[0]) for axis in (front, left)
    ]
    above_bottom = up >= ndimage.map_coordinates(surface.bottom_mm, column, order=1, mode="nearest")
    below_top = up <= ndimage.map_coordinates(surface.top_mm, column, order=1, mode="nearest")
    row = (up - surface.heights_mm[0]) / SAMPLE_MM
    angle = np.mod(np.arctan2(left, front), 2 * np.pi) * ANGLES / (2 * np.pi)
    wall = np.concatenate([surface.radii_mm, surface.radii_mm[:, :1]], axis=1)
    within = np.hypot(front, left) <= ndimage.map_coordinates(wall, [row, angle], order=1, mode="nearest")
    return box, above_bottom & below_top & within


def _bounding_box(volume: Volume, surface: BodySurface) -> tuple[slice, slice, slice]:
    reach = RADIUS_RANGE_MM[1]
    corners = np.array(
        [[h, f, x] for h in surface.heights_mm[[0, -1]] for f in (-reach, reach) for x in (-reach, reach)]
    )
    indices = surface.frame.to_grid_mm(corners) / np.asarray(volume.spacing_mm)
    low = np.clip(np.floor(indices.min(axis=0)).astype(int), 0, np.array(volume.hu.shape) - 1)
    high = np.clip(np.ceil(indices.max(axis=0)).astype(int) + 1, 1, np.array(volume.hu.shape))
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
