"""Contact against closed forms, the full model and an independent program."""

import shutil
import subprocess
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse

from fe.condensed import CondensedBody
from fe.contact import solve_contact
from fe.femur import FemurSettings, head_loads
from fe.femur_body import FemurBody, Scan
from fe.femur_bricks import brick_femur
from fe.femur_failure import check_case, find_failures, loaded_femur, state_under
from fe.femur_frame import find_femur_frame
from fe.gallery import synthetic_femur
from fe.load_cases import FALL_CASES
from fe.material import ASH_SCHILEO_2008, youngs_modulus_mpa
from fe.voxel.grid import density_grid
from fe.voxel.numbering import number_voxels
from fe.voxel.solver import elastic_model, solve, solve_many

CALCULIX = shutil.which("ccx")
NU = 0.3


def law(rho):
    return youngs_modulus_mpa(rho, ASH_SCHILEO_2008)


def voxel_femur(element_mm):
    femur = synthetic_femur("R", (element_mm,) * 3, shaft_mm=130.0)
    grid = density_grid(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm, element_mm)
    scan = Scan(femur.rho_qct_mg_per_cm3, femur.mask, femur.spacing_mm)
    return grid, find_femur_frame(grid, "R"), brick_femur(scan, grid, law, FemurSettings())


@pytest.fixture(scope="module")
def fallen():
    """Three falls of a femur of 3 mm, each at its failure, with exact columns."""
    _, frame, body = voxel_femur(3.0)
    cases = [FALL_CASES[number] for number in (3, 12, 27)]
    femur = loaded_femur(body, frame, FemurSettings(), cases, tolerance=1e-10)
    return femur, find_failures(femur, cases, lambda done: None)


def test_forces_and_gaps_are_complementary_and_never_negative(fallen):
    _, failed = fallen
    for one in failed:
        contact = one.contact
        assert contact.active > 0
        assert contact.force_n.min() >= 0
        assert contact.gap_mm.min() >= 0
        assert contact.force_n @ contact.gap_mm == 0


def test_the_condensed_fall_is_the_whole_model_under_the_same_forces(fallen):
    femur, failed = fallen
    for one in failed:
        force = femur.condensed.force_under(one.factors)
        displacement = femur.body.solve(force[None], 1e-10).displacement_mm[0]
        strains = femur.body.strains(displacement, femur.places)
        condensed = femur.condensed.strain_under(one.factors)
        # Columns keep strains in single precision: 6e-8 each, about ten of them with signs that cancel
        np.testing.assert_allclose(condensed, strains, atol=1e-6 * np.abs(strains).max())
        ground = one.loaded.ground
        moved = femur.condensed.patches @ displacement.T @ ground.normal
        gap = ground.gap_mm + moved + ground.turn_mm @ one.contact.motion
        known = femur.condensed.spans(ground.normal)
        np.testing.assert_allclose(gap[known], one.contact.gap_mm[known], atol=1e-6 * np.abs(moved).max())
        assert gap.min() > -1e-6 * np.abs(moved).max()


def test_the_hinge_at_the_knee_feels_no_moment(fallen):
    femur, failed = fallen
    frame = femur.frame
    knee = np.array(frame.head_centre_mm) - femur.settings.knee_distance_mm * np.array(frame.proximal)
    smooth = femur.patches.smooth_mm
    for one in failed:
        axis = np.cross(one.loaded.direction, frame.proximal)
        head = np.cross(np.array(frame.head_centre_mm) - knee, one.load_n * one.loaded.direction) @ axis
        ground = np.cross(smooth - knee, np.outer(one.contact.force_n, one.loaded.ground.normal)).sum(axis=0) @ axis
        assert head + ground == pytest.approx(0, abs=1e-9 * abs(head))
        assert 1.0 < one.contact.force_n.sum() / one.load_n < 1.2


def test_all_forces_and_reactions_of_a_fall_balance(fallen):
    femur, failed = fallen
    for one in failed:
        force = femur.condensed.force_under(one.factors)
        expected = one.load_n * one.loaded.direction + one.contact.force_n.sum() * one.loaded.ground.normal
        np.testing.assert_allclose(force.sum(axis=1), expected, atol=1e-9 * one.load_n)
        assert check_case(femur, one).reaction_balance < 1e-6


