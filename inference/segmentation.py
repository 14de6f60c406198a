"""One interface for every segmenter, and the classical one that needs no weights.

A segmenter takes a volume in any orientation and returns labels on that volume's own grid, with its identity
and the quality flags it raised. The classical segmenter composes ``inference.femur`` and ``inference.spine``.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.errors import SegmentationError
from inference.femur import segment_hips
from inference.labels import BY_VALUE
from inference.quality import QualityFlag, merged_flags
from inference.spine import segment_spine
from inference.volume import Volume, canonical

Progress = Callable[[float, str], None]
"""Called with the finished fraction, 0 to 1, and what is being done."""

CLASSICAL_NAME = "OsteoNode classical"
CLASSICAL_VERSION = "1"
"""Raised by one with every change of method; the checksum follows every change of source."""


@dataclass(frozen=True, slots=True)
class SegmenterIdentity:
    """What made a segmentation.

    Attributes
    ----------
    name, version
        For people.
    checksum
        SHA-256, hexadecimal, of the weights, or of the source where there are none.
    """

    name: str
    version: str
    checksum: str


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Labels of one volume.

    Attributes
    ----------
    labels : (slice, row, column) uint8 array
        On the volume's own grid; values of ``inference.labels``, 0 elsewhere.
    identity
        Of the segmenter.
    flags
        What the segmenter noticed.
    """

    labels: NDArray[np.uint8]
    identity: SegmenterIdentity
    flags: tuple[QualityFlag, ...]


class Segmenter(Protocol):
    """Anything that finds bones in a CT."""

    @property
    def identity(self) -> SegmenterIdentity:
        """Name, version and checksum."""
        ...

    def segment(self, volume: Volume, progress: Progress) -> Segmentation:
        """Label the bones of a volume in any orientation, on its own grid."""
        ...


def no_progress(fraction: float, doing: str) -> None:
    """Ignore progress."""


class ClassicalSegmenter:
    """Thresholds, geometry and morphology; deterministic, without weights."""

    @property
    def identity(self) -> SegmenterIdentity:
        """Name, version and the checksum of the source."""
        return SegmenterIdentity(CLASSICAL_NAME, CLASSICAL_VERSION, source_checksum(CLASSICAL_MODULES))

    def segment(self, volume: Volume, progress: Progress = no_progress) -> Segmentation:
        """Label hips and vertebral bodies.

        Parameters
        ----------
        volume
            Any orientation.
        progress
            Told what is being done.

        Returns
        -------
        Segmentation
            Where hip and spine overlap, the hip's label stays.

        Raises
        ------
        SegmentationError
            If a part returns labels of another shape, type or meaning.
        """
        upright, orientation = canonical(volume)
        progress(0.0, "finding the hips")
        hips, hip_flags = segment_hips(upright)
        check_labels(hips, upright)
        progress(0.5, "finding the spine")
        spine, spine_flags = segment_spine(upright)
        check_labels(spine, upright)
        labels = np.where(hips > 0, hips, spine)
        progress(1.0, "bones found")
        return Segmentation(
            labels=np.ascontiguousarray(orientation.restore(labels)),
            identity=self.identity,
            flags=merged_flags(hip_flags, spine_flags),
        )


def check_labels(labels: NDArray[np.uint8], volume: Volume) -> None:
    """Refuse labels that do not fit the volume or the table of structures.

    Parameters
    ----------
    labels
        What a segmenter returned.
    volume
        What it was given.

    Raises
    ------
    SegmentationError
        Naming what does not fit.
    """
    if labels.shape != volume.hu.shape or labels.dtype != np.uint8:
        raise SegmentationError(
            f"Found labels of shape {labels.shape} and type {labels.dtype}; expected {volume.hu.shape} and uint8."
        )
    is_strange = np.ones(256, dtype=np.bool_)
    is_strange[[0, *BY_VALUE]] = False
    strange = is_strange[labels]
    if strange.any():
        unknown = np.unique(labels[strange]).tolist()
        raise SegmentationError(f"Found label values {unknown}; expected values of inference.labels only.")


def source_checksum(modules: tuple[str, ...]) -> str:
    """SHA-256 over the source of modules of this package, in the order given.

    Parameters
    ----------
    modules
        Names without package and suffix.

    Returns
    -------
    str
        Hexadecimal digest.
    """
    digest = hashlib.sha256()
    for module in modules:
        digest.update(module.encode() + b"\0")
        digest.update(resources.files("inference").joinpath(f"{module}.py").read_bytes())
    return digest.hexdigest()


CLASSICAL_MODULES: tuple[str, ...] = (
    "femur",
    "hip_check",
    "hip_joint",
    "hip_separation",
    "isotropic",
    "labels",
    "morphology",
    "spinal_canal",
    "spinal_curve",
    "spine",
    "vertebra_bodies",
    "vertebra_endplates",
    "vertebra_levels",
    "volume",
)
"""Every module of this package that decides what the classical segmenter labels."""
