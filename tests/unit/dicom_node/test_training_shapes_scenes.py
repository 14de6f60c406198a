"""Scenes from the real shape model: anatomy on the right side, in its place, claimed once, from one seed."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from dicom_node.errors import ConfigurationError
from dicom_node.public_data import fetch
from dicom_node.training.shapes import scenes
from dicom_node.training.shapes.labels import SCENE_LABELS
from dicom_node.training.shapes.model import ShapeModel
from dicom_node.training.shapes.pose import HipPose, Pose, draw_pose, posed
from dicom_node.training.shapes.scenes import Scene, make_scene, mean_hu, placed, write_scenes
from dicom_node.training.shapes.tissues import TISSUE_VALUE, TISSUES
from dicom_node.training.shapes.vertebra import SIZES
from dicom_node.training.shapes.voxels import Grid

pytestmark = pytest.mark.real_data

COARSE = ((84, 76, 104), (4.0, 4.0, 4.0))
WIDE = Grid((90, 80, 100), (4.0, 4.0, 4.0), (-200.0, -160.0, -200.0))
SEEDS = range(2)
FEMURS = ("femur_right", "femur_left")


@cache
def model() -> ShapeModel:
    return ShapeModel.load(fetch("shapes"))


@cache
def scene(region: str, seed: int) -> Scene:
    return make_scene(model(), seed, region, *COARSE)


def neutral(**hip: float) -> Pose:
    return Pose({femur: HipPose(**hip) for femur in FEMURS})


def middle(found: Scene, key: str) -> np.ndarray:
    return np.argwhere(found.labels == SCENE_LABELS[key]).mean(axis=0)


def knee_mm(pose: Pose, femur: str) -> np.ndarray:
    bones, heads = posed(model().sample(np.random.default_rng(0), sd=0), pose)
    points = bones[femur].points_mm - heads[femur].centre_mm
    return points[np.linalg.norm(points, axis=1) > 350].mean(axis=0)


def trochanter_mm(pose: Pose, femur: str) -> np.ndarray:
    person = model().sample(np.random.default_rng(0), sd=0)
    outward = person.bones[femur].points_mm[:, 0] * (1 if femur == "femur_left" else -1)
    lateral = np.argsort(outward)[-20:]
    bones, heads = posed(person, pose)
    return bones[femur].points_mm[lateral].mean(axis=0) - heads[femur].centre_mm


def test_the_mean_person_has_the_size_of_one():
    person = model().sample(np.random.default_rng(0), sd=0)
    length = np.ptp(person.bones["femur_left"].points_mm[:, 2])
    assert 400 < length < 480
    assert 20 < person.heads_mm["femur_left"] < 26
    for socket in person.sockets.values():
        assert 1 < socket.radius_mm - person.heads_mm["femur_left"] < 5
    assert person.sockets["femur_left"].centre_mm[0] == pytest.approx(-person.sockets["femur_right"].centre_mm[0])


def test_both_sides_of_the_mean_person_mirror_each_other_and_drawn_ones_differ_a_little():
    mean = model().sample(np.random.default_rng(0), sd=0)
    mirrored = mean.bones["femur_left"].points_mm * (-1, 1, 1)
    np.testing.assert_allclose(mean.bones["femur_right"].points_mm, mirrored)
    drawn = model().sample(np.random.default_rng(3))
    apart = drawn.bones["femur_right"].points_mm - drawn.bones["femur_left"].points_mm * (-1, 1, 1)
    assert 0.2 < np.linalg.norm(apart, axis=1).mean() < 8


@pytest.mark.parametrize("femur", FEMURS)
def test_flexion_brings_the_knee_forward(femur):
    still, flexed = (knee_mm(neutral(flexion_rad=angle), femur) for angle in (0.0, 0.5))
    assert flexed[1] < still[1] - 100
    assert flexed[2] > still[2]


@pytest.mark.parametrize("femur", FEMURS)
def test_abduction_brings_the_knee_outward(femur):
    outward = 1 if femur == "femur_left" else -1
    still, abducted = (knee_mm(neutral(abduction_rad=angle), femur) for angle in (0.0, 0.3))
    assert (abducted[0] - still[0]) * outward > 80


@pytest.mark.parametrize("femur", FEMURS)
def test_internal_rotation_brings_the_trochanter_forward(femur):
    still, turned = (trochanter_mm(neutral(internal_rotation_rad=angle), femur) for angle in (0.0, 0.4))
    assert turned[1] < still[1] - 10


@pytest.mark.parametrize("seed", range(6))
def test_no_femur_runs_into_the_pelvis_and_the_joint_space_is_as_wanted(seed):
    generator = np.random.default_rng(seed)
    person = model().sample(generator)
    masks, pose = placed(person, draw_pose(generator), WIDE)
    count = np.zeros(WIDE.shape, dtype=int)
    for key, (mask, box) in masks.items():
        if key != "sacrum":
            count[box] += mask
    assert count.max() == 1
    bones, heads = posed(person, pose)
    for femur, head in heads.items():
        socket = bones[femur.replace("femur", "hip")].points_mm
        nearest_mm = np.linalg.norm(socket - head.centre_mm, axis=1).min() - head.radius_mm
        assert nearest_mm >= pose.hips[femur].joint_space_mm - 1e-9
        assert 2.0 <= nearest_mm <= 5.5


@pytest.mark.parametrize("seed", SEEDS)
def test_right_is_right_and_left_is_left(seed):
    found = scene("hip", seed)
    for bone in ("femur", "hip"):
        assert middle(found, f"{bone}_right")[2] < middle(found, f"{bone}_left")[2]
    assert found.heads_index["femur_right"][2] < found.heads_index["femur_left"][2]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sacrum_is_between_behind_and_above_the_hip_joints(seed):
    found = scene("trunk", seed)
    right, left = (np.array(found.heads_index[femur]) for femur in FEMURS)
    sacrum = middle(found, "sacrum")
    assert right[2] < sacrum[2] < left[2]
    assert sacrum[1] > (right[1] + left[1]) / 2
    assert sacrum[0] > (right[0] + left[0]) / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_every_bone_of_the_pelvis_is_one_piece(seed):
    found = scene("hip", seed)
    for key in ("femur_right", "femur_left", "hip_right", "hip_left"):
        pieces, _ = ndimage.label(found.labels == SCENE_LABELS[key], np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() > 0.97 * sizes.sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_head_lies_at_the_place_that_is_told(seed):
    found = scene("hip", seed)
    for femur, at in found.heads_index.items():
        place = tuple(round(v) for v in at)
        replaced = any("replacement" in what and femur in what for what in found.hardware)
        assert replaced or found.labels[place] == SCENE_LABELS[femur]


@pytest.mark.parametrize("seed", SEEDS)
def test_bodies_go_up_in_order_with_their_arches_behind(seed):
    found = scene("trunk", seed)
    whole = [
        level
        for level in SIZES
        if (found.labels == SCENE_LABELS[level]).sum() > 150
        and not (found.labels[[0, -1]] == SCENE_LABELS[level]).any()
    ]
    assert len(whole) >= 3
    heights = [middle(found, level)[0] for level in whole]
    assert heights == sorted(heights, reverse=True)
    gaps_mm = -np.diff(heights) * found.spacing_mm[0]
    assert ((gaps_mm > 10) & (gaps_mm < 50)).all()
    for level in whole:
        assert middle(found, f"{level}_posterior")[1] > middle(found, level)[1] + 4


@pytest.mark.parametrize("seed", SEEDS)
def test_the_canal_runs_between_bodies_and_arches(seed):
    found = scene("trunk", seed)
    canal = found.labels == SCENE_LABELS["canal"]
    for level in ("L2", "L3"):
        slices = np.unique(np.argwhere(found.labels == SCENE_LABELS[level])[:, 0])
        rows = np.argwhere(canal[slices])[:, 1]
        if rows.size:
            assert middle(found, level)[1] < rows.mean() < middle(found, f"{level}_posterior")[1] + 3


@pytest.mark.parametrize(("region", "seed"), [("hip", 0), ("pelvis", 0), ("trunk", 1)])
def test_values_are_of_the_tables_and_no_bone_is_air(region, seed):
    found = scene(region, seed)
    assert set(np.unique(found.labels)) <= {0, *SCENE_LABELS.values()}
    assert found.tissue.max() < len(TISSUES)
    bone = (found.labels > 0) & (found.labels < SCENE_LABELS["canal"])
    inner = [TISSUE_VALUE[name] for name in ("cortical", "trabecular", "marrow", "metal", "cement")]
    assert np.isin(found.tissue[bone], inner).all()
    assert not found.cortex[~bone].any()
    assert found.labels.dtype == found.tissue.dtype == np.uint8
    if region == "hip":
        assert found.labels.max() <= SCENE_LABELS["sacrum"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_pelvis_is_under_skin(seed):
    found = scene("hip", seed)
    bone = ndimage.binary_dilation((found.labels > 0) & (found.labels <= 5), iterations=1)
    outside = found.tissue == TISSUE_VALUE["air"]
    assert (bone & outside).sum() < 0.005 * bone.sum()


def test_the_shaft_is_cortex_around_marrow_and_the_head_is_spongy():
    found = next(scene("hip", seed) for seed in range(20) if not scene("hip", seed).hardware)
    head = tuple(round(v) for v in found.heads_index["femur_left"])
    hu = mean_hu(found, np.random.default_rng(0))
    femur = found.labels == SCENE_LABELS["femur_left"]
    shaft = femur.copy()
    shaft[max(head[0] - 25, 2) :] = False
    assert found.tissue[head] == TISSUE_VALUE["trabecular"]
    assert found.density[head] > 2 * np.median(found.density[shaft])
    assert hu[shaft].max() > hu[head] + 150


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = (make_scene(model(), seed, "trunk", *COARSE) for seed in (4, 4, 5))
    for name in ("labels", "tissue", "cortex", "density"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.labels != other.labels).any()


def test_a_replaced_hip_is_metal_where_the_head_was_and_keeps_its_shaft(monkeypatch):
    monkeypatch.setattr(scenes, "HIP_SHARE", 1.0)
    monkeypatch.setattr("dicom_node.training.shapes.hardware.HIP_HARDWARE", ("replacement",))
    found = make_scene(model(), 0, "hip", *COARSE)
    femur = found.hardware[0].split(":")[0]
    head = tuple(round(v) for v in found.heads_index[femur])
    assert found.tissue[head] == TISSUE_VALUE["metal"]
    assert found.labels[head] == 0
    assert (found.labels == SCENE_LABELS[femur]).sum() > 500


@pytest.mark.parametrize("kind", ["nail", "screws"])
def test_metal_in_a_femur_keeps_the_femurs_label(monkeypatch, kind):
    monkeypatch.setattr(scenes, "HIP_SHARE", 1.0)
    monkeypatch.setattr("dicom_node.training.shapes.hardware.HIP_HARDWARE", (kind,))
    found = make_scene(model(), 1, "hip", *COARSE)
    femur = found.hardware[0].split(":")[0]
    metal = found.tissue == TISSUE_VALUE["metal"]
    assert (found.labels[metal] == SCENE_LABELS[femur]).mean() > 0.5
    assert not found.cortex[metal].any()


def test_written_scenes_are_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "SHAPE", (20, 24, 28))
    paths = write_scenes(tmp_path / "made", 2, 7, model())
    assert [path.name for path in paths] == ["scene-00000007.npz", "scene-00000008.npz"]
    with np.load(paths[0]) as content:
        assert content["labels"].shape == (20, 24, 28)
        np.testing.assert_array_equal(content["spacing_mm"], scenes.SPACING_MM)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space"):
        write_scenes(tmp_path / "made", 1, 9, model())
    assert not (tmp_path / "made" / "scene-00000009.npz").exists()


def test_a_folder_without_the_model_is_refused(tmp_path):
    with pytest.raises(ConfigurationError):
        ShapeModel.load(tmp_path)
