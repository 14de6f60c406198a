"""The embedded segmenter: the trained network says what is where, geometry finds surfaces, names and faults.

docs/methods/segmentation-network.md.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray

from inference.errors import SegmentationError
from inference.labels import BY_KEY
from inference.networks.bone_net import BoneNet
from inference.networks.grid import resampled
from inference.networks.hip_parts import coarse_hips, whole_hips, write_mask
from inference.networks.predict import probabilities
from inference.networks.spine_parts import find_spine
from inference.quality import QualityFlag, merged_flags
from inference.refinement import refine
from inference.segmentation import Progress, Segmentation, SegmenterIdentity, no_progress
from inference.spinal_canal import working_grid
from inference.spine import for_all_levels, label_bodies
from inference.vertebra_levels import find_ribs, levels_from
from inference.volume import Volume, canonical

NAME, VERSION = "OsteoNode network", "1"
WEIGHTS = "bones.pt"
"""The weights, beside this file; ``osteonode train bones`` makes them."""


def weights_content() -> bytes:
    """Return the file of the weights as shipped.

    Raises
    ------
    SegmentationError
        When this build has none.
    """
    file = resources.files("inference.networks").joinpath(WEIGHTS)
    if not file.is_file():
        raise SegmentationError("This build holds no trained bone network; choose another segmenter.")
    return file.read_bytes()


@cache
def shipped() -> tuple[BoneNet, str]:
    """Return the shipped network, on the CPU in eval mode, and the SHA-256 of its weights.

    Raises
    ------
    SegmentationError
        When this build has none, or the file is damaged.
    """
    content = weights_content()
    network = BoneNet()
    try:
        network.load_state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["weights"])
    except Exception as error:  # noqa: BLE001 - torch raises a dozen kinds for a damaged file
        raise SegmentationError(f"The weights of the bone network are damaged ({type(error).__name__}).") from None
    return network.eval(), hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class NetworkSegmenter:
    """The shipped network on one device.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``; the result is the same but for the last digits of probabilities.
    """

    device: str = "cpu"

    @property
    def identity(self) -> SegmenterIdentity:
        """Name, version and the checksum of the weights."""
        return SegmenterIdentity(NAME, VERSION, shipped()[1])

    def segment(self, volume: Volume, progress: Progress = no_progress) -> Segmentation:
        """Label hips, vertebral bodies and the sacrum.

        Parameters
        ----------
        volume
            Any orientation.
        progress
            Told what is being done.

        Raises
        ------
        SegmentationError
            When this build has no weights.
        """
        upright, orientation = canonical(volume)
        network = shipped()[0].to(self.device)
        chances = probabilities(
            network, resampled(upright), progress=lambda done: progress(0.6 * done, "looking for bones")
        )
        classes = chances.argmax(axis=0).astype(np.uint8)
        progress(0.6, "measuring hips")
        hips, hip_flags = whole_hips(refine(upright, coarse_hips(classes, upright)), upright)
        progress(0.8, "measuring the spine")
        spine, spine_flags = _spine(classes, upright)
        labels = np.where(hips > 0, hips, spine)
        progress(1.0, "bones found")
        return Segmentation(
            labels=np.ascontiguousarray(orientation.restore(labels)),
            identity=self.identity,
            flags=merged_flags(hip_flags, spine_flags),
        )


def _spine(classes: NDArray[np.uint8], volume: Volume) -> tuple[NDArray[np.uint8], tuple[QualityFlag, ...]]:
    """Label the bodies that the network saw, and the sacrum below them."""
    grid = working_grid(volume)
    spine = find_spine(classes, grid)
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    if spine is None:
        return labels, for_all_levels("not_found", "No spinal canal was found in the scan.")
    if not spine.slabs:
        return labels, for_all_levels("not_found", "No vertebral body was found in the scan.")
    ribs = find_ribs(grid, spine.curve)
    bodies, flags = label_bodies(
        volume, spine.curve, spine.slabs, levels_from(grid, spine.curve, spine.slabs, spine.sacrum_top, ribs)
    )
    write_mask(labels, spine.sacrum, BY_KEY["sacrum"], volume)
    return np.where(bodies > 0, bodies, refine(volume, labels)), flags
