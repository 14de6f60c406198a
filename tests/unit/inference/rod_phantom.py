"""A digital patient with a calibration phantom under the back: known rods, noise, kernel, thickness."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.phantom import Phantom
from inference.volume import Acquisition, Volume

RODS = Phantom("Digital phantom", "HA", (0.0, 50.0, 100.0, 200.0, 400.0))


@dataclass(frozen=True, slots=True)
class Scene:
    """What the scan is like; densities become HU by ``offset_hu + sensitivity_hu density``."""

    slice_mm: float = 2.5
    pixel_mm: float = 1.0
    noise_hu: float = 20.0
    blur_mm: float = 0.8
    radius_mm: float = 8.0
    spacing_mm: float = 38.0
    tilt_deg: float = 2.0
    sensitivity_hu: float = 1.4
    offset_hu: float = -6.0
    is_reversed: bool = False
    has_phantom: bool = True


def scan(scene: Scene, phantom: Phantom = RODS, seed: int = 0) -> Volume:
    """Render the scene: an elliptic body with fat, muscle, vertebra and vessel on a table, the phantom below."""
    size = int(400 / scene.pixel_mm)
    y, x = np.mgrid[:size, :size] * scene.pixel_mm
    image = np.full((size, size), -1000.0, dtype=np.float32)
    body = ((x - 200) / 165) ** 2 + ((y - 170) / 115) ** 2 < 1
    image[body] = -100
    image[((x - 200) / 150) ** 2 + ((y - 170) / 100) ** 2 < 1] = 45
    image[((x - 200) / 22) ** 2 + ((y - 220) / 17) ** 2 < 1] = 180
    image[np.hypot(x - 185, y - 185) < 11] = 42
    image[(abs(x - 200) < 190) & (abs(y - 332) < 5)] = -700
    if scene.has_phantom:
        _draw_phantom(image, x, y, scene, phantom)
    image = ndimage.gaussian_filter(image, scene.blur_mm / scene.pixel_mm)
    depth = int(96 / scene.slice_mm)
    noise = np.random.default_rng(seed).normal(0, scene.noise_hu, (depth, size, size))
    affine = np.array(
        [[0, 0, scene.pixel_mm, -200], [0, scene.pixel_mm, 0, -170], [scene.slice_mm, 0, 0, 0], [0, 0, 0, 1.0]]
    )
    hu = (image[None] + noise).astype(np.float32)
    return Volume(hu, affine, acquisition=Acquisition(kvp=120.0, slice_thickness_mm=scene.slice_mm))


def _draw_phantom(image: np.ndarray, x: np.ndarray, y: np.ndarray, scene: Scene, phantom: Phantom) -> None:  # type: ignore[type-arg]
    image[(abs(x - 200) < 105) & (abs(y - 308) < 15)] = 20
    densities = phantom.density_mg_per_cm3[:: -1 if scene.is_reversed else 1]
    tilt = np.deg2rad(scene.tilt_deg)
    for number, density in enumerate(densities):
        away = (number - (len(densities) - 1) / 2) * scene.spacing_mm
        rod = np.hypot(x - 200 - away * np.cos(tilt), y - 308 - away * np.sin(tilt)) < scene.radius_mm
        image[rod] = scene.offset_hu + scene.sensitivity_hu * density
