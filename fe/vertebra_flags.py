"""What a reader of a vertebra's strength must know about the model behind it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fe.endplates import Endplates
from fe.flags import COARSE_MM, LIMITED_FRACTION, ModelFlag
from fe.tetra.surface import BoneSurface
from fe.vertebral_body import VertebralBody

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

EDGES = ("the lower end", "the upper end", "the front", "the back", "the right", "the left")

COARSE_ELEMENT_MM = 3.0
"""Elements with longer edges were not compared with the source's 1 mm3; see the method page for their error."""

TILT_LIMIT_DEG = 40.0
"""Bodies lie within about 35 degrees of the scan's long axis, L5 farthest [m assumption]; wider by a margin."""

WEDGE_LIMIT_DEG = 25.0
"""L5 is wedged by up to 20 degrees; more is a fracture, a deformity or a wrong mask [m assumption]."""

AREA_RATIO = (0.6, 1.6)
"""Upper over lower endplate's area; healthy bodies have 0.8 to 1.2 [m assumption]; wider by a margin."""

HEIGHT_RATIO = 0.75
"""Smallest over largest height of the thirds, the limit of a moderate fracture [Genant1993, m]; L5's natural wedge lies
just above it."""


def vertebra_flags(
    mask: Bools,
    body: VertebralBody,
    spacing_mm: tuple[float, float, float],
    element_mm: float,
    surface: BoneSurface,
    plates: Endplates,
    modulus_mpa: Doubles,
    limits_mpa: tuple[float, float],
) -> tuple[ModelFlag, ...]:
    """Return what limits a vertebra's model.

    Parameters
    ----------
    mask, spacing_mm
        The input.
    body
        What was left of it.
    element_mm, surface, plates
        The model.
    modulus_mpa : (elements,) array
        Young's modulus of every element.
    limits_mpa
        Smallest and largest modulus of the law.
    """
    return (
        *_edge_flags(body.mask),
        *_size_flags(spacing_mm, element_mm),
        *_part_flags(mask, body, surface),
        *_plate_flags(plates),
        *_shape_flags(plates),
        *_modulus_flags(modulus_mpa, limits_mpa),
    )


def _edge_flags(body: Bools) -> Iterator[ModelFlag]:
    faces = (body[0], body[-1], body[:, 0], body[:, -1], body[:, :, 0], body[:, :, -1])
    touched = [name for name, face in zip(EDGES, faces, strict=True) if face.any()]
    if touched:
        yield ModelFlag(
            "truncated",
            f"The vertebral body touches the scan's edge at {', '.join(touched)}; what lies beyond is missing in the "
            "model, and an endplate may be the cut instead of bone.",
            (("edges", float(len(touched))),),
        )


def _size_flags(spacing_mm: tuple[float, float, float], element_mm: float) -> Iterator[ModelFlag]:
    if max(spacing_mm) > COARSE_MM:
        yield ModelFlag(
            "coarse_voxels",
            f"The scan's voxels measure {max(spacing_mm):.1f} mm; at most {COARSE_MM:.0f} mm show the endplates and "
            "the shell. The strength is less certain.",
            (("voxel_mm", float(max(spacing_mm))),),
        )
    if element_mm > COARSE_ELEMENT_MM:
        yield ModelFlag(
            "coarse_elements",
            f"The elements' edges measure {element_mm:.1f} mm, those of the published model 2 mm. The strength comes "
            "out a few percent off.",
            (("element_mm", float(element_mm)),),
        )


def _part_flags(mask: Bools, body: VertebralBody, surface: BoneSurface) -> Iterator[ModelFlag]:
    dropped = int(mask.sum()) - body.input_voxels + surface.dropped_voxels
    if dropped:
        yield ModelFlag(
            "islands_dropped",
            f"Parts of the mask that do not touch the vertebra ({dropped} voxels) were left out.",
            (("voxels", float(dropped)),),
        )
    if body.arch_fraction > 0:
        yield ModelFlag(
            "arch_cut",
            f"The mask held a whole vertebra; {body.arch_fraction:.0%} of it, behind the body's back wall, were cut "
            "off. The strength depends on where.",
            (("arch_fraction", body.arch_fraction),),
        )


def _plate_flags(plates: Endplates) -> Iterator[ModelFlag]:
    ratio = plates.superior.area_mm2 / plates.inferior.area_mm2
    odd = []
    if plates.tilt_deg > TILT_LIMIT_DEG:
        odd.append(f"their axis is tilted by {plates.tilt_deg:.0f} degrees (at most {TILT_LIMIT_DEG:.0f} are usual)")
    if plates.wedge_deg > WEDGE_LIMIT_DEG:
        odd.append(f"their planes meet at {plates.wedge_deg:.0f} degrees (at most {WEDGE_LIMIT_DEG:.0f} are usual)")
    if not AREA_RATIO[0] <= ratio <= AREA_RATIO[1]:
        odd.append(f"the upper one has {ratio:.2f} times the lower one's area ({AREA_RATIO[0]} to {AREA_RATIO[1]})")
    if odd:
        yield ModelFlag(
            "unusual_endplates",
            f"The endplates found are unusual: {'; '.join(odd)}. The load may act on the wrong surface.",
            (("tilt_deg", plates.tilt_deg), ("wedge_deg", plates.wedge_deg), ("area_ratio", ratio)),
        )


def _shape_flags(plates: Endplates) -> Iterator[ModelFlag]:
    heights = plates.edge_heights_mm
    ratio = min(heights) / max(heights)
    if not ratio >= HEIGHT_RATIO:
        front, middle, back = heights
        yield ModelFlag(
            "deformed_vertebra",
            f"The body is {front:.0f} mm high in front, {middle:.0f} mm in the middle and {back:.0f} mm at the back: a "
            f"ratio of {ratio:.2f}, below {HEIGHT_RATIO}. A fractured body's strength is not that of the bone before.",
            (("height_ratio", ratio), ("front_mm", front), ("middle_mm", middle), ("back_mm", back)),
        )


def _modulus_flags(modulus_mpa: Doubles, limits_mpa: tuple[float, float]) -> Iterator[ModelFlag]:
    low, high = limits_mpa
    limited = float(np.mean((modulus_mpa <= low) | (modulus_mpa >= high)))
    if limited >= LIMITED_FRACTION:
        yield ModelFlag(
            "modulus_limited",
            f"{limited:.0%} of the elements have a density for which the modulus law gives less than {low:g} or more "
            f"than {high:.0f} MPa; they were set to these values.",
            (("fraction", limited),),
        )
