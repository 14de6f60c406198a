"""Levels: which vertebra is which, counted from the sacrum, from the last pair of ribs, or from both.

A level is given only where an anchor is in view and no other evidence contradicts it; otherwise the reason is
returned instead. docs/methods/segmentation-spine.md, step 5.
"""

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import VERTEBRAE
from inference.spinal_canal import BONE_HU, WorkingGrid
from inference.spinal_curve import STEP_MM, SpinalCurve, straightened
from inference.vertebra_endplates import Slab

LUMBAR_COUNT = 5
"""Lumbar vertebrae of nine people in ten; the others are transitional and must disagree, not be guessed."""

ALA_LEFT_MM, PELVIS_LEFT_MM, ALA_FRONT_MM = (25.0, 50.0), (25.0, 70.0), (-10.0, 15.0)
"""Where the sacral alae, and alae with ilia, stand beside the canal: outside the bodies, at its depth, and the
alae nearer than enhanced kidneys, which the psoas keeps away. [m] assumption."""

ALA_TOP_SHARE, PELVIS_SHARE = 0.3, 0.12
"""Share of bone there on the poorer side: at the top of the alae, and of alae and ilia on average below. [m]."""

ALA_PEAK_SHARE = 0.6
"""Of the largest share of bone: what L5's broad transverse processes do not reach. [m] assumption."""

ALA_TOLERANCE_MM = 8.0
"""How much higher one ala may stand than the other in a tilted pelvis. [m] assumption."""

ALA_LENGTH_MM = 30.0
"""Length below the top over which the alae must go on: the height of the first sacral segment. [m]."""

SACRAL_TURN_DEG, LUMBAR_DISTANCE_MM = 15.0, 80.0
"""The canal turns back by at least this between a point this far above the sacrum and the sacrum. [m]."""

LUMBAR_MIN_DISTANCE_MM = 25.0
"""At least this much canal is above a sacrum: one vertebra. [m] assumption."""

SACRUM_MARGIN_MM = 5.0
"""A body whose middle is nearer to the top of the alae is neither surely L5 nor surely S1. [m] assumption."""

SACRUM_GAP_MM = 24.0
"""Between L5's lower endplate and the top of the alae no vertebra may have been missed. [m] assumption."""

SPACING_RANGE = (0.7, 1.4)
"""Distance of neighbouring bodies against the median: outside, one was missed or split. [m] assumption."""

END_MARGIN_MM = 4.0
"""An endplate nearer to the end of the curve is the edge of the scan. [m] assumption."""

RIB_START_MM, RIB_ROOT_MM = 27.0, 34.0
"""Beside the midline: where transverse processes and ribs are cut off, and how near a rib's root is. [m]."""

RIB_FRONT_MM = (-35.0, 12.0)
"""Depth of a rib's root against the canal; kidneys and vessels lie farther to the front. [m] assumption."""

RIB_MIN_CHORD_MM, RIB_MIN_REACH_MM = 40.0, 60.0
"""Shorter is a transverse process: L3's end 50 mm beside the midline. [m] assumption."""

RIB_MAX_RADIUS_MM = 7.0
"""Thicker bone is ilium, scapula or an enhanced organ. [m] assumption."""

LAST_RIB_RATIO, LAST_RIB_MAX_CHORD_MM = 0.7, 115.0
"""The twelfth rib against the eleventh, and its longest chord, when nothing but ribs tells the level. [m]."""

RIB_CLEARANCE_MM = 40.0
"""The vertebra below the last ribs is this far above the lowest slice, or its ribs could be cut off. [m]."""

CREST_LEFT_MM = (40.0, 130.0)
"""Where an iliac wing is looked for beside the midline. [m] assumption."""

CREST_MIN_VOLUME_MM3 = 30000.0
"""Less connected bone is not an iliac wing. [m] assumption."""

_FROM_L5 = VERTEBRAE[: VERTEBRAE.index("T11") - 1 : -1]
_T12_FROM_L5 = _FROM_L5.index("T12")


@dataclass(frozen=True, slots=True)
class Levels:
    """The names of slabs, or why there are none.

    Attributes
    ----------
    names
        Pairs (index of the slab from the feet, key of ``inference.labels``), empty where uncertain.
    reason
        ASCII sentence: by which anchors the levels were named, or why not.
    is_absent
        True where there is nothing to name, which is not the same as not knowing its name.
    """

    names: tuple[tuple[int, str], ...]
    reason: str
    is_absent: bool = False


@dataclass(frozen=True, slots=True)
class Rib:
    """One rib: side (+1 left, -1 right), its root's position on the curve, and root-to-tip distance."""

    side: int
    position: int
    chord_mm: float


