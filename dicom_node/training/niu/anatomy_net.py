"""AnatomyNet [Zhu2019]: a U-Net of squeeze-and-excitation residual blocks whose only down-sampling is its first step.

Small structures survive, and memory is an eighth of a network's at full size. Channels and blocks are those of the
authors' published program, whose numbers were read; MONAI supplies the squeeze-and-excitation layer.
"""

import torch
from monai.networks.blocks.squeeze_and_excitation import ChannelSELayer
from torch import Tensor, nn

CHANNELS = (28, 30, 32, 34)
"""Of the four stages of the encoder, all at half size [Zhu2019]."""

SQUEEZE = 15
"""Channels a unit of the squeezed layer, in the authors' program."""


class SqueezedBlock(nn.Module):
    """Two convolutions, channels weighted by what the whole picture shows, and a shortcut."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv3d(channels_in, channels, 3, padding=1, bias=False),
            nn.BatchNorm3d(channels),
            nn.LeakyReLU(inplace=True),
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm3d(channels),
        )
        self.excite = ChannelSELayer(3, channels, r=min(SQUEEZE, channels), acti_type_1="leakyrelu")
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv3d(channels_in, channels, 1, bias=False), nn.BatchNorm3d(channels))
        self.act = nn.LeakyReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (image, channels_in, slice, row, column) to (image, channels, slice, row, column)."""
        new: Tensor = self.act(self.excite(self.convolutions(maps)) + self.shortcut(maps))
        return new


class AnatomyNet(nn.Module):
    """One logit a voxel for one structure.

    Parameters
    ----------
    channels
        Of the four stages, first to last.
    """

    def __init__(self, channels: tuple[int, int, int, int] = CHANNELS) -> None:
        super().__init__()
        one, two, three, four = channels
        self.down = nn.Sequential(
            nn.Conv3d(1, one, 3, stride=2, padding=1, bias=False), nn.BatchNorm3d(one), nn.LeakyReLU(inplace=True)
        )
        self.encoder = nn.ModuleList([_pair(one, two), _pair(two, three), _pair(three, four)])
        self.decoder = nn.ModuleList([_pair(four + three, three), _pair(three + two, two), _pair(two + one, one)])
        self.up = nn.ConvTranspose3d(one, one // 2, 2, stride=2)
        self.last = nn.Sequential(
            nn.Conv3d(one // 2 + 1, one // 2, 3, padding=1, bias=False),
            nn.BatchNorm3d(one // 2),
            nn.LeakyReLU(inplace=True),
            nn.Conv3d(one // 2, 1, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (image, 1, slice, row, column) for images of that shape with even lengths."""
        maps = self.down(image)
        passed = []
        for stage in self.encoder:
            passed.append(maps)
            maps = stage(maps)
        for stage in self.decoder:
            maps = stage(torch.cat([maps, passed.pop()], dim=1))
        logits: Tensor = self.last(torch.cat([self.up(maps), image], dim=1))
        return logits


def _pair(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(SqueezedBlock(channels_in, channels), SqueezedBlock(channels, channels))