def test_the_patch_that_touches_grows_with_the_force(fallen):
    femur, failed = fallen
    for one in failed:
        contacts = [state_under(femur, one.loaded, share * one.load_n)[1] for share in (0.01, 0.3, 1.0)]
        active = [contact.active for contact in contacts]
        assert active == sorted(active)
        assert active[0] < active[-1] or active[0] == 1
        total = [contact.force_n.sum() / share for contact, share in zip(contacts, (0.01, 0.3, 1.0), strict=True)]
        np.testing.assert_allclose(
            total, total[-1], rtol=0.02
        )  # the lever changes with the patch, the balance does not


def test_finer_patches_change_the_strengths_of_falls_little():
    _, frame, body = voxel_femur(1.75)
    loads = []
    for pitch_mm in (3.5, 7 / 3):
        femur = loaded_femur(body, frame, FemurSettings(contact_pitch_mm=pitch_mm), FALL_CASES[::9], tolerance=1e-3)
        loads.append([one.load_n for one in find_failures(femur, FALL_CASES[::9], lambda done: None)])
    # A patch decides where the ground's force acts to about half of its pitch, of a lever of about 50 mm
    np.testing.assert_allclose(loads[0], loads[1], rtol=3.5 / 2 / 50 * 2)


def columns_of(model, nodes, normal):
    """Compliance among nodes along a normal, by one solve for each."""
    count = model.numbering.node_count
    forces = np.zeros((len(nodes), 3, count))
    forces[np.arange(len(nodes)), :, nodes] = normal
    answers = solve_many(model, forces, tolerance=1e-9)
    compliance = np.array([normal @ answer.displacement_mm[:, nodes] for answer in answers])
    return (compliance + compliance.T) / 2


def hertz_sink_mm(force_n, star_mpa, radius_mm, at_mm):
    """Return how far the surface of a half-space sinks outside of a Hertz contact [Johnson1985, 3.42a]."""
    a = (3 * force_n * radius_mm / (4 * star_mpa)) ** (1 / 3)
    pressure = 3 * force_n / (2 * np.pi * a**2)
    ratio = a / at_mm
    bracket = (2 * a**2 - at_mm**2) * np.arcsin(ratio) + at_mm**2 * ratio * np.sqrt(1 - ratio**2)
    return pressure / (2 * star_mpa * a) * bracket


def test_a_rigid_sphere_on_a_block_follows_hertz():
    """A quarter of a block of 48 mm under a sphere, bricks of 1 mm: force over approach as 4/3 E* sqrt(R) d^1.5.

    The block is no half-space, but what its walls change is smooth: the approach is measured against a ring at 2.4
    contact radii, whose sinking in a half-space is known.
    Derived tolerance, a = 5 mm the contact radius, h = 1 mm: the contact radius is known to half an element, and with a
    wrong radius c the force is 2 E* (d c - c^3 / 3R), 3/2 (h / 2a)^2 = 1.5 % too small; trilinear bricks under a
    pressure that varies over a add (h / a)^2 = 4 %.
    """
    size, ring, radius, modulus, approach, h = 24, 12, 60.0, 1000.0, 0.42, 1.0
    grid = np.full((size, size, size), modulus)
    numbering = number_voxels(grid > 0)
    z, y, x = numbering.node_places.T
    model = elastic_model(grid, (h,) * 3, NU, np.stack((x == 0, y == 0, z == 0)), numbering)
    far = np.hypot(x, y)
    nodes = np.flatnonzero((z == size) & (far <= 7.5))
    down = np.array([0.0, 0.0, -1.0])
    found = solve_contact(columns_of(model, nodes, down), far[nodes] ** 2 / (2 * radius) - approach)
    pushed = np.zeros((3, numbering.node_count))
    pushed[2, nodes] = -found.force_n
    sunk = -solve(model, pushed, tolerance=1e-8).displacement_mm[2]
    at_ring = np.interp(ring, far[(z == size) & (y == 0)], sunk[(z == size) & (y == 0)])

    star, force = modulus / (1 - NU**2), 4 * found.force_n.sum()
    against_far = approach - at_ring + hertz_sink_mm(force, star, radius, ring)
    expected_radius = np.sqrt(radius * against_far)
    tolerance = 1.5 * (h / (2 * expected_radius)) ** 2 + (h / expected_radius) ** 2
    assert force == pytest.approx(4 / 3 * star * np.sqrt(radius) * against_far**1.5, rel=tolerance)
    assert far[nodes][found.force_n > 0].max() == pytest.approx(expected_radius, abs=h)
    assert tolerance < 0.06


