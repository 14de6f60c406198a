"""Run the bone network over a whole volume in overlapping windows."""

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.networks.bone_classes import BoneClass
from inference.networks.bone_net import STRIDE, BoneNet, channels_of

WINDOW = (80, 64, 96)
"""Voxels (slice, row, column) of one window, larger than a training patch: instance norms see as much and more."""

OVERLAP = 0.4
AIR_HU = -1000.0


def probabilities(
    network: BoneNet,
    hu: NDArray[np.float32],
    *,
    window: tuple[int, int, int] = WINDOW,
    progress: Callable[[float], object] = lambda _: None,
) -> NDArray[np.float32]:
    """Return the probability of every class.

    Parameters
    ----------
    network
        In eval mode, on any device.
    hu : (slice, row, column) float32 array
        On the network's grid, canonical.
    window
        Voxels; multiples of ``STRIDE``.
    progress
        Told the finished fraction.

    Returns
    -------
    (class, slice, row, column) float32 array
        Sums to 1 over the classes; windows overlap and are blended with weights that fall towards their edges.
    """
    device = next(network.parameters()).device
    size = [max(n, w) for n, w in zip(hu.shape, _fitting(hu.shape, window), strict=True)]
    padded = np.full(size, AIR_HU, np.float32)
    padded[tuple(slice(0, n) for n in hu.shape)] = hu
    steps = _fitting(hu.shape, window)
    weight = _falling(steps)
    total = np.zeros((len(BoneClass), *size), np.float32)
    seen = np.zeros(size, np.float32)
    corners = list(product(*(_starts(n, w) for n, w in zip(size, steps, strict=True))))
    with torch.inference_mode():
        for number, corner in enumerate(corners, start=1):
            box = tuple(slice(a, a + w) for a, w in zip(corner, steps, strict=True))
            total[(slice(None), *box)] += weight * _one(network, padded[box], device)
            seen[box] += weight
            progress(number / len(corners))
    total /= seen
    return np.asarray(total[(slice(None), *(slice(0, n) for n in hu.shape))])


def _one(network: BoneNet, hu: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """Probabilities of one window."""
    image = torch.from_numpy(hu)[None].to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        logits: Tensor = network(channels_of(image))
    return logits.float().softmax(dim=1)[0].cpu().numpy()


def _fitting(shape: tuple[int, ...], window: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the window, smaller along axes where the volume is."""
    a, b, c = (min(w, -(-n // STRIDE) * STRIDE) for n, w in zip(shape, window, strict=True))
    return max(a, 2 * STRIDE), max(b, 2 * STRIDE), max(c, 2 * STRIDE)


def _starts(length: int, window: int) -> list[int]:
    """Evenly spread windows that overlap by ``OVERLAP`` or more."""
    count = 1 + int(np.ceil((length - window) / (window * (1 - OVERLAP))))
    return [int(start) for start in np.rint(np.linspace(0, length - window, count))]


def _falling(window: tuple[int, int, int]) -> NDArray[np.float32]:
    """Weights that fall like a Gaussian from 1 in the middle to 0.04 at the corner's edges [Isensee2021]."""
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 5)) ** 2) for n in window]
    return np.asarray(np.einsum("i,j,k->ijk", *axes) + 1e-3, dtype=np.float32)
