"""Pictures: head up, patient's right on the left side, the plane that shows the bones."""

import numpy as np

from sr_export.figures import Layer, best_plane, draw_regions, draw_strain

SPACING_MM = (3.0, 2.0, 1.5)


def body():
    """Air with one bright block at the head end, the back, and the patient's right (low columns)."""
    hu = np.full((60, 80, 100), -1000, np.float32)
    hu[40:55, 50:70, 8:25] = 1000
    return hu


def brightest_quarter(rgb):
    grey = rgb.astype(float).mean(axis=2)
    rows, columns = grey.shape
    quarters = {
        ("top", "left"): grey[: rows // 2, : columns // 2],
        ("top", "right"): grey[: rows // 2, columns // 2 :],
        ("bottom", "left"): grey[rows // 2 :, : columns // 2],
        ("bottom", "right"): grey[rows // 2 :, columns // 2 :],
    }
    return max(quarters, key=lambda key: quarters[key].mean())


def test_the_head_is_up_and_the_patients_right_is_on_the_left():
    assert brightest_quarter(draw_regions(body(), (), SPACING_MM, "coronal", 60)) == ("top", "left")


def test_the_back_is_on_the_right_of_a_sagittal_picture():
    assert brightest_quarter(draw_regions(body(), (), SPACING_MM, "sagittal", 15)) == ("top", "right")


def test_a_picture_keeps_the_patients_proportions():
    rgb = draw_regions(body(), (), SPACING_MM, "coronal", 60)
    assert abs(rgb.shape[1] / rgb.shape[0] - (100 * 1.5) / (60 * 3.0)) < 0.01


def test_the_plane_shown_is_the_one_that_shows_every_bone():
    first, second = np.zeros((2, 20, 30, 40), bool)
    first[5:10, 4:20, 3:9] = True
    second[5:10, 16:29, 30:33] = True
    assert 16 <= best_plane((first, second), 1) < 20


def test_an_outlined_region_is_coloured_and_the_rest_is_grey():
    mask = np.zeros(body().shape, bool)
    mask[42:53, 52:68, 10:23] = True
    plain = draw_regions(body(), (Layer("", np.zeros_like(mask)),), SPACING_MM, "coronal", 60).astype(int)
    outlined = draw_regions(body(), (Layer("R", mask),), SPACING_MM, "coronal", 60).astype(int)
    assert np.ptp(plain, axis=2).max() == 0
    assert (np.ptp(outlined, axis=2) > 40).any()


def test_nothing_segmented_still_gives_a_picture():
    assert draw_regions(body(), (), SPACING_MM).dtype == np.uint8


def test_the_failing_point_is_bright_and_on_its_side():
    risk = np.full((40, 20, 30), np.nan, np.float32)
    risk[5:35, 5:15, 4:26] = 0.1
    risk[28:34, 5, 5:9] = 1.0
    rgb = draw_strain(risk, (2.0, 2.0, 2.0), (31, 9, 7), "R", "fall").astype(int)
    orange = (rgb[..., 0] > 200) & (rgb[..., 2] < 170) & (rgb[..., 1] > 120)
    rows, columns = np.nonzero(orange[: int(rgb.shape[0] * 0.7)])
    assert columns.mean() < rgb.shape[1] / 2
    assert rows.mean() < rgb.shape[0] / 2


def test_the_picture_shows_the_front_surface_and_not_what_lies_behind():
    risk = np.full((20, 10, 20), 0.2, np.float32)
    behind = risk.copy()
    behind[:, 5:] = 1.0
    assert np.array_equal(
        draw_strain(risk, (2.0, 2.0, 2.0), None, "R", "fall"), draw_strain(behind, (2.0, 2.0, 2.0), None, "R", "fall")
    )


def test_a_failure_without_a_known_place_is_drawn_without_a_ring():
    risk = np.full((10, 10, 10), 0.5, np.float32)
    ringed = draw_strain(risk, (2.0, 2.0, 2.0), (5, 5, 5), "L", "stance")
    plain = draw_strain(risk, (2.0, 2.0, 2.0), None, "L", "stance")
    assert ringed.shape == plain.shape
    assert (ringed != plain).any()
