"""Canonical order keeps every voxel at its place in the patient, and can be undone."""

import itertools

import numpy as np
import pytest
from volume_factories import anatomy

from inference.volume import Volume, boxes_of, canonical, crop

SPACING_MM = (3.0, 0.8, 0.7)


def oriented(axes: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[Volume, Volume]:
    """Return a canonical volume, and the same one stored with its axes permuted and flipped."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = SPACING_MM
    affine[:, 3] = (5.0, -7.0, 11.0, 1.0)
    straight = Volume(anatomy(5, 6, 7), affine, ("a", "b", "c", "d", "e"))
    stored = affine.copy()
    array = straight.hu
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            stored[:, 3] += stored[:, axis] * (array.shape[axis] - 1)
            stored[:, axis] *= -1
    return straight, Volume(array.transpose(axes), stored[:, [*axes, 3]])


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_every_orientation_comes_to_the_same_volume_and_back(axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    straight, stored = oriented(axes, flips)
    result, orientation = canonical(stored)
    assert np.array_equal(result.hu, straight.hu)
    assert np.allclose(result.affine_lps, straight.affine_lps)
    assert np.array_equal(orientation.restore(result.hu), stored.hu)
    box = (slice(1, 3), slice(2, 6), slice(0, 5))
    shape, place = orientation.restore_box(box, result.hu.shape)
    assert shape == stored.hu.shape
    assert np.array_equal(stored.hu[place], orientation.restore(result.hu[box]))


def test_slice_uids_follow_a_flip() -> None:
    straight, _ = oriented((0, 1, 2), (False, False, False))
    affine = straight.affine_lps.copy()
    affine[:, 3] += affine[:, 0] * 4
    affine[:, 0] *= -1
    result, _ = canonical(Volume(straight.hu[::-1], affine, ("e", "d", "c", "b", "a"), frame_numbers=(5, 4, 3, 2, 1)))
    assert result.instance_uids == ("a", "b", "c", "d", "e")
    assert result.frame_numbers == (1, 2, 3, 4, 5)


def test_a_cut_box_keeps_its_place_in_the_patient() -> None:
    straight, _ = oriented((0, 1, 2), (False, False, False))
    part = crop(straight, (slice(1, 4), slice(2, 5), slice(3, 7)))
    assert part.affine_lps @ [0, 0, 0, 1] == pytest.approx(straight.affine_lps @ [1, 2, 3, 1])
    assert part.hu[0, 0, 0] == straight.hu[1, 2, 3]
    assert part.instance_uids == ("b", "c", "d")


def test_a_box_holds_its_labels_and_a_margin_inside_the_array() -> None:
    labels = np.zeros((10, 10, 10), dtype=np.uint8)
    labels[0, 4:6, 9] = 7
    labels[3, 5, 5] = 8
    assert boxes_of(labels) == {
        7: (slice(0, 2), slice(3, 7), slice(8, 10)),
        8: (slice(2, 5), slice(4, 7), slice(4, 7)),
    }
    assert boxes_of(labels, margin=0)[7] == (slice(0, 1), slice(4, 6), slice(9, 10))
