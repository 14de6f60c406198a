"""The strain criterion: principal strains at the elements' centres, averaged over the surface, against two limits."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from fe.errors import UnsupportedModel
from fe.voxel.element import strain_matrix
from fe.voxel.numbering import Numbering

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Mode = Literal["tension", "compression"]

CHUNK = 100_000
"""Elements whose nodal displacements are gathered at a time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Principal strains at failure, both positive."""

    tension: float
    compression: float


@dataclass(frozen=True, slots=True)
class Failure:
    """How near to failure a surface is.

    Attributes
    ----------
    fraction
        Largest averaged strain over its limit; 1 fails.
    mode
        Which limit that is.
    place
        Number of the place.
    """

    fraction: float
    mode: Mode
    place: int


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


def risk(largest: Doubles, smallest: Doubles, tension_limit: float, compression_limit: float) -> Doubles:
    """Return the fraction of the failure strain that is reached: 1 fails."""
    return np.maximum(largest / tension_limit, -smallest / compression_limit)


def neighbourhoods(points_mm: Doubles, radius_mm: float) -> sparse.csr_array:
    """Return the (points, points) matrix of ones between points within ``radius_mm``, each with itself included."""
    pairs = cKDTree(points_mm).query_pairs(radius_mm, output_type="ndarray")
    here, there = pairs.T
    alone = np.arange(len(points_mm))
    rows, columns = np.concatenate((here, there, alone)), np.concatenate((there, here, alone))
    return sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(points_mm),) * 2).tocsr()


def first_failure(strains: Doubles, counts: Bools, neighbours: sparse.csr_array, limits: Limits) -> Failure:
    """Return how near to failure the surface is, and where.

    1. Principal strains at every place.
    2. Their means over the places that count within the averaging radius.
    3. The largest fraction of a limit that a mean reaches at a place that counts.

    Parameters
    ----------
    strains : (places, 6) array
        Engineering strains at the surface.
    counts : (places,) bool array
        Where failure counts.
    neighbours : (places, places) sparse array
        From ``neighbourhoods``.
    limits
        Strains at failure.

    Raises
    ------
    UnsupportedModel
        Nowhere does failure count.
    """
    if not counts.any():
        raise UnsupportedModel("No surface is left where failure counts: the bone in view is too short.")
    principal = np.column_stack(principal_strains(strains)) * counts[:, None]
    means = (neighbours @ principal)[counts] / (neighbours @ counts.astype(float))[counts, None]
    fractions = means * (1 / limits.tension, -1 / limits.compression)
    place, mode = np.unravel_index(int(np.argmax(fractions)), fractions.shape)
    modes: tuple[Mode, Mode] = ("tension", "compression")
    return Failure(float(fractions[place, mode]), modes[int(mode)], int(np.flatnonzero(counts)[place]))
