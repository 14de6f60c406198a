"""Task ``vertebra-core``: the cancellous bone of T12, L1 and L2 in the box around them, by AnatomyNet [Niu2023]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.losses.dice import DiceFocalLoss
from numpy.typing import NDArray
from torch import Tensor

from dicom_node.errors import ConfigurationError
from dicom_node.training.cases import Case
from dicom_node.training.niu.anatomy_net import CHANNELS, AnatomyNet
from dicom_node.training.niu.configuration import plain, settings_of
from dicom_node.training.niu.projection import place_of
from dicom_node.training.niu.split import LABELS, LEVELS, picks, read_site
from dicom_node.training.niu.window import PUBLISHED, Frame, Window, grey_in, lay, mask_in, widened
from dicom_node.training.task import Plan, Say, Task
from inference.labels import BY_KEY
from inference.metrics import dice
from inference.regions import trabecular_core
from inference.volume import Volume, boxes_of

FOCAL_SHARE = 0.5
"""Weight of the focal loss beside the Dice loss [Zhu2019]; [Niu2023] names none."""

BRIGHTNESS = 0.02
"""Standard deviation of a box's brightness in training: 8 HU, as scanners differ [m assumption]."""

GOOD_DICE = 0.9
"""[Niu2023] reports the share of cases above it."""


