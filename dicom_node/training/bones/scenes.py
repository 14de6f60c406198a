"""Subjects made up from the bone shape model: pelves with both femurs, posed and rendered."""

import numpy as np
import torch

from dicom_node.public_data import fetch
from dicom_node.training.bones.subjects import IGNORED, METAL_HU, Subject, places_of
from dicom_node.training.shapes.model import ShapeModel
from dicom_node.training.shapes.scenes import hip_scene, mean_hu
from dicom_node.training.shapes.tissues import TISSUES
from dicom_node.training.task import Say
from inference.labels import BY_KEY
from inference.networks.bone_classes import CLASS_OF

BONE_TISSUES = ("cortical", "trabecular")
HU_LIMITS = (-1024.0, 3000.0)


def scene_subjects(count: int, seed: int, say: Say) -> tuple[Subject, ...]:
    """Make scenes, each another person.

    Raises
    ------
    ConfigurationError
        When the shape model cannot be downloaded.
    """
    model = ShapeModel.load(fetch("shapes"))
    subjects = []
    for number in range(count):
        say(f"making scene {number + 1} of {count}")
        subjects.append(scene_subject(model, seed + number))
    return tuple(subjects)


def scene_subject(model: ShapeModel, seed: int) -> Subject:
    """Make one scene."""
    scene = hip_scene(model, seed)
    hu = np.clip(mean_hu(scene, np.random.default_rng([seed, 1])), *HU_LIMITS)
    table = np.zeros(256, np.uint8)
    for key, bone in CLASS_OF.items():
        table[BY_KEY[key].value] = bone
    target = table[scene.labels]
    target[hu > METAL_HU] = IGNORED
    counts = np.maximum(np.bincount(scene.tissue.ravel(), minlength=len(TISSUES)), 1)
    mean = np.bincount(scene.tissue.ravel(), hu.ravel(), minlength=len(TISSUES)) / counts
    ranges = torch.tensor([tissue.mean_hu for tissue in TISSUES], dtype=torch.float32)
    return Subject(
        name=f"scene {seed}",
        hu=torch.from_numpy(hu.astype(np.float16)),
        target=torch.from_numpy(target),
        tissue=torch.from_numpy(scene.tissue),
        mean_hu=torch.from_numpy(mean.astype(np.float32)),
        low_hu=ranges[:, 0],
        high_hu=ranges[:, 1].clamp(max=HU_LIMITS[1]),
        is_bone=torch.tensor([tissue.name in BONE_TISSUES for tissue in TISSUES]),
        places=places_of(target),
    )
