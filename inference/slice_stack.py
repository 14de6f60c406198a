"""Whether slices form one regular stack, and in which order: geometry only, no DICOM.

Positions are centres of the first pixel sent, LPS in mm. Every tolerance is named here with its source.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import DuplicateSlices, GantryTilt, IrregularSpacing, MissingSlices, TooFewSlices

MIN_SLICES = 3
"""Fewest slices whose spacing can be seen to be regular: two gaps."""

MIN_STACK_MM = 20.0
"""Shortest stack that can hold a bone: below the height of a lumbar vertebral body, 25 to 30 mm [m]
assumption."""

SPACING_TOLERANCE = 0.01
"""Allowed deviation of one gap from the median gap, as a fraction; as highdicom.spatial 0.28 allows."""

POSITION_ROUNDING_MM = 0.02
"""Positions written with two decimals make gaps wrong by up to this, whatever the spacing [m] assumption."""

TILT_TOLERANCE_DEG = 0.1
"""Allowed angle between the stack and the slice normal: 0.5 mm of shear over 300 mm, below one pixel."""

POSITIONS_SHOWN = 5
"""How many positions a message lists before it says how many more there are."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceStack:
    """A regular stack of slices.

    Attributes
    ----------
    order
        Index of the slice given for every place along the normal, ascending.
    step_mm : (3,) float64 array
        Vector from one slice to the next, LPS.
    """

    order: tuple[int, ...]
    step_mm: NDArray[np.float64]


def stack_slices(positions_mm: NDArray[np.float64], normal: NDArray[np.float64]) -> SliceStack:
    """Order slices along their normal and check that they are one regular, unsheared stack.

    Parameters
    ----------
    positions_mm : (n, 3) float64 array
        Position of every slice in any order, LPS.
    normal : (3,) float64 array
        Unit normal that all slices share, LPS.

    Returns
    -------
    SliceStack

    Raises
    ------
    TooFewSlices, DuplicateSlices, GantryTilt, MissingSlices, IrregularSpacing
        See ``inference.errors``.
    """
    _check_count(len(positions_mm))
    heights = positions_mm @ normal
    order = np.argsort(heights, kind="stable")
    heights = heights[order]
    _check_duplicates(heights)
    _check_length(heights)
    _check_shear(positions_mm[order], normal)
    _check_gaps(heights)
    first, last = positions_mm[order[0]], positions_mm[order[-1]]
    return SliceStack(tuple(int(place) for place in order), (last - first) / (len(order) - 1))


def _check_count(count: int) -> None:
    """Refuse a stack in which spacing cannot be judged."""
    if count < MIN_SLICES:
        raise TooFewSlices(f"Found {count} slices; expected at least {MIN_SLICES}. Send the whole series.")


def _check_length(heights: NDArray[np.float64]) -> None:
    """Refuse a stack too short to hold a bone."""
    length = float(heights[-1] - heights[0])
    if length < MIN_STACK_MM:
        raise TooFewSlices(
            f"Found {len(heights)} slices over {length:.1f} mm; expected at least {MIN_STACK_MM:g} mm, "
            "less than one vertebral body. Send the whole series."
        )


def _check_duplicates(heights: NDArray[np.float64]) -> None:
    """Refuse two slices at one position."""
    gaps = np.diff(heights)
    doubles = heights[1:][gaps <= POSITION_ROUNDING_MM]
    if doubles.size:
        raise DuplicateSlices(
            f"Found {doubles.size} slices at a position that another slice has, at {_listed(doubles)}; "
            "expected one slice at every position. Send one phase, or one reconstruction, in a series."
        )


def _check_shear(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    """Refuse a stack whose direction is not the slice normal."""
    way = positions[-1] - positions[0]
    along = float(way @ normal)
    tilt_deg = float(np.degrees(np.arctan2(np.linalg.norm(way - along * normal), along)))
    if tilt_deg > TILT_TOLERANCE_DEG:
        raise GantryTilt(
            f"Found slices stacked at {tilt_deg:.2f} degrees to their normal (gantry tilt); expected at most "
            f"{TILT_TOLERANCE_DEG:g} degrees. Send a reconstruction without tilt."
        )


def _check_gaps(heights: NDArray[np.float64]) -> None:
    """Refuse missing slices and irregular spacing."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    tolerance = max(SPACING_TOLERANCE * usual, POSITION_ROUNDING_MM)
    steps = np.maximum(np.rint(gaps / usual), 1)
    odd = np.abs(gaps - steps * usual) > tolerance * steps
    if odd.any():
        raise IrregularSpacing(
            f"Found slice distances from {gaps.min():.3f} to {gaps.max():.3f} mm, usually {usual:.3f} mm, "
            f"irregular after {_listed(heights[:-1][odd])}; expected one distance within {tolerance:.3f} mm. "
            "Send one reconstruction with constant spacing."
        )
    missing = int(steps.sum()) - len(gaps)
    if missing:
        raise MissingSlices(
            f"Found {missing} slices missing after {_listed(heights[:-1][steps > 1])} along the slice "
            f"normal; expected a slice every {usual:.3f} mm, {len(heights) + missing} in all. Send them."
        )


def _listed(heights_mm: NDArray[np.float64]) -> str:
    """List positions for a message, the first few of many."""
    shown = ", ".join(f"{height:.1f}" for height in heights_mm[:POSITIONS_SHOWN])
    more = len(heights_mm) - POSITIONS_SHOWN
    return f"{shown} mm" + (f" and {more} more" if more > 0 else "")
