"""The training loop: one for every task, on a CPU or a GPU, resumable after any stop.

A folder of training holds ``plan.json``, ``checkpoint.pt`` (everything needed to go on), ``history.csv``,
``curve.png``, and at the end ``model.pt`` (weights and plan) with ``model_card.md``. Files are replaced whole, so a
stop at any instant leaves the last checkpoint; Ctrl-C and SIGTERM wait for the step and write one. A batch depends on
seed and step only, so a resumed training sees what an uninterrupted one would have seen.
"""

import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dicom_node.errors import ConfigurationError
from dicom_node.storage.files import write_durably
from dicom_node.training.history import curve, history_csv
from dicom_node.training.session import alone_in, stop_between_steps
from dicom_node.training.task import Learner, Plan, Task

CHECKPOINT_SECONDS = 120.0
STEPS_LIMIT = 10**9
FORMAT = 1
"""Of checkpoint and model files; raised with every change that older code cannot read."""

PLAN, DATA, LEFT_OVER = "plan.json", "data_sha256", ".*.part"
"""File of the plan, its key of the data's checksum, and what a killed training leaves of a file it was writing."""

OnStep = Callable[[int, float, Mapping[str, float]], object]
"""Told the number of finished steps, the smoothed loss, and the last validation's figures."""


@dataclass(slots=True)
class Progress:
    """What a training has done so far.

    Attributes
    ----------
    step
        Finished steps.
    seconds
        Spent on them, over all sessions.
    losses
        (step, smoothed loss) pairs, one a validation.
    figures
        (step, figures) pairs, one a validation.
    smoothed
        Loss averaged over the last steps; None before the first.
    """

    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    figures: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    smoothed: float | None = None


def train(
    task: Task,
    plan: Plan,
    folder: Path,
    learner: Learner,
    device: torch.device,
    *,
    on_step: OnStep = lambda *_: None,
    minutes: float = float("inf"),
) -> Progress:
    """Train, or go on training, until the plan's steps are done or the time is up.

    Parameters
    ----------
    task, plan
        What, and how.
    folder
        New, empty, or of an earlier session of the same task and plan.
    learner
        Network, data and loss.
    device
        Where the network computes.
    on_step
        Told after every step.
    minutes
        Time limit of this session; a checkpoint is written when it is reached.

    Raises
    ------
    ConfigurationError
        When the folder holds another task's or plan's training, or one of other data, or a checkpoint that cannot be
        read, or another training is at work in it; when the loss or a weight is no number any more.
    """
    _begun(folder, task, plan)
    with alone_in(folder), stop_between_steps() as asked_to_stop:
        stop_at = time.monotonic() + 60.0 * minutes
        return _session(
            task, plan, folder, learner, device, on_step, lambda: asked_to_stop() or time.monotonic() >= stop_at
        )


def _session(
    task: Task,
    plan: Plan,
    folder: Path,
    learner: Learner,
    device: torch.device,
    on_step: OnStep,
    must_stop: Callable[[], bool],
) -> Progress:
    """Take steps from the last checkpoint on until all are done or it must stop."""
    data = getattr(learner, "data_sha256", "")
    _claim(folder, task, plan, data)
    network = learner.network.to(device)
    optimizer = _optimizer(network, plan)
    average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    done = _resume(folder, network, optimizer, average)
    began, saved = time.monotonic() - done.seconds, time.monotonic()
    for step, batch in _batches(learner, done.step, plan.steps):
        loss = _step(learner, optimizer, plan, step, [tensor.to(device) for tensor in batch])
        if not math.isfinite(loss):
            raise ConfigurationError(f"The loss of step {step} is not finite; lower the learning rate.")
        _average(average, network, plan.averaging, step)
        done.smoothed = loss if done.smoothed is None else 0.98 * done.smoothed + 0.02 * loss
        done.step, done.seconds = step + 1, time.monotonic() - began
        last = done.step == plan.steps
        if last or done.step % plan.validate_every == 0:
            done.losses.append((done.step, done.smoothed))
            done.figures.append((done.step, _validate(learner, network, average)))
        on_step(done.step, done.smoothed, done.figures[-1][1] if done.figures else {})
        stops = must_stop()
        if last or stops or time.monotonic() - saved > CHECKPOINT_SECONDS:
            _save(folder, task, plan, network, optimizer, average, done)
            saved = time.monotonic()
        if stops:
            break
    if done.step == plan.steps:
        _finish(folder, task, plan, average, done, data)
    return done


