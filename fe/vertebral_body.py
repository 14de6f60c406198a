"""The body of a vertebra, cut from its arch where the mask holds both.

The source's model is of the vertebral body [Saillard2024, MekAnOs]; segmenters give whole vertebrae too. Pedicles,
arch and processes are thin beside the body: a ball that fits into the body does not fit into them. What the ball
reaches is the body but for its edges, and how far back it reaches is the back wall. The mask is cut there by a plane
along the endplates' mean normal; nothing else is changed.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from fe.box import box_around
from fe.endplates import find_endplates
from fe.errors import TooThin

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

BALL_SHARE = 0.7
"""Radius of the ball over that of the largest ball in the mask: lumbar pedicles are at most 18 mm wide, 0.65 of a
body's height [m assumption]."""

BACK_PERCENTILE = 99.0
"""The back wall lies where this part of the ball's reach lies before: single voxels of a pedicle's root have no say."""

ARCH_SHARE = 0.08
"""A mask has an arch when this fraction of it lies behind the back wall; a body's own rounded back has a few percent,
an arch 25 to 40 [measured on six vertebrae of one patient, with and without arch]."""

SMOOTH_MM, SMOOTH_VOXELS = 1.5, 0.8
"""Standard deviation of the smoothing before the surface is drawn that shows the endplates: at least the first, and the
second in the largest spacing, else an oblique endplate shows the slices as terraces [measured]."""

LEVEL = 0.5
"""Of the smoothed mask at its surface."""


@dataclass(frozen=True, slots=True)
class VertebralBody:
    """The body alone.

    Attributes
    ----------
    mask : (slice, row, column) bool array
        The body.
    arch_fraction
        Part of the input that was cut off, 0 where the mask had no arch.
    input_voxels
        Voxels of the input's largest connected part.
    """

    mask: Bools = field(repr=False)
    arch_fraction: float
    input_voxels: int


def vertebral_body(mask: Bools, spacing_mm: tuple[float, float, float]) -> VertebralBody:
    """Cut the arch off where the mask has one.

    1. Keep the largest connected part.
    2. Directions: up is the endplates' mean normal; back is from what the ball reaches to what it does not.
    3. Ball: open the mask with a ball of ``BALL_SHARE`` of the largest that fits.
    4. Cut behind the ball's reach; keep the largest connected part.

    Parameters
    ----------
    mask : (slice, row, column) bool array
        One vertebra, canonical order.
    spacing_mm
        Along (slice, row, column).

    Raises
    ------
    EndplatesNotFound
        The mask shows no endplates.
    TooThin
        The mask is about one voxel thick.
    """
    mask = _largest_part(mask)
    opened = _opened(mask, spacing_mm)
    rest = mask & ~opened
    points, is_rest = _points_mm(mask, spacing_mm), rest[mask]
    plates = find_endplates(*mask_surface(mask, spacing_mm))
    up = np.subtract(plates.superior.normal, plates.inferior.normal)
    up /= np.linalg.norm(up)
    back = points[is_rest].mean(axis=0) - points[~is_rest].mean(axis=0) if is_rest.any() else np.array([0.0, 1.0, 0.0])
    back = _across(back if back[1] > 0 else np.array([0.0, 1.0, 0.0]), up)
    wall = float(np.percentile(points[~is_rest] @ back, BACK_PERCENTILE)) + float(np.abs(back[::-1]) @ spacing_mm) / 2
    is_behind = points @ back > wall
    if is_behind.mean() < ARCH_SHARE:
        return VertebralBody(mask, 0.0, int(mask.sum()))
    body = np.zeros_like(mask)
    body[mask] = ~is_behind
    body = _largest_part(body)
    return VertebralBody(body, float(1 - body.sum() / mask.sum()), int(mask.sum()))


def mask_surface(mask: Bools, spacing_mm: tuple[float, float, float]) -> tuple[Doubles, NDArray[np.integer]]:
    """Return points (LPS mm relative to the first voxel's centre) and triangles of a mask's smoothed surface.

    Raises
    ------
    TooThin
        Smoothing leaves nothing.
    """
    sigma_mm = max(SMOOTH_MM, SMOOTH_VOXELS * max(spacing_mm))
    border = int(np.ceil(4 * sigma_mm / min(spacing_mm)))
    box = box_around(mask)
    smooth = ndimage.gaussian_filter(np.pad(mask[box], border).astype(np.float32), [sigma_mm / s for s in spacing_mm])
    if smooth.max() <= LEVEL:
        raise TooThin("The mask is thinner than its voxels can show: nothing is left when it is smoothed.")
    points, triangles, _, _ = marching_cubes(smooth, LEVEL, spacing=spacing_mm)
    first = np.array([(part.start - border) * step for part, step in zip(box, spacing_mm, strict=True)])
    # Triangles come clockwise from outside; (slice, row, column) -> (x, y, z) is a mirror image, which turns them.
    return np.asarray((points + first)[:, ::-1], dtype=np.float64), triangles


def _largest_part(mask: Bools) -> Bools:
    labels, count = ndimage.label(mask)
    return mask if count == 1 else labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _opened(mask: Bools, spacing_mm: tuple[float, float, float]) -> Bools:
    """Return what a ball reaches inside the mask."""
    padded = np.pad(mask, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    radius = BALL_SHARE * float(depth.max())
    reached = ndimage.distance_transform_edt(depth < radius, sampling=spacing_mm) < radius
    return np.asarray(reached[1:-1, 1:-1, 1:-1] & mask)


def _points_mm(mask: Bools, spacing_mm: tuple[float, float, float]) -> Doubles:
    return np.asarray((np.argwhere(mask) * np.array(spacing_mm))[:, ::-1])


def _across(vector: Doubles, axis: Doubles) -> Doubles:
    across = vector - (vector @ axis) * axis
    return np.asarray(across / np.linalg.norm(across))
