"""Of the series of a study the one best suited is taken, and every other one is told why not."""

import itertools

import numpy as np
import pytest
from pydicom.dataset import Dataset
from volume_factories import SECRET, make_series

from inference.series import SeriesChoice, choose_series

EMPTY_PIXELS = np.zeros((60, 2, 2))


def make_headers(uid: str, slices: int = 60, **options: object) -> list[Dataset]:
    """Make header-only datasets of one series, 3 mm apart by default."""
    series = make_series(EMPTY_PIXELS[:1].repeat(slices, axis=0), **options)  # type: ignore[arg-type]
    for dataset in series:
        dataset.SeriesInstanceUID = uid
        del dataset.PixelData
    return series


def chosen(*series: list[Dataset]) -> SeriesChoice:
    """Choose, in every order of the series, and assert that the order does not matter."""
    named = [(one[0].SeriesInstanceUID, one) for one in series]
    choices = [choose_series(dict(order)) for order in itertools.permutations(named)]
    assert len({choice.series_instance_uid for choice in choices}) == 1
    for rejection in choices[0].rejections:
        assert SECRET not in rejection.sentence
        assert rejection.sentence.startswith("Not taken: ")
    return choices[0]


@pytest.mark.parametrize(
    ("worse", "words"),
    [
        ({"step_mm": 5.0, "SliceThickness": 5.0}, "thicker slices"),
        ({"ConvolutionKernel": "B70s"}, "kernel suits density less"),
        ({"ConvolutionKernel": "B70s", "step_mm": 1.0, "slices": 180}, "kernel suits density less"),
        ({"ContrastBolusAgent": "Iodine"}, "was scanned with contrast"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, "it is derived"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "MONO_40_KEV"]}, "its values are not CT numbers"),
        ({"slices": 30}, "covers less"),
    ],
)
def test_the_better_series_is_taken_and_the_other_told_why(worse: dict[str, object], words: str) -> None:
    choice = chosen(make_headers("2.25.9"), make_headers("2.25.10", **worse))  # a tie would go to 2.25.10
    assert choice.series_instance_uid == "2.25.9"
    assert words in choice.rejections[0].sentence


def test_a_mixed_series_of_thick_slices_goes_before_a_spectral_one() -> None:
    choice = chosen(
        make_headers("1.2.9", SliceThickness=5.0),
        make_headers("1.2.1", ImageType=["DERIVED", "SECONDARY", "AXIAL", "VMI"]),
    )
    assert choice.series_instance_uid == "1.2.9"


def test_of_equal_coverage_the_thinner_slices_are_taken() -> None:
    choice = chosen(make_headers("2.25.10", slices=120, step_mm=1.5), make_headers("2.25.9"))
    assert choice.series_instance_uid == "2.25.10"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "mip"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}, "modality MR"),
        ({"orientation": (1, 0, 0, 0, 0, -1)}, "axial"),
        ({"slices": 12}, "36 mm"),
        ({"step_mm": 8.0, "SliceThickness": 8.0}, "8.0 mm thick"),
    ],
)
def test_what_cannot_be_analysed_is_never_taken(options: dict[str, object], words: str) -> None:
    choice = chosen(make_headers("2.25.9", **options))
    assert choice.series_instance_uid is None
    assert choice.reason.startswith("None of the 1 series")
    assert words in choice.rejections[0].sentence


def test_a_series_with_a_missing_slice_says_so() -> None:
    series = make_headers("2.25.9")
    del series[20]
    choice = chosen(series)
    assert choice.series_instance_uid is None
    assert "1 slices missing" in choice.rejections[0].sentence


def test_a_study_without_series_has_no_choice() -> None:
    assert choose_series({}).series_instance_uid is None


def test_equal_series_are_decided_by_uid() -> None:
    choice = chosen(make_headers("2.25.11"), make_headers("2.25.10"))
    assert choice.series_instance_uid == "2.25.10"
    assert "equals the one taken" in choice.rejections[0].sentence
