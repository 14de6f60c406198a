"""MONAI bundles as segmenters: the bundle's own network, transforms and inferer [Cardoso2022].

Of the configuration the sections ``network_def``, ``preprocessing``, ``inferer`` and ``postprocessing`` are used, made
plain by ``monai_config`` before MONAI's parser sees them; weights are read without executing them.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from dicom_node.segmenters.bundle_files import WEIGHTS, BundleFiles, read_bundle
from dicom_node.segmenters.card import CARD_FILE, NAME_LENGTH
from dicom_node.segmenters.extras import imported, require
from dicom_node.segmenters.foreign_labels import bones_from, label_map
from dicom_node.segmenters.monai_config import PlainConfig
from dicom_node.segmenters.orientation import Turned, turned
from dicom_node.segmenters.weights import restricted_load
from inference.errors import SegmentationError
from inference.segmentation import Progress, Segmentation, SegmenterIdentity, no_progress
from inference.volume import Volume

EXTRA = "monai"
IMAGE, PRED = "image", "pred"
SECTIONS = ("network_def", "preprocessing", "inferer", "postprocessing")
ORIENTATION, INVERT = "monai.transforms.Orientationd", "monai.transforms.Invertd"
VALUE_BYTES, COPIES = 4, 3
"""Of a logit, and how many arrays of them there are at a time: logits, probabilities, those turned back."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What MONAI made of a bundle's sections; ``postprocessing`` may be None."""

    network: Any
    preprocessing: Any
    inferer: Any
    postprocessing: Any


class MonaiSegmenter:
    """A MONAI bundle behind the segmenters' interface.

    Parameters
    ----------
    place
        Folder of the bundle, or the archive of that name ending in ``.zip``.
    device
        ``cpu`` or ``cuda``.
    memory_limit_bytes
        Of a whole job; 0: none.

    Raises
    ------
    SegmenterNotReady
        When package or weights are missing.
    ConfigurationError
        When the bundle cannot be used, or names what this node does not make; the sentence says what.
    """

    def __init__(self, place: Path, device: str = "cpu", memory_limit_bytes: int = 0) -> None:
        require("monai", EXTRA)
        self._files: BundleFiles = read_bundle(place)
        self._device, self._limit_bytes = device, memory_limit_bytes
        self.labels = label_map(_names(self._files), self._files.card.labels)
        plain = PlainConfig(self._files.config, {"device": device})
        self._sections = {name: plain.section(name) for name in SECTIONS}
        _check_sections(self._sections)
        self._orientation = _orientation(self._files, self._sections)
        metadata = self._files.metadata
        self.identity = SegmenterIdentity(
            f"MONAI {self._files.card.name or metadata.get('name') or self._files.name}"[:NAME_LENGTH],
            (self._files.card.version or str(metadata.get("version", "")) or "unknown")[:NAME_LENGTH],
            self._files.checksum,
        )

    def segment(self, volume: Volume, progress: Progress = no_progress) -> Segmentation:
        """Label the bones of a volume in any orientation, on its own grid.

        Raises
        ------
        SegmentationError
            When the volume is too large, the bundle cannot label it, or the labels cannot be a patient's.
        ConfigurationError
            When the weights do not fit the bundle's network.
        """
        progress(0.0, "reading the network's weights")
        image = turned(volume, self._orientation)
        values = self._values(self._made(), image, progress)
        found = bones_from(volume, image.restore(values), self.labels, self.identity)
        progress(1.0, "bones found")
        return found

    def _made(self) -> Parts:
        """Make network, transforms and inferer, with the weights in place.

        Raises
        ------
        ConfigurationError
            When MONAI cannot make them, or the weights are another network's.
        """
        parser = imported("monai.bundle", EXTRA).ConfigParser(
            {name: section for name, section in self._sections.items() if section is not None}
        )
        try:
            made = [
                parser.get_parsed_content(name, instantiate=True) if self._sections[name] is not None else None
                for name in SECTIONS
            ]
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
            raise ConfigurationError(
                f"MONAI cannot make the parts of the bundle {self._files.name} ({type(error).__name__}); it may need "
                "another version of MONAI."
            ) from None
        network: Any = made[0]
        weights = restricted_load(io.BytesIO(self._files.weights), WEIGHTS)
        try:
            network.load_state_dict(_state(weights))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{WEIGHTS} of the bundle {self._files.name} does not fit its network_def ({type(error).__name__})."
            ) from None
        return Parts(network.to(self._device).eval(), made[1], made[2], made[3])

    def _values(self, parts: Parts, image: Turned, progress: Progress) -> NDArray[np.uint8]:
        """Run the bundle; return label values as (k, j, i)."""
        torch = imported("torch", EXTRA)
        data = {IMAGE: _meta_tensor(image)}
        try:
            with torch.inference_mode():
                progress(0.05, "resampling to the network's grid")
                data = parts.preprocessing(data)
                self._check_memory(data[IMAGE].shape[1:], image.hu.shape)
                progress(0.1, "network")
                batch = data[IMAGE][None].to(self._device).as_tensor()
                logits = parts.inferer(batch, parts.network)[0].cpu()
                progress(0.9, "back to the scan's grid")
                values = self._on_grid(parts, data, logits)
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise SegmentationError(
                f"The MONAI bundle {self._files.name} failed on this scan ({type(error).__name__}); its transforms may "
                "expect other images."
            ) from None
        if values.shape != image.hu.shape[::-1]:
            raise SegmentationError(
                f"The MONAI bundle gave labels of shape {values.shape}; expected {image.hu.shape[::-1]}."
            )
        return np.ascontiguousarray(values.transpose(2, 1, 0))

    def _on_grid(self, parts: Parts, data: dict[str, Any], logits: Any) -> NDArray[np.uint8]:
        """Apply the bundle's postprocessing, and what it leaves undone: the largest class, the scan's grid."""
        transforms = imported("monai.transforms", EXTRA)
        tensors = imported("monai.data", EXTRA)
        data[PRED] = tensors.MetaTensor(logits, meta=data[IMAGE].meta)
        if parts.postprocessing is not None:
            data = parts.postprocessing(data)
        if not _has(self._sections["postprocessing"], INVERT):
            data[PRED] = tensors.MetaTensor(_largest(data[PRED]), meta=data[IMAGE].meta)
            invert = transforms.Invertd(PRED, parts.preprocessing, orig_keys=IMAGE, nearest_interp=True, to_tensor=True)
            data = invert(data)
        largest = _largest(data[PRED])[0]
        return np.rint(np.asarray(largest)).astype(np.uint8)

    def _check_memory(self, shape: Sequence[int], own: Sequence[int]) -> None:
        classes = max(self.labels.structures) + 1
        turns_logits = _has(self._sections["postprocessing"], INVERT)
        cells = int(np.prod(own if turns_logits else shape, dtype=np.int64)) + int(np.prod(shape, dtype=np.int64))
        needed = cells * classes * VALUE_BYTES * COPIES
        if self._limit_bytes and needed > self._limit_bytes:
            raise SegmentationError(
                f"The MONAI bundle would need about {needed / 1e9:.0f} GB for this scan; "
                f"{self._limit_bytes / 1e9:.0f} GB are allowed. Use a bundle of a coarser grid, or raise "
                "job_memory_limit_bytes."
            )


