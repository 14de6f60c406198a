"""Micro-finite elements against closed forms, brute force, other programs and public reference answers."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fe.load_history import UNIT_CASES, load_history
from fe.material import POISSON_RATIO
from fe.microfe import micro_fe
from fe.pistoia import CRITICAL_FRACTION, CRITICAL_STRAIN, effective_strains, pistoia_failure
from fe.specimens import porous_block, synthetic_tibia
from fe.tissue import Tissue
from fe.voxel.element import hex8_stiffness

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "fe"
CUBE = DATA / "trabecular_cube"
TIBIA = DATA / "xtremect2_tibia"
CALCULIX = shutil.which("ccx")

MODULUS_MPA = 10_000.0
BONE = {1: Tissue("bone", MODULUS_MPA, "test")}
VOXEL_MM = (0.0607, 0.0607, 0.0607)

TIGHT = 1e-10
"""Solver tolerance where the answer is exact; what is left is rounding."""
EXACT = 1e-7
SINGLE = 1e-6
"""ParOSol takes its boundary displacements in single precision."""
FAIM = 1e-5
"""A direct solution (residual 3e-15) differs from FAIM's by 7e-6 in force and strain, 2.5e-5 in the mean energy."""
SOLVED = 2e-4
"""Two solutions at the default tolerance of 1e-5 differ by less in every number compared here."""


def block(shape, value=1):
    return np.full(shape, value, dtype=np.uint8)


def porous(shape=(28, 24, 20), seed=11):
    return porous_block(shape, (0.1, 0.1, 0.1), seed=seed, bone_fraction=0.3).labels


def test_a_block_between_sliding_plates_is_a_bar():
    spacing_mm, strain = (0.3, 0.2, 0.1), -0.01
    result = micro_fe(block((6, 5, 7)), spacing_mm, tissues=BONE, ends="sliding", strain=strain, tolerance=TIGHT)
    area, height = 5 * 0.2 * 7 * 0.1, 6 * 0.3
    assert result.stiffness_n_per_mm == pytest.approx(MODULUS_MPA * area / height, rel=EXACT)
    assert result.reaction_force_n == pytest.approx(MODULUS_MPA * area * strain, rel=EXACT)
    assert result.apparent_modulus_mpa == pytest.approx(MODULUS_MPA, rel=EXACT)
    np.testing.assert_allclose(result.solved.energy_mpa, MODULUS_MPA * strain**2 / 2, rtol=EXACT)
    # The whole bar is strained alike, so it fails at the critical strain.
    assert result.failure.effective_strain == pytest.approx(-strain, rel=EXACT)
    assert result.failure_load_n == pytest.approx(MODULUS_MPA * area * CRITICAL_STRAIN, rel=EXACT)


def test_tissues_side_by_side_share_the_load_like_springs():
    labels = block((6, 4, 6))
    labels[:, :, 4:] = 2
    tissues = {**BONE, 2: Tissue("cement", MODULUS_MPA / 4, "test", counts=False)}
    result = micro_fe(labels, (0.2, 0.2, 0.2), tissues=tissues, ends="sliding", tolerance=TIGHT)
    stiff, soft = 2 / 3, 1 / 3 / 4
    for share, part in zip(result.shares, (stiff, soft), strict=True):
        part /= stiff + soft
        assert share.load_share_first == pytest.approx(part, rel=EXACT)
        assert share.load_share_last == pytest.approx(part, rel=EXACT)
        assert share.energy_share == pytest.approx(part, rel=EXACT)
    assert [share.volume_share for share in result.shares] == pytest.approx([2 / 3, 1 / 3])
    assert result.failure.counted_elements == 6 * 4 * 4


def test_the_force_through_every_layer_is_the_plates():
    result = micro_fe(porous(), (0.1, 0.1, 0.1), tissues=BONE, tolerance=TIGHT)
    layer = np.nonzero(result.solved.numbering.is_bone)[0]
    np.testing.assert_allclose(np.bincount(layer, result.solved.axial_forces_n()), result.reaction_force_n, rtol=EXACT)


def test_holding_the_end_faces_stiffens_a_short_block_and_not_a_long_one():
    short, long = (
        micro_fe(block((n, 8, 8)), (0.1, 0.1, 0.1), tissues=BONE).apparent_modulus_mpa / MODULUS_MPA for n in (2, 48)
    )
    oedometer = (1 - POISSON_RATIO) / ((1 + POISSON_RATIO) * (1 - 2 * POISSON_RATIO))
    assert 1.1 < short < oedometer
    assert 1.0 < long < 1.02


