"""Slices that do not continue one another are seen, whatever their positions say."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from volume_factories import make_volume

from inference.slice_continuity import air_gaps, broken_stack, slice_steps

SHAPE, SPACING_MM = (60, 60, 80), (3.0, 3.0, 3.0)
Image = NDArray[np.float32]


def trunk(seed: int = 1, noise_hu: float = 20.0) -> Image:
    """A trunk that changes along its length as organs do, over some 20 mm."""
    random = np.random.default_rng(seed)
    organs = ndimage.gaussian_filter(random.standard_normal(SHAPE), (7, 4, 4))
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    middle = 30 + 6 * np.sin(np.arange(SHAPE[0]) / 12 + seed)
    body = ((rows[None] - middle[:, None, None]) / 22) ** 2 + ((columns[None] - 40) / 32) ** 2 < 1
    hu = np.where(body, 40 + 200 * organs / organs.std() * (np.abs(organs) > organs.std()), -1000.0)
    return (hu + random.normal(0, noise_hu, SHAPE)).astype(np.float32)


def with_ends(first: Image, last: Image) -> Image:
    """A trunk between other slices; each end is as high as its array."""
    return np.concatenate([first, trunk(), last])


def wedge(turn_deg: float) -> Image:
    """A trunk in slices turned about the left-right axis: their corners lie beyond the scan and are blank."""
    hu = trunk()
    beyond = np.round(np.arange(SHAPE[1]) * np.tan(np.radians(turn_deg))).astype(int)
    for row, count in enumerate(beyond):
        hu[:count, row] = hu[SHAPE[0] - (beyond[-1] - count) :, row] = -1024.0
    return hu


def partly(image: Image, share: float) -> Image:
    """An interpolated slice: so much of the body, the rest air."""
    return (share * image + (1 - share) * -1000.0)[None].astype(np.float32)


BLANK = np.full((1, *SHAPE[1:]), -1024.0, dtype=np.float32)

ENDS: dict[str, Callable[[], Image]] = {
    "one blank slice": lambda: with_ends(BLANK, BLANK),
    "two blank slices": lambda: with_ends(BLANK.repeat(2, axis=0), BLANK.repeat(2, axis=0)),
    "an end slice with a sixth of air": lambda: with_ends(partly(trunk()[0], 5 / 6), partly(trunk()[-1], 5 / 6)),
    "the same beside blank slices": lambda: np.concatenate([BLANK, with_ends(partly(trunk()[0], 5 / 6), BLANK)]),
    "slices turned by 2 degrees": lambda: wedge(2.0),
    "slices turned by 5 degrees": lambda: wedge(5.0),
    "slices turned by 15 degrees": lambda: wedge(15.0),
}


def code_of(hu: Image) -> str | None:
    flag = broken_stack(make_volume(hu, SPACING_MM))
    return None if flag is None else flag.code


SOUND: dict[str, Callable[[], Image]] = {
    "one body": trunk,
    "noise of 100 HU": lambda: trunk(noise_hu=100.0),
    "slices of 6 mm": lambda: trunk()[::2],
    "air above and below": lambda: np.pad(trunk(), ((20, 20), (0, 0), (0, 0)), constant_values=-1000.0),
    "air only": lambda: np.full(SHAPE, -1000.0, dtype=np.float32),
    "one slice": lambda: trunk()[:1],
    "two slices": lambda: trunk()[:2],
}

BROKEN: dict[str, Callable[[], Image]] = {
    "two bodies": lambda: np.concatenate([trunk(1), trunk(2)]),
    "two bodies in turn": lambda: np.where((np.arange(60) % 2 > 0)[:, None, None], trunk(1), trunk(4)),
    "slices in no order": lambda: trunk()[np.random.default_rng(0).permutation(60)],
    "empty slices in between": lambda: np.where((np.abs(np.arange(60) - 30) < 5)[:, None, None], -1000.0, trunk()),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_body_that_goes_on_is_not_flagged(name: str) -> None:
    assert code_of(SOUND[name]()) is None


@pytest.mark.parametrize("name", ENDS)
def test_blank_and_partial_slices_at_the_ends_are_neither_a_seam_nor_a_gap(name: str) -> None:
    volume = make_volume(ENDS[name](), SPACING_MM)
    assert (broken_stack(volume), air_gaps(volume)) == (None, None)


@pytest.mark.parametrize("name", BROKEN)
def test_a_body_that_does_not_go_on_is_flagged(name: str) -> None:
    assert code_of(BROKEN[name]()) == "broken_stack"


def test_the_sentence_names_the_slices_between_which_the_body_changes() -> None:
    flag = broken_stack(make_volume(np.concatenate([trunk(1), trunk(2)]), SPACING_MM))
    assert flag is not None
    assert flag.sentence.startswith("Slices 60 and 61 of 120 ")


def test_blank_ends_do_not_hide_a_gap_or_a_seam() -> None:
    blank = BLANK.repeat(2, axis=0)
    gap = np.concatenate([blank, trunk()[:8], BLANK, trunk()[8:], blank])
    assert air_gaps(make_volume(gap, SPACING_MM)) is not None
    seam = np.concatenate([blank, trunk(1)[-8:], trunk(2), blank])
    assert broken_stack(make_volume(seam, SPACING_MM)) is not None


def test_steps_are_measured_from_5_mm_above_the_first_tissue_to_5_mm_below_the_last() -> None:
    padded = np.pad(trunk(), ((5, 3), (0, 0), (0, 0)), constant_values=-1000.0)
    steps_hu, places = slice_steps(make_volume(padded, SPACING_MM))
    assert (places[0], places[-1], len(steps_hu)) == (7, 61, 55)
