"""Model problems with known answers, and a synthetic femur: for tests, benchmarks and examples.

Numbers are mm, N, MPa. The answers come from closed forms named in each docstring.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SyntheticFemur:
    """A femur of ball, cylinders and a cone, made to be recognised and computed on.

    Attributes
    ----------
    rho_qct_mg_per_cm3 : (slice, row, column) array
        Dense shell around a lighter core.
    mask : (slice, row, column) bool array
        The bone.
    spacing_mm
        Voxel spacing.
    side
        ``R`` or ``L``; left is the mirror image of right.
    head_centre_mm, head_radius_mm
        Of the ball, LPS relative to voxel (0, 0, 0).
    """

    rho_qct_mg_per_cm3: NDArray[np.float64]
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    side: str
    head_centre_mm: tuple[float, float, float]
    head_radius_mm: float


HEAD_RADIUS_MM = 24.0
NECK_RADIUS_MM = 17.0
SHAFT_RADIUS_MM = 15.0
NECK_SHAFT_DEG = 127.0
NECK_LENGTH_MM = 55.0
"""From the head's centre to the shaft's axis: a horizontal offset of 44 mm."""

TROCHANTER_RADIUS_MM = 18.0
CORTEX_MM = 3.0
CORTEX_MG_PER_CM3 = 900.0
CORE_MG_PER_CM3 = 200.0


def synthetic_femur(
    side: str = "R",
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    shaft_mm: float = 170.0,
    margin_mm: float = 6.0,
) -> SyntheticFemur:
    """Make a femur: head, neck, trochanteric mass and shaft, a shell of cortex around a trabecular core.

    Parameters
    ----------
    side
        ``R`` or ``L``.
    spacing_mm
        Voxel spacing along (slice, row, column).
    shaft_mm
        How far the bone reaches below the head's centre; it ends at the volume's lowest slice.
    margin_mm
        Empty space on the other sides.
    """
    drop = NECK_LENGTH_MM * np.cos(np.radians(180 - NECK_SHAFT_DEG))
    offset = NECK_LENGTH_MM * np.sin(np.radians(180 - NECK_SHAFT_DEG))
    low = np.array([-offset - TROCHANTER_RADIUS_MM - 8 - margin_mm, -HEAD_RADIUS_MM - margin_mm, -shaft_mm])
    high = np.array([HEAD_RADIUS_MM + margin_mm] * 3)
    z, y, x = (
        low[2 - axis] + (np.arange(int((high - low)[2 - axis] / spacing_mm[axis])) + 0.5) * spacing_mm[axis]
        for axis in range(3)
    )
    grid_points = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1])
    base = np.array([-offset, 0.0, -drop])
    depth = np.maximum.reduce(
        (
            HEAD_RADIUS_MM - _distance_to_segment(grid_points, np.zeros(3), np.zeros(3)),
            NECK_RADIUS_MM - _distance_to_segment(grid_points, np.zeros(3), base),
            SHAFT_RADIUS_MM - _distance_to_segment(grid_points, base, base - [0, 0, 1000.0]),
            TROCHANTER_RADIUS_MM - _distance_to_segment(grid_points, base - [8.0, 0, -18.0], base - [4.0, 0, 12.0]),
        )
    )
    rho = np.where(depth > CORTEX_MM, CORE_MG_PER_CM3, CORTEX_MG_PER_CM3)
    mask = depth > 0
    centre = (-low) - np.array(spacing_mm)[::-1] / 2
    if side == "L":
        rho, mask = rho[..., ::-1].copy(), mask[..., ::-1].copy()
        centre[0] = (len(x) - 1) * spacing_mm[2] - centre[0]
    return SyntheticFemur(
        np.where(mask, rho, 0.0),
        mask,
        spacing_mm,
        side,
        (float(centre[0]), float(centre[1]), float(centre[2])),
        HEAD_RADIUS_MM,
    )


def _distance_to_segment(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance of points (3, ...) to a segment."""
    along = end - start
    length = float(along @ along)
    offset = points - start[:, None, None, None]
    share = np.clip(np.tensordot(along, offset, axes=1) / length, 0, 1) if length > 0 else 0.0
    return np.asarray(np.linalg.norm(offset - share * along[:, None, None, None], axis=0))


def bar_elongation_mm(force_n: float, length_mm: float, area_mm2: float, modulus_mpa: float) -> float:
    """Return F L / (E A), the elongation of a bar pulled along its axis with free sides."""
    return force_n * length_mm / (modulus_mpa * area_mm2)


def cantilever_deflection_mm(
    force_n: float,
    length_mm: float,
    width_mm: float,
    height_mm: float,
    modulus_mpa: float,
    poisson_ratio: float,
) -> float:
    """Return the tip deflection of an end-loaded cantilever by Timoshenko's beam theory.

    F L^3 / (3 E I) + F L / (k G A), with the shear coefficient of a rectangle k = 10 (1 + nu) / (12 + 11 nu)
    [Cowper1966].
    """
    inertia = width_mm * height_mm**3 / 12
    shear_modulus = modulus_mpa / (2 * (1 + poisson_ratio))
    shear = 10 * (1 + poisson_ratio) / (12 + 11 * poisson_ratio)
    bending = force_n * length_mm**3 / (3 * modulus_mpa * inertia)
    return bending + force_n * length_mm / (shear * shear_modulus * width_mm * height_mm)
