"""Step 3: the report under the original patient and study, as DICOM objects that passed the gate.

Runs on the hospital side. Numbers, masks and pictures come from the research side; every header comes from the
original instances, so that nothing has to be re-identified.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue

from dicom_node.errors import JobFailed
from dicom_node.jobs.child import Progress
from dicom_node.pipeline.prior import PriorReport, prior_values
from dicom_node.pipeline.report_files import load_affine_lps, load_report
from dicom_node.pipeline.validators import validate
from dicom_node.storage.files import sync_folder, write_durably
from sr_export import ResultSet, build_results, check_results
from sr_export.errors import ExportError
from sr_export.frames import slice_headers
from sr_export.geometry import grid_from_headers
from sr_export.inputs import Correction, Report

GRID_TOLERANCE_MM = 0.01
"""Headers give positions to 1e-4 mm or better; a swapped slice is off by a slice."""


@dataclass(frozen=True, slots=True)
class PackagedObject:
    """One result object on disk."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    file: str


@dataclass(frozen=True, slots=True)
class Before:
    """What came before this run, as files on the hospital side.

    Attributes
    ----------
    previous
        Structured reports that this one replaces.
    correction
        The segmentation that a person corrected, where the run rests on one.
    is_rejected
        Whether a note rejects all objects that came with the ``previous`` reports.
    prior
        The patient's last earlier examination, to say what has changed.
    """

    previous: tuple[Path, ...] = ()
    correction: Path | None = None
    is_rejected: bool = False
    prior: PriorReport | None = None


NOTHING_BEFORE = Before()


def package(
    sources: Sequence[Path], report_folder: Path, output: Path, progress: Progress, before: Before = NOTHING_BEFORE
) -> list[PackagedObject]:
    """Build, check and write the result objects of one job.

    Parameters
    ----------
    sources
        Original instances of the analysed series, in slice order; a multi-frame one counts once.
    report_folder
        What ``save_report`` wrote.
    output
        Folder on the hospital side; gets the objects, ``report.pdf`` and ``page-N.png``. It has its name only
        when everything in it passed the gate.
    progress
        Told the finished fraction and what is being done.
    before
        What came before this run.

    Raises
    ------
    JobFailed
        When an object does not pass our own checks or an installed validator.
    """
    progress(0.0, "building the result objects")
    headers = slice_headers([dcmread(path, stop_before_pixels=True) for path in dict.fromkeys(sources)])
    report = load_report(report_folder)
    if before.prior is not None:
        report = replace(report, prior=prior_values(before.prior))
    _check_slices(headers, report_folder)
    results = _checked_results(headers, report, before)
    draft = output.with_name(f".{output.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    written = _write(results, draft)
    progress(0.4, "validating the result objects")
    found = validate([draft / one.file for one in written], sources[0])
    if found:
        raise JobFailed(f"The result objects did not pass the validators: {'; '.join(found)[:800]}.")
    shutil.rmtree(output, ignore_errors=True)
    draft.rename(output)
    sync_folder(output.parent)
    return written


def _checked_results(headers: Sequence[Dataset], report: Report, before: Before) -> ResultSet:
    """Build the objects and put them through our own gate."""
    correction = correction_of(before.correction) if before.correction is not None else None
    superseded = _superseded(before.previous) if before.is_rejected else []
    try:
        previous = [dcmread(path) for path in before.previous]
        results = build_results(headers, report, previous, correction, superseded)
        problems = check_results(headers, results, report, correction, superseded)
    except ExportError as error:
        raise JobFailed(f"The result objects could not be built. {error}") from None
    if problems:
        raise JobFailed(f"The result objects did not pass the node's own checks: {'; '.join(problems)}.")
    return results


def correction_of(path: Path) -> Correction:
    """Read who corrected a segmentation and why: from the content's own attributes, else the next best."""
    seg = dcmread(path, stop_before_pixels=True)
    return Correction(
        operator=_first_value(seg, "ContentCreatorName", "OperatorsName"),
        reason=_first_value(seg, "ContentDescription", "ContentLabel", "SeriesDescription"),
        sop_class_uid=str(seg.SOPClassUID),
        sop_instance_uid=str(seg.SOPInstanceUID),
        series_instance_uid=str(seg.SeriesInstanceUID),
    )


def _first_value(dataset: Dataset, *keywords: str) -> str:
    found = [dataset.get(keyword) for keyword in keywords]
    firsts = [one[0] if isinstance(one, MultiValue) and one else one for one in found]
    return next((text for one in firsts if one is not None and (text := str(one).strip())), "")


def _superseded(previous: Sequence[Path]) -> list[Dataset]:
    """Return every object that came with the given reports, without pixels; a rejection note among them stays."""
    folders = dict.fromkeys(path.parent for path in previous)
    found = [dcmread(path, stop_before_pixels=True) for folder in folders for path in sorted(folder.glob("*.dcm"))]
    return list({str(one.SOPInstanceUID): one for one in found if one.Modality != "KO"}.values())


def _check_slices(headers: Sequence[Dataset], report_folder: Path) -> None:
    """Refuse headers that do not lie where the analysed volume lay: reversed, of another series or another patient.

    The analysis read the grid from the clean instances, this reads it from the originals, with other code.
    """
    try:
        found = grid_from_headers(headers).affine_lps
    except ExportError as error:
        raise JobFailed(f"The original series' geometry cannot be used. {error}") from None
    expected = load_affine_lps(report_folder)
    if not np.allclose(found, expected, atol=GRID_TOLERANCE_MM):
        off_mm = float(np.abs(found - expected).max())
        raise JobFailed(
            f"The original slices lie up to {off_mm:.1f} mm off the analysed ones; they are not the same. "
            "Nothing was sent."
        )


def _write(results: ResultSet, output: Path) -> list[PackagedObject]:
    kinds = {str(results.sr.SOPInstanceUID): "sr", str(results.pdf.SOPInstanceUID): "pdf"}
    kinds |= {str(results.kos.SOPInstanceUID): "kos"} if results.kos is not None else {}
    kinds |= {str(page.SOPInstanceUID): "page" for page in results.pages}
    written = []
    for position, dataset in enumerate(results.datasets, start=1):
        kind = kinds.get(str(dataset.SOPInstanceUID), "seg")
        written.append(_write_object(kind, dataset, output / f"{position}-{kind}.dcm"))
    write_durably(output / "report.pdf", [results.pdf_bytes])
    for number, rgb in enumerate(results.page_rgb, start=1):
        Image.fromarray(rgb).save(output / f"page-{number}.png")
    return written


def _write_object(kind: str, dataset: Dataset, path: Path) -> PackagedObject:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    write_durably(path, [buffer.getvalue()])
    return PackagedObject(kind, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), path.name)