def name_levels(grid: WorkingGrid, curve: SpinalCurve, slabs: tuple[Slab, ...]) -> Levels:
    """Name the slabs.

    Parameters
    ----------
    grid
        The working grid.
    curve
        The spinal curve.
    slabs
        Vertebral bodies from the feet to the head; sacral segments may be among them.

    Returns
    -------
    Levels
        With names only where the anchors in view agree.
    """
    return levels_from(grid, curve, slabs, _sacrum_top(grid, curve), find_ribs(grid, curve))


def levels_from(
    grid: WorkingGrid, curve: SpinalCurve, slabs: tuple[Slab, ...], sacrum_top: int | None, ribs: tuple[Rib, ...]
) -> Levels:
    """Name the slabs by given anchors.

    Parameters
    ----------
    grid, curve, slabs
        As of ``name_levels``.
    sacrum_top
        Position of the sacrum's top on the curve; None where no sacrum is in view.
    ribs
        From the feet to the head.
    """
    if sacrum_top is not None:
        return _named_from_sacrum(grid, curve, slabs, sacrum_top, ribs)
    return _named_from_ribs(curve, slabs, ribs)


def _named_from_sacrum(
    grid: WorkingGrid, curve: SpinalCurve, slabs: tuple[Slab, ...], sacrum_top: int, ribs: tuple[Rib, ...]
) -> Levels:
    margin = SACRUM_MARGIN_MM / STEP_MM
    above = [i for i, slab in enumerate(slabs) if slab.middle > sacrum_top]
    if not above:
        return Levels((), "No vertebral body above the sacrum is in the scan.", is_absent=True)
    if any(abs(slab.middle - sacrum_top) < margin for slab in slabs):
        return Levels((), "The lowest vertebral body lies beside the sacrum: fifth lumbar or first sacral.")
    if (slabs[above[0]].bottom.position - sacrum_top) * STEP_MM > SACRUM_GAP_MM:
        return Levels((), "Between the sacrum and the lowest vertebral body one may have been missed.")
    lumbar_ribs = tuple(rib for rib in ribs if rib.position > slabs[above[0]].top.position)
    last_rib, _ = _lowest_ribs(slabs, lumbar_ribs)
    if last_rib is not None and last_rib != above[0] + LUMBAR_COUNT:
        count = last_rib - above[0]
        return Levels((), f"{count} vertebrae between the last rib and the sacrum, expected {LUMBAR_COUNT}.")
    crest = _crest_position(grid, curve, sacrum_top)
    if crest is not None and not _crest_fits(slabs, above[0], crest):
        return Levels((), "The iliac crests do not lie at the fourth or fifth lumbar vertebra.")
    with_ribs = "" if last_rib is None else " and the last ribs"
    return _regular(curve, slabs, _names(slabs, above[0], 0), f"Levels counted from the sacrum{with_ribs}.")


def _named_from_ribs(curve: SpinalCurve, slabs: tuple[Slab, ...], ribs: tuple[Rib, ...]) -> Levels:
    last, sides = _lowest_ribs(slabs, ribs)
    if not last or len(sides) < 2 or curve.points_mm[int(slabs[last - 1].middle), 0] < RIB_CLEARANCE_MM:
        return Levels((), "Neither the sacrum nor the last pair of ribs with a vertebra below it is in the scan.")
    chord_mm, next_chord_mm = _mean_chord(slabs, ribs, last), _mean_chord(slabs, ribs, last + 1)
    if next_chord_mm is None or chord_mm is None:
        return Levels((), "Only one pair of ribs is in the scan: twelfth or eleventh.")
    if chord_mm > LAST_RIB_MAX_CHORD_MM or chord_mm > LAST_RIB_RATIO * next_chord_mm:
        return Levels((), "The last pair of ribs is too long to be surely the twelfth.")
    return _regular(curve, slabs, _names(slabs, last, _T12_FROM_L5), "Levels counted from the twelfth ribs.")


def _regular(curve: SpinalCurve, slabs: tuple[Slab, ...], names: tuple[tuple[int, str], ...], reason: str) -> Levels:
    """Return the names, unless the spacing of the named slabs tells that one was missed or split."""
    inner = [slabs[i] for i, _ in names if not is_cut(curve, slabs[i])]
    spacing = np.diff([slab.middle for slab in inner])
    if spacing.size and not np.all(
        (spacing >= SPACING_RANGE[0] * np.median(spacing)) & (spacing <= SPACING_RANGE[1] * np.median(spacing))
    ):
        return Levels((), "The vertebral bodies are unevenly spaced: one may have been missed or split.")
    return Levels(names, reason)


def is_cut(curve: SpinalCurve, slab: Slab) -> bool:
    """Whether one of a slab's endplates is where the canal leaves the scan: then it is no endplate."""
    margin = END_MARGIN_MM / STEP_MM
    return slab.bottom.position < margin or slab.top.position > len(curve.points_mm) - 1 - margin


