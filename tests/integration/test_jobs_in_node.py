"""Jobs of a real node under a person's hand: hold, release, cancel, restart; and on PostgreSQL with workers."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgresql_server import PostgresqlServer
from pydicom import dcmread
from test_main_job import JOB_TIME_LIMIT_S, MODALITIES, results_in, storescu

from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import Orthanc
from tests.conftest import wait_for

pytestmark = [pytest.mark.real_data, pytest.mark.needs_binary]


def only_job(node: LocalNode) -> dict[str, Any]:
    """Return the only job, or an empty one before there is any."""
    jobs = node.get("/api/jobs")
    assert len(jobs) <= 1
    return dict(jobs[0]) if jobs else {"state": "", "progress": 0, "deliveries": []}


def wait_for_state(node: LocalNode, state: str, attempt: int = 1) -> dict[str, Any]:
    """Wait until the only job is in a state, and what it sends was sent."""

    def is_there() -> dict[str, Any] | None:
        job = only_job(node)
        assert job["state"] != "failed" or state == "failed", job["sentence"]
        is_sent = not any(one["state"] == "PENDING" for one in job["deliveries"])
        return job if job["state"] == state and job["attempts"] == attempt and is_sent else None

    return dict(wait_for(is_there, JOB_TIME_LIMIT_S, f"the job to be {state}"))


def children(process_id: int) -> list[int]:
    """Return the processes that a process started and that run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == process_id and state != "Z":
            found.append(int(entry.name))
    return found


def test_a_job_without_numbers_waits_for_an_operator_and_can_be_cancelled_and_restarted_at_every_step(
    make_node: Callable[..., LocalNode],
    make_orthanc: Callable[[LocalNode], Orthanc],
    alderson_paths: list[Path],
    binary: Callable[[str], str],
    tmp_path: Path,
) -> None:
    node = make_node(hold_without_numbers=True)
    orthanc = make_orthanc(node)
    study = dcmread(alderson_paths[0], stop_before_pixels=True).StudyInstanceUID
    orthanc.take(alderson_paths)
    assert storescu(binary, node, alderson_paths) == 0

    job = wait_for_state(node, "open")
    path = f"/api/jobs/{job['id']}"
    assert "forbid every number" in job["sentence"]
    assert job["pictures"], "the operator has something to look at"
    assert results_in(orthanc, study, tmp_path / "none") == []
    node.post(f"{path}/release")
    wait_for_state(node, "done")
    first = {ds.SOPInstanceUID for ds in results_in(orthanc, study, tmp_path / "first")}
    assert first

    node.post(f"{path}/restart?step=deliver")
    wait_for_state(node, "open", attempt=2)
    node.post(f"{path}/release")
    wait_for_state(node, "done", attempt=2)
    assert {ds.SOPInstanceUID for ds in results_in(orthanc, study, tmp_path / "second")} == first

    node.post(f"{path}/restart?step=analyse")
    wait_for(lambda: only_job(node)["next_step"] == "analyse" and children(node.process_id), 60, "the analysis to run")
    began = time.monotonic()
    node.post(f"{path}/cancel")
    wait_for(lambda: not children(node.process_id), 10, "its process to end")
    assert time.monotonic() - began < 1.5, "within a second, on a loaded machine"
    assert only_job(node)["state"] == "discarded"

    research = node.data_dir / "research/jobs" / job["id"]
    shutil.rmtree(research / "clean")
    node.post(f"{path}/restart?step=analyse")
    wait_for(lambda: only_job(node)["attempts"] == 4 and only_job(node)["progress"] > 0.05, 120, "the analysis again")
    node.post(f"{path}/cancel")
    events = [one for one in node.get(path)["events"] if one["attempt"] == 4]
    assert "de-identified series is not there" in next(one["sentence"] for one in events if one["kind"] == "rewound")
    assert [one["step"] for one in events if one["kind"] == "ended"] == ["deidentify"]
    wait_for(lambda: not children(node.process_id), 10, "its process to end")
    wait_for(lambda: not list(node.data_dir.rglob("*.draft")), 10, "what is half-made to be deleted")


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[Callable[[LocalNode], subprocess.Popen[bytes]]]:
    """Return a factory of workers beside a node, with its settings."""
    running: list[subprocess.Popen[bytes]] = []

    def make(node: LocalNode) -> subprocess.Popen[bytes]:
        environment = {**node._environment(), "OSTEONODE_PARALLEL_JOBS": "1"}
        with (tmp_path / "worker.log").open("a") as log:
            words = [sys.executable, "-m", "dicom_node.cli", "worker"]
            running.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True))
        return running[-1]

    yield make
    for process in running:
        process.kill()
        process.wait()


def test_workers_on_postgresql_take_over_from_one_that_was_killed_and_deliver_once(
    make_node: Callable[..., LocalNode],
    make_worker: Callable[[LocalNode], subprocess.Popen[bytes]],
    make_orthanc: Callable[[LocalNode], Orthanc],
    postgresql: PostgresqlServer,
    alderson_paths: list[Path],
    binary: Callable[[str], str],
    tmp_path: Path,
) -> None:
    urls = {
        f"{name}_database_url": postgresql.fresh(f"node_{name}")
        for name in ("hospital", "identity", "research", "engine")
    }
    node = make_node(parallel_jobs=0, heartbeat_s=0.5, stale_s=3, **urls)
    orthanc = make_orthanc(node)
    study = dcmread(alderson_paths[0], stop_before_pixels=True).StudyInstanceUID
    orthanc.take(alderson_paths)
    assert storescu(binary, node, alderson_paths) == 0
    wait_for(lambda: only_job(node)["state"] == "pending", 60, "the job to wait")
    assert only_job(node)["waiting"] == "Waits for a free worker."

    first = make_worker(node)
    wait_for(lambda: children(first.pid), 120, "the first worker's analysis")
    orphans = children(first.pid)
    first.kill()
    second = make_worker(node)
    job = wait_for_state(node, "done")
    assert [one["kind"] for one in job["events"]].count("lost") == 1
    assert not [pid for pid in orphans if Path(f"/proc/{pid}").exists()]
    back = results_in(orthanc, study, tmp_path / "back")
    assert {ds.Modality for ds in back} == MODALITIES
    assert [ds.Modality for ds in back].count("SR") == 1

    second.terminate()
    assert second.wait(timeout=20) == 0
    assert node.get("/api/board")["workers"][0]["cpu_slots"] == 0, "the node itself is left, which runs no jobs"

    other = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", "serve"],
        env={**node._environment(), "OSTEONODE_DICOM_PORT": "0", "OSTEONODE_WEB_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Another osteonode process uses the data folder" in other.stdout
    header = dcmread(alderson_paths[0], stop_before_pixels=True)
    log = (tmp_path / "worker.log").read_text()
    assert "step_ended" in log
    assert not [word for word in (str(header.PatientName), str(header.StudyInstanceUID)) if word and word in log]