def read_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights and the description of a trained model.

    Returns
    -------
    weights
        State of the network.
    about
        ``task``, ``plan``, ``steps``, ``figures``.

    Raises
    ------
    ConfigurationError
        When there is no such file, or it is not a model this program wrote.
    """
    content = _load(path)
    content = content if isinstance(content, dict) else {}
    try:
        weights, about = content["weights"], json.loads(content["about"])
        is_ours = content["format"] == FORMAT and isinstance(weights, dict) and isinstance(about, dict)
    except (KeyError, TypeError, ValueError):
        is_ours = False
    if not is_ours:
        raise ConfigurationError(f"{path.name} is not a model written by osteonode train.")
    return weights, about


def _load(path: Path) -> Any:
    """Read a file of tensors and plain values; anything else a pickle may hold is refused."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {path}.") from None
    except Exception as error:  # noqa: BLE001 - torch raises a dozen kinds for a damaged or foreign file
        raise ConfigurationError(f"{path.name} cannot be read ({type(error).__name__}): damaged or foreign.") from None


def check_folder(folder: Path, task: Task, plan: Plan) -> None:
    """Refuse a folder of another training or of something else, before any work; nothing is written.

    Raises
    ------
    ConfigurationError
        When it holds another task's or plan's training, or no training but other files.
    """
    _begun(folder, task, plan)


