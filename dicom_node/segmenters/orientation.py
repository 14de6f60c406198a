"""Arrays as other programs hold them. RAS and LPS are spoken of here and in ``foreign_labels``, nowhere else.

A code names, for the file's axes (i, j, k), where each grows to: R or L, A or P, S or I, as NIfTI programs do. The
array of such a file, as SimpleITK and nnU-Net read it, has the axes (k, j, i).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference.volume import Orientation, Volume, canonical

CANONICAL = {"S": (0, False), "I": (0, True), "P": (1, False), "A": (1, True), "L": (2, False), "R": (2, True)}
"""Letter to the axis of ``inference.volume.canonical`` that runs so, and whether it runs the other way."""
RAS_STEPS = {"R": (0, 1.0), "L": (0, -1.0), "A": (1, 1.0), "P": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}
"""Letter to its axis and sign in the frame that NIfTI counts in."""


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """A volume in another program's order.

    Attributes
    ----------
    hu : (k, j, i) float32 array
    spacing_mm
        Along (k, j, i).
    code
        Orientation of (i, j, k).
    """

    hu: NDArray[np.float32] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    code: str
    upright: Orientation
    turn: Orientation

    def restore(self, labels: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a (k, j, i) array of this order on the grid of the volume it came from."""
        return np.ascontiguousarray(self.upright.restore(self.turn.restore(labels)))

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """Index (i, j, k) to mm in the frame that NIfTI counts in: axis-parallel, the first voxel at the origin."""
        affine = np.eye(4)
        affine[:3, :3] = 0.0
        for column, (letter, step_mm) in enumerate(zip(self.code, reversed(self.spacing_mm), strict=True)):
            row, sign = RAS_STEPS[letter]
            affine[row, column] = sign * step_mm
        return affine


def is_orientation(code: str) -> bool:
    """Tell whether a word is an orientation: three letters, one for every axis of the patient."""
    return len(code) == 3 and set(code) <= set(CANONICAL) and sorted(CANONICAL[one][0] for one in code) == [0, 1, 2]


def turned(volume: Volume, code: str) -> Turned:
    """Turn a volume as another program holds it, without resampling.

    Parameters
    ----------
    volume
        Any orientation; each axis goes to the patient axis it is nearest to.
    code
        For which ``is_orientation`` holds.
    """
    upright, first = canonical(volume)
    letters = [CANONICAL[letter] for letter in reversed(code)]
    axes = (letters[0][0], letters[1][0], letters[2][0])
    second = Orientation(axes, (letters[0][1], letters[1][1], letters[2][1]))
    spacing = upright.spacing_mm
    return Turned(
        hu=np.ascontiguousarray(second.apply(upright.hu)),
        spacing_mm=(spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]),
        code=code,
        upright=first,
        turn=second,
    )
