"""Digital bones of known density, shape and place; every value that matters is an argument."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from volume_factories import make_volume

from inference.labels import BY_KEY
from inference.volume import Volume

MARROW_HU, CORTEX_HU, SOFT_HU = 120.0, 800.0, 40.0


def make_vertebra(
    core_hu: float = MARROW_HU,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    blur_mm: float = 0.8,
    noise_hu: float = 0.0,
    heights_mm: tuple[float, float] = (28.0, 28.0),
    tilt_deg: float = 0.0,
    seed: int = 1,
) -> tuple[Volume, NDArray[np.bool_]]:
    """Make an elliptic vertebral body of 46 x 34 mm with a cortex of 1.5 mm in a box of soft tissue.

    ``heights_mm`` are its front and back heights; the scanner blurs by a Gaussian of standard deviation
    ``blur_mm`` and averages over the slice. Returns the volume and the true mask on its grid.
    """
    clean, mask = _scanned_vertebra(core_hu, spacing_mm, blur_mm, heights_mm, tilt_deg)
    noise = np.random.default_rng(seed).normal(0, noise_hu, clean.shape) if noise_hu else 0.0
    return make_volume(clean + noise, spacing_mm), mask.copy()


@cache
def _scanned_vertebra(
    core_hu: float,
    spacing_mm: tuple[float, float, float],
    blur_mm: float,
    heights_mm: tuple[float, float],
    tilt_deg: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """HU without noise, and the mask, on the scanner's grid."""
    fine_mm = 0.5 if min(spacing_mm) < 2.0 else 1.0
    fine, body = _fine_vertebra(core_hu, blur_mm, heights_mm, tilt_deg, fine_mm)
    return _binned(fine, spacing_mm, fine_mm), _binned(body, spacing_mm, fine_mm) > 0.5


@cache
def _fine_vertebra(
    core_hu: float, blur_mm: float, heights_mm: tuple[float, float], tilt_deg: float, fine_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """HU and body of the vertebra on the fine grid."""
    z, y, x = np.mgrid[-25:25:fine_mm, -28:28:fine_mm, -32:32:fine_mm] + fine_mm / 2
    turn = np.radians(tilt_deg)
    z, y = z * np.cos(turn) - y * np.sin(turn), z * np.sin(turn) + y * np.cos(turn)
    half = (heights_mm[0] + (heights_mm[1] - heights_mm[0]) * (y + 17) / 34) / 2
    ellipse = np.sqrt((x / 23) ** 2 + (y / 17) ** 2)
    body = (ellipse < 1) & (np.abs(z) < half)
    core = (ellipse < 1 - 1.5 / 20) & (np.abs(z) < half - 1.5)
    fine = np.where(core, core_hu, np.where(body, CORTEX_HU, SOFT_HU)).astype(np.float32)
    return ndimage.gaussian_filter(fine, blur_mm / fine_mm), body.astype(np.float32)


def make_spine(core_hu: dict[str, float], **options: object) -> tuple[Volume, NDArray[np.uint8]]:
    """Stack vertebral bodies, the first key uppermost."""
    parts = [make_vertebra(hu, **options) for hu in reversed(core_hu.values())]  # type: ignore[arg-type]
    labels = [mask * np.uint8(BY_KEY[key].value) for key, (_, mask) in zip(reversed(core_hu), parts, strict=True)]
    volume = make_volume(np.concatenate([part.hu for part, _ in parts]), parts[0][0].spacing_mm)
    return volume, np.concatenate(labels)


def make_femur(
    spacing_mm: float = 1.5,
    below_head_mm: float = 90.0,
    side: int = 1,
    head_radius_mm: float = 24.0,
    neck_hu: float = 300.0,
) -> tuple[Volume, NDArray[np.bool_]]:
    """Make a femur of a ball, a neck, a trochanter and a shaft; the scan ends ``below_head_mm`` under its centre.

    ``side`` 1 points the neck to the patient's right (a right femur), -1 to the left.
    """
    z, y, x = np.mgrid[-below_head_mm:40:spacing_mm, -40:40:spacing_mm, -45:90:spacing_mm]
    outwards = x  # grows from the head towards the shaft
    head = z**2 + y**2 + x**2 < head_radius_mm**2
    axis = np.array([-0.64, 0.0, 0.768])  # (z, y, x): an inclination of 130 degrees
    along = z * axis[0] + outwards * axis[2]
    aside = np.sqrt(np.maximum(0.0, z**2 + y**2 + x**2 - along**2))
    neck = (along > 0) & (along < 60) & (aside < 16)
    trochanter = (z + 38) ** 2 + y**2 + (x - 55) ** 2 < 22**2
    shaft = (z < -38) & (y**2 + (x - 55) ** 2 < 15**2)
    mask = head | neck | trochanter | shaft
    hu = np.where(mask, 400.0, SOFT_HU)
    hu[mask & (along > head_radius_mm * 0.95) & (along < 45)] = neck_hu
    flip = slice(None, None, -1) if side == 1 else slice(None)
    return make_volume(hu[:, :, flip], (spacing_mm, spacing_mm, spacing_mm)), np.ascontiguousarray(mask[:, :, flip])


def _binned(fine: NDArray[np.float32], spacing_mm: tuple[float, float, float], fine_mm: float) -> NDArray[np.float32]:
    """Average a fine array over voxels."""
    steps = [round(spacing / fine_mm) for spacing in spacing_mm]
    shape = [length // step for length, step in zip(fine.shape, steps, strict=True)]
    cut = fine[tuple(slice(0, length * step) for length, step in zip(shape, steps, strict=True))]
    return cut.reshape(shape[0], steps[0], shape[1], steps[1], shape[2], steps[2]).mean(axis=(1, 3, 5))
