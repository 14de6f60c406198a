"""A synthetic vertebra with known endplates: for tests, benchmarks and examples."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Point = tuple[float, float, float]

HALF_WIDTH_MM, HALF_DEPTH_MM = 23.0, 16.0
"""Half axes of the body's elliptic section, side to side and front to back: a lumbar vertebra's [m]."""

WAIST = 0.08
"""The section half way up is narrower by this fraction."""

SHELL_MM = 1.5
SHELL_MG_PER_CM3 = 400.0
CORE_MG_PER_CM3 = 130.0
"""Density of cortex as a clinical scanner blurs it, and of trabecular bone [m]."""

MARGIN_MM = 8.0


@dataclass(frozen=True, slots=True)
class SyntheticVertebra:
    """A vertebra and what is known about it.

    Attributes
    ----------
    rho_qct_mg_per_cm3 : (slice, row, column) array
        Dense shell around a lighter core, 0 outside.
    mask : (slice, row, column) bool array
        The bone.
    body : (slice, row, column) bool array
        The bone without its arch.
    spacing_mm
        Voxel spacing along (slice, row, column).
    axis
        Unit vector from the lower to the upper endplate's centre, LPS.
    superior_normal, inferior_normal
        Of the endplates, out of the body.
    height_mm
        Distance of the endplates' centres.
    """

    rho_qct_mg_per_cm3: Doubles = field(repr=False)
    mask: NDArray[np.bool_] = field(repr=False)
    body: NDArray[np.bool_] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    axis: Point
    superior_normal: Point
    inferior_normal: Point
    height_mm: float


def synthetic_vertebra(
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    height_mm: float = 27.0,
    tilt_deg: float = 0.0,
    wedge_deg: float = 0.0,
    lean_deg: float = 0.0,
    has_arch: bool = False,
    margin_mm: float = MARGIN_MM,
) -> SyntheticVertebra:
    """Make a vertebral body between two planes, with or without pedicles, laminae and a spinous process.

    Parameters
    ----------
    spacing_mm
        Voxel spacing along (slice, row, column).
    height_mm
        Distance of the endplates' centres.
    tilt_deg
        The body's upper end is turned forwards by this angle, as in lordosis.
    wedge_deg
        Angle between the endplates, open to the front, half of it on either side.
    lean_deg
        The body's upper end is turned to the patient's left by this angle, as in scoliosis.
    has_arch
        Add the arch.
    margin_mm
        Empty space around the bone.
    """
    turn = _about_x(np.radians(tilt_deg)) @ _about_y(np.radians(lean_deg))
    z, y, x = _grid_mm(spacing_mm, height_mm, has_arch, turn, margin_mm)
    points = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1])
    own = np.tensordot(turn.T, points, axes=1)
    slope = np.tan(np.radians(wedge_deg / 2))
    depth = _body_depth(own, height_mm, slope)
    body = depth > 0
    mask = body | (_arch(own, height_mm) if has_arch else False)
    rho = np.where(body, np.where(depth > SHELL_MM, CORE_MG_PER_CM3, SHELL_MG_PER_CM3), SHELL_MG_PER_CM3)
    normal = np.array([0.0, slope, 1.0]) / np.hypot(slope, 1.0)
    return SyntheticVertebra(
        rho_qct_mg_per_cm3=np.where(mask, rho, 0.0),
        mask=mask,
        body=body,
        spacing_mm=spacing_mm,
        axis=_point(turn @ [0, 0, 1]),
        superior_normal=_point(turn @ normal),
        inferior_normal=_point(turn @ (normal * (1, 1, -1))),
        height_mm=height_mm,
    )


def _grid_mm(
    spacing_mm: tuple[float, float, float], height_mm: float, has_arch: bool, turn: Doubles, margin_mm: float
) -> list[Doubles]:
    """Return the places of voxel centres along (slice, row, column) of a box around the turned bone."""
    top = height_mm / 2 + 6
    back = HALF_DEPTH_MM + (45 if has_arch else 0)
    corners = np.array([(u, v, w) for u in (-1, 1) for v in (-HALF_DEPTH_MM, back) for w in (-top, top)])
    corners = (corners * (HALF_WIDTH_MM, 1, 1)) @ turn.T
    low, high = corners.min(axis=0) - margin_mm, corners.max(axis=0) + margin_mm
    return [
        low[2 - axis] + (np.arange(int((high - low)[2 - axis] / step)) + 0.5) * step
        for axis, step in enumerate(spacing_mm)
    ]


def _body_depth(own: Doubles, height_mm: float, slope: float) -> Doubles:
    """Return roughly how deep points lie inside the body, mm; negative outside."""
    x, y, z = own
    top = height_mm / 2 - slope * y
    waist = 1 - WAIST * np.cos(np.pi * z / height_mm)
    wall = (1 - np.hypot(x / (HALF_WIDTH_MM * waist), y / (HALF_DEPTH_MM * waist))) * HALF_DEPTH_MM
    return np.minimum(wall, (top - np.abs(z)) / np.hypot(slope, 1.0))


def _arch(own: Doubles, height_mm: float) -> NDArray[np.bool_]:
    """Return pedicles on the upper half of the body, laminae behind the canal, and a spinous process."""
    x, y, z = own
    high = np.abs(z - height_mm / 5) < 7  # half of a pedicle's height of 14 mm [m]
    pedicles = high & (np.abs(np.abs(x) - 14) < 5) & (y > 0) & (y < 32)  # a pedicle of 10 mm [m]
    laminae = (np.abs(z) < 9) & (np.abs(x) < 19) & (y >= 30) & (y < 36)  # behind a canal of 14 mm [m]
    spinous = (np.abs(z + 3) < 9) & (np.abs(x) < 3.5) & (y >= 34) & (y < 58)  # of 24 mm [m]
    return np.asarray(pedicles | laminae | spinous)


def _about_x(angle: float) -> Doubles:
    """Return the turn that moves up to the front (-y)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _about_y(angle: float) -> Doubles:
    """Return the turn that moves up to the left (+x)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _point(vector: Doubles) -> Point:
    x, y, z = (float(v) for v in vector)
    return (x, y, z)
