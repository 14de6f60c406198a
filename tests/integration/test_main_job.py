"""The main job with the real counterparts: Orthanc as the PACS, DCMTK as a sender, a node process in between."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.demo.fake_ct import FakePatient, read_nifti
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, Orthanc
from dicom_node.pipeline.report_files import load_report
from dicom_node.public_data import fetch
from inference.metrics import dice
from tests.conftest import wait_for

pytestmark = [pytest.mark.real_data, pytest.mark.needs_binary]

MODALITIES = {"SEG", "SR", "OT", "DOC"}
JOB_TIME_LIMIT_S = 400


def storescu(binary: Callable[[str], str], node: LocalNode, files: list[Path], calling: str = AE_TITLE) -> int:
    """Push files with DCMTK; return its exit code."""
    command = [
        binary("storescu"),
        "-R",
        "-aet",
        calling,
        "-aec",
        node.ae_title,
        "127.0.0.1",
        str(node.dicom_port),
    ]
    return subprocess.run([*command, *map(str, files)], capture_output=True, check=False).returncode


def finished_job(node: LocalNode, state: str = "done") -> dict[str, Any]:
    """Wait for the only job to end and its results to be delivered."""

    def end() -> dict[str, Any] | None:
        jobs = node.get("/api/jobs")
        if not jobs or jobs[0]["state"] not in ("done", "failed"):
            return None
        if jobs[0]["state"] == "done" and any(one["state"] == "PENDING" for one in jobs[0]["deliveries"]):
            return None
        return dict(jobs[0])

    job = wait_for(end, JOB_TIME_LIMIT_S, "the job to end")
    assert job["state"] == state, job["sentence"]
    return dict(job)


def results_in(orthanc: Orthanc, study: str, folder: Path) -> list[Dataset]:
    """Return what the PACS holds of a study beside the CT."""
    return [ds for ds in map(dcmread, orthanc.fetch_study(study, folder)) if ds.Modality not in ("CT", "RTSTRUCT")]


def searched(folder: Path, words: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the words found in names or bytes of everything below a folder, with the files."""
    found: dict[str, list[str]] = {}
    for path in folder.rglob("*"):
        content = str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        for word in words:
            if word.encode() in content or word.encode("utf-16-le") in content:
                found.setdefault(word, []).append(path.name)
    return found


@pytest.fixture
def hospital(
    make_node: Callable[..., LocalNode], make_orthanc: Callable[[LocalNode], Orthanc]
) -> tuple[LocalNode, Orthanc]:
    """A node and an Orthanc that know each other."""
    node = make_node()
    return node, make_orthanc(node)


def test_a_patients_ct_comes_back_with_results_and_the_research_side_learns_nothing(
    hospital: tuple[LocalNode, Orthanc],
    patient_files: list[Path],
    binary: Callable[[str], str],
    tmp_path: Path,
) -> None:
    node, orthanc = hospital
    original = dcmread(patient_files[0], stop_before_pixels=True)
    orthanc.take(patient_files)
    assert storescu(binary, node, patient_files) == 0

    job = finished_job(node)
    back = results_in(orthanc, original.StudyInstanceUID, tmp_path / "back")
    assert {ds.Modality for ds in back} == MODALITIES
    for ds in back:
        for keyword in (
            "PatientName",
            "PatientID",
            "IssuerOfPatientID",
            "PatientBirthDate",
            "AccessionNumber",
            "StudyID",
        ):
            assert ds[keyword].value == original[keyword].value, keyword
    assert len(orthanc.client.patients.get_all_ids()) == len(orthanc.client.studies.get_all_ids()) == 1

    report = node.get(f"/api/jobs/{job['id']}")["report"]
    strengths = {
        m["concept"]: m["value"] for g in report["groups"] if g["key"] == "femur_right" for m in g["measurements"]
    }
    assert 1000 < strengths["femur_strength_fall_minimum"] < strengths["femur_strength_stance_minimum"] < 15000
    assert not any(group["key"] == "femur_left" for group in report["groups"])
    metal = [finding for finding in report["findings"] if finding["code"] == "metal"]
    assert [finding["subject"] for finding in metal] == ["femur_left"]
    assert {"L2", "L3", "L4"} <= {group["key"] for group in report["groups"]}
    assert not report["calibration"]["is_calibrated"]
    assert "uncalibrated" in report["headline"]

    reference = read_nifti(fetch("patient") / "example_seg_fast_force_split.nii.gz").array
    regions = {
        region.key: region.mask
        for region in load_report(node.data_dir / "research/jobs" / job["id"] / "report").regions
    }
    assert dice(regions["femur_right"], np.asarray(reference == 76)) > 0.85

    identifiers = (*FakePatient().identifiers, str(original.StudyInstanceUID), str(original.SOPInstanceUID))
    assert searched(node.data_dir / "research", identifiers) == {}
    log = (tmp_path / "node.log").read_text()
    assert not [word for word in identifiers if word in log]


