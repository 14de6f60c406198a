"""Subjects: what batches are cut from. Labelled public scans, brought to the network's grid.

A subject is an image, a target (``inference.networks.bone_classes``), and a tissue map with a range of CT numbers for
every tissue. The scans' labels are those of TotalSegmentator's task ``total``, version 2; what it
left unlabelled becomes a tissue by its CT number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from dicom_node.public_data import fetch
from dicom_node.segmenters.foreign_labels import VOCABULARIES
from dicom_node.strength.image_files import read_grid
from inference.networks.bone_classes import CLASS_OF, CORE_DEPTH_MM, GRID_MM, BoneClass
from inference.networks.grid import resampled, resampled_labels
from inference.vertebra_cut import cut_body, spinal_curve_of
from inference.volume import Volume, canonical

LIMIT_BYTES = 2**31
METAL_HU = 2000.0
"""Denser is metal, whose labels are not trusted: the loss leaves such voxels out."""

IGNORED = 255
"""Target of voxels the loss leaves out."""

PUBLIC_NAMES = ("patient", "chest")

VERTEBRA_RANGE, S1 = (27, 50), 26
CORD, RIBS = 79, range(92, 116)
CLASSES = {value: CLASS_OF[key] for value, key in VOCABULARIES["totalsegmentator"].items() if key in CLASS_OF}
"""Values of TotalSegmentator, task total, version 2."""

BONES = {*range(25, 51), *range(69, 79), 91, *RIBS, 116}
LUNGS = {10, 11, 12, 13, 14}
HOLLOW = {6, 15, 16, 18, 19, 20, 21}
VESSELS = {51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68}
OTHER_AIR, OTHER_FAT, OTHER_SOFT, OTHER_BONE, OTHER_DENSE = 200, 201, 202, 203, 204
"""Unlabelled voxels by CT number."""

RANGES_HU: tuple[tuple[set[int], tuple[float, float]], ...] = (
    (BONES, (60.0, 550.0)),
    (LUNGS, (-930.0, -650.0)),
    (HOLLOW, (-200.0, 250.0)),
    (VESSELS, (20.0, 400.0)),
    ({OTHER_AIR}, (-1010.0, -900.0)),
    ({OTHER_FAT}, (-125.0, -65.0)),
    ({OTHER_SOFT}, (10.0, 80.0)),
    ({OTHER_BONE}, (100.0, 500.0)),
    ({OTHER_DENSE}, (500.0, 1300.0)),
)
ORGAN_RANGE_HU = (10.0, 200.0)
"""Mean CT number a tissue is moved towards: marrow of the very old to dense bone, contrast in vessels and organs [m]
assumption; wider than life on purpose, so that the network learns shapes."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One labelled trunk on a canonical grid of ``GRID_MM``.

    Attributes
    ----------
    name
        For reports.
    hu : (slice, row, column) float16 tensor
        The scan, or the scene as rendered.
    target : (slice, row, column) uint8 tensor
        ``BoneClass`` values, or ``IGNORED``.
    tissue : (slice, row, column) uint8 tensor
        Row of the tables below.
    mean_hu : (tissue,) float tensor
        Of the image.
    low_hu, high_hu : (tissue,) float tensors
        Range of means.
    is_bone : (tissue,) bool tensor
    places
        Of every class but the background, the voxels that have it: (n, 3) int16.
    """

    name: str
    hu: Tensor
    target: Tensor
    tissue: Tensor
    mean_hu: Tensor
    low_hu: Tensor
    high_hu: Tensor
    is_bone: Tensor
    places: Mapping[int, Tensor]


def public_subjects() -> tuple[Subject, ...]:
    """Return the two labelled public trunks, downloading them on first use.

    Raises
    ------
    ConfigurationError
        When they cannot be downloaded.
    """
    patient, chest = (fetch(name) for name in PUBLIC_NAMES)
    return (
        scan_subject("patient", patient / "example_ct.nii.gz", patient / "example_seg_fast_force_split.nii.gz"),
        scan_subject("chest", chest / "cxr.nii.gz", chest / "mask.nii.gz"),
    )


def scan_subject(name: str, image: Path, labels: Path) -> Subject:
    """Make a subject of a scan with TotalSegmentator's labels."""
    scan, mapped = read_grid(image, LIMIT_BYTES), read_grid(labels, LIMIT_BYTES)
    volume, orientation = canonical(Volume(scan.values.astype(np.float32), scan.affine_lps))
    total = np.ascontiguousarray(orientation.apply(mapped.values.astype(np.uint8)))
    target = resampled_labels(target_of(volume, total), volume.spacing_mm)
    total, hu = resampled_labels(total, volume.spacing_mm), resampled(volume)
    target, tissue = with_cores(target, total), _tissues(total, hu)
    target[hu > METAL_HU] = IGNORED
    return _tabulated(name, hu, target, tissue)


