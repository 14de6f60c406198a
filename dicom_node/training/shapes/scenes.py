"""Scenes: a labelled volume of generated anatomy with a tissue for every voxel, from one seed.

A scene holds no CT numbers: whoever trains draws them from TISSUES and adds noise, kernel and slice thickness;
``mean_hu`` shows how the shares of a voxel make its CT number.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_node.training.shapes.body import Outline, draw_outline, paint_ball, paint_body, paint_table
from dicom_node.training.shapes.canvas import Canvas, Column, column_points
from dicom_node.training.shapes.hardware import HIP_SHARE, SPINE_SHARE, Femur, put_hip_hardware, put_spine_hardware
from dicom_node.training.shapes.model import Person, ShapeModel, Sphere, Surface
from dicom_node.training.shapes.osteophytes import with_osteophytes
from dicom_node.training.shapes.pose import Pose, draw_pose, posed
from dicom_node.training.shapes.spine import endplate, stacked
from dicom_node.training.shapes.tissues import TISSUE_VALUE, TISSUES
from dicom_node.training.shapes.torso import paint_organs
from dicom_node.training.shapes.voxels import Box, Grid, inside
from inference.labels import FEMURS

SHAPE = (112, 96, 144)
SPACING_MM = (3.0, 3.0, 3.0)
Region = Literal["hip", "pelvis", "trunk"]

SHIFT_MM: dict[Region, tuple[tuple[float, float], ...]] = {
    "hip": ((-90.0, 30.0), (-25.0, 25.0), (-30.0, 30.0)),
    "pelvis": ((-60.0, 80.0), (-25.0, 25.0), (-30.0, 30.0)),
    "trunk": ((60.0, 240.0), (-30.0, 30.0), (-30.0, 30.0)),
}
"""Range of the field's middle relative to the middle of the hip joints: towards the head, back and left."""

QUALITY = (0.35, 1.2)
"""Range of the factor on cortex thickness and trabecular density: from severe osteoporosis to young bone."""

POSE_FACTORS = (1.0, 0.5, 0.25, 0.0)
"""By what a colliding femur's angles are multiplied, in turn, before the bare overlap is cut off it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One generated volume.

    Attributes
    ----------
    labels : (s, r, c) uint8
        Values of ``SCENE_LABELS``; [slice, row, column] towards head, back and left.
    tissue : (s, r, c) uint8
        Index into ``TISSUES``.
    cortex : (s, r, c) uint8
        Share of the voxel that is cortex, in 1/255; the rest of a bone's voxel is trabeculae or marrow.
    density : (s, r, c) uint8
        Relative density of the trabeculae in hundredths: 0 is marrow, 100 the tissue's mean.
    spacing_mm
        Size of a voxel (slice, row, column).
    heads_index
        Femoral head centres as fractional indices, by the femur's key; may lie outside of the volume.
    hardware
        What implants there are, for example ``femur_left: nail``.
    """

    labels: NDArray[np.uint8]
    tissue: NDArray[np.uint8]
    cortex: NDArray[np.uint8]
    density: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    heads_index: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    hardware: tuple[str, ...] = ()


