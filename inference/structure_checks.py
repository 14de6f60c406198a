"""Quality of single bones: metal, cement, bones cut by the edge of the scan, deformed vertebral bodies.

Every check looks at one labelled structure and its surroundings; what a flag forbids is the table in
``inference.quality``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import BY_KEY, FEMURS, STRUCTURES, VERTEBRAE
from inference.posture import check_posture
from inference.quality import STUDY, QualityFlag
from inference.tissues import check_contrast
from inference.vertebra_shape import VertebraHeights, measure_heights
from inference.volume import Volume, boxes_of, canonical, crop

Mask = NDArray[np.bool_]

METAL_HU = 2000.0
"""Denser than cortical bone at any voxel size [m] assumption. Measured: at most 1262 HU in the bones of a
patient
at 3 mm, 3101 HU (99th percentile) in a nailed femur of the same scan."""

METAL_MARGIN_MM = 10.0
"""Metal this near to a bone disturbs its HU [m] assumption: streaks reach farther, most of them fade
within."""

MIN_METAL_MM3 = 50.0
"""Less is noise, a sharp kernel's overshoot or a calcification [m] assumption."""

CEMENT_HU = 700.0
CEMENT_DEPTH_MM = 6.0
MIN_CEMENT_MM3 = 500.0
"""Bone cement: a connected filling this dense, this deep inside a vertebral body, of this volume [m]
assumption.
Cancellous bone stays below 400 HU; dense sclerosis is taken for cement too, and is as unfit to be
measured."""

MIN_HEIGHT_RATIO = 0.75
"""Smallest ratio of heights within a body, and to its neighbours: Genant's grade 2 starts at a loss of 25 %
[m]."""

L5_HEIGHT_RATIO = 0.7
"""L5 is a wedge by nature, lower at the back [m] assumption."""


@dataclass(frozen=True, slots=True)
class MetalEvidence:
    """Metal found in and around one bone: volumes in mm3, and the largest HU there."""

    inside_mm3: float
    beside_mm3: float
    largest_hu: float

    @property
    def total_mm3(self) -> float:
        """Metal inside and beside the bone, mm3."""
        return self.inside_mm3 + self.beside_mm3


def check_structures(volume: Volume, labels: NDArray[np.uint8]) -> tuple[QualityFlag, ...]:
    """Run every check of every labelled structure.

    Parameters
    ----------
    volume
        The CT, any orientation.
    labels : (slice, row, column) uint8 array
        On the volume's grid.

    Returns
    -------
    tuple of QualityFlag
        In the order of ``inference.labels.STRUCTURES``, then flags of the study.
    """
    upright, orientation = canonical(volume)
    turned = orientation.apply(labels)
    flags: list[QualityFlag] = []
    heights: dict[str, VertebraHeights] = {}
    boxes = boxes_of(turned, margin=_margin(upright))
    for structure in STRUCTURES:
        box = boxes.get(structure.value)
        if box is None:
            continue
        part, mask = crop(upright, box), turned[box] == structure.value
        flags.extend(flag for check in CHECKS if (flag := check(part, mask, structure.key)) is not None)
        if touches_edge(turned, structure.value, MUST_BE_WHOLE.get(structure.key, ())):
            flags.append(_truncated(structure.key))
        elif structure.key in VERTEBRAE:
            heights[structure.key] = measure_heights(part, mask)
    flags.extend(_deformed(heights))
    flags.extend(_metal_elsewhere(upright, flags))
    flags.extend(flag for check in (check_posture, check_contrast) if (flag := check(upright, turned)) is not None)
    return tuple(flags)


def metal_near(volume: Volume, mask: Mask, margin_mm: float = METAL_MARGIN_MM) -> MetalEvidence:
    """Measure metal inside a bone and up to a margin around it.

    Parameters
    ----------
    volume
        Any orientation; crop it around the bone to be fast.
    mask : (slice, row, column) bool array
        The bone.
    margin_mm
        How far around the bone to look.

    Returns
    -------
    MetalEvidence
        Zero volumes where no connected piece reaches 50 mm3.
    """
    metal = volume.hu > METAL_HU
    if not metal.any():
        return MetalEvidence(0.0, 0.0, float(volume.hu[mask].max(initial=-1024.0)))
    pieces, _ = ndimage.label(metal)
    sizes_mm3 = np.bincount(pieces.ravel()) * volume.voxel_mm3
    metal &= sizes_mm3[pieces] >= MIN_METAL_MM3
    near = ndimage.distance_transform_edt(~mask, sampling=volume.spacing_mm) <= margin_mm
    inside, beside = metal & mask, metal & near & ~mask
    return MetalEvidence(
        inside_mm3=int(np.count_nonzero(inside)) * volume.voxel_mm3,
        beside_mm3=int(np.count_nonzero(beside)) * volume.voxel_mm3,
        largest_hu=float(volume.hu[near].max()),
    )


