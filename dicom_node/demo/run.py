"""The main job in front of you: PACS -> node -> PACS, on a real CT of a patient with a fake identity.

The node is the real one, a process of its own started as ``osteonode serve``; so are PACS and network.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dicom_node.demo.fake_ct import FakePatient, read_nifti, write_series
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, Pacs, start_pacs
from dicom_node.errors import ConfigurationError, JobFailed
from dicom_node.net.scu import Address
from dicom_node.pipeline.report_files import load_report
from dicom_node.pipeline.tables import print_report, stage_bar
from dicom_node.public_data import fetch
from inference.metrics import dice

TIME_LIMIT_S = 1800
MARKER = ".osteonode-demo"
"""Tells a folder the demonstration made, and may empty, from any other."""
REFERENCE_VALUES = {"femur_right": 76}
"""TotalSegmentator's label of the structure whose agreement is shown."""


def run_demo(output: Path, console: Console) -> None:
    """Run the main job and print results and paths.

    Raises
    ------
    ConfigurationError
        When the folder holds anything but an earlier demonstration.
    JobFailed
        When the job fails, or its results do not come back.
    """
    started = time.monotonic()
    output = output.resolve()
    _claim(output)
    patient = FakePatient()
    folder = fetch("patient", console.print)
    files = write_series(read_nifti(folder / "example_ct.nii.gz"), output / "ct", patient, seed="osteonode demo")
    study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    console.print(f"{len(files)} CT slices of a real patient under the fake name {patient.name!r}: {output / 'ct'}")
    node = LocalNode(output / "node", output / "node.log", quiet_s=2).start()
    try:
        job, returned = _round_trip(node, files, study, output, console)
    finally:
        node.stop()
    results = node.data_dir / "hospital" / "results" / job["id"] / str(job["attempts"])
    report_folder = node.data_dir / "research" / "jobs" / job["id"] / "report"
    print_report(load_report(report_folder), console)
    _print_agreement(report_folder, folder, console)
    _print_objects(returned, console)
    shutil.copytree(report_folder / "pictures", output / "pictures")
    for file in (*results.glob("page-*.png"), results / "report.pdf"):
        shutil.copy(file, output)
    console.print("\n[bold]Look at[/]")
    for title, path in (
        ("report page", output / "page-1.png"),
        ("PDF", output / "report.pdf"),
        ("pictures", output / "pictures"),
        ("DICOM, returned", output / "returned"),
        ("numbers as JSON", report_folder / "report.json"),
    ):
        console.print(f"  {title:18}{path}", highlight=False)
    console.print(f"Finished in {time.monotonic() - started:.0f} s.")


def _claim(output: Path) -> None:
    """Empty the folder of an earlier demonstration; refuse any other that holds something."""
    if output.exists() and any(output.iterdir()):
        if not (output / MARKER).exists():
            raise ConfigurationError(f"{output} holds other files; name a new or empty folder for the demonstration.")
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARKER).touch()


def _round_trip(
    node: LocalNode, files: list[Path], study: str, output: Path, console: Console
) -> tuple[dict[str, Any], list[Path]]:
    """Start a PACS, let it send the study, and wait for the results; return the job and what came back."""
    pacs = start_pacs(output / "pacs", Address(node.ae_title, "127.0.0.1", node.dicom_port, AE_TITLE))
    try:
        node.post("/api/peers", {"name": "PACS", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": pacs.port})
        pacs.take(files)
        console.print(
            f"PACS: {pacs.name}, port {pacs.port}. Node: DICOM port {node.dicom_port}, page {node.url}",
            highlight=False,
        )
        with stage_bar(console) as bar:
            job = _follow_job(node, pacs, study, bar)
        return job, _returned(pacs, study, output / "returned", len(files))
    finally:
        pacs.close()


def _follow_job(node: LocalNode, pacs: Pacs, study: str, bar: Progress) -> dict[str, Any]:
    """Send the study and follow the job until its results are delivered."""
    task = bar.add_task("PACS sends the study", total=1.0)
    pacs.send_study(study)
    bar.update(task, description="waiting until arrivals are quiet")
    end = time.monotonic() + TIME_LIMIT_S
    while time.monotonic() < end:
        for job in node.get("/api/jobs"):
            bar.update(task, completed=job["progress"], description=job["stage"])
            if job["state"] == "failed":
                raise JobFailed(f"The job failed: {job['sentence']}")
            if job["deliveries"] and all(one["state"] == "SENT" for one in job["deliveries"]):
                bar.update(task, completed=1.0, description="results are back in the PACS")
                return dict(job)
        time.sleep(0.2)
    raise JobFailed(f"The job did not finish within {TIME_LIMIT_S} s.")


def _returned(pacs: Pacs, study: str, folder: Path, sent: int) -> list[Path]:
    """Fetch from the PACS what the node added to the study."""
    paths = pacs.fetch_study(study, folder)
    added = []
    for path in paths:
        if dcmread(path, specific_tags=["Modality"]).Modality == "CT":
            path.unlink()
        else:
            added.append(path)
    if len(paths) - len(added) != sent or not added:
        raise JobFailed(f"The PACS holds {len(added)} results and {len(paths) - len(added)} of {sent} CT instances.")
    return added


def _print_agreement(report_folder: Path, reference_folder: Path, console: Console) -> None:
    """Compare what was segmented with the reference that comes with the scan."""
    reference = read_nifti(reference_folder / "example_seg_fast_force_split.nii.gz").array
    for region in load_report(report_folder).regions:
        value = REFERENCE_VALUES.get(region.key)
        if value is not None:
            agreement = dice(region.mask, np.asarray(reference == value))
            console.print(f"{region.name}: Dice {agreement:.3f} against the reference segmentation.")


def _print_objects(paths: list[Path], console: Console) -> None:
    table = Table(
        "modality",
        "series",
        "patient",
        "bytes",
        title="Back in the PACS, same patient and study",
        title_justify="left",
    )
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        table.add_row(
            str(header.Modality),
            str(header.SeriesDescription),
            str(header.PatientName),
            f"{path.stat().st_size:,}",
        )
    console.print(table)
