"""From masks to surfaces and tetrahedra: true volumes and places, and masks that are refused."""

import sys

import numpy as np
import pytest

from fe.errors import BadMask, BadMesh, BadSpacing, EmptyMask, MissingTool, ModelTooLarge, TooThin
from fe.tetra.mesher import fill_surface, fill_triangles
from fe.tetra.quality import mesh_quality
from fe.tetra.surface import bone_surface
from fe.tetra.triangles import enclosed_mm3, is_closed, repaired

RADIUS_MM = 12.0
ROUGHNESS = 0.12
"""Standard deviation of a ball's radius, in voxels: 0.29 were staircases of voxels left as they are [1 / sqrt(12)]."""

CUBE = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1)], dtype=float)
CUBE_FACES = np.array(
    [
        [(0, 2, 3), (0, 3, 1), (4, 5, 7), (4, 7, 6), (0, 1, 5), (0, 5, 4)],
        [(2, 6, 7), (2, 7, 3), (0, 4, 6), (0, 6, 2), (1, 3, 7), (1, 7, 5)],
    ]
).reshape(-1, 3)


def ball(spacing_mm, radius_mm=RADIUS_MM, margin_mm=5.0):
    """A ball off the grid's middle; returns the mask and the centre, LPS mm."""
    sizes = [int(2 * (radius_mm + margin_mm) / s) for s in spacing_mm]
    centre = np.array([(n - 1) * s / 2 + 0.3 * s for n, s in zip(sizes, spacing_mm, strict=True)])
    at = np.stack(
        np.meshgrid(*(np.arange(n) * s for n, s in zip(sizes, spacing_mm, strict=True)), indexing="ij"), axis=-1
    )
    return np.linalg.norm(at - centre, axis=-1) < radius_mm, centre[::-1]


def two_balls_on_a_thread():
    one, _ = ball((1.0, 1.0, 1.0), 6.0, 3.0)
    mask = np.concatenate((one, one), axis=0)
    mask[:, one.shape[1] // 2, one.shape[2] // 2] = True
    return mask


@pytest.fixture(scope="module")
def surface():
    return bone_surface(ball((1.0, 1.0, 1.0))[0], (1.0, 1.0, 1.0), 2.5)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 1.5, 2.0)], ids=str)
@pytest.mark.parametrize("edge_mm", [1.5, 3.0])
def test_a_ball_becomes_a_ball_whatever_the_spacing(spacing_mm, edge_mm):
    mask, centre = ball(spacing_mm)
    found = bone_surface(mask, spacing_mm, edge_mm)
    distance = np.linalg.norm(found.points_mm - centre, axis=1)
    sagitta = edge_mm**2 / (8 * RADIUS_MM)  # vertices stand out by this where flat triangles keep a ball's volume
    assert is_closed(found.triangles)
    assert found.volume_mm3 == pytest.approx(mask.sum() * np.prod(spacing_mm), rel=1e-5)
    assert distance.mean() == pytest.approx(RADIUS_MM, abs=sagitta + 0.05 * max(spacing_mm))
    assert distance.std() < ROUGHNESS * np.cbrt(np.prod(spacing_mm))
    assert found.edge_mm == pytest.approx(edge_mm, rel=0.1)
    assert found.mean_distance_mm < 0.25 * max(spacing_mm)
    assert found.mean_distance_mm < found.distance95_mm <= found.max_distance_mm < max(spacing_mm)


def test_the_surface_turns_outwards_and_follows_the_mask_in_space(surface):
    assert enclosed_mm3(surface.points_mm, surface.triangles) > 0
    mask, _ = ball((1.0, 1.0, 1.0))
    moved = bone_surface(np.pad(mask, ((7, 0), (2, 0), (4, 0))), (1.0, 1.0, 1.0), 2.5)
    np.testing.assert_allclose(moved.points_mm, surface.points_mm + np.array((4, 2, 7)), atol=1e-9)


def test_the_same_mask_gives_the_same_surface(surface):
    again = bone_surface(ball((1.0, 1.0, 1.0))[0], (1.0, 1.0, 1.0), 2.5)
    np.testing.assert_array_equal(again.points_mm, surface.points_mm)


