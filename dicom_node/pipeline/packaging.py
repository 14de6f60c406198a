"""Step 3: the report under the original patient and study, as DICOM objects that passed the gate.

Runs on the hospital side. Numbers, masks and pictures come from the research side; every header comes from the
original instances, so that nothing has to be re-identified.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydicom import Dataset, dcmread

from dicom_node.errors import JobFailed
from dicom_node.pipeline.report_files import load_report
from dicom_node.pipeline.validators import validate
from dicom_node.storage.files import write_durably
from sr_export import ResultSet, build_results, check_results
from sr_export.errors import ExportError


@dataclass(frozen=True, slots=True)
class PackagedObject:
    """One result object on disk."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    file: str


def package(sources: Sequence[Path], report_folder: Path, output: Path) -> list[PackagedObject]:
    """Build, check and write the result objects of one job.

    Parameters
    ----------
    sources
        Original instances of the analysed series, in slice order.
    report_folder
        What ``save_report`` wrote.
    output
        Folder on the hospital side; gets the objects, ``report.pdf`` and ``page-N.png``.

    Raises
    ------
    JobFailed
        When an object does not pass our own checks or an installed validator.
    """
    headers = [dcmread(path, stop_before_pixels=True) for path in sources]
    report = load_report(report_folder)
    try:
        results = build_results(headers, report)
        problems = check_results(headers, results, report)
    except ExportError as error:
        raise JobFailed(f"The result objects could not be built. {error}") from None
    if problems:
        raise JobFailed(f"The result objects did not pass the node's own checks: {'; '.join(problems)}.")
    written = _write(results, output)
    found = validate([output / one.file for one in written], sources[0])
    if found:
        raise JobFailed(f"The result objects did not pass the validators: {'; '.join(found)[:800]}.")
    return written


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