def _begun(folder: Path, task: Task, plan: Plan) -> dict[str, Any] | None:
    """Return the plan a folder was begun with; None for a new one."""
    written = folder / PLAN
    if not written.exists():
        if folder.exists() and (not folder.is_dir() or any(not path.match(LEFT_OVER) for path in folder.iterdir())):
            raise ConfigurationError(f"{folder} is not empty and holds no training; name a new folder.")
        return None
    try:
        found = json.loads(written.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigurationError(f"{written} is damaged; name a new folder.") from None
    wanted = json.loads(_described(task, plan, ""))
    if not isinstance(found, dict) or {**found, DATA: ""} != {**wanted, DATA: ""}:
        raise ConfigurationError(
            f"{written} describes another training; name a new folder, or repeat the command it was begun with."
        )
    return found


def _claim(folder: Path, task: Task, plan: Plan, data: str) -> None:
    """Write the plan into a new folder; refuse a folder of another training, or of other data."""
    found = _begun(folder, task, plan)
    if folder.is_dir():
        for leftover in folder.glob(LEFT_OVER):
            leftover.unlink()
    if found is None:
        write_durably(folder / PLAN, [_described(task, plan, data).encode()])
    elif found.get(DATA, "") != data:
        raise ConfigurationError(
            "The data have changed since this training was begun; put them back, or name a new folder."
        )


def _described(task: Task, plan: Plan, data: str) -> str:
    return json.dumps({"task": task.name, **_about(plan, data)}, indent=2, sort_keys=True)


def _about(plan: Plan, data: str) -> dict[str, Any]:
    """Return a plan as plain values, with the checksum of the data where there is one."""
    return {**asdict(plan), "settings": dict(plan.settings), **({DATA: data} if data else {})}


def _optimizer(network: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    weights = list(network.parameters())
    if plan.optimizer == "sgd":
        return torch.optim.SGD(weights, plan.learning_rate, 0.99, weight_decay=plan.weight_decay, nesterov=True)
    kind = torch.optim.AdamW if plan.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, plan.learning_rate, weight_decay=plan.weight_decay)


def learning_rate(plan: Plan, step: int) -> float:
    """Return the learning rate of a step (from 0)."""
    warm = min(1.0, (step + 1) / plan.warm_up_steps) if plan.warm_up_steps else 1.0
    left = 1.0 - step / plan.steps
    factors = {"constant": 1.0, "cosine": 0.5 * (1.0 - math.cos(math.pi * left)), "poly": left**0.9}
    return plan.learning_rate * warm * factors[plan.decay]


def _batches(learner: Learner, first: int, end: int) -> Iterator[tuple[int, Sequence[Tensor]]]:
    """Make each batch while the one before it is computed with."""
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as maker:
        coming = maker.submit(learner.batch, first) if first < end else None
        for step in range(first, end):
            assert coming is not None
            batch = coming.result()
            coming = maker.submit(learner.batch, step + 1) if step + 1 < end else None
            yield step, batch


def _step(learner: Learner, optimizer: torch.optim.Optimizer, plan: Plan, step: int, batch: Sequence[Tensor]) -> float:
    """Take one optimiser step; return the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(plan, step)
    learner.network.train()
    # What a layer draws, as dropout does, depends on seed and step only.
    torch.manual_seed((plan.seed * STEPS_LIMIT + step) % 2**63)
    optimizer.zero_grad(set_to_none=True)
    loss = learner.loss(batch)
    loss.backward()
    if plan.clip_norm:
        nn.utils.clip_grad_norm_(learner.network.parameters(), plan.clip_norm)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _average(average: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> None:
    """Follow the weights; the first steps count less, so that the random start is soon forgotten."""
    keep = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            average[name].mul_(keep).add_(tensor, alpha=1.0 - keep)
        else:
            average[name].copy_(tensor)


def _validate(learner: Learner, network: nn.Module, average: Mapping[str, Tensor]) -> dict[str, float]:
    """Judge the averaged weights, and put the trained ones back."""
    trained = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    try:
        with torch.no_grad():
            return {name: float(value) for name, value in learner.validate().items()}
    finally:
        network.load_state_dict(trained)


def _save(
    folder: Path,
    task: Task,
    plan: Plan,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor],
    done: Progress,
) -> None:
    """Write the checkpoint, unless a gradient was no number where the loss still was one."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values()):
        raise ConfigurationError(f"The weights after step {done.step - 1} are not finite; lower the learning rate.")
    content = {
        "format": FORMAT,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": dict(average),
        "progress": json.dumps(asdict(done)),
    }
    _write(folder / "checkpoint.pt", content)
    write_durably(folder / "history.csv", [history_csv(done.losses, done.figures).encode()])
    if done.figures:
        write_durably(folder / "curve.png", [curve(task.name, plan.steps, done.losses, done.figures)])


def _resume(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> Progress:
    """Put everything back to where the last checkpoint was; a new training has none."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return Progress()
    content = _load(path)
    try:
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        for name, tensor in content["average"].items():
            average[name].copy_(tensor)
        state = json.loads(content["progress"])
        return Progress(
            state["step"],
            state["seconds"],
            [(step, loss) for step, loss in state["losses"]],
            [(step, figures) for step, figures in state["figures"]],
            state.get("smoothed"),
        )
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError):
        raise ConfigurationError(f"{path} is not a checkpoint of this network; name a new folder.") from None


def _finish(folder: Path, task: Task, plan: Plan, average: Mapping[str, Tensor], done: Progress, data: str) -> None:
    """Write the model and its card."""
    figures = done.figures[-1][1]
    about = {"task": task.name, "plan": _about(plan, data), "steps": done.step, "figures": figures}
    weights = {name: tensor.cpu() for name, tensor in average.items()}
    _write(folder / "model.pt", {"format": FORMAT, "weights": weights, "about": json.dumps(about)})
    lines = "\n".join(f"| {name} | {value:.4g} |" for name, value in figures.items())
    table = f"| figure | value |\n|---|---|\n{lines}"
    settings = "\n".join(f"- {name}: {value}" for name, value in _about(plan, data).items())
    card = task.card.replace("{figures}", table).replace("{plan}", settings)
    write_durably(folder / "model_card.md", [card.encode()])


def _write(path: Path, content: Mapping[str, object]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_durably(path, [buffer.getvalue()])