def _names(slabs: tuple[Slab, ...], index: int, order: int) -> tuple[tuple[int, str], ...]:
    """Name all slabs when slab ``index`` is number ``order`` counted from L5."""
    orders = ((i, i - index + order) for i in range(len(slabs)))
    return tuple((i, _FROM_L5[n]) for i, n in orders if 0 <= n < len(_FROM_L5))


def _sacrum_top(grid: WorkingGrid, curve: SpinalCurve) -> int | None:
    """Highest position with sacral alae and ilia on both sides where the canal turns back below, or None."""
    alae = bone_beside(grid, curve, ALA_LEFT_MM, ALA_TOLERANCE_MM)
    pelvis = bone_beside(grid, curve, PELVIS_LEFT_MM, ALA_TOLERANCE_MM)
    length = int(ALA_LENGTH_MM / STEP_MM)
    candidates = [
        int(s)
        for s in np.flatnonzero(alae >= ALA_TOP_SHARE)
        if s > 0 and pelvis[max(s - length, 0) : s].mean() >= PELVIS_SHARE and _turns_back(curve, int(s))
    ]
    if not candidates:
        return None
    enough = ALA_PEAK_SHARE * alae[candidates].max()
    return max(s for s in candidates if alae[s] >= enough) - int(ALA_TOLERANCE_MM / STEP_MM / 2)


def bone_beside(
    grid: WorkingGrid, curve: SpinalCurve, range_mm: tuple[float, float], tolerance_mm: float
) -> NDArray[np.float64]:
    """Share of bone beside the canal, at every position of the curve, on the poorer side.

    Parameters
    ----------
    grid
        The working grid.
    curve
        The spinal curve.
    range_mm
        Distances to the left and to the right of the curve, mm.
    tolerance_mm
        Each side counts with its largest share within half of this below and above.
    """
    front_mm = np.arange(ALA_FRONT_MM[0], ALA_FRONT_MM[1] + 0.1, 2.0)
    left_mm = np.arange(range_mm[0], range_mm[1] + 0.1, 2.0)
    window = 2 * int(tolerance_mm / STEP_MM / 2) + 1
    sides = []
    for side in (1, -1):
        share = (straightened(grid, curve, front_mm, side * left_mm) > BONE_HU).mean(axis=(1, 2))
        sides.append(ndimage.maximum_filter1d(share, window, mode="nearest"))
    return np.asarray(np.minimum(*sides))


def _turns_back(curve: SpinalCurve, position: int) -> bool:
    """Whether the canal runs back below a position, as in a sacrum, against where it runs above."""
    if position + int(LUMBAR_MIN_DISTANCE_MM / STEP_MM) >= len(curve.points_mm):
        return False
    lean_deg = np.rad2deg(np.arctan2(-curve.up[:, 1], curve.up[:, 0]))
    above = min(position + int(LUMBAR_DISTANCE_MM / STEP_MM), len(lean_deg) - 1)
    below = max(position - int(ALA_LENGTH_MM / STEP_MM), 0)
    return bool(lean_deg[below : position + 1].max() - lean_deg[above] >= SACRAL_TURN_DEG)


def find_ribs(grid: WorkingGrid, curve: SpinalCurve) -> tuple[Rib, ...]:
    """Find long thin bones that begin beside the vertebral arches and run outward."""
    beside_mm, ahead_mm = _midline_offsets(grid, curve)
    bone = grid.hu > BONE_HU
    bone[np.abs(beside_mm) < RIB_START_MM] = False
    pieces = cc3d.connected_components(_without_thick(bone, grid.spacing_mm), connectivity=26)
    found = []
    for index, box in enumerate(ndimage.find_objects(pieces), start=1):
        inside = pieces[box] == index
        reach = np.abs(beside_mm[box][inside])
        if reach.max() < RIB_MIN_REACH_MM or reach.min() > RIB_ROOT_MM:
            continue
        cells = np.argwhere(inside) + [axis.start for axis in box]
        root = cells[reach <= reach.min() + 2 * grid.spacing_mm].mean(axis=0)
        ahead = float(ahead_mm[tuple(np.round(root).astype(int))])
        chord_mm = float(np.linalg.norm(cells - root, axis=1).max() * grid.spacing_mm)
        if chord_mm >= RIB_MIN_CHORD_MM and RIB_FRONT_MM[0] <= ahead <= RIB_FRONT_MM[1]:
            side = 1 if beside_mm[tuple(cells[0])] > 0 else -1
            position = int(curve.position_of(root[None] * grid.spacing_mm)[0])
            found.append(Rib(side, position, chord_mm))
    return tuple(sorted(found, key=lambda rib: (rib.position, rib.side)))