def test_a_mask_at_the_edge_of_the_scan_is_closed_there():
    mask = np.zeros((20, 16, 16), dtype=bool)
    mask[:, 4:12, 4:12] = True
    found = bone_surface(mask, (1.0, 1.0, 1.0), 2.0)
    assert is_closed(found.triangles)
    assert found.volume_mm3 == pytest.approx(20 * 64, rel=1e-5)
    assert found.points_mm[:, 2].min() == pytest.approx(-0.5, abs=0.3)
    assert found.points_mm[:, 2].max() == pytest.approx(19.5, abs=0.3)


def test_cavities_are_closed_and_islands_dropped_and_both_are_counted(surface):
    mask, _ = ball((1.0, 1.0, 1.0))
    mask[16:18, 15:18, 16] = False
    mask[5:7, 5:7, 5:8] = True  # in the corner of the ball's box
    mask[-1, -1, -1] = True
    found = bone_surface(mask, (1.0, 1.0, 1.0), 2.5)
    assert (found.islands, found.dropped_voxels, found.filled_voxels) == (2, 13, 6)
    np.testing.assert_array_equal(found.points_mm, surface.points_mm)


@pytest.mark.parametrize(
    ("mask", "spacing_mm", "edge_mm", "error"),
    [
        (np.zeros((5, 5, 5), dtype=bool), (1.0,) * 3, 1.0, EmptyMask),
        (np.ones((5, 5, 5), dtype=np.uint8), (1.0,) * 3, 1.0, BadMask),
        (np.ones((5, 5), dtype=bool), (1.0,) * 3, 1.0, BadMask),
        (np.ones((5, 5, 5), dtype=bool), (1.0, 0.0, 1.0), 1.0, BadSpacing),
        (np.ones((5, 5, 5), dtype=bool), (1.0,) * 3, np.nan, BadSpacing),
        (np.ones((3, 30, 30), dtype=bool), (1.0,) * 3, 4.0, TooThin),
        (two_balls_on_a_thread(), (1.0,) * 3, 2.0, TooThin),
    ],
)
def test_what_cannot_be_a_bone_is_refused(mask, spacing_mm, edge_mm, error):
    with pytest.raises(error):
        bone_surface(mask, spacing_mm, edge_mm)


def test_tetrahedra_fill_the_surface_with_the_edge_asked_for(surface):
    quality = mesh_quality(fill_surface(surface))
    assert quality.volume_mm3 == pytest.approx(surface.volume_mm3, rel=1e-6)
    assert quality.mean_edge_mm == pytest.approx(2.5, rel=0.1)
    assert quality.mean_min_dihedral_deg > 40
    assert quality.mean_radius_ratio > 0.75
    assert quality.min_scaled_jacobian == pytest.approx(1)


def test_larger_elements_inside_leave_the_surface_as_it_is(surface):
    fine, coarse = fill_surface(surface), fill_surface(surface, 6.0)
    assert coarse.element_count < 0.6 * fine.element_count
    np.testing.assert_array_equal(coarse.nodes_mm[: len(surface.points_mm)], surface.points_mm)
    with pytest.raises(BadSpacing):
        fill_surface(surface, -1.0)


def test_a_mesh_beyond_the_memory_limit_is_refused_before_it_is_made(surface):
    with pytest.raises(ModelTooLarge) as caught:
        fill_surface(surface, 0.05)
    assert caught.value.needed_bytes > caught.value.limit_bytes


def test_open_or_inverted_triangles_are_refused():
    for triangles in (CUBE_FACES[1:], CUBE_FACES[:, ::-1]):
        with pytest.raises(BadMesh, match="closed"):
            fill_triangles(CUBE, triangles, 0.5)


def test_a_hole_in_a_surface_is_mended():
    pytest.importorskip("pymeshfix")
    assert not is_closed(CUBE_FACES[1:])
    points, triangles = repaired(CUBE, CUBE_FACES[1:])
    assert is_closed(triangles)
    assert enclosed_mm3(points, triangles) == pytest.approx(1)


@pytest.mark.parametrize("missing", ["tetgen", "pyacvd", "pyvista", "pymeshfix"])
def test_a_missing_library_says_how_to_install_it(surface, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)  # makes its import fail
    calls = {
        "tetgen": lambda: fill_surface(surface),
        "pymeshfix": lambda: repaired(CUBE, CUBE_FACES[1:]),
    }
    with pytest.raises(MissingTool, match="pip install"):
        calls.get(missing, lambda: bone_surface(ball((1.0,) * 3)[0], (1.0,) * 3, 3.0))()
