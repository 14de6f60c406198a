"""``--model ct2s``: linear femur under a cone of stances and 28 falls with contact, strain criterion."""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from dicom_node.strength.bone import Bone
from dicom_node.strength.charts import direction_chart
from dicom_node.strength.landmarks import femur_landmarks
from dicom_node.strength.mesh_figures import mesh_figures
from dicom_node.strength.mesh_file import unstructured_grid
from dicom_node.strength.outcome import Choices, Drawing, Outcome, Progress
from dicom_node.strength.plates import Mark, Picture3D, Scale, plate
from dicom_node.strength.scene import (
    ABOVE,
    BACK,
    FROM_LEFT,
    FROM_RIGHT,
    FRONT,
    Part,
    arrow,
    best_camera,
    ground,
    is_seen,
    render,
)
from dicom_node.strength.scene import surface as surface_of
from dicom_node.strength.sensitivity import first_part, with_sensitivity
from fe.femur import FemurSettings
from fe.femur_sensitivity import femur_sensitivity
from fe.load_cases import Kind
from fe.material import MORGAN_2003_FEMORAL_NECK, POISSON_RATIO
from fe.strength import CaseStrength, FemurStrength, femur_strength
from sr_export.polar import Direction

KINDS: tuple[tuple[Kind, str], ...] = (("stance", "stance"), ("fall", "fall"))
"""Kind of a case, and what people call it."""

COLOURS = "YlOrRd"
"""Bone-coloured where little happens, dark where the bone fails; ColorBrewer, safe for print and colour blindness."""

RISK_LIMITS = (0.0, 1.0)
ARROW_MM = 40.0
ARROW_ROOM_MM = 2.0
GROUND_RADIUS_MM = 35.0
SEEN_WITHIN_ELEMENTS = 2.0
"""A failing place this far below the surface, in elements, is shown on the surface."""


def run_ct2s(bone: Bone, choices: Choices, progress: Progress) -> Outcome:
    """Compute the strength of a femur in all directions."""
    result = femur_strength(
        bone.rho_qct_mg_per_cm3,
        bone.mask,
        bone.spacing_mm,
        "L" if bone.side == "L" else "R",
        to_ash=bone.to_ash,
        discretisation=choices.discretisation,
        element_mm=choices.element_mm,
        progress=first_part(progress) if choices.with_sensitivity else progress,
        memory_limit_bytes=choices.memory_limit_bytes,
    )
    outcome = Outcome(
        headline=f"{bone.name}: {'; '.join(_spans(result))} (linear, strain criterion).",
        rows=tuple(_rows(result)),
        values=_values(result, bone),
        facts=result.facts,
        flags=result.flags,
        fields={"": lambda: result.field},
        draw=lambda: _draw(result, bone),
    )
    if not choices.with_sensitivity:
        return outcome
    return with_sensitivity(
        outcome,
        bone,
        lambda tell: femur_sensitivity(
            result,
            bone.rho_qct_mg_per_cm3,
            bone.mask,
            bone.spacing_mm,
            to_ash=bone.to_ash,
            memory_limit_bytes=choices.memory_limit_bytes,
            progress=tell,
        ),
        progress,
    )


def _extremes(result: FemurStrength, kind: Kind) -> tuple[CaseStrength, CaseStrength] | None:
    weakest, strongest = result.weakest(kind), result.strongest(kind)
    return None if weakest is None or strongest is None else (weakest, strongest)


def _spans(result: FemurStrength) -> Iterator[str]:
    for kind, name in KINDS:
        if (pair := _extremes(result, kind)) is not None:
            yield f"{name} {pair[0].failure_load_n:,.0f} to {pair[1].failure_load_n:,.0f} N"


def _rows(result: FemurStrength) -> Iterator[tuple[str, str, str]]:
    for kind, name in KINDS:
        if (pair := _extremes(result, kind)) is not None:
            weakest, strongest = pair
            yield f"{name}, weakest of {len(result.of_kind(kind))}", f"{weakest.failure_load_n:,.0f}", "N"
            yield f"{name}, strongest", f"{strongest.failure_load_n:,.0f}", "N"
            yield f"{name}, weakest direction", _direction_words(weakest), "deg"
            yield f"{name}, fails", f"{weakest.failure_site}, {weakest.mode}", ""


def _direction_words(case: CaseStrength) -> str:
    if case.kind == "fall":
        return f"{case.frontal_deg:+.0f} towards proximal, {case.second_deg:+.0f} towards posterior"
    return f"{case.frontal_deg:+.0f} towards lateral, {case.second_deg:+.0f} towards posterior"


