"""The vertebral model: what it carries, what it refuses, what it flags."""

from dataclasses import replace

import numpy as np
import pytest

from fe.errors import (
    BadDensity,
    BadInput,
    BadLoad,
    BadMask,
    BadSpacing,
    EmptyMask,
    EndplatesNotFound,
    ModelTooLarge,
    NotConverged,
    TooThin,
)
from fe.flags import FLAG_MEANINGS
from fe.gallery import synthetic_femur
from fe.tetra import plastic_solver
from fe.vertebra import KOPPERDAHL_2002, VertebraSettings, vertebra_strength
from fe.vertebra_specimen import synthetic_vertebra

SPACING_MM = (3.0, 2.0, 2.0)
QUICK = VertebraSettings(steps=2)


@pytest.fixture(scope="module")
def vertebra():
    return synthetic_vertebra(SPACING_MM)


def strength(vertebra, *, rho=None, mask=None, spacing_mm=SPACING_MM, level="L2", element_mm=8.0, **options):
    rho = vertebra.rho_qct_mg_per_cm3 if rho is None else rho
    options.setdefault("settings", QUICK)
    return vertebra_strength(
        rho, vertebra.mask if mask is None else mask, spacing_mm, level, element_mm=element_mm, **options
    )


@pytest.fixture(scope="module")
def result(vertebra):
    return strength(vertebra)


def codes(result):
    assert all(flag.code in FLAG_MEANINGS and flag.sentence.isascii() for flag in result.flags)
    return [flag.code for flag in result.flags]


def test_a_result_carries_its_level_its_curve_and_its_facts(result):
    assert result.level == "L2"
    assert result.failure_load_n == result.load_n[-1] > 1000
    np.testing.assert_allclose(result.displacement_mm / result.endplates.height_mm, [0, 0.0095, 0.019])
    assert result.facts.element_count > 100
    assert result.facts.element_mm == 8.0
    low, high = result.facts.youngs_modulus_range_mpa
    assert KOPPERDAHL_2002.minimum_mpa <= low < high <= KOPPERDAHL_2002.maximum_mpa
    assert result.facts.residual < QUICK.tolerance
    assert result.facts.reaction_balance < 10 * QUICK.tolerance
    assert codes(result) == ["coarse_voxels", "coarse_elements"]


def test_the_field_shows_the_endplates_and_how_they_moved(result):
    field = result.field()
    end, moved = field.point_values["endplate"], field.point_values["displacement_mm"]
    np.testing.assert_array_equal(moved[end == -1], 0)
    push = -np.array(result.endplates.axis) * 0.019 * result.endplates.height_mm
    np.testing.assert_allclose(moved[end == 1], np.tile(push, ((end == 1).sum(), 1)))
    assert field.points_mm[end == 1, 2].mean() - field.points_mm[end == -1, 2].mean() > 20
    assert field.cells.shape == (result.facts.element_count, 10)
    assert field.cell_values["stress_over_yield_stress"].max() < 1 + 1e-9
    assert field.cell_values["plastic_strain"].min() >= 0
    assert all(len(values) == result.facts.element_count for values in field.cell_values.values())


def test_progress_grows_to_one(vertebra):
    said = []
    strength(vertebra, progress=lambda fraction, text: said.append((fraction, text)))
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == pytest.approx(1)
    assert all(text for _, text in said)


def test_the_modulus_law_is_the_published_line_between_its_limits():
    np.testing.assert_allclose(KOPPERDAHL_2002(np.array([100.0, 200.0])), [288.3, 611.3])
    np.testing.assert_allclose(KOPPERDAHL_2002(np.array([-500.0, 0.0, 9000.0])), [1.0, 1.0, 4810.0])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"mask": np.zeros((4, 4, 4), bool), "rho": np.zeros((4, 4, 4))}, EmptyMask, "no voxel"),
        ({"rho": np.zeros((2, 2, 2))}, BadMask, "one shape"),
        ({"level": "  "}, BadInput, "never guessed"),
        ({"spacing_mm": (3.0, 0.0, 2.0)}, BadSpacing, "positive"),
        ({"element_mm": -1.0}, BadSpacing, "positive"),
        ({"settings": VertebraSettings(steps=0)}, BadLoad, "positive"),
        ({"memory_limit_bytes": 1000}, ModelTooLarge, "MiB"),
    ],
)
def test_input_that_describes_no_vertebra_is_refused(vertebra, change, error, words):
    with pytest.raises(error, match=words):
        strength(vertebra, **change)


