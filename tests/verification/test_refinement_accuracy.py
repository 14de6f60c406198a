"""Accuracy of ``inference.refinement`` on rendered bones of known shape: sub-voxel, and nearer than the coarse labels.

Bones are signed distances, rendered on 0.5 mm cells, blurred with a scanner's point spread, averaged over voxels and
given noise. The coarse labels are the truth moved by a smooth random field of up to 3 mm on 3 mm voxels, as a network's
would be. Distances are those of the labels' own voxel faces from the exact surface.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from inference.refinement import refine
from inference.volume import Volume

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.uint8]
Spacing = tuple[float, float, float]
Shape = Callable[[Array, Array, Array], dict[int, Array]]

CELL_MM = 0.5
SIZE_MM = (76.0, 60.0, 64.0)
COARSE_STEP_MM = 3.0
SOFT_HU, NOISE_HU = 50.0, 20.0
CORTEX_MM = 1.0
SCANNER_FWHM_MM = 0.9


@dataclass(frozen=True, slots=True)
class Bone:
    """Material of a bone: its cortex and what is inside."""

    cortex_hu: float
    inside_hu: float


HEALTHY = Bone(900.0, 150.0)
OSTEOPOROTIC = Bone(350.0, 20.0)
"""Blur makes of 1 mm at 350 HU a cortex that reads 200 HU; the inside is darker than muscle."""


def ellipsoid(z: Array, y: Array, x: Array) -> dict[int, Array]:
    """One body; the distance is exact to first order at the surface."""
    half = np.array([14.0, 17.0, 22.0])
    scaled = np.sqrt((z / half[0]) ** 2 + (y / half[1]) ** 2 + (x / half[2]) ** 2)
    steep = np.sqrt((z / half[0] ** 2) ** 2 + (y / half[1] ** 2) ** 2 + (x / half[2] ** 2) ** 2)
    return {41: scaled * (scaled - 1.0) / np.maximum(steep, 1e-6)}


def two_bodies(z: Array, y: Array, x: Array) -> dict[int, Array]:
    """Two round plates with rounded rims, 3 mm apart."""
    return {41: _plate(z + 14.0, y, x), 42: _plate(z - 14.0, y, x)}


def _plate(z: Array, y: Array, x: Array) -> Array:
    side, end = np.hypot(y, x) - 18.0 + 4.0, np.abs(z) - 12.5 + 4.0
    return np.minimum(np.maximum(side, end), 0.0) + np.hypot(np.maximum(side, 0.0), np.maximum(end, 0.0)) - 4.0


def ball_and_socket(z: Array, y: Array, x: Array) -> dict[int, Array]:
    """A femoral head without neck in a socket, 2 mm apart."""
    r = np.sqrt(z * z + y * y + x * x)
    return {1: r - 18.0, 3: np.maximum.reduce([20.0 - r, r - 28.0, -z])}


def grid(shape: tuple[int, ...], spacing_mm: Spacing) -> tuple[Array, ...]:
    """Coordinates of voxel centres from the middle."""
    axes = [(np.arange(n) - (n - 1) / 2) * length for n, length in zip(shape, spacing_mm, strict=True)]
    return tuple(np.meshgrid(*axes, indexing="ij"))


def rendered(bones: Shape, spacing_mm: Spacing, material: Bone) -> Array:
    """CT numbers of the bones on a grid of ``spacing_mm``."""
    cells = tuple(int(length / CELL_MM) for length in SIZE_MM)
    hu = np.full(cells, SOFT_HU)
    for depth in bones(*grid(cells, (CELL_MM,) * 3)).values():
        whole, core = (np.clip(0.5 - d / CELL_MM, 0.0, 1.0) for d in (depth, depth + CORTEX_MM))
        hu = hu * (1.0 - whole) + material.cortex_hu * (whole - core) + material.inside_hu * core
    hu = ndimage.gaussian_filter(hu, SCANNER_FWHM_MM / 2.355 / CELL_MM)
    hu = ndimage.uniform_filter(hu, [max(1, round(length / CELL_MM)) for length in spacing_mm])
    places = grid(voxels(spacing_mm), spacing_mm)
    index = [place / CELL_MM + (n - 1) / 2 for place, n in zip(places, cells, strict=True)]
    noise = np.random.default_rng(0).normal(0.0, NOISE_HU, places[0].shape)
    return np.asarray(ndimage.map_coordinates(hu, index, order=1, mode="nearest") + noise)


def voxels(spacing_mm: Spacing) -> tuple[int, ...]:
    return tuple(int((length - 2.0) / step) for length, step in zip(SIZE_MM, spacing_mm, strict=True))


def coarse_labels(bones: Shape, spacing_mm: Spacing) -> Labels:
    """The bones as a network on 3 mm voxels would have them, on a grid of ``spacing_mm``."""
    rng = np.random.default_rng(1)
    cells = tuple(int(length / COARSE_STEP_MM) for length in SIZE_MM)
    labels, best = np.zeros(cells, dtype=np.uint8), np.zeros(cells)
    for value, depth in bones(*grid(cells, (COARSE_STEP_MM,) * 3)).items():
        field = ndimage.gaussian_filter(rng.normal(size=cells), 8.0 / COARSE_STEP_MM)
        moved = depth + np.clip(1.25 * field / field.std(), -3.0, 3.0)
        taken = (moved < 0) & (moved < best)
        labels[taken], best[taken] = value, moved[taken]
    index = [
        np.clip(np.rint((np.arange(n) - (n - 1) / 2) * step / COARSE_STEP_MM + (m - 1) / 2), 0, m - 1).astype(int)
        for n, step, m in zip(voxels(spacing_mm), spacing_mm, cells, strict=True)
    ]
    return np.ascontiguousarray(labels[np.ix_(*index)])


def distance_mm(labels: Labels, value: int, bones: Shape, spacing_mm: Spacing) -> float:
    """Mean distance of a label's faces from the exact surface of its bone."""
    points, faces, _, _ = marching_cubes(np.pad(labels == value, 1).astype(np.float32), 0.5)  # type: ignore[no-untyped-call]
    middle = (np.array(labels.shape) - 1) / 2
    centres = (points[faces].mean(axis=1) - 1.0 - middle) * spacing_mm
    return float(np.abs(bones(*centres.T)[value]).mean())


