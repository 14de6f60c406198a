"""What surgeons leave behind: hip replacements, nails, neck screws, pedicle screws with rods, cement.

Metal within a bone keeps the bone's label, for that is where the bone was; an artificial head, its neck and cup
are no bone, so the replaced part of the femur loses its label. Which voxels are metal is told by the tissue.
Sizes are those of common implants, as remembered [m].
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dicom_node.training.shapes.body import paint_ball, paint_tube
from dicom_node.training.shapes.canvas import Canvas
from dicom_node.training.shapes.labels import SCENE_LABELS
from dicom_node.training.shapes.model import Sphere, Surface
from dicom_node.training.shapes.spine import Vertebra
from dicom_node.training.shapes.tissues import TISSUE_VALUE
from dicom_node.training.shapes.vertebra import SIZES

HIP_SHARE, SPINE_SHARE = 0.15, 0.12
"""Share of scenes with hardware in a hip, and of spines with some [m assumption]."""

CEMENT_MM = (2.0, 4.0)
STEM_RADIUS_MM = (5.0, 8.0)
BALL_RADIUS_MM = (11.0, 18.0)
SHELL_MM = (3.0, 5.0)
CUT_MM = 32.0
"""Where the neck is cut: so far from the head's centre along the neck."""

Point = NDArray[np.float64]


class Femur:
    """Places of a posed femur by its neutral frame, outward and downward whatever the side."""

    def __init__(self, posed: Surface, neutral: Surface, is_left: bool) -> None:
        system = np.column_stack([neutral.points_mm, np.ones(len(neutral.points_mm))])
        self._affine, *_ = np.linalg.lstsq(system, posed.points_mm, rcond=None)
        self._neutral = neutral.points_mm
        self._outward = 1.0 if is_left else -1.0

    def at(self, outward_mm: float, back_mm: float, up_mm: float) -> Point:
        """Return a posed place from the neutral head centre."""
        place: Point = np.array([self._outward * outward_mm, back_mm, up_mm, 1.0]) @ self._affine
        return place

    def tip(self) -> Point:
        """Return a posed place a little inside of the greater trochanter's tip."""
        lateral = self._neutral[self._neutral[:, 0] * self._outward > 30.0]
        x, y, z = lateral[np.argsort(lateral[:, 2])[-20:]].mean(axis=0)
        return self.at(self._outward * x - 4.0, y, z + 6.0)

    def outer(self, level_mm: float) -> Point:
        """Return a posed place just outside of the outer cortex so far above the head's centre."""
        near = self._neutral[np.abs(self._neutral[:, 2] - level_mm) < 18.0]
        x, y, _ = near[np.argsort(near[:, 0] * self._outward)[-10:]].mean(axis=0)
        return self.at(self._outward * x + 5.0, y, level_mm)

    def shaft(self, level_mm: float, shift_mm: float = 0.0) -> Point:
        """Return the middle of the shaft so far above (negative: below) the head's centre."""
        near = np.abs(self._neutral[:, 2] - level_mm) < 18.0
        x, y, _ = self._neutral[near].mean(axis=0)
        return self.at(self._outward * x + shift_mm, y, level_mm)


def _put(
    canvas: Canvas, line_mm: Point, radius_mm: float, tissue: str, within: NDArray[np.bool_] | None = None
) -> None:
    """Paint a tube of an implant: no trabeculae, no cortex."""
    before = canvas.tissue.copy()
    paint_tube(canvas.tissue, line_mm, radius_mm, TISSUE_VALUE[tissue], canvas.grid, within)
    changed = canvas.tissue != before
    canvas.cortex[changed] = 0
    canvas.density[changed] = 0


