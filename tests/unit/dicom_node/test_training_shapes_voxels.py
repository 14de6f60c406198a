"""Surfaces to voxels, depths, cortex shares and random fields against closed forms."""

from functools import cache

import numpy as np
import pytest

from dicom_node.training.shapes.fields import smooth_field
from dicom_node.training.shapes.interior import cortex_share, depths
from dicom_node.training.shapes.model import Surface, fitted_sphere, vertex_normals
from dicom_node.training.shapes.voxels import Grid, inside, tube_value

RADIUS_MM = 20.0
CENTRE_MM = np.array([3.0, -2.0, 5.0])


@cache
def ball(radius_mm: float = RADIUS_MM, rings: int = 40) -> Surface:
    """Return a ball of longitudes and latitudes, its normals outwards."""
    polar = np.linspace(0, np.pi, rings + 1)
    around = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    ring = np.stack([np.cos(around), np.sin(around)], axis=1)
    points = [np.array([[0, 0, 1.0]])]
    points += [np.column_stack([np.sin(p) * ring, np.full(len(ring), np.cos(p))]) for p in polar[1:-1]]
    points.append(np.array([[0, 0, -1.0]]))
    count = len(ring)
    triangles = []
    for k in range(count):
        n = (k + 1) % count
        triangles.append((0, 1 + k, 1 + n))
        for r in range(rings - 2):
            a, b = 1 + r * count, 1 + (r + 1) * count
            triangles += [(a + k, b + k, b + n), (a + k, b + n, a + n)]
        last = 1 + (rings - 2) * count
        triangles.append((last + k, last + count, last + n))
    return Surface(np.concatenate(points) * radius_mm + CENTRE_MM, np.array(triangles))


GRID = Grid((40, 44, 48), (1.5, 1.25, 1.0), (-22.0, -27.0, -21.0))


def filled(surface: Surface, grid: Grid = GRID) -> np.ndarray:
    volume = np.zeros(grid.shape, dtype=bool)
    mask, box = inside(surface, grid)
    volume[box] = mask
    return volume


def radii_mm(grid: Grid = GRID) -> np.ndarray:
    z, y, x = grid.axes_mm()
    return np.sqrt((x - CENTRE_MM[0]) ** 2 + (y - CENTRE_MM[1]) ** 2 + (z - CENTRE_MM[2]) ** 2)


def test_a_voxel_is_inside_when_its_centre_is():
    facet_mm = RADIUS_MM * (1 - np.cos(np.pi / 40))  # how far the facets cut into the ball
    volume, radius = filled(ball()), radii_mm()
    assert volume[radius < RADIUS_MM - 2 * facet_mm].all()
    assert not volume[radius > RADIUS_MM].any()


def test_a_surface_through_voxel_centres_neither_leaks_nor_loses_rays():
    box = Surface(
        np.array([(x, y, z) for z in (0.0, 4.0) for y in (0.0, 4.0) for x in (0.0, 4.0)]),
        np.array([(0, 2, 1), (1, 2, 3), (4, 5, 6), (5, 7, 6), (0, 1, 4), (1, 5, 4), (2, 6, 3), (3, 6, 7), (0, 4, 2),
                  (2, 4, 6), (1, 3, 5), (3, 7, 5)]),
    )  # fmt: skip
    volume = filled(box, Grid((9, 9, 9), (1.0, 1.0, 1.0), (-2.0, -2.0, -2.0)))
    assert volume.sum() == 4**3
    assert volume[3:6, 3:6, 3:6].all()


def test_a_surface_partly_out_of_the_grid_is_cut_there():
    whole = filled(ball())
    part = filled(ball(), Grid((20, 44, 30), GRID.spacing_mm, GRID.origin_mm))
    np.testing.assert_array_equal(part, whole[:20, :, :30])


def test_a_grid_that_begins_within_a_surface_knows_that_it_is_inside():
    z, y, x = GRID.origin_mm
    later = Grid((20, 44, 48), GRID.spacing_mm, (z + 20 * 1.5, y, x))
    np.testing.assert_array_equal(filled(ball(), later), filled(ball())[20:])


