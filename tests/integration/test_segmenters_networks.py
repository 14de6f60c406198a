"""Adapters with real networks: each finds its bones in every orientation, and refuses what it cannot use in words."""

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.errors import ConfigurationError, JobFailed, SegmenterNotReady
from dicom_node.jobs.child import run_child
from dicom_node.pipeline.calibration import calibration_of, save_choice
from dicom_node.pipeline.steps import CHILD
from dicom_node.segmenters.monai_bundle import MonaiSegmenter
from dicom_node.segmenters.monai_config import PlainConfig
from dicom_node.segmenters.nnunet import NnunetSegmenter
from dicom_node.segmenters.table import make_segmenter, states
from dicom_node.segmenters.totalsegmentator import VARIANTS, TotalSegmentatorSegmenter, on_shape, resampled
from dicom_node.settings import Settings
from inference.errors import SegmentationError
from inference.labels import BY_KEY
from inference.metrics import dice
from inference.volume import Volume
from tests.segmenter_models import (
    BOXES,
    BUNDLE,
    NAMES,
    ORIENTATIONS,
    SPACING_MM,
    make_bundle,
    make_nnunet,
    middle_lps_mm,
    needs_monai,
    needs_nnunet,
    nnunet_plans,
    phantom,
    reordered,
)

SHIFT = (1, 1, 1)
MOVED_LPS_MM = (SPACING_MM[2], SPACING_MM[1], -SPACING_MM[0])
"""A network that labels what lies one voxel further to the head, the front and the right labels to the left, back and
foot of it."""
COARSE_DICE = 0.6
"""Boxes of 3 to 5 voxels through a coarser grid: the band of the brightest begins at 84 % of its contrast."""
SOME_ORIENTATIONS = ORIENTATIONS[::5]


def check_places(segmenter: Any) -> None:
    """The labels of a shifting network lie in one and the same place of the patient, however the array runs."""
    volume, truth = phantom()
    for axes, flips in SOME_ORIENTATIONS:
        other, _ = reordered(volume, truth, axes, flips)
        found = segmenter.segment(other).labels
        for key in BOXES:
            value = BY_KEY[key].value
            moved = middle_lps_mm(other, found == value) - middle_lps_mm(volume, truth == value)
            np.testing.assert_allclose(moved, MOVED_LPS_MM, atol=1e-6, err_msg=f"{key} {axes} {flips}")


@needs_nnunet
def test_an_nnunet_finds_its_bones_and_is_named_with_the_checksum_of_its_weights(tmp_path: Path) -> None:
    volume, truth = phantom()
    segmenter = NnunetSegmenter(make_nnunet(tmp_path / "a"))
    told: list[float] = []
    found = segmenter.segment(volume, lambda done, doing: told.append(done))
    np.testing.assert_array_equal(found.labels, truth)
    assert (found.identity.name, found.identity.version) == ("nnU-Net Dataset900_Boxes", "folds 0")
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert segmenter.labels.left_out == ("liver",)
    again = NnunetSegmenter(make_nnunet(tmp_path / "b", bands_hu={0: -1e4, 1: 151.0, 2: 450.0, 3: 750.0}))
    assert again.identity.checksum != found.identity.checksum


@needs_nnunet
def test_an_nnunet_is_given_every_volume_as_it_was_trained(tmp_path: Path) -> None:
    check_places(NnunetSegmenter(make_nnunet(tmp_path / "a", shift=SHIFT)))
    plans = nnunet_plans(transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0])
    spacing = [SPACING_MM[axis] for axis in (2, 0, 1)]
    plans["configurations"]["3d_fullres"]["spacing"] = spacing
    check_places(NnunetSegmenter(make_nnunet(tmp_path / "b", shift=SHIFT, plans=plans)))


@needs_nnunet
def test_an_nnunet_whose_reader_does_not_turn_images_needs_its_orientation_said(tmp_path: Path) -> None:
    plans = nnunet_plans(image_reader_writer="SimpleITKIO")
    with pytest.raises(ConfigurationError, match="could swap left and right"):
        NnunetSegmenter(make_nnunet(tmp_path / "a", plans=plans))
    # LPS counts to the left and back: the network that looks the other way along both moves labels as before
    folder = make_nnunet(tmp_path / "b", plans=plans, shift=(1, -1, -1), card={"orientation": "LPS", "name": "Ours"})
    segmenter = NnunetSegmenter(folder)
    assert segmenter.identity.name == "nnU-Net Ours"
    check_places(segmenter)


