"""Label maps against reference label maps, structure by structure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.strength.image_files import FORMATS, GridFile, format_of, read_grid
from inference.labels import BY_VALUE
from inference.metrics import dice, hd95_mm, iou, surface_distance_mm

SAME_PLACE_MM = 0.01
"""Grids agree when no corner differs by more: a rounding of headers."""

LIMIT_BYTES = 4 * 2**30


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
    hd95_mm, surface_mm
        95th percentile and mean of the surface distances, mm; infinite where one of the two masks is empty.
    volume_ml, reference_ml
        Of the mask and of the reference, ml.
    """

    case: str
    structure: str
    dice: float
    iou: float
    hd95_mm: float
    surface_mm: float
    volume_ml: float
    reference_ml: float


def pair_files(masks: Path, references: Path) -> tuple[tuple[Path, Path], ...]:
    """Pair the label maps of two folders, or two files, by name.

    Raises
    ------
    ConfigurationError
        When a folder is missing or empty, or a mask has no reference of its name or the reverse.
    """
    if masks.is_file() and references.is_file():
        return ((masks, references),)
    found = {}
    for folder in (masks, references):
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is not a folder; name two folders, or two files, of label maps.")
        found[folder] = {_case(path): path for path in sorted(folder.iterdir()) if format_of(path) is not None}
    ours, theirs = found[masks], found[references]
    alone = sorted(set(ours) ^ set(theirs))
    if alone:
        raise ConfigurationError(
            f"{len(alone)} label maps have no counterpart of the same name, the first is {alone[0]}; "
            "leave such cases out by moving them, so that none is left out unseen."
        )
    if not ours:
        raise ConfigurationError(f"{masks} holds no label map; expected files ending in {', '.join(FORMATS)}.")
    return tuple((ours[name], theirs[name]) for name in ours)


def score_masks(pairs: Sequence[tuple[Path, Path]], on_case: Callable[[str], object]) -> tuple[MaskScore, ...]:
    """Score every structure that either map of a pair shows; ``on_case`` is told each case before it is read.

    Raises
    ------
    JobRejected
        When a file is no label map, or the two of a pair are not on one grid.
    """
    scores: list[MaskScore] = []
    for mask, reference in pairs:
        on_case(_case(mask))
        scores += _score(_case(mask), read_grid(mask, LIMIT_BYTES), read_grid(reference, LIMIT_BYTES))
    return tuple(scores)


def _score(case: str, mask: GridFile, reference: GridFile) -> list[MaskScore]:
    if mask.values.shape != reference.values.shape or not _same_place(mask, reference):
        raise JobRejected(f"The two label maps of {case} lie on different grids; resample one to the other first.")
    lengths = np.linalg.norm(mask.affine_lps[:3, :3], axis=0)
    spacing_mm = (float(lengths[0]), float(lengths[1]), float(lengths[2]))
    voxel_ml = float(np.prod(lengths)) / 1000.0
    scores = []
    for value in sorted({*_labels(mask, case), *_labels(reference, case)}):
        one, other = mask.values == value, reference.values == value
        scores.append(
            MaskScore(
                case=case,
                structure=BY_VALUE[value].key if value in BY_VALUE else f"label {value}",
                dice=dice(one, other),
                iou=iou(one, other),
                hd95_mm=hd95_mm(one, other, spacing_mm),
                surface_mm=surface_distance_mm(one, other, spacing_mm),
                volume_ml=int(np.count_nonzero(one)) * voxel_ml,
                reference_ml=int(np.count_nonzero(other)) * voxel_ml,
            )
        )
    return scores


def _labels(grid: GridFile, case: str) -> list[int]:
    values = np.unique(grid.values)
    if values.size > 256 or not np.array_equal(values, np.round(values)) or values.min() < 0:
        raise JobRejected(f"A file of {case} is no label map: expected at most 255 whole labels above 0.")
    return [int(value) for value in values if value != 0]


def _same_place(one: GridFile, other: GridFile) -> bool:
    corners = np.array([[0.0, 0.0, 0.0, 1.0], [*one.values.shape, 1.0]]).T
    return bool(np.allclose(one.affine_lps @ corners, other.affine_lps @ corners, rtol=0.0, atol=SAME_PLACE_MM))


def _case(path: Path) -> str:
    return next(
        path.name[: -len(suffix)] for suffix in sorted(FORMATS, key=len)[::-1] if path.name.lower().endswith(suffix)
    )
