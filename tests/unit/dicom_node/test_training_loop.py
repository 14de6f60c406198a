"""The training loop: stops, resumes, refusals and what it leaves on disk."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dicom_node.errors import ConfigurationError
from dicom_node.training.history import history_csv
from dicom_node.training.loop import learning_rate, read_model, train
from dicom_node.training.task import Plan, Task

PLAN = Plan(steps=12, seed=5, learning_rate=0.05, averaging=0.9, validate_every=4, settings={"width": 3})
TASK = Task("line", "a line", "", "", PLAN, lambda *_: LineLearner(), "# Card\n{figures}\n{plan}\n")
CPU = torch.device("cpu")


class LineLearner:
    """Learns y = 2x - 1 with a layer that draws at random."""

    def __init__(self, data: str = "", poison_at: int = -1) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.poison_at = poison_at
        if data:
            self.data_sha256 = data

    def batch(self, step: int) -> Sequence[Tensor]:
        x = torch.rand(16, 1, generator=torch.Generator().manual_seed(step))
        return x, 2 * x - 1 + (float("nan") if step == self.poison_at else 0.0)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        return ((self.network(batch[0]) - batch[1]) ** 2).mean()

    def validate(self) -> Mapping[str, float]:
        x = torch.linspace(0, 1, 9)[:, None]
        return {"score": -float(((self.network(x) - 2 * x + 1) ** 2).mean())}


def _in_pieces(folder: Path, learner: LineLearner | None = None) -> int:
    """Train in sessions of one step each, as a time limit of nothing makes them."""
    sessions = 1
    while train(TASK, PLAN, folder, learner or LineLearner(), CPU, minutes=0.0).step < PLAN.steps:
        sessions += 1
    return sessions


def test_a_training_resumed_after_every_step_gives_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path / "whole", LineLearner(), CPU)
    assert _in_pieces(tmp_path / "pieces") == PLAN.steps
    whole, about = read_model(tmp_path / "whole" / "model.pt")
    pieces, about_pieces = read_model(tmp_path / "pieces" / "model.pt")
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)
    assert about == about_pieces
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("whole", "pieces")]
    assert histories[0] == histories[1]
    assert len(histories[0].splitlines()) == 1 + PLAN.steps // PLAN.validate_every


def test_a_finished_training_leaves_model_card_curve_and_history(tmp_path: Path) -> None:
    done = train(TASK, PLAN, tmp_path, LineLearner("abc123"), CPU)
    assert {path.name for path in tmp_path.iterdir()} == {
        "plan.json", "checkpoint.pt", "history.csv", "curve.png", "model.pt", "model_card.md",
    }  # fmt: skip
    card = (tmp_path / "model_card.md").read_text()
    assert "| score |" in card
    assert "data_sha256: abc123" in card
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert read_model(tmp_path / "model.pt")[1]["plan"]["data_sha256"] == "abc123"
    assert done.step == PLAN.steps


def test_a_finished_training_is_not_trained_further(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path, LineLearner(), CPU)
    before, _ = read_model(tmp_path / "model.pt")
    train(TASK, PLAN, tmp_path, LineLearner(), CPU)
    after, _ = read_model(tmp_path / "model.pt")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_folder_of_another_plan_is_refused(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path, LineLearner(), CPU, minutes=0.0)
    for other in (replace(PLAN, seed=6), replace(PLAN, settings={"width": 4})):
        with pytest.raises(ConfigurationError, match="another training"):
            train(TASK, other, tmp_path, LineLearner(), CPU)
    with pytest.raises(ConfigurationError, match="another training"):
        train(replace(TASK, name="curve"), PLAN, tmp_path, LineLearner(), CPU)


def test_a_training_is_not_gone_on_with_other_data(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path, LineLearner("one"), CPU, minutes=0.0)
    with pytest.raises(ConfigurationError, match="data have changed"):
        train(TASK, PLAN, tmp_path, LineLearner("other"), CPU)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        train(TASK, PLAN, tmp_path, LineLearner(), CPU)
    with pytest.raises(ConfigurationError, match="not empty"):
        train(TASK, PLAN, tmp_path / "thesis.txt", LineLearner(), CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint", None])
def test_a_damaged_checkpoint_is_refused_with_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    train(TASK, PLAN, tmp_path, LineLearner(), CPU, minutes=0.0)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(ConfigurationError, match=r"checkpoint\.pt cannot be read"):
        train(TASK, PLAN, tmp_path, LineLearner(), CPU)


def test_a_checkpoint_of_another_network_is_refused_with_a_sentence(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path, LineLearner(), CPU, minutes=0.0)
    learner = LineLearner()
    learner.network = nn.Sequential(nn.Linear(1, 4))
    with pytest.raises(ConfigurationError, match="not a checkpoint of this network"):
        train(TASK, PLAN, tmp_path, learner, CPU)


def test_a_damaged_plan_is_refused_with_a_sentence(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path, LineLearner(), CPU, minutes=0.0)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        train(TASK, PLAN, tmp_path, LineLearner(), CPU)


def test_a_checkpoint_that_carries_code_is_not_run(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path, LineLearner(), CPU, minutes=0.0)
    torch.save({"format": 1, "network": _Trap(tmp_path / "trapped")}, tmp_path / "checkpoint.pt")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        train(TASK, PLAN, tmp_path, LineLearner(), CPU)
    assert not (tmp_path / "trapped").exists()


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_loss_that_is_no_number_ends_the_training_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path, LineLearner(), CPU, minutes=0.0)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ConfigurationError, match="step 7 is not finite"):
        train(TASK, PLAN, tmp_path, LineLearner(poison_at=7), CPU)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


class _SteepLearner(LineLearner):
    """Its loss of step 7 is a number and its gradient is none."""

    def batch(self, step: int) -> Sequence[Tensor]:
        x, y = super().batch(step)
        return x, y, torch.tensor(float(step == 7))

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        steep = (self.network[2].weight * 0).abs().sqrt().sum()
        return super().loss(batch[:2]) + (steep if batch[2] else 0.0)


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="weights after step 7 are not finite"):
        _in_pieces(tmp_path, _SteepLearner())
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["network"]["0.weight"].isfinite().all()


def test_half_written_files_of_a_killed_training_do_not_stop_the_next(tmp_path: Path) -> None:
    tmp_path.joinpath(".plan.json.0123.part").write_text("{")
    train(TASK, PLAN, tmp_path, LineLearner(), CPU)
    assert not list(tmp_path.glob(".*.part"))


KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_training_loop as own
import dicom_node.training.loop as loop
loop.CHECKPOINT_SECONDS = 0.0
plan = own.replace(own.PLAN, steps=10**6, validate_every=10**5)
loop.train(own.TASK, plan, Path(sys.argv[1]), own.LineLearner(), own.CPU)
"""


