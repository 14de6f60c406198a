"""Task ``vertebra-localisation``: the upper and lower limits of T12 to L2 on a coronal projection [Niu2023].

A scan that does not show all three is a scan without an object: windows that cut them are shown in training too,
because a detector that saw only whole spines finds one everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from dicom_node.errors import ConfigurationError
from dicom_node.training.cases import Case
from dicom_node.training.niu.configuration import plain, settings_of
from dicom_node.training.niu.detector import DIVISOR, Detector, candidates, detection_loss
from dicom_node.training.niu.projection import Place, overlap, place_of, project
from dicom_node.training.niu.split import LABELS, LEVELS, picks, read_site
from dicom_node.training.task import Plan, Say, Task
from inference.labels import BY_KEY

CUT_SHARE = 0.25
"""Of the training windows: those that cut the three vertebrae, and hold no object [m assumption]."""

CUT_DEPTH = 0.15
"""Part of the object's height that a cutting window takes away at least: a millimetre less is not another picture."""

SCALES = (0.9, 1.1)
"""Of the training images' size: patients are taller and smaller than a site's cases [m assumption]."""

RECALL_OVERLAP = 0.5
"""Along the body's axis, from which a detection counts as one; the usual limit of detection [m]."""


@dataclass(frozen=True, slots=True)
class Localisation:
    """How the detector is trained.

    Attributes
    ----------
    fold
        Part of the patients that validates, 0 to 3.
    pixel_mm
        Side of the projection's pixels.
    window_mm
        Side of the square window that a training image shows.
    width
        Channels of the detector's first level.
    batch
        Images a step.
    margin_mm
        By which the labelled box is wider than the vertebrae; [Niu2023] says "appropriate widening" [m assumption].
    least_score
        A detection below it is none.
    """

    fold: int = 0
    pixel_mm: float = 1.0
    window_mm: float = 448.0
    width: int = 16
    batch: int = 8
    margin_mm: float = 5.0
    least_score: float = 0.5


@dataclass(frozen=True, slots=True)
class Detection:
    """Where T12 to L2 were found.

    Attributes
    ----------
    place
        On the projection.
    score
        Of the detector, 0 to 1.
    rival
        Score of the best detection elsewhere along the body, 0 where there is none.
    """

    place: Place
    score: float
    rival: float


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    image: NDArray[np.float32]
    place: Place | None


class LocalisationLearner:
    """The detector with the projections of a site's cases."""

    def __init__(self, train: Sequence[Case], validation: Sequence[Case], plan: Plan, device: torch.device) -> None:
        self.settings = settings_of(Localisation, plan)
        side = round(self.settings.window_mm / self.settings.pixel_mm)
        if side < DIVISOR or side % DIVISOR:
            raise ConfigurationError(f"The window has {side} x {side} pixels; expected a multiple of {DIVISOR}.")
        self.seed, self.device = plan.seed, device
        self.data_sha256 = ""
        self.train = [_sample(case, self.settings) for case in train]
        self.validation = [_sample(case, self.settings) for case in validation]
        if all(sample.place is None for sample in self.train):
            raise ConfigurationError("No training case shows T12, L1 and L2 whole; there is nothing to learn.")
        self.network: Detector = make_detector(self.settings, plan.seed)

    def batch(self, step: int) -> Sequence[Tensor]:
        """Return images (image, 1, row, column), boxes (image, 4) in pixels, and which images have one."""
        random = np.random.default_rng((self.seed, step))
        chosen = picks(self.seed, step, self.settings.batch, len(self.train))
        drawn = [_window(self.train[one], self.settings, random) for one in chosen]
        images, boxes = np.stack([image for image, _ in drawn])[:, None], np.stack([box for _, box in drawn])
        return torch.from_numpy(images), torch.from_numpy(boxes), torch.from_numpy(np.isfinite(boxes).all(axis=1))

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the loss of being inside and of the distances to the sides."""
        images, boxes, has = batch
        return detection_loss(self.network(images), boxes, has, self.settings.pixel_mm)

    def validate(self) -> Mapping[str, float]:
        """Return the mean overlap, recall, precision, and errors of the limits, on whole projections."""
        found = [detect(self.network, sample.image, self.settings, self.device) for sample in self.validation]
        return figures_of([sample.place for sample in self.validation], found)


def make_detector(settings: Localisation, seed: int) -> Detector:
    """Make the network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Detector(settings.width)


