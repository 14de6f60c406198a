"""What lies around the spine: discs, the sac in the canal, psoas, great vessels, kidneys, liver, lungs.

Painted before the bones, which cover it. Shapes are ellipsoids and tubes; the numbers are assumptions [m].
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.training.shapes.body import Outline, paint_ball, paint_tube
from dicom_node.training.shapes.fields import smooth_field
from dicom_node.training.shapes.spine import Vertebra
from dicom_node.training.shapes.tissues import TISSUE_VALUE
from dicom_node.training.shapes.vertebra import SIZES, Form, Size, body_value
from dicom_node.training.shapes.voxels import Box, Grid, tube_value

SAC_MM = (5.5, 8.5)
"""Radius of the thecal sac."""

EPIDURAL_MM = 5.0
"""Fat around the sac, which the bones of the canal then cover."""

ERECTOR_MM = 26.0
"""Radius of the muscles on both sides behind the spine."""

Point = NDArray[np.float64]


def paint_organs(
    tissue: NDArray[np.uint8], spine: list[Vertebra], outline: Outline, grid: Grid, generator: np.random.Generator
) -> None:
    """Paint lungs, liver, spleen, kidneys, psoas and the great vessels around a spine."""
    within = outline.muscle < 1
    size = spine[0].form.scale
    by_level = {vertebra.level: vertebra for vertebra in spine}
    _paint_lungs(tissue, by_level["T10"].centre_mm, outline, grid, generator)
    for side in (-1, 1):
        line = np.array([vertebra.at(side * 24.0, SIZES[vertebra.level].depth_mm / 2 + 28, 0) for vertebra in spine])
        paint_tube(tissue, line, ERECTOR_MM * size, TISSUE_VALUE["muscle"], grid, within)
    right, left = by_level["L1"].centre_mm, by_level["T12"].centre_mm
    half_x, half_y = outline.half_mm
    _organ(
        tissue,
        right + np.array([-0.5 * half_x, -0.5 * half_y, 15]),
        (0.42 * half_x, 0.55 * half_y, 75),
        within,
        grid,
        generator,
    )
    _organ(
        tissue,
        left + np.array([0.62 * half_x, -0.1 * half_y, 10]),
        (0.2 * half_x, 0.35 * half_y, 45),
        within,
        grid,
        generator,
    )
    for side, level in ((-1, "L2"), (1, "L1")):
        kidney = by_level[level].centre_mm + size * np.array([side * 55.0, 12.0, 5.0])
        _organ(tissue, kidney, (26, 24, 52), within, grid, generator)
        _paint_psoas(tissue, spine, side, within, grid, generator)
    fronts = np.array([vertebra.at(0, -SIZES[vertebra.level].depth_mm / 2 - 13, 0) for vertebra in spine])
    aorta, cava = fronts[3:] + np.array([9, 0, 0]), fronts[1:] + np.array([-15, 3, 0])
    paint_tube(tissue, aorta, generator.uniform(8, 14), TISSUE_VALUE["artery"], grid, within)
    paint_tube(tissue, cava, generator.uniform(8, 12), TISSUE_VALUE["vein"], grid, within)
    if generator.random() < 0.4:
        paint_tube(tissue, aorta[:3] + np.array([0, 9, 0]), 2.0, TISSUE_VALUE["calcification"], grid, within)


def _organ(
    tissue: NDArray[np.uint8],
    centre_mm: Point,
    half_mm: tuple[float, float, float],
    within: NDArray[np.bool_],
    grid: Grid,
    generator: np.random.Generator,
) -> None:
    half = np.array(half_mm) * generator.uniform(0.8, 1.2, 3)
    at = centre_mm + generator.normal(0, 6, 3)
    paint_ball(tissue, at, half, TISSUE_VALUE["organ"], grid, within & (tissue != TISSUE_VALUE["lung"]))


def _paint_lungs(
    tissue: NDArray[np.uint8], dome_mm: Point, outline: Outline, grid: Grid, generator: np.random.Generator
) -> None:
    """Fill the chest above the diaphragm's domes, but for the middle."""
    z, y, x = grid.axes_mm()
    (centre_x, centre_y), (half_x, half_y) = outline.centre_mm, outline.half_mm
    wide = np.abs((x - centre_x) / (0.86 * half_x)) ** 2.3 + np.abs((y - centre_y) / (0.8 * half_y)) ** 2.3
    lift = generator.uniform(-30, 40)
    dome = dome_mm[2] + lift - 70 * wide
    beside = np.abs(x - dome_mm[0]) > 22 + 25 * np.clip((centre_y + 0.3 * half_y - y) / half_y, 0, 1)
    lung = (wide < 1) & (z > dome) & beside
    tissue[lung] = TISSUE_VALUE["lung"]
    middle = (wide < 1) & (z > dome) & ~beside
    tissue[middle] = TISSUE_VALUE["muscle"]
    vessels = smooth_field(generator, grid.shape, grid.spacing_mm, 16.0) > 1.9
    tissue[lung & vessels] = TISSUE_VALUE["vein"]


