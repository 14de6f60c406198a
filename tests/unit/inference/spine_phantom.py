"""A drawn trunk: vertebral bodies, discs, canal, arches, ribs, sacrum and ilia of known place and density."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from inference.labels import BY_KEY
from inference.volume import Volume

SPACING_MM = 2.0
SHAPE = (150, 80, 110)
CORTEX_HU, CORE_HU, DISC_HU, MUSCLE_HU, CANAL_HU, AIR_HU = 500.0, 160.0, 80.0, 50.0, 20.0, -1000.0
LEANS_DEG = (20.0, 10.0, 1.0, -7.0, -12.0, -14.0, -12.0)
"""How far the tops of L5 to T11 lean to the front."""
LEVELS = ("L5", "L4", "L3", "L2", "L1", "T12", "T11")
L5_FOOT_MM = (78.0, 86.0)
BODY_HEIGHT_MM, DISC_HEIGHT_MM, DEPTH_MM, WIDTH_MM = 26.0, 8.0, 32.0, 46.0


@dataclass(frozen=True)
class Trunk:
    """What is drawn. ``heights_mm`` overrides single bodies' heights."""

    has_sacrum: bool = True
    rib_levels: tuple[str, ...] = ("T12", "T11")
    left_rib_levels: tuple[str, ...] = ()
    scoliosis_mm: float = 0.0
    heights_mm: tuple[tuple[str, float], ...] = ()


class Pencil:
    """Draws into a range of slices, in (head, back, left) mm."""

    def __init__(self, hu: NDArray[np.float32], truth: NDArray[np.uint8], first: int = 0) -> None:
        self.hu, self.truth = hu, truth
        axes = [np.arange(n, dtype=np.float32) * np.float32(SPACING_MM) for n in hu.shape]
        self.head, self.back, self.left = np.meshgrid(*axes, indexing="ij", sparse=True)
        self.head = self.head + np.float32(first * SPACING_MM)

    def near(self, head_mm: float, reach_mm: float) -> "Pencil":
        """Pencil for the slices within ``reach_mm`` of a height."""
        heads = self.head[:, 0, 0]
        first, last = np.searchsorted(heads, [head_mm - reach_mm, head_mm + reach_mm])
        return Pencil(self.hu[first:last], self.truth[first:last], int(first))

    def frame(self, centre: tuple[float, float, float], lean_rad: float) -> tuple[NDArray[np.float32], ...]:
        """Up, front and left of every voxel about ``centre`` when the axis leans to the front by ``lean_rad``."""
        head, back = self.head - np.float32(centre[0]), self.back - np.float32(centre[1])
        cos, sin = np.float32(np.cos(lean_rad)), np.float32(np.sin(lean_rad))
        return cos * head - sin * back, -sin * head - cos * back, self.left - np.float32(centre[2])


@cache
def draw(trunk: Trunk) -> tuple[Volume, NDArray[np.uint8]]:
    """Draw a trunk; returns the volume and the true label array, which callers must not change."""
    hu = np.full(SHAPE, AIR_HU, dtype=np.float32)
    pencil = Pencil(hu, np.zeros(SHAPE, dtype=np.uint8))
    middle_back, middle_left = SHAPE[1] * SPACING_MM / 2, SHAPE[2] * SPACING_MM / 2
    hu[:, (((pencil.back - middle_back) / 76) ** 2 + ((pencil.left - middle_left) / 106) ** 2)[0] < 1] = MUSCLE_HU
    foot = np.array([L5_FOOT_MM[0], L5_FOOT_MM[1]])
    for number, (level, lean_deg) in enumerate(zip(LEVELS, LEANS_DEG, strict=True)):
        height, lean = dict(trunk.heights_mm).get(level, BODY_HEIGHT_MM), np.deg2rad(lean_deg)
        up = np.array([np.cos(lean), -np.sin(lean)])
        middle = foot + up * height / 2
        centre = (float(middle[0]), float(middle[1]), 110 + trunk.scoliosis_mm * np.sin(number))
        draw_vertebra(pencil, level, centre, float(lean), height)
        if level in (*trunk.rib_levels, *trunk.left_rib_levels):
            draw_ribs(pencil, centre, 78.0 if level == "T12" else 108.0, level in trunk.rib_levels)
        foot = foot + up * (height + DISC_HEIGHT_MM)
    if trunk.has_sacrum:
        draw_sacrum(pencil)
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = SPACING_MM
    affine[3, 3] = 1
    return Volume(pencil.hu, affine), pencil.truth


