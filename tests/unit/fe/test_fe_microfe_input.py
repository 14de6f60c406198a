"""Micro-finite elements: what is refused, what is flagged, and where every number comes from."""

import numpy as np
import pytest

from fe.errors import (
    BadDensity,
    BadLoad,
    BadMask,
    BadMaterial,
    BadModulus,
    BadSpacing,
    EmptyMask,
    ModelTooLarge,
    NotSpanning,
    UnsupportedModel,
)
from fe.flags import FLAG_MEANINGS
from fe.load_history import even_energy_factors, load_history
from fe.microfe import micro_fe
from fe.pistoia import pistoia_failure
from fe.specimens import porous_block, synthetic_tibia
from fe.tissue import (
    BONE_THRESHOLD_MG_PER_CM3,
    CORTICAL_LABEL,
    PMMA,
    TRABECULAR_LABEL,
    XTREMECT_I,
    XTREMECT_II,
    DensityScaledModulus,
    Tissue,
    bone_labels,
    preset_for,
)

XCT2_MM = (0.0607, 0.0607, 0.0607)
BONE = {1: Tissue("bone", 10_000.0, "test")}
BLOCK = np.ones((4, 3, 3), dtype=np.uint8)


def compress(labels=BLOCK, spacing_mm=(1.0, 1.0, 1.0), **options):
    return micro_fe(labels, spacing_mm, **{"tissues": BONE, **options})


def split_block():
    """Two halves with an empty layer between them."""
    labels = np.ones((7, 3, 3), dtype=np.uint8)
    labels[3] = 0
    return labels


@pytest.mark.parametrize(
    ("error", "labels", "spacing_mm", "options"),
    [
        (EmptyMask, np.zeros((4, 3, 3), dtype=np.uint8), (1, 1, 1), {}),
        (BadMask, np.ones((4, 3, 3)), (1, 1, 1), {}),
        (BadMask, np.full((4, 3, 3), np.nan), (1, 1, 1), {}),
        (BadMask, np.ones((3, 3), dtype=np.uint8), (1, 1, 1), {}),
        (NotSpanning, np.ones((1, 3, 3), dtype=np.uint8), (1, 1, 1), {}),
        (NotSpanning, split_block(), (1, 1, 1), {}),
        (BadSpacing, BLOCK, (1, 1), {}),
        (BadSpacing, BLOCK, (1, 0, 1), {}),
        (BadSpacing, BLOCK, (1, np.nan, 1), {}),
        (BadMaterial, BLOCK * np.uint8(9), (1, 1, 1), {}),
        (BadMaterial, BLOCK, (1, 1, 1), {"tissues": None}),
        (BadModulus, BLOCK, (1, 1, 1), {"tissues": {1: Tissue("air", 0.0, "test")}}),
        (BadModulus, BLOCK, (1, 1, 1), {"tissues": {1: Tissue("none", np.nan, "test")}}),
        (BadModulus, BLOCK, (1, 1, 1), {"modulus_mpa": np.zeros((4, 3, 3))}),
        (BadModulus, BLOCK, (1, 1, 1), {"modulus_mpa": np.full((4, 3, 3), np.nan)}),
        (BadModulus, BLOCK, (1, 1, 1), {"modulus_mpa": np.ones((4, 3, 2))}),
        (BadLoad, BLOCK, (1, 1, 1), {"strain": 0.0}),
        (BadLoad, BLOCK, (1, 1, 1), {"strain": -1.0}),
        (BadLoad, BLOCK, (1, 1, 1), {"strain": np.nan}),
        (BadLoad, BLOCK, (1, 1, 1), {"axis": "up"}),
        (BadLoad, BLOCK, (1, 1, 1), {"section_mm2": -1.0}),
        (BadLoad, BLOCK, (1, 1, 1), {"critical_fraction": 2.0}),
        (UnsupportedModel, BLOCK, (1, 1, 1), {"ends": "glued"}),
        (ModelTooLarge, BLOCK, (1, 1, 1), {"memory_limit_bytes": 1000}),
    ],
)
def test_input_that_describes_no_specimen_is_a_named_error(error, labels, spacing_mm, options):
    with pytest.raises(error):
        compress(labels, spacing_mm, **options)


def test_a_modulus_outside_of_the_bone_is_never_looked_at():
    modulus = np.full((4, 3, 5), np.nan)
    modulus[:, :, 1:4] = 500.0
    labels = np.zeros(modulus.shape, dtype=bool)
    labels[:, :, 1:4] = True
    assert compress(labels, modulus_mpa=modulus).facts.youngs_modulus_range_mpa == (500.0, 500.0)


