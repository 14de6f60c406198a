"""Eroded and dilated masks: the table, its interval, and masks that have no strength."""

import numpy as np
import pytest

from fe.errors import BadMask, BadSpacing, EmptyMask, HeadNotFound
from fe.flags import FLAG_MEANINGS
from fe.sensitivity import Outcome, sensitivity, stepped_mask
from fe.voxel.grid import density_grid

SPACING = (3.0, 2.0, 1.0)
STRESS_MPA = 7.0


def bar(rows=10, columns=12, length=9, margin=3):
    """Return a bar along the slices that leaves the scan at both ends."""
    mask = np.zeros((length, rows + 2 * margin, columns + 2 * margin), dtype=bool)
    mask[:, margin : margin + rows, margin : margin + columns] = True
    return mask


def section_strength(mask, start):
    """Return the strength of a bar: its smallest section times a stress."""
    area_mm2 = mask.sum(axis=(1, 2)).min() * SPACING[1] * SPACING[2]
    return Outcome({"bar": STRESS_MPA * float(area_mm2)}, (start or 0) + 1)


def test_a_bar_gives_the_table_of_its_sections():
    table = sensitivity(bar(), SPACING, section_strength)
    assert [row.step_voxels for row in table.steps] == [-2, -1, 0, 1, 2]
    assert table.flags == ()
    for row in table.steps:
        n = row.step_voxels
        # Through faces, a dilated corner lacks n (n + 1) / 2 voxels; an eroded rectangle stays one.
        voxels = (10 + 2 * n) * (12 + 2 * n) - (4 * n * (n + 1) // 2 if n > 0 else 0)
        expected = STRESS_MPA * voxels * 2.0
        assert row.strengths_n["bar"] == pytest.approx(expected)
        assert row.difference_percent["bar"] == pytest.approx(100 * (voxels / 120 - 1))
        assert row.volume_mm3 == pytest.approx(voxels * 9 * 6.0)
        assert row.step_mm == (3.0 * n, 2.0 * n, 1.0 * n)
    assert table.low_n["bar"] == table.steps[0].strengths_n["bar"]
    assert table.high_n["bar"] == table.steps[-1].strengths_n["bar"]
    assert table.low_n["bar"] <= table.steps[2].strengths_n["bar"] <= table.high_n["bar"]


def test_steps_are_voxels_whatever_their_spacing_and_never_cross_the_edge_of_the_scan():
    mask = bar()
    assert stepped_mask(mask, 0) is mask
    np.testing.assert_array_equal(stepped_mask(mask, -2), bar(6, 8, margin=5))
    for n in (1, 2):
        assert stepped_mask(mask, -n)[[0, -1]].any(axis=(1, 2)).all()
        np.testing.assert_array_equal(stepped_mask(mask, n), ~stepped_mask(~mask, -n))


def test_the_overlap_is_that_of_dice():
    table = sensitivity(bar(), SPACING, section_strength, steps=(-1,))
    assert table.steps[0].dice == pytest.approx(2 * 80 / (80 + 120))
    assert table.steps[1].dice == 1.0


def test_every_mask_starts_from_the_nearest_one_that_had_an_answer():
    seen = []

    def evaluate(mask, start):
        seen.append((int(mask.sum()), start))
        return Outcome({"bar": 1.0}, int(mask.sum()))

    mask = bar()
    sensitivity(mask, SPACING, evaluate)
    sizes = {n: int(stepped_mask(mask, n).sum()) for n in (-2, -1, 0, 1, 2)}
    assert seen == [
        (sizes[0], None),
        (sizes[-1], sizes[0]),
        (sizes[-2], sizes[-1]),
        (sizes[1], sizes[0]),
        (sizes[2], sizes[1]),
    ]


def test_a_known_outcome_of_the_given_mask_is_not_computed_again():
    calls = []

    def evaluate(mask, start):
        calls.append(start)
        return section_strength(mask, start)

    base = Outcome({"bar": STRESS_MPA * 240.0}, 5)
    known = sensitivity(bar(), SPACING, evaluate, base=base)
    assert calls == [5, 6, 5, 6]
    assert known.steps == sensitivity(bar(), SPACING, section_strength).steps


def test_a_bone_that_vanishes_is_a_row_and_a_flag_and_no_exception():
    table = sensitivity(bar(rows=3), SPACING, section_strength)
    failures = {row.step_voxels: row.failure for row in table.steps}
    assert failures == {-2: "eroded_away", -1: None, 0: None, 1: None, 2: None}
    gone = table.steps[0]
    assert (gone.strengths_n, gone.difference_percent, gone.volume_mm3) == ({}, {}, 0.0)
    assert table.low_n["bar"] == table.steps[1].strengths_n["bar"]
    (flag,) = table.flags
    assert flag.code in FLAG_MEANINGS
    assert flag.evidence == (("step_voxels", -2.0),)
    assert flag.sentence.isascii()


def test_a_bone_that_is_torn_apart_has_no_strength():
    mask = bar(length=11)
    mask[5, :5] = mask[5, 6:] = False
    table = sensitivity(mask, SPACING, section_strength, steps=(-1, 1))
    assert [row.failure for row in table.steps] == ["torn_apart", None, None]
    assert "lost its connection" in table.steps[0].reason


def test_a_part_that_was_loose_before_tears_nothing():
    mask = bar(margin=13)
    mask[:, :9, :11] = True
    table = sensitivity(mask, SPACING, section_strength, steps=(-1, 1))
    assert [row.failure for row in table.steps] == [None, None, None]


def test_an_error_of_the_model_is_an_answer_but_a_programming_error_is_not():
    def headless(mask, start):
        if mask.sum() < bar().sum():
            raise HeadNotFound("No head is left.")
        return section_strength(mask, start)

    table = sensitivity(bar(), SPACING, headless, steps=(-1, 1))
    assert table.steps[0].failure == "no_strength"
    assert table.steps[0].reason == "No head is left."

    def broken(mask, start):
        if start is not None:
            raise ZeroDivisionError
        return section_strength(mask, start)

    with pytest.raises(ZeroDivisionError):
        sensitivity(bar(), SPACING, broken)


def test_what_the_given_mask_raises_is_raised():
    def never(mask, start):
        raise HeadNotFound("No head.")

    with pytest.raises(HeadNotFound):
        sensitivity(bar(), SPACING, never)


def test_a_mask_a_spacing_or_steps_without_meaning_are_refused():
    with pytest.raises(EmptyMask):
        sensitivity(np.zeros((3, 3, 3), dtype=bool), SPACING, section_strength)
    with pytest.raises(BadMask):
        sensitivity(np.ones((3, 3, 3)), SPACING, section_strength)
    with pytest.raises(BadSpacing):
        sensitivity(bar(), (3.0, -1.0, 1.0), section_strength)
    for steps in ((0,), (1, 1), (0.5,)):
        with pytest.raises(BadMask, match="whole numbers"):
            sensitivity(bar(), SPACING, section_strength, steps=steps)


def test_progress_starts_at_nothing_never_falls_back_and_ends_at_one():
    seen = []
    sensitivity(bar(), SPACING, section_strength, progress=lambda fraction, text: seen.append(fraction))
    assert seen == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_masks_on_one_lattice_share_their_elements():
    rng = np.random.default_rng(4)
    z, y, x = np.indices((20, 22, 24))
    mask = (z - 10) ** 2 + (y - 10.3) ** 2 + (x - 11.6) ** 2 < 49
    rho = rng.uniform(100, 900, mask.shape)
    plain = density_grid(rho, mask, SPACING, 1.7)
    lattice = tuple(plain.affine_mm[:3, 3])
    for step in (-1, 0, 1):
        grid = density_grid(rho, stepped_mask(mask, step), SPACING, 1.7, lattice)
        offset = (grid.affine_mm[:3, 3] - plain.affine_mm[:3, 3]) / 1.7
        np.testing.assert_allclose(offset, np.round(offset), atol=1e-9)
        if step == 0:
            np.testing.assert_array_equal(grid.is_bone, plain.is_bone)
            np.testing.assert_allclose(grid.rho_qct_mg_per_cm3, plain.rho_qct_mg_per_cm3, rtol=1e-9)


def test_a_lattice_gives_the_same_elements_from_any_of_its_places():
    mask = bar()
    rho = np.where(mask, 300.0, 0.0)
    plain = density_grid(rho, mask, SPACING, 1.3)
    far = tuple(plain.affine_mm[:3, 3] + 1.3 * np.array([17, -9, 40]))
    shifted = density_grid(rho, mask, SPACING, 1.3, far)
    assert shifted.element_count == plain.element_count
    np.testing.assert_allclose(
        shifted.points_mm(np.argwhere(shifted.is_bone)), plain.points_mm(np.argwhere(plain.is_bone)), atol=1e-9
    )