def detect(
    network: Detector, image: NDArray[np.float32], settings: Localisation, device: torch.device
) -> Detection | None:
    """Find T12 to L2 on a projection; the network is in eval mode.

    Parameters
    ----------
    network
        Trained with the same settings.
    image : (row, column) float32 array
        From ``project`` with the same pixels.
    settings, device
        Of the network.

    Returns
    -------
    Detection or None
        None where nothing scores enough.
    """
    pads = [(0, -length % DIVISOR) for length in image.shape]
    with torch.no_grad():
        maps = network(torch.from_numpy(np.pad(image, pads))[None, None].to(device))[0].cpu().numpy()
    found = [
        (score, _place(box, settings.pixel_mm))
        for score, box in candidates(maps, settings.pixel_mm, settings.least_score)
    ]
    if not found:
        return None
    score, place = found[0]
    rivals = [other for other, elsewhere in found[1:] if overlap(elsewhere, place) < RECALL_OVERLAP]
    return Detection(place, score, max(rivals, default=0.0))


def figures_of(truth: Sequence[Place | None], found: Sequence[Detection | None]) -> dict[str, float]:
    """Return what validation reports.

    Parameters
    ----------
    truth
        Of every image, None where it has no object.
    found
        Of every image.

    Returns
    -------
    dict
        ``overlap`` along the body's axis (0 where nothing was found; its mean judges), ``recall`` and ``precision`` at
        an overlap of one half, ``limit_error_mm`` and ``limit_error_worst_mm`` over both limits of the images where
        something was found, ``one_level_off``, the share of these whose middle is off by more than half a vertebra.
    """
    pairs = [(place, one.place) for place, one in zip(truth, found, strict=True) if place and one]
    overlaps = [overlap(place, one) for place, one in pairs]
    hits, objects = sum(value >= RECALL_OVERLAP for value in overlaps), sum(place is not None for place in truth)
    detections = sum(one is not None for one in found)
    errors = [abs(error) for place, one in pairs for error in (one.low_mm - place.low_mm, one.high_mm - place.high_mm)]
    off = [
        abs(one.low_mm + one.high_mm - place.low_mm - place.high_mm) > (place.high_mm - place.low_mm) / 3
        for place, one in pairs
    ]
    figures = {"overlap": sum(overlaps) / max(1, objects), "recall": hits / max(1, objects)}
    figures["precision"] = hits / detections if detections else 0.0
    if pairs:
        figures |= {"limit_error_mm": float(np.mean(errors)), "limit_error_worst_mm": max(errors)}
        figures["one_level_off"] = float(np.mean(off))
    return figures


def _sample(case: Case, settings: Localisation) -> _Sample:
    """Project a case; it has an object where all three vertebrae are labelled and none touches the scan's end."""
    volume, labels = case.volume, case.labels
    values = [BY_KEY[level].value for level in LEVELS]
    masks = [labels == value for value in values]
    cut = any(not mask.any() for mask in masks) or bool(np.isin(labels[[0, -1]], values).any())
    place = None if cut else place_of(np.logical_or.reduce(masks), volume.spacing_mm, settings.margin_mm)
    _check_order(case.name, masks)
    return _Sample(project(volume, settings.pixel_mm), place)


def _check_order(name: str, masks: Sequence[NDArray[np.bool_]]) -> None:
    """Refuse labels whose levels are not one above the other: names swapped, or a scan turned upside down."""
    heights = [float(np.argwhere(mask.any(axis=(1, 2))).mean()) for mask in masks if mask.any()]
    if heights != sorted(heights, reverse=True):
        raise ConfigurationError(f"The labels of {name} do not lie in the order T12, L1, L2 from the head down.")


