"""What a femur strength carries, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from fe.condensed import CondensedBody
from fe.errors import (
    BadDensity,
    BadSpacing,
    ContactNotFound,
    EmptyMask,
    ModelTooLarge,
    NotConverged,
    TrochanterNotFound,
    UnsupportedModel,
)
from fe.femur import FemurSettings
from fe.flags import FLAG_MEANINGS
from fe.gallery import synthetic_femur
from fe.load_cases import DEFAULT_CASES, FALL_CASES, SIDEWAYS_FALL, SINGLE_CASES, STANCE, STANCE_CASES
from fe.strength import femur_strength

VOXEL_MM = (3.0, 3.0, 3.0)


def strength_of(side="R", *, shaft_mm=150.0, **options):
    femur = synthetic_femur(side, VOXEL_MM, shaft_mm=shaft_mm)
    return femur_strength(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, side, **{"element_mm": 3.0} | options)


@pytest.fixture(scope="module")
def result():
    return strength_of(cases=SINGLE_CASES)


def test_the_tables_are_those_of_ct2s():
    assert len(FALL_CASES) == 28
    assert {case.frontal_deg for case in FALL_CASES} == {0, 10, 20, 30}
    assert {case.second_deg for case in FALL_CASES} == {-30, -20, -10, 0, 10, 20, 30}
    assert len({case.name for case in DEFAULT_CASES}) == len(DEFAULT_CASES) == len(STANCE_CASES) + 28


def test_a_result_carries_what_it_rests_on(result):
    assert [case.name for case in result.cases] == ["stance", "sideways_fall"]
    facts = result.facts
    assert facts.dof > facts.element_count > 0
    assert facts.iterations > result.column_count > 3
    assert 10.0 <= facts.youngs_modulus_range_mpa[0] < facts.youngs_modulus_range_mpa[1] <= 25_000.0
    assert facts.active_contact_nodes == result.cases[1].active_contact_nodes > 0
    for case in result.cases:
        assert case.failure_load_n > 0
        assert case.mode in ("tension", "compression")
        assert np.linalg.norm(case.direction) == pytest.approx(1.0)
        assert case.is_checked
        assert case.residual < 2e-6
        assert case.reaction_balance < 1e-5


def test_weakest_and_strongest_are_taken_over_the_directions_of_a_kind():
    falls = FALL_CASES[::9]
    result = strength_of(cases=(STANCE, *falls))
    loads = {case.name: case.failure_load_n for case in result.cases}
    weakest, strongest = result.weakest("fall"), result.strongest("fall")
    assert weakest.failure_load_n == min(loads[case.name] for case in falls)
    assert strongest.failure_load_n == max(loads[case.name] for case in falls) > weakest.failure_load_n
    assert result.weakest("stance") == result.strongest("stance") == result.cases[0]
    assert [case.name for case in result.cases if case.is_checked] == ["stance", weakest.name]
    assert set(result.risk) == {"stance", weakest.name}
    table = result.polar("fall")
    np.testing.assert_array_equal(table[:, :2], [(case.frontal_deg, case.second_deg) for case in falls])
    assert dict(zip((case.name for case in falls), table[:, 2], strict=True)).items() <= loads.items()
    for case in result.cases:
        assert case.residual < 1e-2
        assert (case.reaction_balance is None) == (not case.is_checked)
    assert result.facts.residual == max(case.residual for case in result.cases)


def test_without_falls_there_is_no_weakest_fall():
    result = strength_of(cases=(STANCE,))
    assert result.weakest("fall") is None
    assert result.strongest("fall") is None
    assert result.polar("fall").shape == (0, 3)
    assert result.column_count == 3


def test_the_mesh_carries_modulus_risk_and_displacement(result):
    field = result.field
    assert field.cell_type == "hexahedron"
    assert set(field.cell_values) == {"youngs_modulus_mpa", "risk_stance", "risk_sideways_fall"}
    assert set(field.point_values) == {"displacement_stance_mm", "displacement_sideways_fall_mm"}
    assert all(len(values) == len(field.cells) for values in field.cell_values.values())
    assert all(values.shape == field.points_mm.shape for values in field.point_values.values())
    corner = field.points_mm[field.cells]
    np.testing.assert_allclose(corner[:, 6] - corner[:, 0], 3.0)  # opposite corners of VTK's hexahedron


def test_the_directions_are_those_of_the_table(result):
    frame = result.frame
    stance, fall = (np.array(case.direction) for case in result.cases)
    assert np.degrees(np.arctan2(stance @ frame.lateral, -(stance @ frame.proximal))) == pytest.approx(13.0)
    assert np.degrees(np.arctan2(-(stance @ frame.anterior), -(stance @ frame.proximal))) == pytest.approx(8.0)
    assert np.degrees(np.arctan2(fall @ frame.proximal, fall @ frame.lateral)) == pytest.approx(10.0)
    assert np.degrees(np.arctan2(-(fall @ frame.anterior), fall @ frame.lateral)) == pytest.approx(15.0)


def test_the_ground_carries_a_little_more_than_the_head_pushes(result):
    stance, fall = result.cases
    assert stance.support_force_n == 0
    assert 1.0 < fall.support_force_n / fall.failure_load_n < 1.2


def test_the_picture_lies_on_the_elements_and_is_nan_outside(result):
    for case in result.cases:
        field = result.risk[case.name]
        assert field.dtype == np.float32
        assert np.isfinite(field).sum() == result.facts.element_count
        index = (np.linalg.inv(result.affine_mm) @ [*case.failure_point_mm, 1.0])[:3]
        np.testing.assert_allclose(index, np.round(index), atol=1e-6)
        assert field[tuple(np.round(index).astype(int))] > 0.3


def test_a_whole_femur_with_fine_voxels_raises_no_flag():
    femur = synthetic_femur("R", (2.0, 2.0, 2.0), shaft_mm=150.0)
    result = femur_strength(
        femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, "R", element_mm=2.0, cases=(STANCE,)
    )
    assert result.flags == ()


def test_what_limits_the_model_is_flagged_with_its_numbers():
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=60.0)
    mask = femur.mask.copy()
    mask[-3:, :2, :4] = True
    rho = np.where(femur.mask, femur.rho_qct_mg_per_cm3, 500.0)
    result = femur_strength(rho, mask, femur.spacing_mm, "R", element_mm=3.0, cases=(SIDEWAYS_FALL,))
    codes = [flag.code for flag in result.flags]
    assert codes == ["short_shaft", "truncated", "coarse_voxels", "coarse_elements", "islands_dropped"]
    assert "at the upper end, the front, the right;" in result.flags[1].sentence
    assert result.facts.dropped_elements > 0
    for flag in result.flags:
        assert flag.code in FLAG_MEANINGS
        assert flag.sentence.isascii()
        assert flag.evidence


def test_a_weaker_bone_fails_earlier():
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=150.0)
    weak = femur_strength(femur.rho_qct_mg_per_cm3 * 0.5, femur.mask, VOXEL_MM, "R", element_mm=3.0, cases=(STANCE,))
    whole = strength_of(cases=(STANCE,))
    assert weak.cases[0].failure_load_n < 0.7 * whole.cases[0].failure_load_n


def test_progress_starts_at_nothing_never_falls_back_and_ends_at_one():
    seen = []
    strength_of(cases=(STANCE,), progress=lambda fraction, text: seen.append((fraction, text)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert fractions == sorted(fractions)
    assert all(text for _, text in seen)


def test_a_model_beyond_the_memory_limit_is_refused_with_its_size():
    with pytest.raises(ModelTooLarge) as caught:
        strength_of(element_mm=0.2, memory_limit_bytes=2**30)
    assert caught.value.needed_bytes > caught.value.limit_bytes == 2**30
    assert caught.value.elements > 1_000_000


def test_cases_need_names_of_their_own():
    with pytest.raises(UnsupportedModel):
        strength_of(cases=(STANCE, replace(SIDEWAYS_FALL, name="stance")))
    with pytest.raises(UnsupportedModel):
        strength_of(cases=())


def test_a_mask_without_trochanter_has_no_fall():
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=150.0)
    cut = femur.mask.copy()
    cut[:, :, : cut.shape[2] // 2 - 4] = False
    with pytest.raises(TrochanterNotFound):
        femur_strength(femur.rho_qct_mg_per_cm3, cut, VOXEL_MM, "R", element_mm=3.0)


def test_what_cannot_describe_a_bone_is_named():
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=150.0)
    rho, mask = femur.rho_qct_mg_per_cm3, femur.mask
    broken = rho.copy()
    broken[tuple(np.argwhere(mask)[100])] = np.nan
    metal = np.where(mask, 20_000.0, 0.0)
    for error, arguments in (
        (EmptyMask, (rho, np.zeros_like(mask), VOXEL_MM)),
        (BadDensity, (broken, mask, VOXEL_MM)),
        (BadDensity, (metal, mask, VOXEL_MM)),
        (BadSpacing, (rho, mask, (3.0, 0.0, 3.0))),
        (BadSpacing, (rho, mask, (3.0, np.nan, 3.0))),
    ):
        with pytest.raises(error):
            femur_strength(*arguments, "R", element_mm=3.0)


def test_densities_below_the_law_give_its_floor_and_a_flag():
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=150.0)
    rho = np.where(femur.rho_qct_mg_per_cm3 == 200.0, -150.0, femur.rho_qct_mg_per_cm3)
    result = femur_strength(rho, femur.mask, VOXEL_MM, "R", element_mm=3.0, cases=(STANCE,))
    assert result.facts.youngs_modulus_range_mpa[0] == 10.0
    assert "modulus_limited" in [flag.code for flag in result.flags]


def test_a_second_bone_in_the_mask_is_left_out_and_flagged():
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=150.0, margin_mm=45.0)
    mask = femur.mask.copy()
    mask[:10, :10, -10:] = True
    rho = np.where(femur.mask, femur.rho_qct_mg_per_cm3, 500.0)
    both = femur_strength(rho, mask, VOXEL_MM, "R", element_mm=3.0, cases=(STANCE,))
    assert both.facts.dropped_elements == 1000
    assert "islands_dropped" in [flag.code for flag in both.flags]


def test_a_solver_that_does_not_converge_gives_no_strength():
    with pytest.raises(NotConverged):
        strength_of(cases=(STANCE,), tolerance=1e-30)


def test_a_strength_that_the_whole_model_does_not_confirm_is_refused(monkeypatch):
    honest = CondensedBody.strain_under
    monkeypatch.setattr(CondensedBody, "strain_under", lambda body, factors: 1.01 * honest(body, factors))
    with pytest.raises(NotConverged):
        strength_of(cases=(STANCE,))


def test_a_trochanter_that_never_stops_penetrating_is_an_error(monkeypatch):
    monkeypatch.setattr("fe.femur_failure.MAX_ROUNDS", 1)
    monkeypatch.setattr("fe.femur_failure.FIRST_GAP_MM", 0.0)
    with pytest.raises(ContactNotFound):
        strength_of(cases=(FALL_CASES[0],))


def test_a_femur_too_short_to_fail_anywhere_is_an_error():
    with pytest.raises(UnsupportedModel):
        strength_of(cases=(STANCE,), settings=FemurSettings(end_zone_mm=500.0))


def test_a_hole_inside_the_mask_is_filled_and_flagged():
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=150.0)
    pierced = femur.mask.copy()
    z, y, x = np.argwhere(femur.rho_qct_mg_per_cm3 == 200.0)[2000]
    pierced[z : z + 2, y : y + 2, x : x + 2] = False
    whole = strength_of(cases=(STANCE,))
    filled = femur_strength(femur.rho_qct_mg_per_cm3, pierced, VOXEL_MM, "R", element_mm=3.0, cases=(STANCE,))
    assert filled.cases == whole.cases
    found = {flag.code: dict(flag.evidence) for flag in filled.flags}
    assert found["cavities_filled"] == {"voxels": 8.0}
    assert "cavities_filled" not in {flag.code for flag in whole.flags}


def test_a_short_shaft_is_flagged_with_its_effect():
    (flag,) = (one for one in strength_of(cases=(STANCE,), shaft_mm=48.0).flags if one.code == "short_shaft")
    assert "cut 50 mm below its head was 2.6 times as strong in stance and 1.3 times in falls" in flag.sentence
    assert dict(flag.evidence)["synthetic_stance_factor"] == 2.6
