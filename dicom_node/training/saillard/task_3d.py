"""``osteonode train femur-3d``: the 3D U-Net of [Saillard2024]."""

from pathlib import Path

import torch

from dicom_node.training.cases import LAYOUT
from dicom_node.training.saillard.card import CARD
from dicom_node.training.saillard.learners import Learner3d
from dicom_node.training.task import Learner, Plan, Say, Task

EPOCHS = 300
STEPS_AN_EPOCH = 250
"""The paper counts epochs and does not say how many patches one has; 250 batches are nnU-Net's [m] assumption."""

PUBLISHED = Plan(
    steps=EPOCHS * STEPS_AN_EPOCH,
    learning_rate=3e-5,
    optimizer="adam",
    decay="constant",
    validate_every=4 * STEPS_AN_EPOCH,
    settings={
        "spacing_slice_mm": 0.67,
        "spacing_in_slice_mm": 0.78,
        "batch": 4,
        "patch": 64,
        "width": 32,
        "rotation_deg": 10.0,
        "shift_mm": 10.0,
        "shear": 0.05,
        "scale": 0.1,
        "validation_femurs": 4,
    },
)
"""Published: spacing, batch, patch, rate, optimiser (Adam, 0.9 and 0.999), Dice loss, epochs, kinds of augmentation.
[m]: width, the ranges of the augmentation, the length of an epoch."""


def _learner(data: Path | None, plan: Plan, device: torch.device, say: Say) -> Learner:
    del device
    return Learner3d(data, plan, say)


TASK = Task(
    name="femur-3d",
    text="femur by a 3D U-Net",
    source="Saillard2024",
    layout=LAYOUT,
    plan=PUBLISHED,
    learner=_learner,
    card=CARD.format(title="3D U-Net", what="A 3D U-Net over overlapping patches", name="femur-3d"),
)
