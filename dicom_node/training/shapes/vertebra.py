"""One vertebra as an implicit solid: body, pedicles, laminae, processes, from sizes by level.

Its frame: origin in the middle of the body, x to the left, y to the back, z to the head, in mm. Every part is a
function that is negative inside and about the distance in mm near its surface; the vertebra is their smooth
union. The sizes are means of adults [Panjabi1991] [Panjabi1992] as remembered, rounded [m]; persons differ
from them by the drawn scales.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of one level in mm and degrees.

    Attributes
    ----------
    width_mm, depth_mm, height_mm
        Of the body: across, front to back, and between the endplates' middles.
    wedge_deg
        How much the endplates open to the front (negative: to the back).
    disc_mm, disc_deg
        The disc below: height, and opening to the front.
    pedicle_mm
        Width and height of a pedicle.
    canal_mm
        Width and depth of the spinal canal.
    spinous_mm, spinous_drop
        Length of the spinous process behind the canal, and how far its tip hangs, as a share of the height.
    transverse_mm
        From the middle to a transverse process's tip.
    """

    width_mm: float
    depth_mm: float
    height_mm: float
    wedge_deg: float
    disc_mm: float
    disc_deg: float
    pedicle_mm: tuple[float, float]
    canal_mm: tuple[float, float]
    spinous_mm: float
    spinous_drop: float
    transverse_mm: float


SIZES: dict[str, Size] = {
    "T7": Size(28, 26, 20.0, -4, 4.5, -1, (5.5, 12), (16, 16), 32, 1.5, 31),
    "T8": Size(29, 27, 20.5, -4, 4.5, -1, (6.0, 12), (16, 16), 31, 1.4, 30),
    "T9": Size(30, 28, 21.0, -3, 5.0, -1, (6.5, 13), (16, 15), 29, 1.2, 29),
    "T10": Size(32, 29, 22.0, -3, 5.0, -1, (7.0, 14), (16, 15), 27, 1.0, 28),
    "T11": Size(35, 30, 23.0, -3, 5.5, -1, (8.5, 16), (17, 16), 25, 0.8, 26),
    "T12": Size(39, 31, 24.5, -2, 6.5, 0, (8.0, 16), (20, 17), 25, 0.6, 25),
    "L1": Size(42, 33, 25.5, -1, 7.5, 3, (8.5, 16), (23, 18), 30, 0.5, 37),
    "L2": Size(43.5, 34, 26.0, 0, 9.0, 5, (8.5, 15), (23, 17), 32, 0.45, 40),
    "L3": Size(45.5, 34.5, 26.5, 1, 10.0, 7, (10, 14.5), (24, 17), 33, 0.4, 45),
    "L4": Size(48, 35, 26.5, 3, 11.0, 10, (13, 15), (25, 18), 29, 0.4, 42),
    "L5": Size(50, 35, 26.0, 9, 10.5, 14, (17, 16), (27, 18), 22, 0.35, 42),
}
"""Cranial to caudal."""


@dataclass(frozen=True, slots=True)
class Form:
    """What makes one vertebra differ from its level's size.

    Attributes
    ----------
    scale
        On all lengths.
    front, middle, back
        Heights as shares of the level's height: 1, 1, 1 is sound; less is a fracture (Genant grades begin at
        0.8, 0.75 and 0.6 [Genant1993]).
    dish_mm
        How deep the endplates are hollow (upper, lower).
    waist
        How much narrower the body is at its middle.
    lip_mm
        How far osteophytes reach out at the rims.
    exponent
        Of the body's superellipse outline.
    tilt
        Sideways difference of the height's halves, as a share.
    """

    scale: float = 1.0
    front: float = 1.0
    middle: float = 1.0
    back: float = 1.0
    dish_mm: tuple[float, float] = (1.5, 1.8)
    waist: float = 0.1
    lip_mm: float = 0.0
    exponent: float = 2.4
    tilt: float = 0.0


