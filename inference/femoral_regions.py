"""The regions of a proximal femur, as projectional densitometry draws them: neck, trochanter, intertrochanteric, total.

In the standard pose the lines of the drawing are planes that hold the direction of projection, so one rule cuts both
the bone (volumetric density) and its projection (areal density). Definitions and their sources: docs/methods/vbmd.md.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.femoral_neck import NECK_SLAB_MM, FemoralHead, FemoralNeck, is_cut_by_edge, points_lps_mm
from inference.femoral_pose import AXIS_LENGTH_MM, Pose, find_pose
from inference.labels import BY_KEY
from inference.quality import QualityFlag
from inference.volume import Volume

HipRegion = Literal["neck", "trochanter", "total_hip"]

OUTSIDE, NECK, TROCHANTER, INTERTROCHANTERIC = range(4)
PARTS: dict[HipRegion, tuple[int, ...]] = {
    "neck": (NECK,),
    "trochanter": (TROCHANTER,),
    "total_hip": (NECK, TROCHANTER, INTERTROCHANTERIC),
}
"""Which parts make up a region."""

BELOW_LESSER_TROCHANTER_MM = 15.0
"""The total hip ends this far below the lesser trochanter. Makers of DXA end it 10 lines (about 10 mm) to 15 mm below
[IscdAtlas] [m]."""

NECK_SHAFT_DEG = (100.0, 160.0)
"""Outside of this the neck or the shaft was not recognised; adults 110 to 150 [m assumption], wider by 10."""


@dataclass(frozen=True, slots=True, eq=False)
class HipRegions:
    """Where a femur is cut, in the coordinates of its standard pose.

    Attributes
    ----------
    pose
        The standard pose.
    neck_mm
        From the head's centre to the middle of the neck's region, along the neck.
    aside_mm
        The neck's region ends this far to both sides of the neck's axis.
    bottom_mm
        Height of the lower end of the total hip above the head's centre, negative; None where it is not known.
    whole
        Regions that lie wholly in the scan.
    """

    pose: Pose
    neck_mm: float
    aside_mm: float
    bottom_mm: float | None
    whole: tuple[HipRegion, ...]

    def part_of(self, lateral_mm: NDArray[np.floating], up_mm: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Tell which part of the femur points of the plane of projection belong to.

        Parameters
        ----------
        lateral_mm, up_mm : arrays of any one shape
            From the head's centre.

        Returns
        -------
        uint8 array of that shape
            ``OUTSIDE`` (head, or shaft below the total hip), ``NECK``, ``TROCHANTER`` or ``INTERTROCHANTERIC``.
        """
        angle = np.radians(self.pose.neck_deg)
        along_mm = lateral_mm * np.sin(angle) + up_mm * np.cos(angle)
        aside_mm = up_mm * np.sin(angle) - lateral_mm * np.cos(angle)
        beside_neck = np.abs(aside_mm) < self.aside_mm
        beyond_mm = along_mm - self.neck_mm
        parts = np.where(aside_mm > 0.0, TROCHANTER, INTERTROCHANTERIC)
        parts[beside_neck & (beyond_mm < NECK_SLAB_MM / 2)] = NECK
        parts[beside_neck & (beyond_mm <= -NECK_SLAB_MM / 2)] = OUTSIDE
        if self.bottom_mm is not None:
            parts[up_mm < self.bottom_mm] = OUTSIDE
        return parts.astype(np.uint8)

    def mask_of(self, region: HipRegion, volume: Volume, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the voxels of a femur's mask that belong to a region."""
        cut = np.zeros(mask.shape, dtype=np.bool_)
        where = np.argwhere(mask)
        local_mm = self.pose.local_mm(points_lps_mm(where, volume))
        inside = np.isin(self.part_of(local_mm[:, 0], local_mm[:, 2]), PARTS[region])
        cut[tuple(where[inside].T)] = True
        return cut


def hip_regions(
    volume: Volume, mask: NDArray[np.bool_], head: FemoralHead, neck: FemoralNeck, key: str
) -> tuple[HipRegions | None, tuple[QualityFlag, ...]]:
    """Find the regions of one femur, and which of them the scan shows whole.

    Parameters
    ----------
    volume
        Gives the grid; canonical order. A mask that touches an edge of its array is cut by the scan.
    mask : (slice, row, column) bool array
        One femur.
    head, neck
        Its head and neck.
    key
        ``femur_right`` or ``femur_left``.

    Returns
    -------
    regions : HipRegions or None
        None where the neck points where no neck of this side can.
    flags : tuple of QualityFlag
        ``turned_patient``, ``unusual_neck``, ``hip_not_whole`` and ``pose_assumed``.
    """
    pose, lesser_trochanter = find_pose(volume, mask, head, neck, BY_KEY[key].laterality)
    flags = (*_side_flags(pose, key), *_angle_flags(pose, key))
    if flags:
        return None, flags
    bottom_mm = None
    if lesser_trochanter is not None:
        end_mm = float(lesser_trochanter.lower_end_mm @ pose.axes[2])
        bottom_mm = end_mm - BELOW_LESSER_TROCHANTER_MM
    regions = HipRegions(pose, neck.middle_mm, neck.aside_mm, bottom_mm, ())
    regions = HipRegions(pose, neck.middle_mm, neck.aside_mm, bottom_mm, _whole(regions, volume, mask))
    return regions, (*_missing_flags(regions, volume, mask, key), *_pose_flags(regions, key))


def _whole(regions: HipRegions, volume: Volume, mask: NDArray[np.bool_]) -> tuple[HipRegion, ...]:
    """Return the regions that no edge of the scan cuts; the total hip needs its lower end."""
    known: tuple[HipRegion, ...] = ("neck", "trochanter") if regions.bottom_mm is None else tuple(PARTS)
    cuts = {region: np.argwhere(regions.mask_of(region, volume, mask)) for region in known}
    return tuple(region for region, where in cuts.items() if len(where) and not is_cut_by_edge(where, mask.shape))


def _side_flags(pose: Pose, key: str) -> tuple[QualityFlag, ...]:
    """Flag a neck that comes from the wrong side: x grows to the patient's left."""
    outwards = -1.0 if BY_KEY[key].laterality == "R" else 1.0
    cosine = outwards * float(pose.axes[0, 0])
    if cosine > 0:
        return ()
    sentence = (
        f"{BY_KEY[key].name}: from the head the neck runs to the patient's {'left' if outwards < 0 else 'right'}; "
        "expected it to run outwards. The sides of the scan may be swapped."
    )
    return (QualityFlag("turned_patient", key, sentence, (("outward_cosine", round(cosine, 2)),)),)


def _angle_flags(pose: Pose, key: str) -> tuple[QualityFlag, ...]:
    """Flag an angle of the neck that no femur has."""
    low, high = NECK_SHAFT_DEG
    if low <= pose.neck_deg <= high:
        return ()
    sentence = (
        f"{BY_KEY[key].name}: an angle of {pose.neck_deg:.0f} degrees between neck and shaft was found; expected "
        f"{low:.0f} to {high:.0f}. Only the neck's slab was measured."
    )
    return (QualityFlag("unusual_neck", key, sentence, (("neck_shaft_deg", round(pose.neck_deg, 1)),)),)


def _missing_flags(regions: HipRegions, volume: Volume, mask: NDArray[np.bool_], key: str) -> tuple[QualityFlag, ...]:
    """Say which regions are not whole, and how far the scan shows the femur."""
    missing = [region.replace("_", " ") for region in PARTS if region not in regions.whole]
    if not missing:
        return ()
    heights_mm = regions.pose.local_mm(points_lps_mm(np.argwhere(mask), volume))[:, 2]
    seen_mm = -float(heights_mm.min())
    needs = (
        "the lower end of the lesser trochanter and 15 mm of shaft below it were not found whole"
        if regions.bottom_mm is None
        else f"the total hip reaches {-regions.bottom_mm:.0f} mm below it"
    )
    sentence = (
        f"{BY_KEY[key].name}: the scan shows {seen_mm:.0f} mm of the femur below its head's centre; {needs}. Not "
        f"measured: {', '.join(missing)}."
    )
    evidence: tuple[tuple[str, float | str], ...] = (("below_head_mm", round(seen_mm)), ("missing", ", ".join(missing)))
    if regions.bottom_mm is not None:
        evidence = (*evidence, ("needed_below_head_mm", round(-regions.bottom_mm)))
    return (QualityFlag("hip_not_whole", key, sentence, evidence),)


def _pose_flags(regions: HipRegions, key: str) -> tuple[QualityFlag, ...]:
    """Say that the shaft's axis was not measured."""
    if regions.pose.has_shaft or not regions.whole:
        return ()
    sentence = (
        f"{BY_KEY[key].name}: less than {AXIS_LENGTH_MM:.0f} mm of shaft are seen below the lesser trochanter; the "
        "patient's long axis was taken for the shaft's when the regions were cut. A shaft tilted by 10 degrees changes "
        "areal density by about 2 percent."
    )
    return (QualityFlag("pose_assumed", key, sentence, (("neck_shaft_deg", round(regions.pose.neck_deg, 1)),)),)