def _window(
    sample: _Sample, settings: Localisation, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Show a random part of a projection, larger or smaller, perhaps mirrored, with other grey values."""
    size = round(settings.window_mm / settings.pixel_mm)
    image, box = _scaled(sample.image, _box(sample.place, settings.pixel_mm), random.uniform(*SCALES))
    if random.random() < 0.5:
        image = image[:, ::-1]
        box = np.array([box[0], image.shape[1] - box[3], box[2], image.shape[1] - box[1]], dtype=np.float32)
    top, bottom = _rows(box, image.shape[0], settings, random)
    image = image[bottom:top]
    shifts = [int(random.integers(min(0, size - length), max(0, size - length) + 1)) for length in image.shape]
    target = tuple(slice(max(0, s), min(size, s + n)) for s, n in zip(shifts, image.shape, strict=True))
    source = tuple(slice(max(0, -s), max(0, -s) + t.stop - t.start) for s, t in zip(shifts, target, strict=True))
    canvas = np.zeros((size, size), dtype=np.float32)
    canvas[target] = _other_grey(image[source], random)
    box = box + np.array([shifts[0] - bottom, shifts[1]] * 2, dtype=np.float32)
    return canvas, _seen(box, target)


def _seen(box: NDArray[np.float32], shown: tuple[slice, ...]) -> NDArray[np.float32]:
    """Cut a box to the part that is shown; not a number where too much of it is not."""
    first, last = [span.start for span in shown] * 2, [span.stop for span in shown] * 2
    seen = np.clip(box, first, last).astype(np.float32)
    sides, left = box[2:] - box[:2], seen[2:] - seen[:2]
    return seen if bool((left >= (1 - CUT_DEPTH) * sides).all()) else np.full(4, np.nan, dtype=np.float32)


def _scaled(
    image: NDArray[np.float32], box: NDArray[np.float32], scale: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Show a larger or smaller patient."""
    shape = tuple(max(1, round(length * scale)) for length in image.shape)
    larger = ndimage.affine_transform(image, (1 / scale, 1 / scale), 0.5 / scale - 0.5, shape, order=1, mode="nearest")
    return larger, box * np.float32(scale)


def _rows(box: NDArray[np.float32], rows: int, settings: Localisation, random: np.random.Generator) -> tuple[int, int]:
    """Choose where the scan seems to end: the upper row and the lower; sometimes through the object."""
    if not np.isfinite(box).all():
        return rows, 0
    low, high = int(np.clip(box[0], 0, rows)), int(np.clip(np.ceil(box[2]), 0, rows))
    if random.random() < CUT_SHARE:
        depth = random.uniform(CUT_DEPTH, 0.9) * (high - low)
        return (rows, low + round(depth)) if random.random() < 0.5 else (high - round(depth), 0)
    reach = round(settings.window_mm / settings.pixel_mm)
    bottom = (
        int(random.integers(min(low, max(0, high - reach)), low + 1)) if random.random() < 0.5 else max(0, high - reach)
    )
    return (int(random.integers(high, rows + 1)) if random.random() < 0.5 else rows), bottom


def _other_grey(image: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Change contrast, brightness and noise a little."""
    grey = np.clip(image, 0, 1) ** random.uniform(0.8, 1.25) * random.uniform(0.9, 1.1)
    noisy = grey + random.normal(0.0, random.uniform(0.0, 0.02), image.shape)
    return np.clip(noisy, 0, 1).astype(np.float32)


def _box(place: Place | None, pixel_mm: float) -> NDArray[np.float32]:
    """Return (first row, first column, last row, last column) in pixels; not a number where there is no object."""
    if place is None:
        return np.full(4, np.nan, dtype=np.float32)
    ends = [place.low_mm, place.first_mm, place.high_mm, place.last_mm]
    return np.array(ends, dtype=np.float32) / np.float32(pixel_mm)


def _place(box: NDArray[np.float64], pixel_mm: float) -> Place:
    low, first, high, last = (float(value) * pixel_mm for value in box)
    return Place(low, high, first, last)


def _learner(folder: Path | None, plan: Plan, device: torch.device, say: Say) -> LocalisationLearner:
    say("projecting the cases")
    site = read_site(folder, plan.seed, settings_of(Localisation, plan).fold)
    learner = LocalisationLearner(site.train, site.validation, plan, device)
    learner.data_sha256 = site.sha256
    return learner


CARD = """# vertebra-localisation

Upper and lower limit of T12 to L2 on the coronal maximum-intensity projection of a CT, after Niu et al., Quant Imaging
Med Surg 2023;13:5294: the first of three networks.

- **Network**: a one-stage detector without anchors on a residual U-Net (MONAI): every pixel says whether it lies in the
  object and how far its four sides are. Published: Faster R-CNN, whose second stage tells many classes apart; here is
  one.
- **Pixels** are square and of one size; published: the scanner's own.
- **Data**: the cases of `--data`; nobody else has seen them. No weights come with the program.
- **Not for** scans that do not show T12, L1 and L2 whole: it was shown cut spines as empty, but a transitional
  vertebra, a missing or a thirteenth rib shift all levels by one, on this picture as on any other.
- No diagnosis may be made from it; every result is to be looked at.

## Validation

{figures}

`overlap` along the body's axis, `limit_error_mm` of both limits, `one_level_off`: share found half a vertebra away or
more.

## Plan

{plan}
"""

TASK = Task(
    name="vertebra-localisation",
    text="T12 to L2 on a coronal projection [Niu2023]",
    source="Niu2023",
    layout=LABELS,
    plan=Plan(
        steps=2000,
        learning_rate=1e-4,
        weight_decay=0.0,
        optimizer="adam",
        decay="cosine",
        warm_up_steps=100,
        clip_norm=10.0,
        validate_every=200,
        settings=plain(Localisation()),
    ),
    learner=_learner,
    card=CARD,
)
