"""A digital phantom of known density: five vertebrae in a trunk over a calibration phantom, as a scanner would show it.

Within the slice everything is drawn at 0.25 mm and blurred by a kernel's modulation transfer function; along the
table it is averaged over the slice. Both are linear, so the few different cross-sections are blurred once and every
slice is a mixture of them: exact, and fast enough for a table over all kernels, noises and slice thicknesses.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from inference.labels import BY_KEY
from inference.phantom import Phantom
from inference.volume import Acquisition, Volume

FINE_MM = 0.25
PIXEL_MM = 0.75
FIELD_MM = (171.0, 216.0)
"""Rows and columns of the field of view, whole pixels."""

BODY_ROW_MM = 72.0
"""Where the bodies' centre lies."""

RODS = Phantom("Digital phantom", "HA", (0.0, 50.0, 100.0, 200.0, 400.0))
SENSITIVITY_HU, OFFSET_HU = 1.4, -6.0
"""HU of a density: the scanner that the phantom in the scan has to find out."""

LEVELS = ("L4", "L3", "L2", "L1", "T12")
"""From the feet up."""

DENSITIES_MG_PER_CM3 = (40.0, 80.0, 120.0, 160.0, 200.0)
"""Trabecular density of the levels."""

BODY_MM = (26.0, 34.0, 46.0)
"""Height, depth and width of a vertebral body."""

DISC_MM = 8.0
CORTEX_MM, CORTEX_MG_PER_CM3 = 1.5, 600.0
FAT_HU, MUSCLE_HU, DISC_HU, PAD_HU = -100.0, 50.0, 80.0, 20.0

KERNELS = {"soft": (3.9, 0.0), "standard": (4.6, 0.25), "sharp": (5.0, 1.6), "lung": (5.6, 3.0)}
"""Frequency, line pairs per cm, and enhancement of each kernel's MTF, ``(1 + a x) exp(-x)`` with x = (f / f0)**2.
MTF at 50 and 10 percent: 3.2 and 5.9, 4.4 and 7.8, 7.4 and 10.5 (peak 1.1), 9.7 and 12.6 (peak 1.5) lp/cm: a body,
a standard, a bone and a lung kernel [m] assumption."""

HEADER_KERNELS = {"soft": "B20f", "standard": "B40f", "sharp": "B60f", "lung": "B80f"}


@dataclass(frozen=True, slots=True)
class Scene:
    """What the scan is like.

    Attributes
    ----------
    kernel
        A key of ``KERNELS``.
    noise_hu
        Standard deviation; its spectrum is the ramp filter's under the kernel.
    slice_mm
        Thickness and distance of slices.
    texture_share
        Standard deviation of the trabecular texture in 1 mm along the table, as a part of the density, before blur.
    has_plexus
        Whether the basivertebral plexus enters every body from behind.
    cortex_mm
        Thickness of shell and endplates.
    """

    kernel: str = "standard"
    noise_hu: float = 20.0
    slice_mm: float = 2.0
    texture_share: float = 0.0
    has_plexus: bool = False
    cortex_mm: float = CORTEX_MM
    densities_mg_per_cm3: tuple[float, ...] = field(default=DENSITIES_MG_PER_CM3)


def hu_of(density_mg_per_cm3: float) -> float:
    """Return what the scanner reads for a density."""
    return OFFSET_HU + SENSITIVITY_HU * density_mg_per_cm3


def mtf(kernel: str, frequency_per_cm: NDArray[np.floating]) -> NDArray[np.float64]:
    """Modulation transfer function of a kernel."""
    corner, enhancement = KERNELS[kernel]
    x = (np.asarray(frequency_per_cm, dtype=np.float64) / corner) ** 2
    return np.asarray((1 + enhancement * x) * np.exp(-x))


