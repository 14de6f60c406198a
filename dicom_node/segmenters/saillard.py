"""The femur networks of [Saillard2024] after a training on a site's data, as a segmenter.

The folder is that of ``osteonode train femur-3d`` or ``femur-2d``; of it ``model.pt`` is read. Each half of the scan is
registered to the reference femur that lies with the weights; a half that does not fit it gets no label and a flag.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from dicom_node.segmenters.extras import require
from dicom_node.segmenters.weights import checked_files, checksum_of
from dicom_node.training.loop import read_model
from dicom_node.training.saillard.answer import cleaned
from dicom_node.training.saillard.configuration import configuration_from
from dicom_node.training.saillard.frame import brought_back, laid
from dicom_node.training.saillard.halves import VALUES, Half, Side, halves_of, shows_one_hip
from dicom_node.training.saillard.registration import Pose, register
from inference.labels import BY_KEY
from inference.quality import QualityFlag
from inference.segmentation import Progress, Segmentation, SegmenterIdentity, check_labels, no_progress
from inference.volume import Volume, canonical

TASKS = ("femur-3d", "femur-2d")
MODEL = "model.pt"


class SaillardSegmenter:
    """Right and left femur, by a network trained here.

    Parameters
    ----------
    folder
        Of the training.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    SegmenterNotReady
        When the model or MONAI is missing.
    ConfigurationError
        When the model is damaged, foreign, or may be written by everybody.
    """

    def __init__(self, folder: Path, device: str) -> None:
        require("monai", "training")
        from dicom_node.training.saillard.networks import network_from

        path = folder / MODEL
        checked_files(folder, [path])
        weights, about = read_model(path)
        task = str(about.get("task"))
        if task not in TASKS:
            raise ConfigurationError(f"{MODEL} is of the task {task[:40]}; expected {' or '.join(TASKS)}.")
        of = configuration_from(about.get("plan", {}).get("settings", {}))
        self._network = network_from(weights, task, of.width, of.patch).eval().to(torch.device(device))
        self._frame = self._network.frame
        self._identity = SegmenterIdentity(
            f"OsteoNode {task}", f"{about.get('steps')} steps", checksum_of(folder, [path])
        )

    @property
    def identity(self) -> SegmenterIdentity:
        """Task, steps of the training, and the checksum of the model."""
        return self._identity

    def segment(self, volume: Volume, progress: Progress = no_progress) -> Segmentation:
        """Label the femurs of a volume in any orientation, on its own grid.

        A scan too narrow for both hips is tried as either; the side that fits better is labelled.
        """
        upright, orientation = canonical(volume)
        progress(0.0, "looking for the femurs")
        halves = halves_of(upright)
        poses = {side: register(half, self._frame) for side, half in halves.items()}
        if shows_one_hip(upright):
            best = max(poses, key=lambda side: poses[side].similarity)
            poses = {side: _narrow(pose, is_best=side == best) for side, pose in poses.items()}
        labels = np.zeros(upright.hu.shape, dtype=np.uint8)
        flags = []
        for place, (side, half) in enumerate(halves.items()):
            progress(0.2 + 0.4 * place, f"labelling the {side} femur")
            reason = poses[side].reason or self._label(labels, side, half, poses[side])
            if reason:
                flags.append(_not_found(side, reason))
        check_labels(labels, upright)
        progress(1.0, "femurs labelled")
        return Segmentation(np.ascontiguousarray(orientation.restore(labels)), self._identity, tuple(flags))

    def _label(self, labels: NDArray[np.uint8], side: Side, half: Half, pose: Pose) -> str:
        """Label one femur; return why there is none, or nothing."""
        share = cleaned(self._network.share(laid(half, pose.matrix, self._frame)))
        mask = brought_back(share, half, pose.matrix, self._frame)
        part = labels[half.box]
        part[mask & (part == 0)] = BY_KEY[VALUES[side]].value
        return "" if mask.any() else "the network saw no femur where the registration says there is one"


def _narrow(pose: Pose, *, is_best: bool) -> Pose:
    """Give up the side that a scan of one hip does not show."""
    return pose if is_best else Pose(pose.matrix, pose.similarity, "the scan shows one hip, and it is the other one")


def _not_found(side: Side, reason: str) -> QualityFlag:
    name = BY_KEY[VALUES[side]].name
    return QualityFlag("not_found", VALUES[side], f"{name} was not labelled: {reason}.")