def test_a_mask_of_numbers_is_refused(vertebra):
    with pytest.raises(BadMask, match="boolean"):
        strength(vertebra, mask=vertebra.mask.astype(np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf, 20_000.0])
def test_one_voxel_without_a_density_is_refused(vertebra, value):
    rho = vertebra.rho_qct_mg_per_cm3.copy()
    rho[tuple(np.argwhere(vertebra.mask)[7])] = value
    with pytest.raises(BadDensity, match="finite"):
        strength(vertebra, rho=rho)


def test_a_density_outside_the_mask_does_not_count(vertebra, result):
    rho = np.where(vertebra.mask, vertebra.rho_qct_mg_per_cm3, np.nan)
    assert strength(vertebra, rho=rho).failure_load_n == pytest.approx(result.failure_load_n, rel=1e-9)


@pytest.mark.parametrize("factor", [0.0, 1e-3, -1.0])
def test_a_density_of_nothing_or_in_another_unit_is_refused(vertebra, factor):
    with pytest.raises(BadDensity, match="not calibrated density"):
        strength(vertebra, rho=vertebra.rho_qct_mg_per_cm3 * factor)


def test_one_slice_is_too_thin(vertebra):
    mask = np.zeros_like(vertebra.mask)
    middle = mask.shape[0] // 2
    mask[middle] = vertebra.mask[middle]
    with pytest.raises(TooThin, match="thinner"):
        strength(vertebra, mask=mask)


def test_a_femur_is_refused():
    femur = synthetic_femur("R", (3.0, 3.0, 3.0))
    with pytest.raises(EndplatesNotFound, match="vertebra"):
        vertebra_strength(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, "L1", element_mm=6.0)


def test_islands_are_left_out_and_flagged(vertebra, result):
    mask = vertebra.mask.copy()
    mask[:2, :2, :2] = True
    other = strength(vertebra, mask=mask)
    assert "islands_dropped" in codes(other)
    assert other.facts.dropped_elements == 8
    assert other.failure_load_n == pytest.approx(result.failure_load_n, rel=1e-6)


def test_a_vertebra_at_the_edge_of_the_scan_is_flagged(vertebra):
    first = int(np.flatnonzero(vertebra.mask.any(axis=(1, 2)))[0])
    cut = slice(first + 2, None)
    other = strength(vertebra, rho=vertebra.rho_qct_mg_per_cm3[cut], mask=vertebra.mask[cut])
    flag = next(flag for flag in other.flags if flag.code == "truncated")
    assert "the lower end" in flag.sentence


def test_a_crushed_or_strongly_wedged_body_is_flagged():
    crushed = synthetic_vertebra(SPACING_MM, wedge_deg=-32)
    found = codes(strength(crushed))
    assert "deformed_vertebra" in found
    assert "unusual_endplates" in found


def test_a_strong_tilt_is_flagged():
    tilted = synthetic_vertebra(SPACING_MM, tilt_deg=44)
    assert "unusual_endplates" in codes(strength(tilted))


def test_marrow_and_metal_beyond_the_law_are_flagged(vertebra):
    rho = vertebra.rho_qct_mg_per_cm3.copy()
    half = vertebra.mask & (np.arange(rho.shape[2]) < 0.35 * rho.shape[2])
    rho[half] = 3000.0
    assert "modulus_limited" in codes(strength(vertebra, rho=rho))


def test_a_whole_vertebra_loses_its_arch_and_says_so():
    whole = synthetic_vertebra(SPACING_MM, has_arch=True)
    other = strength(whole)
    assert "arch_cut" in codes(other)
    assert other.arch_fraction == pytest.approx(1 - whole.body.sum() / whole.mask.sum(), abs=0.06)


def test_a_load_step_that_does_not_converge_is_named_with_its_numbers(vertebra, monkeypatch):
    monkeypatch.setattr(plastic_solver, "MAX_NEWTON", 1)
    monkeypatch.setattr(plastic_solver, "MAX_CUTS", 1)
    settings = replace(QUICK, tolerance=1e-12)
    with pytest.raises(NotConverged, match="1 iterations"):
        strength(vertebra, settings=settings)
