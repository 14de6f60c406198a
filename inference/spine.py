"""Lumbar spine: the vertebral bodies of a CT with their levels, or the flags that say why not.

Deterministic and without learned weights: the canal is tracked, the trunk straightened along it, endplates are
paired to bodies, levels counted from the sacrum or the last ribs, and each body's surface followed on the
native grid. Only whole bodies whose level is known are labelled. Pedicles, arches, discs and the sacrum are not
segmented here. docs/methods/segmentation-spine.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.labels import BY_KEY, VERTEBRAE
from inference.quality import QualityFlag
from inference.spinal_canal import find_canal, working_grid
from inference.spinal_curve import SpinalCurve, curve_through
from inference.vertebra_bodies import BodySurface, find_surface, voxels_inside
from inference.vertebra_endplates import Slab, find_slabs
from inference.vertebra_levels import Levels, is_cut, name_levels
from inference.volume import Volume

LUMBAR: tuple[str, ...] = ("L1", "L2", "L3", "L4", "L5")
"""The levels that are asked for: each is labelled or flagged."""

BODY_VOLUME_RANGE_MM3 = (6000.0, 90000.0)
"""A crushed T11 of a small woman to L4 of a large man. [m] assumption."""

MIN_WALL_DROP_HU = 40.0
"""Median drop of CT number across the wall below which there is no wall. [m] assumption."""

GAS_HU, MAX_GAS_SHARE = -200.0, 0.03
"""Gas is in discs, never in a body: more of it means a wrong surface or a phantom cut in slabs. [m]."""


@dataclass(frozen=True, slots=True)
class _Body:
    """One named body: its mask within a box of the volume."""

    key: str
    box: tuple[slice, slice, slice]
    inside: NDArray[np.bool_]
    problem: QualityFlag | None


def segment_spine(volume: Volume) -> tuple[NDArray[np.uint8], tuple[QualityFlag, ...]]:
    """Label the whole vertebral bodies T11 to L5 that are in view.

    Parameters
    ----------
    volume
        CT in canonical order (``inference.volume.canonical``).

    Returns
    -------
    labels : (slice, row, column) uint8 array
        Values of ``inference.labels``; all zero where levels are not certain.
    flags : tuple of QualityFlag
        For every lumbar level without a label ``not_found``, ``truncated_bone`` or ``level_uncertain``.
        Whether a labelled body is deformed is for ``inference.structure_checks`` to say.
    """
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    grid = working_grid(volume)
    canal = find_canal(grid)
    if canal is None:
        return labels, for_all_levels("not_found", "No spinal canal was found in the scan.")
    curve = curve_through(canal)
    slabs = find_slabs(grid, curve)
    if not slabs:
        return labels, for_all_levels("not_found", "No vertebral body with both endplates is in the scan.")
    return label_bodies(volume, curve, slabs, name_levels(grid, curve, slabs))


def label_bodies(
    volume: Volume, curve: SpinalCurve, slabs: tuple[Slab, ...], levels: Levels
) -> tuple[NDArray[np.uint8], tuple[QualityFlag, ...]]:
    """Label the named bodies, each surface followed on the native grid.

    Parameters
    ----------
    volume
        CT in canonical order.
    curve
        The spinal curve.
    slabs
        Vertebral bodies from the feet to the head.
    levels
        Their names, or why there are none.

    Returns
    -------
    labels, flags
        As of ``segment_spine``.
    """
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    if not levels.names:
        return labels, for_all_levels("not_found" if levels.is_absent else "level_uncertain", levels.reason)
    bodies = _bodies(volume, curve, slabs, levels)
    for body in bodies:
        if body.problem is None:
            labels[body.box][body.inside] = BY_KEY[body.key].value
    return labels, _flags(bodies)


def for_all_levels(code: str, sentence: str) -> tuple[QualityFlag, ...]:
    """Return one flag for every lumbar level."""
    return tuple(QualityFlag(code, key, sentence) for key in LUMBAR)


def _bodies(volume: Volume, curve: SpinalCurve, slabs: tuple[Slab, ...], levels: Levels) -> tuple[_Body, ...]:
    """Surfaces and masks of the named slabs, from the head to the feet."""
    bodies = []
    for index, key in sorted(levels.names, key=lambda pair: VERTEBRAE.index(pair[1])):
        surface = find_surface(volume, curve, slabs[index])
        box, inside = voxels_inside(volume, surface)
        problem = _cut(key) if is_cut(curve, slabs[index]) else _problem(volume, surface, key, box, inside)
        bodies.append(_Body(key, box, inside, problem))
    return tuple(bodies)


def _problem(
    volume: Volume,
    surface: BodySurface,
    key: str,
    box: tuple[slice, slice, slice],
    inside: NDArray[np.bool_],
) -> QualityFlag | None:
    """Why a body must not be labelled, or None."""
    if _touches_edge(volume.hu.shape, box, inside):
        return _cut(key)
    volume_mm3 = float(inside.sum() * np.prod(volume.spacing_mm))
    gas_share = float((volume.hu[box][inside] < GAS_HU).mean()) if inside.any() else 0.0
    evidence = (
        ("body_volume_mm3", volume_mm3),
        ("wall_drop_hu", surface.drop_hu),
        ("gas_share", gas_share),
    )
    low, high = BODY_VOLUME_RANGE_MM3
    if not low <= volume_mm3 <= high or surface.drop_hu < MIN_WALL_DROP_HU or gas_share > MAX_GAS_SHARE:
        sentence = f"The body of {key} is in the scan but its surface was not recognised."
        return QualityFlag("not_found", key, sentence, evidence)
    return None


def _cut(key: str) -> QualityFlag:
    return QualityFlag("truncated_bone", key, f"The edge of the scan cuts the body of {key}.")


def _touches_edge(shape: tuple[int, ...], box: tuple[slice, slice, slice], inside: NDArray[np.bool_]) -> bool:
    if not inside.any():
        return False
    cells = np.argwhere(inside) + [axis.start for axis in box]
    return bool((cells.min(axis=0) == 0).any() or (cells.max(axis=0) == np.array(shape) - 1).any())


def _flags(bodies: tuple[_Body, ...]) -> tuple[QualityFlag, ...]:
    flags = [body.problem for body in bodies if body.problem is not None]
    named = {body.key for body in bodies}
    flags += [
        QualityFlag("not_found", key, f"No whole body of {key} is in the scan.") for key in LUMBAR if key not in named
    ]
    return tuple(flags)
