"""The preparation of [Saillard2024]: halves, mirror, registration, resampling, and the way back."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from dicom_node.training.cases import Case
from dicom_node.training.saillard import femurs
from dicom_node.training.saillard.answer import cleaned
from dicom_node.training.saillard.configuration import configuration_from
from dicom_node.training.saillard.frame import (
    AIR_HU,
    HU_WINDOW,
    Frame,
    axis_aligned,
    brought_back,
    frame_around,
    frame_from_tensors,
    laid,
    laid_mask,
    normalised,
    resampled,
)
from dicom_node.training.saillard.halves import Side, body_middle, halves_of, shows_one_hip
from dicom_node.training.saillard.registration import LEAST_SIMILARITY, Pose, register
from dicom_node.training.saillard.task_3d import PUBLISHED
from inference.labels import BY_KEY
from inference.metrics import dice
from inference.volume import Box, Volume, crop
from tests.digital_femora import scan_of

VALUE: dict[Side, int] = {"right": BY_KEY["femur_right"].value, "left": BY_KEY["femur_left"].value}
STEP_MM = 4.0
LEAST_ROUND_TRIP = 0.98


@cache
def _scan(seed: int) -> tuple[Volume, NDArray[np.uint8]]:
    return scan_of(seed, STEP_MM)


@cache
def _frame() -> Frame:
    volume, labels = _scan(0)
    half = halves_of(volume)["right"]
    return frame_around(half, labels[half.box] == VALUE["right"], (3.0, 3.0, 3.0))


@cache
def _pose(seed: int, side: Side) -> Pose:
    return register(halves_of(_scan(seed)[0])[side], _frame())


def _mask(seed: int, side: Side) -> NDArray[np.bool_]:
    return _scan(seed)[1][halves_of(_scan(seed)[0])[side].box] == VALUE[side]


def _part(volume: Volume, slices: slice | None = None, columns: slice | None = None) -> Box:
    depth, height, width = volume.hu.shape
    return slices or slice(0, depth), slice(0, height), columns or slice(0, width)


def test_each_half_holds_its_own_femur_whole() -> None:
    volume, labels = _scan(1)
    for side, half in halves_of(volume).items():
        assert (labels[half.box] == VALUE[side]).sum() == (labels == VALUE[side]).sum()
        assert half.volume.hu.shape[2] < volume.hu.shape[2]
        assert half.volume.hu.base is not None


def test_the_middle_is_the_bodys_and_not_the_arrays() -> None:
    volume, _ = _scan(1)
    aside = replace(volume, hu=np.pad(volume.hu, ((0, 0), (0, 0), (20, 0)), constant_values=AIR_HU))
    assert body_middle(aside) == pytest.approx(body_middle(volume) + 20)
    assert body_middle(volume) == pytest.approx((volume.hu.shape[2] - 1) / 2, abs=2.0)
    empty = replace(volume, hu=np.full_like(volume.hu, AIR_HU))
    assert body_middle(empty) == pytest.approx((volume.hu.shape[2] - 1) / 2)


def test_a_narrow_scan_is_not_cut() -> None:
    volume, _ = _scan(1)
    narrow = crop(volume, _part(volume, columns=slice(0, 50)))
    assert shows_one_hip(narrow)
    assert not shows_one_hip(volume)
    assert all(half.volume.hu.shape == narrow.hu.shape for half in halves_of(narrow).values())


def test_a_left_femur_is_registered_to_a_right_one_and_comes_back_as_a_left_one() -> None:
    frame, half = _frame(), halves_of(_scan(2)[0])["left"]
    pose, mask = _pose(2, "left"), _mask(2, "left")
    assert not pose.reason
    assert np.linalg.det((pose.matrix @ frame.affine)[:3, :3]) * np.linalg.det(half.affine[:3, :3]) < 0
    on_frame = laid_mask(mask, half, pose.matrix, frame)
    assert dice(on_frame, frame.mask) > 0.8
    back = brought_back(on_frame.astype(np.float32), half, pose.matrix, frame)
    assert dice(back, mask) > LEAST_ROUND_TRIP


def test_a_mirror_that_is_lost_is_seen() -> None:
    frame, half = _frame(), halves_of(_scan(2)[0])["left"]
    unmirrored = replace(half, side="right")
    assert np.array_equal(unmirrored.affine, half.volume.affine_lps)
    on_frame = laid_mask(_mask(2, "left"), half, _pose(2, "left").matrix, frame)
    back = brought_back(on_frame.astype(np.float32), unmirrored, _pose(2, "left").matrix, frame)
    assert dice(back, _mask(2, "left")) < 0.1


def test_a_transform_that_is_lost_is_seen() -> None:
    frame, half = _frame(), halves_of(_scan(2)[0])["right"]
    pose, mask = _pose(2, "right"), _mask(2, "right")
    on_frame = laid_mask(mask, half, pose.matrix, frame)
    assert dice(brought_back(on_frame.astype(np.float32), half, pose.matrix, frame), mask) > LEAST_ROUND_TRIP
    assert dice(brought_back(on_frame.astype(np.float32), half, np.eye(4), frame), mask) < LEAST_ROUND_TRIP


def test_the_same_scan_gives_the_same_pose() -> None:
    again = register(halves_of(_scan(2)[0])["left"], _frame())
    assert np.array_equal(again.matrix, _pose(2, "left").matrix)


def test_where_there_is_no_femur_none_is_found() -> None:
    volume, _ = _scan(2)
    rng = np.random.default_rng(0)
    noise = replace(volume, hu=rng.normal(50.0, 100.0, volume.hu.shape).astype(np.float32))
    above = crop(volume, _part(volume, slices=slice(44, volume.hu.shape[0])))
    for hopeless in (noise, above, replace(volume, hu=np.full_like(volume.hu, AIR_HU))):
        pose = register(halves_of(hopeless)["right"], _frame())
        assert pose.similarity < LEAST_SIMILARITY
        assert "no bone like a femur" in pose.reason


def test_a_scan_of_few_voxels_is_no_femur_either() -> None:
    tiny = Volume(np.zeros((2, 2, 2), np.float32), axis_aligned(np.zeros(3), (1.0, 1.0, 1.0)))
    assert register(halves_of(tiny)["left"], _frame()).reason


def test_the_frame_holds_the_reference_femur_and_survives_as_tensors() -> None:
    frame = _frame()
    assert all(length % 16 == 0 for length in frame.shape)
    volume = frame.mask.sum() * np.prod(frame.spacing_mm)
    assert volume == pytest.approx(_mask(0, "right").sum() * STEP_MM**3, rel=0.02)
    edges = [frame.mask.take(at, axis).any() for axis in range(3) for at in (0, -1)]
    assert not any(edges)
    again = frame_from_tensors(frame.tensors())
    assert np.array_equal(again.hu, frame.hu)
    assert np.array_equal(again.mask, frame.mask)
    assert np.array_equal(again.affine, frame.affine)


def test_outside_the_scan_is_air_and_an_edge_voxel_counts_whole() -> None:
    volume, _ = _scan(0)
    half = halves_of(volume)["right"]
    hu = laid(half, _pose(0, "right").matrix, _frame())
    assert (hu[0] == AIR_HU).all()  # the margin below the lowest slice
    ones = np.ones((4, 4, 4), np.float32)
    grid = axis_aligned(np.zeros(3), (2.0, 2.0, 2.0))
    finer = axis_aligned(np.full(3, -1.0), (1.0, 1.0, 1.0))
    assert (resampled(ones, grid, finer, (8, 8, 8), 0.0) == 1.0).all()
    away = axis_aligned(np.full(3, 500.0), (1.0, 1.0, 1.0))
    assert (resampled(ones, grid, away, (2, 2, 2), -7.0) == -7.0).all()


def test_a_coarser_grid_averages_noise_and_keeps_the_mean() -> None:
    noise = np.random.default_rng(1).normal(10.0, 30.0, (40, 40, 40)).astype(np.float32)
    fine, coarse = (axis_aligned(np.full(3, start), (step,) * 3) for start, step in ((0.0, 1.0), (6.0, 4.0)))
    found = resampled(noise, fine, coarse, (7, 7, 7), 0.0)
    assert found.mean() == pytest.approx(10.0, abs=3.0)
    assert found.std() < 0.5 * 30.0


def test_the_window_becomes_minus_one_to_one() -> None:
    assert normalised(np.array([-3000.0, HU_WINDOW[0], sum(HU_WINDOW) / 2, HU_WINDOW[1], 3000.0])) == pytest.approx(
        [-1.0, -1.0, 0.0, 1.0, 1.0]
    )


def test_islands_and_thin_bridges_go_and_the_femur_stays() -> None:
    share = np.zeros((20, 20, 20), np.float32)
    share[2:12, 2:12, 2:12] = 0.9
    share[6, 6, 12:15] = 0.8
    share[4:8, 4:8, 15:19] = 0.9
    share[18, 18, 18] = 1.0
    mask = cleaned(share) >= 0.5
    assert mask[2:12, 2:12, 2:12].all()
    assert not mask[:, :, 15:].any()
    assert not cleaned(np.zeros((3, 3, 3), np.float32)).any()
    speck = np.zeros((5, 5, 5), np.float32)
    speck[2, 2, 2] = 0.7
    assert (cleaned(speck) >= 0.5).sum() == 1


def test_a_label_on_the_wrong_side_is_refused_with_the_cases_name(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, labels = _scan(2)
    swapped = np.where(labels == 1, 2, np.where(labels == 2, 1, 0)).astype(np.uint8)
    case = _case(monkeypatch, volume, labels)
    monkeypatch.setattr(Case, "labels", property(lambda self: labels if self.split == "train" else swapped))
    monkeypatch.setattr(femurs, "register", lambda half, frame: Pose(np.eye(4), 1.0, "untried"))
    with pytest.raises(ConfigurationError, match="femur of two: it lies on the other side") as error:
        femurs.prepared([case, replace(case, name="two", split="validation")], (4.0, 4.0, 4.0), str)
    assert str(error.value).count("on the other side") == 2
    monkeypatch.setattr(Case, "labels", swapped)
    with pytest.raises(ConfigurationError, match="on its own side in the cases for training"):
        femurs.prepared([case], (4.0, 4.0, 4.0), str)


def test_a_label_that_is_no_femur_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, labels = _scan(2)
    wrong = np.zeros_like(labels)
    wrong[50:54, 20:30, 25:30] = VALUE["right"]
    train = _case(monkeypatch, volume, labels)
    frame = _frame()
    half = halves_of(volume)["right"]
    found, fault = femurs._laid(train, "right", half, wrong == VALUE["right"], frame)
    assert found is None
    assert "missed the label" in fault


def _case(monkeypatch: pytest.MonkeyPatch, volume: Volume, labels: NDArray[np.uint8]) -> Case:
    monkeypatch.setattr(Case, "volume", volume)
    monkeypatch.setattr(Case, "labels", labels)
    nowhere = __file__
    return Case("one", "p", "train", "", nowhere, nowhere, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patch": 40}, "multiple of 16"),
        ({"patch": 16}, "expected 32 to 256"),
        ({"spacing_slice_mm": 0.0}, "expected 0.3 to 8"),
        ({"width": float("nan")}, "no number"),
        ({"batch": "four"}, "no number"),
        ({"depth": 3}, "depth is unknown"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        configuration_from({**PUBLISHED.settings, **change})
    left_out = dict(PUBLISHED.settings)
    del left_out["shear"]
    with pytest.raises(ConfigurationError, match="shear is missing"):
        configuration_from(left_out)
