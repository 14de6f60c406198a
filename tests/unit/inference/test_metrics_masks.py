"""Overlap and surface distance have their closed forms on cubes and balls."""

import numpy as np
import pytest

from inference.metrics import centroid_lps_mm, dice, hd95_mm


def cube(start: int, stop: int, size: int = 30) -> np.ndarray:
    mask = np.zeros((size, size, size), dtype=bool)
    mask[start:stop, 5:15, 5:15] = True
    return mask


def test_dice_of_a_shifted_box_is_the_shared_part() -> None:
    assert dice(cube(5, 15), cube(5, 15)) == 1.0
    assert dice(cube(5, 15), cube(9, 19)) == pytest.approx(0.6)
    assert dice(cube(5, 15), cube(15, 25)) == 0.0


def test_two_empty_masks_agree() -> None:
    empty = np.zeros((3, 3, 3), dtype=bool)
    assert dice(empty, empty) == 1.0
    assert hd95_mm(empty, empty, (1, 1, 1)) == 0.0


def test_an_empty_mask_is_infinitely_far() -> None:
    assert hd95_mm(cube(5, 15), np.zeros((30, 30, 30), dtype=bool), (1, 1, 1)) == float("inf")


def test_the_distance_of_a_box_grown_on_all_sides_is_the_growth_in_mm() -> None:
    inner, outer = np.zeros((30, 30, 30), dtype=bool), np.zeros((30, 30, 30), dtype=bool)
    inner[10:20, 10:20, 10:20] = True
    outer[8:22, 8:22, 8:22] = True
    assert hd95_mm(inner, outer, (1.0, 1.0, 1.0)) == pytest.approx(2.0, abs=0.9)  # corners: 2 sqrt 3 at most
    assert hd95_mm(inner, outer, (1.0, 1.0, 1.0)) * 3 == pytest.approx(hd95_mm(inner, outer, (3.0, 3.0, 3.0)))


def test_distance_knows_the_spacing_of_every_axis() -> None:
    one, other = np.zeros((20, 20, 20), dtype=bool), np.zeros((20, 20, 20), dtype=bool)
    one[5, 5, 5], other[9, 5, 5] = True, True
    assert hd95_mm(one, other, (2.5, 1.0, 1.0)) == pytest.approx(10.0)


def test_distance_does_not_depend_on_the_order_of_masks() -> None:
    assert hd95_mm(cube(5, 9), cube(5, 25), (1, 2, 3)) == hd95_mm(cube(5, 25), cube(5, 9), (1, 2, 3))


def test_the_centroid_is_in_patient_coordinates() -> None:
    affine = np.array([[0, 0, -0.7, 50], [0, 0.8, 0, -60], [3.0, 0, 0, 100], [0, 0, 0, 1]], dtype=float)
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[2:5, 4, 6:8] = True
    assert centroid_lps_mm(mask, affine) == pytest.approx([50 - 0.7 * 6.5, -60 + 0.8 * 4, 100 + 3.0 * 3])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        dice(np.zeros((2, 2, 2), dtype=bool), np.zeros((2, 2, 3), dtype=bool))
    with pytest.raises(ValueError, match="no centroid"):
        centroid_lps_mm(np.zeros((2, 2, 2), dtype=bool), np.eye(4))
