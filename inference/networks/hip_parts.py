"""From the network's classes to hips: which femur is which, its head, and whether it may be measured.

The checks are those of the classical segmenter (``inference.hip_check``); the surface is for ``inference.refinement``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from inference.errors import SegmentationError
from inference.femur import WORK_STEP_MM, find_femoral_head
from inference.hip_check import check_femur, metal_flags
from inference.hip_joint import FemoralHead
from inference.hip_separation import SeparatedHip
from inference.labels import BY_KEY, Laterality, Structure
from inference.morphology import Box, work_grid
from inference.networks.bone_classes import CLASS_OF, GRID_MM, BoneClass
from inference.networks.grid import native_box, on_native_grid
from inference.quality import QualityFlag
from inference.volume import Volume, boxes_of

Classes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MIN_FEMUR_MM3 = 15000.0
"""A head of 20 mm radius is 33 ml; less is a speck or the edge of one. [m] assumption."""

MIN_SIDE_SHARE = 0.85
"""Share of a femur's voxels that must be of one side's class, or its side is not known. [m] assumption."""

MARGIN_MM = 12.0
"""Of the working grid around the bones: the checks look for metal and air beside them."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side's structures."""

    femur: Structure
    hip: Structure


SIDES: dict[Laterality, Side] = {
    "R": Side(BY_KEY["femur_right"], BY_KEY["hip_right"]),
    "L": Side(BY_KEY["femur_left"], BY_KEY["hip_left"]),
}


def coarse_hips(classes: Classes, volume: Volume) -> NDArray[np.uint8]:
    """Label femurs and hip bones as the network saw them.

    Parameters
    ----------
    classes : (slice, row, column) uint8 array
        ``BoneClass`` values on the network's grid.
    volume
        The canonical CT.

    Returns
    -------
    (slice, row, column) uint8 array
        Values of ``inference.labels`` on the CT's grid; one femur a side, with its hip bone.
    """
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    for side, femur in _femurs(classes):
        bones = ((_largest(classes == CLASS_OF[SIDES[side].hip.key]), SIDES[side].hip), (femur, SIDES[side].femur))
        for mask, structure in bones:
            if not (labels == structure.value).any():
                write_mask(labels, mask, structure, volume)
    return labels


def write_mask(labels: NDArray[np.uint8], mask: Mask, structure: Structure, volume: Volume) -> None:
    """Write a mask of the network's grid into labels of the CT's grid."""
    cells = boxes_of(mask.view(np.uint8)).get(1)
    if cells is not None:
        box = native_box(cells, mask.shape, volume)
        labels[box][on_native_grid(mask.astype(np.float32), box, volume.spacing_mm) > 0.5] = structure.value


def whole_hips(labels: NDArray[np.uint8], volume: Volume) -> tuple[NDArray[np.uint8], tuple[QualityFlag, ...]]:
    """Keep the hips that may be measured.

    Parameters
    ----------
    labels : (slice, row, column) uint8 array
        Femurs and hip bones on the CT's grid.
    volume
        The canonical CT.

    Returns
    -------
    labels, flags
        As of ``inference.femur.segment_hips``; a femur that is not found or not whole is not labelled, nor is its hip
        bone.
    """
    kept, flags = labels.copy(), list[QualityFlag]()
    extent_mm = (np.array(volume.hu.shape) - 1) * np.asarray(volume.spacing_mm)
    for side, row in SIDES.items():
        femur, hip_bone = labels == row.femur.value, labels == row.hip.value
        name = row.femur.name
        if not femur.any():
            sentence = f"{name}: no hip joint was found on this side of the scan."
            flags.append(QualityFlag("not_found", row.femur.key, sentence))
            continue
        hip = _separated(volume, side, femur, hip_bone)
        if hip is None:
            sentence = f"{name}: no round femoral head was recognised in the bone that was found."
            flags.append(QualityFlag("bone_not_separated", row.femur.key, sentence))
        else:
            judged = check_femur(hip, extent_mm)
            flags.extend((*judged, *metal_flags(hip)))
        if hip is None or any(flag.definition.forbids_density for flag in judged):
            kept[femur | hip_bone] = 0
    return kept, tuple(flags)


def _femurs(classes: Classes) -> Iterator[tuple[Laterality, Mask]]:
    """Return femurs with their sides, the largest first; pieces of no clear side are left out."""
    either = np.isin(classes, (BoneClass.FEMUR_RIGHT, BoneClass.FEMUR_LEFT))
    pieces = cc3d.connected_components(either, connectivity=6)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    for piece in np.argsort(sizes)[::-1]:
        if sizes[piece] * GRID_MM**3 < MIN_FEMUR_MM3:
            return
        mask = pieces == piece
        right = float((classes[mask] == BoneClass.FEMUR_RIGHT).mean())
        if max(right, 1 - right) >= MIN_SIDE_SHARE:
            yield ("R" if right > 0.5 else "L"), mask


def _largest(mask: Mask) -> Mask:
    """Return the largest piece, or nothing."""
    pieces = cc3d.connected_components(mask, connectivity=6)
    if pieces.max() == 0:
        return mask
    return np.asarray(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))


def _separated(volume: Volume, side: Laterality, femur: Mask, hip_bone: Mask) -> SeparatedHip | None:
    """Return the two bones on their part of a working grid, as the checks want them; None without a head."""
    try:
        point_lps, radius_mm = find_femoral_head(volume, femur)
    except SegmentationError:
        return None
    index = np.linalg.solve(volume.affine_lps, np.append(point_lps, 1.0))[:3]
    head = FemoralHead(side, index * volume.spacing_mm, radius_mm, 1.0)
    box = _box(femur | hip_bone, volume)
    grid = work_grid(volume.hu, volume.spacing_mm, WORK_STEP_MM, box)
    bones = [
        work_grid(mask.astype(np.float32), volume.spacing_mm, WORK_STEP_MM, box).hu > 0.5 for mask in (femur, hip_bone)
    ]
    a, b, c = grid.hu.shape
    return SeparatedHip(head, (slice(0, a), slice(0, b), slice(0, c)), grid, bones[0], bones[1] & ~bones[0])


def _box(mask: Mask, volume: Volume) -> Box:
    """Return the voxels of the CT around a mask."""
    spans = []
    for axis, (count, length) in enumerate(zip(mask.shape, volume.spacing_mm, strict=True)):
        seen = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(MARGIN_MM / length))
        spans.append(slice(max(int(seen[0]) - margin, 0), min(int(seen[-1]) + margin + 1, count)))
    return (spans[0], spans[1], spans[2])
