"""A segmentation made outside of the node, for example corrected by a person, behind the segmenters' interface."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import SegmentationError
from inference.segmentation import Progress, Segmentation, SegmenterIdentity, check_labels, no_progress
from inference.vertebra_cut import cut_bodies
from inference.volume import Volume

CORRECTED_NAME = "Segmentation corrected by a person"
CORRECTED_VERSION = "1"

PLACE_TOLERANCE_MM = 0.01
"""Headers give positions to 1e-4 mm or better; a mask of another series is off by far more."""


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedSegmenter:
    """Gives back labels that were drawn on the very grid of the volume.

    Attributes
    ----------
    labels : (slice, row, column) uint8 array
        Values of ``inference.labels``.
    affine_lps : (4, 4) array
        Where they were drawn: index to LPS mm.
    checksum
        SHA-256 of the object they came in.
    name
        Of the segmenter in results.
    cuts_vertebrae
        Whether vertebrae may be whole, so that their arches are cut off.
    """

    labels: NDArray[np.uint8]
    affine_lps: NDArray[np.float64]
    checksum: str
    name: str = CORRECTED_NAME
    cuts_vertebrae: bool = False

    @property
    def identity(self) -> SegmenterIdentity:
        """Name, version and the checksum of the object."""
        return SegmenterIdentity(self.name, CORRECTED_VERSION, self.checksum)

    def segment(self, volume: Volume, progress: Progress = no_progress) -> Segmentation:
        """Return the labels, after a check that they were drawn on this volume.

        Raises
        ------
        SegmentationError
            When they lie elsewhere, or hold values no structure has.
        """
        if self.labels.shape != volume.hu.shape or not np.allclose(
            self.affine_lps, volume.affine_lps, atol=PLACE_TOLERANCE_MM
        ):
            raise SegmentationError("The segmentation was drawn on another series than the one analysed.")
        check_labels(self.labels, volume)
        labels, flags = cut_bodies(volume, self.labels) if self.cuts_vertebrae else (self.labels, ())
        progress(1.0, "segmentation read")
        return Segmentation(labels, self.identity, flags)