@dataclass(frozen=True, slots=True)
class Core:
    """How AnatomyNet is trained.

    Attributes
    ----------
    fold
        Part of the patients that validates, 0 to 3.
    slices, rows, columns, slice_mm, pixel_mm
        Of the box; even numbers of voxels.
    channels
        Of the first stage; every further one has two more.
    batch
        Boxes a step. [Niu2023] names none [m assumption].
    margin_mm
        Of the labelled limits, as the localisation learns them.
    shift_mm
        Largest error of the limits and the field's centre that training imitates.
    bodies
        Whether the labels are whole vertebral bodies; their trabecular core is learned. Otherwise they are the core, as
        published.
    """

    fold: int = 0
    slices: int = PUBLISHED.slices
    rows: int = PUBLISHED.rows
    columns: int = PUBLISHED.columns
    slice_mm: float = PUBLISHED.slice_mm
    pixel_mm: float = PUBLISHED.pixel_mm
    channels: int = CHANNELS[0]
    batch: int = 1
    margin_mm: float = 5.0
    shift_mm: float = 5.0
    bodies: bool = False

    @property
    def frame(self) -> Frame:
        """The box."""
        return Frame(self.slices, self.rows, self.columns, self.slice_mm, self.pixel_mm)


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A case as the network sees it.

    Attributes
    ----------
    grey : (slice, row, column) float16 array
        0 to 1, to 0.2 HU: a site's boxes stay in memory, 15 MB each at the published size.
    core : (slice, row, column) bool array
        Cancellous bone of the three vertebrae.
    shown : (slice,) bool array
        Slices of the network's box within the limits.
    mean_hu
        Of the core in the scan itself.
    """

    grey: NDArray[np.float16]
    core: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    mean_hu: float


class CoreLearner:
    """AnatomyNet with the boxes of a site's cases."""

    def __init__(self, train: Sequence[Case], validation: Sequence[Case], plan: Plan, device: torch.device) -> None:
        self.settings = settings_of(Core, plan)
        if any(length % 2 for length in self.settings.frame.shape):
            raise ConfigurationError(f"The box has {self.settings.frame.shape} voxels; expected even numbers.")
        self.seed, self.device = plan.seed, device
        self.data_sha256 = ""
        self.train = [box_of(case, self.settings, is_larger=True) for case in train]
        self.validation = [box_of(case, self.settings) for case in validation]
        self.criterion = DiceFocalLoss(sigmoid=True, lambda_dice=1.0, lambda_focal=FOCAL_SHARE)
        self.network: AnatomyNet = make_anatomy_net(self.settings, plan.seed)

    def batch(self, step: int) -> Sequence[Tensor]:
        """Return boxes and their cores (image, 1, slice, row, column), shifted and mirrored at random."""
        random = np.random.default_rng((self.seed, step))
        chosen = picks(self.seed, step, self.settings.batch, len(self.train))
        drawn = [moved(self.train[one], self.settings, random) for one in chosen]
        grey, core = np.stack([one for one, _ in drawn])[:, None], np.stack([one for _, one in drawn])[:, None]
        return torch.from_numpy(grey), torch.from_numpy(core.astype(np.float32))

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Return Dice loss and half the focal loss."""
        grey, core = batch
        total: Tensor = self.criterion(self.network(grey), core)
        return total

    def validate(self) -> Mapping[str, float]:
        """Return mean and least Dice over the cases, and the share of cases above 0.9, as [Niu2023] reports them."""
        scores = [
            dice(predict(self.network, box.grey.astype(np.float32), self.device) >= 0.5, box.core)
            for box in self.validation
        ]
        return {
            "dice": float(np.mean(scores)),
            "dice_least": min(scores),
            "dice_above_0.9": float(np.mean(np.array(scores) > GOOD_DICE)),
        }


def make_anatomy_net(settings: Core, seed: int) -> AnatomyNet:
    """Make the network with random weights."""
    one = settings.channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AnatomyNet((one, one + 2, one + 4, one + 6))


def predict(network: AnatomyNet, grey: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """Return the probability of cancellous bone in a box; the network is in eval mode.

    Parameters
    ----------
    network
        Trained.
    grey : (slice, row, column) float32 array
        From ``grey_in``.
    device
        Of the network.
    """
    with torch.no_grad():
        logits = network(torch.from_numpy(grey)[None, None].to(device))
    probability: NDArray[np.float32] = torch.sigmoid(logits)[0, 0].cpu().numpy()
    return probability


def box_of(case: Case, settings: Core, *, is_larger: bool = False) -> Box:
    """Cut the box of a case about its labels; larger than the network's where it is to be moved in training.

    Raises
    ------
    ConfigurationError
        When a level is missing, their order is not that of a spine, or the box does not hold them.
    """
    volume, labels = case.volume, case.labels
    cores = cores_of(case.name, volume, labels, settings.bodies)
    whole = np.isin(labels, [BY_KEY[level].value for level in LEVELS])
    place = place_of(whole, volume.spacing_mm, settings.margin_mm)
    assert place is not None
    window = lay(volume, place.low_mm, place.high_mm, settings.frame)
    _check_inside(case.name, cores, window)
    shown = window.shown
    if is_larger:
        window = widened(window, _extra(settings))
    return Box(
        grey_in(volume, window).astype(np.float16), mask_in(cores, window), shown, float(volume.hu[cores].mean())
    )


def cores_of(name: str, volume: Volume, labels: NDArray[np.uint8], bodies: bool) -> NDArray[np.bool_]:
    """Return the cancellous bone of T12, L1 and L2.

    Raises
    ------
    ConfigurationError
        When a level is missing or has no core, or the levels do not lie above one another.
    """
    masks = [labels == BY_KEY[level].value for level in LEVELS]
    for level, mask in zip(LEVELS, masks, strict=True):
        if not mask.any():
            raise ConfigurationError(f"The labels of {name} do not show {level}; T12, L1 and L2 are needed.")
    heights = [float(np.flatnonzero(mask.any(axis=(1, 2))).mean()) for mask in masks]
    if heights != sorted(heights, reverse=True):
        raise ConfigurationError(f"The labels of {name} do not lie in the order T12, L1, L2 from the head down.")
    if bodies:
        masks = [_core_of(mask, volume.spacing_mm) for mask in masks]
    if not all(mask.any() for mask in masks):
        raise ConfigurationError(f"A vertebral body of {name} is too small or too coarse to have a core.")
    return np.logical_or.reduce(masks)


def _core_of(body: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return the trabecular core of a body, computed in its own box."""
    box, core = boxes_of(body.astype(np.uint8))[1], np.zeros_like(body)
    core[box] = trabecular_core(body[box], spacing_mm)
    return core


