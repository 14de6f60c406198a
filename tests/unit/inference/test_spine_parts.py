"""The parts of the spine segmenter, each against a shape whose answer is known in closed form."""

import numpy as np
import pytest
from numpy.typing import NDArray
from spine_phantom import CANAL_HU, CORE_HU, CORTEX_HU, MUSCLE_HU

from inference.spinal_canal import WORKING_SPACING_MM, Canal, find_canal, working_grid
from inference.spinal_curve import SpinalCurve, curve_through
from inference.vertebra_bodies import body_frame, find_surface, voxels_inside
from inference.vertebra_endplates import PIVOT_FRONT_MM, Plate, Slab
from inference.volume import Volume

RADIUS_MM, HEIGHT_MM, SHELL_MM = 20.0, 28.0, 2.0
MAX_VOLUME_ERROR = 0.08
"""Half a 1 mm voxel on every face of the cylinder changes its volume by 0.07."""


def volume_of(hu: NDArray[np.float64], spacing_mm: tuple[float, float, float]) -> Volume:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    return Volume(hu.astype(np.float32), affine)


def straight_curve(count: int, back_mm: float, left_mm: float) -> SpinalCurve:
    points = np.stack([np.arange(count), np.full(count, back_mm), np.full(count, left_mm)], axis=1).astype(float)
    up, front, left = (np.tile(axis, (count, 1)) for axis in ([1.0, 0, 0], [0, -1.0, 0], [0, 0, 1.0]))
    return SpinalCurve(points, up, front, left)


def drawn_cylinder() -> tuple[Volume, SpinalCurve, Slab]:
    """Draw a cortical cylinder with a core, its middle ``PIVOT_FRONT_MM`` in front of a straight canal."""
    head, back, left = np.meshgrid(np.arange(80), np.arange(90), np.arange(80), indexing="ij")
    radius, up = np.hypot(back - 40, left - 40), head - 40
    hu = np.full(radius.shape, MUSCLE_HU)
    hu[(radius <= RADIUS_MM) & (np.abs(up) <= HEIGHT_MM / 2)] = CORTEX_HU
    hu[(radius <= RADIUS_MM - SHELL_MM) & (np.abs(up) <= HEIGHT_MM / 2 - SHELL_MM)] = CORE_HU
    slab = Slab(Plate(40 - int(HEIGHT_MM / 2), 0.0, 0.0), Plate(40 + int(HEIGHT_MM / 2), 0.0, 0.0))
    return volume_of(hu, (1.0, 1.0, 1.0)), straight_curve(80, 40 + PIVOT_FRONT_MM, 40.0), slab


def test_the_working_grid_keeps_a_linear_field() -> None:
    spacing_mm = (3.0, 0.8, 0.9)
    axes = [np.arange(n) * step for n, step in zip((20, 90, 80), spacing_mm, strict=True)]
    field = axes[0][:, None, None] + 2 * axes[1][None, :, None] - axes[2][None, None]
    grid = working_grid(volume_of(field, spacing_mm))
    at = [np.arange(n) * WORKING_SPACING_MM for n in grid.hu.shape]
    expected = at[0][:, None, None] + 2 * at[1][None, :, None] - at[2][None, None]
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(grid.hu[inner], expected[inner], atol=0.3)


def test_the_canal_is_found_in_the_middle_of_a_tube_of_bone() -> None:
    head, back, left = np.meshgrid(*(np.arange(n) * 2.0 for n in (60, 70, 90)), indexing="ij")
    ring = np.hypot(back - 80 - 0.2 * head, left - 92)
    hu = np.where((ring > 9) & (ring < 14), CORTEX_HU, MUSCLE_HU)
    hu[ring <= 9] = CANAL_HU
    canal = find_canal(working_grid(volume_of(hu, (2.0, 2.0, 2.0))))
    assert canal is not None
    expected = np.stack([canal.points_mm[:, 0], 80 + 0.2 * canal.points_mm[:, 0], np.full(len(canal.points_mm), 92)], 1)
    assert len(canal.points_mm) == 60
    assert np.abs(canal.points_mm - expected).max() <= 4.0


def test_a_tube_filled_with_fatty_marrow_is_not_a_canal() -> None:
    _, back, left = np.meshgrid(*(np.arange(n) * 2.0 for n in (60, 70, 90)), indexing="ij")
    ring = np.hypot(back - 80, left - 92)
    hu = np.where((ring > 9) & (ring < 14), CORTEX_HU, MUSCLE_HU)
    hu[ring <= 9] = -90.0
    assert find_canal(working_grid(volume_of(hu, (2.0, 2.0, 2.0)))) is None


def test_the_curve_carries_a_right_handed_frame_that_faces_the_patients_front() -> None:
    head = np.arange(0.0, 200.0, 2.0)
    points = np.stack([head, 80 + 10 * np.sin(head / 60), 100 + 5 * np.sin(head / 50)], axis=1)
    curve = curve_through(Canal(points, enclosure=1.0, content_hu=10.0))
    axes = np.stack([curve.up, curve.front, curve.left], axis=1)
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.tile(np.eye(3), (len(axes), 1, 1)), atol=1e-9)
    assert (curve.front[:, 1] < -0.9).all()
    assert (curve.left[:, 2] > 0.9).all()


def test_a_bodys_frame_takes_points_there_and_back() -> None:
    _, curve, slab = drawn_cylinder()
    frame, height_mm = body_frame(curve, slab)
    points = np.array([[0.0, 0.0, 0.0], [3.0, -5.0, 7.0]])
    np.testing.assert_allclose(frame.to_local_mm(frame.to_grid_mm(points)), points, atol=1e-9)
    assert height_mm == pytest.approx(HEIGHT_MM)


def test_the_surface_of_a_cylinder_encloses_its_volume() -> None:
    volume, curve, slab = drawn_cylinder()
    surface = find_surface(volume, curve, slab)
    _, inside = voxels_inside(volume, surface)
    assert inside.sum() == pytest.approx(np.pi * RADIUS_MM**2 * HEIGHT_MM, rel=MAX_VOLUME_ERROR)


def test_an_enhanced_aorta_in_front_is_left_outside() -> None:
    volume, curve, slab = drawn_cylinder()
    _, back, left = np.meshgrid(*(np.arange(n) for n in volume.hu.shape), indexing="ij")
    hu = volume.hu.copy()
    hu[np.hypot(back - 8, left - 44) <= 9] = 350.0
    _, inside = voxels_inside(volume, find_surface(volume_of(hu, (1.0, 1.0, 1.0)), curve, slab))
    assert inside.sum() == pytest.approx(np.pi * RADIUS_MM**2 * HEIGHT_MM, rel=MAX_VOLUME_ERROR)


def test_plates_found_three_millimetres_off_do_not_move_the_surface() -> None:
    volume, curve, slab = drawn_cylinder()
    shifted = Slab(Plate(slab.bottom.position + 3, 0.0, 0.0), Plate(slab.top.position - 3, 0.0, 0.0))
    _, inside = voxels_inside(volume, find_surface(volume, curve, shifted))
    columns = inside.sum(axis=0)
    assert np.median(columns[columns > 0]) == pytest.approx(HEIGHT_MM, abs=1.0)
