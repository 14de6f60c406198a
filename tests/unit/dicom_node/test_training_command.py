"""``osteonode train``: options, devices, settings."""

import argparse
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dicom_node.cli import main
from dicom_node.commands import train as command
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings
from dicom_node.training.task import Plan
from dicom_node.training.tasks import TASKS, load_task

PLAN = Plan(steps=100, validate_every=50, settings={"width": 8, "spacing_mm": 1.5, "mirror": True, "norm": "batch"})


def _options(**named: object) -> argparse.Namespace:
    options: dict[str, object] = {
        "task": None, "data": None, "out": None, "steps": None, "seed": None, "learning_rate": None, "set": [],
        "device": "cpu", "minutes": float("inf"),
    }  # fmt: skip
    return argparse.Namespace(**{**options, **named})


def test_options_replace_the_published_plan_and_nothing_else() -> None:
    plan = command._plan(PLAN, _options(steps=20, seed=3, learning_rate=0.5, set=["width=4", "mirror=false", "norm=x"]))
    settings = {"width": 4, "spacing_mm": 1.5, "mirror": False, "norm": "x"}
    assert plan == replace(PLAN, steps=20, seed=3, learning_rate=0.5, validate_every=20, settings=settings)
    assert command._plan(PLAN, _options()) == PLAN


@pytest.mark.parametrize("text", ["depth=3", "width", "width=wide", "width=1.5", "mirror=maybe"])
def test_a_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"setting|expected a value"):
        command._plan(PLAN, _options(set=[text]))


@pytest.mark.parametrize(
    "named",
    [
        {"seed": -1},
        {"seed": 2**40},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"minutes": -1.0},
        {"minutes": float("nan")},
        {"set": ["spacing_mm=nan"]},
    ],
)
def test_a_number_that_trains_nothing_is_refused(named: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"Found --|expected a value"):
        command._plan(PLAN, _options(**named))


@pytest.mark.parametrize("setting", ["batch=0", "scenes=-1", "scene_share=2"])
def test_settings_of_the_bone_network_that_are_none_are_refused_before_its_data_are_read(
    tmp_path: Path, setting: str
) -> None:
    with pytest.raises(ConfigurationError, match="batch of 1 or more"):
        command.train(Settings(), _options(task="bones", out=tmp_path, set=[setting]), Console(file=io.StringIO()))


def test_a_scan_to_leave_out_that_is_none_is_refused_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.training.bones.task.public_subjects", _never)
    with pytest.raises(ConfigurationError, match="one of patient, chest, not knee"):
        command.train(
            Settings(), _options(task="bones", out=tmp_path, set=["leave_out=knee"]), Console(file=io.StringIO())
        )


def test_a_folder_of_something_else_is_refused_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    monkeypatch.setattr("dicom_node.training.bones.task.public_subjects", _never)
    with pytest.raises(ConfigurationError, match="holds no training"):
        command.train(Settings(), _options(task="bones", out=tmp_path), Console(file=io.StringIO()))


def _never() -> None:
    raise AssertionError("the data were read")


def _interrupted() -> None:
    raise KeyboardInterrupt


def test_who_stops_a_training_by_hand_is_told_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.training.bones.task.public_subjects", _interrupted)
    page = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        command.train(Settings(), _options(task="bones", out=tmp_path / "new"), Console(file=page, width=200))
    assert "the same command goes on" in page.getvalue()


def test_words_in_brackets_reach_the_reader(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "[/red] osteonode[training]"]) == 1
    assert "no task [/red] osteonode[training]" in capsys.readouterr().out


def test_a_gpu_is_taken_where_there_is_one_and_asked_for_in_vain_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command._device("auto").type == "cpu"
    with pytest.raises(ConfigurationError, match="No CUDA device"):
        command._device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert command._device("auto").type == "cuda"


def test_without_a_task_the_tasks_are_listed() -> None:
    page = io.StringIO()
    command.train(Settings(), _options(), Console(file=page, width=200))
    assert all(name in page.getvalue() for name in TASKS)


def test_an_unknown_task_and_missing_folders_are_refused(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    with pytest.raises(ConfigurationError, match="no task tibia"):
        command.train(Settings(), _options(task="tibia"), console)
    with pytest.raises(ConfigurationError, match="--data DIR"):
        command.train(Settings(), _options(task="femur-3d"), console)
    with pytest.raises(ConfigurationError, match="--out DIR"):
        command.train(Settings(), _options(task="femur-3d", data=tmp_path), console)


@pytest.mark.parametrize("name", ["femur-2d", "femur-3d"])
def test_the_published_configuration_is_the_papers(name: str) -> None:
    plan = load_task(name).plan
    expected = {"femur-2d": (2e-4, 16, 500 * 3 * 250), "femur-3d": (3e-5, 4, 300 * 250)}[name]
    assert (plan.learning_rate, plan.settings["batch"], plan.steps) == expected
    assert (plan.optimizer, plan.decay, plan.weight_decay, plan.averaging) == ("adam", "constant", 0.0, 0.0)
    assert (plan.settings["spacing_slice_mm"], plan.settings["spacing_in_slice_mm"]) == (0.67, 0.78)
    assert plan.settings["patch"] == 64