def metal(volume: Volume, mask: Mask, key: str) -> QualityFlag | None:
    """Flag metal inside or beside a bone."""
    found = metal_near(volume, mask)
    if found.total_mm3 < MIN_METAL_MM3:
        return None
    return QualityFlag(
        "metal",
        key,
        f"{BY_KEY[key].name}: {found.total_mm3 / 1000:.1f} cm3 denser than {METAL_HU:g} HU inside or within "
        f"{METAL_MARGIN_MM:g} mm of the bone; expected no metal.",
        (
            ("metal_inside_mm3", found.inside_mm3),
            ("metal_beside_mm3", found.beside_mm3),
            ("largest_hu", found.largest_hu),
        ),
    )


def cement(volume: Volume, mask: Mask, key: str) -> QualityFlag | None:
    """Flag a dense filling deep inside a vertebral body, under the code ``metal``."""
    if key not in VERTEBRAE:
        return None
    depth_mm = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=volume.spacing_mm)[1:-1, 1:-1, 1:-1]
    dense = (depth_mm > CEMENT_DEPTH_MM) & (volume.hu > CEMENT_HU)
    pieces, count = ndimage.label(dense)
    largest_mm3 = float(np.bincount(pieces.ravel())[1:].max() * volume.voxel_mm3) if count else 0.0
    if largest_mm3 < MIN_CEMENT_MM3:
        return None
    return QualityFlag(
        "metal",
        key,
        f"{BY_KEY[key].name}: a filling of {largest_mm3 / 1000:.1f} cm3 denser than {CEMENT_HU:g} HU deep "
        "inside the body (cement, or dense sclerosis); expected cancellous bone.",
        (("filling_mm3", largest_mm3),),
    )


def touches_edge(labels: NDArray[np.uint8], value: int, faces: tuple[tuple[int, int], ...]) -> bool:
    """Whether a label reaches a face of the array.

    Parameters
    ----------
    labels : (slice, row, column) uint8 array
        In canonical order.
    value
        The label's value.
    faces
        Pairs of (axis, 0 for the first plane or -1 for the last).

    Returns
    -------
    bool
    """
    return any(bool((labels.take(place, axis=axis) == value).any()) for axis, place in faces)


ALL_FACES = tuple((axis, place) for axis in range(3) for place in (0, -1))
ALL_BUT_LOWER_FACE = tuple(face for face in ALL_FACES if face != (0, 0))

MUST_BE_WHOLE: dict[str, tuple[tuple[int, int], ...]] = {
    **dict.fromkeys(VERTEBRAE, ALL_FACES),
    **dict.fromkeys(FEMURS, ALL_BUT_LOWER_FACE),
}
"""The faces of a canonical scan that must not cut a structure: a femur's shaft always ends below."""

CHECKS: tuple[Callable[[Volume, Mask, str], QualityFlag | None], ...] = (metal, cement)
"""Checks of a structure inside its box."""


def _margin(volume: Volume) -> int:
    """Voxels around a bone that hold the margin in which metal matters."""
    return int(np.ceil(METAL_MARGIN_MM / min(volume.spacing_mm))) + 1


def _truncated(key: str) -> QualityFlag:
    """Say that the scan cuts a structure."""
    return QualityFlag(
        "truncated_bone",
        key,
        f"{BY_KEY[key].name}: the edge of the scan cuts the bone; expected it to lie inside the scan.",
    )


def _deformed(heights: dict[str, VertebraHeights]) -> list[QualityFlag]:
    """Flag bodies whose heights differ within the body, or from both neighbours."""
    flags = []
    for key, own in heights.items():
        place = VERTEBRAE.index(key)
        beside = [
            heights[VERTEBRAE[near]].median_mm
            for near in (place - 1, place + 1)
            if 0 <= near < len(VERTEBRAE) and VERTEBRAE[near] in heights
        ]
        crushed = own.median_mm / min(beside) if len(beside) == 2 else 1.0
        least = L5_HEIGHT_RATIO if key == "L5" else MIN_HEIGHT_RATIO
        if own.ratio < least or crushed < MIN_HEIGHT_RATIO:
            flags.append(
                QualityFlag(
                    "deformed_vertebra",
                    key,
                    f"{BY_KEY[key].name}: heights of {own.anterior_mm:.0f}, {own.middle_mm:.0f} and "
                    f"{own.posterior_mm:.0f} mm in front, middle and back; expected a lowest of at least "
                    f"{100 * least:g} percent of the highest and {100 * MIN_HEIGHT_RATIO:g} percent of the neighbours.",
                    (("height_ratio", own.ratio), ("ratio_to_neighbours", crushed)),
                )
            )
    return flags


def _metal_elsewhere(volume: Volume, flags: list[QualityFlag]) -> list[QualityFlag]:
    """Tell the reader of metal in the scan where some bone was flagged for it or none was near."""
    metal_mm3 = float(np.count_nonzero(volume.hu > METAL_HU) * volume.voxel_mm3)
    if metal_mm3 < MIN_METAL_MM3:
        return []
    flagged = [flag.subject for flag in flags if flag.code == "metal"]
    where = f"near {len(flagged)} labelled bones" if flagged else "away from every labelled bone"
    return [
        QualityFlag(
            "metal_elsewhere",
            STUDY,
            f"The scan holds {metal_mm3 / 1000:.1f} cm3 denser than {METAL_HU:g} HU, {where}: metal, "
            "or undiluted contrast. Its streaks may reach other bones.",
            (("metal_mm3", metal_mm3),),
        )
    ]