def _paint_psoas(
    tissue: NDArray[np.uint8],
    spine: list[Vertebra],
    side: int,
    within: NDArray[np.bool_],
    grid: Grid,
    generator: np.random.Generator,
) -> None:
    """Paint a muscle that swells from the first lumbar vertebra down to the pelvis."""
    radius = generator.uniform(11, 22)
    for upper, lower, share in zip(spine[4:0:-1], spine[3::-1], (0.5, 0.7, 0.9, 1.0), strict=True):
        line = np.array([
            vertebra.at(side * (SIZES[vertebra.level].width_mm / 2 + 0.75 * radius * share), 4, 0)
            for vertebra in (upper, lower)
        ])  # fmt: skip
        paint_tube(tissue, line, radius * share, TISSUE_VALUE["muscle"], grid, within)


def discs(spine: list[Vertebra], base: tuple[Point, Point], grid: Grid) -> list[tuple[Box, NDArray[np.bool_]]]:
    """Return where discs are, bodies and sacrum not yet taken off: drums from middle to middle.

    Parameters
    ----------
    spine
        Caudal to cranial.
    base
        Middle and normal of the sacrum's endplate.
    grid
        The grid.
    """
    found = []
    floor = base[0] - 2.0 * base[1]
    for vertebra in spine:
        size = SIZES[vertebra.level]
        roof = vertebra.at(0, 0, -0.3 * size.height_mm)
        up = roof - floor
        up /= np.linalg.norm(up)
        left = vertebra.axes[0] - (vertebra.axes[0] @ up) * up
        left /= np.linalg.norm(left)
        height = float(np.linalg.norm(roof - floor)) / vertebra.form.scale
        drum = Vertebra(vertebra.level, (floor + roof) / 2, np.stack([left, np.cross(up, left), up]), vertebra.form)
        reach = (size.width_mm + height) / 1.4 * vertebra.form.scale
        box = grid.box_around(np.array([drum.centre_mm - reach, drum.centre_mm + reach]))
        flat = Form(vertebra.form.scale * 1.02, dish_mm=(0, 0), waist=0.0)
        shape = [part.stop - part.start for part in box]
        if min(shape) > 0:
            z, y, x = np.broadcast_arrays(*grid.axes_mm(box))
            local = drum.local(np.column_stack([x.ravel(), y.ravel(), z.ravel()]))
            found.append((box, (body_value(local, _drum_size(vertebra.level, height), flat) < 0).reshape(shape)))
        lowest = min(vertebra.form.front, vertebra.form.middle, vertebra.form.back) - 0.5
        floor = vertebra.at(0, 0, min(0.3, lowest - 0.1) * size.height_mm)
    return found


def _drum_size(level: str, height_mm: float) -> Size:
    return replace(SIZES[level], height_mm=height_mm, wedge_deg=0.0)


def canal_value(spine: list[Vertebra], base: tuple[Point, Point], grid: Grid) -> tuple[NDArray[np.float32], Box]:
    """Return the distance to the middle line of the spinal canal, from the sacrum up, over a box of the grid."""
    middles = [vertebra.at(0, _canal_mm(vertebra.level), 0.2 * SIZES[vertebra.level].height_mm) for vertebra in spine]
    line = np.array([base[0] + (0, 26 * spine[0].form.scale, -4), *middles])
    line[1:-1] = (line[:-2] + 2 * line[1:-1] + line[2:]) / 4
    box = grid.box_around(line, 15.0)
    if any(part.start >= part.stop for part in box):
        return np.zeros((0, 0, 0), dtype=np.float32), box
    return tube_value(line, 0.0, grid, box), box


def _canal_mm(level: str) -> float:
    """How far behind the body's middle the canal's middle is."""
    return SIZES[level].depth_mm / 2 + SIZES[level].canal_mm[1] / 2
