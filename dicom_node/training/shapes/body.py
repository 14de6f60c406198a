"""What lies around the bones: muscles, fat, pelvic organs, bowel, vessels, the skin's outline and the table.

The outline is a superellipse around the trunk and one around each thigh, a layer of subcutaneous fat outside.
Everything follows the posed bones, and all sizes are drawn; none of it carries a label, so it has to be varied
more than it has to be right. The numbers are assumptions [m].
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.training.shapes.fields import smooth_field
from dicom_node.training.shapes.model import Sphere, Surface
from dicom_node.training.shapes.tissues import TISSUE_VALUE
from dicom_node.training.shapes.voxels import Grid, tube_value

FAT_MM = (5.0, 60.0)
MUSCLE_SIDE_MM = (4.0, 18.0)
MUSCLE_FRONT_MM = (8.0, 45.0)
MUSCLE_BACK_MM = (12.0, 45.0)
THIGH_MM = (60.0, 95.0)
TAPER_MM = 75.0
"""Over this length the trunk rounds off between the thighs."""

EXPONENT = (2.0, 3.2)

Field = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outline:
    """Where muscle ends and where the body ends, as values that are below 1 inside.

    Attributes
    ----------
    muscle, skin : (s, r, c)
        Superellipse values.
    cavity : (s, r, c)
        The same for the space of the belly and pelvis.
    back_mm
        The body's rearmost y.
    centre_mm, half_mm
        Middle and half widths (x, y) of the trunk's muscles at the upper end of the field.
    """

    muscle: Field
    skin: Field
    cavity: Field
    back_mm: float
    centre_mm: tuple[float, float]
    half_mm: tuple[float, float]


def draw_outline(
    bones: dict[str, Surface],
    heads: dict[str, Sphere],
    spine_mm: NDArray[np.float64],
    grid: Grid,
    generator: np.random.Generator,
) -> Outline:
    """Draw the outline of muscles, skin and the belly's cavity around posed bones.

    ``spine_mm`` (n, 3) are points of the spine, none if there is no spine.
    """
    z, y, x = grid.axes_mm()
    pelvis = np.concatenate([bones[key].points_mm for key in ("hip_right", "hip_left", "sacrum")])
    hip_x = [heads[key].centre_mm[0] for key in ("femur_right", "femur_left")]
    middle_x, half_x = (hip_x[0] + hip_x[1]) / 2, (hip_x[1] - hip_x[0]) / 2
    low, high = pelvis.min(axis=0), pelvis.max(axis=0)
    side = max(half_x + 55.0, (high[0] - low[0]) / 2) + generator.uniform(*MUSCLE_SIDE_MM)
    front = float(min([low[1], *(spine_mm[:, 1] - 60)])) - generator.uniform(*MUSCLE_FRONT_MM)
    back = _back(pelvis, spine_mm, z) + generator.uniform(*MUSCLE_BACK_MM)
    fat_mm = float(np.exp(generator.uniform(*np.log(FAT_MM))))
    fat = fat_mm * generator.uniform((0.7, 0.7, 0.5), (1.3, 1.6, 1.1))
    exponent = generator.uniform(*EXPONENT)
    waist = 1 - generator.uniform(0.0, 0.15) * np.clip((z - high[2] + 30) / 80, 0, 1)
    taper = (np.maximum(low[2] + 60.0 - z, 0) / TAPER_MM) ** 2
    centre_y, half_y = (back + np.float32(front)) / 2, (back - np.float32(front)) / 2
    muscle = _ellipse((x - middle_x) / (side * waist), (y - centre_y) / half_y, exponent) + taper
    skin_y, skin_half_y = (front - fat[1] + back + fat[2]) / 2, (back - front + fat[1] + fat[2]) / 2
    skin = _ellipse((x - middle_x) / ((side + fat[0]) * waist), (y - skin_y) / skin_half_y, exponent) + taper
    for key in ("femur_right", "femur_left"):
        thigh_mm = generator.uniform(*THIGH_MM)
        own = _thigh(bones[key], heads[key], thigh_mm, (z, y, x))
        muscle = np.minimum(muscle, own)
        skin = np.minimum(skin, own * (thigh_mm / (thigh_mm + 0.8 * fat_mm)) ** 2)
    cavity = _cavity(bones, middle_x, front, grid, generator)
    middle = (float(middle_x), float(centre_y[-1, 0, 0]))
    return Outline(muscle, skin, cavity, float(back.max() + fat[2]), middle, (float(side), float(half_y[-1, 0, 0])))


def _back(pelvis_mm: NDArray[np.float64], spine_mm: NDArray[np.float64], z: Field) -> NDArray[np.float32]:
    """Return the rearmost bone at each height: the pelvis's, then that of the spine, from one to the other smoothly."""
    line = [(pelvis_mm[:, 2].max() - 60.0, pelvis_mm[:, 1].max())]
    for x_y_z in spine_mm[1::2]:
        if x_y_z[2] > line[-1][0] + 30.0:
            line.append((x_y_z[2], x_y_z[1]))
    heights, backs = np.array(line).T
    return np.interp(z.ravel(), heights, backs).astype(np.float32).reshape(z.shape)


