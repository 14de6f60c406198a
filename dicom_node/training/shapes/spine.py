"""A spine of parametric vertebrae on the sacrum: a curve of frames, one form per level, discs between, ribs above.

Bodies and posterior elements have label values of their own. Where two bones would overlap the voxel goes to the
one it lies deeper in, and a thin gap is left between the facets.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dicom_node.training.shapes.fields import smooth_field
from dicom_node.training.shapes.model import Surface
from dicom_node.training.shapes.vertebra import SIZES, Form, arch_value, body_value
from dicom_node.training.shapes.voxels import Box, Grid, tube_value

LEAN_DEG, LEAN_SD_DEG = -12.0, 6.0
"""Direction of the first lumbar vertebra in the side view, to the front of the vertical, and its spread."""

SCOLIOSIS_SHARE, SCOLIOSIS_DEG = 0.25, (2.0, 7.0)
"""How many spines are bent sideways, and by how much from level to level at the bend."""

FRACTURE_SHARE = 0.08
"""Share of vertebrae that are fractured in a spine with fractures; a third of the spines has them."""

ROUGHNESS_MM = (0.3, 1.0)
"""Spread of the smooth displacement that makes every vertebra, and its two sides, different."""

EXTENT_MM = ((-54.0, 54.0), (-24.0, 86.0), (-58.0, 30.0))
"""The box, in a vertebra's frame, that holds all of it."""

RIB_REACH_DEG = {"T7": 150.0, "T8": 145.0, "T9": 135.0, "T10": 120.0, "T11": 85.0, "T12": 50.0}
"""How far around the chest each rib reaches, from the middle of the back."""

RIB_DROP_MM = 45.0
"""How much a rib descends in one radian."""


LUMBAR_DEG = [(size.wedge_deg, size.disc_deg) for level, size in SIZES.items() if level.startswith("L")]


