"""segment_hips on a pelvis with known bones, and on real scans."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hip_phantom import Phantom, hip_phantom
from numpy.typing import NDArray
from scipy import ndimage

from inference.femur import find_femoral_head, segment_hips
from inference.labels import BY_KEY
from inference.volume import Volume, canonical

FEMUR_DICE = 0.97
"""A shell of half a voxel of 3 mm around a phantom femur is 6 % of it; the surface must be nearer than half that."""
HIP_DICE = 0.93
"""The same for the thinner hip bone, whose symphysis side the phantom leaves open."""

Labels = NDArray[np.uint8]


def value(key: str) -> int:
    return BY_KEY[key].value


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def codes(flags: tuple[Any, ...]) -> set[tuple[str, str]]:
    return {(flag.code, flag.subject) for flag in flags}


WHOLE = slice(None)


def crop(phantom: Phantom, slices: slice = WHOLE, rows: slice = WHOLE, columns: slice = WHOLE) -> Phantom:
    """Return the part of a phantom that a smaller scan would show."""
    volume, box = phantom.volume, (slices, rows, columns)
    start = np.array([*(span.start or 0 for span in box), 0])
    affine = volume.affine_lps.copy()
    affine[:3, 3] += volume.affine_lps[:3, :] @ start
    return Phantom(replace(volume, hu=volume.hu[box], affine_lps=affine), phantom.labels[box])


def with_hu(phantom: Phantom, hu: NDArray[np.floating[Any]]) -> Volume:
    return replace(phantom.volume, hu=hu.astype(np.float32))


@pytest.fixture(scope="module")
def pelvis() -> Phantom:
    return hip_phantom(3.0)


@pytest.fixture(scope="module")
def right_half(pelvis: Phantom) -> Phantom:
    """A scan that shows little more than the right hip."""
    return crop(pelvis, slice(0, 62), slice(20, 70), slice(10, 66))


@pytest.fixture(scope="module")
def found(pelvis: Phantom) -> tuple[Labels, tuple[Any, ...]]:
    return segment_hips(pelvis.volume)


@pytest.fixture(scope="module")
def found_right(right_half: Phantom) -> tuple[Labels, tuple[Any, ...]]:
    return segment_hips(right_half.volume)


def index_of(volume: Volume, xyz_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    z, y, x = np.rint(np.linalg.inv(volume.affine_lps) @ np.array([*xyz_mm, 1.0]))[:3].astype(int)
    return int(z), int(y), int(x)


@pytest.mark.parametrize(
    ("key", "least"),
    [
        ("femur_right", FEMUR_DICE),
        ("femur_left", FEMUR_DICE),
        ("hip_right", HIP_DICE),
        ("hip_left", HIP_DICE),
    ],
)
def test_each_bone_of_a_pelvis_is_found_where_it_is(
    pelvis: Phantom, found: tuple[Labels, tuple[Any, ...]], key: str, least: float
) -> None:
    assert dice(found[0] == value(key), pelvis.labels == value(key)) > least


def test_a_whole_pelvis_raises_no_flag_and_nothing_but_its_bones_is_labelled(
    pelvis: Phantom, found: tuple[Labels, tuple[Any, ...]]
) -> None:
    labels, flags = found
    assert flags == ()
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    assert not labels[pelvis.volume.hu < -500].any()


def test_right_is_the_side_of_negative_x(pelvis: Phantom, found: tuple[Labels, tuple[Any, ...]]) -> None:
    assert found[0][index_of(pelvis.volume, (-85.0, 0.0, 0.0))] == value("femur_right")
    assert found[0][index_of(pelvis.volume, (85.0, 0.0, 0.0))] == value("femur_left")


def test_marrow_belongs_to_the_femur(pelvis: Phantom, found: tuple[Labels, tuple[Any, ...]]) -> None:
    shaft_axis = index_of(pelvis.volume, (-85.0 - 49.0, 5.0, -95.0))
    assert pelvis.volume.hu[shaft_axis] < 0
    assert found[0][shaft_axis] == value("femur_right")


def test_each_femur_is_one_piece(found: tuple[Labels, tuple[Any, ...]]) -> None:
    for key in ("femur_right", "femur_left"):
        assert ndimage.label(found[0] == value(key))[1] == 1


def test_the_same_scan_gives_the_same_labels(right_half: Phantom, found_right: tuple[Labels, tuple[Any, ...]]) -> None:
    labels, flags = segment_hips(right_half.volume)
    np.testing.assert_array_equal(labels, found_right[0])
    assert flags == found_right[1]


def test_a_scan_of_the_right_hip_labels_the_right_and_misses_the_left(
    right_half: Phantom, found_right: tuple[Labels, tuple[Any, ...]]
) -> None:
    labels, flags = found_right
    right = value("femur_right")
    assert dice(labels == right, right_half.labels == right) > FEMUR_DICE
    assert codes(flags) == {("not_found", "femur_left")}
    assert not np.isin(labels, [value("femur_left"), value("hip_left")]).any()


def test_the_mirror_image_of_a_right_hip_is_a_left_hip(right_half: Phantom) -> None:
    labels, flags = segment_hips(with_hu(right_half, right_half.volume.hu[:, :, ::-1]))
    truth = right_half.labels[:, :, ::-1] == value("femur_right")
    assert dice(labels == value("femur_left"), truth) > FEMUR_DICE
    assert codes(flags) == {("not_found", "femur_right")}
    assert not np.isin(labels, [value("femur_right"), value("hip_right")]).any()


@pytest.mark.parametrize(
    ("lowest_mm", "code", "evidence"),
    [
        (-26.0, "truncated_bone", {"below_head_mm"}),
        (-5.0, "truncated_bone", {"head_outside_mm"}),
        (10.0, "not_found", set()),
    ],
    ids=["neck", "lower half of the head", "all but the top of the head"],
)
def test_a_femur_cut_by_the_lower_end_of_the_scan_is_flagged_and_not_labelled(
    right_half: Phantom, lowest_mm: float, code: str, evidence: set[str]
) -> None:
    first = index_of(right_half.volume, (-85.0, 0.0, lowest_mm))[0]
    labels, flags = segment_hips(crop(right_half, slices=slice(first, None)).volume)
    assert not labels.any()
    flag = next(flag for flag in flags if flag.subject == "femur_right")
    assert (flag.code, {name for name, _ in flag.evidence}) == (code, evidence)


def test_a_scan_that_ends_at_the_lesser_trochanter_is_labelled_with_a_short_shaft(right_half: Phantom) -> None:
    first = index_of(right_half.volume, (-85.0, 0.0, -50.0))[0]
    labels, flags = segment_hips(crop(right_half, slices=slice(first, None)).volume)
    assert (labels == value("femur_right")).any()
    assert ("short_shaft", "femur_right") in codes(flags)


def test_a_femur_cut_by_the_side_of_the_scan_is_flagged_and_not_labelled(pelvis: Phantom) -> None:
    first = index_of(pelvis.volume, (-130.0, 0.0, 0.0))[2]
    labels, flags = segment_hips(crop(pelvis, slice(0, 62), slice(20, 70), slice(first, 66)).volume)
    assert ("truncated_bone", "femur_right") in codes(flags)
    assert not labels.any()


def test_a_ball_in_a_cup_without_a_neck_is_not_a_femur() -> None:
    lone = crop(hip_phantom(3.0, ("right",), ()), slice(0, 62), slice(20, 70), slice(10, 66))
    labels, flags = segment_hips(lone.volume)
    assert not labels.any()
    assert ("not_found", "femur_right") in codes(flags)


def test_a_femur_bridged_to_the_hip_bone_is_flagged_and_not_labelled() -> None:
    bridged = crop(hip_phantom(3.0, ("right",), bridge_radius_mm=12.0), slice(0, 62), slice(20, 70), slice(10, 66))
    labels, flags = segment_hips(bridged.volume)
    assert codes(flags) == {("not_found", "femur_left"), ("bone_not_separated", "femur_right")}
    assert not labels.any()


def test_a_nail_raises_the_metal_flag_with_about_its_volume(right_half: Phantom) -> None:
    hu = right_half.volume.hu.copy()
    z, y, x = index_of(right_half.volume, (-85.0 - 47.0, 5.0, -70.0))
    hu[z - 8 : z + 8, y - 1 : y + 2, x - 1 : x + 2] = 3071.0
    flag = next(flag for flag in segment_hips(with_hu(right_half, hu))[1] if flag.code == "metal")
    assert flag.subject == "femur_right"
    assert dict(flag.evidence)["metal_volume_mm3"] == pytest.approx(16 * 9 * 27, rel=0.5)


def test_planes_of_air_between_slabs_leave_a_femur_in_one_piece(right_half: Phantom) -> None:
    hu = right_half.volume.hu.copy()
    hu[7::9] = -1000.0
    labels, flags = segment_hips(with_hu(right_half, hu))
    femur = labels == value("femur_right")
    assert ndimage.label(femur)[1] == 1
    assert dice(femur, right_half.labels == value("femur_right")) > 0.9
    assert codes(flags) == {("not_found", "femur_left")}


def skull() -> NDArray[np.float32]:
    z, y, x = np.meshgrid(*(np.arange(-99.0, 100.0, 3.0),) * 3, indexing="ij")
    distance = np.sqrt(x * x + y * y + z * z)
    return np.select([distance < 80, distance < 88, distance < 92], [40, 1000, 50], -1000).astype(np.float32)


@pytest.mark.parametrize(
    "hu",
    [
        np.full((40, 64, 64), -1000.0, np.float32),
        np.full((3, 64, 64), 40.0, np.float32),
        np.full((1, 1, 1), 300.0, np.float32),
        np.full((30, 40, 40), 300.0, np.float32),
        skull(),
    ],
    ids=["air", "three slices", "one voxel", "solid bone", "hollow sphere"],
)
def test_a_scan_without_hips_gives_no_labels_and_says_so(hu: NDArray[np.float32]) -> None:
    affine = np.array([[0, 0, 3.0, 0], [0, 3.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    labels, flags = segment_hips(Volume(hu, affine))
    assert not labels.any()
    assert labels.shape == hu.shape
    assert codes(flags) == {("not_found", "femur_right"), ("not_found", "femur_left")}


@pytest.mark.real_data
def test_the_right_femur_of_a_patient_agrees_with_the_reference(patient_ct: tuple[Volume, NDArray[Any]]) -> None:
    volume, reference = patient_ct
    turned, orientation = canonical(volume)
    labels, flags = segment_hips(turned)
    restored = orientation.restore(labels)
    assert dice(restored == value("femur_right"), reference == 76) > 0.92
    assert dice(restored == value("hip_right"), reference == 78) > 0.90
    assert dice(restored == value("hip_left"), reference == 77) > 0.88
    assert not (restored[reference == 75] == value("femur_right")).any()
    assert ("metal", "femur_left") in codes(flags)
    assert ("short_shaft", "femur_right") in codes(flags)


@pytest.mark.real_data
def test_both_heads_of_the_alderson_phantom_lie_in_the_femur_of_their_side(
    alderson: tuple[Volume, dict[str, Any]],
) -> None:
    volume, heads = alderson
    turned, _ = canonical(volume)
    labels, _ = segment_hips(turned)
    for side, centroid in heads.items():
        femur = labels == value(f"femur_{side}")
        assert femur[index_of(turned, tuple(centroid))]
        assert ndimage.label(femur)[1] == 1
        centre, _ = find_femoral_head(turned, femur)
        assert np.linalg.norm(np.subtract(centre, centroid)) < 5.0


@pytest.mark.real_data
def test_a_chest_has_no_hips(chest_ct: tuple[Volume, NDArray[Any]]) -> None:
    turned, _ = canonical(chest_ct[0])
    labels, flags = segment_hips(turned)
    assert not labels.any()
    assert codes(flags) == {("not_found", "femur_right"), ("not_found", "femur_left")}
