"""What a reader of a strength must know about the model behind it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fe.femur_frame import SHAFT_MIN_MM, SHAFT_START, FemurFrame
from fe.material import ModulusLaw
from fe.voxel.grid import DensityGrid


@dataclass(frozen=True, slots=True)
class ModelFlag:
    """One statement that limits a result.

    Attributes
    ----------
    code
        A key of ``FLAG_MEANINGS``.
    sentence
        ASCII sentence: what was found, what was expected, what it does to the number.
    evidence
        Pairs of (name with unit, value).
    """

    code: str
    sentence: str
    evidence: tuple[tuple[str, float], ...] = ()


FLAG_MEANINGS: dict[str, str] = {
    "short_shaft": "Too little shaft below the head: the axis is the scan's, and the held end is near the neck",
    "truncated": "The bone touches an edge of the scan other than the lower one",
    "coarse_voxels": "The scan's voxels are too large for the cortex of the femoral neck",
    "coarse_elements": "The elements are too large for the cortex of the femoral neck",
    "islands_dropped": "Parts of the mask not connected with the bone were left out",
    "modulus_limited": "Many elements have a density outside of the range of the modulus law",
    "unusual_neck": "The neck-shaft angle found is outside of the anatomical range",
    "ragged_end_face": "An end face of the specimen holds much less bone than its other sections",
    "unusual_endplates": "Tilt, wedge or areas of a vertebra's endplates are outside of the anatomical range",
    "deformed_vertebra": "The vertebral body's heights differ more than a normal body's: fracture or deformity",
    "arch_cut": "The mask held a whole vertebra, and the body was cut from it automatically",
    "sensitivity_incomplete": "A mask eroded or dilated to try the strength's sensitivity has no strength itself",
    "metal": "Metal inside the mask: the strength has no meaning",
    "cavities_filled": "Closed cavities inside the mask were filled",
}

COARSE_MM = 2.0
"""Voxels or elements larger than this cannot show the neck's cortex of 1 to 3 mm [m assumption]."""

NECK_SHAFT_RANGE_DEG = (110.0, 150.0)
"""Normal adults lie between about 120 and 140 degrees [m assumption]; wider by a margin."""

LIMITED_FRACTION = 0.05
"""Elements at the limits of the modulus law are reported from this fraction on [project's assumption]."""


@dataclass(frozen=True, slots=True)
class ShortShaftEffect:
    """Weakest stance and fall of a synthetic femur cut this far below its head's centre, over those of a whole one."""

    length_mm: float
    stance: float
    fall: float


SHORT_SHAFT_EFFECTS = (
    ShortShaftEffect(100.0, 1.25, 1.0),
    ShortShaftEffect(70.0, 1.3, 1.0),
    ShortShaftEffect(50.0, 2.6, 1.3),
    ShortShaftEffect(30.0, 5.1, 2.4),
)
"""Measured with ``fe.gallery.synthetic_femur`` of 2 mm, head radius 24 mm, against 250 mm (docs/methods/
femur-strength.md). Its weakest places lie between the trochanters and below them."""

MASK_EDGES = ("the upper end", "the front", "the back", "the right", "the left")


def model_flags(
    grid: DensityGrid,
    frame: FemurFrame,
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    modulus_mpa: NDArray[np.float64],
    law: ModulusLaw,
) -> tuple[ModelFlag, ...]:
    """Return what limits a femur model.

    Parameters
    ----------
    grid, frame
        The model's elements and its landmarks.
    mask, spacing_mm
        The input.
    modulus_mpa : (elements,) array
        Young's modulus of every element.
    law
        The law it comes from.
    """
    return (
        *_shaft_flags(grid, frame),
        *_edge_flags(mask),
        *_size_flags(spacing_mm, grid.element_mm),
        *_element_flags(grid, modulus_mpa, law),
        *_neck_flags(frame),
    )


