"""nnU-Net v2 folders as segmenters: nnU-Net's own preprocessing, network and sliding window [Isensee2021].

Three things are done here instead, for reasons. Checkpoints are read without executing them. Logits go back to the
scan's grid one label at a time, so that memory does not grow with the number of labels; the label with the largest
logit wins, as in nnU-Net. And nothing is written: arrays go in and out.
"""

import contextlib
import copy
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from dicom_node.segmenters.card import CARD_FILE, NAME_LENGTH, Card, read_card
from dicom_node.segmenters.extras import imported, require
from dicom_node.segmenters.foreign_labels import LabelMap, bones_from, label_map
from dicom_node.segmenters.nnunet_model import NnunetModel, checked_architecture, read_model
from dicom_node.segmenters.orientation import turned
from dicom_node.segmenters.weights import restricted_load
from inference.errors import SegmentationError
from inference.segmentation import Progress, Segmentation, SegmenterIdentity, no_progress
from inference.volume import Volume

EXTRA = "nnunet"
LOGIT_BYTES, VOXEL_BYTES = 2, 40
"""nnU-Net keeps logits in half precision; beside them about five arrays of 8 bytes a voxel [m assumption], on the
network's grid and on the scan's."""


@dataclass(frozen=True, slots=True)
class Window:
    """How the sliding window runs.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``.
    step
        As a part of the patch.
    mirror
        Whether mirrored images are averaged in.
    memory_limit_bytes
        More is refused before it is asked for; 0: no limit.
    """

    device: str = "cpu"
    step: float = 0.5
    mirror: bool = True
    memory_limit_bytes: int = 0


class NnunetSegmenter:
    """A trained folder behind the segmenters' interface.

    Parameters
    ----------
    folder
        That nnU-Net trained, with ``osteonode.json`` beside its files where they do not say all.
    device
        ``cpu`` or ``cuda``.
    memory_limit_bytes
        Of a whole job; 0: none.

    Raises
    ------
    SegmenterNotReady
        When package or weights are missing.
    ConfigurationError
        When the folder cannot be used; the sentence says why.
    """

    def __init__(self, folder: Path, device: str = "cpu", memory_limit_bytes: int = 0) -> None:
        require("nnunetv2", EXTRA)
        card = read_card(folder)
        self.model: NnunetModel = read_model(folder, card.folds)
        self.labels: LabelMap = label_map(self.model.names, card.labels)
        self._orientation = _orientation(self.model, card)
        self._window = Window(device, card.step, card.mirror, memory_limit_bytes)
        self.identity = SegmenterIdentity(
            f"nnU-Net {card.name or self.model.name}"[:NAME_LENGTH],
            card.version or f"folds {' '.join(map(str, self.model.folds))}",
            self.model.checksum,
        )

    def segment(self, volume: Volume, progress: Progress = no_progress) -> Segmentation:
        """Label the bones of a volume in any orientation, on its own grid.

        Raises
        ------
        SegmentationError
            When the volume is too large, or the labels cannot be a patient's.
        ConfigurationError
            When the weights cannot be read.
        """
        image = turned(volume, self._orientation)
        values = predict(self.model, image.hu, image.spacing_mm, self._window, progress)
        found = bones_from(volume, image.restore(values), self.labels, self.identity)
        progress(1.0, "bones found")
        return found


def _orientation(model: NnunetModel, card: Card) -> str:
    if model.is_reoriented:
        return "RAS"
    if card.orientation is None:
        raise ConfigurationError(
            f"The nnU-Net in {model.folder} does not say how its training images lay, and a guess could swap left and "
            f'right. Say it in {model.folder / CARD_FILE}: {{"orientation": "RAS"}}, or LPS where they were written '
            "from DICOM by SimpleITK."
        )
    return card.orientation


def predict(
    model: NnunetModel,
    hu: NDArray[np.float32],
    spacing_mm: Sequence[float],
    window: Window,
    progress: Progress,
) -> NDArray[np.uint8]:
    """Label an array that lies as the model's training images did.

    Parameters
    ----------
    model
        From ``read_model``.
    hu : (k, j, i) float32 array
        CT numbers, HU.
    spacing_mm
        Along (k, j, i).
    window
        How the sliding window runs.
    progress
        Told what is being done.

    Returns
    -------
    (k, j, i) uint8 array
        Label values of the model.

    Raises
    ------
    SegmentationError
        When the array is empty, or more memory would be needed than there may be.
    ConfigurationError
        When the weights cannot be read, or belong to another network.
    """
    progress(0.0, "reading the network's weights")
    if not hu.any():
        raise SegmentationError("Found a volume of zeros; expected a CT.")
    predictor = _predictor(model, window)
    configuration, plans = predictor.configuration_manager, predictor.plans_manager
    shape = _network_shape(hu.shape, spacing_mm, plans, configuration)
    _check_memory(predictor.label_manager.num_segmentation_heads, shape, hu.size, window.memory_limit_bytes)
    progress(0.02, "resampling to the network's grid")
    facts: dict[str, Any] = {"spacing": list(spacing_mm)}
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, facts = preprocessor.run_case_npy(hu[None], None, facts, plans, configuration, predictor.dataset_json)
    torch = imported("torch", EXTRA)
    _tell_windows(predictor, data.shape[1:], progress)
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    return _on_grid(logits, predictor, facts, progress)


