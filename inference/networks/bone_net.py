"""The layers of the bone network: a small 3D U-Net, the same on a CPU and on a GPU."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.networks.bone_classes import BoneClass

WIDTHS = (8, 32, 64, 96, 128)
"""Channels of the levels, each of half the resolution of the one before."""

WINDOWS_HU = ((250.0, 450.0), (60.0, 110.0))
"""Centre and scale of the two channels a CT number becomes: all bone, and soft tissue with marrow."""

WINDOW_LIMITS_HU = ((-300.0, 1500.0), (-150.0, 350.0))
"""What each channel clips to."""

STRIDE = 2 ** (len(WIDTHS) - 1)
"""Every axis of the input is a multiple of this."""


def channels_of(hu: Tensor) -> Tensor:
    """Turn CT numbers into the network's input.

    Parameters
    ----------
    hu : (batch, slice, row, column) tensor
        HU.

    Returns
    -------
    (batch, 2, slice, row, column) tensor
    """
    pairs = zip(WINDOWS_HU, WINDOW_LIMITS_HU, strict=True)
    return torch.stack([(hu.clamp(*limits) - centre) / scale for (centre, scale), limits in pairs], dim=1)


class _Block(nn.Module):
    """Two convolutions, each normalised per image and channel."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.InstanceNorm3d(outputs, affine=True)
        self.second = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.InstanceNorm3d(outputs, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the block."""
        features = functional.leaky_relu(self.first_norm(self.first(features)), 0.01)
        return functional.leaky_relu(self.second_norm(self.second(features)), 0.01)


class BoneNet(nn.Module):
    """3D U-Net after [Isensee2021], smaller: five levels, instance normalisation, strided convolutions.

    Input (batch, 2, slice, row, column) from ``channels_of`` on a canonical grid of ``GRID_MM``, every axis a multiple
    of ``STRIDE``; output (batch, class, slice, row, column) logits of ``BoneClass``.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList([_Block(len(WINDOWS_HU), widths[0]), *(_Block(a, b, 2) for a, b in pairwise(widths))])
        self.up = nn.ModuleList([nn.ConvTranspose3d(b, a, 2, 2) for a, b in pairwise(widths)])
        self.join = nn.ModuleList([_Block(2 * a, a) for a in widths[:-1]])
        self.head = nn.Conv3d(widths[0], len(BoneClass), 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        kept = []
        for block in self.down:
            features = block(features)
            kept.append(features)
        for level in reversed(range(len(self.join))):
            features = self.join[level](torch.cat([self.up[level](features), kept[level]], dim=1))
        logits: Tensor = self.head(features)
        return logits