def target_of(volume: Volume, total: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Translate TotalSegmentator's labels; bodies are all ``BODY_SHELL`` as yet.

    Parameters
    ----------
    volume
        Canonical.
    total : (slice, row, column) uint8 array
        Values of task ``total`` on its grid.
    """
    target = np.zeros_like(total)
    target[total == CORD] = BoneClass.CANAL
    target[np.isin(total, list(RIBS))] = BoneClass.RIB
    target[total == S1] = BoneClass.SACRUM
    for value, bone in CLASSES.items():
        target[total == value] = bone
    curve = spinal_curve_of(volume)
    for value in range(VERTEBRA_RANGE[0], VERTEBRA_RANGE[1] + 1):
        vertebra = total == value
        if not vertebra.any():
            continue
        body = None if curve is None else cut_body(vertebra, curve, volume.spacing_mm)
        if body is None:
            target[vertebra] = IGNORED
        else:
            target[vertebra] = BoneClass.POSTERIOR_ELEMENTS
            target[body] = BoneClass.BODY_SHELL
    return target


def with_cores(target: NDArray[np.uint8], instance: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the inside of every body ``BODY_CORE``, body by body, so that cores of bodies that touch do not.

    Parameters
    ----------
    target : (slice, row, column) uint8 array
        ``BoneClass`` values on the network's grid.
    instance : (slice, row, column) uint8 array
        A value of its own for every vertebra.
    """
    target = target.copy()
    for value, box in enumerate(ndimage.find_objects(instance), start=1):
        if box is None:
            continue
        body = (target[box] == BoneClass.BODY_SHELL) & (instance[box] == value)
        if body.any():
            depth_mm = ndimage.distance_transform_edt(np.pad(body, 1), sampling=GRID_MM)[1:-1, 1:-1, 1:-1]
            target[box][depth_mm > CORE_DEPTH_MM] = BoneClass.BODY_CORE
    return target


def _tissues(total: NDArray[np.uint8], hu: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Give unlabelled voxels a tissue by CT number."""
    bins = np.digitize(hu, (-700.0, -20.0, 130.0, 700.0)) + OTHER_AIR
    return np.where(total == 0, bins, total).astype(np.uint8)


def _tabulated(name: str, hu: NDArray[np.float32], target: NDArray[np.uint8], tissue: NDArray[np.uint8]) -> Subject:
    """Make a subject: number the tissues that occur, and tabulate their CT numbers."""
    values, index = np.unique(tissue, return_inverse=True)
    counts = np.bincount(index.ravel())
    mean = np.bincount(index.ravel(), hu.ravel()) / counts
    ranges = [range_of(int(value)) for value in values]
    return Subject(
        name=name,
        hu=torch.from_numpy(hu.astype(np.float16)),
        target=torch.from_numpy(target),
        tissue=torch.from_numpy(index.reshape(tissue.shape).astype(np.uint8)),
        mean_hu=torch.from_numpy(mean.astype(np.float32)),
        low_hu=torch.tensor([low for low, _ in ranges]),
        high_hu=torch.tensor([high for _, high in ranges]),
        is_bone=torch.tensor([int(value) in BONES | {OTHER_BONE, OTHER_DENSE} for value in values]),
        places=places_of(target),
    )


def places_of(target: NDArray[np.uint8]) -> dict[int, Tensor]:
    """List the voxels of every class but the background."""
    present = [int(value) for value in np.unique(target) if 0 < value < IGNORED]
    return {value: torch.from_numpy(np.argwhere(target == value).astype(np.int16)) for value in present}


def range_of(value: int) -> tuple[float, float]:
    """Return the range of means of a tissue, HU."""
    return next((limits for values, limits in RANGES_HU if value in values), ORGAN_RANGE_HU)
