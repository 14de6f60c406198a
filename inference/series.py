"""Which series of a study is analysed, and why the others are not. Headers only; pure.

One CT series is chosen: axial, not a localizer nor a projection, of at most 5 mm spacing. Among several, images of a
tube voltage go before spectral ones, then slices of at most 3 mm before thicker ones, a soft kernel before a sharp one,
no contrast before contrast, originals before derived images, the longer coverage, and the thinner slices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from inference.dicom_headers import (
    Frame,
    acquisition_from_dataset,
    frames_from_datasets,
    image_type,
    is_ct,
)
from inference.errors import VolumeError
from inference.kernels import kernel_sharpness
from inference.slice_stack import stack_slices
from inference.spectral import spectral_word
from inference.volume_checks import COARSE_VOXEL_MM, THICK_SLICE_MM

MIN_COVERAGE_MM = 60.0
"""Shortest series worth choosing: two vertebral bodies, or a femoral head and neck [m] assumption."""

COVERAGE_STEP_MM = 25.0
"""Coverages that differ by less than this, a vertebral level, are taken as equal [m] assumption."""

AXIAL_TOLERANCE_DEG = 20.0
"""Largest angle between the slice normal and the patient's long axis for an axial series [m] assumption."""

PROJECTIONS = (
    "LOCALIZER",
    "MIP",
    "MINIP",
    "PROJECTION IMAGE",
    "SCREEN SAVE",
    "MAX_IP",
    "MIN_IP",
    "VOLUME_RENDER",
)
"""Image Type values of pictures that are not slices of HU (PS3.3 C.8.2.1.1.1, C.8.16.1; vendors' values
[m])."""

SHARPNESS_RANK = {"soft": 2, "unknown": 1, "sharp": 0}


@dataclass(frozen=True, slots=True)
class Rejection:
    """A series that was not taken, and the sentence that says why."""

    series_instance_uid: str
    sentence: str


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """The series to analyse.

    Attributes
    ----------
    series_instance_uid
        None where no series can be analysed.
    reason
        Sentence: why this one, or why none.
    rejections
        Every other series, in the order given.
    """

    series_instance_uid: str | None
    reason: str
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What decides between usable series."""

    uid: str
    spacing_mm: float
    kernel: str
    sharpness: str
    has_contrast: bool
    is_derived: bool
    is_spectral: bool
    coverage_mm: float

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key: the largest is taken."""
        return (
            not self.is_spectral,
            self.spacing_mm <= THICK_SLICE_MM + 0.05,
            SHARPNESS_RANK[self.sharpness],
            not self.has_contrast,
            not self.is_derived,
            round(self.coverage_mm / COVERAGE_STEP_MM),
            -round(self.spacing_mm, 2),
            self.coverage_mm,
        )

    @property
    def words(self) -> str:
        """Describe the series in a sentence's tail."""
        return (
            f"{self.coverage_mm:.0f} mm in steps of {self.spacing_mm:.2f} mm, {self.sharpness} kernel"
            f"{', with contrast' if self.has_contrast else ''}{', derived' if self.is_derived else ''}"
            f"{', spectral' if self.is_spectral else ''}"
        )


DIFFERENCES = (
    "its values are not CT numbers of a tube voltage",
    "it has thicker slices",
    "its kernel suits density less",
    "it was scanned with contrast",
    "it is derived from other images",
    "it covers less of the body",
    "it has thicker slices",
    "it covers less of the body",
)
"""What a lower value means at each place of a rank."""


