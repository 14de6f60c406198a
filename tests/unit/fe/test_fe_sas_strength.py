"""The softening femur: its law, its parts, what a result carries, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fe.errors import BadDensity, BadInput, BadMask, BadSpacing, EmptyMask, LandmarkNotFound, ModelTooLarge
from fe.femur_frame import find_femur_frame
from fe.flags import FLAG_MEANINGS
from fe.gallery import synthetic_femur
from fe.material import ASH_SCHILEO_2008, AshLaw
from fe.sas import sas_sensitivity, sas_strength
from fe.sas_law import equivalent_strain, softening_law
from fe.sas_model import BONE, CUP, EMBEDDING, INFLUENCE, SasSettings, _smoothed, sas_model
from fe.sas_path import LoadedModel, Steps, _Loading
from fe.sensitivity import stepped_mask
from fe.voxel.grid import density_grid
from fe.voxel.numbering import number_voxels

VOXEL_MM = (3.0, 3.0, 3.0)
QUICK = SasSettings(steps=Steps(increment_mm=0.1, tolerance=1e-4))


@pytest.fixture(scope="module")
def femur():
    return synthetic_femur("R", VOXEL_MM, shaft_mm=120.0)


@pytest.fixture(scope="module")
def result(femur):
    return sas_strength(femur.rho_qct_mg_per_cm3, femur.mask, VOXEL_MM, "R", element_mm=4.0, settings=QUICK)


densities = st.floats(10.0, 1400.0)
edges = st.floats(0.3, 5.0)


@given(rho=densities, element_mm=edges, is_cortical=st.booleans())
def test_the_stress_is_continuous_where_the_phases_meet(rho, element_mm, is_cortical):
    law = softening_law(np.array([rho]), np.array([is_cortical]), element_mm)
    assert 0 < law.yield_strain[0] < law.plateau_end[0] < law.softening_end[0]
    stresses = {
        "yield": (law.yield_strain, law.strength_mpa),
        "plateau_end": (law.plateau_end, law.strength_mpa),
        "softening_end": (law.softening_end, law.residual_mpa),
    }
    for strain, stress in stresses.values():
        for near in (1 - 1e-9, 1.0, 1 + 1e-9):
            assert law.stress_mpa(strain * near)[0] == pytest.approx(stress[0], rel=1e-5)


@given(rho=densities, element_mm=edges, is_cortical=st.booleans())
def test_the_secant_never_rises_with_the_largest_strain(rho, element_mm, is_cortical):
    law = softening_law(np.array([rho]), np.array([is_cortical]), element_mm)
    strains = np.linspace(0, 1.5 * law.softening_end[0], 300)
    secants = np.array([law.secant_mpa(np.array([strain]))[0] for strain in strains])
    assert secants[0] == law.youngs_modulus_mpa[0]
    assert (np.diff(secants) <= 1e-12 * secants[0]).all()
    assert secants[-1] > 0


def test_the_constants_are_those_of_the_source_at_3_mm():
    law = softening_law(np.array([500.0, 1000.0]), np.array([False, True]), 3.0)
    np.testing.assert_allclose(law.youngs_modulus_mpa, (14900 * 0.5**1.86, 14900.0))
    np.testing.assert_allclose(law.strength_mpa, (102 * 0.5**1.8, 102.0))
    np.testing.assert_allclose(law.residual_mpa, (43.1 * 0.5**1.81, 43.1))
    np.testing.assert_allclose(law.plateau_end - law.yield_strain, ((0.00189 + 0.01205) * 5, 0.0084 * 5 / 3))
    modulus, slope = law.youngs_modulus_mpa[0], -2080 * 0.5**1.45
    np.testing.assert_allclose(law.softening_mpa[0], 3 * modulus * slope / (15 * modulus - 12 * slope))
    np.testing.assert_allclose(law.softening_mpa[1], 3 * 14900 * -1000 / (5 * 14900 + 2 * 1000))


def test_densities_beyond_the_law_are_kept_at_its_limits_and_nonsense_is_refused():
    law = softening_law(np.array([-300.0, 10.0, 1400.0, 5000.0]), np.zeros(4, dtype=bool), 3.0)
    assert law.youngs_modulus_mpa[0] == law.youngs_modulus_mpa[1] > 0
    assert law.youngs_modulus_mpa[2] == law.youngs_modulus_mpa[3]
    with pytest.raises(BadDensity):
        softening_law(np.array([np.nan]), np.array([False]), 3.0)
    for element_mm in (0.0, 5.1, np.nan):
        with pytest.raises(BadSpacing, match="up to 5 mm"):
            softening_law(np.array([500.0]), np.array([False]), element_mm)


def test_the_equivalent_strain_is_the_axial_strain_under_uniaxial_stress_and_nothing_under_pressure():
    nu = 0.3
    strains = np.array([[-0.01, 0.003, 0.003, 0, 0, 0], [0.003, 0.003, -0.01, 0, 0, 0], [0.01, 0.01, 0.01, 0, 0, 0]])
    np.testing.assert_allclose(equivalent_strain(strains, nu), (0.01, 0.01, 0.0), atol=1e-15)
    shear = np.array([[0, 0, 0, 0.01, 0, 0]])
    np.testing.assert_allclose(equivalent_strain(shear, nu), np.sqrt(3) * 0.01 / (2 * (1 + nu)))


def test_the_density_is_averaged_with_gauss_weights_over_neighbours_that_count():
    rng = np.random.default_rng(3)
    values, counts = rng.uniform(100, 900, (5, 5, 5)), rng.random((5, 5, 5)) > 0.3
    counts[2, 2, 2] = True
    smooth = _smoothed(values, counts, 3.0, 3.0)
    sigma = 3.0 / np.sqrt(8 * np.log(2))
    offsets = np.array(list(np.ndindex(3, 3, 3))) - 1
    weights = np.exp(-9.0 * (offsets**2).sum(axis=1) / (2 * sigma**2)) * counts[tuple((2 + offsets).T)]
    assert smooth[2, 2, 2] == pytest.approx((weights * values[tuple((2 + offsets).T)]).sum() / weights.sum())
    np.testing.assert_allclose(_smoothed(np.full((4, 4, 4), 7.0), counts[:4, :4, :4], 3.0, 3.0), 7.0)
    alone = np.zeros((5, 5, 5), dtype=bool)
    np.testing.assert_array_equal(_smoothed(values, alone, 3.0, 3.0), values)


def test_the_model_has_a_cup_above_the_head_an_embedded_end_and_bone_between(femur):
    grid = density_grid(femur.rho_qct_mg_per_cm3, femur.mask, VOXEL_MM, 3.0)
    frame = find_femur_frame(grid, "R")
    model = sas_model(grid, frame, ASH_SCHILEO_2008, SasSettings())
    points = model.element_points_mm() - np.array(frame.head_centre_mm)
    height = -(points @ model.direction)
    cup, influence = model.part == CUP, model.part == INFLUENCE
    across = np.linalg.norm(points + height[:, None] * model.direction, axis=1)
    assert height[cup].min() > 0.6 * frame.head_radius_mm
    assert across[cup].max() <= 15.0 + 1e-6
    assert influence.sum() > 20
    assert height[influence].min() > 0.3 * frame.head_radius_mm
    assert set(model.element_points_mm()[model.part == EMBEDDING, 2]) == {0.0, 3.0}
    assert np.isinf(model.loaded.law.plateau_end[model.part != BONE]).all()
    displaced = model.loaded.pattern.any(axis=0)
    assert displaced.sum() >= 60
    np.testing.assert_allclose(model.loaded.pattern[:, displaced].T, np.tile(model.direction, (displaced.sum(), 1)))
    assert not (model.loaded.is_fixed[0] & ~displaced)[model.loaded.numbering.node_places[:, 0] > 8].any()


def test_a_result_carries_what_it_rests_on(result):
    assert result.failure_load_n == result.load_n.max() > 1000
    assert result.load_n[-1] < 0.95 * result.failure_load_n
    assert result.failure_displacement_mm == result.displacement_mm[result.load_n.argmax()]
    assert result.stiffness_n_per_mm == pytest.approx(result.load_n[0] / 0.1)
    assert (np.diff(result.softened_elements) >= 0).all()
    assert np.linalg.norm(result.direction) == pytest.approx(1.0)
    assert result.direction[2] < -0.98
    assert result.facts.dof > result.facts.element_count > 1000
    assert result.facts.residual < 2e-4
    assert result.facts.reaction_balance < 0.05
    assert result.failing_elements >= 1
    assert [flag.code for flag in result.flags] == ["coarse_voxels"]
    assert all(flag.code in FLAG_MEANINGS for flag in result.flags)


def test_the_field_holds_right_handed_bricks_with_their_values(result):
    mesh = result.field()
    corner = mesh.points_mm[mesh.cells]
    a, b, c, across = (corner[:, n] - corner[:, 0] for n in (1, 3, 4, 6))
    np.testing.assert_allclose(np.einsum("ni,ni->n", np.cross(a, b), c), 4.0**3)
    np.testing.assert_allclose(across, a + b + c)
    np.testing.assert_allclose(corner[:, 2] - corner[:, 0], a + b)
    assert mesh.point_values["displacement_mm"].shape == mesh.points_mm.shape
    assert all(values.shape == (len(mesh.cells),) for values in mesh.cell_values.values())
    bone = mesh.cell_values["part"] == BONE
    assert (mesh.cell_values["phase"][bone] >= 1).sum() > 10
    middle = corner.mean(axis=1)
    nearest = np.argmin(np.linalg.norm(middle - np.array(result.failure_point_mm), axis=1))
    assert mesh.cell_values["phase"][nearest] >= 1


def test_an_increment_without_yield_starts_from_its_solution():
    rng = np.random.default_rng(8)
    numbering = number_voxels(np.ones((14, 12, 12), dtype=bool))
    low, top = (numbering.node_places[:, 0] == place for place in (0, 14))
    law = softening_law(rng.uniform(200, 800, 14 * 144), np.zeros(14 * 144, dtype=bool), 3.0)
    pattern = np.zeros((3, numbering.node_count))
    pattern[2, top] = -1.0
    is_fixed = np.repeat((low | top)[None], 3, axis=0)
    loading = _Loading(LoadedModel(numbering, law, 3.0, is_fixed, pattern), Steps(0.001, 1.0, tolerance=1e-6))
    first_n = loading.advance()
    needed = loading.iterations
    assert needed > 5
    for number in (2, 3, 4):
        assert loading.advance() == pytest.approx(number * first_n, rel=1e-9)
    assert loading.iterations <= needed + 1


def test_a_weaker_bone_fails_earlier_and_another_ash_law_matters(femur, result):
    def strength(rho, **options):
        return sas_strength(rho, femur.mask, VOXEL_MM, "R", element_mm=4.0, settings=QUICK, **options).failure_load_n

    assert strength(0.6 * femur.rho_qct_mg_per_cm3) < 0.7 * result.failure_load_n
    same = AshLaw(ASH_SCHILEO_2008.slope, ASH_SCHILEO_2008.intercept_mg_per_cm3, "the same line by another name")
    assert strength(femur.rho_qct_mg_per_cm3, to_ash=same) == result.failure_load_n


def test_progress_starts_at_nothing_never_falls_back_and_ends_at_one(femur):
    seen = []
    sas_strength(
        femur.rho_qct_mg_per_cm3,
        femur.mask,
        VOXEL_MM,
        "R",
        element_mm=5.0,
        settings=QUICK,
        progress=lambda fraction, text: seen.append((fraction, text)),
    )
    fractions = [fraction for fraction, _ in seen]
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert fractions == sorted(fractions)


def test_eroded_and_dilated_masks_get_a_strength_on_the_same_elements(femur, result):
    rho = np.where(femur.mask, femur.rho_qct_mg_per_cm3, 0.0)
    table = sas_sensitivity(rho, femur.mask, VOXEL_MM, result, settings=QUICK, steps=(-1, 1))
    assert [row.step_voxels for row in table.steps] == [-1, 0, 1]
    thin, base, thick = (row.strengths_n["axial"] for row in table.steps)
    assert thin < base == result.failure_load_n
    assert table.low_n["axial"] == thin
    assert table.high_n["axial"] == max(base, thick)
    assert table.flags == ()
    eroded = stepped_mask(femur.mask, -1)
    alone, together = (
        sas_strength(rho, eroded, VOXEL_MM, "R", element_mm=4.0, settings=QUICK, lattice_mm=lattice_mm)
        for lattice_mm in (None, result.lattice_mm)
    )
    assert together.failure_load_n == thin != alone.failure_load_n
    shift = (np.array(together.lattice_mm) - np.array(result.lattice_mm)) / 4.0
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-9)


def test_changed_masks_are_held_to_the_memory_limit_too(femur, result):
    table = sas_sensitivity(
        femur.rho_qct_mg_per_cm3, femur.mask, VOXEL_MM, result, settings=QUICK, steps=(-1,), memory_limit_bytes=1000
    )
    (eroded,) = (row for row in table.steps if row.step_voxels == -1)
    assert not eroded.strengths_n
    assert [flag.code for flag in table.flags] == ["sensitivity_incomplete"]


def nothing(femur):
    return femur.rho_qct_mg_per_cm3, np.zeros_like(femur.mask), VOXEL_MM, "R", EmptyMask


def not_boolean(femur):
    return femur.rho_qct_mg_per_cm3, femur.mask.astype(float), VOXEL_MM, "R", BadMask


def another_shape(femur):
    return femur.rho_qct_mg_per_cm3[1:], femur.mask, VOXEL_MM, "R", BadMask


def not_a_number(femur):
    return np.where(femur.mask, np.nan, 0.0), femur.mask, VOXEL_MM, "R", BadDensity


def wrong_unit(femur):
    return femur.rho_qct_mg_per_cm3 * 1e4, femur.mask, VOXEL_MM, "R", BadDensity


def no_spacing(femur):
    return femur.rho_qct_mg_per_cm3, femur.mask, (3.0, 0.0, 3.0), "R", BadSpacing


def no_side(femur):
    return femur.rho_qct_mg_per_cm3, femur.mask, VOXEL_MM, "B", BadInput


def the_other_side(femur):
    return femur.rho_qct_mg_per_cm3, femur.mask, VOXEL_MM, "L", LandmarkNotFound


def a_ball(femur):
    z, y, x = np.indices((24, 24, 24)) - 12
    ball = z * z + y * y + x * x < 64
    return np.where(ball, 300.0, 0.0), ball, VOXEL_MM, "R", LandmarkNotFound


def a_shaft(femur):
    mask = femur.mask.copy()
    mask[20:] = False
    return femur.rho_qct_mg_per_cm3, mask, VOXEL_MM, "R", LandmarkNotFound


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (nothing, "no voxel"),
        (not_boolean, "boolean volume"),
        (another_shape, "density's shape"),
        (not_a_number, "no finite density"),
        (wrong_unit, "expected"),
        (no_spacing, "positive lengths"),
        (no_side, "R or L"),
        (the_other_side, "towards the midline"),
        (a_ball, "no neck leaves it"),
        (a_shaft, "roundest part"),
    ],
)
def test_what_cannot_be_a_femur_is_refused_by_name(femur, bad, words):
    rho, mask, spacing_mm, side, error = bad(femur)
    with pytest.raises(error, match=words):
        sas_strength(rho, mask, spacing_mm, side, settings=QUICK)


def test_a_model_beyond_the_memory_limit_is_refused_with_its_size(femur):
    with pytest.raises(ModelTooLarge) as caught:
        sas_strength(femur.rho_qct_mg_per_cm3, femur.mask, VOXEL_MM, "R", element_mm=0.3, memory_limit_bytes=2**30)
    assert caught.value.needed_bytes > caught.value.limit_bytes


def test_a_femur_cut_through_its_neck_is_loaded_along_the_scans_axis_and_says_so():
    short = synthetic_femur("R", VOXEL_MM, shaft_mm=60.0)
    result = sas_strength(short.rho_qct_mg_per_cm3, short.mask, VOXEL_MM, "R", element_mm=4.0, settings=QUICK)
    assert "short_shaft" in [flag.code for flag in result.flags]
    np.testing.assert_allclose(result.direction, (0, 0, -1), atol=1e-12)