def draw_vertebra(pencil: Pencil, level: str, centre: tuple[float, float, float], lean: float, height: float) -> None:
    pencil = pencil.near(centre[0], 60.0)
    up, front, left = pencil.frame(centre, lean)
    ellipse = np.hypot(front / (DEPTH_MM / 2), left / (WIDTH_MM / 2))
    body = (ellipse <= 1) & (np.abs(up) <= height / 2)
    core = (np.hypot(front / (DEPTH_MM / 2 - 2), left / (WIDTH_MM / 2 - 2)) <= 1) & (np.abs(up) <= height / 2 - 2)
    disc = (ellipse <= 0.98) & (np.abs(up) > height / 2) & (np.abs(up) <= height / 2 + DISC_HEIGHT_MM / 2)
    ring = np.hypot(front + DEPTH_MM / 2 + 8, left)
    tall = np.abs(up) <= (height + DISC_HEIGHT_MM) / 2 + 1
    lamina = tall & (ring > 8) & (ring <= 12) & (front < -DEPTH_MM / 2 - 8)
    pedicle = (np.abs(up - height / 5) <= 6) & (np.abs(np.abs(left) - 12) <= 3)
    pedicle &= (front < -DEPTH_MM / 2 + 5) & (front > -DEPTH_MM / 2 - 12)
    process = tall & (np.abs(left) <= 3) & (front < -DEPTH_MM / 2 - 18) & (front > -DEPTH_MM / 2 - 40)
    pencil.hu[disc] = DISC_HU
    pencil.hu[lamina | pedicle | process | body] = CORTEX_HU
    pencil.hu[core] = CORE_HU
    pencil.hu[tall & (ring <= 8) & (front < -DEPTH_MM / 2 + 1) & ~body] = CANAL_HU
    pencil.truth[body] = BY_KEY[level].value


def draw_ribs(pencil: Pencil, centre: tuple[float, float, float], reach_mm: float, both_sides: bool) -> None:
    pencil = pencil.near(centre[0], 60.0)
    beside = pencil.left - centre[2]
    beside = np.abs(beside) if both_sides else beside
    down = pencil.head - (centre[0] + 4 - 0.35 * (beside - 22))
    back = pencil.back - (centre[1] + 14 + 0.1 * (beside - 22))
    pencil.hu[(beside > 22) & (beside < reach_mm) & (np.hypot(down, back) <= 5)] = CORTEX_HU


def draw_sacrum(pencil: Pencil) -> None:
    """First sacral segments leaning to the front by 40 degrees, alae, and ilia that rise to L4."""
    up, front, left = pencil.frame((L5_FOOT_MM[0] - 20, L5_FOOT_MM[1] + 13, 110.0), np.deg2rad(40))
    body = (np.abs(up) <= 14) & (np.abs(front) <= 15) & (np.abs(left) <= 23)
    below = (up < -14) & (up > -50) & (np.abs(front + 4) <= 9) & (np.abs(left) <= 18)
    ala = (np.abs(up + 2) <= 12) & (front > -18) & (front <= 8) & (np.abs(left) > 23) & (np.abs(left) <= 46)
    lamina = (up > -50) & (up <= 14) & (np.abs(front + 34) <= 3) & (np.abs(left) <= 20)
    wall = (up > -50) & (up <= 14) & (front < -13) & (front > -34) & (np.abs(np.abs(left) - 14) <= 3)
    canal = (up > -50) & (up <= 18) & (front < -15) & (front > -31) & (np.abs(left) <= 11)
    shell = (np.abs(up) > 12) | (np.abs(front) > 13) | (np.abs(left) > 21)
    pencil.hu[body & shell] = CORTEX_HU
    pencil.hu[body & ~shell] = CORE_HU
    pencil.hu[below | ala | lamina | wall] = CORTEX_HU
    pencil.hu[canal] = CANAL_HU
    beside = np.abs(pencil.left - 110)
    ilium = (np.abs(beside - 56 - 0.25 * (pencil.head - 40)) <= 6) & (pencil.head > 6) & (pencil.head < 128)
    pencil.hu[ilium & (pencil.back > 40) & (pencil.back < 130)] = CORTEX_HU