def body_value(points_mm: Points, size: Size, form: Form) -> Values:
    """Return about how far points (n, 3) are outside of the vertebral body, negative inside."""
    x, y, z = points_mm.T / form.scale
    half_x, half_y, half_z = size.width_mm / 2, size.depth_mm / 2, size.height_mm / 2
    lip = form.lip_mm * np.clip(np.abs(z) / half_z, 0, 1) ** 6
    narrow = 1 - form.waist * (1 - np.clip(z / half_z, -1, 1) ** 2)
    a, b = half_x * narrow + lip, half_y * narrow + lip
    radius = np.hypot(x, y)
    reach = (np.abs(x / a) ** form.exponent + np.abs(y / b) ** form.exponent) ** (1 / form.exponent)
    side = radius - radius / np.maximum(reach, 1e-6)
    rear = y - b + 0.16 * half_y * np.exp(-((x / (0.45 * half_x)) ** 2))
    side = smooth_max(side, rear, 2.0)
    centred = np.clip(1 - reach**2, 0, 1)
    slope = np.tan(np.deg2rad(size.wedge_deg)) / 2
    share = form.middle + (form.front - form.middle) * np.clip(-y / half_y, 0, 1)
    share = share + (form.back - form.middle) * np.clip(y / half_y, 0, 1) + form.tilt * x / half_x
    top = half_z * (2 * share - 1) - slope * y - form.dish_mm[0] * centred
    bottom = form.dish_mm[1] * centred - half_z + slope * y
    return smooth_max(side, smooth_max(z - top, bottom - z, 0.5), 1.5) * form.scale


def arch_value(points_mm: Points, level: str, form: Form) -> Values:
    """Return about how far points (n, 3) are outside of the posterior elements, negative inside."""
    size = SIZES[level]
    x, y, z = points_mm.T / form.scale
    x = np.abs(x)  # both sides alike; the vertebra's displacement field makes them differ
    mirrored = np.column_stack([x, y, z])
    wall, height = size.depth_mm / 2, size.height_mm
    px = (size.canal_mm[0] + size.pedicle_mm[0]) / 2
    canal = wall + size.canal_mm[1]
    lumbar = level.startswith("L")
    spread = 2.0 if lumbar else 0.0
    drop = -size.spinous_drop * height
    half_pedicle = (size.pedicle_mm[0] / 2, 6.0, size.pedicle_mm[1] / 2)
    spine_half, wing_back = (9.0, 13.0) if lumbar else (4.5, 22.0)
    upper, lower = 0.58 * height, -0.62 * height
    bars = (
        ((px, wall - 5, 0.22 * height), (px, wall + 9, 0.2 * height), half_pedicle),
        ((px + spread, wall + 10, 0.2 * height), (px + 1.5 * spread, wall + 10, upper), (4.5, 4.5, 5)),
        ((px, wall + 13, 0.15 * height), (px - spread, wall + 16, lower), (4.5, 4.5, 5)),
        ((px - 1, wall + 12, -0.05 * height), (0, canal + 3.5, -0.2 * height), (3.2, 3.2, 0.32 * height)),
        ((0, canal + 5, -0.2 * height), (0, canal + size.spinous_mm, drop), (3.2, 5, spine_half)),
        ((px + 2, wall + 9, 0.15 * height), (size.transverse_mm, wall + wing_back, 0.25 * height), (4, 4, 5)),
    )  # pedicle, upper and lower articular process, lamina, spinous process, transverse process
    parts = [_bar(mirrored, *bar) for bar in bars]
    value = parts[0]
    for part in parts[1:]:
        value = -smooth_max(-value, -part, 1.5)
    return value * form.scale


def _bar(
    points: Points, start: tuple[float, float, float], end: tuple[float, float, float], half: tuple[float, float, float]
) -> Values:
    """About the distance to a capsule whose cross-section has other half widths along each axis."""
    stretch = np.array(half)
    scaled, first, last = points / stretch, np.array(start) / stretch, np.array(end) / stretch
    along = last - first
    share = np.clip((scaled - first) @ along / max(along @ along, 1e-9), 0, 1)
    norm = np.linalg.norm(scaled - first - share[:, None] * along, axis=1)
    return (norm - 1) * float(stretch.min())


def smooth_max(a: Values, b: Values, width: float) -> Values:
    """Return the larger value, rounded off where the two differ by less than ``width``."""
    mix = np.clip(1 - np.abs(a - b) / width, 0, 1)
    return np.maximum(a, b) + mix**2 * width / 4
