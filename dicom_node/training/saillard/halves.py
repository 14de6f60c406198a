"""A pelvis in two halves: every femur becomes a right one, for the network has only seen right ones [Saillard2024]."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.volume import Box, Volume, crop

Side = Literal["right", "left"]
SIDES: tuple[Side, Side] = ("right", "left")
VALUES: dict[Side, str] = {"right": "femur_right", "left": "femur_left"}
"""Key of ``inference.labels`` of a side."""

BODY_HU = -300.0
"""Tissue and not air, lung or clothing [m] assumption."""
BODY_DEPTH_MM = 60.0
"""Tissue this deep from front to back is body and not table or arm [m] assumption."""
OVERLAP_MM = 30.0
"""By which a half reaches over the middle: bodies lie askew; femoral heads are 85 mm off the middle [m] assumption."""
WHOLE_PELVIS_MM = 250.0
"""A narrower field of view shows one hip, and is not cut; the paper's fields were 360 and 200 mm [Saillard2024]."""

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
"""Left to right in patient coordinates; where the plane lies does not matter, for a registration follows."""


@dataclass(frozen=True, slots=True)
class Half:
    """Part of a scan, as if it showed a right femur.

    Attributes
    ----------
    side
        Whose femur it is.
    volume
        The voxels, untouched: a view into the scan.
    box
        Where they lie in the scan.
    """

    side: Side
    volume: Volume = field(repr=False)
    box: Box

    @property
    def affine(self) -> NDArray[np.float64]:
        """Index to mm, in a patient whose left is mirrored to the right."""
        return MIRROR @ self.volume.affine_lps if self.side == "left" else self.volume.affine_lps


def halves_of(upright: Volume) -> dict[Side, Half]:
    """Cut a scan in canonical order.

    Returns
    -------
    dict
        Both sides. Where the scan shows one hip only, both are the whole scan: which of them it is, the
        registration tells.
    """
    columns = upright.hu.shape[2]
    spans = dict.fromkeys(SIDES, slice(0, columns))
    if not shows_one_hip(upright):
        middle, overlap = body_middle(upright), OVERLAP_MM / upright.spacing_mm[2]
        spans = {
            "right": slice(0, min(columns, math.ceil(middle + overlap))),
            "left": slice(max(0, math.floor(middle - overlap)), columns),
        }
    found: dict[Side, Half] = {}
    for side in SIDES:
        box = (slice(0, upright.hu.shape[0]), slice(0, upright.hu.shape[1]), spans[side])
        found[side] = Half(side, crop(upright, box), box)
    return found


def shows_one_hip(upright: Volume) -> bool:
    """Whether a scan in canonical order is too narrow to show both hips."""
    return upright.hu.shape[2] * upright.spacing_mm[2] < WHOLE_PELVIS_MM


def body_middle(upright: Volume) -> float:
    """Return the column in the middle of the body; that of the array where no body is seen."""
    step = max(1, upright.hu.shape[0] // 64)
    depth = (upright.hu[::step] > BODY_HU).sum(axis=1).mean(axis=0) * upright.spacing_mm[1]
    deep = np.flatnonzero(depth >= BODY_DEPTH_MM)
    return float(deep[0] + deep[-1]) / 2 if len(deep) else (upright.hu.shape[2] - 1) / 2
