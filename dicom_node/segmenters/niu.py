"""The pipeline of [Niu2023] with a site's own three networks: projection, T12 to L2, cancellous bone, mean density.

It measures; it is no ``Segmenter``: its masks are cancellous cores, and ``inference.densitometry`` cuts cores out of
whole bodies. Its density carries no category: nobody but the site knows how good its networks are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from dicom_node.errors import ConfigurationError
from dicom_node.segmenters.weights import checked_files, checksum_of
from dicom_node.training.loop import read_model
from dicom_node.training.niu.anatomy_net import AnatomyNet
from dicom_node.training.niu.configuration import settings_of
from dicom_node.training.niu.core import Core, make_anatomy_net, predict
from dicom_node.training.niu.density import Density, estimate, make_dense_net, masked
from dicom_node.training.niu.detector import Detector
from dicom_node.training.niu.localisation import Detection, Localisation, detect, make_detector
from dicom_node.training.niu.projection import project
from dicom_node.training.niu.split import LEVELS
from dicom_node.training.niu.window import LEVEL_HU, WIDTH_HU, back, grey_in, lay
from dicom_node.training.task import Plan
from inference.calibration import CalibrationRecord, rho_qct_mg_per_cm3
from inference.labels import BY_KEY
from inference.quality import QualityFlag, forbids_density, merged_flags
from inference.volume import Volume, canonical
from inference.volume_checks import check_volume

LEAST_CORE_MM3 = 1000.0
"""Smallest cancellous core of a vertebra; what is smaller is a speck [m assumption]."""

PITCH_MM = (20.0, 50.0)
"""From the middle of one core to the next, T12 to L2 of a small and a large adult [m assumption]."""

RIVAL_SHARE = 0.5
"""Of the best detection's score: another place that scores as much makes the level uncertain [m assumption]."""

WHITE_HU, WHITE_SHARE = LEVEL_HU + WIDTH_HU / 2, 0.5
"""Above this the networks see white; where more than this share of the bone lies there, the density is a guess [m
assumption]."""

Network = TypeVar("Network", bound=nn.Module)
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Three trained networks with the settings they were trained with.

    Attributes
    ----------
    checksum
        SHA-256 over the three files, hexadecimal.
    """

    detector: Detector
    localisation: Localisation
    anatomy_net: AnatomyNet
    core: Core
    dense_net: DenseNet
    density: Density
    checksum: str


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the pipeline says of a scan.

    Attributes
    ----------
    labels : (slice, row, column) uint8 array
        Cancellous bone of T12, L1 and L2 on the scan's own grid; empty where a level is not certain.
    limits_mm
        Of T12 to L2 above the lower face of the scan in canonical order; None where nothing was found.
    score
        Of the localisation, 0 to 1.
    bmd_mg_per_cm3
        Of the density network; None where a flag forbids it.
    mean_hu
        Of the same bone in the scan.
    line_mg_per_cm3
        Its calibrated density, where a calibration was given: what needs no third network.
    flags
        Why a number is missing, or not to be trusted.
    """

    labels: NDArray[np.uint8]
    limits_mm: tuple[float, float] | None
    score: float
    bmd_mg_per_cm3: float | None
    mean_hu: float | None
    line_mg_per_cm3: float | None
    flags: tuple[QualityFlag, ...]


def read_models(folder: Path) -> Models:
    """Read the networks that ``osteonode train`` wrote.

    Parameters
    ----------
    folder
        Holds ``vertebra-localisation``, ``vertebra-core`` and ``vertebra-density``, each with ``model.pt``.

    Raises
    ------
    SegmenterNotReady
        When one is missing.
    ConfigurationError
        When one is damaged, writable for everybody, of another task, or the last two were trained on different boxes.
    """
    files = [folder / name / "model.pt" for name in ("vertebra-localisation", "vertebra-core", "vertebra-density")]
    checked_files(folder, files)
    detector, localisation = _read(files[0], Localisation, make_detector)
    anatomy_net, core = _read(files[1], Core, make_anatomy_net)
    dense_net, density = _read(files[2], Density, make_dense_net)
    if density.core.frame != core.frame or density.bodies != core.bodies:
        raise ConfigurationError(
            f"The networks of segmentation and density saw different boxes, {core.frame} and {density.core.frame}; "
            "train both with the same settings."
        )
    return Models(detector, localisation, anatomy_net, core, dense_net, density, checksum_of(folder, files))