@dataclass(frozen=True, slots=True)
class Vertebra:
    """One vertebra in its place.

    Attributes
    ----------
    level
        A key of ``SIZES``.
    centre_mm : (3,)
        Middle of its body, LPS.
    axes : (3, 3)
        Rows: its left, back and up.
    form
        Its form, its scale included.
    fracture
        ``""``, ``wedge``, ``biconcave`` or ``crush``.
    """

    level: str
    centre_mm: NDArray[np.float64]
    axes: NDArray[np.float64]
    form: Form
    fracture: str = ""

    def local(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points in the vertebra's frame."""
        return (points_mm - self.centre_mm) @ self.axes.T

    def at(self, x: float, y: float, z: float) -> NDArray[np.float64]:
        """Return where a place of the vertebra's frame is; the place is scaled with the vertebra."""
        return self.centre_mm + self.form.scale * (np.array([x, y, z]) @ self.axes)


@dataclass(frozen=True, slots=True)
class Solid:
    """A bone given by a field of depths.

    Attributes
    ----------
    key
        For example ``L1``, ``L1_posterior`` or ``rib``.
    box
        The part of the grid it lies in.
    value : box-shaped float32
        Negative inside, about the distance to the surface in mm.
    whole : box-shaped float32
        The same for the bone it is a part of: how deep a voxel lies below the bone's own surface.
    """

    key: str
    box: Box
    value: NDArray[np.float32]
    whole: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cage:
    """The ellipse that ribs lie on, seen from above: middle and half widths (x, y), mm."""

    centre_mm: tuple[float, float]
    half_mm: tuple[float, float]


def endplate(surface: Surface, points: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middle of the sacrum's endplate and its upward normal."""
    plate = surface.points_mm[points]
    centre = plate.mean(axis=0)
    normal = np.linalg.svd(plate - centre)[2][2]
    return centre, normal * np.sign(normal[2])


def stacked(
    sacrum: tuple[NDArray[np.float64], NDArray[np.float64]],
    left: NDArray[np.float64],
    scale: float,
    generator: np.random.Generator,
) -> list[Vertebra]:
    """Stack L5 to T7 on the sacrum.

    Parameters
    ----------
    sacrum
        Middle and upward normal of its endplate.
    left
        The pelvis's direction to the left.
    scale
        The person's size; the sizes are of scale 1.
    generator
        The source of all randomness.
    """
    levels = list(SIZES)[::-1]
    pitch = float(np.arctan2(-sacrum[1][1], sacrum[1][2]))
    roll = float(np.arctan2(left[2], left[0]))
    wanted = np.deg2rad(generator.normal(LEAN_DEG, LEAN_SD_DEG))
    wedges, discs = (sum(np.deg2rad(angle) for angle in column) for column in zip(*LUMBAR_DEG, strict=True))
    bend = float(np.clip((pitch - wanted - wedges) / discs, 0.1, 2.0))
    sideways = _sideways_rad(len(levels), roll, generator)
    twist = generator.normal(0, np.deg2rad(3))
    forms = _forms(levels, scale, generator)
    point, found = sacrum[0], []
    for level, (form, fracture), lateral in zip(levels, forms, sideways, strict=True):
        size = SIZES[level]
        gain = bend if level.startswith("L") else 1.0
        pitch -= np.deg2rad(size.disc_deg) * gain / 2
        disc_mm = size.disc_mm * form.scale * generator.uniform(0.6, 1.15)
        point = point + _axes(pitch, lateral, twist)[2] * disc_mm
        pitch -= np.deg2rad(size.disc_deg) * gain / 2 + np.deg2rad(size.wedge_deg) / 2
        axes = _axes(pitch, lateral, twist)
        half = size.height_mm * form.scale / 2
        found.append(Vertebra(level, point + axes[2] * half, axes, form, fracture))
        point = point + axes[2] * half * (form.front + form.back)
        pitch -= np.deg2rad(size.wedge_deg) / 2 - (form.back - form.front) * size.height_mm / size.depth_mm
        twist *= 0.85
    return found


def _sideways_rad(count: int, roll: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return each level's lateral lean: back to upright from the pelvis's, with a curve in some spines."""
    lean = roll * 0.6 ** np.arange(1, count + 1)
    if generator.random() < SCOLIOSIS_SHARE:
        step = np.deg2rad(generator.uniform(*SCOLIOSIS_DEG)) * generator.choice([-1, 1])
        lean = lean + 2 * step * np.sin(np.arange(count) * generator.uniform(0.5, 0.9))
    return lean + generator.normal(0, np.deg2rad(1.0), count)


def _axes(pitch: float, lateral: float, twist: float) -> NDArray[np.float64]:
    """Rows: left, back and up of a frame leaning forward by ``pitch`` and to the left by ``-lateral``."""
    return Rotation.from_euler("zyx", (twist, -lateral, pitch)).as_matrix().T


def _forms(levels: list[str], scale: float, generator: np.random.Generator) -> list[tuple[Form, str]]:
    """Draw every level's form; neighbours share the person's habits."""
    habit = Form(
        scale=scale * float(generator.uniform(0.94, 1.06)),
        waist=float(generator.uniform(0.04, 0.16)),
        exponent=float(generator.uniform(2.1, 2.8)),
        lip_mm=float(max(generator.normal(0.0, 2.0), 0.0)),
    )
    fractured = FRACTURE_SHARE if generator.random() < 1 / 3 else 0.0
    found = []
    for _ in levels:
        dish = generator.uniform((0.6, 0.8), (2.4, 2.8))
        form = replace(
            habit,
            scale=habit.scale * float(generator.normal(1, 0.015)),
            dish_mm=(float(dish[0]), float(dish[1])),
            lip_mm=habit.lip_mm * float(generator.uniform(0.3, 1.3)),
            tilt=float(generator.normal(0, 0.015)),
        )
        found.append(_fractured(form, generator) if generator.random() < fractured else (form, ""))
    return found


def _fractured(form: Form, generator: np.random.Generator) -> tuple[Form, str]:
    """Lower a vertebra: its front, its middle or all of it, by 20 to 55 per cent."""
    kind = str(generator.choice(["wedge", "biconcave", "crush"]))
    left = float(1 - generator.uniform(0.2, 0.55))
    partly = (1 + left) / 2
    heights = {"wedge": (left, partly, 1.0), "biconcave": (0.95, left, 1.0), "crush": (left, left, left + 0.1)}
    front, middle, back = heights[kind]
    return replace(form, front=front, middle=middle, back=min(back, 1.0)), kind


def solids(vertebra: Vertebra, grid: Grid, generator: np.random.Generator) -> list[Solid]:
    """Return body and posterior elements as fields over a box of the grid; none where it is out of the grid."""
    corners = np.array([vertebra.at(*corner) for corner in product(*EXTENT_MM)])
    box = grid.box_around(corners)
    shape = (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start)
    amount = float(generator.uniform(*ROUGHNESS_MM))
    if min(shape) == 0:
        return []
    z, y, x = np.broadcast_arrays(*grid.axes_mm(box))
    points = np.column_stack([x.ravel(), y.ravel(), z.ravel()]).astype(float)
    wobble = [smooth_field(generator, shape, grid.spacing_mm, 14.0).ravel() for _ in range(3)]
    local = vertebra.local(points) + amount * np.column_stack(wobble)
    body = body_value(local, SIZES[vertebra.level], vertebra.form)
    arch = arch_value(local, vertebra.level, vertebra.form)
    whole = np.minimum(body, arch).reshape(shape).astype(np.float32)
    parts = {vertebra.level: body, f"{vertebra.level}_posterior": np.maximum(arch, -body)}
    return [Solid(key, box, part.reshape(shape).astype(np.float32), whole) for key, part in parts.items()]


def rib(vertebra: Vertebra, side: float, cage: Cage, grid: Grid, generator: np.random.Generator) -> Solid | None:
    """Return one rib as a bent tube from its vertebra around the chest.

    Parameters
    ----------
    vertebra
        A thoracic vertebra.
    side
        1 for the left rib, -1 for the right.
    cage
        The ellipse the ribs lie on.
    grid
        The grid.
    generator
        The source of all randomness.
    """
    size = SIZES[vertebra.level]
    start = vertebra.at(side * (size.width_mm / 2 + 3), size.depth_mm / 2 - 4, 0.3 * size.height_mm)
    tip = vertebra.at(side * (size.transverse_mm + 6), size.depth_mm / 2 + 18, 0.25 * size.height_mm)
    reach = RIB_REACH_DEG[vertebra.level] * generator.uniform(0.8, 1.1)
    first = np.rad2deg(np.arcsin(np.clip(abs(tip[0] - cage.centre_mm[0] + side * 20) / cage.half_mm[0], 0, 1)))
    angles = np.deg2rad(np.linspace(first, max(reach, first + 10), 9))
    around = np.column_stack([
        cage.centre_mm[0] + side * cage.half_mm[0] * np.sin(angles),
        np.minimum(cage.centre_mm[1] + cage.half_mm[1] * np.cos(angles), tip[1] + 12),
        tip[2] - (angles - angles[0]) * RIB_DROP_MM * generator.uniform(0.7, 1.2),
    ])  # fmt: skip
    line = np.vstack([start, tip, around])
    box = grid.box_around(line, 8.0)
    if any(part.start >= part.stop for part in box):
        return None
    value = tube_value(line, float(generator.uniform(4.0, 5.5)), grid, box)
    return Solid("rib", box, value, value)