def hip_scene(
    model: ShapeModel,
    seed: int,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> Scene:
    """Make a pelvis with both femurs, the end of the spine not drawn; see ``make_scene``."""
    return make_scene(model, seed, "hip", shape, spacing_mm)


def trunk_scene(
    model: ShapeModel,
    seed: int,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> Scene:
    """Make a trunk, its middle between hips and chest, with spine and ribs; see ``make_scene``."""
    return make_scene(model, seed, "trunk", shape, spacing_mm)


def make_scene(
    model: ShapeModel, seed: int, region: Region, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> Scene:
    """Make one scene.

    Parameters
    ----------
    model
        The shape model, loaded once.
    seed
        Everything random follows from it.
    region
        ``hip`` draws no vertebrae; ``pelvis`` shows nearly the same field with them; ``trunk`` is higher up.
    shape, spacing_mm
        The grid [slice, row, column].
    """
    generator = np.random.default_rng(seed)
    shift = np.array([generator.uniform(*limits) for limits in SHIFT_MM[region]])
    origin = shift - (np.array(shape) - 1) * spacing_mm / 2
    grid = Grid(shape, spacing_mm, (float(origin[0]), float(origin[1]), float(origin[2])))
    skeleton = _drawn(model, region, grid, generator)
    canvas = Canvas.empty(grid)
    outline = _paint_flesh(canvas, skeleton, generator)
    _paint_bones(canvas, skeleton, outline, generator)
    hardware = _put_hardware(canvas, skeleton, generator)
    paint_table(canvas.tissue, outline.back_mm, grid, generator)
    places = {key: grid.indices(head.centre_mm[None])[0] for key, head in skeleton.heads.items()}
    centres = {key: (float(at[0]), float(at[1]), float(at[2])) for key, at in places.items()}
    return Scene(canvas.labels, canvas.tissue, canvas.cortex, canvas.density, spacing_mm, centres, hardware)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A drawn person in a pose, as surfaces and voxels.

    Attributes
    ----------
    person, pose
        Who, and how; the pose is the one in which no femur runs into the pelvis.
    bones, heads
        Posed surfaces, and the balls of the femoral heads.
    masks
        Each bone's voxels within a box of the grid.
    column
        The spine, where one is drawn.
    """

    person: Person
    pose: Pose
    bones: dict[str, Surface]
    heads: dict[str, Sphere]
    masks: dict[str, tuple[NDArray[np.bool_], Box]]
    column: Column | None


def _drawn(model: ShapeModel, region: Region, grid: Grid, generator: np.random.Generator) -> Skeleton:
    person = with_osteophytes(model.sample(generator), generator)
    masks, pose = placed(person, draw_pose(generator), grid)
    bones, heads = posed(person, pose)
    column = None
    if region != "hip":
        left = heads["femur_left"].centre_mm - heads["femur_right"].centre_mm
        base = endplate(bones["sacrum"], model.endplate_points)
        column = Column(stacked(base, left, person.size * pose.scale, generator), base)
    return Skeleton(person, pose, bones, heads, masks, column)


def _paint_flesh(canvas: Canvas, skeleton: Skeleton, generator: np.random.Generator) -> Outline:
    grid, column = canvas.grid, skeleton.column
    outline = draw_outline(skeleton.bones, skeleton.heads, column_points(column), grid, generator)
    paint_body(canvas.tissue, outline, skeleton.heads, grid, generator)
    everywhere = np.broadcast_to(np.True_, grid.shape)
    for femur, head in skeleton.heads.items():
        half_mm = np.full(3, head.radius_mm + skeleton.pose.hips[femur].joint_space_mm)
        paint_ball(canvas.tissue, head.centre_mm, half_mm, TISSUE_VALUE["cartilage"], grid, everywhere)
    if column is not None:
        paint_organs(canvas.tissue, column.spine, outline, grid, generator)
        canvas.paint_soft_spine(column, generator)
    return outline


def _paint_bones(canvas: Canvas, skeleton: Skeleton, outline: Outline, generator: np.random.Generator) -> None:
    quality = float(generator.uniform(*QUALITY))
    for key, (mask, box) in skeleton.masks.items():
        neutral = skeleton.person.bones[key]
        canvas.paint_shape(key, mask, box, skeleton.bones[key], neutral, quality, generator)
    if skeleton.column is not None:
        canvas.paint_spine(skeleton.column, outline, quality, generator)


def _put_hardware(canvas: Canvas, skeleton: Skeleton, generator: np.random.Generator) -> tuple[str, ...]:
    """Put hardware into some hips and spines; return what was put where."""
    found = []
    if generator.random() < HIP_SHARE:
        key = str(generator.choice(FEMURS))
        femur = Femur(skeleton.bones[key], skeleton.person.bones[key], key == "femur_left")
        head, space_mm = skeleton.heads[key], skeleton.pose.hips[key].joint_space_mm
        found.append(f"{key}: {put_hip_hardware(canvas, femur, key, head, head.radius_mm + space_mm, generator)}")
    if skeleton.column is not None and generator.random() < SPINE_SHARE:
        found.append(f"spine: {put_spine_hardware(canvas, skeleton.column.spine, generator)}")
    return tuple(found)


def placed(person: Person, pose: Pose, grid: Grid) -> tuple[dict[str, tuple[NDArray[np.bool_], Box]], Pose]:
    """Voxelise the posed bones, lessening a femur's angles while it runs into another bone.

    Returns
    -------
    masks
        Each bone's voxels within a box of the grid: pelvis first, for what is left of an overlap is its own.
    pose
        The pose that came out.
    """
    bones, _ = posed(person, pose)
    masks = {key: inside(bones[key], grid) for key in ("hip_right", "hip_left", "sacrum")}
    taken = np.zeros(grid.shape, dtype=bool)
    for mask, box in masks.values():
        taken[box] |= mask
    for femur in FEMURS:
        for factor in POSE_FACTORS:
            trial = pose.with_hip(femur, pose.hips[femur].lessened(factor))
            mask, box = inside(posed(person, trial)[0][femur], grid)
            if not (mask & taken[box]).any():
                break
        pose, masks[femur] = trial, (mask, box)
        taken[box] |= mask
    return masks, pose


def mean_hu(scene: Scene, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return CT numbers without noise: one mean per tissue, mixed where a voxel is partly cortex.

    Parameters
    ----------
    scene
        A scene.
    generator
        Draws each tissue's mean and its texture.
    """
    means = np.array([generator.uniform(*tissue.mean_hu) for tissue in TISSUES], dtype=np.float32)
    deviations = np.array([generator.uniform(*tissue.sd_hu) for tissue in TISSUES], dtype=np.float32)
    hu = means[scene.tissue]
    bone = np.isin(scene.tissue, [TISSUE_VALUE[name] for name in ("cortical", "trabecular", "marrow")])
    marrow, trabecular, cortical = (means[TISSUE_VALUE[name]] for name in ("marrow", "trabecular", "cortical"))
    share = scene.cortex[bone] / np.float32(255)
    soft = marrow + scene.density[bone] / np.float32(100) * (trabecular - marrow)
    hu[bone] = share * cortical + (1 - share) * soft
    return hu + deviations[scene.tissue] * generator.standard_normal(hu.shape, dtype=np.float32)


def write_scenes(folder: Path, count: int, seed: int, model: ShapeModel, region: Region = "hip") -> list[Path]:
    """Write scenes as compressed .npz files, each complete or not there.

    Parameters
    ----------
    folder
        Made if missing.
    count
        How many; scene k has the seed ``seed + k`` and the name ``scene-<seed + k>.npz``.
    seed
        The first scene's seed.
    model
        The shape model.
    region
        See ``make_scene``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number in range(seed, seed + count):
        scene = make_scene(model, number, region, SHAPE, SPACING_MM)
        path = folder / f"scene-{number:08d}.npz"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file, labels=scene.labels, tissue=scene.tissue, cortex=scene.cortex, density=scene.density,
                spacing_mm=np.array(scene.spacing_mm),
            )  # fmt: skip
        partial.replace(path)
        written.append(path)
    return written
