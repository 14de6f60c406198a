"""The pictures of one analysis, drawn on the research side: nothing in them names a patient."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from inference.labels import BY_KEY, STRUCTURES, VERTEBRAE
from inference.volume import canonical
from sr_export.figures import Layer, draw_regions, draw_strain
from sr_export.inputs import Picture

if TYPE_CHECKING:
    from dicom_node.pipeline.results import Findings


def pictures_of(findings: "Findings") -> Iterator[Picture]:
    """Yield the overview, the spine, and the strain field of every load case."""
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
            "Coronal section; patient's right on the left.",
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
            "Trabecular cores",
            "Volumes of interest, sagittal; front on the left.",
            draw_regions(upright.hu, cores, upright.spacing_mm, "sagittal"),
        )
    yield from _strain_pictures(findings)


def _strain_pictures(findings: "Findings") -> Iterator[Picture]:
    for key, strength in findings.strengths.items():
        structure = BY_KEY[key]
        to_index = np.linalg.inv(strength.affine_mm)
        for kind in ("stance", "fall"):
            case = strength.weakest(kind)
            if case is None:
                continue
            slice_index, row, column = (to_index @ (*case.failure_point_mm, 1.0))[:3]
            yield Picture(
                f"{key}_{kind}",
                f"{structure.name}, weakest {kind}: {round(case.failure_load_n, -1):.0f} N",
                f"Front surface, strain over its limit at failure; fails in {case.mode} at the {case.failure_site}.",
                draw_strain(
                    strength.risk[case.name],
                    (strength.facts.element_mm,) * 3,
                    (slice_index, row, column),
                    structure.laterality,
                    kind,
                ),
            )