@pytest.mark.parametrize("away", [(500.0, 0, 0), (0, -500.0, 0), (0, 0, 500.0)])
def test_a_surface_out_of_the_grid_fills_nothing(away):
    surface = ball()
    assert not filled(surface.moved(surface.points_mm + away)).any()


def test_columns_grow_to_the_left_rows_to_the_back_and_slices_to_the_head():
    index = GRID.indices(np.array([[-21.0 + 3.0, -27.0 + 2.5, -22.0 + 1.5]]))
    np.testing.assert_allclose(index, [[1, 2, 3]])


def test_the_depth_in_a_ball_is_radius_less_distance():
    points = CENTRE_MM + np.random.default_rng(1).normal(0, 6, (500, 3))
    distance = np.linalg.norm(points - CENTRE_MM, axis=1)
    points, distance = points[distance < RADIUS_MM - 0.5], distance[distance < RADIUS_MM - 0.5]
    sample_mm = 1.5  # half the diagonal of the ball's facets: no sample is farther from the nearest surface point
    np.testing.assert_allclose(depths(ball(), points), RADIUS_MM - distance, atol=sample_mm**2 / 2 / 4)


def test_cortex_shares_of_voxels_across_a_wall_add_up_to_its_thickness():
    voxel_mm, shift = 3.0, np.linspace(0, 3, 301)[:-1]
    for thickness_mm in (0.5, 1.5, 4.0, 6.5):
        total = np.zeros(len(shift))
        for k in range(8):
            depth = (k + 0.5) * voxel_mm - shift + 0.0
            within = depth + voxel_mm / 2 > 0
            part = np.minimum(voxel_mm, depth + voxel_mm / 2)
            total += np.where(within, cortex_share(depth, np.full(len(shift), thickness_mm), voxel_mm) * part, 0)
        np.testing.assert_allclose(total, thickness_mm, rtol=1e-9)


def test_a_sphere_is_found_from_a_part_of_its_surface():
    points = ball().points_mm
    found = fitted_sphere(points[points[:, 2] > CENTRE_MM[2] + 5])
    np.testing.assert_allclose(found.centre_mm, CENTRE_MM, atol=1e-9)
    assert found.radius_mm == pytest.approx(RADIUS_MM)


def test_normals_of_a_ball_look_away_from_its_middle():
    surface = ball()
    outwards = (surface.points_mm - CENTRE_MM) / RADIUS_MM
    assert np.einsum("ij,ij->i", vertex_normals(surface), outwards).min() > 0.999


def test_a_tubes_value_is_the_distance_to_its_line():
    line = np.array([[0.0, 0, -10], [0, 0, 0], [10, 0, 0]])
    grid = Grid((9, 5, 9), (2.0, 2.0, 2.0), (-8.0, -4.0, -2.0))
    value = tube_value(line, 1.5, grid, (slice(0, 9), slice(0, 5), slice(0, 9)))
    z, y, x = grid.axes_mm()
    first = np.sqrt(x**2 + y**2 + np.clip(z, 0, None) ** 2)
    second = np.sqrt(np.clip(-x, 0, None) ** 2 + np.clip(x - 10, 0, None) ** 2 + y**2 + z**2)
    np.testing.assert_allclose(value, np.minimum(first, second) - 1.5, atol=1e-5)


def test_a_smooth_field_has_unit_spread_and_changes_over_its_length():
    length_mm, spacing_mm = 12.0, 2.0
    field = smooth_field(np.random.default_rng(0), (96, 96, 96), (spacing_mm,) * 3, length_mm)
    assert abs(field.std() - 1) < 0.05
    near = np.corrcoef(field[1:].ravel(), field[:-1].ravel())[0, 1]
    far = np.corrcoef(field[24:].ravel(), field[:-24].ravel())[0, 1]
    assert near > 0.9
    assert abs(far) < 0.1