@needs_nnunet
def test_an_nnunet_of_another_grid_averages_its_folds_and_finds_the_bones_where_they_are(tmp_path: Path) -> None:
    volume, truth = phantom()
    plans = nnunet_plans(spacing_mm=(2.0, 2.6, 2.4))
    segmenter = NnunetSegmenter(make_nnunet(tmp_path / "a", plans=plans, folds=(0, 2), mirroring=(0, 1, 2)))
    assert segmenter.identity.version == "folds 0 2"
    found = segmenter.segment(volume).labels
    for key in BOXES:
        mask, true = found == BY_KEY[key].value, truth == BY_KEY[key].value
        assert dice(mask, true) > COARSE_DICE, key
        assert np.abs(middle_lps_mm(volume, mask) - middle_lps_mm(volume, true)).max() < max(SPACING_MM) / 2


@needs_nnunet
def test_labels_are_those_of_nnunets_own_export(tmp_path: Path) -> None:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    rng = np.random.default_rng(5)
    volume, _ = phantom()
    noisy = Volume((volume.hu + rng.normal(0, 150, volume.hu.shape)).astype(np.float32), volume.affine_lps)
    folder = make_nnunet(tmp_path / "a", plans=nnunet_plans(spacing_mm=(2.0, 2.6, 2.4)))
    theirs = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    theirs.initialize_from_trained_model_folder(str(folder), (0,))
    turned = np.ascontiguousarray(noisy.hu[:, ::-1, ::-1])
    expected = theirs.predict_single_npy_array(turned[None], {"spacing": list(SPACING_MM)})[:, ::-1, ::-1]
    from dicom_node.segmenters.nnunet import Window, predict
    from dicom_node.segmenters.nnunet_model import read_model

    ours = predict(read_model(folder), turned, SPACING_MM, Window(), lambda done, doing: None)[:, ::-1, ::-1]
    # they round logits to half precision after resampling, this does not: near ties may fall otherwise
    assert (ours == expected).mean() > 0.998


@needs_nnunet
def test_a_checkpoint_that_nnunets_own_trainer_saved_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = make_nnunet(tmp_path / "a", bands_hu={0: 0.0})
    plans, dataset = (json.loads((folder / name).read_text()) for name in ("plans.json", "dataset.json"))
    preprocessed = tmp_path / "nnUNet_preprocessed" / "Dataset900_Boxes" / "nnUNetPlans_3d_fullres"
    preprocessed.mkdir(parents=True)
    (preprocessed / "case.b2nd").touch()  # by this the trainer knows how its cases are stored
    trainer = nnUNetTrainer({**plans, "continue_training": False}, "3d_fullres", 0, dataset, torch.device("cpu"))
    monkeypatch.setattr(trainer, "_do_i_compile", lambda: False)
    trainer.initialize()
    trainer.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
    volume, _ = phantom()
    try:
        NnunetSegmenter(folder).segment(volume)
    except SegmentationError as error:  # random weights may well label a body upside down
        assert "The network labelled" in str(error)  # noqa: PT017 - either outcome shows that it was read


@needs_nnunet
@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ({"dataset": {"channel_names": {"0": "T2"}}}, "takes T2; expected one channel named CT"),
        ({"dataset": {"channel_names": {"0": "CT", "1": "PET"}}}, "takes CT, PET; expected one channel"),
        ({"names": {**NAMES, "liver": [3, 4]}}, "regions that overlap"),
        ({"names": {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}}, "No label of the model is a bone"),
        ({"dataset": {"labels": None}}, "names no channels or no labels"),
        ({"card": {"folds": [0, 3]}}, "fold_3/checkpoint_final.pth is missing"),
        ({"card": {"labels": {"liver": "spleen"}}}, "means nothing here: spleen"),
        ({"folds": ()}, "holds no fold with checkpoint_final.pth"),
    ],
)
def test_an_nnunet_folder_for_something_else_is_refused_in_words(
    tmp_path: Path, made: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        NnunetSegmenter(make_nnunet(tmp_path / "a", **made))


@needs_nnunet
def test_a_folder_that_is_none_or_open_to_everybody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmenterNotReady, match="There is no folder"):
        NnunetSegmenter(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SegmenterNotReady, match="is no folder that nnU-Net trained"):
        NnunetSegmenter(tmp_path / "empty")
    folder = make_nnunet(tmp_path / "a")
    (folder / "fold_0").chmod(0o777)
    with pytest.raises(ConfigurationError, match="may be written by everybody"):
        NnunetSegmenter(folder)
    (folder / "fold_0").chmod(0o700)
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="may be written by everybody"):
        NnunetSegmenter(folder)
    folder.chmod(0o700)
    (folder / "plans.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read as JSON"):
        NnunetSegmenter(folder)


