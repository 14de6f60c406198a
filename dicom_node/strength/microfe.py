"""``--model microfe``: axial compression of an HR-pQCT or micro-CT specimen."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

import numpy as np

from dicom_node.errors import ConfigurationError
from dicom_node.strength.bone import Bone
from dicom_node.strength.mesh_file import unstructured_grid
from dicom_node.strength.outcome import Choices, Drawing, Outcome, Progress
from dicom_node.strength.plates import Picture3D, Scale, plate
from dicom_node.strength.scene import FRONT, OBLIQUE, Part, render, section
from fe.errors import BadMaterial
from fe.microfe import MicroFe, micro_fe
from fe.tissue import BONE_LABEL, BONE_NAMES, Tissue, bone_labels, preset_for, preset_tissues

COLOURS = "viridis"
ENERGY = "strain_energy_density_mpa"
SHOWN_PERCENTILES = (2.0, 99.0)
"""Ends of the colour scale: the few voxels beyond would take most of it."""

LEAST_SPAN = 1.001
"""Of the colour scale's ends, where all voxels have one energy."""

GIVEN = "Given with --tissue-modulus-mpa"


def run_microfe(bone: Bone, choices: Choices, progress: Progress) -> Outcome:
    """Compress the specimen under the mask along its slice axis."""
    labels = bone.labels
    if choices.threshold_mg_per_cm3 is not None:
        labels = bone_labels(bone.rho_qct_mg_per_cm3, choices.threshold_mg_per_cm3, bone.mask)
    tissues = _tissues(choices, bone)
    result = micro_fe(
        labels,
        bone.spacing_mm,
        tissues=tissues,
        progress=progress,
        memory_limit_bytes=choices.memory_limit_bytes,
    )
    return Outcome(
        headline=f"{bone.name}: failure load {result.failure_load_n:,.0f} N, stiffness "
        f"{result.stiffness_n_per_mm:,.0f} N/mm (micro-FE, Pistoia).",
        rows=(
            ("failure load", f"{result.failure_load_n:,.1f}", "N"),
            ("stiffness", f"{result.stiffness_n_per_mm:,.0f}", "N/mm"),
            ("apparent modulus", f"{result.apparent_modulus_mpa:,.0f}", "MPa"),
        ),
        values=_values(result, tissues, choices),
        facts=result.facts,
        flags=result.flags,
        fields={"": lambda: result.solved.field(surface_only=False)},
        draw=lambda: _draw(result, bone),
    )


def _tissues(choices: Choices, bone: Bone) -> Mapping[int, Tissue]:
    if choices.tissue_modulus_mpa is None:
        try:
            return preset_tissues(preset_for(bone.spacing_mm))
        except BadMaterial as error:
            raise ConfigurationError(f"{error} Here: with --tissue-modulus-mpa.") from None
    values = [int(value) for value in np.unique(bone.labels) if value] or [BONE_LABEL]
    return {
        value: Tissue(BONE_NAMES.get(value, f"label {value}"), choices.tissue_modulus_mpa, GIVEN)
        for value in {*values, BONE_LABEL}
    }


def _values(result: MicroFe, tissues: Mapping[int, Tissue], choices: Choices) -> dict[str, object]:
    return {
        "strength": {
            "failure_load_n": result.failure_load_n,
            "stiffness_n_per_mm": result.stiffness_n_per_mm,
            "apparent_modulus_mpa": result.apparent_modulus_mpa,
            "reaction_force_n": result.reaction_force_n,
            "pistoia": asdict(result.failure),
        },
        "specimen": {
            "height_mm": result.height_mm,
            "section_mm2": result.section_mm2,
            "bone_volume_mm3": result.bone_volume_mm3,
            "end_faces_mm2": result.end_faces_mm2,
        },
        "tissues": [asdict(share) for share in result.shares],
        "settings": {
            "axis": result.axis,
            "ends": result.ends,
            "strain": result.strain,
            "threshold_mg_per_cm3": choices.threshold_mg_per_cm3,
        },
        "materials": [
            {"name": tissues[share.label].name, "source": tissues[share.label].source} for share in result.shares
        ],
    }


def _draw(result: MicroFe, bone: Bone) -> Iterator[Drawing]:
    whole, outside = (unstructured_grid(result.solved.field(surface_only=only)) for only in (False, True))
    values = np.asarray(whole.cell_data[ENERGY])
    low, high = np.percentile(values[values > 0], SHOWN_PERCENTILES)
    limits = (float(low), float(max(high, low * LEAST_SPAN)))
    scenes = (
        (outside.extract_surface(algorithm="dataset_surface"), OBLIQUE, "from the front, left and above"),
        (section(whole, "y"), FRONT, "cut through the middle, from the front"),
    )
    views = [
        Picture3D(render([Part(mesh, ENERGY, COLOURS, limits, is_log=True, is_smooth=False)], camera), words)
        for mesh, camera, words in scenes
    ]
    yield (
        "energy",
        plate(
            f"{bone.name}, micro-FE",
            f"Strain energy density at {abs(result.strain):.0%} compression; fails at {result.failure_load_n:,.0f} N",
            caution=bone.caution,
            views=views,
            scale=Scale("strain energy density, MPa", COLOURS, limits, is_log=True),
        ),
    )
