"""Masks against reference masks, structure by structure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dicom_node.evaluation.mask_files import OWN, BoneMap, Labels, MaskFiles, read_pair
from inference.labels import BY_VALUE
from inference.metrics import dice, iou, surface_agreement, voxel_auc

SAME_BONE = 0.5
"""Dice above which two masks show one bone: a mask has this with one structure of the reference at most."""

SHOWN_STRANGERS = 8


@dataclass(frozen=True, slots=True)
class MaskScore:
    """One structure of one case.

    Attributes
    ----------
    case
        Name of the file without its ending, or of the folder.
    structure
        Key of ``inference.labels``.
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


@dataclass(frozen=True, slots=True)
class MaskScores:
    """What a comparison gave, and what a reader has to know of it.

    Attributes
    ----------
    scores
        One a case and structure.
    notes
        Sentences: what was left out, and vertebrae that are not comparable.
    """

    scores: tuple[MaskScore, ...]
    notes: tuple[str, ...]


def score_masks(
    pairs: Sequence[tuple[MaskFiles, MaskFiles]],
    on_case: Callable[[str], object],
    vocabularies: tuple[str, str] = (OWN, OWN),
) -> MaskScores:
    """Score every structure that either mask of a pair shows; ``on_case`` is told each case before it is read.

    Parameters
    ----------
    pairs
        From ``pair_files``.
    on_case
        Takes the name of a case.
    vocabularies
        Whose label values the maps of masks and of references have, keys of ``VOCABULARIES``.

    Raises
    ------
    JobRejected
        When a file is no mask, or the two of a pair are not on one grid.
    """
    scores: list[MaskScore] = []
    strangers: tuple[set[str], set[str]] = (set(), set())
    unlike: list[str] = []
    for mask, reference in pairs:
        on_case(mask.case)
        ours, theirs = read_pair(mask, reference, vocabularies)
        for known, one in zip(strangers, (ours, theirs), strict=True):
            known |= one.strangers
        if ours.may_be_whole != theirs.may_be_whole and ours.has_vertebrae and theirs.has_vertebrae:
            unlike.append(mask.case)
        scores += _score(mask.case, ours, theirs)
    return MaskScores(tuple(scores), (*_left_out(strangers, vocabularies), *_unlike_vertebrae(unlike)))


def _left_out(strangers: tuple[set[str], set[str]], vocabularies: tuple[str, str]) -> Iterator[str]:
    for whose, found, vocabulary in zip(("masks", "references"), strangers, vocabularies, strict=True):
        if found:
            ordered = sorted(found, key=lambda one: (len(one), one))
            more = " and others" if len(found) > SHOWN_STRANGERS else ""
            yield (
                f"Left out: {len(found)} labels of the {whose} (read as {vocabulary}'s) are no bone this node "
                f"measures: {', '.join(ordered[:SHOWN_STRANGERS])}{more}."
            )


def _unlike_vertebrae(cases: list[str]) -> Iterator[str]:
    if cases:
        yield (
            f"In {len(cases)} cases (the first is {cases[0]}) one of the two may show whole vertebrae and the other "
            "their bodies: figures of vertebrae then say how large the arches are, not how good a mask is."
        )


def _score(case: str, mask: BoneMap, reference: BoneMap) -> list[MaskScore]:
    lengths = np.linalg.norm(mask.affine_lps[:3, :3], axis=0)
    spacing_mm = (float(lengths[0]), float(lengths[1]), float(lengths[2]))
    voxel_ml = float(np.prod(lengths)) / 1000.0
    ours, theirs = _present(mask.labels), _present(reference.labels)
    fitting = _fitting(mask.labels, reference.labels, ours, theirs)
    scores = []
    for value in sorted({*ours, *theirs}):
        one, other = mask.labels == value, reference.labels == value
        surfaces = surface_agreement(one, other, spacing_mm)
        scores.append(
            MaskScore(
                case=case,
                structure=BY_VALUE[value].key,
                dice=dice(one, other),
                iou=iou(one, other),
                auc=voxel_auc(one, other),
                hd_mm=surfaces.hd_mm,
                hd95_mm=surfaces.hd95_mm,
                surface_mm=surfaces.mean_mm,
                volume_ml=int(np.count_nonzero(one)) * voxel_ml,
                reference_ml=int(np.count_nonzero(other)) * voxel_ml,
                fits_better=BY_VALUE[fitting[value]].key if value in fitting else "",
            )
        )
    return scores


def _present(labels: Labels) -> list[int]:
    return [int(value) for value in np.unique(labels) if value != 0]


def _fitting(mask: Labels, reference: Labels, ours: list[int], theirs: list[int]) -> dict[int, int]:
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