def cavity_flags(mask: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Iterator[ModelFlag]:
    """Yield a flag where ``whole``, the mask that was modelled, holds more than the mask given."""
    filled = int(whole.sum()) - int(mask.sum())
    if filled:
        yield ModelFlag(
            "cavities_filled",
            f"{filled} voxels in closed cavities of the mask were filled with what the scan shows there: a bone has no "
            "closed cavities, and a hole would make it weaker.",
            (("voxels", float(filled)),),
        )


def _shaft_flags(grid: DensityGrid, frame: FemurFrame) -> Iterator[ModelFlag]:
    if frame.has_shaft_axis:
        return
    lowest_mm = float(grid.points_mm(np.argwhere(grid.is_bone))[:, 2].min()) - grid.element_mm / 2
    below_mm = frame.head_centre_mm[2] - lowest_mm
    wanted_mm = SHAFT_START * frame.head_radius_mm + SHAFT_MIN_MM
    effect = min(SHORT_SHAFT_EFFECTS, key=lambda row: abs(row.length_mm - below_mm))
    yield ModelFlag(
        "short_shaft",
        f"The femur reaches {below_mm:.0f} mm below the centre of its head; {wanted_mm:.0f} mm are needed to see the "
        "shaft's axis. Load directions follow the scan's long axis instead, the held end lies close to the neck, and a "
        "weaker place below the cut is not seen: the strengths tend to come out too high. In the linear model, a "
        f"synthetic femur cut {effect.length_mm:.0f} mm below its head was {effect.stance:.1f} times as strong in "
        f"stance and {effect.fall:.1f} times in falls as the whole one.",
        (
            ("bone_below_head_mm", below_mm),
            ("wanted_mm", wanted_mm),
            ("synthetic_stance_factor", effect.stance),
            ("synthetic_fall_factor", effect.fall),
        ),
    )


def _edge_flags(mask: NDArray[np.bool_]) -> Iterator[ModelFlag]:
    faces = (mask[-1], mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    touched = [name for name, face in zip(MASK_EDGES, faces, strict=True) if face.any()]
    if touched:
        yield ModelFlag(
            "truncated",
            f"The bone touches the scan's edge at {', '.join(touched)}; what lies beyond is missing in the model.",
            (("edges", float(len(touched))),),
        )


def _size_flags(spacing_mm: tuple[float, float, float], element_mm: float) -> Iterator[ModelFlag]:
    reason = f"at most {COARSE_MM:.0f} mm show the cortex of the femoral neck. The strength is less certain."
    if max(spacing_mm) > COARSE_MM:
        yield ModelFlag(
            "coarse_voxels",
            f"The scan's voxels measure {max(spacing_mm):.1f} mm; {reason}",
            (("voxel_mm", float(max(spacing_mm))),),
        )
    if element_mm > COARSE_MM:
        yield ModelFlag(
            "coarse_elements",
            f"The elements measure {element_mm:.1f} mm; {reason}",
            (("element_mm", float(element_mm)),),
        )


def _element_flags(grid: DensityGrid, modulus_mpa: NDArray[np.float64], law: ModulusLaw) -> Iterator[ModelFlag]:
    if grid.islands:
        yield ModelFlag(
            "islands_dropped",
            f"{grid.islands} parts of the mask ({grid.dropped_elements} elements) do not touch the femur and were left "
            "out.",
            (("islands", float(grid.islands)), ("elements", float(grid.dropped_elements))),
        )
    limited = float(np.mean((modulus_mpa <= law.minimum_mpa) | (modulus_mpa >= law.maximum_mpa)))
    if limited >= LIMITED_FRACTION:
        yield ModelFlag(
            "modulus_limited",
            f"{limited:.0%} of the elements have a density for which the modulus law gives less than "
            f"{law.minimum_mpa:.0f} or more than {law.maximum_mpa:.0f} MPa; they were set to these values.",
            (("fraction", limited),),
        )


def _neck_flags(frame: FemurFrame) -> Iterator[ModelFlag]:
    low, high = NECK_SHAFT_RANGE_DEG
    if not low <= frame.neck_shaft_deg <= high:
        yield ModelFlag(
            "unusual_neck",
            f"The angle between neck and shaft was found to be {frame.neck_shaft_deg:.0f} degrees; adults have "
            f"{low:.0f} to {high:.0f}. The load directions may be wrong.",
            (("neck_shaft_deg", frame.neck_shaft_deg),),
        )
