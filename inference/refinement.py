"""Brings coarse labels to the outer face of each bone's cortex on the CT's own grid.

A network that works on 3 mm voxels knows which bone is where, but its surface is off by up to a voxel. Every bone's
surface becomes points (``inference.bone_surfaces``) that look along their normals for the fall of CT number from cortex
to soft tissue, agree with their neighbours on which fall it is, and place themselves on it by a model of the blurred
cortex [Treece2010]. Where there is no edge, as in an unresolved joint space, the surface stays where it was. The module
decides neither which bones there are nor what they are called. docs/methods/refinement.md.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.bone_surfaces import (
    FAR_MM,
    STEP_MM,
    BoneSurface,
    FloatArray,
    claim,
    shares,
    signed_distance_mm,
    surface_of,
    voxels_within,
)
from inference.cortex_edges import OUTWARD_MM, placed_edges
from inference.errors import SegmentationError
from inference.volume import Box, Volume, boxes_of, crop

BAND_MM = 4.0
"""How far a surface may move: a voxel of 3 mm and its blur."""
SECOND_BAND_MM = 2.0
"""How far it may move once more, with the normals and the neighbours it then has. [m] assumption."""
SURROUND_MM = BAND_MM + 3.5
"""A bone's patch of the lattice goes so far beyond it."""
BORDER_BLUR_MM = 1.5
"""Smoothing of the border between parts of one bone: half a coarse voxel. [m] assumption."""

Labels = NDArray[np.uint8]


def refine(volume: Volume, labels: Labels, bones: Sequence[tuple[int, ...]] = ()) -> Labels:
    """Move the surfaces of coarse labels to the cortex that the CT shows.

    Parameters
    ----------
    volume
        CT, any orientation and spacing.
    labels : (slice, row, column) uint8 array
        Coarse labels on its grid, their surfaces within about ``BAND_MM`` of the truth.
    bones
        Label values that are parts of one bone, as body and arch of a vertebra: between them is no edge, their border
        stays as it is and is only smoothed. Every other value is a bone of its own.

    Returns
    -------
    (slice, row, column) uint8 array
        The same values; a voxel belongs to the bone in which its centre lies deepest.

    Raises
    ------
    SegmentationError
        If the labels do not fit the volume, or a value belongs to two bones.
    """
    _check(volume, labels, bones)
    refined = np.zeros_like(labels)
    boxes = boxes_of(labels, margin=math.ceil((BAND_MM + OUTWARD_MM) / min(volume.spacing_mm)) + 1)
    if boxes:
        box = _joint_box(boxes, tuple(boxes))
        refined[box] = _refined(crop(volume, box), np.ascontiguousarray(labels[box]), bones)
    return refined


def _refined(volume: Volume, labels: Labels, bones: Sequence[tuple[int, ...]]) -> Labels:
    """Refine labels of a volume that holds little more than they."""
    volume = replace(volume, hu=np.ascontiguousarray(volume.hu, dtype=np.float32))
    boxes = boxes_of(labels, margin=0)
    groups = _groups(boxes, bones)
    surfaces = {
        values[0]: surface_of(labels, values, _joint_box(boxes, values), volume.spacing_mm, SURROUND_MM)
        for values in groups
    }
    surfaces = _moved(volume, surfaces, {bone: surface.coarse_mm for bone, surface in surfaces.items()}, BAND_MM)
    surfaces = _moved(volume, surfaces, _distances(surfaces), SECOND_BAND_MM)
    refined = np.zeros_like(labels)
    best_mm = np.zeros(labels.shape, dtype=np.float32)
    for bone, depth_mm in _distances(surfaces).items():
        patch = surfaces[bone].patch
        box = voxels_within(patch, volume.spacing_mm, labels.shape)
        claim(depth_mm, patch, volume.spacing_mm, bone, box, best_mm[box], refined[box])
    for values in groups:
        surface = surfaces[values[0]]
        if len(surface.points) == 0:
            kept = np.isin(labels, values) & (refined == 0)
            refined[kept] = labels[kept]
        elif len(values) > 1:
            _divide(refined, labels, values, surface, volume.spacing_mm)
    return refined


def _check(volume: Volume, labels: Labels, bones: Sequence[tuple[int, ...]]) -> None:
    """Refuse labels of another grid and values named twice."""
    if labels.shape != volume.hu.shape or labels.dtype != np.uint8:
        raise SegmentationError(
            f"Found labels of shape {labels.shape} and type {labels.dtype}; expected {volume.hu.shape} and uint8."
        )
    named = [value for values in bones for value in values]
    if len(named) != len(set(named)):
        raise SegmentationError(f"Found the parts {list(bones)}; expected every label value in one bone at most.")


def _groups(boxes: dict[int, Box], bones: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Label values that occur, by bone."""
    named = {value for values in bones for value in values}
    parts = [tuple(value for value in values if value in boxes) for values in bones]
    return [values for values in parts if values] + [(value,) for value in boxes if value not in named]


def _joint_box(boxes: dict[int, Box], values: tuple[int, ...]) -> Box:
    """Bound several labels."""
    spans = [
        slice(min(boxes[value][axis].start for value in values), max(boxes[value][axis].stop for value in values))
        for axis in range(3)
    ]
    return (spans[0], spans[1], spans[2])


def _distances(surfaces: dict[int, BoneSurface]) -> dict[int, FloatArray]:
    """Signed distance of every bone at the cells of its patch, mm."""
    return {bone: surface.distance_mm(SURROUND_MM - STEP_MM) for bone, surface in surfaces.items()}


def _moved(
    volume: Volume, surfaces: dict[int, BoneSurface], distances: dict[int, FloatArray], band_mm: float
) -> dict[int, BoneSurface]:
    """Move every surface to its edges, each seeing the others where ``distances`` puts them."""
    moved = {}
    for bone, surface in surfaces.items():
        others_mm = _others(bone, surfaces, distances)
        place_mm = placed_edges(volume, surface, distances[bone], others_mm, band_mm)
        moved[bone] = surface.moved(place_mm)
    return moved


def _others(bone: int, surfaces: dict[int, BoneSurface], distances: dict[int, FloatArray]) -> FloatArray:
    """Signed distance from the nearest other bone at the cells of a bone's patch, mm."""
    patch = surfaces[bone].patch
    result = np.full(patch.shape, FAR_MM, dtype=np.float32)
    for other, surface in surfaces.items():
        shared = patch.shared_with(surface.patch) if other != bone else None
        if shared is not None:
            own, theirs = shared
            np.minimum(result[own], distances[other][theirs], out=result[own])
    return result


def _divide(
    refined: Labels,
    labels: Labels,
    values: tuple[int, ...],
    surface: BoneSurface,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Give the voxels of a refined bone back to its parts: each to the coarse part that is nearest."""
    depths = np.stack(
        [
            ndimage.gaussian_filter(
                signed_distance_mm(shares(labels, (value,), spacing_mm, surface.patch) > 0.5), BORDER_BLUR_MM / STEP_MM
            )
            for value in values
        ]
    )
    box = voxels_within(surface.patch, spacing_mm, labels.shape)
    owner = np.full(refined[box].shape, values[0], dtype=np.uint8)
    best_mm = np.zeros(owner.shape, dtype=np.float32)
    for index, value in enumerate(values):
        ahead_mm = depths[index] - np.delete(depths, index, axis=0).min(axis=0)
        claim(ahead_mm, surface.patch, spacing_mm, value, box, best_mm, owner)
    mine = refined[box] == values[0]
    refined[box][mine] = owner[mine]
