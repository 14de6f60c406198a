"""Small images and masks in files, for the tests of ``osteonode fe``."""

import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fe.gallery import synthetic_femur

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def write_image(
    path: Path,
    array: NDArray[np.generic],
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    origin_mm: tuple[float, float, float] = (10.0, -20.0, 30.0),
    directions: tuple[float, ...] = AXIAL,
) -> Path:
    """Write an array [slice, row, column]; spacing in the same order, origin and directions LPS as ITK has them."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_mm[::-1])
    image.SetOrigin(origin_mm)
    image.SetDirection(directions)
    sitk.WriteImage(image, str(path))
    return path


def write_femur(folder: Path, side: str = "R", spacing_mm: float = 3.0, shaft_mm: float = 110.0) -> tuple[Path, Path]:
    """Write a synthetic femur as an image of densities and a mask with label 7."""
    femur = synthetic_femur(side, (spacing_mm,) * 3, shaft_mm=shaft_mm)
    image = write_image(folder / "image.nii.gz", femur.rho_qct_mg_per_cm3.astype(np.float32), (spacing_mm,) * 3)
    mask = write_image(folder / "mask.nii.gz", femur.mask.astype(np.uint8) * np.uint8(7), (spacing_mm,) * 3)
    return image, mask


def blob(shape: tuple[int, int, int] = (8, 10, 12)) -> NDArray[np.uint8]:
    """A box of label 3 and a smaller one of label 5, away from every edge."""
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 3:7, 3:8] = 3
    labels[6, 3:5, 3:5] = 5
    return labels


def patched(source: Path, target: Path, form: str, offset: int, *values: float) -> Path:
    """Copy a file with some bytes of its header replaced."""
    content = bytearray(source.read_bytes())
    struct.pack_into(form, content, offset, *values)
    target.write_bytes(bytes(content))
    return target
