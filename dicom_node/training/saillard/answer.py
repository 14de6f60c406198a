"""What a network says, cleaned: one connected femur [Saillard2024].

The paper removes islands "by binary dilation and erosion" and says no more. Here [m]: the answer is eroded once, so
that thin bridges break, the largest piece is kept and dilated twice, and only what was said inside it stays.
"""

import numpy as np
from scipy import ndimage

from dicom_node.training.saillard.frame import Array, Mask


def cleaned(share: Array) -> Array:
    """Set to 0 what is no part of the largest piece.

    Parameters
    ----------
    share : (slice, row, column) float32 array
        0 to 1; femur is from 0.5.

    Returns
    -------
    (slice, row, column) float32 array
        The same inside the piece; around it the values that interpolation needs.
    """
    mask = share >= 0.5
    if not mask.any():
        return np.zeros_like(share)
    eroded = ndimage.binary_erosion(mask)
    piece = _largest(eroded if eroded.any() else mask)
    grown = ndimage.binary_dilation(piece, np.ones((3, 3, 3), dtype=np.bool_), iterations=2)
    kept = _largest(mask & grown)
    return np.where(kept | (ndimage.binary_dilation(kept) & ~mask), share, np.float32(0.0))


def _largest(mask: Mask) -> Mask:
    """Return the largest piece connected by faces."""
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    found: Mask = pieces == int(np.argmax(sizes))
    return found