def test_a_kill_at_any_instant_leaves_a_checkpoint_that_can_be_gone_on_with(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), here], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        until = time.monotonic() + 120.0
        while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < until:
            assert child.poll() is None
            time.sleep(0.02)
        time.sleep(0.2)  # it writes a checkpoint a step: the kill falls into a write
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    plan = replace(PLAN, steps=10**6, validate_every=10**5)
    began = json.loads(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"])["step"]
    done = train(TASK, plan, tmp_path, LineLearner(), CPU, minutes=0.0)
    assert done.step == began + 1 > 1


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_by_hand_or_by_the_system_ends_the_step_and_loses_nothing(tmp_path: Path, stop: signal.Signals) -> None:
    script = KILLED.replace("loop.CHECKPOINT_SECONDS = 0.0", "own.announce(Path(sys.argv[3]))")
    running = tmp_path / "running"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "training"), str(Path(__file__).parent), str(running)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 120.0
        while not running.exists() and time.monotonic() < until:
            assert child.poll() is None
            time.sleep(0.02)
        assert not (tmp_path / "training" / "checkpoint.pt").exists()
        child.send_signal(stop)
        assert child.wait(60) == -stop
    finally:
        child.kill()
        child.wait()
    assert json.loads(torch.load(tmp_path / "training" / "checkpoint.pt", weights_only=True)["progress"])["step"] >= 5


def announce(running: Path) -> None:
    """Write a file as soon as five steps are done."""
    batch = LineLearner.batch

    def announcing(self: LineLearner, step: int) -> Sequence[Tensor]:
        if step == 6:  # one batch ahead of the step
            running.touch()
        return batch(self, step)

    LineLearner.batch = announcing  # type: ignore[method-assign]


def test_two_trainings_never_share_a_folder(tmp_path: Path) -> None:
    refusals = []

    def second(step: int, *_: object) -> None:
        if step == 2:
            with pytest.raises(ConfigurationError, match="Another training is at work") as refused:
                train(TASK, PLAN, tmp_path, LineLearner(), CPU)
            refusals.append(refused)

    assert train(TASK, PLAN, tmp_path, LineLearner(), CPU, on_step=second).step == PLAN.steps
    assert len(refusals) == 1
    assert train(TASK, PLAN, tmp_path, LineLearner(), CPU).step == PLAN.steps  # the folder is free again


def test_a_file_system_that_cannot_lock_a_folder_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EBADF, "as NFS does")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert train(TASK, PLAN, tmp_path, LineLearner(), CPU).step == PLAN.steps


def test_a_foreign_file_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no file"):
        read_model(tmp_path / "model.pt")
    weights: dict[str, object] = {}
    for content in (
        {"state_dict": weights},
        {"format": 1, "weights": weights},
        {"format": 1, "weights": weights, "about": "{"},
        {"format": 1, "weights": weights, "about": "[]"},
        {"format": 1, "weights": 3, "about": "{}"},
        [weights],
        torch.zeros(2),
    ):
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(ConfigurationError, match="not a model written by"):
            read_model(tmp_path / "model.pt")


def test_a_checkpoint_without_its_progress_is_refused_with_a_sentence(tmp_path: Path) -> None:
    train(TASK, PLAN, tmp_path, LineLearner(), CPU, minutes=0.0)
    path = tmp_path / "checkpoint.pt"
    good = torch.load(path, weights_only=True)
    for progress in ("{}", "[]", "{", '{"step": 1, "seconds": 1, "losses": [1], "figures": []}'):
        torch.save({**good, "progress": progress}, path)
        with pytest.raises(ConfigurationError, match="not a checkpoint of this network"):
            train(TASK, PLAN, tmp_path, LineLearner(), CPU)


def test_the_learning_rate_follows_its_plan() -> None:
    poly = Plan(steps=100, learning_rate=1.0, decay="poly", warm_up_steps=10)
    assert learning_rate(poly, 0) == pytest.approx(0.1)
    assert learning_rate(poly, 50) == pytest.approx(0.5**0.9)
    cosine = replace(poly, decay="cosine", warm_up_steps=0)
    assert learning_rate(cosine, 0) == pytest.approx(1.0)
    assert learning_rate(cosine, 50) == pytest.approx(0.5)
    assert learning_rate(replace(cosine, decay="constant"), 99) == 1.0


def test_the_history_has_a_column_for_every_figure() -> None:
    text = history_csv([(1, 0.5), (2, 0.25)], [(1, {"a": 1.0}), (2, {"a": 2.0, "b": 3.0})])
    assert text.splitlines() == ["step,loss,a,b", "1,0.5,1,", "2,0.25,2,3"]
