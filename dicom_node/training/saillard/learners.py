"""What the loop trains: batches of patches or slices, augmented, a Dice loss, and figures on the validation femurs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from monai.transforms.spatial.array import RandAffine
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_node.errors import ConfigurationError
from dicom_node.training.cases import data_checksum, read_cases
from dicom_node.training.saillard.answer import cleaned
from dicom_node.training.saillard.configuration import configuration_from
from dicom_node.training.saillard.femurs import Femur, prepared
from dicom_node.training.saillard.frame import AIR_HU, Mask, normalised
from dicom_node.training.saillard.halves import SIDES, VALUES
from dicom_node.training.saillard.networks import AXES, FemurNet2d, FemurNet3d
from dicom_node.training.task import Plan, Say
from inference.metrics import dice, hd95_mm

FEMURS = tuple(VALUES[side] for side in SIDES)
AUGMENTED = 0.9
"""Share of the patches and slices that are turned, moved, sheared and scaled [m] assumption."""


class FemurLearner:
    """What both tasks share.

    Attributes
    ----------
    data_sha256
        Checksum of the site's data.
    """

    net: FemurNet2d | FemurNet3d

    def __init__(self, folder: Path | None, plan: Plan, say: Say) -> None:
        if folder is None:
            raise ConfigurationError("Name the data with --data DIR.")
        self.configuration = configuration_from(plan.settings)
        cases = read_cases(folder, FEMURS, plan.seed)
        self.data_sha256 = data_checksum(cases)
        self.frame, femurs = prepared(cases, self.configuration.spacing_mm, say)
        self.femurs = tuple(femur for femur in femurs if femur.split == "train")
        self.judged = tuple(femur for femur in femurs if femur.split == "validation")
        self.judged = self.judged[: self.configuration.validation_femurs]
        self.seed = plan.seed
        # Over the whole batch: slices and patches without bone have no Dice of their own.
        self.dice_loss = DiceLoss(sigmoid=True, batch=True)

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        return self.net

    def validate(self) -> Mapping[str, float]:
        """Return Dice and surface distance over the validation femurs, on the frame's grid, cleaned as in use."""
        masks = [cleaned(self.net.share(femur.hu.astype(np.float32))) >= 0.5 for femur in self.judged]
        overlaps = [dice(mask, femur.mask) for mask, femur in zip(masks, self.judged, strict=True)]
        distances = [
            hd95_mm(mask, femur.mask, self.frame.spacing_mm) for mask, femur in zip(masks, self.judged, strict=True)
        ]
        return {
            "dice": float(np.mean(overlaps)),
            "least_dice": float(np.min(overlaps)),
            "hd95_mm": float(np.mean(distances)),
        }

    def _batch(self, step: int, axis: int | None) -> tuple[Tensor, Tensor]:
        """Draw, cut out and augment; depends on seed and step only."""
        rng = np.random.default_rng([self.seed, step])
        count = self.configuration.batch
        pairs = [self._drawn(rng, self.femurs[rng.integers(len(self.femurs))], axis) for _ in range(count)]
        images, masks = zip(*pairs, strict=True)
        return torch.stack(images), torch.stack(masks)

    def _drawn(self, rng: np.random.Generator, femur: Femur, axis: int | None) -> tuple[Tensor, Tensor]:
        """Cut a patch (``axis`` None) or a slice from a femur and augment it."""
        steps = np.array(self.frame.spacing_mm)
        if axis is None:
            size = [self.configuration.patch] * 3
            hu, mask = _patch(rng, femur, self.configuration.patch)
        else:
            at = int(rng.integers(femur.hu.shape[axis]))
            hu, mask = np.moveaxis(femur.hu, axis, 0)[at], np.moveaxis(femur.mask, axis, 0)[at]
            size, steps = list(hu.shape), np.delete(steps, axis)
        both = torch.from_numpy(np.stack([normalised(hu), mask.astype(np.float32)]))
        turned = torch.as_tensor(self._affine(rng, size, steps)(both, padding_mode="border"))
        return turned[:1], (turned[1:] >= 0.5).float()

    def _affine(self, rng: np.random.Generator, size: Sequence[int], steps: NDArray[np.float64]) -> RandAffine:
        """Return a rotation, shift, shear and scaling, drawn by ``rng``."""
        of = self.configuration
        dimensions = len(size)
        transform = RandAffine(
            prob=AUGMENTED,
            rotate_range=[np.deg2rad(of.rotation_deg)] * (3 if dimensions == 3 else 1),
            shear_range=[of.shear] * (6 if dimensions == 3 else 2),
            translate_range=(of.shift_mm / steps).tolist(),
            scale_range=[of.scale] * dimensions,
            spatial_size=list(size),
            mode="bilinear",
        )
        transform.set_random_state(seed=int(rng.integers(2**31)))
        return transform


class Learner3d(FemurLearner):
    """Random cubes and one 3D U-Net."""

    def __init__(self, folder: Path | None, plan: Plan, say: Say) -> None:
        super().__init__(folder, plan, say)
        torch.manual_seed(plan.seed)
        self.net: FemurNet3d = FemurNet3d(self.frame, self.configuration.width, self.configuration.patch)

    def batch(self, step: int) -> Sequence[Tensor]:
        """Return cubes and their masks."""
        return self._batch(step, None)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Return one minus the soft Dice of the batch."""
        images, masks = batch
        loss: Tensor = self.dice_loss(self.net(images), masks)
        return loss


class Learner2d(FemurLearner):
    """Random slices and three 2D U-Nets, one after the other: a step trains one of them."""

    def __init__(self, folder: Path | None, plan: Plan, say: Say) -> None:
        super().__init__(folder, plan, say)
        torch.manual_seed(plan.seed)
        self.net: FemurNet2d = FemurNet2d(self.frame, self.configuration.width)

    def batch(self, step: int) -> Sequence[Tensor]:
        """Return slices, their masks and the axis they are cut across."""
        axis = step % len(AXES)
        return (*self._batch(step, axis), torch.tensor(axis))

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Return one minus the soft Dice of the batch."""
        images, masks, axis = batch
        loss: Tensor = self.dice_loss(self.net(images, int(axis)), masks)
        return loss


def _patch(rng: np.random.Generator, femur: Femur, edge: int) -> tuple[NDArray[np.int16], Mask]:
    """Cut a random cube with room around it for the augmentation."""
    room = edge // 4
    shape = femur.hu.shape
    start = [int(rng.integers(max(1, length - edge + 1))) - room for length in shape]
    hu: NDArray[np.int16] = np.full([edge + 2 * room] * 3, AIR_HU, dtype=np.int16)
    mask: Mask = np.zeros(hu.shape, dtype=np.bool_)
    inside = tuple(slice(max(0, at), min(length, at + n)) for at, length, n in zip(start, shape, hu.shape, strict=True))
    there = tuple(slice(span.start - at, span.stop - at) for span, at in zip(inside, start, strict=True))
    hu[there], mask[there] = femur.hu[inside], femur.mask[inside]
    return hu, mask
