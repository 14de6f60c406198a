"""How a patch looks to a scanner: CT numbers by tissue, kernel, slice thickness, noise, calibration, field of view.

Label-conditioned randomisation after [Billot2023], with CT priors: every tissue's mean is moved, on real scans and in
made-up scenes alike, so that the network cannot rely on the CT numbers of two patients.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dicom_node.training.bones.geometry import Cut
from dicom_node.training.bones.subjects import Subject
from inference.networks.bone_classes import BoneClass

AIR_HU = -1000.0
MOVED_SHARE = 0.55
"""Share of patches whose tissues are moved; the others keep the image's own CT numbers."""

DENSITY_FACTOR = (0.5, 1.6)
"""Of all bone of one patient: osteoporotic to dense [m] assumption."""

TEXTURE_FACTOR = (0.45, 1.5)
BLUR_SHARE, BLUR_SD_VOXELS = 0.6, (1.4, 0.7, 0.7)
"""Slices of 1 to 6 mm and soft kernels on the network's grid [m] assumption."""

SHARPEN_SHARE, SHARPEN = 0.2, (0.2, 1.2)
NOISE_SHARE, NOISE_HU = 0.8, 24.0
"""Mean noise on voxels of 3 mm; native voxels have several times more [m] assumption."""

SHIFT_SHARE, GAIN, OFFSET_HU = 0.3, (0.85, 1.2), 40.0
CROP_SHARE, CROP_VOXELS = 0.15, (6, 30)


def render(subject: Subject, cut: Cut, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Make the image of a patch.

    Parameters
    ----------
    subject
        Whose tissues they are.
    cut
        The patch.
    generator
        All chance.

    Returns
    -------
    hu : (slice, row, column) float32 tensor
    target : (slice, row, column) int64 tensor
        With what a cut field of view took away.
    """
    noise = torch.Generator().manual_seed(int(generator.integers(2**62)))
    hu = _tissues(subject, cut, generator) if generator.random() < MOVED_SHARE else cut.hu.clone()
    hu[cut.outside] = AIR_HU
    hu = _resolution(hu, generator)
    hu = _noisy(hu, generator, noise)
    if generator.random() < SHIFT_SHARE:
        hu = hu * generator.uniform(*GAIN) + generator.uniform(-OFFSET_HU, OFFSET_HU)
    return _cropped(hu, cut.target, generator)


def _tissues(subject: Subject, cut: Cut, generator: np.random.Generator) -> Tensor:
    """Move every tissue towards a random mean, and change the texture within it."""
    count = len(subject.mean_hu)
    weight, share = (torch.from_numpy(generator.uniform(low, 1.0, count).astype(np.float32)) for low in (0.3, 0.0))
    aim = subject.low_hu + share * (subject.high_hu - subject.low_hu)
    mean = (1 - weight) * subject.mean_hu + weight * aim
    mean = torch.where(subject.is_bone, mean * generator.uniform(*DENSITY_FACTOR), mean)
    factor = torch.from_numpy(generator.uniform(*TEXTURE_FACTOR, count).astype(np.float32))
    return mean[cut.tissue] + factor[cut.tissue] * (cut.hu - subject.mean_hu[cut.tissue])


def _resolution(hu: Tensor, generator: np.random.Generator) -> Tensor:
    """Blur every axis by its own amount, or sharpen."""
    if generator.random() < BLUR_SHARE:
        for axis, largest in enumerate(BLUR_SD_VOXELS):
            hu = _blurred(hu, axis, generator.uniform(0.0, largest))
    if generator.random() < SHARPEN_SHARE:
        soft = hu
        for axis in range(3):
            soft = _blurred(soft, axis, 0.8)
        hu = hu + generator.uniform(*SHARPEN) * (hu - soft)
    return hu


def _blurred(hu: Tensor, axis: int, sd: float) -> Tensor:
    if sd < 0.25:
        return hu
    at = torch.arange(-4, 5, dtype=torch.float32)
    weights = torch.exp(-(at**2) / (2 * sd**2))
    shape = [9 if a == axis else 1 for a in range(3)]
    padding = [4 if a == axis else 0 for a in (2, 2, 1, 1, 0, 0)]
    padded = functional.pad(hu[None, None], padding, mode="replicate")
    return functional.conv3d(padded, (weights / weights.sum()).view(1, 1, *shape))[0, 0]


def _noisy(hu: Tensor, generator: np.random.Generator, noise: torch.Generator) -> Tensor:
    if generator.random() >= NOISE_SHARE:
        return hu
    grain = torch.randn(hu.shape, generator=noise)
    if generator.random() < 0.5:
        grain = 2.2 * functional.avg_pool3d(grain[None, None], 3, 1, 1)[0, 0]
    return hu + grain * generator.gamma(2.0, NOISE_HU / 2)


def _cropped(hu: Tensor, target: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut the field of view on one side."""
    if generator.random() >= CROP_SHARE:
        return hu, target
    axis, width = int(generator.integers(3)), int(generator.integers(*CROP_VOXELS))
    span = slice(0, width) if generator.random() < 0.5 else slice(hu.shape[axis] - width, None)
    index = tuple(span if a == axis else slice(None) for a in range(3))
    hu, target = hu.clone(), target.clone()
    hu[index], target[index] = AIR_HU, BoneClass.BACKGROUND
    return hu, target
