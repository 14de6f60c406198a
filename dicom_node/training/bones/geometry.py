"""Where a patch lies in a subject: turned, scaled, bent and mirrored, from one random generator."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dicom_node.training.bones.subjects import IGNORED, Subject
from inference.networks.bone_classes import MIRRORED, BoneClass

PATCH = (64, 48, 80)
"""Voxels (slice, row, column): 19 x 14 x 24 cm holds three vertebrae with their ribs, or a pelvis's half and more."""

TURN_SD_DEG, BIG_TURN_SD_DEG, BIG_TURN_SHARE = 6.0, 20.0, 0.15
SCALE_RANGE, STRETCH_SD = (0.78, 1.28), 0.06
"""Patients against the two scans: children are not analysed [m] assumption."""

BEND_NODES, BEND_SD_VOXELS = (3, 8), (0.2, 1.6)
CENTRE_SPREAD = (20, 14, 22)
ANYWHERE_SHARE = 0.07
"""Share of patches that lie anywhere, bone or not."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A patch as cut from a subject; all (slice, row, column).

    Attributes
    ----------
    hu
        float32, the image there.
    tissue
        int64, rows of the subject's tables.
    target
        int64 ``BoneClass`` values or ``IGNORED``.
    outside
        bool, beyond the subject's grid.
    """

    hu: Tensor
    tissue: Tensor
    target: Tensor
    outside: Tensor


def cut(subject: Subject, generator: np.random.Generator, patch: tuple[int, int, int] = PATCH) -> Cut:
    """Cut a patch at random.

    Parameters
    ----------
    subject
        Where from.
    generator
        All chance.
    patch
        Voxels (slice, row, column).
    """
    points = _points(_centre(subject, generator), _matrix(generator), patch)
    points = points + _bend(generator, patch)
    size = torch.tensor(subject.target.shape, dtype=torch.float32)
    outside = ((points < -0.5) | (points > size - 0.5)).any(dim=-1)
    nearest = torch.minimum(points.round().clamp(min=0), size - 1).long()
    flat = (nearest[..., 0] * int(size[1]) + nearest[..., 1]) * int(size[2]) + nearest[..., 2]
    target, tissue = subject.target.reshape(-1)[flat].long(), subject.tissue.reshape(-1)[flat].long()
    target[outside] = BoneClass.BACKGROUND
    hu = _interpolated(subject.hu, points, size)
    if generator.random() < 0.5:
        hu, target, tissue, outside = hu.flip(2), mirrored(target), tissue.flip(2), outside.flip(2)
    return Cut(hu, tissue, target, outside)


def mirrored(target: Tensor) -> Tensor:
    """Mirror a target left to right: its columns are reversed, and right becomes left."""
    table = torch.arange(IGNORED + 1)
    for one, other in MIRRORED.items():
        table[one] = int(other)
    return table[target.flip(2)]


def _centre(subject: Subject, generator: np.random.Generator) -> NDArray[np.float64]:
    """Choose a voxel of a class chosen first, so that small bones are as frequent as large ones."""
    shape = np.array(subject.target.shape)
    if generator.random() < ANYWHERE_SHARE:
        return generator.uniform(0, shape - 1)
    classes = list(subject.places)
    where = subject.places[classes[generator.integers(len(classes))]]
    voxel = where[generator.integers(len(where))].numpy()
    spread = np.array(CENTRE_SPREAD)
    return np.asarray(voxel + generator.uniform(-spread, spread))


def _matrix(generator: np.random.Generator) -> NDArray[np.float64]:
    """Turn and scale: from the patch's offsets to the subject's voxels."""
    sd_deg = BIG_TURN_SD_DEG if generator.random() < BIG_TURN_SHARE else TURN_SD_DEG
    a, b, c = np.deg2rad(generator.normal(0.0, sd_deg, 3))
    about_slice = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_row = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_column = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    scale = generator.uniform(*SCALE_RANGE) * np.exp(generator.normal(0.0, STRETCH_SD, 3))
    return np.asarray(about_slice @ about_row @ about_column @ np.diag(1 / scale))


def _points(centre: NDArray[np.float64], matrix: NDArray[np.float64], patch: tuple[int, int, int]) -> Tensor:
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return offsets @ torch.from_numpy(matrix.T.astype(np.float32)) + torch.from_numpy(centre.astype(np.float32))


def _bend(generator: np.random.Generator, patch: tuple[int, int, int]) -> Tensor:
    """Smooth displacements, voxels."""
    nodes = int(generator.integers(*BEND_NODES))
    coarse = generator.normal(0.0, generator.uniform(*BEND_SD_VOXELS), (1, 3, nodes, nodes, nodes))
    fine = functional.interpolate(
        torch.from_numpy(coarse.astype(np.float32)), size=patch, mode="trilinear", align_corners=True
    )
    return fine[0].permute(1, 2, 3, 0)


def _interpolated(hu: Tensor, points: Tensor, size: Tensor) -> Tensor:
    relative = (2 * points / (size - 1) - 1).flip(-1)[None]
    found = functional.grid_sample(
        hu[None, None].float(), relative, mode="bilinear", padding_mode="border", align_corners=True
    )
    return found[0, 0]
