"""TotalSegmentator's networks as a segmenter [Wasserthal2023]: its weights, its resampling, without its package.

Read from version 2.18.0 of the package (``nnunet.py``, ``resampling.py``, ``config.py``, ``map_tasks_config.py``): the
image is turned to RAS, resampled to the task's spacing with linear interpolation between the centres of the first and
the last voxel, cut to whole HU, labelled with a window step of 0.8 and without mirrored views, and the labels go back
by the nearest voxel. Of the task's networks only those run that know bones, as with its option ``--roi_subset``.
Weights are looked for where its own programs put them; nothing is downloaded.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.errors import SegmenterNotReady
from dicom_node.segmenters.extras import require
from dicom_node.segmenters.foreign_labels import TOTALSEGMENTATOR, LabelMap, bones_from, label_map
from dicom_node.segmenters.nnunet import Window, predict
from dicom_node.segmenters.nnunet_model import NnunetModel, read_model
from dicom_node.segmenters.orientation import turned
from dicom_node.segmenters.weights import MISSING
from inference.segmentation import Progress, Segmentation, SegmenterIdentity, no_progress
from inference.volume import Volume

NAME = "TotalSegmentator total"
EXTRA = "totalsegmentator"
WEIGHTS_VARIABLE, HOME_VARIABLE = "TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"
STEP = 0.8
DOWNLOAD = "pip install TotalSegmentator && totalseg_download_weights -t {task}"


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a task.

    Attributes
    ----------
    dataset
        Folder below the weights' folder.
    trainer
        With which it was trained: begins the folder of the model.
    values
        Its label values to those of the task ``total``; None: they are the same.
    """

    dataset: str
    trainer: str
    values: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """A task as it can be downloaded: its spacing, mm, and the networks that know bones, in the order they run."""

    task: str
    spacing_mm: float
    parts: tuple[Part, ...]


VARIANTS: tuple[Variant, ...] = (
    Variant(
        "total",
        1.5,
        (
            Part(
                "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
                "nnUNetTrainerNoMirroring",
                {1: 25, **{value: value + 24 for value in range(3, 11)}},
            ),
            Part(
                "Dataset294_TotalSegmentator_part4_muscles_1559subj",
                "nnUNetTrainerNoMirroring",
                {value: value + 68 for value in range(7, 11)},
            ),
        ),
    ),
    Variant(
        "total_fast",
        3.0,
        (Part("Dataset297_TotalSegmentator_total_3mm_1559subj", "nnUNetTrainer_4000epochs_NoMirroring"),),
    ),
)
"""The first whose weights are there is used."""


class TotalSegmentatorSegmenter:
    """TotalSegmentator's task ``total`` behind the segmenters' interface.

    Parameters
    ----------
    folder
        Where its weights lie; None: where its own programs put them.
    device
        ``cpu`` or ``cuda``.
    memory_limit_bytes
        Of a whole job; 0: none.

    Raises
    ------
    SegmenterNotReady
        When nnU-Net or the weights are missing; the sentence names the command that gets them.
    ConfigurationError
        When the weights cannot be used.
    """

    def __init__(self, folder: Path | None = None, device: str = "cpu", memory_limit_bytes: int = 0) -> None:
        require("nnunetv2", EXTRA)
        self._folder = folder or weights_folder()
        self.variant = _variant_in(self._folder)
        self._models = [(part, read_model(_model_folder(self._folder, part), (0,))) for part in self.variant.parts]
        self._labels: LabelMap = label_map(TOTALSEGMENTATOR)
        self._window = Window(device, STEP, mirror=False, memory_limit_bytes=memory_limit_bytes)
        digest = hashlib.sha256("".join(model.checksum for _, model in self._models).encode())
        self.identity = SegmenterIdentity(NAME, f"2, {self.variant.spacing_mm:g} mm", digest.hexdigest())

    def segment(self, volume: Volume, progress: Progress = no_progress) -> Segmentation:
        """Label the bones of a volume in any orientation, on its own grid.

        Raises
        ------
        SegmentationError
            When the volume is too large, or the labels cannot be a patient's.
        ConfigurationError
            When the weights cannot be read.
        """
        image = turned(volume, "RAS")
        progress(0.0, "resampling")
        small = resampled(image.hu, image.spacing_mm, self.variant.spacing_mm)
        spacing = (self.variant.spacing_mm,) * 3
        values = np.zeros(small.shape, dtype=np.uint8)
        share = 1 / len(self._models)
        for number, (part, model) in enumerate(self._models):
            values = _laid_over(values, part, self._predict(model, small, spacing, progress, number * share, share))
        found = bones_from(volume, image.restore(on_shape(values, image.hu.shape)), self._labels, self.identity)
        progress(1.0, "bones found")
        return found

    def _predict(
        self,
        model: NnunetModel,
        small: NDArray[np.float32],
        spacing_mm: tuple[float, ...],
        progress: Progress,
        start: float,
        share: float,
    ) -> NDArray[np.uint8]:
        return predict(
            model, small, spacing_mm, self._window, lambda done, doing: progress(start + share * done, doing)
        )


