"""Where the voxels of the source lie in the patient, read from the original headers alone.

Array order is [slice, row, column]; patient coordinates are LPS in mm. The slice axis follows the order in
which the headers are given, whatever that is (PS3.3 C.7.6.2.1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from sr_export.errors import IrregularGeometry

POSITION_TOLERANCE = 0.05
"""Largest distance of a slice from the regular grid, as a fraction of the slice spacing [m] assumption:
scanners round positions to 0.1 mm or better, and a missing slice is off by a whole spacing."""
TILT_TOLERANCE = 1e-3
"""Largest cosine between the slice step and an image axis; a tilt of 0.06 degrees [m] assumption."""

ROUNDING = 1e-3
"""Largest difference of an orientation cosine or pixel spacing between slices [m] assumption."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The source's own voxel grid.

    Attributes
    ----------
    affine_lps : (4, 4) float64 array
        Maps homogeneous (slice, row, column) indices of voxel centres to LPS mm.
    shape
        (slices, rows, columns).
    frame_of_reference_uid
        Empty where the header has none; such a grid has a shape, but no SEG can be written on it.
    """

    affine_lps: NDArray[np.float64]
    shape: tuple[int, int, int]
    frame_of_reference_uid: str

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, mm3."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3])))

    def centroid_lps(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the centre of a [slice, row, column] mask as (x, y, z), LPS mm."""
        index = np.array([axis.mean() for axis in np.nonzero(mask)])
        centre: NDArray[np.float64] = self.affine_lps[:3, :3] @ index + self.affine_lps[:3, 3]
        return centre


def grid_from_headers(source: Sequence[Dataset]) -> Grid:
    """Read the grid from Image Position, Image Orientation and Pixel Spacing.

    Raises
    ------
    IrregularGeometry
        Slices repeated, missing, unevenly spaced, or shifted sideways from one to the next.
    """
    first = source[0]
    orientation = _one_value(source, "ImageOrientationPatient")
    along_row, along_column = orientation[:3], orientation[3:]
    row_mm, column_mm = _one_value(source, "PixelSpacing")
    positions = _values(source, "ImagePositionPatient")
    affine = np.eye(4)
    affine[:3, 0] = _slice_step(positions, np.cross(along_row, along_column), first)
    affine[:3, 1] = along_column * row_mm
    affine[:3, 2] = along_row * column_mm
    affine[:3, 3] = positions[0]
    _refuse_tilt(affine)
    return Grid(
        affine_lps=affine,
        shape=(len(source), int(first.Rows), int(first.Columns)),
        frame_of_reference_uid=str(first.get("FrameOfReferenceUID") or ""),
    )


def _values(source: Sequence[Dataset], keyword: str) -> NDArray[np.float64]:
    """One row of numbers per slice."""
    return np.array([[float(value) for value in header[keyword].value] for header in source])


def _one_value(source: Sequence[Dataset], keyword: str) -> NDArray[np.float64]:
    """Value that all slices share, but for the scanner's rounding."""
    values = _values(source, keyword)
    if float(np.abs(values - values[0]).max()) > ROUNDING:
        raise IrregularGeometry(f"{keyword} changes from slice to slice of the source.")
    first: NDArray[np.float64] = values[0]
    return first


def _slice_step(positions: NDArray[np.float64], normal: NDArray[np.float64], header: Dataset) -> NDArray[np.float64]:
    """Step from one slice to the next, (x, y, z) mm. ``positions`` is (slice, xyz)."""
    if len(positions) == 1:
        step: NDArray[np.float64] = normal * float(header.get("SliceThickness") or 1.0)
        return step
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    spacing_mm = float(np.linalg.norm(step))
    if spacing_mm == 0 or bool((np.diff(positions, axis=0) == 0).all(axis=1).any()):
        raise IrregularGeometry("Two slices of the source lie at the same position.")
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    worst_mm = float(np.linalg.norm(positions - expected, axis=1).max())
    if worst_mm > POSITION_TOLERANCE * spacing_mm:
        raise IrregularGeometry(
            f"A slice of the source lies {worst_mm:.2f} mm from where an even spacing of {spacing_mm:.2f} mm "
            "puts it; slices are missing or unevenly spaced."
        )
    return step


def _refuse_tilt(affine: NDArray[np.float64]) -> None:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    worst = float(np.abs(directions[:, 0] @ directions[:, 1:]).max())
    if worst > TILT_TOLERANCE:
        raise IrregularGeometry(
            f"The slices are stacked {np.degrees(np.arcsin(worst)):.1f} degrees off the normal of the image "
            "plane; a tilted gantry cannot be written as a regular volume."
        )
