"""Heights of a vertebral body in front, in the middle and at the back, and whether they tell of a deformity.

The three heights and the 25 % rule are Genant's semiquantitative morphometry [Genant1993]; the grade itself is
a reader's judgement and is not given. docs/methods/segmentation-spine.md, step 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.vertebra_bodies import ANGLES, BodySurface

HEIGHT_RATIO_LIMIT = 0.75
"""A loss of 25 % is where a moderate deformity begins [Genant1993]; 20 % is within a 3 mm slice's error."""

L5_RATIO_LIMIT = 0.7
"""L5 is a wedge by nature, lower at the back. [m] assumption."""

DEPTH_SHARES = (0.85, 0.5, 0.15)
"""Where heights are read along the depth from back to front: inside the rims with their osteophytes. [m]."""

HALF_WIDTH_MM = 6.0
"""Heights are means over this much on both sides of the middle. [m] assumption."""


@dataclass(frozen=True, slots=True)
class Heights:
    """Heights of one body in its middle sagittal strip, mm."""

    anterior_mm: float
    middle_mm: float
    posterior_mm: float

    @property
    def all_mm(self) -> tuple[float, float, float]:
        """Anterior, middle and posterior height, mm."""
        return (self.anterior_mm, self.middle_mm, self.posterior_mm)

    @property
    def evidence(self) -> tuple[tuple[str, float], ...]:
        """The heights as a flag's evidence."""
        names = ("anterior_height_mm", "middle_height_mm", "posterior_height_mm")
        return tuple((name, round(value, 1)) for name, value in zip(names, self.all_mm, strict=True))


def heights_of(surface: BodySurface) -> Heights:
    """Read the three heights from a surface's endplates."""
    row = len(surface.heights_mm) // 2
    front_mm, back_mm = surface.radii_mm[row, 0], -surface.radii_mm[row, ANGLES // 2]
    values = [_height_at(surface, back_mm + share * (front_mm - back_mm)) for share in DEPTH_SHARES]
    return Heights(values[0], values[1], values[2])


def _height_at(surface: BodySurface, front_mm: float) -> float:
    left_mm = np.arange(-HALF_WIDTH_MM, HALF_WIDTH_MM + 0.1, 2.0)
    step_mm = surface.columns_mm[1] - surface.columns_mm[0]
    column = [
        (np.full_like(left_mm, front_mm) - surface.columns_mm[0]) / step_mm,
        (left_mm - surface.columns_mm[0]) / step_mm,
    ]
    thickness: NDArray[np.float64] = surface.top_mm - surface.bottom_mm
    return float(ndimage.map_coordinates(thickness, column, order=1, mode="nearest").mean())


def deformity(key: str, heights: Heights, neighbours: Sequence[Heights]) -> str:
    """Say how a body is deformed, or return an empty string.

    Parameters
    ----------
    key
        The level, for example ``L1``.
    heights
        Of this body.
    neighbours
        Of the bodies directly above and below, where they are whole.
    """
    lowest, highest = min(heights.all_mm), max(heights.all_mm)
    limit = L5_RATIO_LIMIT if key == "L5" else HEIGHT_RATIO_LIMIT
    if lowest < limit * highest:
        return (
            f"{key} measures {heights.anterior_mm:.0f} mm in front, {heights.middle_mm:.0f} mm in the middle and "
            f"{heights.posterior_mm:.0f} mm at the back; expected within {1 - limit:.0%} of one another."
        )
    usual = [max(neighbour.all_mm) for neighbour in neighbours]
    if usual and highest < HEIGHT_RATIO_LIMIT * min(usual):
        return (
            f"{key} is {highest:.0f} mm high, its neighbours at least {min(usual):.0f} mm; "
            f"expected within {1 - HEIGHT_RATIO_LIMIT:.0%}."
        )
    return ""
