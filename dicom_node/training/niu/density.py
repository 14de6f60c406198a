"""Task ``vertebra-density``: the mean density of the cancellous bone of T12 to L2 by a 3D DenseNet-121 [Niu2023].

Beside it stands what needs no network: a straight line from the mean HU of the same bone, fitted on the training cases
[Pan2020]. A network that is not better than the line is not worth its weights.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dicom_node.errors import ConfigurationError
from dicom_node.training.cases import Case
from dicom_node.training.niu.configuration import plain, settings_of
from dicom_node.training.niu.core import Core, box_of, moved
from dicom_node.training.niu.soft_focal import share_of, soft_focal
from dicom_node.training.niu.split import LABELS, picks, read_site
from dicom_node.training.niu.values import LAYOUT, read_values
from dicom_node.training.niu.window import PUBLISHED
from dicom_node.training.task import Plan, Say, Task
from inference.agreement import LEAST_CASES, agree

LOSSES = ("focal", "smooth_l1")


@dataclass(frozen=True, slots=True)
class Density:
    """How the DenseNet is trained.

    Attributes
    ----------
    fold
        Part of the patients that validates, 0 to 3.
    slices, rows, columns, slice_mm, pixel_mm, shift_mm, margin_mm, bodies
        Of the box, as for ``vertebra-core``.
    batch
        Boxes a step. [Niu2023] names none [m assumption].
    loss
        ``focal`` as published, read as in ``soft_focal``; or ``smooth_l1`` of the share.
    full_scale_mg_per_cm3
        Density that is a share of 1; no case may have more.
    blocks
        Layers of the dense blocks.
    growth, first
        Growth rate, and channels of the first convolution.
    """

    fold: int = 0
    slices: int = PUBLISHED.slices
    rows: int = PUBLISHED.rows
    columns: int = PUBLISHED.columns
    slice_mm: float = PUBLISHED.slice_mm
    pixel_mm: float = PUBLISHED.pixel_mm
    shift_mm: float = 5.0
    margin_mm: float = 5.0
    bodies: bool = False
    batch: int = 2
    loss: str = "focal"
    full_scale_mg_per_cm3: float = 300.0
    blocks: str = "6,12,24,16"
    growth: int = 32
    first: int = 64

    @property
    def core(self) -> Core:
        """The same box, as ``vertebra-core`` cuts it."""
        return Core(
            slices=self.slices,
            rows=self.rows,
            columns=self.columns,
            slice_mm=self.slice_mm,
            pixel_mm=self.pixel_mm,
            shift_mm=self.shift_mm,
            margin_mm=self.margin_mm,
            bodies=self.bodies,
        )


class DensityLearner:
    """The DenseNet with the masked boxes and the densities of a site's cases."""

    def __init__(
        self,
        train: Sequence[Case],
        validation: Sequence[Case],
        values: Mapping[str, float],
        plan: Plan,
        device: torch.device,
    ) -> None:
        self.settings = settings_of(Density, plan)
        if self.settings.loss not in LOSSES:
            raise ConfigurationError(f"There is no loss {self.settings.loss}; known are {', '.join(LOSSES)}.")
        self.seed, self.device = plan.seed, device
        self.data_sha256 = ""
        self.values = [_value(case, values, self.settings) for case in train]
        self.truth = np.array([_value(case, values, self.settings) for case in validation])
        self.train = [box_of(case, self.settings.core, is_larger=True) for case in train]
        self.validation = [box_of(case, self.settings.core) for case in validation]
        self.line = line_through([box.mean_hu for box in self.train], self.values)
        self.network: DenseNet = make_dense_net(self.settings, plan.seed)

    def batch(self, step: int) -> Sequence[Tensor]:
        """Return masked boxes (image, 1, slice, row, column) and their shares of the full scale (image,)."""
        random = np.random.default_rng((self.seed, step))
        chosen = picks(self.seed, step, self.settings.batch, len(self.train))
        drawn = [moved(self.train[one], self.settings.core, random, brightness=0.0) for one in chosen]
        shares = np.array([self.values[one] for one in chosen]) / self.settings.full_scale_mg_per_cm3
        boxes = np.stack([masked(grey, core) for grey, core in drawn])[:, None]
        return torch.from_numpy(boxes), torch.from_numpy(shares.astype(np.float32))

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the loss that the settings name."""
        boxes, shares = batch
        logits = self.network(boxes)
        if self.settings.loss == "focal":
            return soft_focal(logits, shares)
        return functional.smooth_l1_loss(torch.softmax(logits, dim=1)[:, 1], shares, beta=0.05)

    def validate(self) -> Mapping[str, float]:
        """Return agreement with the reference, for the network and, from ``line_`` on, for the straight line."""
        found = [
            estimate(self.network, masked(box.grey, box.core), self.settings, self.device) for box in self.validation
        ]
        slope, intercept = self.line
        straight = [intercept + slope * box.mean_hu for box in self.validation]
        lined = {f"line_{name}": value for name, value in figures_of(straight, self.truth).items()}
        return {**figures_of(found, self.truth), **lined}


def make_dense_net(settings: Density, seed: int) -> DenseNet:
    """Make the network with random weights.

    Raises
    ------
    ConfigurationError
        When the blocks are no numbers.
    """
    try:
        blocks = tuple(int(part) for part in settings.blocks.split(","))
    except ValueError:
        raise ConfigurationError(f"The blocks are {settings.blocks!r}; expected numbers like 6,12,24,16.") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DenseNet(3, 1, 2, init_features=settings.first, growth_rate=settings.growth, block_config=blocks)


def estimate(network: DenseNet, box: NDArray[np.float32], settings: Density, device: torch.device) -> float:
    """Return the mean density of a masked box, mg/cm3; the network is in eval mode.

    Parameters
    ----------
    network
        Trained with the same settings.
    box : (slice, row, column) float32 array
        From ``masked``.
    settings, device
        Of the network.
    """
    with torch.no_grad():
        logits = network(torch.from_numpy(box)[None, None].to(device))
    share = share_of(logits) if settings.loss == "focal" else torch.softmax(logits, dim=1)[:, 1]
    return float(share[0]) * settings.full_scale_mg_per_cm3


def masked(grey: NDArray[np.floating], core: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the box with nothing but cancellous bone in it."""
    return np.where(core, grey, 0.0).astype(np.float32)