def _ellipse(x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], exponent: float) -> Field:
    return (np.abs(x) ** exponent + np.abs(y) ** exponent).astype(np.float32)


def _thigh(bone: Surface, head: Sphere, radius_mm: float, axes: tuple[Field, ...]) -> Field:
    """Value of a round thigh whose middle lies behind and inside of the shaft; ends above the hip joint."""
    z, y, x = axes
    points = bone.points_mm
    order = np.argsort(points[:, 2])
    levels = np.linspace(points[:, 2].min(), head.centre_mm[2], 12)
    line = [points[order[np.abs(points[order, 2] - level) < 25]].mean(axis=0) for level in levels]
    inward = -np.sign(head.centre_mm[0]) * 0.2 * radius_mm
    centre_x = np.interp(z.ravel(), levels, [point[0] + inward for point in line]).astype(np.float32).reshape(z.shape)
    centre_y = np.interp(z.ravel(), levels, [point[1] + 0.1 * radius_mm for point in line]).astype(np.float32)
    above = np.maximum(z - head.centre_mm[2], 0) / 60.0
    shrink = 1 - 0.15 * np.clip((head.centre_mm[2] - z) / 300.0, 0, 1)
    radius = radius_mm * shrink
    return (((x - centre_x) ** 2 + (y - centre_y.reshape(z.shape)) ** 2) / radius**2 + above**2).astype(np.float32)


def _cavity(
    bones: dict[str, Surface], middle_x: float, front_mm: float, grid: Grid, generator: np.random.Generator
) -> Field:
    """Value of the space between the hip bones below and inside the belly's wall above."""
    z, y, x = grid.axes_mm()
    hips = [bones["hip_right"].points_mm, bones["hip_left"].points_mm]
    floor = min(points[:, 2].min() for points in hips) + 35.0
    brim = (hips[0][:, 2].max() + floor) / 2
    rise = np.clip((z - floor) / (brim + 60 - floor), 0, 1)
    inner = min(np.abs(points[:, 0] - middle_x)[points[:, 2] > floor + 20].min() for points in hips)
    width = max(inner + 25, 40) + rise * generator.uniform(30, 60)
    sacrum_front = np.percentile(bones["sacrum"].points_mm[:, 1], 20)
    top_y = front_mm + generator.uniform(10, 20)
    pubis_y = min(points[:, 1].min() for points in hips) + 20
    anterior = pubis_y + (top_y - pubis_y) * rise
    centre, half = (anterior + sacrum_front) / 2, np.maximum((sacrum_front - anterior) / 2, 20)
    value = _ellipse((x - middle_x) / width, (y - centre) / half, 2.5)
    return value + (np.maximum(floor + 25 - z, 0) / 25.0) ** 2


def paint_body(
    tissue: NDArray[np.uint8],
    outline: Outline,
    heads: dict[str, Sphere],
    grid: Grid,
    generator: np.random.Generator,
) -> None:
    """Fill the body around the bones into an empty tissue volume."""
    code = TISSUE_VALUE
    tissue[outline.skin < 1] = code["fat"]
    edge = 1 - 2 * float(np.mean(grid.spacing_mm[1:])) / 150
    tissue[(outline.skin < 1) & (outline.skin > edge)] = code["skin"]
    strands = smooth_field(generator, grid.shape, grid.spacing_mm, (60.0, 14.0, 14.0))
    marbled = (np.abs(strands) < generator.uniform(0.02, 0.2)) | (strands > generator.uniform(1.2, 2.5))
    tissue[outline.muscle < 1] = code["muscle"]
    tissue[(outline.muscle < 1) & marbled] = code["fat"]
    _paint_cavity(tissue, outline.cavity < 1, grid, generator)
    middle = (heads["femur_right"].centre_mm + heads["femur_left"].centre_mm) / 2
    for _ in range(int(generator.integers(0, 3))):
        at = middle + generator.uniform((-25, -45, 5), (25, 25, 60))
        half = generator.uniform(18, 40, 3)
        kind = "urine" if generator.random() < 0.6 else "organ"
        paint_ball(tissue, at, half, code[kind], grid, outline.cavity < 1)
    for key in ("femur_right", "femur_left"):
        _paint_vessels(tissue, heads[key].centre_mm, middle, outline.muscle < 1, grid, generator)


def _paint_cavity(
    tissue: NDArray[np.uint8], cavity: NDArray[np.bool_], grid: Grid, generator: np.random.Generator
) -> None:
    """Bowel loops of many sizes and contents in visceral fat."""
    code = TISSUE_VALUE
    tissue[cavity] = code["fat"]
    loops = smooth_field(generator, grid.shape, grid.spacing_mm, generator.uniform(20, 35))
    filling = smooth_field(generator, grid.shape, grid.spacing_mm, 50.0)
    share = generator.uniform(-0.7, 0.6)
    tissue[cavity & (loops > share)] = code["bowel_wall"]
    inner = cavity & (loops > share + 0.35)
    content = "bowel_contrast" if generator.random() < 0.2 else "bowel_content"
    tissue[inner] = code[content]
    tissue[inner & (filling > generator.uniform(0.3, 1.5))] = code["gas"]