class Trap:
    """What a hostile pickle does: it would make a file when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.place,))


@needs_nnunet
def test_a_checkpoint_that_is_hostile_cut_off_or_foreign_is_never_executed(tmp_path: Path) -> None:
    import torch

    volume, _ = phantom()
    folder = make_nnunet(tmp_path / "a")
    path = folder / "fold_0" / "checkpoint_final.pth"
    whole = path.read_bytes()
    good = torch.load(path, weights_only=False)
    torch.save({**good, "trap": Trap(tmp_path / "sprung")}, path)
    with pytest.raises(ConfigurationError, match="holds more than weights"):
        NnunetSegmenter(folder).segment(volume)
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ConfigurationError, match="weights"):
        NnunetSegmenter(folder).segment(volume)
    assert not (tmp_path / "sprung").exists()
    for broken in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        path.write_bytes(broken)
        with pytest.raises(ConfigurationError, match="damaged"):
            NnunetSegmenter(folder).segment(volume)
    torch.save({"weights": 1}, path)
    with pytest.raises(ConfigurationError, match="no checkpoint of nnU-Net v2"):
        NnunetSegmenter(folder).segment(volume)
    torch.save({**good, "network_weights": {"a": torch.zeros(1)}}, path)
    with pytest.raises(ConfigurationError, match="do not fit the network of its plan"):
        NnunetSegmenter(folder).segment(volume)


@needs_nnunet
@pytest.mark.parametrize(
    "what",
    [
        "os.system",
        "subprocess.Popen",
        "tests.segmenter_models.phantom",
        "torch.nn.parallel.distributed.os.system",
        "torch.nn.functional.torch.jit.ScriptModule",
        "torch.nn.NoSuchLayer",
    ],
)
def test_a_plan_that_names_other_program_code_is_refused(tmp_path: Path, what: str) -> None:
    volume, _ = phantom()
    folder = make_nnunet(tmp_path / "a")
    plans = json.loads((folder / "plans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    for place, name in ((architecture, "network_class_name"), (architecture["arch_kwargs"], "nonlin")):
        kept = place[name]
        place[name] = what
        (folder / "plans.json").write_text(json.dumps(plans))
        with pytest.raises(ConfigurationError, match="only networks of nnU-Net itself are loaded"):
            NnunetSegmenter(folder).segment(volume)
        place[name] = kept


@needs_nnunet
def test_a_scan_too_large_or_empty_is_refused_before_the_network_runs(tmp_path: Path) -> None:
    folder = make_nnunet(tmp_path / "a")
    volume, _ = phantom()
    with pytest.raises(SegmentationError, match=r"would need about .* GB .*14 x 18 x 22"):
        NnunetSegmenter(folder, memory_limit_bytes=100_000).segment(volume)
    with pytest.raises(SegmentationError, match="volume of zeros"):
        NnunetSegmenter(folder).segment(Volume(np.zeros_like(volume.hu), volume.affine_lps))


def make_totalsegmentator(folder: Path, number: int, shift: tuple[int, int, int] = (0, 0, 0)) -> Path:
    """Weights as TotalSegmentator's programs leave them; the networks label the phantom's boxes."""
    variant = VARIANTS[number]
    whole = {"femur_left": 75, "femur_right": 76, "L1": 31}
    for part in variant.parts:
        back = (
            {value: own for own, value in part.values.items()}
            if part.values
            else {value: value for value in whole.values()}
        )
        # 1 and 2 stand for what is no bone of ours; a band of another part's box must not count as a bone
        start = {"femur_right": 150.0, "femur_left": 450.0, "L1": 750.0}
        spare = 23 if part.values else 5
        bands = {0: -1e4} | {back.get(whole[key], spare): hu for key, hu in start.items() if whole[key] in back}
        if "L1" in start and whole["L1"] not in back:
            bands[spare] = 750.0
        if whole["femur_right"] not in back:
            bands[spare] = 150.0
        classes = 1 + max(spare, *bands, *(part.values or {78: 78}))
        names = {"background": 0} | {f"class_{one}": one for one in range(1, classes)}
        plans = nnunet_plans(spacing_mm=(variant.spacing_mm,) * 3, image_reader_writer="NibabelIOWithReorient")
        place = folder / part.dataset / f"{part.trainer}__nnUNetPlans__3d_fullres"
        make_nnunet(place, names=names, bands_hu=bands, shift=shift, plans=plans)
    return folder


def coarse(factor: int = 2) -> tuple[Volume, Any]:
    """The phantom in voxels that many times finer in its own spacing: larger boxes for coarse networks."""
    volume, truth = phantom()
    affine = volume.affine_lps.copy()
    hu, labels = (
        np.repeat(np.repeat(np.repeat(array, factor, 0), factor, 1), factor, 2) for array in (volume.hu, truth)
    )
    return Volume(hu, affine), labels


@needs_nnunet
@pytest.mark.parametrize("number", [0, 1])
def test_totalsegmentators_networks_find_femurs_in_every_orientation(tmp_path: Path, number: int) -> None:
    volume, truth = coarse()
    segmenter = TotalSegmentatorSegmenter(make_totalsegmentator(tmp_path, number))
    assert segmenter.identity.version == f"2, {VARIANTS[number].spacing_mm:g} mm"
    for axes, flips in ORIENTATIONS[::11]:
        other, marked = reordered(volume, truth, axes, flips)
        found = segmenter.segment(other)
        for key in ("femur_right", "femur_left"):
            value = BY_KEY[key].value
            assert dice(found.labels == value, marked == value) > COARSE_DICE, (key, axes, flips)
        # a whole vertebra without a spinal canal cannot be cut to its body, and is left out with a flag
        assert [(flag.code, flag.subject) for flag in found.flags] == [("bone_not_separated", "L1")]


@needs_nnunet
def test_totalsegmentator_asks_for_its_finer_weights_first_and_for_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(SegmenterNotReady, match=r"totalseg_download_weights -t total \(1.5 mm\)"):
        TotalSegmentatorSegmenter(tmp_path)
    make_totalsegmentator(tmp_path, 1)
    assert TotalSegmentatorSegmenter(tmp_path).variant.spacing_mm == 3.0
    make_totalsegmentator(tmp_path, 0)
    assert TotalSegmentatorSegmenter(tmp_path).variant.spacing_mm == 1.5
    part = VARIANTS[0].parts[1]
    (tmp_path / part.dataset / f"{part.trainer}__nnUNetPlans__3d_fullres" / "fold_0" / "checkpoint_final.pth").unlink()
    with pytest.raises(SegmenterNotReady, match=r"fold_0/checkpoint_final.pth is missing"):
        TotalSegmentatorSegmenter(tmp_path)


def test_an_image_is_resampled_between_the_centres_of_its_outer_voxels_and_labels_come_back_there() -> None:
    ramp = np.broadcast_to(np.arange(0, 90, 10, dtype=np.float32)[:, None, None], (9, 6, 6)).copy()
    small = resampled(ramp, (1.5, 3.0, 3.0), 3.0)
    assert small.shape == (4, 6, 6)  # 9 x 0.5 rounds to 4
    np.testing.assert_array_equal(small[:, 0, 0], [0, 26, 53, 80])  # 80 / 3 steps, cut to whole HU
    np.testing.assert_array_equal(resampled(-ramp, (1.5, 3.0, 3.0), 3.0)[:, 0, 0], [0, -26, -53, -80])
    labels = np.zeros((4, 6, 6), dtype=np.uint8)
    labels[-1] = 7
    back = on_shape(labels, (9, 6, 6))
    assert (back.shape, set(back[-1].ravel()), back[:6].max()) == ((9, 6, 6), {7}, 0)


@needs_monai
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_monai_bundle_finds_its_bones(tmp_path: Path, as_zip: bool) -> None:
    volume, truth = phantom()
    make_bundle(tmp_path / "monai", as_zip=as_zip)
    segmenter = MonaiSegmenter(tmp_path / "monai")
    found = segmenter.segment(volume)
    np.testing.assert_array_equal(found.labels, truth)
    assert (found.identity.name, found.identity.version) == ("MONAI Boxes", "0.1.0")
    assert len(found.identity.checksum) == 64
    assert segmenter.labels.left_out == ("liver",)


@needs_monai
def test_a_monai_bundle_is_given_every_volume_as_it_was_trained(tmp_path: Path) -> None:
    # its arrays run to the right, the front and the head
    check_places(MonaiSegmenter(make_bundle(tmp_path / "a", shift=SHIFT)))


@needs_monai
@pytest.mark.parametrize("postprocessing", [None, {"_target_": "Compose", "transforms": []}])
def test_a_bundle_of_another_grid_or_without_postprocessing_comes_back_to_the_scans_grid(
    tmp_path: Path, postprocessing: Any
) -> None:
    volume, truth = phantom()
    changes = {"fine": False, "postprocessing": postprocessing}
    found = MonaiSegmenter(make_bundle(tmp_path / "a", changes=changes)).segment(volume).labels
    for key in BOXES:
        assert dice(found == BY_KEY[key].value, truth == BY_KEY[key].value) > 0.5, key


@needs_monai
def test_a_bundle_that_does_not_turn_images_needs_its_orientation_said(tmp_path: Path) -> None:
    kept = [one for one in BUNDLE["preprocessing"]["transforms"] if one["_target_"] != "Orientationd"]
    changes = {"preprocessing": {"_target_": "Compose", "transforms": kept}}
    with pytest.raises(ConfigurationError, match="could swap left and right"):
        MonaiSegmenter(make_bundle(tmp_path / "a", changes=changes))
    made = make_bundle(tmp_path / "b", changes=changes, shift=(-1, -1, 1), card={"orientation": "LPS"})
    check_places(MonaiSegmenter(made))


def with_transform(transform: Mapping[str, Any]) -> dict[str, Any]:
    transforms = [*BUNDLE["preprocessing"]["transforms"], transform]
    return {"preprocessing": {"_target_": "Compose", "transforms": transforms}}


HOSTILE = "$__import__('os').system('touch sprung')"


@needs_monai
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network_def": {"_target_": "os.system", "command": "touch sprung"}}, "names os.system; only networks"),
        ({"network_def": {"_target_": "subprocess.UNet"}}, "names subprocess.UNet"),
        ({"network_def": "$__import__('os').system('touch sprung')"}, "holds program text"),
        (with_transform({"_target_": "Lambdad", "keys": "image", "func": HOSTILE}), "holds program text|Lambdad"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "pixdim": HOSTILE}), "holds program text"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "pixdim": f"${HOSTILE!r}"}), "holds program text"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "pixdim": f"$[{HOSTILE!r}]"}), "holds program text"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "pixdim": "$'%a.json::x'"}), "holds program text"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "pixdim": "$9**9**9"}), "holds program text"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "pixdim": "$(1).__class__"}), "holds program text"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "pixdim": "%other.json::x"}), "includes other files"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "_mode_": "callable"}), "uses _mode_"),
        (with_transform({"_target_": "Spacingd", "keys": "image", "pixdim": "@nowhere#1"}), "which is not there"),
        ({"classes": "@classes"}, "refers to itself"),
        ({"classes": "$@other + 1", "other": "@classes"}, "refers to itself"),
        ({"inferer": {"_target_": "Compose", "transforms": []}}, "inferer is monai.transforms.Compose"),
        ({"inferer": None}, "has no section inferer"),
    ],
)
def test_program_text_and_foreign_names_in_a_bundle_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=sentence):
        MonaiSegmenter(make_bundle(tmp_path / "a", changes=changes))
    assert not (tmp_path / "sprung").exists()


def test_what_bundles_calculate_is_calculated_and_nothing_else() -> None:
    config = {
        "fine": False,
        "size": [96, 96, 64],
        "a": {"b": "$@size#0 // 2 if not @fine else 7"},
        "c": ["$len(@size)", "$-1.5 * 2", "$[1, @size#2]", "@a#b", "$@size::1 >= 96 and True", "plain", None],
    }
    assert PlainConfig(config, {}).section("c") == [3, -3.0, [1, 64], 48, True, "plain", None]
    assert PlainConfig(config, {}).section("nowhere") is None
    for text in ("$@size * 10**9", "$'a' * 10", "$[0] * 9", "$open('x')", "$(lambda: 1)()", "$fine", "$1 if", "$1/0"):
        with pytest.raises(ConfigurationError, match="program text"):
            PlainConfig(config | {"x": text}, {}).section("x")
    for strange in ({1: "x"}, {"a": (1, "$x")}, {"a": {"$x"}}):
        with pytest.raises(ConfigurationError, match=r"refused|what JSON can hold"):
            PlainConfig({"x": strange}, {}).section("x")
    bomb: Any = "x"
    for _ in range(40):
        bomb = [bomb, bomb]
    with pytest.raises(ConfigurationError, match="larger than any"):
        PlainConfig({"x": bomb}, {}).section("x")


@needs_monai
def test_a_bundle_with_broken_files_is_refused_in_words(tmp_path: Path) -> None:
    import torch

    volume, _ = phantom()
    with pytest.raises(SegmenterNotReady, match="There is no folder"):
        MonaiSegmenter(tmp_path / "nowhere")
    folder = make_bundle(tmp_path / "a")
    weights, metadata = folder / "models" / "model.pt", folder / "configs" / "metadata.json"
    good = weights.read_bytes()
    torch.save({"model": Trap(tmp_path / "sprung")}, weights)
    with pytest.raises(ConfigurationError, match="holds more than weights"):
        MonaiSegmenter(folder).segment(volume)
    assert not (tmp_path / "sprung").exists()
    weights.write_bytes(good[:1000])
    with pytest.raises(ConfigurationError, match="damaged"):
        MonaiSegmenter(folder).segment(volume)
    torch.save({"model": {"a": torch.zeros(1)}}, weights)
    with pytest.raises(ConfigurationError, match="does not fit its network_def"):
        MonaiSegmenter(folder).segment(volume)
    weights.unlink()
    with pytest.raises(SegmenterNotReady, match=r"lacks models/model.pt"):
        MonaiSegmenter(folder)
    weights.write_bytes(good)
    with pytest.raises(SegmentationError, match="would need about"):
        MonaiSegmenter(folder, memory_limit_bytes=1000).segment(volume)
    metadata.write_text("{}")
    with pytest.raises(ConfigurationError, match="names no labels"):
        MonaiSegmenter(folder)
    (tmp_path / "b.zip").write_bytes(b"PK no archive")
    with pytest.raises(ConfigurationError, match="cannot be read as a ZIP archive"):
        MonaiSegmenter(tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("configs/inference.json", " " * 1000)
    packed = bytearray((tmp_path / "d.zip").read_bytes())
    packed[52:56] = b"\xff\xff\xff\xff"  # the first bytes of the member, behind its header of 30 and its name of 22
    (tmp_path / "d.zip").write_bytes(packed)
    with pytest.raises(ConfigurationError, match="cannot be read as a ZIP archive"):
        MonaiSegmenter(tmp_path / "d")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as made:
        made.writestr("../../configs/inference.json", "{}")
    with pytest.raises(SegmenterNotReady, match=r"lacks configs/inference.json"):
        MonaiSegmenter(tmp_path / "c")


@needs_nnunet
@needs_monai
def test_the_table_makes_what_lies_in_the_sites_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    make_nnunet(settings.segmenters_dir / "nnunet")
    make_bundle(settings.segmenters_dir / "monai")
    make_totalsegmentator(settings.segmenters_dir / "totalsegmentator", 1)
    ready = {one.name for one in states(settings) if one.word == "ready"}
    assert ready >= {"classical", "nnunet", "monai", "totalsegmentator"}
    assert make_segmenter("nnunet", settings).identity.name == "nnU-Net Dataset900_Boxes"


def test_a_job_whose_weights_are_missing_fails_with_a_sentence_and_keeps_its_images(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    (folder / "clean").mkdir(parents=True)
    (folder / "clean" / "1.dcm").write_bytes(b"kept")
    save_choice(calibration_of(Dataset(), ()), folder / "calibration.json")
    task = {
        "action": "analyse",
        "folder": str(folder),
        "output": str(tmp_path / "report"),
        "job_reference": "J1",
        "created": "2026-01-01T00:00:00+00:00",
        "serial_number": "OSTEONODE",
        "element_mm": 3.0,
        "with_interval": False,
        "phantom_file": "",
        "may_use_tissues": False,
        "segmenter": "nnunet",
        "segmenters_dir": str(tmp_path / "segmenters"),
        "job_memory_limit_bytes": 0,
        "gpu_jobs": 0,
        "log_level": "INFO",
        "log_format": "json",
    }
    with pytest.raises(JobFailed, match=r"put the trained nnU-Net folder there|nnunetv2 is not installed"):
        run_child(CHILD, task, time_limit_s=300, memory_limit_bytes=0, progress=lambda done, stage: None)
    assert (folder / "clean" / "1.dcm").read_bytes() == b"kept"
