"""Two segmenters: another name forbids, another extent warns, silence says nothing."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import SegmentationError
from inference.labels import BY_KEY
from inference.quality import QualityFlag, forbids_category, forbids_density, forbids_strength
from inference.second_opinion import SecondOpinion, disagreements
from inference.segmentation import Progress, Segmentation, SegmenterIdentity
from inference.volume import Volume

SHAPE = (40, 20, 20)
VOLUME = Volume(np.zeros(SHAPE, np.float32), np.eye(4))


def bodies(*names: str, height: int = 8) -> NDArray[np.uint8]:
    """Bodies from the feet to the head, ten slices each."""
    labels = np.zeros(SHAPE, np.uint8)
    for number, name in enumerate(names):
        if name:
            labels[10 * number : 10 * number + height, 5:15, 5:15] = BY_KEY[name].value
    return labels


@dataclass(frozen=True)
class Fixed:
    labels: NDArray[np.uint8]
    name: str = "one"
    flags: tuple[QualityFlag, ...] = ()

    @property
    def identity(self) -> SegmenterIdentity:
        return SegmenterIdentity(self.name, "1", self.name.ljust(64, "0"))

    def segment(self, volume: Volume, progress: Progress) -> Segmentation:
        progress(1.0, "done")
        return Segmentation(self.labels, self.identity, self.flags)


class Broken(Fixed):
    def segment(self, volume: Volume, progress: Progress) -> Segmentation:
        raise SegmentationError("broken")


def test_levels_off_by_one_forbid_every_number() -> None:
    flags = disagreements(bodies("L3", "L2", "L1"), bodies("L4", "L3", "L2"))
    assert {flag.code for flag in flags} == {"named_otherwise"}
    assert [flag.subject for flag in flags] == ["L1", "L2", "L3"]
    assert all(forbids_density(flags, level) and forbids_strength(flags, level) for level in ("L1", "L2", "L3"))
    assert "L4" in next(flag.sentence for flag in flags if flag.subject == "L3")


def test_sides_that_are_swapped_forbid_every_number() -> None:
    flags = disagreements(bodies("femur_right", "femur_left"), bodies("femur_left", "femur_right"))
    assert {(flag.code, flag.subject) for flag in flags} == {
        ("named_otherwise", "femur_right"),
        ("named_otherwise", "femur_left"),
    }


def test_the_same_bones_raise_nothing() -> None:
    assert disagreements(bodies("L3", "L2"), bodies("L3", "L2")) == ()


def test_what_the_second_did_not_see_raises_nothing() -> None:
    assert disagreements(bodies("L3", "L2"), bodies("L3", "")) == ()
    assert disagreements(bodies("L3"), bodies("", "L2")) == ()


def test_another_extent_forbids_the_category_only() -> None:
    flags = disagreements(bodies("L3", height=10), bodies("L3", height=4))
    assert [flag.code for flag in flags] == ["segmenters_differ"]
    assert flags[0].evidence == (("dice", pytest.approx(2 * 4 / 14, abs=1e-3)),)
    assert forbids_category(flags, "L3")
    assert not forbids_density(flags, "L3")


def test_the_first_ones_labels_and_flags_are_kept() -> None:
    own = QualityFlag("noisy", "study", "Noise.")
    checked = SecondOpinion(Fixed(bodies("L3"), "one", (own,)), Fixed(bodies("L4"), "two"))
    found = checked.segment(VOLUME)
    np.testing.assert_array_equal(found.labels, bodies("L3"))
    assert [flag.code for flag in found.flags] == ["noisy", "named_otherwise"]
    assert found.identity.name == "one, checked by two"
    other = SecondOpinion(Fixed(bodies("L3"), "one"), Fixed(bodies("L4"), "three"))
    assert found.identity.checksum != other.identity.checksum


def test_a_second_that_fails_is_said_and_costs_nothing() -> None:
    found = SecondOpinion(Fixed(bodies("L3")), Broken(bodies("L3"))).segment(VOLUME)
    assert [flag.code for flag in found.flags] == ["no_second_opinion"]
    assert not forbids_category(found.flags, "L3")


def test_where_the_first_found_nothing_the_second_is_not_asked() -> None:
    found = SecondOpinion(Fixed(bodies()), Broken(bodies())).segment(VOLUME)
    assert found.flags == ()
