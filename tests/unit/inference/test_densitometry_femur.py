"""A made femur is measured in its neck, on its own side, and says so when it is not."""

import numpy as np
import pytest
from bone_phantoms import make_femur
from test_densitometry_vertebra import RECORD

from inference.densitometry import measure_density
from inference.femoral_neck import find_head, find_neck
from inference.labels import BY_KEY

HEAD_TOLERANCE_MM = 2.0
"""About one voxel of the made femur."""


@pytest.mark.parametrize(("side", "key"), [(1, "femur_right"), (-1, "femur_left")])
def test_the_neck_of_either_side_is_measured_where_it_is(side: int, key: str) -> None:
    volume, mask = make_femur(side=side, neck_hu=250.0)
    (density, *_), flags = measure_density(volume, (mask * BY_KEY[key].value).astype(np.uint8), RECORD)
    assert (density.structure, density.region) == (key, "femoral_neck")
    assert "turned_patient" not in {flag.code for flag in flags}
    assert density.hu_mean == pytest.approx(250.0, rel=0.03)
    assert density.voi_mask.sum() * 1.5**3 == pytest.approx(np.pi * 16**2 * 15, rel=0.15)


@pytest.mark.parametrize("side", [1, -1])
def test_head_and_axis_are_those_the_femur_was_made_with(side: int) -> None:
    volume, mask = make_femur(side=side)
    head = find_head(volume, mask)
    assert head is not None
    neck = find_neck(volume, mask, head)
    assert neck is not None
    assert head.radius_mm == pytest.approx(24.0, abs=HEAD_TOLERANCE_MM)
    assert neck.axis @ np.array([-side * 0.768, 0.0, -0.64]) > np.cos(np.radians(5.0))


def test_a_scan_that_ends_in_the_neck_gives_the_proximal_femur_and_says_so() -> None:
    volume, mask = make_femur(below_head_mm=30.0)
    (density,), (flag,) = measure_density(volume, mask.astype(np.uint8), RECORD)
    assert density.region == "proximal_femur"
    assert np.array_equal(density.voi_mask, mask)
    assert (flag.code, flag.subject) == ("neck_not_whole", "femur_right")


def test_a_longer_shaft_does_not_change_the_neck() -> None:
    values = []
    for below_head_mm in (90.0, 150.0):
        volume, mask = make_femur(below_head_mm=below_head_mm)
        (density, *_), _ = measure_density(volume, mask.astype(np.uint8), RECORD)
        values.append(density.vbmd_mg_per_cm3)
    assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_a_mask_without_a_head_gives_no_number() -> None:
    volume, mask = make_femur()
    mask[20:] = False  # the shaft alone
    densities, (flag,) = measure_density(volume, mask.astype(np.uint8), RECORD)
    assert densities == ()
    assert (flag.code, flag.definition.forbids_density) == ("bone_not_separated", True)