def weights_folder() -> Path:
    """Return where TotalSegmentator's programs keep weights (its ``config.py``)."""
    if WEIGHTS_VARIABLE in os.environ:
        return Path(os.environ[WEIGHTS_VARIABLE])
    if HOME_VARIABLE in os.environ:
        return Path(os.environ[HOME_VARIABLE]) / "nnunet" / "results"
    home = Path("/tmp") if str(Path.home()) == "/" else Path.home()  # noqa: S108 - as TotalSegmentator does in containers
    return home / ".totalsegmentator" / "nnunet" / "results"


def _variant_in(folder: Path) -> Variant:
    for variant in VARIANTS:
        if all((folder / part.dataset).is_dir() for part in variant.parts):
            return variant
    ways = " or ".join(f"{DOWNLOAD.format(task=one.task)} ({one.spacing_mm:g} mm)" for one in VARIANTS)
    raise SegmenterNotReady(
        f"There are no weights of TotalSegmentator in {folder}. On a machine with internet run {ways}, copy its folder "
        f"here if it is another machine, and name it by {WEIGHTS_VARIABLE} where it lies elsewhere.",
        MISSING,
    )


def _model_folder(folder: Path, part: Part) -> Path:
    """Folder of the trained model; plans have been renamed between releases, so any plans' name is taken."""
    named = sorted((folder / part.dataset).glob(f"{part.trainer}__*__3d_fullres"))
    return named[0] if named else folder / part.dataset / f"{part.trainer}__nnUNetPlans__3d_fullres"


def resampled(hu: NDArray[np.float32], spacing_mm: tuple[float, ...], target_mm: float) -> NDArray[np.float32]:
    """Resample an image as TotalSegmentator does (its ``change_spacing``), to whole HU, cut towards zero.

    Parameters
    ----------
    hu : (k, j, i) float32 array
    spacing_mm
        Of it.
    target_mm
        Of the result, along every axis.
    """
    if all(one == target_mm for one in spacing_mm):
        return hu
    zoom = [one / target_mm for one in spacing_mm]
    smaller = ndimage.zoom(hu, zoom, order=1, mode="nearest")
    return np.asarray(smaller).astype(np.int32).astype(np.float32)


def on_shape(values: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring labels back to a grid of another shape by the nearest voxel, as TotalSegmentator does."""
    if values.shape == shape:
        return values
    zoom = [there / here for there, here in zip(shape, values.shape, strict=True)]
    return np.asarray(ndimage.zoom(values, zoom, order=0, mode="nearest"))


def _laid_over(values: NDArray[np.uint8], part: Part, found: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay the labels of a network over those of the networks before it."""
    if part.values is None:
        return found
    table = np.zeros(max(int(found.max(initial=0)), *part.values) + 1, dtype=np.uint8)
    for own, value in part.values.items():
        table[own] = value
    laid = table[found]
    return np.where(laid > 0, laid, values)
