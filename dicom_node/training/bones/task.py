"""The task ``bones``: learns from public scans and made-up scenes, judged on a scan it never sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dicom_node.errors import ConfigurationError
from dicom_node.training.bones.appearance import render
from dicom_node.training.bones.card import CARD
from dicom_node.training.bones.geometry import PATCH, cut
from dicom_node.training.bones.judge import Judge
from dicom_node.training.bones.scenes import scene_subjects
from dicom_node.training.bones.subjects import IGNORED, PUBLIC_NAMES, Subject, public_subjects
from dicom_node.training.task import Plan, Say, Task
from inference.networks.bone_classes import BoneClass
from inference.networks.bone_net import BoneNet, channels_of

CLASS_WEIGHTS = (0.5, 1.0, 1.5, 1.2, 1.0, 1.0, 1.0, 1.2, 1.2, 1.0, 1.0)
"""Of the cross entropy, in the order of ``BoneClass``: thin and rare classes count more [m] assumption."""


@dataclass(eq=False)
class BoneLearner:
    """The bone network, its patches and its loss: cross entropy and Dice, half each [Isensee2021]."""

    network: BoneNet
    subjects: Sequence[Subject]
    shares: Sequence[float]
    plan: Plan
    judge: Judge
    device: torch.device
    patch: tuple[int, int, int] = PATCH

    def batch(self, step: int) -> Sequence[Tensor]:
        """Return images (batch, slice, row, column), HU, and targets."""
        size = int(self.plan.settings["batch"])
        return tuple(torch.stack(part) for part in zip(*(self._one(step, i) for i in range(size)), strict=True))

    def _one(self, step: int, number: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng([self.plan.seed, step, number])
        subject = self.subjects[generator.choice(len(self.subjects), p=self.shares)]
        return render(subject, cut(subject, generator, self.patch), generator)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the loss."""
        hu, target = batch
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits = self.network(channels_of(hu))
        return bone_loss(logits.float(), target)

    def validate(self) -> Mapping[str, float]:
        """Return Dice on the scan that is not learned from."""
        return self.judge.figures(self.network)


def bone_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return cross entropy plus the mean of 1 - Dice over the classes in view; ignored voxels count in neither."""
    counted = target != IGNORED
    safe = torch.where(counted, target, 0)
    weights = torch.tensor(CLASS_WEIGHTS, device=logits.device)
    entropy = functional.cross_entropy(logits, torch.where(counted, target, -100), weight=weights)
    chance = logits.softmax(dim=1) * counted[:, None]
    truth = functional.one_hot(safe, len(BoneClass)).permute(0, 4, 1, 2, 3) * counted[:, None]
    axes = (0, 2, 3, 4)
    overlap, sizes = (chance * truth).sum(axes), chance.sum(axes) + truth.sum(axes)
    in_view = truth.sum(axes) > 0
    in_view[0] = False
    if not in_view.any():
        return entropy
    return entropy + (1 - (2 * overlap + 1) / (sizes + 1))[in_view].mean()


def learner(data: Path | None, plan: Plan, device: torch.device, say: Say) -> BoneLearner:
    """Make the learner.

    Raises
    ------
    ConfigurationError
        When data are named, for this task makes its own, a setting is none, no scan has the name to leave out, or the
        public data cannot be downloaded.
    """
    if data is not None:
        raise ConfigurationError("The task bones makes its own data; leave --data out.")
    scene_count, made = int(plan.settings["scenes"]), float(plan.settings["scene_share"])
    if int(plan.settings["batch"]) < 1 or scene_count < 0 or not 0 <= made <= 1:
        raise ConfigurationError(
            "Expected a batch of 1 or more, no negative number of scenes, and a share from 0 to 1."
        )
    left_out = str(plan.settings["leave_out"])
    if left_out not in ("", *PUBLIC_NAMES):
        raise ConfigurationError(f"Expected leave_out to be empty or one of {', '.join(PUBLIC_NAMES)}, not {left_out}.")
    say("reading the public scans")
    subjects = public_subjects()
    real = [subject for subject in subjects if subject.name != left_out]
    unseen = [subject for subject in subjects if subject.name == left_out]
    scenes = scene_subjects(scene_count, plan.seed, say)
    made = made if scenes else 0.0
    shares = [(1 - made) / len(real)] * len(real) + [made / max(len(scenes), 1)] * len(scenes)
    torch.manual_seed(plan.seed)
    network = BoneNet()
    _start(network)
    return BoneLearner(network, (*real, *scenes), shares, plan, Judge.public(real[:1], unseen), device)


def _start(network: nn.Module) -> None:
    """Draw the weights as [He2015] does for rectifiers."""
    for part in network.modules():
        if isinstance(part, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(part.weight, a=0.01)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


TASK = Task(
    name="bones",
    text="the network that finds bones, from public scans and made-up scenes",
    source="",
    layout="",
    plan=Plan(
        steps=10000,
        learning_rate=2e-3,
        weight_decay=1e-4,
        optimizer="adamw",
        decay="cosine",
        warm_up_steps=100,
        clip_norm=2.0,
        averaging=0.998,
        validate_every=1000,
        settings={"batch": 1, "scenes": 60, "scene_share": 0.35, "leave_out": ""},
    ),
    learner=learner,
    card=CARD,
)
