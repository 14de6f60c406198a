"""The working grid, and how masks are made solid on it."""

import numpy as np
import pytest

from inference.morphology import (
    FAR_MM,
    WorkGrid,
    bounds,
    bridge_air_gaps,
    close_mask,
    component_at,
    fill_sections,
    open_mask,
    resample_to,
    signed_distance_mm,
    work_grid,
)


def ball_mask(radius_mm: float, step_mm: float, count: int) -> np.ndarray:
    axis = (np.arange(count) - count // 2) * step_mm
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return z * z + y * y + x * x <= radius_mm**2


def test_a_linear_field_survives_the_way_to_the_working_grid_and_back() -> None:
    spacing = (2.0, 0.7, 0.8)
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip((20, 60, 50), spacing, strict=True)), indexing="ij")
    field = (3.0 * z - 2.0 * y + x).astype(np.float32)
    box = (slice(4, 16), slice(10, 50), slice(10, 40))
    grid = work_grid(field, spacing, 1.5)
    positions = grid.axes_mm()
    np.testing.assert_allclose(grid.hu, 3.0 * positions[0] - 2.0 * positions[1] + positions[2], atol=1e-3)
    np.testing.assert_allclose(resample_to(grid.hu, grid, box, spacing, 0.0), field[box], atol=1e-3)


def test_a_part_of_the_scan_keeps_its_place() -> None:
    hu = np.arange(30.0 * 30 * 30, dtype=np.float32).reshape(30, 30, 30)
    box = (slice(6, 20), slice(4, 25), slice(10, 30))
    grid = work_grid(hu, (1.5, 1.5, 1.5), 1.5, box)
    np.testing.assert_allclose(grid.origin_mm, (9.0, 6.0, 15.0))
    np.testing.assert_allclose(grid.hu, hu[box], rtol=1e-5)


def test_closing_bridges_what_is_narrower_than_twice_its_radius_and_keeps_what_is_wider() -> None:
    mask = np.zeros((30, 30, 30), dtype=bool)
    mask[:, 5:10], mask[:, 14:19], mask[:, 27:] = True, True, True
    closed = close_mask(mask, 3.0, 1.0)
    assert closed[15, 10:14, 15].all()
    assert not closed[15, 20:26, 15].any()
    assert closed[mask].all()


def test_opening_removes_a_spur_and_keeps_the_ball_it_grows_on() -> None:
    ball = ball_mask(10.0, 1.0, 41)
    spurred = ball.copy()
    spurred[20, 20, 20:40] = True
    opened = open_mask(spurred, 2.0, 1.0)
    assert not opened[20, 20, 33:].any()
    assert (opened & ball).sum() > 0.97 * ball.sum()


@pytest.mark.parametrize("change", [close_mask, open_mask])
def test_nothing_stays_nothing(change: object) -> None:
    empty = np.zeros((5, 5, 5), dtype=bool)
    assert not change(empty, 2.0, 1.0).any()
    assert (signed_distance_mm(empty, 1.0) == FAR_MM).all()
    assert bounds(empty) == (slice(0, 0),) * 3


def test_a_tube_cut_by_the_end_of_the_scan_is_filled() -> None:
    ring = np.zeros((10, 20, 20), dtype=bool)
    ring[:, 5:15, 5:15] = True
    ring[:, 7:13, 7:13] = False
    assert fill_sections(ring)[0, 10, 10]


def test_distance_is_negative_inside_and_zero_at_the_surface() -> None:
    distance = signed_distance_mm(ball_mask(12.0, 1.5, 31), 1.5)
    assert distance[15, 15, 15] == pytest.approx(-12.0, abs=1.5)
    assert distance[15, 15, 15 + 12] == pytest.approx(6.0, abs=1.5)


def test_a_wide_plane_of_air_is_bridged_and_a_bubble_is_not() -> None:
    hu = np.full((40, 60, 60), 40.0, np.float32)
    hu[19:21] = -1000.0
    hu[8:10, 30:34, 30:34] = -1000.0
    bridged, gaps = bridge_air_gaps(WorkGrid(hu, 1.5, np.zeros(3)))
    assert (bridged[19:21] > 0).all()
    assert gaps[19:21].all()
    assert (bridged[8:10, 30:34, 30:34] == -1000.0).all()


def test_a_scan_without_gaps_is_returned_as_it_is() -> None:
    grid = WorkGrid(np.full((20, 20, 20), 40.0, np.float32), 1.5, np.zeros(3))
    bridged, gaps = bridge_air_gaps(grid)
    assert bridged is grid.hu
    assert not gaps.any()


def test_the_component_that_shares_most_with_the_seed_is_kept() -> None:
    mask = np.zeros((5, 5, 20), dtype=bool)
    mask[..., 2:6], mask[..., 10:18] = True, True
    seed = np.zeros_like(mask)
    seed[2, 2, 5], seed[2, 2, 10:14] = True, True
    kept = component_at(mask, seed)
    assert kept[2, 2, 12]
    assert not kept[2, 2, 4]