def put_replacement(
    canvas: Canvas, femur: Femur, key: str, head: Sphere, socket_mm: float, generator: np.random.Generator
) -> None:
    """Replace a femur's head and neck by a ball on a stem, and line the socket with a cup.

    Parameters
    ----------
    canvas
        The scene, its bones painted.
    femur, key, head
        The femur, its key, and the ball of its head.
    socket_mm
        Radius of the acetabulum.
    generator
        The source of all randomness.
    """
    grid, code = canvas.grid, TISSUE_VALUE
    neck = femur.at(42.0, 4.0, -38.0) - head.centre_mm
    neck /= np.linalg.norm(neck)
    z, y, x = grid.axes_mm()
    along = (x - head.centre_mm[0]) * neck[0] + (y - head.centre_mm[1]) * neck[1] + (z - head.centre_mm[2]) * neck[2]
    distance = np.sqrt((x - head.centre_mm[0]) ** 2 + (y - head.centre_mm[1]) ** 2 + (z - head.centre_mm[2]) ** 2)
    gone = (canvas.labels == SCENE_LABELS[key]) & (along < CUT_MM) & (distance < 75)
    for array, value in ((canvas.labels, 0), (canvas.cortex, 0), (canvas.density, 0), (canvas.tissue, code["muscle"])):
        array[gone] = value
    ball_mm = min(float(generator.uniform(*BALL_RADIUS_MM)), socket_mm - 6.0)
    shell_mm = float(generator.uniform(*SHELL_MM))
    cup = (distance < socket_mm) & (along < 3) & (canvas.labels == 0)
    canvas.tissue[cup] = code["polyethylene"]
    canvas.tissue[cup & (distance > socket_mm - shell_mm)] = code["metal"]
    canvas.tissue[distance < ball_mm] = code["metal"]
    inner = canvas.labels == SCENE_LABELS[key]
    stem = np.array([head.centre_mm, femur.at(40, 3, -36), femur.shaft(-75), femur.shaft(-115), femur.shaft(-150)])
    radius = float(generator.uniform(*STEM_RADIUS_MM))
    if generator.random() < 0.5:
        _put(canvas, stem[1:], radius + float(generator.uniform(*CEMENT_MM)), "cement", inner)
    _put(canvas, stem[:2], 6.5, "metal")
    _put(canvas, stem[1:4], radius + 1.5, "metal", inner)
    _put(canvas, stem[3:], radius, "metal", inner)


def put_nail(canvas: Canvas, femur: Femur, generator: np.random.Generator) -> None:
    """Put a nail down the shaft and its screw up into the head."""
    length_mm = float(generator.uniform(160, 340))
    levels = np.arange(-75.0, -length_mm, -30.0)
    line = np.array([femur.tip(), *(femur.shaft(float(level)) for level in levels)])
    _put(canvas, line, float(generator.uniform(4.5, 6.5)), "metal")
    screw = np.array([femur.outer(-72.0), femur.at(4, 0, -4)])
    _put(canvas, screw, float(generator.uniform(4.0, 5.5)), "metal")
    lock = np.array([femur.shaft(-length_mm + 25, -22), femur.shaft(-length_mm + 25, 24)])
    _put(canvas, lock, 2.5, "metal")


def put_neck_screws(canvas: Canvas, femur: Femur, generator: np.random.Generator) -> None:
    """Put two or three parallel screws from the outer cortex through the neck into the head."""
    for back, up in ((-7.0, 5.0), (7.0, 5.0), (0.0, -9.0))[: int(generator.integers(2, 4))]:
        shift = femur.at(0, back, up) - femur.at(0, 0, 0)
        line = np.array([femur.outer(-58.0), femur.at(5, 0, -4)]) + shift
        _put(canvas, line, 3.3, "metal")


HIP_HARDWARE = ("replacement", "nail", "screws")


def put_hip_hardware(
    canvas: Canvas, femur: Femur, key: str, head: Sphere, socket_mm: float, generator: np.random.Generator
) -> str:
    """Put one kind of hardware, drawn, into a hip, and return its name."""
    kind = str(generator.choice(HIP_HARDWARE))
    table: dict[str, Callable[[], None]] = {
        "replacement": lambda: put_replacement(canvas, femur, key, head, socket_mm, generator),
        "nail": lambda: put_nail(canvas, femur, generator),
        "screws": lambda: put_neck_screws(canvas, femur, generator),
    }
    table[kind]()
    return kind


def put_spine_hardware(canvas: Canvas, spine: list[Vertebra], generator: np.random.Generator) -> str:
    """Put cement into one to three bodies, or screws and rods through neighbouring levels; return which."""
    first = int(generator.integers(0, len(spine) - 2))
    chosen = spine[first : first + int(generator.integers(2, 4))]
    if generator.random() < 0.5:
        for vertebra in chosen:
            body = canvas.labels == SCENE_LABELS[vertebra.level]
            for _ in range(3):
                at = vertebra.at(*(float(v) for v in generator.uniform((-10, -8, -5), (10, 8, 5))))
                half = generator.uniform(5, 10, 3)
                paint_ball(canvas.tissue, at, half, TISSUE_VALUE["cement"], canvas.grid, body)
        return "cement"
    for side in (-1.0, 1.0):
        heads = []
        for vertebra in chosen:
            size = SIZES[vertebra.level]
            out = side * (size.canal_mm[0] + size.pedicle_mm[0]) / 2
            outer = vertebra.at(out, size.depth_mm / 2 + 20, 0.2 * size.height_mm)
            inner = vertebra.at(0.55 * out, -0.25 * size.depth_mm, 0.15 * size.height_mm)
            _put(canvas, np.array([outer, inner]), float(generator.uniform(2.5, 3.5)), "metal")
            heads.append(vertebra.at(out, size.depth_mm / 2 + 26, 0.2 * size.height_mm))
        _put(canvas, np.array(heads), 3.0, "metal")
    return "screws"
