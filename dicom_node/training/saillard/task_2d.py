"""``osteonode train femur-2d``: the multi-axial 2D U-Nets of [Saillard2024]."""

from pathlib import Path

import torch

from dicom_node.training.cases import LAYOUT
from dicom_node.training.saillard.card import CARD
from dicom_node.training.saillard.learners import Learner2d
from dicom_node.training.saillard.networks import AXES
from dicom_node.training.task import Learner, Plan, Say, Task

EPOCHS = 500
STEPS_AN_EPOCH = 250
"""Of each axis. 12 femurs of some 450 axial slices in batches of 16 make 340, fewer across the other axes
[m] assumption."""

PUBLISHED = Plan(
    steps=len(AXES) * EPOCHS * STEPS_AN_EPOCH,
    learning_rate=2e-4,
    optimizer="adam",
    decay="constant",
    validate_every=4 * len(AXES) * STEPS_AN_EPOCH,
    settings={
        "spacing_slice_mm": 0.67,
        "spacing_in_slice_mm": 0.78,
        "batch": 16,
        "patch": 64,
        "width": 64,
        "rotation_deg": 10.0,
        "shift_mm": 10.0,
        "shear": 0.05,
        "scale": 0.1,
        "validation_femurs": 4,
    },
)
"""Published: spacing, batch, rate, optimiser (Adam, 0.9 and 0.999), Dice loss, epochs, kinds of augmentation, three
axes and their majority vote. [m]: width (the original U-Net's), the ranges of the augmentation, the length of an epoch.
A step trains the network of one axis, in turn, which for Adam is the same as training one after the other."""


def _learner(data: Path | None, plan: Plan, device: torch.device, say: Say) -> Learner:
    del device
    return Learner2d(data, plan, say)


TASK = Task(
    name="femur-2d",
    text="femur by three 2D U-Nets and a majority vote",
    source="Saillard2024",
    layout=LAYOUT,
    plan=PUBLISHED,
    learner=_learner,
    card=CARD.format(title="2D U-Nets", what="Three 2D U-Nets, one an axis, and their majority vote", name="femur-2d"),
)
