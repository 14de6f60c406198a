"""A one-stage detector of one object on a projection, without anchors, on MONAI's residual U-Net.

[Niu2023] used Faster R-CNN [Ren2015], which proposes many boxes and tells many classes apart in a second stage. Here is
one object of one class: every pixel says whether it lies in the object and how far the object's four sides are
[Tian2019], and the pixels that say yes vote, weighted by how sure they are.
"""

import numpy as np
import torch
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

DEPTH = 5
"""Down-samplings: a pixel of the coarsest map has seen the whole trunk, and so the ribs that tell T12 from L1."""

DIVISOR = 2**DEPTH
"""Lengths of an image are multiples of it."""

REACH_MM = 50.0
"""Distances are learned in this unit."""

VOTING_SHARE = 0.5
"""Pixels vote whose score is at least this share of the best."""


class Detector(nn.Module):
    """Five numbers a pixel: a logit of being inside, and distances to the sides below, before, above and behind.

    "Before" and "behind" are along the columns.

    Parameters
    ----------
    width
        Channels of the first level; every level doubles them up to eight times.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width * min(2**level, 8) for level in range(DEPTH + 1)]
        self.net = UNet(2, 1, 5, channels, (2,) * DEPTH, num_res_units=1, norm="batch")

    def forward(self, images: Tensor) -> Tensor:
        """Map (image, 1, row, column) to (image, 5, row, column)."""
        maps: Tensor = self.net(images)
        return maps


def detection_loss(maps: Tensor, boxes: Tensor, has: Tensor, pixel_mm: float) -> Tensor:
    """Return the loss of a batch.

    Parameters
    ----------
    maps
        From the network.
    boxes : (image, 4)
        First row, first column, last row, last column, in pixels from the image's corner.
    has : (image,) bool
        Whether the image shows the object; its box is not looked at otherwise.
    pixel_mm
        Side of a pixel.

    Returns
    -------
    Tensor
        Cross-entropy and Dice loss of being inside, and smooth L1 of the distances inside.
    """
    boxes = torch.where(has[:, None], boxes, torch.zeros_like(boxes))
    distances = _distances(boxes, maps.shape[-2], maps.shape[-1])
    inside = ((distances > 0).all(dim=1) & has[:, None, None]).to(maps.dtype)
    probability = torch.sigmoid(maps[:, 0])
    entropy = functional.binary_cross_entropy_with_logits(maps[:, 0], inside)
    shared = 2 * (probability * inside).sum() + 1
    overlap = 1 - shared / (probability.sum() + inside.sum() + 1)
    error = functional.smooth_l1_loss(maps[:, 1:], distances * (pixel_mm / REACH_MM), reduction="none", beta=0.1)
    sides = (error.mean(dim=1) * inside).sum() / inside.sum().clamp(min=1)
    return entropy + overlap + sides


def candidates(
    maps: NDArray[np.float32], pixel_mm: float, least_score: float
) -> list[tuple[float, NDArray[np.float64]]]:
    """Return every object that the network sees, best first.

    Parameters
    ----------
    maps : (5, row, column) array
        From the network, of one image.
    pixel_mm
        Side of a pixel.
    least_score
        What scores less is none.

    Returns
    -------
    list
        Score, 0 to 1, and box (first row, first column, last row, last column) in pixels.
    """
    score = 1.0 / (1.0 + np.exp(-maps[0].astype(np.float64)))
    parts, count = ndimage.label(score >= least_score)
    rows, columns = np.meshgrid(*[np.arange(length) + 0.5 for length in score.shape], indexing="ij")
    sides = maps[1:].astype(np.float64) * (REACH_MM / pixel_mm)
    ends = np.stack([rows - sides[0], columns - sides[1], rows + sides[2], columns + sides[3]])
    found = []
    for part in range(1, count + 1):
        best = float(score[parts == part].max())
        voting = (parts == part) & (score >= VOTING_SHARE * best)
        weight = score[voting]
        found.append((best, np.asarray((ends[:, voting] * weight).sum(axis=1) / weight.sum())))
    return sorted(found, key=lambda one: -one[0])


def _distances(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """Return (image, 4, row, column) distances from every pixel's centre to the four sides, in pixels."""
    row = torch.arange(rows, device=boxes.device)[None, :, None] + 0.5
    column = torch.arange(columns, device=boxes.device)[None, None, :] + 0.5
    low, first, high, last = (boxes[:, side, None, None] for side in range(4))
    shape = (len(boxes), rows, columns)
    sides = (row - low, column - first, high - row, last - column)
    return torch.stack([side.expand(shape) for side in sides], dim=1)
