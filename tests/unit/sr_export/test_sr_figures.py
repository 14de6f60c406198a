"""Pictures: head up, patient's right on the left side, the plane that shows the bones."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from sr_export.figures import Layer, best_plane, draw_regions, draw_strain
from sr_export.polar import Direction, Fan, draw_directions, plot_directions

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
    rgb = draw_strain(risk, (2.0, 2.0, 2.0), (31, 9, 7)).astype(int)
    orange = (rgb[..., 0] > 200) & (rgb[..., 2] < 170) & (rgb[..., 1] > 120)
    rows, columns = np.nonzero(orange[: int(rgb.shape[0] * 0.7)])
    assert columns.mean() < rgb.shape[1] / 2
    assert rows.mean() < rgb.shape[0] / 2


def test_a_place_that_fails_behind_is_seen_as_well():
    risk = np.full((20, 10, 20), 0.2, np.float32)
    behind = risk.copy()
    behind[8:12, 9, 8:12] = 1.0
    in_front = risk.copy()
    in_front[8:12, 0, 8:12] = 1.0
    seen = draw_strain(behind, (2.0, 2.0, 2.0), None)
    assert np.array_equal(seen, draw_strain(in_front, (2.0, 2.0, 2.0), None))
    assert (seen != draw_strain(risk, (2.0, 2.0, 2.0), None)).any()


def test_a_failure_without_a_known_place_is_drawn_without_a_ring():
    risk = np.full((10, 10, 10), 0.5, np.float32)
    ringed = draw_strain(risk, (2.0, 2.0, 2.0), (5, 5, 5))
    plain = draw_strain(risk, (2.0, 2.0, 2.0), None)
    assert ringed.shape == plain.shape
    assert (ringed != plain).any()


def fan(count=7, tilts=(0.0, 10.0, 20.0, 30.0)):
    """Falls whose strength drops with turn and tilt, in no order; the weakest is the last of both."""
    turns = np.linspace(-30, 30, count)
    found = [Direction(turn, tilt, 4000.0 - 10 * turn - 20 * tilt) for turn in turns for tilt in tilts]
    return tuple(found[::-1][::2] + found[::-1][1::2])


def polar_axes():
    return Figure().add_subplot(projection="polar")


def test_every_direction_is_plotted_at_its_turn_and_strength():
    axes = polar_axes()
    plot_directions(axes, fan(), 9)
    *lines, ring = axes.get_lines()
    plotted = {
        (round(np.degrees(angle)), float(line.get_label().rstrip("\N{DEGREE SIGN}")), round(load * 1000))
        for line in lines
        for angle, load in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert plotted == {(round(one.turn_deg), one.tilt_deg, round(one.load_n)) for one in fan()}
    assert (np.degrees(ring.get_xdata()[0]), ring.get_ydata()[0]) == pytest.approx((30.0, 3.1))


def test_lines_differ_in_marker_and_in_dash_so_that_colour_is_not_needed():
    axes = polar_axes()
    plot_directions(axes, fan(tilts=tuple(range(0, 60, 10))), 9)
    *lines, _ = axes.get_lines()
    assert len({line.get_marker() for line in lines}) == len({str(line._unscaled_dash_pattern) for line in lines}) == 6


def test_numbers_of_narrow_turns_are_not_written_over_one_another():
    axes = polar_axes()
    plot_directions(axes, [Direction(turn, 3.0, 5000.0) for turn in (-3.0, 4.0, 11.0, 18.0)], 9)
    assert [round(np.degrees(tick)) for tick in axes.get_xticks()] == [-3, 11]


def test_posterior_lies_on_the_right_and_strength_grows_from_the_tip():
    axes = polar_axes()
    plot_directions(axes, fan(), 9)
    tip, strong, posterior = (axes.transData.transform(at) for at in ((0, 0), (0, 3.0), (np.radians(30), 3.0)))
    assert strong[1] > tip[1]
    assert posterior[0] > strong[0]


def test_two_fans_lie_side_by_side():
    one, two = Fan("28 falls", fan(), "towards proximal"), Fan("16 stances", fan(4), "towards lateral")
    single, double = draw_directions((one,)), draw_directions((one, two))
    assert double.shape == (single.shape[0], 2 * single.shape[1], 3)
    assert (single != 255).any()
