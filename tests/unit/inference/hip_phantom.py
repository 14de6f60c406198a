"""A pelvis of spheres, cylinders and plates with known bones, as a CT in canonical order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.labels import BY_KEY
from inference.volume import Volume

HEAD_RADIUS_MM = 24.0
HEAD_X_MM = 85.0
SOFT_HU, FAT_HU, AIR_HU = 50.0, -100.0, -1000.0
CANCELLOUS_HU, MARROW_HU, CORTEX_HU = 250.0, -40.0, 900.0
ORIGIN_MM = np.array([-200.0, -130.0, -120.0])
"""(x, y, z) of the first voxel: heads lie at (-85, 0, 0) and (85, 0, 0)."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Phantom:
    """A synthetic CT and the labels of its bones."""

    volume: Volume
    labels: NDArray[np.uint8]


def hip_phantom(
    step_mm: float = 2.5,
    sides: tuple[str, ...] = ("right", "left"),
    trochanter_of: tuple[str, ...] = ("right", "left"),
    bridge_radius_mm: float = 0.0,
) -> Phantom:
    """Build a pelvis in a body on a table.

    Parameters
    ----------
    step_mm
        Edge of the cubic voxels.
    sides
        Hips that exist.
    trochanter_of
        Femurs that go on beyond their head.
    bridge_radius_mm
        Radius of a rod of bone from trochanter to iliac blade; none if 0.
    """
    low, high = ORIGIN_MM, np.array([200.0, 135.0, 112.0])
    x, y, z = (np.arange(start, stop, step_mm, dtype=np.float32) for start, stop in zip(low, high, strict=True))
    z_all, y_all, x_all = np.meshgrid(z, y, x, indexing="ij")
    points = (x_all, y_all, z_all)
    hu = _body(points)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    _paint(hu, labels, _box(points, (0.0, 55.0, 70.0), (32.0, 15.0, 50.0)), 2.5, BY_KEY["sacrum"].value)
    for side in sides:
        sign = 1.0 if side == "left" else -1.0
        local = ((points[0] * sign - HEAD_X_MM), points[1], points[2])
        _paint(hu, labels, _hip_bone(local), 2.5, BY_KEY[f"hip_{side}"].value)
        femur = _femur(local) if side in trochanter_of else _ball(local, (0, 0, 0), HEAD_RADIUS_MM)
        _paint(hu, labels, femur, 2.5, BY_KEY[f"femur_{side}"].value)
        shaft = (labels == BY_KEY[f"femur_{side}"].value) & (femur < -5.0) & (local[2] < -45.0)
        hu[shaft] = MARROW_HU
        if bridge_radius_mm > 0:
            bridge = _rod(local, (48.0, 5.0, -15.0), (0.0, 5.0, 75.0), bridge_radius_mm) < 0
            hu[bridge & (labels == 0)] = CANCELLOUS_HU
    labels[labels == BY_KEY["sacrum"].value] = 0
    hu = ndimage.gaussian_filter(hu, 0.8 / step_mm)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, step_mm], [0, step_mm, 0], [step_mm, 0, 0]])
    affine[:3, 3] = low
    return Phantom(Volume(hu.astype(np.float32), affine), labels)


def _body(points: tuple[Array, Array, Array]) -> Array:
    """Fat around muscle around nothing, on a table that is denser than bone's threshold."""
    x, y, _ = points
    radius = np.sqrt((x / 170.0) ** 2 + (y / 110.0) ** 2)
    hu = np.where(radius < 1.0, FAT_HU, AIR_HU)
    hu = np.where(radius < 0.9, SOFT_HU, hu)
    return np.where((y > 120.0) & (y < 126.0) & (radius > 1.0), 300.0, hu).astype(np.float32)


def _paint(hu: Array, labels: NDArray[np.uint8], distance: Array, cortex_mm: float, value: int) -> None:
    """Paint a solid, given its signed distance, with a cortex around cancellous bone."""
    inside = (distance < 0) & (labels == 0)
    hu[inside] = CANCELLOUS_HU
    hu[inside & (distance > -cortex_mm)] = CORTEX_HU
    labels[inside] = value


def _femur(local: tuple[Array, Array, Array]) -> Array:
    """Head, neck, greater trochanter and shaft, lateral being +x."""
    trochanter = (52.0, 5.0, -28.0)
    return np.minimum.reduce(
        [
            _ball(local, (0.0, 0.0, 0.0), HEAD_RADIUS_MM),
            _rod(local, (0.0, 0.0, 0.0), trochanter, 15.0),
            _ball(local, trochanter, 20.0),
            _rod(local, trochanter, (42.0, 5.0, -400.0), 15.0),
        ]
    )


def _hip_bone(local: tuple[Array, Array, Array]) -> Array:
    """Cup with a joint space of 4 mm, iliac blade, ischium and pubis."""
    x, _, z = local
    ball = _ball(local, (0.0, 0.0, 0.0), 0.0)
    opening = (0.7 * x - 0.7 * z) - 4.0
    cup = np.maximum.reduce([28.0 - ball, ball - 40.0, opening])
    rest = np.minimum.reduce(
        [
            _box(local, (-10.0, 5.0, 80.0), (7.0, 45.0, 48.0)),
            _rod(local, (-32.0, 25.0, -5.0), (-30.0, 35.0, -75.0), 12.0),
            _rod(local, (-36.0, -15.0, -5.0), (4.0 - HEAD_X_MM + 10.0, -40.0, -25.0), 9.0),
        ]
    )
    return np.minimum(cup, np.maximum(rest, 28.0 - ball))


def _ball(points: tuple[Array, Array, Array], centre: tuple[float, ...], radius: float) -> Array:
    x, y, z = (axis - place for axis, place in zip(points, centre, strict=True))
    return np.sqrt(x * x + y * y + z * z) - radius


def _rod(points: tuple[Array, Array, Array], start: tuple[float, ...], end: tuple[float, ...], radius: float) -> Array:
    """Signed distance to a cylinder with round ends."""
    axis = np.subtract(end, start)
    x, y, z = (coordinate - place for coordinate, place in zip(points, start, strict=True))
    along = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) / (axis @ axis), 0.0, 1.0)
    return np.sqrt((x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (z - along * axis[2]) ** 2) - radius


def _box(points: tuple[Array, Array, Array], centre: tuple[float, ...], half: tuple[float, ...]) -> Array:
    """Signed distance (a bound outside) to a box."""
    x, y, z = (np.abs(axis - place) - size for axis, place, size in zip(points, centre, half, strict=True))
    return np.maximum(np.maximum(x, y), z)
