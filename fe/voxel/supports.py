"""Do the supports hold every part of a voxel model? What floats has no displacement, only a wrong number.

A part is a face-connected component: elements that touch in an edge or a corner only are joined by a hinge, which
does not hold a part in place. A part is held when its supports leave none of the six rigid motions free.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.errors import UnsupportedModel
from fe.voxel.numbering import Numbering

FREE_MOTION = 1e-9
"""A rigid motion is free when the supports take up less than this fraction of what they do of the best held one
(sums of squares, so 3e-5 of the motion itself): rounding leaves 1e-15, a support two nodes wide 1e-4 and more."""


def check_supports(numbering: Numbering, is_fixed: NDArray[np.bool_]) -> None:
    """Refuse supports that let any part of the model move as a rigid body.

    Parameters
    ----------
    numbering
        Nodes and elements.
    is_fixed : (3, nodes) bool array
        Held degrees of freedom.

    Raises
    ------
    UnsupportedModel
        Nothing is held, or a part is not held.
    """
    if is_fixed.shape != (3, numbering.node_count):
        raise UnsupportedModel(f"Supports of shape {is_fixed.shape} do not fit {numbering.node_count} nodes.")
    if not is_fixed.any():
        raise UnsupportedModel("No degree of freedom is held: the model would float.")
    labels, count = ndimage.label(numbering.is_bone)
    held = np.flatnonzero(is_fixed.any(axis=0))
    places = numbering.node_places[held]
    around = np.pad(labels, 1)
    parts = np.stack([around[tuple((places + corner).T)] for corner in np.ndindex(2, 2, 2)], axis=1)
    loose = [
        part for part in range(1, count + 1) if not _is_held(places, is_fixed[:, held], (parts == part).any(axis=1))
    ]
    if loose:
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        raise UnsupportedModel(
            f"{len(loose)} of {count} parts of the model, {int(sizes[loose].sum())} of {numbering.element_count} "
            "elements, are not held against every rigid motion: drop the islands or add supports."
        )


def _is_held(places: NDArray[np.int32], is_fixed: NDArray[np.bool_], belongs: NDArray[np.bool_]) -> bool:
    """Return whether the supports of the nodes of one part leave it no rigid motion."""
    if not belongs.any():
        return False
    points = places[belongs][:, ::-1].astype(float)
    points -= points.mean(axis=0)
    points /= max(float(np.abs(points).max()), 1.0)
    motions = np.concatenate(
        [np.repeat(np.eye(3)[None], len(points), axis=0), np.cross(np.eye(3), points[:, None])], axis=1
    )  # (nodes, six motions, component)
    rows = motions.transpose(2, 0, 1)[is_fixed[:, belongs]]
    values = np.linalg.eigvalsh(rows.T @ rows)
    return bool(values[0] > FREE_MOTION * values[-1])
