"""Step 3: the report under the original patient and study, as DICOM objects that passed the gate.

Runs on the hospital side. Numbers, masks and pictures come from the research side; every header comes from the
original instances, so that nothing has to be re-identified.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_node.errors import JobFailed
from dicom_node.jobs.child import Progress
from dicom_node.pipeline.report_files import load_affine_lps, load_report
from dicom_node.pipeline.validators import validate
from dicom_node.storage.files import sync_folder, write_durably
from sr_export import ResultSet, build_results, check_results
from sr_export.errors import ExportError
from sr_export.frames import slice_headers
from sr_export.geometry import grid_from_headers

GRID_TOLERANCE_MM = 0.01
"""Headers give positions to 1e-4 mm or better; a swapped slice is off by a slice."""


@dataclass(frozen=True, slots=True)
class PackagedObject:
    """One result object on disk."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    file: str


def package(
    sources: Sequence[Path], report_folder: Path, output: Path, progress: Progress, previous: Sequence[Path] = ()
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
    previous
        Structured reports that this one replaces.

    Raises
    ------
    JobFailed
        When an object does not pass our own checks or an installed validator.
    """
    progress(0.0, "building the result objects")
    headers = slice_headers([dcmread(path, stop_before_pixels=True) for path in dict.fromkeys(sources)])
    report = load_report(report_folder)
    _check_slices(headers, report_folder)
    try:
        results = build_results(headers, report, [dcmread(path) for path in previous])
        problems = check_results(headers, results, report)
    except ExportError as error:
        raise JobFailed(f"The result objects could not be built. {error}") from None
    if problems:
        raise JobFailed(f"The result objects did not pass the node's own checks: {'; '.join(problems)}.")
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
