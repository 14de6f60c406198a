"""Where a bone lies in its scan."""

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Box = tuple[slice, slice, slice]


def box_around(mask: Bools, margin: int = 0) -> Box:
    """Return the smallest box that holds a mask and a margin of voxels, cut at the edge of the volume.

    A bone is a small part of a scan: what is done in its box costs a fraction, and is the same.

    Parameters
    ----------
    mask : (slice, row, column) bool array
        The bone; without any voxel the box is empty.
    margin
        Voxels on every side.
    """
    first, second, third = (
        _span(np.flatnonzero(mask.any(axis=others)), size, margin)
        for others, size in zip(((1, 2), (0, 2), (0, 1)), mask.shape, strict=True)
    )
    return first, second, third


def _span(occupied: NDArray[np.intp], size: int, margin: int) -> slice:
    if not occupied.size:
        return slice(0, 0)
    return slice(max(0, int(occupied[0]) - margin), min(size, int(occupied[-1]) + 1 + margin))