def test_the_alderson_phantom_is_seen_on_the_right_sides_and_gets_no_number(
    hospital: tuple[LocalNode, Orthanc],
    alderson_paths: list[Path],
    alderson_heads: dict[str, np.ndarray],
    binary: Callable[[str], str],
    tmp_path: Path,
) -> None:
    node, orthanc = hospital
    original = dcmread(alderson_paths[0], stop_before_pixels=True)
    orthanc.take(alderson_paths)
    assert storescu(binary, node, alderson_paths) == 0

    job = finished_job(node)
    report = node.get(f"/api/jobs/{job['id']}")["report"]
    assert "air_gaps" in {finding["code"] for finding in report["findings"]}
    assert report["groups"] == []
    back = results_in(orthanc, original.StudyInstanceUID, tmp_path / "back")
    assert {ds.Modality for ds in back} == MODALITIES
    (seg,) = (ds for ds in back if ds.Modality == "SEG")
    labels = {segment.SegmentLabel for segment in seg.SegmentSequence}
    assert {"Right femur", "Left femur"} <= labels
    for side, head in alderson_heads.items():
        assert _segment_holds(seg, f"{side.title()} femur", head), side


def _segment_holds(seg: Dataset, label: str, point_mm: np.ndarray) -> bool:
    """Tell whether the voxel at an LPS point belongs to a segment, read from the stored object alone."""
    from highdicom.seg import Segmentation

    volume = Segmentation.from_dataset(seg).get_volume(combine_segments=False)
    number = next(one.SegmentNumber for one in seg.SegmentSequence if one.SegmentLabel == label)
    index = np.rint(volume.map_reference_to_indices(point_mm[None])[0]).astype(int)
    return bool(volume.array[tuple(index)][number - 1])


@pytest.mark.parametrize(
    ("end", "from_progress"),
    [("kill", 0.1), ("SIGTERM", 0.1), ("SIGINT", 0.1), ("kill", 0.9)],
    ids=["killed in the analysis", "stopped in the analysis", "interrupted in the analysis", "killed in packing"],
)
def test_a_node_ended_in_the_middle_of_a_job_finishes_it_once(
    hospital: tuple[LocalNode, Orthanc], patient_files: list[Path], tmp_path: Path, end: str, from_progress: float
) -> None:
    node, orthanc = hospital
    study = dcmread(patient_files[0], stop_before_pixels=True).StudyInstanceUID
    orthanc.take(patient_files)
    orthanc.send_study(study)
    wait_for(
        lambda: any(from_progress <= job["progress"] < 1 for job in node.get("/api/jobs")), 120, "the job to be there"
    )
    began = time.monotonic()
    if end == "kill":
        node.kill()
    else:
        assert node.stop(signal.Signals[end]) == 0
    assert time.monotonic() - began < 10, "a node that is asked to stop does not wait for a job"
    node.start()
    finished_job(node)
    back = results_in(orthanc, study, tmp_path / "back")
    kinds = [ds.Modality for ds in back]
    assert kinds.count("SR") == kinds.count("DOC") == 1
    assert len(node.get("/api/jobs")) == 1
    time.sleep(3)
    assert len(node.get("/api/jobs")) == 1


def test_an_unknown_caller_is_rejected_and_the_node_goes_on(
    make_node: Callable[..., LocalNode], patient_files: list[Path], binary: Callable[[str], str]
) -> None:
    node = make_node()
    assert storescu(binary, node, patient_files[:1], calling="STRANGER") != 0
    assert node.get("/health")["instance_count"] == 0