@pytest.mark.needs_binary
@pytest.mark.skipif(CALCULIX is None, reason="CalculiX (ccx) is not installed")
def test_a_held_porous_block_agrees_with_calculix(tmp_path):
    spacing_mm, strain = (0.3, 0.2, 0.1), -0.01
    labels = np.random.default_rng(3).random((7, 6, 5)) < 0.8
    labels[[0, -1]] = True
    result = micro_fe(labels, spacing_mm, tissues=BONE, strain=strain, tolerance=TIGHT)
    numbering, size_mm = result.solved.numbering, result.solved.specimen.size_mm
    (tmp_path / "model.inp").write_text(deck(numbering, size_mm, strain * result.height_mm))
    subprocess.run([CALCULIX, "model"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    rows = [line.split() for line in (tmp_path / "model.dat").read_text().splitlines()]
    printed = np.array([[float(v) for v in row] for row in rows if len(row) == 4 and row[0].isdigit()])
    displacement, force = np.split(printed[:, 1:], [numbering.node_count])
    assert len(force), "CalculiX answers 0 even when it failed"
    np.testing.assert_allclose(displacement.T, result.solved.displacement_mm, atol=1e-5 * 0.021)
    assert force[:, 2].sum() == pytest.approx(result.reaction_force_n, rel=1e-5)


def deck(numbering, size_mm, shift_mm):
    """Write a held block as a CalculiX deck; forces of the moved face are printed after the displacements."""
    points = (numbering.node_places * np.array(size_mm))[:, ::-1]
    lines = ["*NODE, NSET=ALL", *(f"{n + 1}, {x:.12g}, {y:.12g}, {z:.12g}" for n, (x, y, z) in enumerate(points))]
    lines += ["*ELEMENT, TYPE=C3D8, ELSET=BONE"]
    connectivity = numbering.connectivity()[:, [0, 1, 3, 2, 4, 5, 7, 6]] + 1
    lines += [f"{e}, " + ", ".join(map(str, nodes)) for e, nodes in enumerate(connectivity, 1)]
    lines += ["*MATERIAL, NAME=B", "*ELASTIC", f"{MODULUS_MPA}, {POISSON_RATIO}"]
    lines += ["*SOLID SECTION, ELSET=BONE, MATERIAL=B", "*NSET, NSET=TOP"]
    layer = numbering.node_places[:, 0]
    low, high = np.flatnonzero(layer == 0) + 1, np.flatnonzero(layer == layer.max()) + 1
    lines += [f"{n}," for n in high]
    lines += ["*STEP", "*STATIC", "*BOUNDARY", *(f"{n}, 1, 3, 0." for n in low), *(f"{n}, 1, 2, 0." for n in high)]
    lines += [f"{n}, 3, 3, {shift_mm:.12g}" for n in high]
    lines += ["*NODE PRINT, NSET=ALL", "U", "*NODE PRINT, NSET=TOP", "RF", "*END STEP"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("count", [1, 49, 50, 51, 99, 100, 1000, 12345])
def test_pistoias_load_is_the_least_that_strains_the_critical_part(count):
    strains = np.random.default_rng(count).lognormal(-5, 1, count)
    factor = pistoia_failure(strains).load_factor
    candidates = sorted(CRITICAL_STRAIN / strains)
    beyond = [np.count_nonzero(strains * f >= CRITICAL_STRAIN * (1 - 1e-12)) / count for f in candidates]
    least = next(f for f, part in zip(candidates, beyond, strict=True) if part >= CRITICAL_FRACTION - 1e-12)
    assert factor == pytest.approx(least, rel=1e-12)


def test_the_centres_energy_is_not_the_elements_mean_energy():
    """The trap: the mean over the element is never smaller, and changes the failure load by about a percent."""
    result = micro_fe(porous(), (0.1, 0.1, 0.1), tissues=BONE, tolerance=TIGHT)
    solved = result.solved
    nodes = solved.numbering.connectivity()
    u = solved.displacement_mm.T[nodes].reshape(-1, 24)
    stiffness = MODULUS_MPA * hex8_stiffness(solved.specimen.size_mm, POISSON_RATIO)
    mean = 0.5 * np.einsum("ni,ij,nj->n", u, stiffness, u) / solved.specimen.voxel_mm3
    assert (mean >= solved.energy_mpa - EXACT * mean.max()).all()
    work = 0.5 * result.reaction_force_n * result.strain * result.height_mm
    assert mean.sum() * solved.specimen.voxel_mm3 == pytest.approx(work, rel=EXACT), (
        "the mean energy is the plates' work"
    )
    by_mean = pistoia_failure(effective_strains(np.maximum(mean, 0), solved.modulus_mpa)).load_factor
    assert 0.001 < 1 - by_mean / result.failure.load_factor < 0.1


def test_turning_the_image_with_its_axis_changes_nothing():
    labels = porous()
    spacing_mm = (0.11, 0.1, 0.12)
    reference = micro_fe(labels, spacing_mm, tissues=BONE)
    for axis, back in (("row", (1, 2, 0)), ("column", (2, 0, 1))):
        place = np.argsort(back)
        turned = micro_fe(labels.transpose(place), tuple(np.array(spacing_mm)[place]), tissues=BONE, axis=axis)
        assert turned.reaction_force_n == reference.reaction_force_n
        np.testing.assert_array_equal(
            turned.solved.energy_image_mpa().transpose(back), reference.solved.energy_image_mpa()
        )


@pytest.mark.parametrize(
    "change",
    [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a[:, :, ::-1], lambda a: np.rot90(a, axes=(1, 2))],
    ids=["upside down", "front to back", "left to right", "a quarter turn about the axis"],
)
def test_mirrors_and_quarter_turns_change_nothing(change):
    labels = porous()
    reference = micro_fe(labels, (0.1, 0.1, 0.1), tissues=BONE)
    changed = micro_fe(change(labels), (0.1, 0.1, 0.1), tissues=BONE)
    assert changed.reaction_force_n == pytest.approx(reference.reaction_force_n, rel=SOLVED)
    assert changed.failure_load_n == pytest.approx(reference.failure_load_n, rel=SOLVED)
    expected = change(reference.solved.energy_image_mpa())
    np.testing.assert_allclose(changed.solved.energy_image_mpa(), expected, atol=10 * SOLVED * np.nanmax(expected))


def test_units_scale():
    labels = porous()
    reference = micro_fe(labels, (0.1, 0.1, 0.1), tissues=BONE, section_mm2=2.0)
    stiff = micro_fe(labels, (0.1, 0.1, 0.1), tissues={1: Tissue("bone", 2 * MODULUS_MPA, "test")}, section_mm2=2.0)
    large = micro_fe(labels, (0.2, 0.2, 0.2), tissues=BONE, section_mm2=8.0)
    pulled = micro_fe(labels, (0.1, 0.1, 0.1), tissues=BONE, strain=0.02, section_mm2=2.0)
    for result, stiffness, failure, modulus in ((stiff, 2, 2, 2), (large, 2, 4, 1), (pulled, 1, 1, 1)):
        assert result.stiffness_n_per_mm == pytest.approx(stiffness * reference.stiffness_n_per_mm, rel=SOLVED)
        assert result.failure_load_n == pytest.approx(failure * reference.failure_load_n, rel=SOLVED)
        assert result.apparent_modulus_mpa == pytest.approx(modulus * reference.apparent_modulus_mpa, rel=SOLVED)
    assert reference.reaction_force_n < 0 < pulled.reaction_force_n
    assert reference.failure_load_n > 0


def test_parosol_finds_the_same_porous_block():
    parosol = pytest.importorskip("parosol_py", reason="parosol-py is not installed")
    labels = porous((24, 24, 24))
    ours = micro_fe(labels, (0.1, 0.1, 0.1), tissues=BONE, tolerance=1e-9)
    modulus = np.where(ours.solved.specimen.labels, MODULUS_MPA, 0.0)
    theirs = parosol.solve(material=modulus, spacing=(0.1, 0.1, 0.1), tolerance=1e-9, level=3, outputs=("sed",))
    mechanics = theirs.diagnostics["mechanics"]
    assert mechanics["reaction_force"]["z"] == pytest.approx(ours.reaction_force_n, rel=SINGLE)
    # Its elements come in the order of an octree; sorted, they can be compared one by one.
    energy = np.sort(ours.solved.energy_mpa)
    np.testing.assert_allclose(np.sort(theirs.fields["sed"].ravel()), energy, atol=SINGLE * energy[-1])


def slender(case, section=6, height=36):
    """Return a slender square bar's loads under one unit case alone, its side and its height."""
    history = load_history(block((height, section, section)), (1.0, 1.0, 1.0), tissues=BONE, cases=(case,))
    (load,) = history.loads
    scale = np.sqrt(load.factor)
    return load.force_n / scale, load.moment_nmm / scale


def test_unit_cases_are_those_of_a_beam():
    """Timoshenko's beam between plates; held ends and six bricks over the width leave a few percent."""
    side, height = 6.0, 36.0
    inertia, area = side**4 / 12, side**2
    shear_modulus = MODULUS_MPA / (2 * (1 + POISSON_RATIO))
    coefficient = 10 * (1 + POISSON_RATIO) / (12 + 11 * POISSON_RATIO)
    ratio = 12 * MODULUS_MPA * inertia / (coefficient * shear_modulus * area * height**2)
    lateral = 12 * MODULUS_MPA * inertia / (height**3 * (1 + ratio)) * 0.01 * height
    bending = MODULUS_MPA * inertia / height * (4 + ratio) / (1 + ratio) * np.radians(1)
    torsion = 0.1406 * side**4 * shear_modulus / height * np.radians(1)
    expected = {
        "compression": (0, MODULUS_MPA * area * 0.01),
        "shear_x": (0, lateral),
        "shear_y": (0, lateral),
        "bending_x": (1, bending),
        "bending_y": (1, bending),
        "torsion": (1, torsion),
    }
    for case in UNIT_CASES:
        which, value = expected[case.name]
        assert slender(case)[which] == pytest.approx(value, rel=0.05), case.name


def test_load_histories_do_not_depend_on_the_size_of_the_unit_cases_and_scale_with_the_target():
    specimen = synthetic_tibia(2.4, (0.3, 0.3, 0.3), seed=2, radii_mm=(4.0, 5.0))
    tissues = dict.fromkeys((100, 127), BONE[1])
    reference = load_history(specimen.labels, specimen.spacing_mm, tissues=tissues)
    target = load_history(specimen.labels, specimen.spacing_mm, tissues=tissues, target_mpa=0.08)
    assert 0 < reference.misfit < 1
    assert reference.loads[0].force_n > 0, "a ring of cortex is made for compression"
    for load, doubled in zip(reference.loads, target.loads, strict=True):
        assert doubled.force_n == pytest.approx(2 * load.force_n, rel=1e-9)
        assert doubled.moment_nmm == pytest.approx(2 * load.moment_nmm, rel=1e-9)


@pytest.mark.skipif(not TIBIA.exists(), reason="the public tibia is not beside the project")
def test_the_public_tibia_has_the_published_answer():
    """FAIM's reaction and failure load are given with four and five digits."""
    labels = np.load(TIBIA / "labels.npz")["labels_zyx"]
    result = micro_fe(labels, (0.060696, 0.060699, 0.060699))
    assert result.facts.element_count + result.facts.dropped_elements == 252_477
    assert result.reaction_force_n == pytest.approx(-798.1, rel=SOLVED)
    assert result.failure_load_n == pytest.approx(420.24, rel=SOLVED)
    assert result.facts.youngs_modulus_range_mpa == (8748.0, 8748.0)


@pytest.mark.skipif(not CUBE.exists(), reason="the public trabecular cube is not beside the project")
def test_the_public_trabecular_cube_has_the_published_answer():
    """FAIM's answer, as near as a direct solution of the same model comes to it."""
    expected = json.loads((CUBE / "reference.json").read_text())["reference"]
    volume = np.load(CUBE / "trab1240_labels.npz")
    result = micro_fe(volume["labels"], tuple(volume["spacing_xyz"][::-1]), tissues=BONE)
    assert result.facts.element_count == expected["elements"]
    assert result.solved.numbering.node_count == expected["nodes"]
    assert result.stiffness_n_per_mm == pytest.approx(expected["stiffness_z"], rel=FAIM)
    assert result.reaction_force_n == pytest.approx(expected["reaction_force_z"], rel=FAIM)
    assert result.failure.effective_strain == pytest.approx(expected["ees_at_critical_volume"], rel=3 * FAIM)
    assert result.failure_load_n == pytest.approx(-expected["failure_load_z"], rel=3 * FAIM)
    energy = result.solved.energy_mpa
    assert energy.mean() == pytest.approx(expected["sed_mean"], rel=SOLVED)
    assert np.percentile(energy, 95) == pytest.approx(expected["sed_p95"], rel=SOLVED)
    published = np.load(CUBE / "reference_sed.npz")["sed_zyx"][volume["labels"] > 0]
    assert np.linalg.norm(energy - published) < 2e-3 * np.linalg.norm(published)
