"""From a density volume and a mask to a grid of cubic elements.

Arrays are [slice, row, column] in canonical order: growing to the head, to the back, to the patient's left. Points
are LPS (x, y, z) in mm, relative to the centre of voxel (0, 0, 0) of the array given.

The density inside an element is the mean of the trilinear interpolant over the element, taken inside the mask only,
so that soft tissue outside never dilutes bone; it is an average where elements are larger than voxels and an
interpolation where they are smaller.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fe.box import box_around
from fe.errors import BadDensity, BadMask, BadSpacing, EmptyMask

FILLED_FRACTION = 0.5
"""An element is bone when at least this fraction of it lies inside the mask."""

DENSITY_RANGE_MG_PER_CM3 = (-2000.0, 10_000.0)
"""Outside of this a volume does not hold a density in mg/cm3 (air reads near -700, metal above 5000): wrong unit or
wrong array [project's assumption]."""

ROUNDING = 1e-9
"""Slack of the filled fraction, so that ties fall the same way on mirrored and turned grids."""

SAMPLES_PER_LENGTH = 8
"""Sample points per element, or per voxel where elements are larger. The midpoint rule with 8 points is exact for
linear functions and within 1/256 of a voxel's contrast where the interpolant has a kink inside an element."""

COUNT_SLACK = 1e-6
"""Elements: a rounding error in the spacing must not add a layer."""


@dataclass(frozen=True, slots=True)
class DensityGrid:
    """Bone on a grid of cubic elements.

    Attributes
    ----------
    is_bone : (nz, ny, nx) bool array
        One face-connected component.
    rho_qct_mg_per_cm3 : (nz, ny, nx) float64 array
        Mean density of each element, 0 outside the bone.
    element_mm
        Edge of the elements.
    affine_mm : (4, 4) array
        Homogeneous (slice, row, column) index of element centres to LPS mm relative to the input's first voxel.
    islands
        Components left out.
    dropped_elements
        Elements in them.
    """

    is_bone: NDArray[np.bool_]
    rho_qct_mg_per_cm3: NDArray[np.float64]
    element_mm: float
    affine_mm: NDArray[np.float64]
    islands: int
    dropped_elements: int

    @property
    def element_count(self) -> int:
        """Number of elements."""
        return int(self.is_bone.sum())

    def points_mm(self, indices: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the LPS points (n, 3) of (slice, row, column) element indices (n, 3)."""
        return np.asarray(indices, dtype=np.float64) @ self.affine_mm[:3, :3].T + self.affine_mm[:3, 3]

    def node_points_mm(self, places: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the LPS points (n, 3) of node places (z, y, x); node 0 is the corner before element 0."""
        return self.points_mm(np.asarray(places, dtype=np.float64) - 0.5)


def density_grid(
    rho_qct_mg_per_cm3: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    element_mm: float,
    lattice_mm: tuple[float, float, float] | None = None,
) -> DensityGrid:
    """Resample a density volume inside a mask to cubic elements and keep the largest component.

    Parameters
    ----------
    rho_qct_mg_per_cm3 : (slice, row, column) array
        Density, mg/cm3; only values inside the mask are used.
    mask : (slice, row, column) bool array
        The bone.
    spacing_mm
        Voxel spacing along (slice, row, column).
    element_mm
        Edge of the elements.
    lattice_mm
        LPS place (x, y, z) of the centre of some element: two masks with the same lattice get the same elements where
        they overlap. The elements are centred on the mask's extent when left out.

    Raises
    ------
    BadMask, EmptyMask, BadDensity, BadSpacing
        The input cannot describe a bone.
    """
    _check(rho_qct_mg_per_cm3, mask, spacing_mm, element_mm)
    box = box_around(mask)
    spans = [
        _axis_span(extent, spacing, element_mm, None if lattice_mm is None else lattice_mm[2 - axis])
        for axis, (extent, spacing) in enumerate(zip(box, spacing_mm, strict=True))
    ]
    weights = [
        _axis_weights(extent, size, spacing, element_mm, span)
        for extent, size, spacing, span in zip(box, mask.shape, spacing_mm, spans, strict=True)
    ]
    inner = tuple(slice(max(e.start - 1, 0), e.stop + 1) for e in box)
    bone = mask[inner].astype(np.float64)
    filled = _resample(bone, weights)
    weighted = _resample(np.where(mask[inner], rho_qct_mg_per_cm3[inner], 0.0), weights)
    is_bone, islands, dropped = _largest_component(filled >= FILLED_FRACTION - ROUNDING)
    rho = np.zeros_like(filled)
    rho[is_bone] = weighted[is_bone] / filled[is_bone]
    return DensityGrid(is_bone, rho, element_mm, _affine(spans, element_mm), islands, dropped)


def _check(
    rho: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    element_mm: float,
) -> None:
    lengths = np.array([*spacing_mm, element_mm], dtype=float)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise BadSpacing(f"Spacing {tuple(spacing_mm)} mm and element {element_mm} mm must be positive lengths.")
    if mask.dtype != np.bool_ or mask.ndim != 3 or mask.shape != rho.shape:
        raise BadMask(
            f"The mask must be a boolean volume of the density's shape {rho.shape}; "
            f"it is {mask.dtype} of shape {mask.shape}."
        )
    if not mask.any():
        raise EmptyMask("The mask holds no voxel.")
    inside = rho[mask]
    if not np.isfinite(inside).all():
        raise BadDensity(f"{int((~np.isfinite(inside)).sum())} voxels of the bone hold no finite density.")
    low, high = DENSITY_RANGE_MG_PER_CM3
    if inside.min() < low or inside.max() > high:
        raise BadDensity(
            f"Densities of {inside.min():.0f}..{inside.max():.0f} mg/cm3 found, {low:.0f}..{high:.0f} expected."
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """Elements along one axis: how many, and where the first one begins, in mm from the first voxel's centre."""

    count: int
    begin_mm: float


def _axis_span(extent: slice, spacing_mm: float, element_mm: float, lattice_mm: float | None) -> _Span:
    """Return the elements that cover an extent of voxels: centred on it, or on a lattice with an element's centre."""
    if lattice_mm is None:
        count = element_count_along(extent.stop - extent.start, spacing_mm, element_mm)
        return _Span(count, (extent.start + extent.stop - 1) / 2 * spacing_mm - count * element_mm / 2)
    edge_mm = lattice_mm - element_mm / 2
    low = ((extent.start - 0.5) * spacing_mm - edge_mm) / element_mm
    high = ((extent.stop - 0.5) * spacing_mm - edge_mm) / element_mm
    first, last = int(np.floor(low + COUNT_SLACK)), int(np.ceil(high - COUNT_SLACK))
    return _Span(last - first, edge_mm + first * element_mm)


def _axis_weights(extent: slice, size: int, spacing_mm: float, element_mm: float, span: _Span) -> NDArray[np.float64]:
    """Return the (elements, voxels) weights that average the linear interpolant over every element of one axis.

    Columns are the voxels ``start - 1 .. stop`` of the extent that exist. Beyond the outermost centres of the volume
    the value stays constant, beyond its edge it is nothing.
    """
    first, last = max(extent.start - 1, 0), min(extent.stop, size - 1)
    step = element_mm / spacing_mm
    samples = SAMPLES_PER_LENGTH * int(np.ceil(max(step, 1.0)))
    at = span.begin_mm / spacing_mm + (np.arange(span.count * samples) + 0.5) * (step / samples)
    inside = (at > -0.5) & (at < size - 0.5)
    distance = np.abs(np.clip(at, first, last)[:, None] - np.arange(first, last + 1))
    hats = np.maximum(1 - distance, 0) * inside[:, None]
    return np.asarray(hats.reshape(span.count, samples, -1).mean(axis=1))


def element_count_along(voxels: int, spacing_mm: float, element_mm: float) -> int:
    """Return how many elements cover a number of voxels along one axis."""
    return max(1, int(np.ceil(voxels * spacing_mm / element_mm - COUNT_SLACK)))


def _resample(volume: NDArray[np.float64], weights: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Apply one weight matrix per axis."""
    for axis, matrix in enumerate(weights):
        volume = np.moveaxis(np.tensordot(matrix, volume, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(volume)


def _largest_component(is_bone: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int, int]:
    """Return the largest face-connected component, the number of others, and the elements in them."""
    labels, count = ndimage.label(is_bone)
    if count == 0:
        raise EmptyMask("No element is filled to one half by the mask: it is thinner than the elements.")
    sizes = np.bincount(labels.ravel())[1:]
    return labels == 1 + int(np.argmax(sizes)), count - 1, int(sizes.sum() - sizes.max())


def _affine(spans: list[_Span], element_mm: float) -> NDArray[np.float64]:
    """Return the matrix from element index (slice, row, column) to LPS mm (x, y, z)."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, span in enumerate(spans):
        affine[2 - axis, axis] = element_mm
        affine[2 - axis, 3] = span.begin_mm + element_mm / 2
    return affine
