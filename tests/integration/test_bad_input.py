"""Bad input: every study gets a sentence, nothing received is deleted, and the node goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.demo.fake_ct import FakePatient, Scan, write_series
from dicom_node.demo.local_node import LocalNode
from dicom_node.net.scu import Address, send_files
from tests.conftest import wait_for

PATIENT = FakePatient()
SLICES = 40


def sphere_scan() -> Scan:
    """A soft-tissue ball in air with a bony shell: a head, not a hip."""
    z, y, x = np.mgrid[:SLICES, :64, :64]
    radius = np.sqrt(((z - 20) * 3.0) ** 2 + ((y - 32) * 3.0) ** 2 + ((x - 32) * 3.0) ** 2)
    hu = np.where(radius < 55, 40, -1000)
    hu[(radius >= 49) & (radius < 55)] = 900
    return Scan(hu.astype(np.int16), (3.0, 3.0, 3.0), (-96.0, -96.0, 0.0))


def edited(files: list[Path], change: Callable[[Dataset, int], None]) -> list[Path]:
    """Rewrite files after a change of every dataset."""
    for index, path in enumerate(files):
        ds = dcmread(path)
        change(ds, index)
        ds.save_as(path, enforce_file_format=True)
    return files


def set_attributes(**values: object) -> Callable[[Dataset, int], None]:
    def change(ds: Dataset, index: int) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return change


def tilt(ds: Dataset, index: int) -> None:
    """Shift every slice so that the stack leans by 15 degrees, as a tilted gantry does."""
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, float(y) + index * 3.0 * np.tan(np.radians(15)), z]


def cut_pixels(ds: Dataset, index: int) -> None:
    if index == 20:
        ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]


def other_patient(ds: Dataset, index: int) -> None:
    if index % 2:
        ds.PatientID = "MRN-0000002"


def secondary_capture(ds: Dataset, index: int) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.Modality = "OT"


CASES: dict[str, tuple[Callable[[list[Path]], list[Path]], str]] = {
    "a localizer": (
        lambda files: edited(files[:2], set_attributes(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        "localizer",
    ),
    "a missing slice": (lambda files: files[:20] + files[21:], "missing"),
    "a tilted gantry": (lambda files: edited(files, tilt), "tilt"),
    "truncated pixels": (lambda files: edited(files, cut_pixels), "pixel"),
    "two patients in one study": (lambda files: edited(files, other_patient), "2 different patients"),
    "no patient ID": (lambda files: edited(files, set_attributes(PatientID="")), "no patient ID"),
    "burned-in annotation": (lambda files: edited(files, set_attributes(BurnedInAnnotation="YES")), "burned"),
    "a head": (lambda files: files, "neither a hip nor a lumbar vertebra"),
    "one slice": (lambda files: files[:1], "slice"),
}


def send(node: LocalNode, files: list[Path]) -> None:
    send_files(Address(node.ae_title, "127.0.0.1", node.dicom_port, "SCANNER"), files)


def job_of(node: LocalNode, study: str) -> dict[str, Any] | None:
    for one in node.get("/api/studies"):
        if one["study_instance_uid"] == study and one["job_ids"]:
            job = node.get(f"/api/jobs/{one['job_ids'][-1]}")
            return dict(job) if job["state"] in ("done", "failed") else None
    return None


def test_every_bad_study_fails_with_a_sentence_and_nothing_is_lost(
    make_node: Callable[..., LocalNode], tmp_path: Path
) -> None:
    node = make_node(parallel_jobs=2)
    node.post("/api/peers", {"name": "scanner", "ae_title": "SCANNER", "host": "127.0.0.1", "port": 1})
    sent, studies = 0, {}
    for name, (spoil, _) in CASES.items():
        files = write_series(sphere_scan(), tmp_path / name, PATIENT, seed=name)
        files = spoil(files)
        studies[name] = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
        send(node, files)
        sent += len(files)

    for name, (_, expected) in CASES.items():
        job = wait_for(lambda study=studies[name]: job_of(node, study), 180, f"the job of {name}")
        assert job["state"] == "failed", name
        assert expected.lower() in job["sentence"].lower(), f"{name}: {job['sentence']}"
        assert not [word for word in PATIENT.identifiers if word in job["sentence"]], name

    assert node.get("/health")["status"] == "ok"
    kept = list((node.data_dir / "hospital/instances").rglob("*.dcm"))
    assert len(kept) == sent == node.get("/health")["instance_count"]
    text = (tmp_path / "node.log").read_text() + str(node.get("/api/jobs"))
    assert not [word for word in PATIENT.identifiers if word in text]


def test_a_study_without_ct_is_kept_and_says_that_no_rule_takes_it(
    make_node: Callable[..., LocalNode], tmp_path: Path
) -> None:
    node = make_node()
    node.post("/api/peers", {"name": "scanner", "ae_title": "SCANNER", "host": "127.0.0.1", "port": 1})
    send(node, edited(write_series(sphere_scan(), tmp_path / "sc", PATIENT, seed="no CT")[:3], secondary_capture))
    study = wait_for(
        lambda: next((one for one in node.get("/api/studies") if one["state"] == "no_rule"), None), 30, "the study"
    )
    assert "images are kept" in study["sentence"]
    assert (study["instance_count"], node.get("/api/jobs")) == (3, [])


def test_a_failed_job_can_be_run_again(make_node: Callable[..., LocalNode], tmp_path: Path) -> None:
    node = make_node()
    node.post("/api/peers", {"name": "scanner", "ae_title": "SCANNER", "host": "127.0.0.1", "port": 1})
    files = write_series(sphere_scan(), tmp_path / "head", PATIENT, seed="again")
    study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    send(node, files)
    job = wait_for(lambda: job_of(node, study), 120, "the job")
    node.post(f"/api/jobs/{job['id']}/retry")
    again = wait_for(lambda: (one := job_of(node, study)) and one["attempts"] == 2 and one, 120, "the second attempt")
    assert again["state"] == "failed"
    assert again["id"] == job["id"]


@pytest.mark.parametrize("content", [b"", b"not a DICOM file", b"\x00" * 200])
def test_a_folder_without_dicom_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    from rich.console import Console

    from dicom_node.errors import JobRejected
    from dicom_node.pipeline.standalone import analyse_study_folder
    from dicom_node.settings import Settings

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(content)
    with pytest.raises(JobRejected, match="DICOM"):
        analyse_study_folder(tmp_path / "in", tmp_path / "out", Settings(), Console(quiet=True))
