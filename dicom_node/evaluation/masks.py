"""Label maps against reference label maps, structure by structure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.strength.image_files import FORMATS, GridFile, format_of, read_grid
from inference.labels import BY_VALUE
from inference.metrics import dice, iou, surface_agreement, voxel_auc

SAME_PLACE_MM = 0.01
"""Grids agree when no corner differs by more: a rounding of headers."""

LIMIT_BYTES = 4 * 2**30

SAME_BONE = 0.5
"""Dice above which two masks show one bone: a mask has this with one structure of the reference at most."""


@dataclass(frozen=True, slots=True)
class MaskScore:
    """One structure of one case.

    Attributes
    ----------
    case
        Name of the file, without its ending.
    structure
        Key of ``inference.labels``, or ``label N``.
    dice, iou
        0 to 1.
    auc
        Of the mask as a classifier of voxels (``inference.metrics.voxel_auc``); not a number without reference.
    hd_mm, hd95_mm, surface_mm
        Largest, 95th percentile and mean of the surface distances, mm; infinite where one of the two masks is empty.
    volume_ml, reference_ml
        Of the mask and of the reference, ml.
    fits_better
        Structure of the reference that the mask covers instead of its own; empty where it does not.
    """

    case: str
    structure: str
    dice: float
    iou: float
    auc: float
    hd_mm: float
    hd95_mm: float
    surface_mm: float
    volume_ml: float
    reference_ml: float
    fits_better: str


def pair_files(masks: Path, references: Path) -> tuple[tuple[Path, Path], ...]:
    """Pair the label maps of two folders, or two files, by name.

    Raises
    ------
    ConfigurationError
        When a folder is missing or empty, holds a case twice, or a mask has no reference of its name or the reverse.
    """
    if masks.is_file() and references.is_file():
        return ((masks, references),)
    found = {}
    for folder in (masks, references):
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is not a folder; name two folders, or two files, of label maps.")
        found[folder] = _by_name(folder)
    ours, theirs = found[masks], found[references]
    alone = sorted(set(ours) ^ set(theirs))
    if alone:
        raise ConfigurationError(
            f"{len(alone)} files have no counterpart of the same name, the first is {alone[0]}; "
            "leave such cases out by moving them, so that none is left out unseen."
        )
    if not ours:
        raise ConfigurationError(f"{masks} holds no label map; expected files ending in {', '.join(FORMATS)}.")
    return tuple((ours[name], theirs[name]) for name in ours)


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if format_of(path) is None:
            continue
        if case_name(path) in found:
            raise ConfigurationError(f"{folder} holds {case_name(path)} in two formats; leave one of them.")
        found[case_name(path)] = path
    return found


def score_masks(pairs: Sequence[tuple[Path, Path]], on_case: Callable[[str], object]) -> tuple[MaskScore, ...]:
    """Score every structure that either map of a pair shows; ``on_case`` is told each case before it is read.

    Raises
    ------
    JobRejected
        When a file is no label map, or the two of a pair are not on one grid.
    """
    scores: list[MaskScore] = []
    for mask, reference in pairs:
        on_case(case_name(mask))
        scores += _score(case_name(mask), read_grid(mask, LIMIT_BYTES), read_grid(reference, LIMIT_BYTES))
    return tuple(scores)


def _score(case: str, mask: GridFile, reference: GridFile) -> list[MaskScore]:
    if mask.values.shape != reference.values.shape or not _same_place(mask, reference):
        raise JobRejected(f"The two label maps of {case} lie on different grids; resample one to the other first.")
    lengths = np.linalg.norm(mask.affine_lps[:3, :3], axis=0)
    spacing_mm = (float(lengths[0]), float(lengths[1]), float(lengths[2]))
    voxel_ml = float(np.prod(lengths)) / 1000.0
    ours, theirs = label_values(mask, case), label_values(reference, case)
    fitting = _fitting(mask.values, reference.values, ours, theirs)
    scores = []
    for value in sorted({*ours, *theirs}):
        one, other = mask.values == value, reference.values == value
        surfaces = surface_agreement(one, other, spacing_mm)
        scores.append(
            MaskScore(
                case=case,
                structure=_name(value),
                dice=dice(one, other),
                iou=iou(one, other),
                auc=voxel_auc(one, other),
                hd_mm=surfaces.hd_mm,
                hd95_mm=surfaces.hd95_mm,
                surface_mm=surfaces.mean_mm,
                volume_ml=int(np.count_nonzero(one)) * voxel_ml,
                reference_ml=int(np.count_nonzero(other)) * voxel_ml,
                fits_better=_name(fitting[value]) if value in fitting else "",
            )
        )
    return scores


def _fitting(
    mask: NDArray[np.generic], reference: NDArray[np.generic], ours: list[int], theirs: list[int]
) -> dict[int, int]:
    """Return for each label that covers another structure of the reference than its own, which one that is."""
    if not ours or not theirs:
        return {}
    shown = (mask != 0) & (reference != 0)
    pairs = np.searchsorted(ours, mask[shown]) * len(theirs) + np.searchsorted(theirs, reference[shown])
    both = np.bincount(pairs, minlength=len(ours) * len(theirs)).reshape(len(ours), len(theirs))
    sizes = [
        np.array([np.count_nonzero(grid == one) for one in some]) for grid, some in ((mask, ours), (reference, theirs))
    ]
    overlap = 2.0 * both / (sizes[0][:, None] + sizes[1][None, :])
    best = overlap.argmax(axis=1)
    return {
        label: theirs[best[row]]
        for row, label in enumerate(ours)
        if theirs[best[row]] != label and overlap[row, best[row]] > SAME_BONE
    }


def _name(label: int) -> str:
    return BY_VALUE[label].key if label in BY_VALUE else f"label {label}"


def label_values(grid: GridFile, case: str) -> list[int]:
    """Return the labels of a map, ascending, without 0.

    Raises
    ------
    JobRejected
        When it is no label map.
    """
    values = np.unique(grid.values)
    if values.size > 256 or not np.array_equal(values, np.round(values)) or values.min() < 0:
        raise JobRejected(f"A file of {case} is no label map: expected at most 255 whole labels above 0.")
    return [int(value) for value in values if value != 0]


def _same_place(one: GridFile, other: GridFile) -> bool:
    corners = np.array([[0.0, 0.0, 0.0, 1.0], [*one.values.shape, 1.0]]).T
    return bool(np.allclose(one.affine_lps @ corners, other.affine_lps @ corners, rtol=0.0, atol=SAME_PLACE_MM))


def case_name(path: Path) -> str:
    """Return the name of a file without its ending, which is what cases are paired by."""
    return next(
        path.name[: -len(suffix)] for suffix in sorted(FORMATS, key=len)[::-1] if path.name.lower().endswith(suffix)
    )