def measure(models: Models | Path, volume: Volume, record: CalibrationRecord | None = None) -> Measured:
    """Measure the mean density of the cancellous bone of T12 to L2.

    Parameters
    ----------
    models
        From ``read_models``, or its folder.
    volume
        Any orientation.
    record
        Calibration for the straight line beside the network's density.

    Returns
    -------
    Measured
        Never a density without T12, L1 and L2, each in one piece and whole in the scan.

    Raises
    ------
    SegmenterNotReady, ConfigurationError
        When the networks cannot be read.
    """
    if isinstance(models, Path):
        models = read_models(models)
    upright, orientation = canonical(volume)
    checks = check_volume(volume)
    nothing = Measured(np.zeros(volume.hu.shape, np.uint8), None, 0.0, None, None, None, checks)
    image = project(upright, models.localisation.pixel_mm)
    found = detect(models.detector, image, models.localisation, torch.device("cpu"))
    if found is None:
        return replace(nothing, flags=merged_flags(checks, _not_found("The projection shows no whole T12, L1 and L2.")))
    margin_mm = models.localisation.margin_mm - models.core.margin_mm
    low_mm, high_mm = found.place.low_mm + margin_mm, found.place.high_mm - margin_mm
    located = replace(nothing, limits_mm=(low_mm, high_mm), score=found.score)
    window = lay(upright, low_mm, high_mm, models.core.frame)
    grey = grey_in(upright, window)
    probability = predict(models.anatomy_net, grey, torch.device("cpu"))
    parts = parts_of(probability >= 0.5, models.core)
    doubts = (*_doubts(found), *_sides(parts))
    if not levels_are_clear(parts, models.core):
        sentence = f"{len(parts)} pieces of cancellous bone were found; expected three, one above the other."
        return replace(located, flags=merged_flags(checks, doubts, _uncertain(sentence)))
    masks = [
        back(np.where(part, probability, 0.0).astype(np.float32), window, upright.hu.shape) >= 0.5 for part in parts
    ]
    labels = np.zeros(upright.hu.shape, np.uint8)
    for level, mask in zip(LEVELS, masks, strict=True):
        labels[mask] = BY_KEY[level].value
    flags = merged_flags(checks, doubts, _cut(labels))
    located = replace(located, labels=np.ascontiguousarray(orientation.restore(labels)), flags=flags)
    if not labels.any() or any(forbids_density(flags, level) for level in LEVELS):
        return located
    core_hu = upright.hu[labels > 0]
    mean_hu, white = float(core_hu.mean(dtype=np.float64)), float((core_hu > WHITE_HU).mean())
    box = masked(grey, np.logical_or.reduce(parts))
    return replace(
        located,
        flags=merged_flags(flags, _saturated(white)),
        bmd_mg_per_cm3=estimate(models.dense_net, box, models.density, torch.device("cpu")),
        mean_hu=mean_hu,
        line_mg_per_cm3=None if record is None else float(rho_qct_mg_per_cm3(mean_hu, record)),
    )


def parts_of(mask: Mask, settings: Core) -> list[Mask]:
    """Return the pieces of a mask in the box that are large enough for a core, from the head down."""
    pieces, count = ndimage.label(mask)
    voxel_mm3 = float(np.prod(settings.frame.spacing_mm))
    parts = [pieces == number for number in range(1, count + 1)]
    parts = [part for part in parts if np.count_nonzero(part) * voxel_mm3 >= LEAST_CORE_MM3]
    return sorted(parts, key=lambda part: -_height(part))


def levels_are_clear(parts: list[Mask], settings: Core) -> bool:
    """Whether there are three pieces, one above the other, a vertebra apart."""
    if len(parts) != len(LEVELS):
        return False
    heights_mm = [_height(part) * settings.slice_mm for part in parts]
    return all(PITCH_MM[0] <= upper - lower <= PITCH_MM[1] for upper, lower in pairwise(heights_mm))


def _height(part: Mask) -> float:
    weight = part.sum(axis=(1, 2))
    return float((weight * np.arange(len(weight))).sum() / weight.sum())


def _read(path: Path, kind: Callable[..., Any], make: Callable[[Any, int], Network]) -> tuple[Network, Any]:
    """Read one network and its settings."""
    weights, about = read_model(path)
    if about.get("task") != path.parent.name:
        raise ConfigurationError(f"{path} is a model of {about.get('task')}; expected {path.parent.name}.")
    try:
        settings = settings_of(kind, Plan(steps=1, settings=about["plan"]["settings"]))
        network = make(settings, 0)
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError):
        raise ConfigurationError(f"{path} does not fit the network it says it is.") from None
    network.eval()
    return network, settings


def _not_found(sentence: str) -> tuple[QualityFlag, ...]:
    return tuple(QualityFlag("not_found", level, sentence) for level in LEVELS)


def _uncertain(sentence: str) -> tuple[QualityFlag, ...]:
    return tuple(QualityFlag("level_uncertain", level, sentence) for level in LEVELS)


def _doubts(found: Detection) -> tuple[QualityFlag, ...]:
    """Flag a projection on which another place looks as much like T12 to L2."""
    if found.rival < RIVAL_SHARE * found.score:
        return ()
    return _uncertain(
        f"T12 to L2 were found with a score of {found.score:.2f}, and elsewhere with one of {found.rival:.2f}; "
        "expected one place."
    )


def _sides(parts: list[Mask]) -> tuple[QualityFlag, ...]:
    """Flag bone that the side of the box cuts: a field of view that is not about the patient."""
    whole = np.logical_or.reduce(parts) if parts else np.zeros((1, 3, 3), dtype=np.bool_)
    if not (whole[:, [0, -1]].any() or whole[:, :, [0, -1]].any()):
        return ()
    sentence = "Cancellous bone reaches the side of the box; expected a scan centred on the patient."
    return tuple(QualityFlag("truncated_bone", level, sentence) for level in LEVELS)


def _saturated(white: float) -> tuple[QualityFlag, ...]:
    """Flag bone that is mostly white to the networks."""
    if white <= WHITE_SHARE:
        return ()
    sentence = (
        f"{100 * white:.0f} percent of the cancellous bone is above {WHITE_HU:.0f} HU, where the density network sees "
        f"no difference; expected at most {100 * WHITE_SHARE:.0f} percent."
    )
    return tuple(QualityFlag("saturated", level, sentence, (("white_share", white),)) for level in LEVELS)


def _cut(labels: NDArray[np.uint8]) -> tuple[QualityFlag, ...]:
    """Flag cores that reach the edge of the scan."""
    faces = (labels[[0, -1]], labels[:, [0, -1]], labels[:, :, [0, -1]])
    at_edge = {int(value) for face in faces for value in np.unique(face)}
    return tuple(
        QualityFlag("truncated_bone", level, f"{BY_KEY[level].name}: its cancellous bone reaches the edge of the scan.")
        for level in LEVELS
        if BY_KEY[level].value in at_edge
    )