def _names(files: BundleFiles) -> dict[int, str]:
    """Label names of a bundle's output (``network_data_format`` of its metadata)."""
    found: Any = files.metadata
    for key in ("network_data_format", "outputs", PRED, "channel_def"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(str(value).isdecimal() for value in found):
        raise ConfigurationError(
            f"The metadata of the MONAI bundle {files.name} names no labels (network_data_format, outputs, pred, "
            "channel_def)."
        )
    return {int(value): str(name) for value, name in found.items() if 0 < int(value) <= 255}


def _check_sections(sections: Mapping[str, Any]) -> None:
    for name in ("network_def", "preprocessing", "inferer"):
        if not isinstance(sections[name], dict) or "_target_" not in sections[name]:
            raise ConfigurationError(f"The bundle's configuration has no section {name} that makes something.")
    for kind, prefix in (("network_def", "monai.networks."), ("inferer", "monai.inferers.")):
        if not sections[kind]["_target_"].startswith(prefix):
            raise ConfigurationError(f"The bundle's {kind} is {sections[kind]['_target_']}, which is none.")


def _orientation(files: BundleFiles, sections: Mapping[str, Any]) -> str:
    if _has(sections["preprocessing"], ORIENTATION):
        return "RAS"
    if files.card.orientation is None:
        raise ConfigurationError(
            f"The MONAI bundle {files.name} does not turn images (Orientationd), so a guess could swap left and right. "
            f'Say how its training images lay in {CARD_FILE} beside it: {{"orientation": "RAS"}}.'
        )
    return files.card.orientation


def _has(section: Any, target: str) -> bool:
    transforms = section.get("transforms", []) if isinstance(section, dict) else []
    return any(isinstance(one, dict) and one.get("_target_") == target for one in transforms)


def _meta_tensor(image: Turned) -> Any:
    """Return the image as MONAI's reader would: channel first, axes (i, j, k), with its place."""
    torch = imported("torch", EXTRA)
    values = torch.from_numpy(np.ascontiguousarray(image.hu.transpose(2, 1, 0)))[None]
    return imported("monai.data", EXTRA).MetaTensor(
        values, affine=torch.from_numpy(image.affine_ras), meta={"original_channel_dim": 0, "space": "RAS"}
    )


def _largest(values: Any) -> Any:
    """Return label values of an array of one channel a class; one channel alone holds label values already."""
    return values.argmax(dim=0, keepdim=True).to(values.dtype) if values.shape[0] > 1 else values


def _state(weights: Any) -> Any:
    """State dictionary of a file of weights: itself, or under the names that MONAI's trainers use."""
    if isinstance(weights, dict):
        for key in ("model", "state_dict", "network"):
            if isinstance(weights.get(key), dict):
                return weights[key]
    return weights
