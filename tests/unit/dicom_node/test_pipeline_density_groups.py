"""Areal and corrected densities reach the report with their own concept, unit and side, and nothing else changes."""

import numpy as np
from result_factory import make_source
from test_pipeline_results import TOOLS, density, findings

from dicom_node.pipeline.results import report_from
from inference.areal_density import ArealDensity, ArealResult
from inference.contrast_correction import correct_contrast
from inference.densitometry import lumbar_mean
from inference.femoral_regions import HipRegion
from inference.quality import STUDY, QualityFlag
from sr_export.codes import concept, concept_code
from sr_export.context import identity_of
from sr_export.page import draw_pages
from sr_export.page_grids import femur_grid, left_over, spine_grid

REGIONS: tuple[HipRegion, ...] = ("neck", "trochanter", "total_hip")
SEEN = QualityFlag("contrast_seen", STUDY, "Made.", (("vessel_hu", 150.0),))


def areal(key: str, value: float) -> tuple[ArealDensity, ...]:
    return tuple(ArealDensity(key, region, value + 0.1 * n, 4.0, 5.0) for n, region in enumerate(REGIONS))


def test_areal_densities_stay_on_their_side_in_grams_per_square_centimetre() -> None:
    both = (*areal("femur_right", 0.5), *areal("femur_left", 0.7))
    solid = tuple(density("femur_right", 200.0, region) for region in ("femoral_neck", "trochanter", "total_hip"))
    report, figures = report_from(findings(areal=ArealResult(both), densities=solid, lumbar=None), TOOLS)
    found = {
        (group.laterality, one.concept): (one.value, concept(one.concept).unit.value)
        for group in report.groups
        for one in group.measurements
    }
    for side, first in (("R", 0.5), ("L", 0.7)):
        for n, region in enumerate(REGIONS):
            value, unit = found[side, f"{region}_areal_bmd"]
            assert unit == "g/cm2"
            assert value == first + 0.1 * n
            assert 0.2 < value < 2.0, "a density in mg/cm3 or mg/cm2 would be a hundred times that"
    assert {found["R", f"{region}_integral_vbmd"][1] for region in REGIONS} == {"mg/cm3"}
    assert ("L", "neck_integral_vbmd") not in found
    assert [one["structure"] for one in figures["areal_density"]] == ["femur_right"] * 3 + ["femur_left"] * 3
    assert any("no T-score" in " ".join(limit.split()) for limit in report.limits)


def test_an_areal_density_has_a_code_of_its_own_and_one_when_uncalibrated() -> None:
    code = concept_code("total_hip_areal_bmd", "femur", "L", is_calibrated=False)
    assert (code.value, code.meaning) == ("ON1026-L-U", "Left total hip areal BMD (CT), uncalibrated")


def test_corrected_densities_stand_beside_the_measured_ones_on_the_page() -> None:
    plain = findings()
    contrast = correct_contrast(plain.densities, lumbar_mean(plain.densities, plain.record), plain.record, (SEEN,))
    report, _ = report_from(findings(contrast=contrast), TOOLS)
    grid = spine_grid(report)
    assert grid is not None
    assert [name for name, _ in grid.columns][:2] == ["vBMD", "Less contrast"]
    rise = 18.2 * plain.record.slope_mg_per_cm3_per_hu
    for row in grid.rows:
        measured, corrected = row.cells[:2]
        assert measured is not None
        assert corrected is not None
        assert np.isclose(measured.value - corrected.value, rise)
    assert [row.name for row in grid.rows] == ["L1", "L2", "Mean L1, L2"]
    assert left_over(report, [grid]) == ()
    assert report.groups[0].category is None


def test_without_the_option_the_report_holds_no_corrected_value() -> None:
    report, _ = report_from(findings(flags=(SEEN,)), TOOLS)
    assert not [one for group in report.groups for one in group.measurements if "corrected" in one.concept]


def test_the_page_holds_every_region_of_both_femurs() -> None:
    both = (*areal("femur_right", 0.5), *areal("femur_left", 0.7))
    report, _ = report_from(findings(areal=ArealResult(both)), TOOLS)
    grid = femur_grid(report)
    assert grid is not None
    assert [(row.name, row.unit) for row in grid.rows] == [
        (f"{region} areal BMD (not DXA)", "g/cm2") for region in ("Neck", "Trochanter", "Total hip")
    ]
    assert draw_pages(report, identity_of(make_source(slices=1)[0])).page_rgb
