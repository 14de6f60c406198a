"""What must hold for every femur: symmetry, superposition, equilibrium, convergence."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from fe.femur import DEFAULT_CASES, SIDEWAYS_FALL, STANCE, FemurSettings, case_loads, femur_surface, held_distal_nodes
from fe.femur_frame import find_femur_frame
from fe.gallery import synthetic_femur
from fe.material import MORGAN_2003_FEMORAL_NECK
from fe.strength import femur_strength
from fe.voxel.grid import density_grid
from fe.voxel.numbering import number_voxels
from fe.voxel.solver import elastic_model, solve

VOXEL_MM = (2.5, 2.5, 2.5)


def strengths(side, rho, mask, spacing_mm=VOXEL_MM, element_mm=2.5, **options):
    return femur_strength(rho, mask, spacing_mm, side, element_mm=element_mm, tolerance=1e-8, **options)


@pytest.fixture(scope="module")
def femur():
    return synthetic_femur("R", VOXEL_MM, shaft_mm=150.0)


@pytest.fixture(scope="module")
def right(femur):
    return strengths("R", femur.rho_qct_mg_per_cm3, femur.mask)


def test_a_left_femur_is_as_strong_as_its_mirror_image(femur, right):
    left = strengths("L", femur.rho_qct_mg_per_cm3[..., ::-1].copy(), femur.mask[..., ::-1].copy())
    width_mm = (femur.mask.shape[2] - 1) * VOXEL_MM[2]
    for one, other in zip(right.cases, left.cases, strict=True):
        assert other.failure_load_n == pytest.approx(one.failure_load_n, rel=1e-5)
        assert (other.mode, other.failure_site) == (one.mode, one.failure_site)
        assert other.direction[0] == pytest.approx(-one.direction[0])
        np.testing.assert_allclose(right.risk[one.name], left.risk[one.name][..., ::-1], rtol=1e-3, atol=1e-5)
    assert left.frame.head_centre_mm[0] == pytest.approx(width_mm - right.frame.head_centre_mm[0])


def test_anisotropic_voxels_of_the_same_bone_give_nearly_the_same_strength():
    isotropic, slices = (synthetic_femur("R", spacing, shaft_mm=150.0) for spacing in ((1.5,) * 3, (3.0, 1.0, 1.0)))
    one, other = (
        strengths("R", f.rho_qct_mg_per_cm3, f.mask, f.spacing_mm, element_mm=2.0) for f in (isotropic, slices)
    )
    for a, b in zip(one.cases, other.cases, strict=True):
        assert b.failure_load_n == pytest.approx(a.failure_load_n, rel=0.2)
    np.testing.assert_allclose(one.frame.head_radius_mm, other.frame.head_radius_mm, rtol=0.02)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_a_model_turned_by_90_degrees_gives_turned_displacements(axes):
    rng = np.random.default_rng(11)
    modulus = 10 ** rng.uniform(2, 4, (8, 10, 9)) * (rng.random((8, 10, 9)) > 0.05)
    modulus[:, 4:6, 4:6] = 5000.0

    def displacement(field):
        numbering = number_voxels(field > 0)
        places = numbering.node_places
        held = np.repeat((np.linalg.norm(places - np.array(field.shape) / 2, axis=1) < 2.5)[None], 3, axis=0)
        # A load that turns with the body: every node is pushed away from the middle.
        force = (places - np.array(field.shape) / 2).T[::-1].astype(float)
        u = solve(elastic_model(field, (1.0,) * 3, 0.3, held), np.ascontiguousarray(force), tolerance=1e-10)
        dense = np.zeros((*numbering.node_numbers.shape, 3))
        dense[numbering.node_numbers >= 0] = u.displacement_mm.T
        return dense

    labels, _ = ndimage.label(modulus > 0)
    modulus[labels != labels[4, 5, 5]] = 0
    turned = displacement(np.rot90(modulus, axes=axes).copy())
    back = np.rot90(turned, k=-1, axes=axes)
    # Components follow (x, y, z) = axes (2, 1, 0); a turn swaps two and changes one sign.
    plain = displacement(modulus)
    np.testing.assert_allclose(
        np.linalg.norm(back, axis=3), np.linalg.norm(plain, axis=3), atol=1e-7 * np.abs(plain).max()
    )


def model_of(femur):
    grid = density_grid(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, 2.5)
    frame = find_femur_frame(grid, "R")
    numbering = number_voxels(grid.is_bone)
    return grid, frame, numbering, femur_surface(grid, frame, numbering)


@pytest.mark.parametrize("case", DEFAULT_CASES, ids=lambda case: case.name)
def test_the_loads_have_the_force_and_direction_of_the_case(femur, case):
    *_, surface = model_of(femur)
    settings = FemurSettings()
    loads = case_loads(surface, case, settings)
    direction = surface.frame.vector(*case.components())
    expected = direction * (settings.applied_load_n - loads.support_force_n)
    np.testing.assert_allclose(loads.force_n.sum(axis=1), expected, atol=1e-9 * settings.applied_load_n)


def test_the_fall_has_no_moment_about_the_hinge_at_the_knee(femur):
    *_, surface = model_of(femur)
    settings = FemurSettings()
    loads = case_loads(surface, SIDEWAYS_FALL, settings)
    axes = np.array([surface.frame.lateral, surface.frame.anterior, surface.frame.proximal])
    force = (axes @ loads.force_n).T
    knee = np.array([0, 0, -settings.knee_distance_mm])
    moment = np.cross(surface.node_points - knee, force).sum(axis=0)
    hinge = np.cross(SIDEWAYS_FALL.components(), (0, 0, 1.0))
    assert abs(moment @ hinge) < 1e-9 * settings.applied_load_n * settings.knee_distance_mm


def test_head_and_ground_forces_act_where_they_should(femur):
    *_, surface = model_of(femur)
    loads = case_loads(surface, SIDEWAYS_FALL, FemurSettings())
    axes = np.array([surface.frame.lateral, surface.frame.anterior, surface.frame.proximal])
    along = np.array(SIDEWAYS_FALL.components()) @ (axes @ loads.force_n)
    pushed, pushing_back = along > 0, along < 0
    assert np.linalg.norm(surface.node_points[pushed], axis=1).max() < 1.2 * surface.frame.head_radius_mm
    assert (surface.node_points[pushed] @ SIDEWAYS_FALL.components() < 0).all()
    assert (surface.node_points[pushing_back, 0] > 2 * surface.frame.head_radius_mm).all()


def test_failure_never_counts_in_the_cap_the_patch_or_the_distal_third(femur):
    *_, surface = model_of(femur)
    settings = FemurSettings()
    loads = case_loads(surface, SIDEWAYS_FALL, settings)
    counted = surface.element_points[loads.counts]
    height = surface.element_points[:, 2]
    assert counted[:, 2].min() >= height.min() + (height.max() - height.min()) / 3
    axes = np.array([surface.frame.lateral, surface.frame.anterior, surface.frame.proximal])
    along = np.array(SIDEWAYS_FALL.components()) @ (axes @ loads.force_n)
    patch = surface.node_points[along < 0]
    distance = np.linalg.norm(counted[:, None] - patch[None], axis=2).min()
    assert distance >= settings.support_exclusion_mm
    assert loads.counts.sum() > 100


def test_a_femur_cut_at_the_neck_loses_only_its_end_zone():
    *_, surface = model_of(synthetic_femur("R", VOXEL_MM, shaft_mm=35.0))
    settings = FemurSettings()
    counted = surface.element_points[case_loads(surface, STANCE, settings).counts]
    lowest = surface.element_points[:, 2].min()
    assert settings.end_zone_mm <= counted[:, 2].min() - lowest <= settings.end_zone_mm + VOXEL_MM[0]


def test_a_ragged_end_is_held_where_the_bone_is_whole_again(femur, right):
    ragged = femur.mask.copy()
    y, x = np.argwhere(ragged[0])[0]
    ragged[0] = False
    ragged[0, y : y + 2, x : x + 2] = femur.mask[0, y : y + 2, x : x + 2]
    grid = density_grid(femur.rho_qct_mg_per_cm3, ragged, VOXEL_MM, 2.5)
    numbering = number_voxels(grid.is_bone)
    held = held_distal_nodes(grid, numbering, FemurSettings())
    np.testing.assert_array_equal(held, numbering.node_places[:, 0] <= 1)
    result = strengths("R", femur.rho_qct_mg_per_cm3, ragged)
    for one, other in zip(right.cases, result.cases, strict=True):
        assert other.failure_load_n == pytest.approx(one.failure_load_n, rel=0.02)


@pytest.mark.parametrize("shaft_mm", [75.0, 110.0])
def test_a_shorter_shaft_changes_the_strength_little_as_long_as_the_trochanters_are_seen(right, shaft_mm):
    femur = synthetic_femur("R", VOXEL_MM, shaft_mm=shaft_mm)
    short = strengths("R", femur.rho_qct_mg_per_cm3, femur.mask)
    for one, other in zip(right.cases, short.cases, strict=True):
        assert other.failure_load_n == pytest.approx(one.failure_load_n, rel=0.1)


def test_the_same_input_gives_the_same_numbers(femur, right):
    again = strengths("R", femur.rho_qct_mg_per_cm3, femur.mask)
    assert again.cases == right.cases


def test_twice_the_stiffness_is_twice_the_strength(femur, right):
    law = replace(
        MORGAN_2003_FEMORAL_NECK,
        coefficient_mpa=2 * MORGAN_2003_FEMORAL_NECK.coefficient_mpa,
        minimum_mpa=20.0,
        maximum_mpa=50_000.0,
    )
    double = strengths("R", femur.rho_qct_mg_per_cm3, femur.mask, modulus_law=law)
    for one, other in zip(right.cases, double.cases, strict=True):
        assert other.failure_load_n == pytest.approx(2 * one.failure_load_n, rel=1e-5)


def test_the_stance_strength_settles_when_the_elements_shrink():
    fine = synthetic_femur("R", (1.5,) * 3, shaft_mm=130.0)
    loads = [
        strengths("R", fine.rho_qct_mg_per_cm3, fine.mask, fine.spacing_mm, element_mm, cases=(STANCE,))
        .cases[0]
        .failure_load_n
        for element_mm in (3.0, 2.0, 1.5)
    ]
    assert abs(loads[2] / loads[1] - 1) < 0.15