def block_contact(axis, modulus):
    """Press a block against a plane across ``axis`` of (z, y, x); the opposite side is held, a corner pushed."""
    grid = np.moveaxis(modulus, 0, axis)
    numbering = number_voxels(grid > 0)
    places = numbering.node_places[:, [axis, *(a for a in range(3) if a != axis)]]
    held = np.repeat((places[:, 0] == 0)[None], 3, axis=0)
    model = elastic_model(grid, (1.0,) * 3, NU, held, numbering)
    top = places[:, 0] == modulus.shape[0]
    order = np.lexsort((places[:, 2], places[:, 1], places[:, 0]))
    nodes = order[top[order]]
    normal = np.zeros(3)
    normal[2 - axis] = -1.0
    force = np.zeros((3, len(places)))
    force[2 - axis, nodes] = 3.0
    moved = solve(model, force, tolerance=1e-9).displacement_mm[:, nodes].T @ normal
    gap = 0.001 + 0.01 * places[nodes, 1]
    return solve_contact(columns_of(model, nodes, normal), gap + moved)


@pytest.mark.parametrize("axis", [1, 2])
def test_contact_turned_by_90_degrees_gives_the_same_forces(axis):
    modulus = 10 ** np.random.default_rng(5).uniform(2, 4, (5, 4, 4))
    plain, turned = block_contact(0, modulus), block_contact(axis, modulus)
    assert 0 < plain.active < 25
    np.testing.assert_allclose(turned.force_n, plain.force_n, atol=1e-6 * plain.force_n.max())


def test_a_load_away_from_the_ground_touches_nothing():
    modulus = np.full((4, 4, 4), 500.0)
    numbering = number_voxels(modulus > 0)
    held = np.repeat((numbering.node_places[:, 0] == 0)[None], 3, axis=0)
    model = elastic_model(modulus, (1.0,) * 3, NU, held, numbering)
    nodes = np.flatnonzero(numbering.node_places[:, 0] == 4)
    down = np.array([0.0, 0.0, -1.0])
    force = np.zeros((3, numbering.node_count))
    force[2, nodes] = -3.0
    moved = solve(model, force, tolerance=1e-9).displacement_mm[:, nodes].T @ down
    found = solve_contact(columns_of(model, nodes, down), moved)
    assert found.active == 0
    np.testing.assert_array_equal(found.gap_mm, moved)


PUSH_N, CLEARANCE_MM = 200.0, 0.005
"""A small push: CalculiX follows large rotations, whose effect is 0.03 % here and 0.35 % with ten times the force."""

FLATTENED = 0.003
"""The ground nearly follows the trochanter's shape, so that several nodes touch."""


@dataclass(frozen=True)
class Pushed:
    """A femur with a held end, pushed by its head against a plane; contact at single nodes."""

    body: FemurBody
    held: np.ndarray
    force_n: np.ndarray
    normal: np.ndarray
    nodes: np.ndarray
    gap_mm: np.ndarray


@pytest.fixture(scope="module")
def pushed():
    _, frame, body = voxel_femur(4.0)
    direction = frame.vector(*FALL_CASES[12].components())
    force = PUSH_N * np.tensordot(direction, head_loads(body, frame, FemurSettings()), axes=1)
    points = body.node_points_mm
    near = np.linalg.norm(points[body.surface_nodes] - np.array(frame.trochanter_mm), axis=1) < 18.0
    nodes = body.surface_nodes[near]
    gap = -points[nodes] @ direction * FLATTENED
    held = np.abs(points[:, 2] - points[:, 2].min()) < 1e-6
    return Pushed(body, held, force, -direction, nodes, gap - gap.min() + CLEARANCE_MM)


def node_contact(pushed):
    """Solve by the condensed columns of single nodes, all of them."""
    patches = sparse.csr_array(
        (np.ones(len(pushed.nodes)), (np.arange(len(pushed.nodes)), pushed.nodes)),
        shape=(len(pushed.nodes), pushed.body.node_count),
    )
    load = np.stack((pushed.force_n, np.zeros_like(pushed.force_n), np.zeros_like(pushed.force_n)))
    load[1, 1, pushed.body.surface_nodes[-1]] = load[2, 2, pushed.body.surface_nodes[-1]] = 1.0  # unused
    body = CondensedBody(
        pushed.body.solve,
        lambda u: pushed.body.strains(u, np.array([0])),
        load,
        patches,
        1e-8,
    )
    body.add((patch, pushed.normal) for patch in range(len(pushed.nodes)))
    without = pushed.gap_mm + body.load_displacement(np.array([1.0, 0, 0]), pushed.normal)
    return solve_contact(body.compliance(pushed.normal), without)


