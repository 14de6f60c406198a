"""Report pages as Secondary Capture images (PS3.3 A.8.1), RGB, one frame each: what every viewer can show."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from sr_export.context import BANNER, finish, new_object
from sr_export.inputs import Report
from sr_export.uids import stamp_uids


def build_pages(
    source: Sequence[Dataset], page_rgb: Sequence[NDArray[np.uint8]], report: Report
) -> tuple[Dataset, ...]:
    """Return one Secondary Capture per page.

    Parameters
    ----------
    source
        Original headers.
    page_rgb
        Pages as (row, column, 3) uint8 arrays.
    """
    pages = [
        finish(_page(rgb, number, len(page_rgb)), source[0], report, "sc") for number, rgb in enumerate(page_rgb, 1)
    ]
    stamp_uids(pages, report.job_reference, "sc")
    return tuple(pages)


def _page(rgb: NDArray[np.uint8], number: int, total: int) -> Dataset:
    """One page; no orientation and no side, or viewers paint R, L, A and P on it."""
    page = new_object(SecondaryCaptureImageStorage, "OT", number)
    page.ConversionType = "SYN"
    page.ImageType = ["DERIVED", "SECONDARY"]
    page.DerivationDescription = f"{BANNER}; page {number} of {total}"
    page.BurnedInAnnotation = "YES"
    page.PatientOrientation = ""
    page.Laterality = ""
    page.SamplesPerPixel, page.PhotometricInterpretation, page.PlanarConfiguration = 3, "RGB", 0
    page.Rows, page.Columns = rgb.shape[:2]
    page.BitsAllocated, page.BitsStored, page.HighBit, page.PixelRepresentation = 8, 8, 7, 0
    page.LossyImageCompression = "00"
    pixels = np.ascontiguousarray(rgb, np.uint8).tobytes()
    page.PixelData = pixels + b"\0" * (len(pixels) % 2)
    page["PixelData"].VR = "OB"
    return page