def test_the_scanner_is_known_by_its_voxel():
    assert preset_for((0.060696, 0.060699, 0.060699)) is XTREMECT_II
    assert preset_for((0.082, 0.082, 0.082)) is XTREMECT_I
    with pytest.raises(BadMaterial, match="give the tissues"):
        preset_for((0.0607, 0.0607, 0.082))
    labels = np.where(np.arange(3) == 0, CORTICAL_LABEL, TRABECULAR_LABEL) * np.ones((4, 3, 1), dtype=np.int16)
    result = micro_fe(labels, XCT2_MM)
    assert [share.name for share in result.shares] == ["trabecular bone", "cortical bone"]
    assert result.facts.youngs_modulus_range_mpa == (XTREMECT_II.youngs_modulus_mpa,) * 2


def test_bone_is_what_reaches_the_threshold_inside_the_mask():
    density = np.array([[[BONE_THRESHOLD_MG_PER_CM3, BONE_THRESHOLD_MG_PER_CM3 - 1, 900.0]]])
    mask = np.array([[[True, True, False]]])
    assert bone_labels(density, mask=mask).tolist() == [[[1, 0, 0]]]
    assert bone_labels(density).tolist() == [[[1, 0, 1]]]


@pytest.mark.parametrize(
    ("error", "density", "mask"),
    [
        (BadDensity, np.full((2, 2, 2), np.nan), None),
        (BadDensity, np.full((2, 2, 2), 30_000.0), None),
        (BadDensity, np.full((2, 2, 2), 3_001.0), None),
        (BadMask, np.zeros((2, 2, 2)), np.ones((2, 2, 3), dtype=bool)),
        (BadMask, np.zeros((2, 2, 2)), np.ones((2, 2, 2))),
    ],
)
def test_a_volume_that_holds_no_density_is_refused(error, density, mask):
    with pytest.raises(error):
        bone_labels(density, mask=mask)


def test_a_modulus_may_follow_the_density_and_its_limits_are_flagged():
    law = DensityScaledModulus(10_000.0, 1000.0, 2.0, 100.0, 20_000.0, "test")
    tissues = {1: Tissue("bone", law, "test")}
    density = np.full(BLOCK.shape, 500.0)
    assert compress(tissues=tissues, density_mg_per_cm3=density).facts.youngs_modulus_range_mpa == (2500.0, 2500.0)
    density[:, 0, 0] = -50.0
    limited = compress(tissues=tissues, density_mg_per_cm3=density)
    assert limited.facts.youngs_modulus_range_mpa == (100.0, 2500.0)
    assert [flag.code for flag in limited.flags] == ["modulus_limited"]
    for wrong in (None, density[:-1], np.full(BLOCK.shape, np.nan)):
        with pytest.raises(BadDensity):
            compress(tissues=tissues, density_mg_per_cm3=wrong)


def test_loose_pieces_are_left_out_counted_and_flagged():
    labels = np.zeros((6, 8, 7), dtype=np.uint8)
    labels[1:5, 1:6, 1:6] = 1
    labels[1:5, 2:5, 2:5] = 0
    whole = compress(labels)
    labels[2, 3, 3] = labels[2, 7, 2] = labels[3, 6, 6] = 1  # in the cavity, apart, and touching by an edge only
    result = compress(labels)
    assert result.facts.dropped_elements == 3
    assert result.facts.element_count == 4 * 16
    assert [flag.code for flag in result.flags] == ["islands_dropped"]
    assert result.height_mm == 4.0
    assert result.reaction_force_n == whole.reaction_force_n


def test_a_specimen_on_tips_is_flagged_and_every_code_has_a_meaning():
    labels = np.ones((6, 4, 4), dtype=np.uint8)
    labels[-1, :, 1:] = 0
    (flag,) = compress(labels).flags
    assert flag.code == "ragged_end_face"
    assert dict(flag.evidence)["end_face_mm2"] == 4.0
    assert flag.code in FLAG_MEANINGS
    assert flag.sentence.isascii()


