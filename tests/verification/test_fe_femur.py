"""What must hold for every femur: symmetry, superposition, equilibrium, convergence."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from fe.femur import FemurSettings, away_from_ground, counting_places, head_loads, held_distal_nodes
from fe.femur_body import Scan
from fe.femur_bricks import brick_femur
from fe.femur_frame import find_femur_frame
from fe.femur_tetra import tetra_body
from fe.gallery import synthetic_femur
from fe.load_cases import DEFAULT_CASES, FALL_CASES, SIDEWAYS_FALL, SINGLE_CASES, STANCE
from fe.material import MORGAN_2003_FEMORAL_NECK
from fe.strength import femur_strength
from fe.tetra.blocks import block_mesh
from fe.voxel.grid import density_grid
from fe.voxel.numbering import number_voxels
from fe.voxel.solver import elastic_model, solve

VOXEL_MM = (2.5, 2.5, 2.5)


def strengths(side, rho, mask, spacing_mm=VOXEL_MM, element_mm=2.5, **options):
    options = {"cases": SINGLE_CASES} | options
    return femur_strength(rho, mask, spacing_mm, side, element_mm=element_mm, tolerance=1e-8, **options)


@pytest.fixture(scope="module")
def femur():
    return synthetic_femur("R", VOXEL_MM, shaft_mm=150.0)


@pytest.fixture(scope="module")
def right(femur):
    return strengths("R", femur.rho_qct_mg_per_cm3, femur.mask)


def test_a_left_femur_is_as_strong_as_its_mirror_image_in_every_direction():
    spacing = (3.0, 3.0, 3.0)
    femur = synthetic_femur("R", spacing, shaft_mm=150.0)
    rho, mask = femur.rho_qct_mg_per_cm3.copy(), femur.mask
    rho[:, : rho.shape[1] // 2] *= 0.8  # no symmetry of its own between front and back
    right = strengths("R", rho, mask, spacing, 3.0, cases=DEFAULT_CASES)
    left = strengths("L", rho[..., ::-1].copy(), mask[..., ::-1].copy(), spacing, 3.0, cases=DEFAULT_CASES)
    for one, other in zip(right.cases, left.cases, strict=True):
        assert other.failure_load_n == pytest.approx(one.failure_load_n, rel=1e-5)
        assert (other.name, other.mode, other.failure_site) == (one.name, one.mode, one.failure_site)
        assert other.active_contact_nodes == one.active_contact_nodes
        assert other.support_force_n == pytest.approx(one.support_force_n, rel=1e-5)
        np.testing.assert_allclose(other.direction, one.direction * np.array((-1, 1, 1)), atol=1e-9)
    for name, field in right.risk.items():
        np.testing.assert_allclose(field, left.risk[name][..., ::-1], rtol=1e-3, atol=1e-4)
    width_mm = (mask.shape[2] - 1) * spacing[2]
    assert left.frame.head_centre_mm[0] == pytest.approx(width_mm - right.frame.head_centre_mm[0])


def test_falls_on_front_and_back_of_a_symmetric_femur_are_alike(right, femur):
    pair = [case for case in FALL_CASES if case.frontal_deg == 20 and abs(case.second_deg) == 20]
    back, front = strengths("R", femur.rho_qct_mg_per_cm3, femur.mask, cases=pair).cases
    assert front.failure_load_n == pytest.approx(back.failure_load_n, rel=1e-4)
    assert front.support_force_n == pytest.approx(back.support_force_n, rel=1e-4)


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


def body_of(femur):
    grid = density_grid(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, 2.5)
    frame = find_femur_frame(grid, "R")
    scan = Scan(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm)
    return brick_femur(scan, grid, lambda rho: np.full(rho.shape, 1000.0), FemurSettings()), frame


def test_the_head_is_pushed_through_its_centre_in_every_direction(femur):
    body, frame = body_of(femur)
    loads = head_loads(body, frame, FemurSettings())
    offset = body.node_points_mm - np.array(frame.head_centre_mm)
    for unit, force in zip(np.eye(3), loads, strict=True):
        np.testing.assert_allclose(force.sum(axis=1), unit, atol=1e-12)
        np.testing.assert_allclose(np.cross(offset, force.T).sum(axis=0), 0, atol=1e-10 * frame.head_radius_mm)
    loaded = np.abs(loads).sum(axis=(0, 1)) > 0
    assert np.linalg.norm(offset[loaded], axis=1).max() < 1.2 * frame.head_radius_mm
    assert (offset[loaded] @ np.array(frame.neck_axis) < 0).all()


def test_failure_never_counts_in_the_cap_near_the_ground_or_in_the_distal_third(femur):
    body, frame = body_of(femur)
    settings = FemurSettings()
    direction = frame.vector(*SIDEWAYS_FALL.components())
    counts = counting_places(body, frame, settings)
    counts &= away_from_ground(body, frame, direction, settings)
    counted = body.places_mm[counts]
    height = body.places_mm[:, 2]
    assert counted[:, 2].min() >= height.min() + (height.max() - height.min()) / 3
    loaded = np.abs(head_loads(body, frame, settings)).sum(axis=(0, 1)) > 0
    # 25 degrees of the head's surface, less one element's diagonal, lie between load and failure
    apart = np.linalg.norm(counted[:, None] - body.node_points_mm[loaded][None], axis=2).min()
    assert apart > np.radians(25) * frame.head_radius_mm - 2.5 * np.sqrt(3)
    lowest = body.smooth_mm[np.argmax(body.smooth_mm @ direction)]
    assert np.linalg.norm(counted - lowest, axis=1).min() >= settings.support_exclusion_mm
    assert counts.sum() > 100


def test_the_smooth_surface_of_the_staircase_is_a_ball():
    radius = 20.0
    z, y, x = (np.indices((46, 46, 46)) - 22.5) * 1.0
    ball = SyntheticBall(np.sqrt(x**2 + y**2 + z**2) < radius)
    surface = brick_femur(*ball.parts(), lambda rho: np.full(rho.shape, 1000.0), FemurSettings())
    offset = surface.smooth_mm - 22.5
    # r.m.s. 0.07 mm where the staircase itself has 0.4 mm; the blur moves a ball's surface inwards by s^2 / R
    assert np.std(np.linalg.norm(offset, axis=1)) < 0.1
    assert abs(np.linalg.norm(offset, axis=1).mean() - radius) < 2 * 1.25 / radius
    assert (np.einsum("ij,ij->i", offset, surface.normals) / np.linalg.norm(offset, axis=1)).min() > 0.98


class SyntheticBall:
    """A ball as a scan and as elements of 1 mm."""

    def __init__(self, mask):
        self.mask = mask

    def parts(self):
        rho = np.where(self.mask, 500.0, 0.0)
        return Scan(rho, self.mask, (1.0, 1.0, 1.0)), density_grid(rho, self.mask, (1.0, 1.0, 1.0), 1.0)


def test_a_femur_cut_at_the_neck_loses_only_its_end_zone():
    body, frame = body_of(synthetic_femur("R", VOXEL_MM, shaft_mm=35.0))
    settings = FemurSettings()
    counted = body.places_mm[counting_places(body, frame, settings)]
    lowest = body.places_mm[:, 2].min()
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


def test_tetrahedra_give_the_strains_at_the_centres_of_their_faces():
    mesh = block_mesh((2, 2, 2), lambda p: p * (3.0, 4.0, 5.0))
    held = np.isclose(mesh.nodes_mm[:, 2], 0)
    body = tetra_body(mesh, np.full(mesh.element_count, 1000.0), held, 0.3, 2.5)
    x, y, z = mesh.nodes_mm.T
    chosen = np.arange(len(body.places_mm))[::-2]
    # A quadratic field: exact in elements with straight edges, and its strain is another at every place.
    found = body.strains(1e-3 * np.stack((x**2, y**2 + y * z, z**2 + x * z)), chosen)
    a, b, c = body.places_mm[chosen].T
    expected = 1e-3 * np.stack((2 * a, 2 * b + c, 2 * c + a, 0 * a, b, c), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * expected.max())


def test_tetrahedra_give_nearly_the_strengths_of_bricks():
    pytest.importorskip("tetgen")
    pytest.importorskip("pyacvd")
    femur = synthetic_femur("R", (2.0,) * 3, shaft_mm=110.0)
    bricks, tetra = (
        femur_strength(
            femur.rho_qct_mg_per_cm3,
            femur.mask,
            femur.spacing_mm,
            "R",
            cases=SINGLE_CASES,
            discretisation=discretisation,
            element_mm=element_mm,
        )
        for discretisation, element_mm in (("voxel", 2.0), ("tetra", 6.0))
    )
    assert tetra.field.cell_type == "quadratic_tetra"
    assert tetra.facts.residual < 1e-9
    assert tetra.facts.reaction_balance < 1e-9
    for one, other in zip(bricks.cases, tetra.cases, strict=True):
        assert other.failure_load_n == pytest.approx(one.failure_load_n, rel=0.25)
        assert other.support_force_n / other.failure_load_n == pytest.approx(
            one.support_force_n / one.failure_load_n, rel=0.02
        )
        assert other.active_contact_nodes > 0 or other.kind == "stance"
        assert np.isfinite(tetra.risk[other.name]).sum() > 0.5 * tetra.facts.element_count
