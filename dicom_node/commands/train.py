"""``osteonode train``."""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings
from dicom_node.training.loop import check_folder
from dicom_node.training.loop import train as run
from dicom_node.training.task import Plan
from dicom_node.training.tasks import TASKS, load_task

SEED_LIMIT = 2**32
"""Every source of chance takes a smaller seed."""


def train(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Train a network on a site's data, or go on where an earlier session stopped."""
    del settings
    if options.task is None:
        _print_tasks(console)
        return
    task = load_task(options.task)
    if task.layout and options.data is None:
        raise ConfigurationError(f"Name the data with --data DIR. {task.layout}")
    if options.out is None:
        raise ConfigurationError("Name the folder of the training with --out DIR; the same one goes on with it.")
    plan, device = _plan(task.plan, options), _device(options.device)
    check_folder(options.out, task, plan)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar, _told_of_a_stop(console):
        row = bar.add_task("reading the data", total=plan.steps, loss="-", figures="")
        learner = task.learner(options.data, plan, device, lambda what: bar.update(row, description=what))
        bar.update(row, description=f"training on {device.type}")

        def on_step(step: int, loss: float, figures: Mapping[str, float]) -> None:
            first = next(iter(figures.items()), None)
            said = f"  {first[0]} {first[1]:.3f}" if first else ""
            bar.update(row, completed=step, loss=f"{loss:.4f}", figures=said)

        done = run(task, plan, options.out, learner, device, on_step=on_step, minutes=options.minutes)
    if done.step < plan.steps:
        console.print(f"Stopped after {done.step} of {plan.steps} steps; the same command goes on.", highlight=False)
        return
    for name, value in done.figures[-1][1].items():
        console.print(f"{name}: {value:.4f}", highlight=False)
    console.print(f"Model, card and curve: {options.out}", highlight=False)


@contextmanager
def _told_of_a_stop(console: Console) -> Iterator[None]:
    """Say what Ctrl-C leaves."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on from the last checkpoint.", highlight=False)
        raise


def _plan(published: Plan, options: argparse.Namespace) -> Plan:
    """Return the published plan with what was named on the command line.

    Raises
    ------
    ConfigurationError
        When it is nothing to train with.
    """
    if options.seed is not None and not 0 <= options.seed < SEED_LIMIT:
        raise ConfigurationError(f"Found --seed {options.seed}; expected 0 to {SEED_LIMIT - 1}.")
    if options.learning_rate is not None and not 0 < options.learning_rate < math.inf:
        raise ConfigurationError(f"Found --learning-rate {options.learning_rate:g}; expected a positive number.")
    if not options.minutes >= 0:
        raise ConfigurationError(f"Found --minutes {options.minutes:g}; expected 0 or more.")
    named = {"steps": options.steps, "seed": options.seed, "learning_rate": options.learning_rate}
    plan = replace(published, **{key: value for key, value in named.items() if value is not None})
    plan = replace(plan, settings=_settings(published, options.set))
    return replace(plan, validate_every=min(plan.validate_every, plan.steps))


def _settings(published: Plan, named: Sequence[str]) -> dict[str, float | int | str | bool]:
    """Return the task's settings with what ``--set NAME=VALUE`` says."""
    settings = dict(published.settings)
    for text in named:
        name, _, value = text.partition("=")
        if name not in settings:
            known = ", ".join(settings) or "none"
            raise ConfigurationError(f"The task has no setting {name[:40]}; there are {known}.")
        settings[name] = _value(name, value, type(settings[name]))
    return settings


def _value(name: str, text: str, kind: type) -> float | int | str | bool:
    """Read a setting as the published one is."""
    try:
        value: float | int | str | bool = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"--set {name}={text[:40]}: expected a value like the published one.")
    return value


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("No CUDA device is usable here; leave --device out to train on the CPU.")
    return torch.device(name)


def _print_tasks(console: Console) -> None:
    table = Table("task", "what it trains")
    for name, (_, text) in TASKS.items():
        table.add_row(name, text)
    console.print(table)