def test_images_and_meshes_lie_where_the_voxels_lie():
    labels = np.zeros((6, 7, 8), dtype=np.uint8)
    labels[1:5, 2:5, 3:8] = 1
    spacing_mm = (1.0, 0.5, 0.25)
    for axis in ("slice", "row", "column"):
        result = compress(labels, spacing_mm, axis=axis)
        energy = result.solved.energy_image_mpa()
        np.testing.assert_array_equal(np.isfinite(energy), labels != 0)
        mesh = result.solved.field(surface_only=False)
        centres = mesh.points_mm[mesh.cells].mean(axis=1)
        places = np.argwhere(labels) * np.array(spacing_mm)
        assert {tuple(p) for p in centres.round(6)} == {tuple(p) for p in places[:, ::-1].round(6)}
        index = tuple(np.round(centres[:, ::-1] / spacing_mm).astype(int).T)
        np.testing.assert_allclose(mesh.cell_values["strain_energy_density_mpa"], energy[index])
        corner = mesh.points_mm[mesh.cells]
        edges = np.stack([corner[:, n] - corner[:, 0] for n in (1, 3, 4)], axis=1)
        assert (np.linalg.det(edges) > 0).all(), "cells are inside out"
        moved = mesh.point_values["displacement_mm"]
        at_end = np.isclose(mesh.points_mm.max(axis=0), mesh.points_mm)
        column = {"slice": 2, "row": 1, "column": 0}[axis]
        np.testing.assert_allclose(moved[at_end[:, column], column], -0.01 * result.height_mm)


def test_a_picture_can_be_cropped_and_shows_the_surface():
    labels = np.ones((5, 5, 5), dtype=np.uint8)
    solved = compress(labels).solved
    assert len(solved.field(surface_only=False).cells) == 125
    assert len(solved.field().cells) == 125 - 27
    assert len(solved.field(surface_only=False, window=((0, 5), (1, 3), (2, 3))).cells) == 10


def test_the_critical_strain_is_an_order_statistic():
    strains = np.random.default_rng(4).permutation(np.arange(1, 101) / 1e4)
    # Elements 0..99 in ascending order; the one with number 98 is 0.0099: 2 % reach it or more.
    assert pistoia_failure(strains).effective_strain == 0.0099
    assert pistoia_failure(strains[:1]).effective_strain == strains[0]
    assert pistoia_failure(strains, critical_fraction=0.07).effective_strain == 0.0094
    # 500 (1 - 0.07) is a hair below 465 in binary numbers.
    assert pistoia_failure(np.arange(1, 501) / 1e5, critical_fraction=0.07).effective_strain == 466 / 1e5


def test_a_specimen_that_is_not_strained_has_no_failure_load():
    with pytest.raises(UnsupportedModel):
        pistoia_failure(np.zeros(10))


def test_a_specimen_of_embedding_is_refused_before_it_is_solved():
    said = []
    with pytest.raises(UnsupportedModel, match="embedding"):
        compress(tissues={1: PMMA}, progress=lambda fraction, text: said.append(fraction))
    assert said == [0.0]


def test_embedding_carries_load_but_never_fails():
    labels = np.ones((6, 4, 4), dtype=np.uint8)
    labels[:2] = labels[-2:] = 2
    weak = Tissue("cement", 500.0, "test", counts=False)
    result = compress(labels, tissues={**BONE, 2: weak})
    assert result.failure.counted_elements == 2 * 16
    counted = compress(labels, tissues={**BONE, 2: Tissue("cement", 500.0, "test")})
    assert counted.failure_load_n < 0.5 * result.failure_load_n
    assert result.reaction_force_n == counted.reaction_force_n


def test_progress_ends_at_one():
    said = []
    compress(progress=lambda fraction, text: said.append((fraction, text)))
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_even_energy_is_found_where_it_exists():
    random = np.random.default_rng(8)
    first = random.uniform(0.1, 1.0, 500)
    second = (3.0 - first) / 2
    third = random.uniform(0.1, 1.0, 500)
    factors = even_energy_factors(np.column_stack((first, second, third)), target_mpa=0.6)
    np.testing.assert_allclose(factors, (0.2, 0.4, 0.0), atol=1e-12)


def test_load_histories_refuse_cases_and_targets_that_mean_nothing():
    for options in ({"cases": ()}, {"target_mpa": 0.0}, {"cap_percentile": 0.0}):
        with pytest.raises(BadLoad):
            load_history(BLOCK, (1.0, 1.0, 1.0), tissues=BONE, **options)


def test_synthetic_specimens_are_connected_and_repeatable():
    block = porous_block((30, 30, 30), XCT2_MM, seed=1)
    assert np.array_equal(block.labels, porous_block((30, 30, 30), XCT2_MM, seed=1).labels)
    assert not np.array_equal(block.labels, porous_block((30, 30, 30), XCT2_MM, seed=2).labels)
    assert 0.1 < block.bone_fraction <= 0.2
    tibia = synthetic_tibia(2.0, (0.25, 0.25, 0.25), seed=1)
    assert set(np.unique(tibia.labels)) == {0, TRABECULAR_LABEL, CORTICAL_LABEL}
    with pytest.raises(BadSpacing):
        porous_block((4, 4, 4), (1.0, 0.0, 1.0), seed=0)
    with pytest.raises(BadLoad):
        porous_block((4, 4, 4), XCT2_MM, seed=0, bone_fraction=0.9)
