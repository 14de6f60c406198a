"""The strain criterion: principal strains at the elements' centres, averaged over the surface, against two limits."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fe.voxel.element import strain_matrix
from fe.voxel.numbering import Numbering

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Mode = Literal["tension", "compression"]

CHUNK = 100_000
"""Elements whose nodal displacements are gathered at a time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and at which multiple of the applied load a model fails first.

    Attributes
    ----------
    load_factor
        Failure load over applied load.
    mode
        Which limit is reached.
    element
        Number of the element.
    """

    load_factor: float
    mode: Mode
    element: int


def centroid_strains(numbering: Numbering, displacement_mm: Doubles, size_mm: tuple[float, float, float]) -> Doubles:
    """Return the engineering strains (elements, 6) at the elements' centres: xx, yy, zz, xy, yz, xz."""
    matrix = strain_matrix(size_mm)
    nodes = numbering.connectivity()
    by_node = np.ascontiguousarray(displacement_mm.T)
    parts = [by_node[nodes[start : start + CHUNK]].reshape(-1, 24) @ matrix.T for start in range(0, len(nodes), CHUNK)]
    return np.concatenate(parts)


def principal_strains(strains: Doubles) -> tuple[Doubles, Doubles]:
    """Return the largest and the smallest principal strain of engineering strains (n, 6).

    Closed form of the eigenvalues of a symmetric 3 x 3 matrix by its invariants and one angle [Smith1961].
    """
    xx, yy, zz = strains[:, 0], strains[:, 1], strains[:, 2]
    xy, yz, xz = strains[:, 3] / 2, strains[:, 4] / 2, strains[:, 5] / 2
    mean = (xx + yy + zz) / 3
    a, b, c = xx - mean, yy - mean, zz - mean
    size = np.sqrt((a * a + b * b + c * c + 2 * (xy * xy + yz * yz + xz * xz)) / 6)
    third = (a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = np.arccos(np.clip(np.where(size > 0, third / size**3, 0.0), -1, 1)) / 3
    return mean + 2 * size * np.cos(angle), mean + 2 * size * np.cos(angle + 2 * np.pi / 3)


def ball_average(points_mm: Doubles, values: Doubles, radius_mm: float) -> Doubles:
    """Return for every point the mean of ``values`` (n, k) over the points within ``radius_mm``, itself included."""
    pairs = cKDTree(points_mm).query_pairs(radius_mm, output_type="ndarray")
    total = values.astype(float)
    count = np.bincount(pairs.ravel(), minlength=len(values)) + 1.0
    for column in range(values.shape[1]):
        for here, there in ((0, 1), (1, 0)):
            total[:, column] += np.bincount(pairs[:, here], values[pairs[:, there], column], minlength=len(values))
    return total / count[:, None]


def risk(largest: Doubles, smallest: Doubles, tension_limit: float, compression_limit: float) -> Doubles:
    """Return the fraction of the failure strain that is reached: 1 fails."""
    return np.maximum(largest / tension_limit, -smallest / compression_limit)


def first_failure(
    points_mm: Doubles,
    largest: Doubles,
    smallest: Doubles,
    radius_mm: float,
    tension_limit: float,
    compression_limit: float,
) -> Failure:
    """Return the first failure among surface points after averaging.

    Parameters
    ----------
    points_mm : (n, 3) array
        Centres of the surface elements that count.
    largest, smallest : (n,) arrays
        Their principal strains under the applied load.
    radius_mm
        Averaging radius.
    tension_limit, compression_limit
        Failure strains, both positive.
    """
    averaged = ball_average(points_mm, np.column_stack((largest, smallest)), radius_mm)
    ratios = averaged * (1 / tension_limit, -1 / compression_limit)
    element, mode = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
    modes: tuple[Mode, Mode] = ("tension", "compression")
    return Failure(float(1 / ratios[element, mode]), modes[int(mode)], int(element))
