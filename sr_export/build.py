"""All result objects of one job, from the original headers and one report."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from sr_export.context import check_source, identity_of
from sr_export.corrected import with_correction
from sr_export.frames import slice_headers
from sr_export.geometry import grid_from_headers
from sr_export.inputs import Correction, Report
from sr_export.kos import build_kos
from sr_export.page import draw_pages
from sr_export.pdf import build_pdf
from sr_export.sc import build_pages
from sr_export.seg import build_segs
from sr_export.sr import build_sr


@dataclass(frozen=True, slots=True)
class ResultSet:
    """What goes back to the archive, and the page for people.

    Attributes
    ----------
    segs
        Segmentation objects: none without a region, several when segments overlap or frames are many.
    sr
        Comprehensive 3D SR.
    pages
        Secondary Captures, one per page.
    pdf
        Encapsulated PDF.
    pdf_bytes
        The document itself.
    page_rgb
        The pages as (row, column, 3) uint8 arrays.
    kos
        Note that rejects superseded objects, where that was asked for.
    """

    segs: tuple[Dataset, ...] = field(repr=False)
    sr: Dataset = field(repr=False)
    pages: tuple[Dataset, ...] = field(repr=False)
    pdf: Dataset = field(repr=False)
    pdf_bytes: bytes = field(repr=False)
    page_rgb: tuple[NDArray[np.uint8], ...] = field(repr=False)
    kos: Dataset | None = field(default=None, repr=False)

    @property
    def seg(self) -> Dataset | None:
        """The first Segmentation, or None."""
        return self.segs[0] if self.segs else None

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """Every object, in the order to send them: what is referred to comes before what refers to it."""
        return (*self.segs, self.sr, *self.pages, self.pdf, *([self.kos] if self.kos is not None else []))


def build_results(
    source: Sequence[Dataset],
    report: Report,
    previous: Sequence[Dataset] = (),
    correction: Correction | None = None,
    superseded: Sequence[Dataset] = (),
) -> ResultSet:
    """Build every result object of one job.

    Parameters
    ----------
    source
        Original headers of the analysed slices, in the order of the masks' slice axis, or the header of a multi-frame
        instance (see ``sr_export.frames``); pixel data are neither needed nor read, and nothing in them is changed.
    report
        What to say.
    previous
        Structured reports of earlier runs that this one replaces.
    correction
        The segmentation that a person corrected, where the report rests on one.
    superseded
        Every object of earlier runs that a rejection note shall reject; none makes no note.

    Raises
    ------
    ExportError
        The headers, the geometry or the report do not allow a valid object; see ``sr_export.errors``.
    """
    source = slice_headers(source)
    check_source(source)
    grid = grid_from_headers(source)
    report = with_correction(report, correction)
    segs = build_segs(source, grid, report, is_corrected=correction is not None)
    sr = build_sr(source, segs, report, previous, correction)
    pages = draw_pages(report, identity_of(source[0]))
    results = ResultSet(
        segs=segs,
        sr=sr,
        pages=build_pages(source, pages.page_rgb, report),
        pdf=build_pdf(source, pages.pdf_bytes, [*segs, sr], report),
        pdf_bytes=pages.pdf_bytes,
        page_rgb=pages.page_rgb,
    )
    rejected = rejected_objects(results, superseded)
    return replace(results, kos=build_kos(source[0], rejected, report)) if rejected else results


def rejected_objects(results: ResultSet, superseded: Sequence[Dataset]) -> list[Dataset]:
    """Return the superseded objects that no longer hold: a run that gives the same object again keeps it."""
    current = {str(dataset.SOPInstanceUID) for dataset in results.datasets}
    return [one for one in superseded if str(one.SOPInstanceUID) not in current]
