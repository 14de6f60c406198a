"""Spheres: the fit itself, the search for femoral heads, and the head of a segmented femur."""

import numpy as np
import pytest
from hip_phantom import HEAD_RADIUS_MM, Phantom, hip_phantom
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import SegmentationError
from inference.femur import find_femoral_head
from inference.hip_joint import find_femoral_heads, fit_sphere, sphere_directions
from inference.labels import BY_KEY
from inference.morphology import work_grid
from inference.volume import Volume


@pytest.fixture(scope="module")
def pelvis() -> Phantom:
    return hip_phantom(3.0)


@given(centre=st.tuples(*[st.floats(-500, 500)] * 3), radius=st.floats(10, 40), seen=st.floats(0.3, 1.0))
@settings(max_examples=25, deadline=None)
def test_a_sphere_is_recovered_from_any_cap_of_its_surface(
    centre: tuple[float, float, float], radius: float, seen: float
) -> None:
    directions = sphere_directions(300)
    cap = directions[directions[:, 0] >= 1.0 - 2.0 * seen]
    fitted, fitted_radius = fit_sphere(np.array(centre) + radius * cap)
    np.testing.assert_allclose(fitted, centre, atol=1e-6)
    assert fitted_radius == pytest.approx(radius, abs=1e-6)


def test_a_fifth_of_stray_points_hardly_moves_the_sphere() -> None:
    directions = sphere_directions(300)
    points = 24.0 * directions
    points[::5] *= 1.5
    centre, radius = fit_sphere(points)
    assert np.linalg.norm(centre) < 0.5
    assert radius == pytest.approx(24.0, abs=0.3)


def test_directions_are_unit_vectors_without_a_preferred_side() -> None:
    directions = sphere_directions()
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    np.testing.assert_allclose(directions.mean(axis=0), 0.0, atol=0.005)


def test_both_heads_of_a_pelvis_are_found_on_their_side(pelvis: Phantom) -> None:
    right, left = find_femoral_heads(work_grid(pelvis.volume.hu, pelvis.volume.spacing_mm, 2.0))
    assert (right.side, left.side) == ("R", "L")
    for head, x_mm in ((right, -85.0), (left, 85.0)):
        z, y, x = head.centre_mm - np.array([120.0, 130.0, 200.0])
        np.testing.assert_allclose((x, y, z), (x_mm, 0.0, 0.0), atol=2.0)
        assert head.radius_mm == pytest.approx(HEAD_RADIUS_MM, abs=1.5)


@pytest.mark.parametrize(("key", "x_mm"), [("femur_right", -85.0), ("femur_left", 85.0)])
def test_the_head_of_a_segmented_femur_is_a_point_in_patient_coordinates(
    pelvis: Phantom, key: str, x_mm: float
) -> None:
    centre, radius = find_femoral_head(pelvis.volume, pelvis.labels == BY_KEY[key].value)
    np.testing.assert_allclose(centre, (x_mm, 0.0, 0.0), atol=0.5)
    assert radius == pytest.approx(HEAD_RADIUS_MM, abs=0.5)


def test_an_empty_mask_has_no_head(pelvis: Phantom) -> None:
    with pytest.raises(SegmentationError, match="empty"):
        find_femoral_head(pelvis.volume, np.zeros(pelvis.labels.shape, dtype=bool))


def test_a_thin_rod_has_no_head() -> None:
    mask = np.zeros((60, 20, 20), dtype=bool)
    mask[:, 8:12, 8:12] = True
    volume = Volume(np.zeros(mask.shape, np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(SegmentationError, match="radius"):
        find_femoral_head(volume, mask)
