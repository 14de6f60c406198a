"""A site's cases as femurs on one grid: cut, mirrored, registered, resampled [Saillard2024].

The reference is the longest femur labelled for training, so that the grid holds the others too [m] assumption.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from dicom_node.training.cases import Case, Split
from dicom_node.training.saillard.frame import Frame, Mask, frame_around, laid, laid_mask
from dicom_node.training.saillard.halves import SIDES, VALUES, Half, Side, halves_of
from dicom_node.training.saillard.registration import register
from dicom_node.training.task import Say
from inference.labels import BY_KEY
from inference.volume import Volume

LEAST_INSIDE = 0.98
"""Share of a label that must lie in the half of its side [m] assumption."""
LEAST_ON_GRID = 0.9
"""Share of a label's volume that must lie on the grid; less, and the registration missed [m] assumption."""
SAME_MM = 1e-6
"""Lengths that differ by less are one length, on every machine."""
LEAST_LIKE_REFERENCE = 0.3
"""Dice of a registered label with the reference's; two whole femurs have 0.8 and more [m] assumption."""


@dataclass(frozen=True, slots=True, eq=False)
class Femur:
    """One femur, laid on the frame.

    Attributes
    ----------
    name
        Case and side.
    split
        Where it belongs.
    hu : (slice, row, column) int16 array
    mask : (slice, row, column) bool array
    """

    name: str
    split: Split
    hu: NDArray[np.int16] = field(repr=False)
    mask: Mask = field(repr=False)


def prepared(
    cases: Sequence[Case], spacing_mm: tuple[float, float, float], say: Say
) -> tuple[Frame, tuple[Femur, ...]]:
    """Lay every labelled femur of training and validation on the frame of the reference femur.

    Returns
    -------
    frame
        Of the reference femur.
    femurs
        In the order of the cases, right before left.

    Raises
    ------
    ConfigurationError
        Naming every femur that could not be registered.
    """
    used = [case for case in cases if case.split != "test"]
    frame = _reference([case for case in used if case.split == "train"], spacing_mm, say)
    femurs: list[Femur] = []
    faults: list[str] = []
    for place, case in enumerate(used, start=1):
        say(f"registering scan {place} of {len(used)}")
        volume, labels = case.volume, case.labels
        for side, half, mask in _labelled(volume, labels):
            found, fault = _laid(case, side, half, mask, frame)
            if found is not None:
                femurs.append(found)
            else:
                faults.append(f"{side} femur of {case.name}: {fault}")
    if faults:
        raise ConfigurationError("Mend or remove what could not be registered. " + "; ".join(faults) + ".")
    for split in ("train", "validation"):
        if not any(femur.split == split for femur in femurs):
            raise ConfigurationError(f"No femur is labelled in the cases for {split}.")
    return frame, tuple(femurs)


def _labelled(volume: Volume, labels: NDArray[np.uint8]) -> list[tuple[Side, Half, Mask]]:
    """Return the sides that carry a label, each with its half and mask."""
    halves = halves_of(volume)
    masks = {side: labels == BY_KEY[VALUES[side]].value for side in SIDES}
    return [(side, halves[side], masks[side]) for side in SIDES if masks[side].any()]


def _reference(cases: Sequence[Case], spacing_mm: tuple[float, float, float], say: Say) -> Frame:
    """Make the frame of the longest femur; of several, the first."""
    longest, chosen = 0.0, None
    for place, case in enumerate(cases, start=1):
        say(f"looking for the reference femur: scan {place} of {len(cases)}")
        for side, half, mask in _labelled(case.volume, case.labels):
            slices = np.flatnonzero(mask.any(axis=(1, 2)))
            length = float((slices[-1] - slices[0] + 1) * half.volume.spacing_mm[0])
            if _is_inside(mask, half) and length > longest + SAME_MM:
                longest, chosen = length, (case, side)
    if chosen is None:
        raise ConfigurationError("No femur is labelled on its own side in the cases for training.")
    case, side = chosen
    half, mask = next((half, mask) for own, half, mask in _labelled(case.volume, case.labels) if own == side)
    return frame_around(half, mask[half.box], spacing_mm)


def _laid(case: Case, side: Side, half: Half, mask: Mask, frame: Frame) -> tuple[Femur | None, str]:
    """Register one femur; without one, say why."""
    inside = mask[half.box]
    if not _is_inside(mask, half):
        return None, f"it lies on the other side of the body; is the label of the {side} side on the right bone?"
    pose = register(half, frame)
    if pose.reason:
        return None, pose.reason
    on_grid = laid_mask(inside, half, pose.matrix, frame)
    kept = on_grid.sum() * _voxel_mm3(pose.matrix @ frame.affine) / (inside.sum() * half.volume.voxel_mm3)
    alike = 2 * (on_grid & frame.mask).sum() / (on_grid.sum() + frame.mask.sum())
    if alike < LEAST_LIKE_REFERENCE or kept < LEAST_ON_GRID:
        return None, f"the registration missed the label (overlap {alike:.2f}, {kept:.0%} of it on the grid)"
    hu = np.rint(laid(half, pose.matrix, frame)).astype(np.int16)
    return Femur(f"{case.name} {side}", case.split, hu, on_grid), ""


def _is_inside(mask: Mask, half: Half) -> bool:
    """Whether a label lies in its own half of the body."""
    return bool(mask[half.box].sum() >= LEAST_INSIDE * mask.sum())


def _voxel_mm3(affine: NDArray[np.float64]) -> float:
    return float(abs(np.linalg.det(affine[:3, :3])))
