"""What a femur strength carries, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from fe.errors import ModelTooLarge, UnsupportedModel
from fe.femur import SIDEWAYS_FALL, STANCE, FemurSettings
from fe.flags import FLAG_MEANINGS
from fe.gallery import synthetic_femur
from fe.strength import femur_strength

VOXEL_MM = (3.0, 3.0, 3.0)


def strength_of(side="R", *, shaft_mm=150.0, **options):
    femur = synthetic_femur(side, VOXEL_MM, shaft_mm=shaft_mm)
    return femur_strength(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, side, **{"element_mm": 3.0} | options)


@pytest.fixture(scope="module")
def result():
    return strength_of()


def test_a_result_carries_what_it_rests_on(result):
    assert [case.name for case in result.cases] == ["stance", "sideways_fall"]
    assert result.dof > result.element_count > 0
    assert 10.0 <= result.youngs_modulus_range_mpa[0] < result.youngs_modulus_range_mpa[1] <= 25_000.0
    for case in result.cases:
        assert case.failure_load_n > 0
        assert case.mode in ("tension", "compression")
        assert np.linalg.norm(case.direction) == pytest.approx(1.0)
        assert case.residual < 2e-6
        assert case.reaction_balance < 1e-5


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
        assert np.isfinite(field).sum() == result.element_count
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
    assert result.dropped_elements > 0
    for flag in result.flags:
        assert flag.code in FLAG_MEANINGS
        assert flag.sentence.isascii()
        assert flag.evidence


def test_a_weaker_bone_fails_earlier():
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=150.0)
    weak = femur_strength(femur.rho_qct_mg_per_cm3 * 0.5, femur.mask, VOXEL_MM, "R", element_mm=3.0, cases=(STANCE,))
    whole = strength_of(cases=(STANCE,))
    assert weak.cases[0].failure_load_n < 0.7 * whole.cases[0].failure_load_n


def test_the_strength_does_not_depend_on_the_load_applied():
    one = strength_of(cases=(SIDEWAYS_FALL,), settings=FemurSettings(applied_load_n=1.0))
    many = strength_of(cases=(SIDEWAYS_FALL,), settings=FemurSettings(applied_load_n=5000.0))
    assert one.cases[0].failure_load_n == pytest.approx(many.cases[0].failure_load_n, rel=1e-4)


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
