"""``osteonode analyse``: the whole job on a folder, without network or database, for scientists.

The same steps as in the node, with a throw-away key and a random pseudonym: the analysis sees clean instances only,
and the folder of results holds two parts, ``report`` (no identity in it) and ``dicom`` (under the original headers).
"""

import secrets
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import dcmread
from rich.console import Console

from deid_rules.uids import UidMapper
from dicom_node import clock
from dicom_node.errors import ConfigurationError, JobRejected
from dicom_node.identity.map import new_subject
from dicom_node.pipeline.analysis import SLICES_FILE, Tools, analyse_folder
from dicom_node.pipeline.analysis import Progress as Say
from dicom_node.pipeline.calibration import calibration_of, load_phantoms, load_records
from dicom_node.pipeline.deidentification import clean_series, read_headers, select_series, single_person
from dicom_node.pipeline.external_mask import read_mask
from dicom_node.pipeline.packaging import package
from dicom_node.pipeline.report_files import load_report
from dicom_node.pipeline.site_profile import load_profile
from dicom_node.pipeline.tables import print_report, stage_bar
from dicom_node.segmenters.table import make_segmenter
from dicom_node.settings import Settings
from dicom_node.storage.files import new_id


def analyse_study_folder(
    folder: Path, output: Path, settings: Settings, console: Console, mask: tuple[Path, str] | None = None
) -> None:
    """Analyse the CT of the one study in ``folder`` and write report and DICOM objects to ``output``.

    ``mask`` is a file with the bones, and the vocabulary of its labels; without one they are found automatically.

    Raises
    ------
    ConfigurationError
        When the folder is none, or the output folder is in use.
    JobRejected
        When the study cannot be analysed; the sentence says why.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder; name a folder with the DICOM files of one study.")
    if output.exists() and any(output.iterdir()):
        raise ConfigurationError(f"{output} is not empty; name a new folder, so that no result is mixed with another.")
    with stage_bar(console) as bar, TemporaryDirectory(prefix="osteonode-") as scratch:
        task = bar.add_task("reading headers", total=1.0)

        def progress(done: float, stage: str) -> None:
            bar.update(task, completed=done, description=stage)

        sources = _analyse(folder, output, Path(scratch), settings, clock.now(), progress, mask)
        package(sources, output / "report", output / "dicom", lambda done, stage: progress(0.8 + 0.2 * done, stage))
        progress(1.0, "done")
    print_report(load_report(output / "report"), console)
    console.print(
        f"Report, masks and pictures: {output / 'report'}\nDICOM objects and PDF: {output / 'dicom'}",
        highlight=False,
    )


def _analyse(
    folder: Path,
    output: Path,
    scratch: Path,
    settings: Settings,
    now: datetime,
    say: Say,
    mask: tuple[Path, str] | None,
) -> list[Path]:
    """Run the flow; return the original files of the analysed slices in their order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise JobRejected(f"{folder} holds no files.")
    headers = read_headers(paths, skip_foreign=True)
    single_person(headers)
    chosen = select_series(headers)
    say(0.02, "de-identification")
    uids = UidMapper(secrets.token_bytes(32), settings.project)
    clean = clean_series(chosen, scratch / "clean", new_subject(), load_profile(settings.recipe_file), uids)
    header = next(header for path, header in headers if path == chosen[0])
    analysed = [header for path, header in headers if path in set(chosen)]
    tools = Tools(
        job_reference=new_id(),
        created=now,
        serial_number=settings.ae_title,
        calibration=calibration_of(header, load_records(settings.calibration_file)),
        element_mm=settings.element_mm,
        with_interval=settings.strength_interval,
        phantoms=load_phantoms(settings.phantom_file),
        may_use_tissues=settings.internal_calibration,
        corrects_contrast=settings.contrast_correction,
        segmenter=read_mask(mask[0], analysed, mask[1]) if mask else make_segmenter(settings.segmenter, settings),
    )
    analyse_folder(scratch / "clean", output / "report", tools, lambda done, stage: say(0.05 + 0.75 * done, stage))
    back = {pair.clean_uid: pair.original_uid for pair in clean.uid_pairs}
    files = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in chosen}
    return [files[back[uid]] for uid in (output / "report" / SLICES_FILE).read_text().split()]