def choose_series(series: Mapping[str, Sequence[Dataset]]) -> SeriesChoice:
    """Choose the one CT series of a study to analyse.

    Parameters
    ----------
    series
        Header-only datasets of every series of one study, by Series Instance UID.

    Returns
    -------
    SeriesChoice
        The same whatever the order of series and datasets; a tie goes to the smaller UID.
    """
    outcomes = {uid: _judged(uid, datasets) for uid, datasets in series.items()}
    candidates = [outcome for outcome in outcomes.values() if isinstance(outcome, _Candidate)]
    if not candidates:
        rejections = tuple(Rejection(uid, str(outcome)) for uid, outcome in outcomes.items())
        return SeriesChoice(
            None,
            f"None of the {len(outcomes)} series is an axial CT that can be analysed; expected one of at "
            f"most {COARSE_VOXEL_MM:g} mm spacing that shows a hip or a spine.",
            rejections,
        )
    best = min(sorted(candidates, key=lambda one: one.uid), key=lambda one: tuple(-value for value in one.rank))
    rejections = tuple(
        Rejection(uid, outcome if isinstance(outcome, str) else _beaten(outcome, best))
        for uid, outcome in outcomes.items()
        if uid != best.uid
    )
    return SeriesChoice(best.uid, f"Taken: {best.words}.", rejections)


def _judged(uid: str, datasets: Sequence[Dataset]) -> _Candidate | str:
    """Describe a usable series, or say in a sentence why it is not usable."""
    if not datasets:
        return "Not taken: it holds no objects."
    others = sum(1 for dataset in datasets if not is_ct(dataset))
    if others:
        modality = "".join(c for c in str(datasets[0].get("Modality", "unknown"))[:16] if c.isalnum())
        return f"Not taken: {others} of its {len(datasets)} objects are not CT images (modality {modality})."
    pictures = [kind for dataset in datasets for kind in image_type(dataset) if kind in PROJECTIONS]
    if pictures:
        return f"Not taken: it holds {pictures[0].lower()} images, which are not slices."
    try:
        return _candidate(uid, datasets)
    except VolumeError as error:
        return f"Not taken: {error}"


def _candidate(uid: str, datasets: Sequence[Dataset]) -> _Candidate | str:
    """Measure a stack of slices; raises VolumeError where it is none."""
    frames = frames_from_datasets(datasets)
    tilt_deg = _tilt_deg(frames[0])
    if tilt_deg > AXIAL_TOLERANCE_DEG:
        return f"Not taken: its slices are turned by {tilt_deg:.0f} degrees; expected axial slices."
    stack = stack_slices(np.stack([frame.position_mm for frame in frames]), frames[0].normal)
    spacing_mm = float(np.linalg.norm(stack.step_mm))
    coverage_mm = spacing_mm * len(frames)
    if coverage_mm < MIN_COVERAGE_MM:
        return f"Not taken: it covers {coverage_mm:.0f} mm; expected at least {MIN_COVERAGE_MM:g} mm."
    acquisition = acquisition_from_dataset(datasets[0])
    thickness_mm = max(spacing_mm, acquisition.slice_thickness_mm or 0.0)
    if thickness_mm > COARSE_VOXEL_MM + 0.05:
        return f"Not taken: its slices are {thickness_mm:.1f} mm thick; expected at most {COARSE_VOXEL_MM:g} mm."
    return _Candidate(
        uid=uid,
        spacing_mm=thickness_mm,
        kernel=acquisition.convolution_kernel,
        sharpness=kernel_sharpness(acquisition.manufacturer, acquisition.convolution_kernel),
        has_contrast=bool(acquisition.contrast_agent),
        is_derived="DERIVED" in acquisition.image_type[:1],
        is_spectral=bool(spectral_word(acquisition.image_type)),
        coverage_mm=coverage_mm,
    )


def _tilt_deg(frame: Frame) -> float:
    """Angle between a slice's normal and the patient's long axis."""
    return float(np.degrees(np.arccos(min(1.0, abs(float(frame.normal[2]))))))


def _beaten(candidate: _Candidate, best: _Candidate) -> str:
    """Say why a usable series was not the best."""
    places = zip(candidate.rank, best.rank, DIFFERENCES, strict=True)
    difference = next((words for own, other, words in places if own < other), "it equals the one taken")
    return f"Not taken: {difference} ({candidate.words})."