def _predictor(model: NnunetModel, window: Window) -> Any:
    """Make nnU-Net's predictor with the weights of every fold."""
    predicting = imported("nnunetv2.inference.predict_from_raw_data", EXTRA)
    building = imported("nnunetv2.utilities.get_network_from_plans", EXTRA)
    handling = imported("nnunetv2.utilities.plans_handling.plans_handler", EXTRA)
    torch = imported("torch", EXTRA)
    folds = [_checkpoint(path, model) for path in model.checkpoints]
    name = str(folds[0]["init_args"].get("configuration", ""))
    try:
        plans = handling.PlansManager(copy.deepcopy(dict(model.plans)))
        configuration = plans.get_configuration(name)
        checked_architecture(configuration.configuration, name)
        if configuration.previous_stage_name is not None:
            raise ConfigurationError(
                f"Configuration {name} is the second stage of a cascade; expected one network, as 3d_fullres."
            )
        heads = plans.get_label_manager(dict(model.dataset)).num_segmentation_heads
        network = building.get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            1,
            heads,
            deep_supervision=False,
        )
        for fold in folds:
            network.load_state_dict(fold["network_weights"])
    except (KeyError, RuntimeError, TypeError, ValueError, AssertionError, ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"The weights in {model.folder} do not fit the network of its plan ({type(error).__name__}; trainer "
            f"{str(folds[0].get('trainer_name'))[:64]}, configuration {name[:64]}). Only networks built from the plan "
            "are loaded; copy dataset.json, plans.json and the folds of one training."
        ) from None
    with contextlib.redirect_stdout(io.StringIO()):  # it prints advice for people at a terminal
        predictor = predicting.nnUNetPredictor(
            tile_step_size=window.step,
            use_mirroring=window.mirror,
            device=torch.device(window.device),
            allow_tqdm=False,
        )
    axes = folds[0].get("inference_allowed_mirroring_axes")
    weights = [fold["network_weights"] for fold in folds]
    predictor.manual_initialization(network, plans, configuration, weights, dict(model.dataset), "", axes)
    return predictor


def _checkpoint(path: Path, model: NnunetModel) -> dict[str, Any]:
    name = str(path.relative_to(model.folder))
    found = restricted_load(path, name)
    if not isinstance(found, dict) or not isinstance(found.get("init_args"), dict) or "network_weights" not in found:
        raise ConfigurationError(f"{name} is no checkpoint of nnU-Net v2: it holds no network_weights and init_args.")
    return found


def _network_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], plans: Any, configuration: Any
) -> tuple[int, ...]:
    """Shape of the image on the network's grid, in the plan's axis order, if nothing is cropped away."""
    order = plans.transpose_forward
    target = list(configuration.spacing)
    own = [spacing_mm[axis] for axis in order]
    target = [own[0], *target] if len(target) < len(own) else target
    return tuple(round(shape[axis] * mm / wanted) for axis, mm, wanted in zip(order, own, target, strict=True))


def _check_memory(heads: int, shape: Sequence[int], voxels: int, limit_bytes: int) -> None:
    """Refuse what would not fit, before it is asked for.

    Raises
    ------
    SegmentationError
        With what would be needed.
    """
    cells = int(np.prod(shape, dtype=np.int64))
    needed = cells * (heads * LOGIT_BYTES + VOXEL_BYTES) + voxels * VOXEL_BYTES
    if limit_bytes and needed > limit_bytes:
        raise SegmentationError(
            f"The network would need about {needed / 1e9:.0f} GB for this scan ({heads} classes on a grid of "
            f"{' x '.join(map(str, shape))}); {limit_bytes / 1e9:.0f} GB are allowed. Use a model of a coarser grid, "
            "or raise job_memory_limit_bytes."
        )


def _tell_windows(predictor: Any, shape: Sequence[int], progress: Progress) -> None:
    """Tell the progress of the sliding window after every pass of the network."""
    patch = predictor.configuration_manager.patch_size
    if len(patch) < len(shape):
        padded = [shape[0], *(max(pair) for pair in zip(shape[1:], patch, strict=True))]
    else:
        padded = [max(pair) for pair in zip(shape, patch, strict=True)]
    axes = predictor.allowed_mirroring_axes if predictor.use_mirroring else None
    views = 2 ** len(axes) if axes else 1
    windows = len(predictor._internal_get_sliding_window_slicers(tuple(padded)))
    total = windows * views * len(predictor.list_of_parameters)
    counter = itertools.count(1)

    def tell(*_: object) -> None:
        done = next(counter)
        progress(0.05 + 0.85 * min(1.0, done / total), f"network, window {min(done, total)} of {total}")

    predictor.network.register_forward_hook(tell)


def _on_grid(logits: Any, predictor: Any, facts: dict[str, Any], progress: Progress) -> NDArray[np.uint8]:
    """Bring logits to the scan's grid label by label, keep the largest, and undo cropping and axis order."""
    configuration, plans = predictor.configuration_manager, predictor.plans_manager
    shape = tuple(facts["shape_after_cropping_and_before_resampling"])
    own = [facts["spacing"][axis] for axis in plans.transpose_forward]
    spacing = list(configuration.spacing)
    spacing = [own[0], *spacing] if len(spacing) < len(shape) else spacing
    largest = np.full(shape, -np.inf, dtype=np.float32)
    values = np.zeros(shape, dtype=np.uint8)
    for value in range(logits.shape[0]):
        progress(0.9 + 0.1 * value / logits.shape[0], "back to the scan's grid")
        one = logits[value : value + 1].float().numpy()
        there = np.asarray(configuration.resampling_fn_probabilities(one, shape, spacing, own))[0]
        wins = there > largest
        values[wins] = value
        largest[wins] = there[wins]
    whole = np.zeros(tuple(facts["shape_before_cropping"]), dtype=np.uint8)
    whole[tuple(slice(low, high) for low, high in facts["bbox_used_for_cropping"])] = values
    return np.ascontiguousarray(whole.transpose(plans.transpose_backward))