def mean_distances_mm(bones: Shape, spacing_mm: Spacing, material: Bone) -> tuple[float, float, float]:
    """Of the coarse, the refined and the true labels, over all bones."""
    coarse = coarse_labels(bones, spacing_mm)
    affine = np.diag([*spacing_mm[::-1], 1.0])[:, [2, 1, 0, 3]]
    refined = refine(Volume(rendered(bones, spacing_mm, material).astype(np.float32), affine), coarse)
    true = np.zeros_like(coarse)
    for value, depth in bones(*grid(voxels(spacing_mm), spacing_mm)).items():
        true[depth < 0] = value
    means = [
        np.mean([distance_mm(labels, value, bones, spacing_mm) for value in np.unique(true)[1:]])
        for labels in (coarse, refined, true)
    ]
    return float(means[0]), float(means[1]), float(means[2])


@pytest.mark.parametrize("material", [HEALTHY, OSTEOPOROTIC], ids=["healthy", "osteoporotic"])
@pytest.mark.parametrize("bones", [ellipsoid, two_bodies, ball_and_socket])
def test_on_fine_voxels_the_surface_is_within_half_a_voxel_and_a_millimetre_nearer(
    bones: Shape, material: Bone
) -> None:
    coarse, refined, _ = mean_distances_mm(bones, (1.0, 0.7, 0.7), material)
    assert refined < 0.5
    assert refined < coarse / 2


@pytest.mark.parametrize("spacing_mm", [(3.0, 1.0, 1.0), (3.0, 3.0, 3.0)], ids=["1 x 1 x 3", "3 mm"])
def test_on_thick_slices_a_healthy_body_is_within_a_quarter_of_a_slice(spacing_mm: Spacing) -> None:
    coarse, refined, true = mean_distances_mm(ellipsoid, spacing_mm, HEALTHY)
    assert refined < 0.25 * max(spacing_mm)
    assert refined - true < 0.5 * (coarse - true)


@pytest.mark.parametrize("bones", [two_bodies, ball_and_socket])
@pytest.mark.parametrize("spacing_mm", [(3.0, 1.0, 1.0), (3.0, 3.0, 3.0)], ids=["1 x 1 x 3", "3 mm"])
def test_gaps_that_thick_slices_hide_do_not_make_the_surface_worse(bones: Shape, spacing_mm: Spacing) -> None:
    coarse, refined, _ = mean_distances_mm(bones, spacing_mm, HEALTHY)
    assert refined < coarse
