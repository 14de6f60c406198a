"""Between the native and the network's grid, and windows over a volume: places, sides, sums."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inference.networks.bone_classes import GRID_MM, MIRRORED, BoneClass
from inference.networks.bone_net import STRIDE, BoneNet, channels_of
from inference.networks.grid import grid_shape, native_box, on_native_grid, resampled, resampled_labels
from inference.networks.predict import probabilities
from inference.volume import Box, Volume

MOVED_MM = 0.06
"""Triangular weights on a grid of no whole ratio move a voxel's centre by so much at most."""

SPACINGS = ((1.0, 0.7, 0.7), (3.0, 3.0, 3.0), (5.0, 0.9, 0.9), (1.25, 1.4, 0.8))


def ramp(spacing_mm: tuple[float, float, float]) -> Volume:
    """CT numbers that grow by 1, 2 and -1 HU a mm along slice, row and column."""
    shape = [int(90 / step) for step in spacing_mm]
    z, y, x = (np.arange(n) * step for n, step in zip(shape, spacing_mm, strict=True))
    hu = z[:, None, None] + 2 * y[None, :, None] - x[None, None]
    return Volume(hu.astype(np.float32), np.diag([spacing_mm[2], spacing_mm[1], spacing_mm[0], 1.0])[:, [2, 1, 0, 3]])


def whole(volume: Volume) -> Box:
    a, b, c = (slice(0, count) for count in volume.hu.shape)
    return a, b, c


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_resampling_moves_nothing(spacing_mm: tuple[float, float, float]) -> None:
    coarse = resampled(ramp(spacing_mm))
    z, y, x = (np.arange(n) * GRID_MM for n in coarse.shape)
    truth = z[:, None, None] + 2 * y[None, :, None] - x[None, None]
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(coarse[inner], truth[inner], atol=4 * MOVED_MM)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_going_back_moves_nothing(spacing_mm: tuple[float, float, float]) -> None:
    volume = ramp(spacing_mm)
    back = on_native_grid(resampled(volume), whole(volume), volume.spacing_mm)
    inner = tuple(slice(int(9 / step), int(75 / step)) for step in spacing_mm)
    np.testing.assert_allclose(back[inner], volume.hu[inner], atol=4 * MOVED_MM)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_mask_is_nothing_outside_of_its_native_box(spacing_mm: tuple[float, float, float]) -> None:
    volume, random = ramp(spacing_mm), np.random.default_rng(1)
    cells = grid_shape(volume.hu.shape, spacing_mm)
    for _ in range(20):
        starts = [int(random.integers(0, count)) for count in cells]
        stops = [int(random.integers(start + 1, count + 1)) for start, count in zip(starts, cells, strict=True)]
        a, b, c = (slice(start, stop) for start, stop in zip(starts, stops, strict=True))
        mask = np.zeros(cells, np.float32)
        mask[a, b, c] = 1.0
        truth = on_native_grid(mask, whole(volume), spacing_mm)
        box = native_box((a, b, c), cells, volume)
        np.testing.assert_array_equal(on_native_grid(mask, box, spacing_mm), truth[box])
        truth[box] = 0.0
        assert not truth.any()


def test_a_label_keeps_its_place() -> None:
    labels = np.zeros((60, 80, 90), np.uint8)
    labels[30:36, 40:50, 10:20] = 7
    small = resampled_labels(labels, (1.0, 0.75, 0.75))
    assert small.shape == grid_shape(labels.shape, (1.0, 0.75, 0.75))
    middle = np.argwhere(small == 7).mean(axis=0) * GRID_MM
    np.testing.assert_allclose(middle, [32.5, 44.5 * 0.75, 14.5 * 0.75], atol=GRID_MM / 2)


def test_noise_falls_when_fine_voxels_are_averaged() -> None:
    hu = np.random.default_rng(0).normal(0, 30, (60, 120, 120)).astype(np.float32)
    assert resampled(Volume(hu, np.diag([0.75, 0.75, 1.0, 1.0])[:, [2, 1, 0, 3]])).std() < 10


class Threshold(nn.Module):
    """Says femur right below 0 HU in the first window's terms, femur left above: a network one can predict."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits."""
        logits = torch.zeros(features.shape[0], len(BoneClass), *features.shape[2:])
        logits[:, BoneClass.FEMUR_LEFT] = self.scale * features[:, 0]
        logits[:, BoneClass.FEMUR_RIGHT] = -self.scale * features[:, 0]
        return logits


@pytest.mark.parametrize("shape", [(20, 30, 25), (64, 40, 97), (130, 70, 50)])
def test_windows_cover_every_voxel_once_in_sum(shape: tuple[int, int, int]) -> None:
    hu = np.random.default_rng(1).choice([-100.0, 600.0], shape).astype(np.float32)
    chance = probabilities(Threshold().eval(), hu, window=(32, 32, 48))  # type: ignore[arg-type]
    assert chance.shape == (len(BoneClass), *shape)
    np.testing.assert_allclose(chance.astype(np.float32).sum(axis=0), 1.0, atol=0.01)
    np.testing.assert_array_equal(chance.argmax(axis=0) == BoneClass.FEMUR_LEFT, hu > 0)


def test_progress_ends_at_one() -> None:
    told: list[float] = []
    probabilities(Threshold().eval(), np.zeros((40, 40, 40), np.float32), window=(32, 32, 32), progress=told.append)  # type: ignore[arg-type]
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_network_gives_one_logit_a_class_and_voxel() -> None:
    network = BoneNet((2, 3, 4, 5, 6))
    hu = torch.zeros(1, 2 * STRIDE, STRIDE, 3 * STRIDE)
    assert network(channels_of(hu)).shape == (1, len(BoneClass), 2 * STRIDE, STRIDE, 3 * STRIDE)


def test_every_sided_class_has_its_mirror() -> None:
    sided = {bone for bone in BoneClass if bone.name.endswith(("_RIGHT", "_LEFT"))}
    assert set(MIRRORED) == sided
    assert all(MIRRORED[MIRRORED[bone]] == bone != MIRRORED[bone] for bone in sided)
    assert all(bone.name.split("_")[0] == MIRRORED[bone].name.split("_")[0] for bone in sided)
