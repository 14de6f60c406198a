"""``--model vertebra``: an elastic, perfectly plastic vertebral body, shortened between its endplates."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from dicom_node.strength.bone import Bone
from dicom_node.strength.charts import curve_chart
from dicom_node.strength.mesh_figures import mesh_figures
from dicom_node.strength.mesh_file import unstructured_grid
from dicom_node.strength.outcome import Choices, Drawing, Outcome, Progress
from dicom_node.strength.plates import Mark, Picture3D, Scale, plate
from dicom_node.strength.scene import FROM_LEFT, FRONT, Part, arrow, render, surface
from dicom_node.strength.sensitivity import first_part, with_sensitivity
from fe.endplates import Endplate
from fe.vertebra import ELEMENT_MM, VertebraSettings, VertebraStrength, vertebra_strength
from fe.vertebra_sensitivity import vertebra_sensitivity

PLASTIC = "plastic_strain"
COLOURS = "YlOrRd"
LEAST_SHOWN_STRAIN = 0.001
"""Upper end of the colour scale where nothing yields."""

SHOWN_PERCENTILE = 99.0
UPPER_COLOUR, LOWER_COLOUR, BONE_COLOUR = "#0072B2", "#E69F00", "#E8E0CC"
"""Two colours of [OkabeIto2008] of different brightness; words beside the endplates say the same."""

ARROW_MM, ARROW_ROOM_MM = 14.0, 1.0


def run_vertebra(bone: Bone, choices: Choices, progress: Progress) -> Outcome:
    """Shorten a vertebral body until its strength is reached."""
    result = vertebra_strength(
        bone.rho_qct_mg_per_cm3,
        bone.mask,
        bone.spacing_mm,
        bone.level,
        element_mm=choices.element_mm or ELEMENT_MM,
        progress=first_part(progress) if choices.with_sensitivity else progress,
        memory_limit_bytes=choices.memory_limit_bytes,
    )
    outcome = Outcome(
        headline=f"{bone.name}: strength {result.failure_load_n:,.0f} N (elastic, perfectly plastic).",
        rows=(
            ("strength", f"{result.failure_load_n:,.0f}", "N"),
            ("stiffness", f"{result.stiffness_n_per_mm:,.0f}", "N/mm"),
            ("part of the volume that yields", f"{result.yielded_fraction[-1]:.0%}", ""),
            ("distance of the endplates", f"{result.endplates.height_mm:.1f}", "mm"),
            ("volume of the body", f"{result.body_volume_mm3:,.0f}", "mm3"),
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
        lambda tell: vertebra_sensitivity(
            result,
            bone.rho_qct_mg_per_cm3,
            bone.mask,
            bone.spacing_mm,
            memory_limit_bytes=choices.memory_limit_bytes,
            progress=tell,
        ),
        progress,
    )


def _values(result: VertebraStrength, bone: Bone) -> dict[str, object]:
    settings = VertebraSettings()
    law = settings.law
    return {
        "strength": {
            "failure_load_n": result.failure_load_n,
            "shear_fraction": result.shear_fraction,
            "stiffness_n_per_mm": result.stiffness_n_per_mm,
            "yielded_fraction": result.yielded_fraction[-1],
            "body_volume_mm3": result.body_volume_mm3,
            "arch_fraction": result.arch_fraction,
        },
        "curve": {
            "displacement_mm": result.displacement_mm,
            "force_n": result.load_n,
            "yielded_fraction": result.yielded_fraction,
        },
        "landmarks": {
            "height_mm": result.endplates.height_mm,
            "axis_lps": bone.direction_lps(result.endplates.axis),
            "superior": _endplate(result.endplates.superior, bone),
            "inferior": _endplate(result.endplates.inferior, bone),
        },
        **mesh_figures(result.field()),
        "settings": {
            "element_mm": result.facts.element_mm,
            **{name: value for name, value in asdict(settings).items() if name != "law"},
        },
        "materials": [
            {
                "name": "Young's modulus",
                "law": f"E = {law.slope_mpa:g} rho_QCT {law.intercept_mpa:+g} MPa, {law.minimum_mpa:g} to "
                f"{law.maximum_mpa:g} MPa, rho in g/cm3",
                "source": law.source,
                "density": f"as calibrated ({bone.scan.material}), not converted between K2HPO4 and HA",
            }
        ],
    }


def _endplate(endplate: Endplate, bone: Bone) -> dict[str, object]:
    return {
        "centre_lps_mm": bone.point_lps_mm(endplate.centre_mm),
        "normal_lps": bone.direction_lps(endplate.normal),
        "area_mm2": endplate.area_mm2,
        "roughness_mm": endplate.roughness_mm,
    }


def _draw(result: VertebraStrength, bone: Bone) -> Iterator[Drawing]:
    grid = unstructured_grid(result.field())
    upper, lower = result.endplates.superior.centre_mm, result.endplates.inferior.centre_mm
    middle = (np.array(upper) + np.array(lower)) / 2
    cut = grid.slice(normal="x", origin=middle)
    largest = float(np.percentile(grid.cell_data[PLASTIC], SHOWN_PERCENTILE))
    limits = (0.0, max(largest, LEAST_SHOWN_STRAIN))
    push = Part(_push(result), colour="#222222")
    rim = Part(
        cut.extract_feature_edges(boundary_edges=True, feature_edges=False, manifold_edges=False), colour="#555555"
    )
    yield (
        "failure",
        plate(
            f"{bone.name}, elastic and perfectly plastic",
            f"Strength {result.failure_load_n:,.0f} N; {result.yielded_fraction[-1]:.0%} of the volume yields",
            caution=bone.caution,
            views=[
                Picture3D(
                    render([*_shell(grid), push], FRONT),
                    FRONT.name,
                    (Mark(_front_of(grid, 1), "pushed"), Mark(_front_of(grid, -1), "held")),
                ),
                Picture3D(
                    render([Part(cut, PLASTIC, COLOURS, limits, is_smooth=False, is_lit=False), rim], FROM_LEFT),
                    "cut through the middle, from the patient's left",
                ),
            ],
            scale=Scale("equivalent plastic strain", COLOURS, limits),
            charts=[
                curve_chart(
                    result.displacement_mm,
                    result.load_n,
                    words=("displacement of the upper endplate, mm", "force, kN"),
                    marks=((result.displacement_mm[-1], result.failure_load_n, "strength"),),
                )
            ],
        ),
    )


def _shell(grid: Any) -> Iterator[Part]:
    """Yield the body's outer surface, endplates in their own colours."""
    outside = surface(grid)
    side = outside.point_data_to_cell_data().cell_data["endplate"]
    for kept, colour in ((side > 0, UPPER_COLOUR), (side < 0, LOWER_COLOUR), (side == 0, BONE_COLOUR)):
        if kept.any():
            yield Part(outside.extract_cells(np.flatnonzero(kept)), colour=colour, is_smooth=False)


def _front_of(grid: Any, side: int) -> tuple[float, float, float]:
    """Return the foremost node of an endplate."""
    points = np.asarray(grid.points)[np.asarray(grid.point_data["endplate"]) == side]
    x, y, z = points[np.argmin(points[:, 1])]
    return (float(x), float(y), float(z))


def _push(result: VertebraStrength) -> Any:
    axis = np.array(result.endplates.axis)
    return arrow(np.array(result.endplates.superior.centre_mm) + ARROW_ROOM_MM * axis, -axis, ARROW_MM)