def scan(scene: Scene, seed: int = 1) -> tuple[Volume, NDArray[np.uint8]]:
    """Render the scene; returns the volume in canonical order and the true masks of the bodies on its grid."""
    count = int(len(LEVELS) * (BODY_MM[0] + DISC_MM) / scene.slice_mm)
    shares = _shares(scene, count)
    densities_hu = np.array([hu_of(density) for density in scene.densities_mg_per_cm3])
    base, disc, plate, shell, core = _sections(scene.kernel, scene.cortex_mm)
    hu = np.empty((count, *base.shape), dtype=np.float32)
    for index in range(count):
        hu[index] = base + shares["disc"][index] * disc + shares["plate"][index] * plate
        hu[index] += shares["middle"][index].sum() * shell
        hu[index] += float(shares["middle"][index] @ densities_hu) * core
    if scene.texture_share or scene.has_plexus:
        hu += _inner(scene, count, seed)
    if scene.noise_hu:
        hu += _noise(scene, hu.shape, seed)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = scene.slice_mm, PIXEL_MM, PIXEL_MM, 1.0
    technique = Acquisition(
        "SIEMENS", "Digital phantom", 120.0, HEADER_KERNELS[scene.kernel], scene.slice_mm, patient_position="HFS"
    )
    return Volume(hu, affine, acquisition=technique), _masks(scene, count, base.shape)


