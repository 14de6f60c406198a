"""``--model sas``: the femur that yields and softens, pushed along its shaft until it gives way."""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from matplotlib.colors import ListedColormap

from dicom_node.strength.bone import Bone
from dicom_node.strength.charts import curve_chart
from dicom_node.strength.landmarks import femur_landmarks
from dicom_node.strength.mesh_file import unstructured_grid
from dicom_node.strength.outcome import Choices, Drawing, Outcome, Progress
from dicom_node.strength.plates import Mark, Picture3D, Scale, plate
from dicom_node.strength.scene import FRONT, Part, arrow, is_seen, render, section, surface
from dicom_node.strength.sensitivity import first_part, with_sensitivity
from fe.sas import ELEMENT_MM, SasStrength, sas_sensitivity, sas_strength
from fe.sas_model import BONE, SasSettings

PHASES = ("elastic", "yielding", "softening", "crushed")
PHASE_COLOURS = ListedColormap(["#FFF3CF", "#FDB863", "#D94801", "#67000D"])
"""Grows darker with damage, so that a grey print keeps the order."""

PHASE_LIMITS = (-0.5, len(PHASES) - 0.5)
ARROW_MM, CUP_ROOM_MM = 40.0, 9.0

MATERIALS = (
    {
        "name": "Sas 2020 / Saillard 2024, by ash density",
        "law": "E = 14900 rho^1.86 MPa, strength 102 rho^1.80 MPa, softening to 43.1 rho^1.81 MPa, rho in g/cm3",
        "source": "the authors' code, read; docs/methods/femur-nonlinear.md",
    },
)


def run_sas(bone: Bone, choices: Choices, progress: Progress) -> Outcome:
    """Push the head of a femur until the load falls."""
    result = sas_strength(
        bone.rho_qct_mg_per_cm3,
        bone.mask,
        bone.spacing_mm,
        "L" if bone.side == "L" else "R",
        to_ash=bone.to_ash,
        element_mm=choices.element_mm or ELEMENT_MM,
        progress=first_part(progress) if choices.with_sensitivity else progress,
        memory_limit_bytes=choices.memory_limit_bytes,
    )
    outcome = Outcome(
        headline=f"{bone.name}: strength {result.failure_load_n:,.0f} N at {result.failure_displacement_mm:.2f} mm, "
        f"fails at the {result.failure_site} (softening voxel model).",
        rows=(
            ("strength", f"{result.failure_load_n:,.0f}", "N"),
            ("displacement at failure", f"{result.failure_displacement_mm:.3f}", "mm"),
            ("stiffness", f"{result.stiffness_n_per_mm:,.0f}", "N/mm"),
            ("failure site", result.failure_site, ""),
        ),
        values=_values(result, bone),
        facts=result.facts,
        flags=result.flags,
        fields={"": result.field},
        draw=lambda: _draw(result, bone),
    )
    if not choices.with_sensitivity:
        return outcome
    return with_sensitivity(
        outcome,
        bone,
        lambda tell: sas_sensitivity(
            bone.rho_qct_mg_per_cm3,
            bone.mask,
            bone.spacing_mm,
            result,
            to_ash=bone.to_ash,
            progress=tell,
            memory_limit_bytes=choices.memory_limit_bytes,
        ),
        progress,
    )


def _values(result: SasStrength, bone: Bone) -> dict[str, object]:
    return {
        "strength": {
            "failure_load_n": result.failure_load_n,
            "failure_displacement_mm": result.failure_displacement_mm,
            "stiffness_n_per_mm": result.stiffness_n_per_mm,
            "failure_site": result.failure_site,
            "failure_point_lps_mm": bone.point_lps_mm(result.failure_point_mm),
            "failing_elements": result.failing_elements,
            "first_softened_lps_mm": result.first_softened_mm and bone.point_lps_mm(result.first_softened_mm),
        },
        "curve": {
            "displacement_mm": result.displacement_mm,
            "force_n": result.load_n,
            "softened_elements": result.softened_elements,
        },
        "landmarks": femur_landmarks(result.frame, bone),
        "settings": {
            "direction_lps": bone.direction_lps(result.direction),
            "element_mm": result.facts.element_mm,
            **asdict(SasSettings()),
        },
        "materials": MATERIALS,
    }


def _draw(result: SasStrength, bone: Bone) -> Iterator[Drawing]:
    grid = unstructured_grid(result.field())
    is_bone = np.asarray(grid.cell_data["part"]) == BONE
    femur, others = (grid.extract_cells(np.flatnonzero(which)) for which in (is_bone, ~is_bone))
    outside, supports = surface(femur), surface(others)
    push = Part(arrow(_above(result), result.direction, ARROW_MM), colour="#222222")
    whole = render([_coloured(outside), Part(supports, colour="#B8C4CC"), push], FRONT)
    cut = render([_coloured(section(femur, "y", result.failure_point_mm[1]), is_cut=True)], FRONT)
    seen = is_seen(outside, result.failure_point_mm, FRONT, 2 * result.facts.element_mm)
    mark = (Mark(result.failure_point_mm, "fails here"),)
    yield (
        "failure",
        plate(
            f"{bone.name}, softening voxel model",
            f"Strength {result.failure_load_n:,.0f} N at {result.failure_displacement_mm:.2f} mm; fails at the "
            f"{result.failure_site}. State at the largest load",
            caution=bone.caution,
            views=[
                Picture3D(whole, "from the front", mark if seen else ()),
                Picture3D(cut, "cut through the failing place", mark),
            ],
            scale=Scale("", PHASE_COLOURS, PHASE_LIMITS, steps=PHASES),
            charts=[
                curve_chart(
                    result.displacement_mm,
                    result.load_n,
                    words=("displacement of the head, mm", "force, kN"),
                    marks=((result.failure_displacement_mm, result.failure_load_n, "strength"),),
                )
            ],
        ),
    )


def _coloured(mesh: object, *, is_cut: bool = False) -> Part:
    return Part(mesh, "phase", PHASE_COLOURS, PHASE_LIMITS, is_smooth=not is_cut, is_lit=not is_cut)


def _above(result: SasStrength) -> tuple[float, float, float]:
    """Return the arrow's tip: above cup and head, on the load's line."""
    head, direction = np.array(result.frame.head_centre_mm), np.array(result.direction)
    x, y, z = head - direction * (result.frame.head_radius_mm + CUP_ROOM_MM)
    return (float(x), float(y), float(z))
