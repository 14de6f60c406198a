"""Digital phantoms of a trunk with a spine of known density, for tests and for the documented runs of training.

Vertebrae with cortex, cancellous core, arch and processes, discs, canal, ribs down to T12, lungs, a calcified aorta,
noise and texture. Not anatomy: just enough that T12 is told from L1 by its ribs, and a core from its shell.

``python -m tests.spine_phantoms DIR --cases 60 --seed 1`` writes a folder for ``osteonode train``.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import BY_KEY
from inference.volume import Volume

LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4")
SLOPE_MG_PER_CM3_PER_HU, INTERCEPT_MG_PER_CM3 = 0.82, -3.0
"""The scanner of the phantoms: a K2HPO4 line of the usual size [m assumption]."""


@dataclass(frozen=True, slots=True)
class Phantom:
    """One trunk.

    ``labels`` are cancellous cores of T12, L1 and L2; ``bodies`` whole vertebral bodies of all levels in the table of
    structures; ``bmd_mg_per_cm3`` is the density that the cores were filled with.
    """

    volume: Volume
    labels: NDArray[np.uint8]
    bodies: NDArray[np.uint8]
    bmd_mg_per_cm3: float


def phantom(
    seed: int,
    spacing_mm: tuple[float, float, float] = (3.0, 2.5, 2.5),
    bmd_mg_per_cm3: float | None = None,
    lowest: str = "L4",
    noise_hu: float | None = None,
) -> Phantom:
    """Make a trunk of its own size, shape, position, density and noise.

    ``lowest`` is the last level in the scan; with T12 the field of view cuts the spine.
    """
    random = np.random.default_rng((seed, 77))
    size = random.uniform(0.88, 1.12)
    bmd = float(random.uniform(40.0, 190.0)) if bmd_mg_per_cm3 is None else bmd_mg_per_cm3
    levels = LEVELS[: LEVELS.index(lowest) + 1]
    heights = np.array([size * (21.5 + 1.2 * number) for number in range(len(levels))])
    discs = np.array([size * (4.5 + 0.7 * number) for number in range(len(levels))])
    above_mm, below_mm = random.uniform(5.0, 45.0), random.uniform(4.0, 30.0)
    length = float((heights + discs).sum()) + above_mm + below_mm
    shape = tuple(round(extent / step) for extent, step in zip((length, 250.0, 330.0), spacing_mm, strict=True))
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    z, y, x = (grid * step for grid, step in zip((z, y, x), spacing_mm, strict=True))
    z_end = shape[0] * spacing_mm[0]
    # the body, and the spine's line through it
    cx, cy = 165.0 + random.uniform(-12, 12), 120.0 + random.uniform(-8, 8)
    phase, sway = random.uniform(0, 6.28), random.uniform(0, 6.0)
    spine_x = cx + sway * np.sin(z / 70.0 + phase)
    spine_y = cy + 38.0 + random.uniform(-5, 5) + 8.0 * np.sin((z - z_end / 2) / 110.0)
    body = ((x - cx) / (140 * size)) ** 2 + ((y - cy) / (95 * size)) ** 2
    hu = np.full(shape, -1000.0, dtype=np.float32)
    hu[np.broadcast_to(body < 1, shape)] = -90.0
    hu[np.broadcast_to(body < 0.85, shape)] = 45.0
    tops = z_end - above_mm - np.concatenate([[0.0], np.cumsum(heights + discs)[:-1]])
    dome = tops[min(3, len(levels) - 1)] + random.uniform(-5, 25)
    lung = (z > dome - 0.004 * (x - cx) ** 2) & (body < 0.72) & (np.abs(x - cx) > 38) & (y < cy + 75)
    hu[np.broadcast_to(lung, shape)] = -830.0
    aorta = (x - spine_x - 14) ** 2 + (y - spine_y + 30) ** 2
    hu[np.broadcast_to(aorta < 11**2, shape)] = 50.0
    patch = np.sin(z / 9.0 + phase) > 0.9
    hu[np.broadcast_to((aorta < 11**2) & (aorta > 9**2) & patch, shape)] = random.uniform(200, 900)
    core_hu = (bmd - INTERCEPT_MG_PER_CM3) / SLOPE_MG_PER_CM3_PER_HU
    cortex_hu = 350.0 + 2.0 * core_hu
    texture = ndimage.gaussian_filter(random.normal(size=shape).astype(np.float32), [1.5 / step for step in spacing_mm])
    texture *= 25.0 / max(float(texture.std()), 1e-6)
    labels, bodies = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for number, level in enumerate(levels):
        middle = tops[number] - heights[number] / 2
        half = heights[number] / 2
        wide, deep = size * (15.5 + 1.1 * number), size * (12.5 + 0.7 * number)
        dz, dy, dx = z - middle, y - spine_y, x - spine_x
        waist = 1.0 - 0.10 * (1 - (dz / half) ** 2)
        round_ = (np.abs(dx) / (wide * waist)) ** 2.4 + (np.abs(dy) / (deep * waist)) ** 2.4
        solid = np.broadcast_to((np.abs(dz) < half) & (round_ < 1), shape)
        inner = np.broadcast_to(
            (np.abs(dz) < half - 1.8)
            & ((np.abs(dx) / (wide * waist - 1.8)) ** 2.4 + (np.abs(dy) / (deep * waist - 1.8)) ** 2.4 < 1),
            shape,
        )
        arch = _arch(dx, dy, dz, half, wide, deep, level)
        hu[np.broadcast_to(arch, shape)] = cortex_hu * 0.7
        hu[solid] = cortex_hu
        hu[inner] = core_hu
        hu[inner] += texture[inner]
        if level in ("T9", "T10", "T11", "T12"):
            reach = {"T12": random.uniform(45, 75)}.get(level, 112.0) * size
            _rib(hu, (x - spine_x, y - spine_y, dz), reach, cortex_hu * 0.75)
        if level in BY_KEY:
            bodies[solid] = BY_KEY[level].value
        core = np.broadcast_to(
            (np.abs(dz) < half - 4.0)
            & ((np.abs(dx) / (wide * waist - 4.0)) ** 2.4 + (np.abs(dy) / (deep * waist - 4.0)) ** 2.4 < 1),
            shape,
        )
        if level in ("T12", "L1", "L2"):
            labels[core] = BY_KEY[level].value
    blurred = ndimage.gaussian_filter(hu, [0.7 / step for step in spacing_mm])
    sd = float(random.uniform(8.0, 30.0)) if noise_hu is None else noise_hu
    noise = ndimage.gaussian_filter(random.normal(size=shape).astype(np.float32), (0.0, 0.6, 0.6))
    blurred += sd / max(float(noise.std()), 1e-6) * noise
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    affine[:3, 3] = random.uniform(-300, 300, 3)
    return Phantom(Volume(blurred.astype(np.float32), affine), labels, bodies, bmd)


def _arch(dx, dy, dz, half, wide, deep, level):  # type: ignore[no-untyped-def]  # arrays that broadcast
    """Pedicles, laminae around the canal, a spinous process, and from L1 on short transverse ones."""
    upper = (dz > -0.2 * half) & (dz < 0.8 * half)
    ring = (dx / 14.0) ** 2 + ((dy - deep - 8.0) / 13.0) ** 2
    arch = upper & (ring < 1.5) & (ring > 0.75) & (dy > deep - 2)
    spinous = (np.abs(dx) < 3.0) & (dy > deep + 18) & (dy < deep + 42) & (dz > -0.9 * half) & (dz < 0.4 * half)
    if level.startswith("L"):
        flat = (np.abs(dz - 0.3 * half) < 4.0) & (np.abs(dy - deep - 6) < 4.0)
        return arch | spinous | (flat & (np.abs(dx) < wide + 16) & (np.abs(dx) > 12))
    return arch | spinous


def _rib(hu, place, reach, bright):  # type: ignore[no-untyped-def]  # arrays that broadcast
    """A pair of ribs: arcs that fall away from the spine as they go out and forward."""
    dx, dy, dz = place
    out = np.abs(dx)
    path_y = 22.0 - 0.9 * (out / 20.0) ** 2
    path_z = 4.0 - 0.45 * np.maximum(out - 15.0, 0.0)
    near = (dy - path_y) ** 2 / 25.0 + (dz - path_z) ** 2 / 30.0
    hu[np.broadcast_to((near < 1) & (out > 14) & (out < reach), hu.shape)] = bright


def write(folder: Path, cases: int, seed: int, spacing_mm: tuple[float, float, float] = (3.0, 2.5, 2.5)) -> None:
    """Write cases as ``osteonode train`` reads them, with ``values.csv``."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "values.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case", "bmd_mg_per_cm3"])
        for number in range(cases):
            made = phantom(1000 * seed + number, spacing_mm)
            write_case(folder, f"case{number:03d}", made.volume, made.labels)
            table.writerow([f"case{number:03d}", f"{made.bmd_mg_per_cm3:.3f}"])


def write_case(folder: Path, name: str, volume: Volume, labels: NDArray[np.uint8]) -> None:
    """Write one scan with its labels as NIfTI."""
    step = volume.spacing_mm
    for kind, values in (("images", np.round(volume.hu).astype(np.int16)), ("labels", labels)):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((step[2], step[1], step[0]))
        image.SetOrigin([float(value) for value in volume.affine_lps[:3, 3]])
        (folder / kind).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(folder / kind / f"{name}.nii"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    write(chosen.folder, chosen.cases, chosen.seed)