def line_through(mean_hu: Sequence[float], density_mg_per_cm3: Sequence[float]) -> tuple[float, float]:
    """Fit density = intercept + slope HU [Pan2020].

    Returns
    -------
    slope, intercept
        Slope 0 and the mean where all HU are the same.
    """
    x, y = np.asarray(mean_hu, dtype=np.float64), np.asarray(density_mg_per_cm3, dtype=np.float64)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
    return slope, float(y.mean()) - slope * float(x.mean())


def figures_of(found: Sequence[float], truth: NDArray[np.float64]) -> dict[str, float]:
    """Return the agreement of densities.

    Returns
    -------
    dict
        ``determination`` 1 - SS(error) / SS(reference), by which to judge: 0 for whoever always says the mean;
        ``error_mg_per_cm3``, mean of the absolute; and, where there are cases enough, r2 of the regression, bias and 95
        % limits of agreement as in [Niu2023].
    """
    error = np.asarray(found, dtype=np.float64) - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    figures = {"determination": 1.0 - float((error**2).sum()) / spread if spread > 0 else float("nan")}
    figures["error_mg_per_cm3"] = float(np.abs(error).mean())
    if len(truth) >= LEAST_CASES and spread > 0 and float(np.ptp(found)) > 0:
        found_out = agree(found, truth)
        figures["r2"] = found_out.r2
        figures["bias_mg_per_cm3"] = found_out.bias.value
        figures["low_limit_mg_per_cm3"], figures["high_limit_mg_per_cm3"] = found_out.limits
    return figures


def _value(case: Case, values: Mapping[str, float], settings: Density) -> float:
    value = values[case.name]
    if value > settings.full_scale_mg_per_cm3:
        raise ConfigurationError(
            f"The density of {case.name} is {value:g} mg/cm3; the network's scale ends at "
            f"{settings.full_scale_mg_per_cm3:g}."
        )
    return value


def _learner(folder: Path | None, plan: Plan, device: torch.device, say: Say) -> DensityLearner:
    say("reading the densities")
    site = read_site(folder, plan.seed, settings_of(Density, plan).fold)
    assert folder is not None
    values = read_values(folder, [case.name for case in (*site.train, *site.validation, *site.test)])
    say("cutting the boxes")
    learner = DensityLearner(site.train, site.validation, values, plan, device)
    known = "\n".join(f"{name} {value!r}" for name, value in sorted(values.items()))
    learner.data_sha256 = hashlib.sha256(f"{site.sha256}\n{known}".encode()).hexdigest()
    return learner


CARD = """# vertebra-density

Mean density of the cancellous bone of T12 to L2, mg/cm3, after Niu et al., Quant Imaging Med Surg 2023;13:5294: the
last of three networks.

- **Network**: 3D DenseNet-121 (MONAI), growth 32, two outputs. It sees the box of the segmentation with nothing but
  cancellous bone in it.
- **Loss**: the paper names a softmax of two outputs and a focal loss (alpha 0.6, gamma 2) and reports a continuous
  density. Read here: the density is a share of a full scale, and the share is where the loss has its minimum.
- **Scale**: -200 to 200 HU, as published. Bone above 200 HU, about 160 mg/cm3, looks alike: high densities are told
  apart badly, and noise makes them read lower.
- **Learning rate**: published 3e-5, a tenth after epochs 16 and 33 of 50; the last weights are kept, published the
  best.
- **Calibration** is learned with the densities: the network is right for scanners, voltages and kernels like those it
  was trained on, and for nothing else. No phantom corrects it.
- **Data**: the cases of `--data`; nobody else has seen them. No weights come with the program.
- No diagnosis may be made from it; every result is to be looked at.

## Validation

{figures}

`line_`: a straight line from the mean HU of the same bone, fitted on the training cases.

## Plan

{plan}
"""

TASK = Task(
    name="vertebra-density",
    text="density by a 3D DenseNet-121 [Niu2023]",
    source="Niu2023",
    layout=f"{LABELS} {LAYOUT}",
    plan=Plan(
        steps=7500,
        learning_rate=3e-5,
        optimizer="adam",
        decay="cosine",
        validate_every=150,
        settings=plain(Density()),
    ),
    learner=_learner,
    card=CARD,
)
"""50 epochs of 300 cases, two boxes a step [Niu2023]."""
