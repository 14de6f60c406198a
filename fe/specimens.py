"""Synthetic bone specimens: porous blocks and a distal tibia, for tests, benchmarks and examples.

The trabecular network is made of the curved plates around the zero surface of a Gaussian random field whose
wavelengths lie close to one length, as in phase separation [Cahn1965]; a second field cuts holes into the plates, and
both are stretched along the slices, like bone along its load. At a bone fraction of 0.12 it is about as stiff, and as
hard on a solver, as a real trabecular cube (measured: docs/methods/micro-fe.md). The same seed gives the same specimen,
apart from single voxels where another FFT rounds otherwise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from fe.errors import BadLoad, BadSpacing, EmptyMask
from fe.tissue import BONE_LABEL, CORTICAL_LABEL, TRABECULAR_LABEL

BONE_FRACTION = 0.2
PERIOD_MM = 1.4
"""Wavelength of the fields: plates lie half of it apart, 0.7 mm, with a thickness of 0.2 mm at the bone fraction above,
as in a healthy distal radius or tibia [m assumption]."""

HOLES = 0.35
"""Part of the plates that is cut away: plates turn into rods [project's assumption]."""

STRETCH = 1.4
"""Wavelength along the slices over the one across [project's assumption]."""

BAND = 0.15
"""Width of the band of wavenumbers over its centre: narrow enough for even plates, wide enough to be random
[project's assumption]."""


@dataclass(frozen=True, slots=True)
class SyntheticSpecimen:
    """A labelled specimen, one face-connected piece.

    Attributes
    ----------
    labels : (slice, row, column) uint8 array
        1 bone; or 100 trabecular and 127 cortical bone; 0 marrow and outside.
    spacing_mm
        Voxel spacing along (slice, row, column).
    seed
        What it was grown from.
    """

    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    seed: int

    @property
    def bone_fraction(self) -> float:
        """Return the part of the volume that is labelled."""
        return float(np.mean(self.labels != 0))


def porous_block(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    seed: int,
    bone_fraction: float = BONE_FRACTION,
    period_mm: float = PERIOD_MM,
) -> SyntheticSpecimen:
    """Make a block of trabecular bone, label 1.

    Parameters
    ----------
    shape
        Voxels along (slice, row, column).
    spacing_mm
        Voxel spacing.
    seed
        Any integer.
    bone_fraction
        Bone volume over total volume, before loose pieces are left out.
    period_mm
        Wavelength of the network.

    Raises
    ------
    BadSpacing, BadLoad
        A length or the fraction is out of range.
    EmptyMask
        The block is so small that no bone is in it.
    """
    bone = _network(shape, spacing_mm, seed, bone_fraction, period_mm)
    return SyntheticSpecimen(_largest_piece(bone).astype(np.uint8) * np.uint8(BONE_LABEL), spacing_mm, seed)


def synthetic_tibia(
    height_mm: float,
    spacing_mm: tuple[float, float, float],
    seed: int,
    radii_mm: tuple[float, float] = (9.0, 11.0),
    cortex_mm: float = 0.9,
    bone_fraction: float = BONE_FRACTION,
    period_mm: float = PERIOD_MM,
) -> SyntheticSpecimen:
    """Make a slab of a distal tibia: an elliptic shell of cortex (127) around a trabecular network (100).

    Parameters
    ----------
    height_mm
        Along the slice axis.
    spacing_mm
        Voxel spacing along (slice, row, column).
    seed
        Any integer.
    radii_mm
        Outer half axes along (row, column).
    cortex_mm
        Thickness of the shell.
    bone_fraction, period_mm
        Of the network.

    Raises
    ------
    BadSpacing, BadLoad
        A length or the fraction is out of range.
    """
    lengths = (height_mm, *radii_mm, cortex_mm)
    _check_lengths(lengths)
    layers = round(height_mm / spacing_mm[0])
    rows, columns = (2 * round(r / s) + 3 for r, s in zip(radii_mm, spacing_mm[1:], strict=True))
    y = (np.arange(rows) - (rows - 1) / 2) * spacing_mm[1]
    x = (np.arange(columns) - (columns - 1) / 2) * spacing_mm[2]
    outer = _ellipse(y, x, radii_mm)
    inner = _ellipse(y, x, (radii_mm[0] - cortex_mm, radii_mm[1] - cortex_mm))
    bone = _network((layers, rows, columns), spacing_mm, seed, bone_fraction, period_mm)
    labels = np.where(outer & ~inner, CORTICAL_LABEL, np.where(inner & bone, TRABECULAR_LABEL, 0))
    return SyntheticSpecimen(np.where(_largest_piece(labels != 0), labels, 0).astype(np.uint8), spacing_mm, seed)


def _network(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    seed: int,
    bone_fraction: float,
    period_mm: float,
) -> NDArray[np.bool_]:
    """Return the plates: where one field is nearest to zero, apart from where the other is lowest."""
    _check_lengths((*spacing_mm, period_mm))
    if not 0 < bone_fraction < 1 - HOLES:
        raise BadLoad(f"The bone fraction lies between 0 and {1 - HOLES}, not at {bone_fraction}.")
    random = np.random.default_rng(seed)
    plates = np.abs(_field(shape, spacing_mm, period_mm, random))
    holes = _field(shape, spacing_mm, period_mm, random)
    solid = holes >= np.quantile(holes, HOLES)
    return np.asarray(solid & (plates <= np.quantile(plates[solid], bone_fraction / (1 - HOLES))))


def _field(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    period_mm: float,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a random field of about one wavelength, longer along the slices, periodic in the box."""
    noise = random.standard_normal(shape, dtype=np.float32)
    z = fft.fftfreq(shape[0], spacing_mm[0])[:, None, None] * STRETCH
    y = fft.fftfreq(shape[1], spacing_mm[1])[None, :, None]
    x = fft.rfftfreq(shape[2], spacing_mm[2])[None, None, :]
    periods = np.sqrt(z**2 + y**2 + x**2) * period_mm
    band = np.exp(-0.5 * ((periods - 1) / BAND) ** 2).astype(np.float32)
    return np.asarray(fft.irfftn(fft.rfftn(noise) * band, shape), dtype=np.float32)


def _largest_piece(bone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(bone)
    if count == 0:
        raise EmptyMask("The specimen holds no bone.")
    return np.asarray(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))


def _ellipse(y: NDArray[np.floating], x: NDArray[np.floating], radii_mm: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((y[:, None] / radii_mm[0]) ** 2 + (x[None, :] / radii_mm[1]) ** 2 <= 1)


def _check_lengths(lengths_mm: tuple[float, ...]) -> None:
    if not (np.isfinite(lengths_mm).all() and min(lengths_mm) > 0):
        raise BadSpacing(f"Lengths must be positive and finite: {lengths_mm} mm.")
