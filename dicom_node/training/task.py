"""What can be trained: a task makes a learner, and the loop (``dicom_node.training.loop``) trains it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

Say = Callable[[str], object]
"""Told what is being done, one short sentence at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is trained; written beside every checkpoint, and a resumed training must have the same.

    Attributes
    ----------
    steps
        Optimiser steps in all.
    seed
        Of the weights and, with the step's number, of every batch.
    learning_rate, weight_decay, optimizer
        Of the optimiser: ``adam``, ``adamw`` or ``sgd`` (Nesterov momentum 0.99).
    decay
        Of the learning rate over the steps: ``constant``, ``cosine`` to zero, or ``poly`` (1 - t)^0.9.
    warm_up_steps
        Steps over which the learning rate rises from zero.
    clip_norm
        Largest norm of the gradient; 0 clips nothing.
    averaging
        Decay of the exponential average of the weights, which is what is kept; 0 keeps the last weights.
    validate_every
        Steps between validations.
    settings
        The task's own configuration, plain values.
    """

    steps: int
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    decay: Literal["constant", "cosine", "poly"] = "constant"
    warm_up_steps: int = 0
    clip_norm: float = 0.0
    averaging: float = 0.0
    validate_every: int = 500
    settings: Mapping[str, float | int | str | bool] = field(default_factory=dict)


class Learner(Protocol):
    """A network with its data and its loss. Nothing in it changes but the network's weights.

    A learner of a site's data also has ``data_sha256``, the checksum of these (``dicom_node.training.cases``): it is
    kept with the model, and a training is not gone on with other data.
    """

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        ...

    def batch(self, step: int) -> Sequence[Tensor]:
        """Return the batch of a step, on the CPU; the same for the same seed and step, whatever ran before."""
        ...

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the scalar loss of a batch that is on the network's device."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Return figures by name, the first the one to judge by (larger is better); the network is in eval mode."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """A row of the table of tasks.

    Attributes
    ----------
    name
        What is typed: ``osteonode train NAME``.
    text
        Its help, one line.
    source
        Key of docs/references.md, or empty for ours.
    layout
        What ``--data`` must hold, for help and errors; empty where the task makes its own data.
    plan
        The published configuration.
    learner
        Makes the learner: data folder (None where none was named), plan, device, and whom to tell what is being done.
    card
        Text of the model card: intended use, data, limits. ``{figures}`` and ``{plan}`` are filled in.
    """

    name: str
    text: str
    source: str
    layout: str
    plan: Plan
    learner: Callable[[Path | None, Plan, torch.device, Say], Learner]
    card: str
