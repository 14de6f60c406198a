"""The choice of a segmenter: names, states, label names, orientation, cards, and what a rule says of it."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dicom_node.cli import main
from dicom_node.commands.segmenters import list_segmenters
from dicom_node.errors import ConfigurationError, JobFailed, SegmenterNotReady
from dicom_node.jobs.child import ERRORS
from dicom_node.pipeline.routing_rules import Rule, json_from_rules, rules_from_json, rules_from_toml, toml_from_rules
from dicom_node.segmenters import extras
from dicom_node.segmenters.card import read_card
from dicom_node.segmenters.extras import imported
from dicom_node.segmenters.foreign_labels import TOTALSEGMENTATOR, VOCABULARIES, bones_from, label_map
from dicom_node.segmenters.orientation import is_orientation, turned
from dicom_node.segmenters.table import BROKEN, NOT_BUILT, SEGMENTERS, entry_of, make_segmenter, states
from dicom_node.segmenters.totalsegmentator import VARIANTS, weights_folder
from dicom_node.segmenters.weights import MISSING
from dicom_node.settings import Settings
from inference.errors import SegmentationError
from inference.labels import BY_KEY
from inference.segmentation import CLASSICAL_NAME, SegmenterIdentity
from tests.segmenter_models import BOXES, ORIENTATIONS, phantom, reordered

HASH_BEFORE_SEGMENTERS = "dd8913baf978e62e2f8c5ce40d588e829cb7b355bfb610cf4d927feecabf4384"
"""Of an empty rule, as the version before rules could name a segmenter wrote it into study versions."""
IDENTITY = SegmenterIdentity("test", "1", "0" * 64)


def test_an_unknown_name_is_refused_where_it_is_written(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="no segmenter total; there are classical, network"):
        make_segmenter("total", settings)
    monkeypatch.setenv("OSTEONODE_SEGMENTER", "total")
    assert main(["settings"]) == 2
    monkeypatch.delenv("OSTEONODE_SEGMENTER")
    assert main(["analyse", "nowhere", "--out", "nowhere-out", "--segmenter", "total"]) == 1
    with pytest.raises(ConfigurationError, match="Rule A, segmenter"):
        rules_from_json('[{"name": "A", "segmenter": "total"}]')


def test_the_classical_segmenter_is_always_ready(settings: Settings) -> None:
    assert make_segmenter("classical", settings).identity.name == CLASSICAL_NAME


def test_every_segmenter_says_how_it_stands_and_what_it_lacks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "none"))
    found = {one.name: one for one in states(settings)}
    assert list(found) == list(SEGMENTERS)
    assert (found["classical"].word, found["classical"].sentence) == ("ready", "")
    for name in ("totalsegmentator", "nnunet", "monai"):
        assert found[name].word in (MISSING, "not installed")
        assert found[name].identity is None
    assert "totalseg_download_weights -t total " in found["totalsegmentator"].sentence or (
        found["totalsegmentator"].word == "not installed"
    )
    console = Console(record=True, width=160)
    list_segmenters(settings, None, console)  # type: ignore[arg-type]  # it has no options
    said = console.export_text()
    assert all(name in said for name in SEGMENTERS)
    assert "checked (set)" in said


@pytest.mark.parametrize("name", ["network", "checked"])
def test_a_build_without_the_networks_weights_says_so_before_any_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("inference.networks.segmenter.WEIGHTS", "none.pt")
    with pytest.raises(SegmenterNotReady, match="no trained bone network"):
        make_segmenter(name, settings)
    assert {one.name: one.word for one in states(settings)}[name] == NOT_BUILT


def test_a_folder_that_is_no_model_is_named_with_its_reason(settings: Settings) -> None:
    (settings.segmenters_dir / "nnunet").mkdir(parents=True)
    (settings.segmenters_dir / "nnunet" / "osteonode.json").write_text("[1")
    found = {one.name: one for one in states(settings)}["nnunet"]
    assert found.word in (BROKEN, "not installed")
    assert found.word == "not installed" or "cannot be read as JSON" in found.sentence


def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SegmenterNotReady, match=r"pip install 'osteonode\[nnunet\]'"):
        imported("nnunetv2.inference", "nnunet")


def test_what_a_segmenter_lacks_reaches_the_job_as_a_sentence() -> None:
    assert ERRORS.get(SegmenterNotReady.__name__, JobFailed) is JobFailed


def test_the_weights_of_totalsegmentator_are_looked_for_where_its_programs_put_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    monkeypatch.delenv("TOTALSEG_HOME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder() == tmp_path / ".totalsegmentator" / "nnunet" / "results"
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    assert weights_folder() == tmp_path / "home" / "nnunet" / "results"
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    assert weights_folder() == tmp_path / "weights"


def test_the_parts_of_totalsegmentator_lead_to_the_values_of_its_whole_task() -> None:
    vertebrae, muscles = (part.values for part in VARIANTS[0].parts)
    assert {**vertebrae, **muscles} == {  # its class_map_5_parts and class_map["total"], read side by side
        1: 25, 3: 27, 4: 28, 5: 29, 6: 30, 7: 75, 8: 76, 9: 77, 10: 78
    }  # fmt: skip
    assert vertebrae == {1: 25, 3: 27, 4: 28, 5: 29, 6: 30, 7: 31, 8: 32, 9: 33, 10: 34}
    assert set(vertebrae.values()) | set(muscles.values()) == set(TOTALSEGMENTATOR)
    assert VOCABULARIES["totalsegmentator"][31] == "L1"
    assert VOCABULARIES["totalsegmentator"][75] == "femur_left"


def test_labels_by_name_or_by_the_sites_word_become_structures_and_the_rest_is_left_out() -> None:
    found = label_map({1: "femur_left", 2: "vertebrae_L1", 3: "liver", 4: "os sacrum"}, {"os sacrum": "sacrum"})
    assert {value: one.key for value, one in found.structures.items()} == {1: "femur_left", 2: "L1", 4: "sacrum"}
    assert (found.left_out, found.cuts_vertebrae) == (("liver",), True)
    assert not label_map({1: "L1 body", 2: "femur_right"}).cuts_vertebrae
    assert label_map({1: "L1", 2: "femur_left"}, {"L1": ""}).left_out == ("L1",)


@pytest.mark.parametrize(
    ("names", "said", "sentence"),
    [
        ({1: "femur", 2: "vertebra"}, {}, "No label of the model is a bone this node measures; found femur, vertebra"),
        ({1: "femur_left"}, {"femur_left": "thigh"}, "means nothing here: thigh"),
        ({1: "femur_left"}, {"femur": "femur_left"}, "is no label of the model: femur"),
        ({number: f"organ {number}" for number in range(1, 30)}, {}, "and 21 more"),
        ({}, {}, "No label of the model"),
    ],
)
def test_labels_that_mean_nothing_are_refused_in_words(
    names: dict[int, str], said: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        label_map(names, said)


def test_a_volume_is_turned_as_nifti_programs_hold_it_and_labels_come_back_from_every_orientation() -> None:
    volume, labels = phantom()
    codes = [
        "".join(one) for axes in (("RL", "AP", "SI"), ("SI", "RL", "AP"), ("AP", "RL", "SI")) for one in product(*axes)
    ]
    assert all(map(is_orientation, codes))
    expected = turned(volume, "RAS").hu
    # to the head, to the front, to the right: of the canonical axes the last two run the other way
    np.testing.assert_array_equal(expected, volume.hu[:, ::-1, ::-1])
    for axes, flips in ORIENTATIONS:
        other, _ = reordered(volume, labels, axes, flips)
        image = turned(other, "RAS")
        np.testing.assert_array_equal(image.hu, expected)
        np.testing.assert_allclose(image.spacing_mm, (3.0, 2.0, 1.5))
        np.testing.assert_array_equal(image.restore(image.hu), other.hu)
    for code in codes:
        image = turned(other, code)
        np.testing.assert_array_equal(image.restore(image.hu), other.hu)
        bright = np.argwhere(image.hu == BOXES["L1"][0]).mean(axis=0)[::-1]
        dark = np.argwhere(image.hu == BOXES["femur_right"][0]).mean(axis=0)[::-1]
        step = image.affine_ras[:3, :3] @ (bright - dark)
        assert (step[0] < 0, step[1] < 0, step[2] > 0) == (True, True, True)  # L1 lies left, behind and above


@pytest.mark.parametrize("word", ["", "RA", "RAP", "RRS", "ras", "RASX", "XYZ"])
def test_a_word_that_is_no_orientation_is_refused(word: str, tmp_path: Path) -> None:
    assert not is_orientation(word)
    (tmp_path / "osteonode.json").write_text(json.dumps({"orientation": word}))
    with pytest.raises(ConfigurationError, match="orientation takes three letters"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"colour": "red"}, "colour Extra inputs"),
        ({"step": 0}, "step "),
        ({"folds": ["last"]}, "folds.0"),
        ({"labels": {"a": 3}}, "labels.a"),
    ],
)
def test_a_card_with_a_mistake_is_refused_at_its_place(card: dict[str, object], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "osteonode.json").write_text(json.dumps(card))
    with pytest.raises(ConfigurationError, match=sentence):
        read_card(tmp_path)


def test_right_bones_on_the_left_and_levels_upside_down_are_refused() -> None:
    volume, _ = phantom()
    values = np.zeros(volume.hu.shape, dtype=np.uint8)
    values[2:5, 3:6, 2:5], values[2:5, 3:6, 15:18] = 1, 2
    labels = label_map({1: "femur_right", 2: "femur_left", 3: "L1 body", 4: "L2 body"})
    assert bones_from(volume, values, labels, IDENTITY).labels.any()
    with pytest.raises(SegmentationError, match="right femur on the left of the left femur"):
        bones_from(volume, values[:, :, ::-1], labels, IDENTITY)
    stacked = np.zeros_like(values)
    stacked[8:11, 3:6, 5:8], stacked[3:6, 3:6, 5:8] = 3, 4
    bones_from(volume, stacked, labels, IDENTITY)
    with pytest.raises(SegmentationError, match="L1 below L2"):
        bones_from(volume, stacked[::-1], labels, IDENTITY)
    with pytest.raises(SegmentationError, match="expected"):
        bones_from(volume, values[1:], labels, IDENTITY)


def test_of_a_bone_in_pieces_the_largest_is_kept() -> None:
    volume, _ = phantom()
    values = np.zeros(volume.hu.shape, dtype=np.uint16)
    values[2:5, 3:6, 2:5], values[10, 10, 10] = 1, 1
    found = bones_from(volume, values, label_map({1: "femur_right"}), IDENTITY).labels
    assert (found == BY_KEY["femur_right"].value).sum() == 27
    assert found[10, 10, 10] == 0


def test_a_rule_names_a_segmenter_in_every_form_and_a_rule_without_one_keeps_its_hash() -> None:
    rule = Rule(name="Hips", segmenter="nnunet")
    assert rules_from_json(json_from_rules([rule])) == rules_from_toml(toml_from_rules([rule])) == (rule,)
    assert rule.hash != Rule(name="Hips").hash == HASH_BEFORE_SEGMENTERS
    assert entry_of(rule.segmenter).finds