def _midline_offsets(grid: WorkingGrid, curve: SpinalCurve) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance of every cell to the left of and in front of the canal in its slice, mm (broadcast views)."""
    points = curve.points_mm[np.argsort(curve.points_mm[:, 0], kind="stable")]
    heads, backs, lefts = (np.arange(n, dtype=np.float32) * grid.spacing_mm for n in grid.hu.shape)
    middle_left = np.interp(heads, points[:, 0], points[:, 2])
    middle_back = np.interp(heads, points[:, 0], points[:, 1])
    beside = (lefts[None] - middle_left[:, None])[:, None, :].astype(np.float32)
    ahead = (middle_back[:, None] - backs[None])[:, :, None].astype(np.float32)
    return np.broadcast_to(beside, grid.hu.shape), np.broadcast_to(ahead, grid.hu.shape)


def _without_thick(bone: NDArray[np.bool_], spacing_mm: float) -> NDArray[np.bool_]:
    """Remove what a ball of ``RIB_MAX_RADIUS_MM`` fits into, with one cell around."""
    depth = ndimage.distance_transform_edt(bone, sampling=spacing_mm)
    cores = depth >= RIB_MAX_RADIUS_MM
    if not cores.any():
        return bone
    near = ndimage.distance_transform_edt(~cores, sampling=spacing_mm) < RIB_MAX_RADIUS_MM + spacing_mm
    return np.asarray(bone & ~near)


def _ribs_of(slabs: tuple[Slab, ...], ribs: tuple[Rib, ...], index: int) -> tuple[Rib, ...]:
    """Ribs whose root is nearest to slab ``index``."""
    if not 0 <= index < len(slabs):
        return ()
    middles = np.array([slab.middle for slab in slabs])
    reach = slabs[index].height_mm / STEP_MM
    return tuple(
        rib
        for rib in ribs
        if np.abs(middles - rib.position).argmin() == index and abs(middles[index] - rib.position) <= reach
    )


def _lowest_ribs(slabs: tuple[Slab, ...], ribs: tuple[Rib, ...]) -> tuple[int | None, set[int]]:
    """Return the lowest slab with a rib, None where there is none, and the sides that have one there.

    One rib counts: where five lumbar vertebrae are not five, the last ribs are often unequal.
    """
    for index in range(len(slabs)):
        sides = {rib.side for rib in _ribs_of(slabs, ribs, index)}
        if sides:
            return index, sides
    return None, set()


def _mean_chord(slabs: tuple[Slab, ...], ribs: tuple[Rib, ...], index: int) -> float | None:
    chords = [rib.chord_mm for rib in _ribs_of(slabs, ribs, index)]
    return float(np.mean(chords)) if len(chords) >= 2 else None


def _crest_position(grid: WorkingGrid, curve: SpinalCurve, sacrum_top: int) -> int | None:
    """Position on the curve at the mean height of the iliac crests; None where they are not both in view."""
    beside_mm, _ = _midline_offsets(grid, curve)
    level = int(curve.points_mm[sacrum_top, 0] / grid.spacing_mm)
    tops_mm = []
    for side in (1, -1):
        beside = side * beside_mm
        wing = (grid.hu > BONE_HU) & (beside > CREST_LEFT_MM[0]) & (beside < CREST_LEFT_MM[1])
        top_mm = _top_of_largest_piece(wing, level, grid.spacing_mm)
        if top_mm is None:
            return None
        tops_mm.append(top_mm)
    if max(tops_mm) >= (grid.hu.shape[0] - 2) * grid.spacing_mm:
        return None
    return int(np.argmin(np.abs(curve.points_mm[:, 0] - np.mean(tops_mm))))


def _top_of_largest_piece(mask: NDArray[np.bool_], level: int, spacing_mm: float) -> float | None:
    """Height of the top of the largest connected piece that slice ``level`` cuts; None where it is no iliac wing."""
    pieces = cc3d.connected_components(mask, connectivity=6)
    sizes = np.bincount(pieces.ravel())
    cut = [int(piece) for piece in np.unique(pieces[level]) if piece > 0]
    if not cut:
        return None
    largest = max(cut, key=lambda piece: int(sizes[piece]))
    if sizes[largest] * spacing_mm**3 < CREST_MIN_VOLUME_MM3:
        return None
    return float(np.flatnonzero((pieces == largest).any(axis=(1, 2))).max()) * spacing_mm


def _crest_fits(slabs: tuple[Slab, ...], l5: int, crest: int) -> bool:
    """Whether the crests lie between the middle of L3 and the lower endplate of L5."""
    highest = slabs[l5 + 2].middle if l5 + 2 < len(slabs) else np.inf
    return slabs[l5].bottom.position <= crest <= highest
