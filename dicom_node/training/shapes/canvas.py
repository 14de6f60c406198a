"""The arrays of a scene while it is painted, and how bones are painted into them.

Soft tissue first, then the bones of the shape model, then the spine. A labelled voxel is never given away again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.training.shapes.body import Outline
from dicom_node.training.shapes.fields import smooth_field
from dicom_node.training.shapes.interior import ARCHITECTURES, cortex_share, fill
from dicom_node.training.shapes.labels import SCENE_LABELS
from dicom_node.training.shapes.model import Surface
from dicom_node.training.shapes.spine import Cage, Solid, Vertebra, rib, solids
from dicom_node.training.shapes.tissues import TISSUE_VALUE
from dicom_node.training.shapes.torso import EPIDURAL_MM, SAC_MM, canal_value, discs
from dicom_node.training.shapes.vertebra import SIZES
from dicom_node.training.shapes.voxels import Box, Grid

BODY_CORTEX_MM, ARCH_CORTEX_MM, RIB_CORTEX_MM = 0.6, 1.6, 1.0
BODY_DENSITY, ARCH_DENSITY = 0.55, 0.45
"""Cortex and trabeculae of vertebrae and ribs before the person's quality [m assumption]."""


@dataclass(frozen=True, slots=True)
class Column:
    """A spine and the sacral endplate it stands on (middle, normal)."""

    spine: list[Vertebra]
    base: tuple[NDArray[np.float64], NDArray[np.float64]]


def column_points(column: Column | None) -> NDArray[np.float64]:
    """Return the fronts of the bodies and the tips of the spinous processes, (n, 3)."""
    if column is None:
        return np.zeros((0, 3))
    found = []
    for vertebra in column.spine:
        size = SIZES[vertebra.level]
        found.append(vertebra.at(0, -size.depth_mm / 2, 0))
        tip = size.depth_mm / 2 + size.canal_mm[1] + size.spinous_mm
        found.append(vertebra.at(0, tip, -size.spinous_drop * size.height_mm))
    return np.array(found)


@dataclass(frozen=True, slots=True)
class Canvas:
    """Labels, tissues, cortex shares and densities on a grid; see ``scenes.Scene``."""

    grid: Grid
    labels: NDArray[np.uint8]
    tissue: NDArray[np.uint8]
    cortex: NDArray[np.uint8]
    density: NDArray[np.uint8]

    @classmethod
    def empty(cls, grid: Grid) -> "Canvas":
        """Return a canvas of air."""
        return cls(grid, *np.zeros((4, *grid.shape), dtype=np.uint8))

    def paint_shape(
        self,
        key: str,
        mask: NDArray[np.bool_],
        box: Box,
        posed: Surface,
        neutral: Surface,
        quality: float,
        generator: np.random.Generator,
    ) -> None:
        """Paint a bone of the shape model where nothing is labelled yet."""
        mask = mask & self._free(box)
        if key.endswith("_right"):
            neutral = neutral.moved(neutral.points_mm * (-1.0, 1.0, 1.0))  # architectures are those of left bones
        kind = ARCHITECTURES[key.split("_")[0]]
        content = fill(posed, neutral, kind, mask, box, self.grid, generator, quality)
        self._put(key, box, mask, content.tissue, content.cortex_share, content.density)

    def paint_soft_spine(self, column: Column, generator: np.random.Generator) -> None:
        """Paint discs and the thecal sac; bones take their places later."""
        for box, mask in discs(column.spine, column.base, self.grid):
            self.labels[box][mask] = SCENE_LABELS["disc"]
            self.tissue[box][mask] = TISSUE_VALUE["disc"]
        value, box = canal_value(column.spine, column.base, self.grid)
        if value.size:
            radius_mm = float(generator.uniform(*SAC_MM)) * column.spine[0].form.scale
            self.tissue[box][value < radius_mm + EPIDURAL_MM] = TISSUE_VALUE["fat"]
            self.labels[box][value < radius_mm] = SCENE_LABELS["canal"]
            self.tissue[box][value < radius_mm] = TISSUE_VALUE["thecal_sac"]

    def paint_spine(self, column: Column, outline: Outline, quality: float, generator: np.random.Generator) -> None:
        """Paint vertebrae and ribs; where two would overlap, the one that is deeper there has the voxel."""
        owner = np.zeros(self.grid.shape, dtype=np.float32)
        cage = Cage(outline.centre_mm, (outline.half_mm[0] - 14, outline.half_mm[1] - 10))
        taken = ~self._free((slice(None), slice(None), slice(None)))
        for vertebra in column.spine:
            for solid in solids(vertebra, self.grid, generator):
                self._paint_solid(solid, owner, taken, quality, generator)
        for vertebra in column.spine:
            for side in (-1.0, 1.0):
                bone = rib(vertebra, side, cage, self.grid, generator) if vertebra.level.startswith("T") else None
                if bone is not None:
                    self._paint_solid(bone, owner, taken | (owner < 0), quality, generator)

    def _paint_solid(
        self,
        solid: Solid,
        owner: NDArray[np.float32],
        taken: NDArray[np.bool_],
        quality: float,
        generator: np.random.Generator,
    ) -> None:
        mask = (solid.value < 0) & (solid.value < owner[solid.box]) & ~taken[solid.box]
        owner[solid.box][mask] = solid.value[mask]
        is_body = solid.key in SIZES
        cortex_mm = BODY_CORTEX_MM if is_body else RIB_CORTEX_MM if solid.key == "rib" else ARCH_CORTEX_MM
        shape = (mask.shape[0], mask.shape[1], mask.shape[2])
        texture = smooth_field(generator, shape, self.grid.spacing_mm, 7.0)[mask]
        slow = smooth_field(generator, shape, self.grid.spacing_mm, 20.0)[mask]
        thickness_mm = np.clip(cortex_mm * quality * np.exp(0.3 * slow), 0.3, 4.0)
        depth_mm = np.maximum(-solid.whole[mask], 0).astype(float)
        share = cortex_share(depth_mm, thickness_mm, float(np.mean(self.grid.spacing_mm)))
        density = (BODY_DENSITY if is_body else ARCH_DENSITY) * quality * (1 + 0.12 * texture + 0.12 * slow)
        tissue = np.where(share > 0.5, TISSUE_VALUE["cortical"], TISSUE_VALUE["trabecular"])
        self._put(
            solid.key, solid.box, mask, tissue.astype(np.uint8), share.astype(np.float32), density.astype(np.float32)
        )

    def _free(self, box: Box) -> NDArray[np.bool_]:
        """Tell which voxels are of no bone yet."""
        return (self.labels[box] == 0) | (self.labels[box] >= SCENE_LABELS["canal"])

    def _put(
        self,
        key: str,
        box: Box,
        mask: NDArray[np.bool_],
        tissue: NDArray[np.uint8],
        share: NDArray[np.float32],
        density: NDArray[np.float32],
    ) -> None:
        self.labels[box][mask] = SCENE_LABELS[key]
        self.tissue[box][mask] = tissue
        self.cortex[box][mask] = np.round(share * 255)
        self.density[box][mask] = np.round(np.clip(density * 100, 0, 255))