def _check_inside(name: str, cores: NDArray[np.bool_], window: Window) -> None:
    """Refuse a case whose cores the box does not hold: a field of view that is not about the patient."""
    cells = np.argwhere(cores)
    first, last = cells.min(axis=0), cells.max(axis=0)
    end = window.start + window.step * (np.array(window.frame.shape) - 1)
    if (first < window.start - window.step).any() or (last > end + window.step).any():
        raise ConfigurationError(
            f"The box of {window.frame.shape} voxels about the middle of the field of view does not hold T12 to L2 of "
            f"{name}; expected a scan centred on the patient."
        )


def _extra(settings: Core) -> NDArray[np.int64]:
    """Return voxels of the box that make the largest shift."""
    return np.ceil(settings.shift_mm / np.array(settings.frame.spacing_mm)).astype(np.int64)


def moved(
    box: Box, settings: Core, random: np.random.Generator, brightness: float = BRIGHTNESS
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Cut a box of the network's size out of a larger one: at random within the shift, mirrored half of the time.

    The empty slices above and below move along, as they do when the localisation is wrong.
    """
    starts = [int(random.integers(0, 2 * one + 1)) for one in _extra(settings)]
    cut = tuple(slice(start, start + length) for start, length in zip(starts, settings.frame.shape, strict=True))
    grey = (
        np.clip(box.grey[cut].astype(np.float32) + random.normal(0.0, brightness), 0.0, 1.0) * box.shown[:, None, None]
    )
    core = box.core[cut] & box.shown[:, None, None]
    if random.random() < 0.5:
        grey, core = grey[:, :, ::-1], core[:, :, ::-1]
    return np.ascontiguousarray(grey, dtype=np.float32), np.ascontiguousarray(core)


def _learner(folder: Path | None, plan: Plan, device: torch.device, say: Say) -> CoreLearner:
    say("cutting the boxes")
    site = read_site(folder, plan.seed, settings_of(Core, plan).fold)
    learner = CoreLearner(site.train, site.validation, plan, device)
    learner.data_sha256 = site.sha256
    return learner


CARD = """# vertebra-core

Cancellous bone of T12, L1 and L2 in a box around them, after Niu et al., Quant Imaging Med Surg 2023;13:5294: the
second of three networks.

- **Network**: AnatomyNet, a U-Net of squeeze-and-excitation residual blocks with one down-sampling; channels and blocks
  as in the program of its authors, normalised over the batch as there.
- **Box**: 150 x 220 x 120 voxels, -200 to 200 HU as 0 to 1, 0 outside. Published: by indices of a 512 x 512 image; here
  in millimetres about the middle of the field of view.
- **Loss**: Dice and half the focal loss, AnatomyNet's own; Niu et al. name none. Boxes are shifted and mirrored at
  random.
- **Data**: the cases of `--data`; nobody else has seen them. No weights come with the program.
- **Not for** metal, cement, fractured or operated vertebrae, nor scans whose field of view is not about the patient.
- No diagnosis may be made from it; every result is to be looked at.

## Validation

{figures}

`dice` over the three vertebrae together, within the box.

## Plan

{plan}
"""

TASK = Task(
    name="vertebra-core",
    text="cancellous bone of T12 to L2 by AnatomyNet [Niu2023]",
    source="Niu2023",
    layout=LABELS,
    plan=Plan(
        steps=15000,
        learning_rate=5e-4,
        optimizer="adam",
        decay="cosine",
        warm_up_steps=100,
        clip_norm=10.0,
        validate_every=300,
        settings=plain(Core()),
    ),
    learner=_learner,
    card=CARD,
)
"""300 training cases, a box a step: 15000 steps are 50 epochs, the number that [Niu2023] names for its third network;
the learning rate is [Zhu2019]'s first."""
