"""Two segmenters that know nothing of each other: where they name one bone differently, no number is made of it.

The first one's labels are used; the second only speaks against them. What the second did not find says nothing: it may
be the weaker one.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import SegmentationError
from inference.labels import BY_VALUE
from inference.quality import QualityFlag, merged_flags
from inference.segmentation import Progress, Segmentation, Segmenter, SegmenterIdentity, no_progress
from inference.volume import Volume

NAMED_OTHERWISE_SHARE = 0.5
"""A bone is named otherwise when the second gives more than this share of what it labels there another name."""

SEEN_SHARE = 0.25
"""The second must label at least this share of a bone at all, or it has no opinion of it. [m] assumption."""

DIFFERS_BELOW_DICE = 0.7
"""Two good surfaces of one bone overlap by 0.9 and more; less than this is another extent. [m] assumption."""


@dataclass(frozen=True, slots=True, eq=False)
class SecondOpinion:
    """The first segmenter's labels, with flags where the second disagrees.

    Attributes
    ----------
    first, second
        Any segmenters.
    """

    first: Segmenter
    second: Segmenter

    @property
    def identity(self) -> SegmenterIdentity:
        """Both names and versions; the checksum is the SHA-256 of both checksums, one after the other."""
        first, second = self.first.identity, self.second.identity
        both = hashlib.sha256((first.checksum + second.checksum).encode()).hexdigest()
        return SegmenterIdentity(f"{first.name}, checked by {second.name}", f"{first.version}+{second.version}", both)

    def segment(self, volume: Volume, progress: Progress = no_progress) -> Segmentation:
        """Label with the first, and compare with the second.

        Parameters
        ----------
        volume
            Any orientation.
        progress
            Told what is being done.

        Raises
        ------
        SegmentationError
            When the first breaks its contract; a second that fails is a flag.
        """
        found = self.first.segment(volume, lambda done, doing: progress(0.5 * done, doing))
        if not found.labels.any():
            return Segmentation(found.labels, self.identity, found.flags)
        try:
            other = self.second.segment(volume, lambda done, doing: progress(0.5 + 0.5 * done, f"again: {doing}"))
        except SegmentationError:
            flags: tuple[QualityFlag, ...] = (
                QualityFlag("no_second_opinion", "study", "The second segmenter failed; levels and sides stand alone."),
            )
        else:
            flags = disagreements(found.labels, other.labels)
        return Segmentation(found.labels, self.identity, merged_flags(found.flags, flags))


def disagreements(labels: NDArray[np.uint8], others: NDArray[np.uint8]) -> tuple[QualityFlag, ...]:
    """Compare two label maps of one volume.

    Parameters
    ----------
    labels, others : (slice, row, column) uint8 arrays
        Values of ``inference.labels``; ``labels`` are the ones in use.

    Returns
    -------
    tuple of QualityFlag
        ``named_otherwise`` and ``segmenters_differ``, on structures of ``labels``.
    """
    bone = (labels > 0) | (others > 0)
    pairs = labels[bone].astype(np.intp) * 256 + others[bone]
    together = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
    flags = []
    for value in np.flatnonzero(together[1:].sum(axis=1)) + 1:
        structure, here = BY_VALUE[int(value)], together[value]
        size, seen = int(here.sum()), int(here[1:].sum())
        if seen < SEEN_SHARE * size:
            continue
        rival = int(np.argmax(np.where(np.arange(256) == value, 0, here)[1:])) + 1
        if here[rival] > NAMED_OTHERWISE_SHARE * seen and rival in BY_VALUE:
            sentence = f"{structure.name}: a second segmenter calls this bone {BY_VALUE[rival].name}."
            flags.append(QualityFlag("named_otherwise", structure.key, sentence))
            continue
        overlap = 2 * here[value] / (size + together[:, value].sum())
        if overlap < DIFFERS_BELOW_DICE:
            sentence = f"{structure.name}: two segmenters agree on it with a Dice coefficient of {overlap:.2f} only."
            evidence = (("dice", round(float(overlap), 3)),)
            flags.append(QualityFlag("segmenters_differ", structure.key, sentence, evidence))
    return tuple(flags)