def _masks(scene: Scene, count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Label the voxels whose centre lies in a body."""
    rows, columns = _axes(PIXEL_MM)
    ellipse = np.hypot(rows / (BODY_MM[1] / 2), columns / (BODY_MM[2] / 2)) <= 1
    labels = np.zeros((count, *shape), dtype=np.uint8)
    for index in range(count):
        level, inside_mm = divmod((index + 0.5) * scene.slice_mm, BODY_MM[0] + DISC_MM)
        if inside_mm < BODY_MM[0]:
            labels[index][ellipse] = BY_KEY[LEVELS[int(level)]].value
    return labels


def _shares(scene: Scene, count: int) -> dict[str, NDArray[np.float64]]:
    """Part of every slice that lies in discs, in endplates, and between the endplates of each body."""
    pitch, height, thickness = BODY_MM[0] + DISC_MM, BODY_MM[0], scene.cortex_mm
    edges = np.arange(count + 1) * scene.slice_mm

    def part(start: float, stop: float) -> NDArray[np.float64]:
        below = np.clip(edges, start, stop)
        return np.asarray(np.diff(below) / scene.slice_mm)

    feet = [number * pitch for number in range(len(LEVELS))]
    return {
        "disc": np.sum([part(foot + height, foot + pitch) for foot in feet], axis=0),
        "plate": np.sum(
            [part(foot, foot + thickness) + part(foot + height - thickness, foot + height) for foot in feet], axis=0
        ),
        "middle": np.stack([part(foot + thickness, foot + height - thickness) for foot in feet], axis=1),
    }


@cache
def _sections(kernel: str, cortex_mm: float) -> tuple[NDArray[np.float32], ...]:
    """Blurred cross-sections on the scanner's pixels: surroundings, and what disc, plate, shell and core add to them.

    The surroundings hold no bone where the body is (0 HU), so that the others add up; the core is a unit one.
    """
    rows, columns = _axes(FINE_MM)
    ellipse = np.hypot(rows / (BODY_MM[1] / 2), columns / (BODY_MM[2] / 2)) <= 1
    inner = np.hypot(rows / (BODY_MM[1] / 2 - cortex_mm), columns / (BODY_MM[2] / 2 - cortex_mm)) <= 1
    base = np.full(ellipse.shape, -1000.0)
    base[np.hypot((rows + 5) / 62, columns / 98) <= 1] = FAT_HU
    base[np.hypot((rows + 5) / 52, columns / 88) <= 1] = MUSCLE_HU
    ring = np.hypot(rows - 28, columns)
    base[(ring > 8) & (ring < 11)] = hu_of(CORTEX_MG_PER_CM3)
    base[ring <= 8] = 20.0
    base[np.hypot(rows + 30, columns + 14) < 10] = 42.0
    base[(np.abs(rows - 72) < 11) & (np.abs(columns) < 100)] = PAD_HU
    for number, density in enumerate(RODS.density_mg_per_cm3):
        base[np.hypot(rows - 72, columns - 38 * (number - 2)) < 8] = hu_of(density)
    base[ellipse] = 0.0
    dense = hu_of(CORTEX_MG_PER_CM3)
    drawn = (base, DISC_HU * ellipse, dense * ellipse, dense * (ellipse & ~inner), 1.0 * inner)
    return tuple(_blurred(image, kernel)[_middles()] for image in drawn)


def _blurred(image: NDArray[np.floating], kernel: str) -> NDArray[np.float32]:
    """Apply a kernel's MTF; air is carried on at the edges."""
    margin = round(20 / FINE_MM)
    padded = np.pad(image, margin, mode="edge")
    across, along = fft.fftfreq(padded.shape[0], FINE_MM / 10), fft.rfftfreq(padded.shape[1], FINE_MM / 10)
    transfer = mtf(kernel, np.hypot(across[:, None], along[None]))
    made = fft.irfft2(fft.rfft2(padded) * transfer, padded.shape)
    return np.asarray(made[margin:-margin, margin:-margin], dtype=np.float32)


def _noise(scene: Scene, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Noise with the spectrum of filtered back-projection, independent between slices."""
    random = np.random.default_rng(seed)
    across, along = fft.fftfreq(shape[1], PIXEL_MM / 10), fft.rfftfreq(shape[2], PIXEL_MM / 10)
    frequency = np.hypot(across[:, None], along[None])
    filtering = (np.sqrt(frequency) * mtf(scene.kernel, frequency)).astype(np.float32)
    noise = np.empty(shape, dtype=np.float32)
    for image in noise:
        image[:] = fft.irfft2(fft.rfft2(random.standard_normal(shape[1:], dtype=np.float32)) * filtering, shape[1:])
    noise *= np.float32(scene.noise_hu / noise.std())
    return noise


def _inner(scene: Scene, count: int, seed: int) -> NDArray[np.float32]:
    """Return what texture and vein change inside the shells, HU."""
    rows, columns = _axes(PIXEL_MM)
    inside = np.hypot(rows / (BODY_MM[1] / 2 - scene.cortex_mm), columns / (BODY_MM[2] / 2 - scene.cortex_mm)) <= 1
    across, along = fft.fftfreq(inside.shape[0], PIXEL_MM / 10), fft.rfftfreq(inside.shape[1], PIXEL_MM / 10)
    transfer = mtf(scene.kernel, np.hypot(across[:, None], along[None]))
    random, pitch = np.random.default_rng(seed + 1000), BODY_MM[0] + DISC_MM
    shares = _shares(scene, count)["middle"]
    made = np.zeros((count, *inside.shape), dtype=np.float32)
    for index in range(count):
        for level, share in enumerate(shares[index]):
            if share == 0:
                continue
            hu = hu_of(scene.densities_mg_per_cm3[level])
            grain = ndimage.gaussian_filter(random.standard_normal(inside.shape), 0.6 / PIXEL_MM, mode="wrap")
            change = scene.texture_share * hu * grain / grain.std() / np.sqrt(max(1.0, scene.slice_mm))
            up = (index + 0.5) * scene.slice_mm - level * pitch - BODY_MM[0] / 2
            if scene.has_plexus:
                vein = np.hypot(np.hypot((rows - BODY_MM[1] / 2) / 10, columns / 8), up / 4) <= 1
                change[vein] = 30.0 - hu
            made[index] += np.float32(share) * fft.irfft2(fft.rfft2(change * inside) * transfer, inside.shape)
    return made


def _axes(step_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of the field of view, mm from the body's centre."""
    rows, columns = (np.arange(round(length / step_mm)) * step_mm + step_mm / 2 for length in FIELD_MM)
    return (rows - BODY_ROW_MM)[:, None], (columns - FIELD_MM[1] / 2)[None]


def _middles() -> tuple[slice, slice]:
    """Fine samples in the middle of the scanner's pixels."""
    step = round(PIXEL_MM / FINE_MM)
    return slice(step // 2, None, step), slice(step // 2, None, step)