def paint_ball(
    tissue: NDArray[np.uint8],
    centre_mm: NDArray[np.float64],
    half_mm: NDArray[np.float64],
    value: int,
    grid: Grid,
    within: NDArray[np.bool_],
) -> None:
    """Paint an ellipsoid (x, y, z) of one tissue where ``within`` allows it."""
    box = grid.box_around(np.array([centre_mm - half_mm, centre_mm + half_mm]))
    z, y, x = grid.axes_mm(box)
    ball = ((x - centre_mm[0]) / half_mm[0]) ** 2 + ((y - centre_mm[1]) / half_mm[1]) ** 2
    ball = ball + ((z - centre_mm[2]) / half_mm[2]) ** 2 < 1
    tissue[box][ball & within[box]] = value


def _paint_vessels(
    tissue: NDArray[np.uint8],
    head_mm: NDArray[np.float64],
    middle_mm: NDArray[np.float64],
    within: NDArray[np.bool_],
    grid: Grid,
    generator: np.random.Generator,
) -> None:
    """Iliac and femoral artery and vein: in front of the sacrum, before the hip joint, inside of the thigh."""
    outward = float(np.sign(head_mm[0] - middle_mm[0]))
    offset = head_mm - middle_mm
    course = np.array([[0.15, 25, 150], [0.3, 20, 110], [0.6, -5, 70], [0.85, -33, 25], [0.95, -36, 0],
                       [0.9, -30, -60], [0.75, -15, -140], [0.7, 0, -260]])  # fmt: skip
    line = np.column_stack([course[:, 0] * offset[0], course[:, 1], course[:, 2]]) + middle_mm
    line = line + generator.normal(0, 3, (1, 3))
    radius = generator.uniform(3.5, 6.0)
    vein = line - (outward * generator.uniform(9, 14), 0, 0)
    paint_tube(tissue, vein, radius * 1.2, TISSUE_VALUE["vein"], grid, within)
    paint_tube(tissue, line, radius, TISSUE_VALUE["artery"], grid, within)
    if generator.random() < 0.3:
        start = int(generator.integers(0, len(line) - 2))
        wall = line[start : start + 2] + np.array([radius * 0.8, 0, 0])
        paint_tube(tissue, wall, 1.6, TISSUE_VALUE["calcification"], grid, within)


def paint_tube(
    tissue: NDArray[np.uint8],
    line_mm: NDArray[np.float64],
    radius_mm: float,
    value: int,
    grid: Grid,
    within: NDArray[np.bool_] | None = None,
) -> None:
    """Paint a tube along a polyline (n, 3) of points (x, y, z)."""
    for piece in pairwise(line_mm):
        ends = np.array(piece)
        box = grid.box_around(ends, radius_mm)
        chosen = tube_value(ends, radius_mm, grid, box) < 0
        tissue[box][chosen if within is None else chosen & within[box]] = value


def paint_table(tissue: NDArray[np.uint8], back_mm: float, grid: Grid, generator: np.random.Generator) -> None:
    """Put a mattress, perhaps a phantom with five rods, and the table's top under the back."""
    code = TISSUE_VALUE
    _, y, x = grid.axes_mm()
    free = tissue == code["air"]
    x = x - generator.normal(0, 15)
    sag = generator.uniform(0, 60) * (x / 250.0) ** 2
    top = back_mm + generator.uniform(-6, 4)
    phantom_mm = 0.0
    if generator.random() < 0.35:
        phantom_mm = generator.uniform(20, 30)
        half = generator.uniform(90, 150)
        height = y - top - phantom_mm / 2
        tissue[free & (np.abs(height) < phantom_mm / 2) & (np.abs(x) < half)] = code["phantom_body"]
        order = np.arange(5) if generator.random() < 0.5 else np.arange(5)[::-1]
        for rod, place in zip(order, np.linspace(-0.75, 0.75, 5) * half, strict=True):
            tissue[free & ((x - place) ** 2 + height**2 < generator.uniform(7, 10) ** 2)] = code[f"rod_{rod}"]
        free = tissue == code["air"]
    cushion = top + phantom_mm + generator.uniform(0, 15)
    below = y + sag
    tissue[free & (below > top) & (below < cushion) & (np.abs(x) < 200)] = code["cloth"]
    thick = generator.uniform(15, 70)
    shell = generator.uniform(2, 4)
    within = free & (np.abs(x) < 220) & (below > cushion) & (below < cushion + thick)
    tissue[within] = code["table_core"]
    tissue[within & ((below < cushion + shell) | (below > cushion + thick - shell))] = code["table_shell"]