def _values(result: FemurStrength, bone: Bone) -> dict[str, object]:
    strength: dict[str, object] = {}
    for kind, _ in KINDS:
        if (pair := _extremes(result, kind)) is not None:
            strength[f"{kind}_minimum_n"], strength[f"{kind}_maximum_n"] = (case.failure_load_n for case in pair)
            strength[f"{kind}_weakest_case"] = pair[0].name
    law = MORGAN_2003_FEMORAL_NECK
    return {
        "strength": strength,
        "cases": [_case(case, bone) for case in result.cases],
        "landmarks": femur_landmarks(result.frame, bone),
        **mesh_figures(result.field),
        "settings": {
            "discretisation": result.discretisation,
            "element_mm": result.facts.element_mm,
            "column_count": result.column_count,
            "poisson_ratio": POISSON_RATIO,
            **asdict(FemurSettings()),
        },
        "materials": [
            {"name": "ash density", "source": f"line of the calibration's material {bone.scan.material}"},
            {
                "name": "Young's modulus",
                "law": f"E = {law.coefficient_mpa:g} rho_app^{law.exponent:g} MPa, {law.minimum_mpa:g} to "
                f"{law.maximum_mpa:g} MPa",
                "source": law.source,
            },
        ],
    }


def _case(case: CaseStrength, bone: Bone) -> dict[str, object]:
    values = asdict(case)
    values["direction_lps"] = bone.direction_lps(values.pop("direction"))
    values["failure_point_lps_mm"] = bone.point_lps_mm(values.pop("failure_point_mm"))
    return values


def _draw(result: FemurStrength, bone: Bone) -> Iterator[Drawing]:
    skin = surface_of(unstructured_grid(result.field))
    for kind, name in KINDS:
        case = result.weakest(kind)
        if case is not None:
            yield kind, _case_plate(result, case, name, bone, skin)
    yield "directions", _direction_plate(result, bone)


def _case_plate(result: FemurStrength, case: CaseStrength, name: str, bone: Bone, skin: object) -> bytes:
    """Draw the weakest case of a kind from the front and from where its failing place is best seen."""
    head, direction = np.array(result.frame.head_centre_mm), np.array(case.direction)
    tip = head - direction * (result.frame.head_radius_mm + ARROW_ROOM_MM)
    parts = [
        Part(skin, f"risk_{case.name}", COLOURS, RISK_LIMITS),
        Part(arrow(tip, direction, ARROW_MM), colour="#222222"),
    ]
    if case.kind == "fall":
        parts.append(Part(_ground(skin, direction), colour="#9AA7B0", opacity=0.5))
    slack_mm = SEEN_WITHIN_ELEMENTS * result.facts.element_mm
    second = best_camera(skin, case.failure_point_mm, (BACK, FROM_LEFT, FROM_RIGHT, ABOVE), slack_mm)
    views = []
    for camera in (FRONT, second):
        seen = is_seen(skin, case.failure_point_mm, camera, slack_mm)
        mark = Mark(case.failure_point_mm, "fails here" if seen else "fails behind")
        views.append(Picture3D(render(parts, camera), camera.name, (mark,)))
    return plate(
        f"{bone.name}, weakest {name} of {len(result.of_kind(case.kind))}",
        f"{case.failure_load_n:,.0f} N; fails in {case.mode} at the {case.failure_site}. "
        f"Direction {_direction_words(case)}, degrees",
        caution=bone.caution,
        views=views,
        scale=Scale("strain over its limit at failure", COLOURS, RISK_LIMITS),
    )


def _ground(skin: object, direction: np.ndarray) -> object:
    """Return the ground where the bone reaches farthest along the force."""
    points = np.asarray(skin.points)  # type: ignore[attr-defined]  # PyVista has no types
    return ground(points[np.argmax(points @ direction)], -direction, GROUND_RADIUS_MM)


def _direction_plate(result: FemurStrength, bone: Bone) -> bytes:
    words = {"stance": "towards lateral", "fall": "towards proximal"}
    charts = [
        direction_chart(
            f"{name.capitalize()}, {len(rows)} directions",
            [Direction(second, frontal, load) for frontal, second, load in rows],
            words[kind],
        )
        for kind, name in KINDS
        if len(rows := result.polar(kind))
    ]
    return plate(
        f"{bone.name}, strength over the direction of the hip force",
        f"{'; '.join(_spans(result))}. The ring marks the weakest direction",
        caution=bone.caution,
        charts=charts,
    )