def gap_deck(pushed):
    """Write the model as a CalculiX deck: bricks, and from a fixed node a GAPUNI element to each that may touch."""
    body = pushed.body
    lines = ["*NODE, NSET=BONE"]
    lines += [f"{n}, {x:.12g}, {y:.12g}, {z:.12g}" for n, (x, y, z) in enumerate(body.node_points_mm, 1)]
    lines += ["*NODE, NSET=GROUND"]
    first = body.node_count + 1
    behind = body.node_points_mm[pushed.nodes] - pushed.normal * 10.0
    lines += [f"{n}, {x:.12g}, {y:.12g}, {z:.12g}" for n, (x, y, z) in enumerate(behind, first)]
    for e, (cell, modulus) in enumerate(zip(body.cells, body.modulus_mpa, strict=True), 1):
        lines += [f"*ELEMENT, TYPE=C3D8, ELSET=E{e}", f"{e}, " + ", ".join(str(n + 1) for n in cell)]
        lines += [f"*MATERIAL, NAME=M{e}", "*ELASTIC", f"{modulus:.12g}, {NU}"]
        lines += [f"*SOLID SECTION, ELSET=E{e}, MATERIAL=M{e}"]
    x, y, z = pushed.normal
    for number, (node, gap) in enumerate(zip(pushed.nodes, pushed.gap_mm, strict=True)):
        e = body.element_count + 1 + number
        lines += [f"*ELEMENT, TYPE=GAPUNI, ELSET=G{number}", f"{e}, {first + number}, {node + 1}"]
        lines += [f"*GAP, ELSET=G{number}", f"{gap:.12g}, {x:.12g}, {y:.12g}, {z:.12g}, , 1.e8, 1.e-6"]
    lines += ["*BOUNDARY", "GROUND, 1, 3, 0."]
    lines += [f"{n + 1}, 1, 3, 0." for n in np.flatnonzero(pushed.held)]
    lines += ["*STEP, NLGEOM, INC=100", "*STATIC", "*CLOAD"]  # without NLGEOM its gaps are linear springs
    lines += [f"{n + 1}, {c + 1}, {pushed.force_n[c, n]:.12g}" for c, n in np.argwhere(pushed.force_n)]
    lines += ["*NODE PRINT, NSET=GROUND", "RF", "*NODE PRINT, NSET=BONE", "U", "*END STEP"]
    return "\n".join(lines) + "\n"


def printed_blocks(text):
    """Return the last table of every kind in a .dat file, as (nodes, 3) by its first word."""
    blocks, name = {}, ""
    for line in text.splitlines():
        row = line.split()
        if row and row[0] in ("forces", "displacements"):
            name = row[0]
            blocks[name] = []
        elif len(row) == 4 and row[0].isdigit():
            blocks[name].append([float(value) for value in row[1:]])
    return {name: np.array(rows) for name, rows in blocks.items()}


CALCULIX_AGREES = 0.002
"""Large rotations 0.03 %, gap springs of 1e8 N/mm (a hundred thousand times the bone's stiffness) less than that, and a
contact iteration that stops below half a percent of the largest force (CalculiX manual, *CONTROLS)."""


@pytest.mark.needs_binary
@pytest.mark.skipif(CALCULIX is None, reason="CalculiX (ccx) is not installed")
def test_the_ground_pushes_as_hard_as_in_calculix(tmp_path, pushed):
    (tmp_path / "model.inp").write_text(gap_deck(pushed))
    subprocess.run([CALCULIX, "model"], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    blocks = printed_blocks((tmp_path / "model.dat").read_text())
    ours = node_contact(pushed)
    assert len(blocks["forces"]) == len(pushed.nodes), "CalculiX answers 0 even when it failed"
    theirs = blocks["forces"] @ pushed.normal
    assert 1 < ours.active < len(pushed.nodes) / 2
    assert theirs.sum() == pytest.approx(ours.force_n.sum(), rel=CALCULIX_AGREES)
    np.testing.assert_allclose(theirs, ours.force_n, atol=CALCULIX_AGREES * ours.force_n.sum())
    np.testing.assert_array_equal(theirs > 0.1, ours.force_n > 0.1)
