"""Digital pelves with two femurs, each scan another patient: heads, necks, trochanters, shafts, sockets, noise.

Shapes and poses are drawn from the seed; the label is the femur itself, so nothing about it is uncertain.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from inference.labels import BY_KEY
from inference.volume import Volume

AIR_HU, FAT_HU, MUSCLE_HU, MARROW_HU, CANCELLOUS_HU, CORTEX_HU = -1000.0, -100.0, 50.0, -40.0, 230.0, 900.0
HEAD_X_MM = 85.0
NOISE_HU = 30.0

Array = NDArray[np.float32]
Points = tuple[Array, Array, Array]


@dataclass(frozen=True, slots=True)
class Shape:
    """A femur, lateral being +x; lengths in mm, angles in radians."""

    head: float
    neck: float
    neck_radius: float
    angle: float
    shaft_radius: float
    trochanter: float


def scan_of(
    seed: int, step_mm: float = 4.0, sides: tuple[str, ...] = ("right", "left"), turn_rad: float = 0.12
) -> tuple[Volume, NDArray[np.uint8]]:
    """Draw a patient and scan them, in canonical order.

    Parameters
    ----------
    seed
        Of shape, pose and noise.
    step_mm
        Edge of the voxels.
    sides
        Femurs that exist.
    turn_rad
        Standard deviation of the femurs' rotation about each axis.
    """
    rng = np.random.default_rng(seed)
    low, high = np.array([-195.0, -115.0, -135.0]), np.array([195.0, 115.0, 75.0])
    low = low + rng.uniform(-1, 1, 3) * (step_mm, step_mm, 12.0)
    axes = [np.arange(a, b, step_mm, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    radius = np.sqrt((x / (170.0 + rng.uniform(-10, 10))) ** 2 + (y / 100.0) ** 2)
    hu = np.where(radius < 0.88, MUSCLE_HU, np.where(radius < 1.0, FAT_HU, AIR_HU)).astype(np.float32)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    shape = _shape(rng)
    for side, sign in (("right", -1.0), ("left", 1.0)):
        turn = Rotation.from_rotvec(rng.normal(0.0, turn_rad, 3)).as_matrix()
        shift = rng.uniform(-8, 8, 3)
        if side not in sides:
            continue
        place = np.stack([x * sign - HEAD_X_MM, y, z]).reshape(3, -1) - shift[:, None]
        local = (turn.T @ place).astype(np.float32).reshape(3, *hu.shape)
        points = (local[0], local[1], local[2])
        _paint(hu, _socket(points, shape.head), 3.0)
        femur = _femur(points, shape)
        _paint(hu, femur, 3.0)
        hu[(femur < -5.0) & (points[2] < -60.0)] = MARROW_HU
        labels[femur < 0] = BY_KEY[f"femur_{side}"].value
    hu = ndimage.gaussian_filter(hu, 0.8 / step_mm)
    hu += rng.normal(0.0, NOISE_HU, hu.shape).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([step_mm] * 3)[::-1]
    affine[:3, 3] = low
    return Volume(hu, affine), labels


def write_cases(folder: Path, seeds: range, step_mm: float = 4.0) -> None:
    """Write patients as ``osteonode train`` wants them; every fourth is for validation."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    with (folder / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "patient", "split"])
        for place, seed in enumerate(seeds):
            volume, labels = scan_of(seed, step_mm)
            write_case(folder, f"case{seed:03d}", volume, labels)
            rows.writerow([f"case{seed:03d}", f"p{seed}", "validation" if place % 4 == 3 else "train"])


def write_case(folder: Path, name: str, volume: Volume, labels: NDArray[np.uint8]) -> None:
    """Write one scan with its labels."""
    for kind, values in (("images", np.rint(volume.hu).astype(np.int16)), ("labels", labels)):
        sitk.WriteImage(image_of(values, volume), str(folder / kind / f"{name}.nii.gz"))


def image_of(values: NDArray[np.generic], like: Volume) -> sitk.Image:
    """Return an array of a canonical grid as an image."""
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(like.spacing_mm[::-1])
    image.SetOrigin(like.affine_lps[:3, 3].tolist())
    return image


def _shape(rng: np.random.Generator) -> Shape:
    size = rng.normal(1.0, 0.06)
    return Shape(
        head=23.0 * size,
        neck=48.0 * size * rng.uniform(0.92, 1.08),
        neck_radius=14.0 * size,
        angle=np.deg2rad(rng.uniform(118.0, 136.0)),
        shaft_radius=14.5 * size,
        trochanter=18.0 * size,
    )


def _femur(points: Points, shape: Shape) -> Array:
    """Signed distance to head, neck, trochanters and shaft."""
    end = np.array([np.sin(shape.angle), 0.0, np.cos(shape.angle)]) * shape.neck
    axis = end + np.array([4.0, 0.0, 0.0])
    return np.minimum.reduce(
        [
            _ball(points, np.zeros(3), shape.head),
            _rod(points, np.zeros(3), end, shape.neck_radius),
            _ball(points, end + np.array([8.0, 5.0, 6.0]), shape.trochanter),
            _ball(points, end + np.array([-14.0, 12.0, -38.0]), 0.6 * shape.trochanter),
            _rod(points, axis, axis + np.array([-25.0, 0.0, -400.0]), shape.shaft_radius),
        ]
    )


def _socket(points: Points, head: float) -> Array:
    """Cup around the head with a joint space of 4 mm, and a blade above it."""
    ball = _ball(points, np.zeros(3), 0.0)
    cup = np.maximum.reduce([head + 4.0 - ball, ball - head - 14.0, 0.7 * points[0] - 0.7 * points[2] - 4.0])
    blade = _rod(points, np.array([-12.0, 5.0, 45.0]), np.array([-5.0, 10.0, 140.0]), 11.0)
    return np.minimum(cup, np.maximum(blade, head + 4.0 - ball))


def _paint(hu: Array, distance: Array, cortex_mm: float) -> None:
    hu[distance < 0] = CANCELLOUS_HU
    hu[(distance < 0) & (distance > -cortex_mm)] = CORTEX_HU


def _ball(points: Points, centre: NDArray[np.float64], radius: float) -> Array:
    return np.sqrt(sum((axis - at) ** 2 for axis, at in zip(points, centre, strict=True))) - np.float32(radius)


def _rod(points: Points, start: NDArray[np.float64], end: NDArray[np.float64], radius: float) -> Array:
    """Signed distance to a cylinder with round ends."""
    axis = (end - start).astype(np.float32)
    local = [points[i] - np.float32(start[i]) for i in range(3)]
    along = np.clip(sum(local[i] * axis[i] for i in range(3)) / float(axis @ axis), 0.0, 1.0)
    return np.sqrt(sum((local[i] - along * axis[i]) ** 2 for i in range(3))) - np.float32(radius)
