"""The pictures of one analysis, drawn on the research side: nothing in them names a patient."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fe.load_cases import Kind
from fe.strength import CaseStrength, FemurStrength
from inference.areal_density import Projection
from inference.femoral_regions import INTERTROCHANTERIC, NECK, TROCHANTER
from inference.labels import BY_KEY, STRUCTURES, VERTEBRAE
from inference.volume import canonical
from sr_export.figures import Layer, draw_areal, draw_regions, draw_strain
from sr_export.inputs import Picture
from sr_export.polar import Direction, Fan, draw_directions

if TYPE_CHECKING:
    from dicom_node.pipeline.results import Findings

KINDS: tuple[Kind, ...] = ("stance", "fall")
PART_LETTERS = ((NECK, "N"), (TROCHANTER, "T"), (INTERTROCHANTERIC, "I"))
"""Parts of the hip as the areal picture letters them."""
FANS: tuple[tuple[Kind, str, str], ...] = (
    ("fall", "falls", "towards proximal"),
    ("stance", "stances", "towards lateral"),
)
"""Kind of load, what people call its directions, and where a positive frontal angle points (``fe.load_cases``)."""


def pictures_of(findings: "Findings") -> Iterator[Picture]:
    """Yield the overview, the spine, and of each femur areal density, a polar plot and the weakest loads' strain."""
    upright, orientation = canonical(findings.volume)
    labels = orientation.apply(findings.segmentation.labels)
    bones = [
        Layer(structure.key.split("_")[0] if structure.laterality else structure.key, labels == structure.value)
        for structure in STRUCTURES
        if (labels == structure.value).any()
    ]
    if bones:
        yield Picture(
            "regions_coronal",
            "Segmented bones",
            "Coronal.",
            draw_regions(upright.hu, bones, upright.spacing_mm, "coronal"),
        )
    cores = [
        Layer(density.structure, np.ascontiguousarray(orientation.apply(density.voi_mask)))
        for density in findings.densities
        if density.structure in VERTEBRAE
    ]
    if cores:
        yield Picture(
            "spine_sagittal",
            "Spine",
            "Cores, sagittal.",
            draw_regions(upright.hu, cores, upright.spacing_mm, "sagittal"),
        )
    yield from (_areal_picture(projection) for projection in findings.areal.projections)
    yield from _strength_pictures(findings)


def _areal_picture(projection: Projection) -> Picture:
    """Draw a femur's projected density from the front: the patient's right is on the left side."""
    key = projection.structure
    across = slice(None, None, -1 if BY_KEY[key].laterality == "R" else 1)
    shown = [(letters, part) for part, letters in PART_LETTERS if (projection.parts == part).any()]
    regions = [(letters, ((projection.parts == part) & projection.bone)[:, across]) for letters, part in shown]
    words = {"N": "N neck", "T": "T trochanter", "I": "I between"}
    return Picture(
        f"{key}_areal",
        f"{BY_KEY[key].name}: areal density",
        f"{', '.join(words[letters] for letters, _ in shown)}. Projected CT, not DXA.",
        draw_areal(projection.abmd_g_per_cm2[:, across], projection.bone[:, across], regions),
    )


def _strength_pictures(findings: "Findings") -> Iterator[Picture]:
    """Yield the strength of each femur over all directions, then the strain of its weakest stance and fall."""
    for key, strength in findings.strengths.items():
        fans = tuple(_fans(strength))
        if fans:
            yield Picture(
                f"{key}_directions",
                f"{BY_KEY[key].name}: strength by direction",
                "Distance: strength; angle: turn of the force; ring: weakest.",
                draw_directions(fans),
            )
    for key, strength in findings.strengths.items():
        for kind in KINDS:
            case = strength.weakest(kind)
            if case is not None:
                yield _strain_picture(key, strength, case)


def _strain_picture(key: str, strength: FemurStrength, case: CaseStrength) -> Picture:
    slice_index, row, column = (np.linalg.inv(strength.affine_mm) @ (*case.failure_point_mm, 1.0))[:3]
    risk, place = strength.risk[case.name], (float(slice_index), float(row), float(column))
    count = len(strength.of_kind(case.kind))
    weakest = f"Weakest of {count}: " if count > 1 else ""
    load = f"{round(case.failure_load_n, -1):.0f} N"
    return Picture(
        f"{key}_{case.kind}",
        f"{BY_KEY[key].name}: {case.kind}",
        f"{weakest}{load}, {case.failure_site}, {case.mode}; loaded parts and cut end do not count.",
        draw_strain(risk, (strength.facts.element_mm,) * 3, place),
    )


def _fans(strength: FemurStrength) -> Iterator[Fan]:
    """Yield a polar plot for each kind of load that was computed in more than one direction."""
    for kind, name, tilt_words in FANS:
        rows = strength.polar(kind)
        if len(rows) > 1:
            directions = tuple(Direction(second, frontal, load) for frontal, second, load in rows.tolist())
            yield Fan(f"{len(rows)} {name}", directions, tilt_words)
