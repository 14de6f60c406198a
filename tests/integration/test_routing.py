"""Routing in running nodes: two that are each other's destination, results sent back, and kill -9 while it decides."""

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from postgresql_server import PostgresqlServer
from pydicom import dcmread
from test_bad_input import sphere_scan

from dicom_node import clock
from dicom_node.db.models import Peer
from dicom_node.db.peers import add_peer
from dicom_node.db.session import prepare_databases, transaction
from dicom_node.demo.fake_ct import FakePatient, write_series
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE
from dicom_node.net.scu import Address, send_files
from dicom_node.pipeline.dispatch import Dispatcher
from dicom_node.pipeline.routing_counts import PacsCounter, Question
from dicom_node.pipeline.routing_store import order_study
from dicom_node.settings import Settings
from dicom_node.storage.dicom_file import read_dicom_file
from dicom_node.storage.intake import Intake
from dicom_node.web import study_views
from tests.conftest import wait_for

PATIENT = FakePatient()
JOB_TIME_LIMIT_S = 400
BY = {"actor": "Olga Operator"}


def peer(node: LocalNode, **changes: object) -> dict[str, object]:
    """Return a node as another one's peer."""
    return {"name": node.ae_title, "ae_title": node.ae_title, "host": "127.0.0.1", "port": node.dicom_port, **changes}


def send(node: LocalNode, files: list[Path], calling: str = AE_TITLE) -> None:
    send_files(Address(node.ae_title, "127.0.0.1", node.dicom_port, calling), files)


def settled(node: LocalNode) -> list[dict[str, Any]] | None:
    """Return the jobs when all have ended and their deliveries too."""
    jobs = node.get("/api/jobs")
    is_over = jobs and all(job["state"] in ("done", "failed") for job in jobs)
    return jobs if is_over and not any(one["state"] == "PENDING" for job in jobs for one in job["deliveries"]) else None


@pytest.mark.real_data
def test_two_nodes_that_are_each_others_destination_never_loop(
    make_node: Callable[..., LocalNode], alderson_paths: list[Path]
) -> None:
    first = make_node(ae_title="NODE1", strength_interval=False)
    second = make_node(ae_title="NODE2", strength_interval=False)
    first.post("/api/peers", peer(second))
    second.post("/api/peers", peer(first))
    for node in (first, second):
        node.post(
            "/api/peers",
            {"name": "CT", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": 1, "receives_results": False},
        )
    study = str(dcmread(alderson_paths[0], stop_before_pixels=True).StudyInstanceUID)

    send(first, alderson_paths)
    (job,) = wait_for(lambda: settled(first), JOB_TIME_LIMIT_S, "the first node's job")
    assert [one["peer"] for one in job["deliveries"]] == ["NODE2"]
    wait_for(lambda: second.get("/api/studies"), 30, "the results at the second node")
    wait_for(
        lambda: [one for one in second.get("/api/studies") if one["state"] == "own" and one["instance_count"] == 0],
        30,
        "the second node to know them all",
    )
    assert second.get("/api/jobs") == []

    send(second, alderson_paths)
    (job,) = wait_for(lambda: settled(second), JOB_TIME_LIMIT_S, "the second node's job")
    assert [one["peer"] for one in job["deliveries"]] == ["NODE1"]
    time.sleep(4)  # more than two quiet times: what could loop would have begun
    for node in (first, second):
        assert len(node.get("/api/jobs")) == 1
        found = node.get(f"/api/studies/{study}")
        assert (found["version"], found["instance_count"]) == (1, len(alderson_paths))
        assert found["own_count"] > 0
    results = list((first.data_dir / "hospital" / "results").rglob("*.dcm"))
    first.stop()
    with sqlite3.connect(first.data_dir / "hospital" / "node.db") as rows:
        rows.execute("DELETE FROM receipts")
        rows.execute("DELETE FROM results")
    first.start()
    send(first, results, calling="NODE2")
    time.sleep(4)
    assert first.get(f"/api/studies/{study}")["version"] == 1, "known by equipment, also without the table of results"


def test_kill_9_while_studies_are_decided_on_makes_each_version_and_job_once(
    make_node: Callable[..., LocalNode], tmp_path: Path
) -> None:
    """Six studies, killed at random instants of the passes that route them, by a seed."""
    node = make_node(quiet_s=0.5, idle_timeout_s=1.0)
    node.post(
        "/api/peers", {"name": "CT", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": 1, "receives_results": False}
    )
    chance = random.Random(20261121)
    sent = set()
    for number in range(6):
        files = write_series(sphere_scan(), tmp_path / f"ct{number}", PATIENT, seed=f"{tmp_path} {number}")[:2]
        sent.add(str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID))
        send(node, files)
        time.sleep(chance.uniform(0.3, 1.6))
        node.kill()
        node.start()
    jobs = wait_for(
        lambda: found if len(found := node.get("/api/jobs")) == len(sent) and settled(node) else None, 120, "all jobs"
    )
    studies = {one["study_instance_uid"]: one for one in node.get("/api/studies")}
    assert set(studies) == sent
    assert all(one["state"] == "routed" and one["version"] == 1 for one in studies.values())
    assert sorted(job["id"] for job in jobs) == sorted(one["job_ids"][0] for one in studies.values())


def test_a_rule_decides_what_is_taken_how_urgently_and_by_whom(
    make_node: Callable[..., LocalNode], tmp_path: Path
) -> None:
    node = make_node()
    node.post(
        "/api/peers", {"name": "CT", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": 1, "receives_results": False}
    )
    condition = {"field": "body_part", "operator": "like", "value": "pel*"}
    rule = {"name": "Pelvis", "conditions": [condition], "pipelines": ["hip"], "priority": "urgent"}
    node.post("/api/rules", {**BY, "rule": rule})
    node.post("/api/rules/Pelvis/place", {**BY, "place": 1})
    files = write_series(sphere_scan(), tmp_path / "ct", PATIENT, seed=f"{tmp_path}")
    send(node, files)
    (job,) = wait_for(lambda: settled(node), 90, "the job")
    assert (job["pipeline"], job["priority"]) == ("hip", "urgent")
    assert job["sentence"].startswith("Found no hip in this CT.")
    (study,) = node.get("/api/studies")
    assert study["versions"][0]["rule_name"] == "Pelvis"
    log = (tmp_path / "node.log").read_text()
    assert not [word for word in PATIENT.identifiers if word in log]


def test_passes_orders_and_lists_of_studies_work_on_postgresql(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    urls = {
        f"{name}_database_url": postgresql.fresh(f"routing_{name}") for name in ("hospital", "identity", "research")
    }
    settings = Settings(data_dir=tmp_path / "data", quiet_s=30, reserve_bytes=0, **urls)
    databases, handed, asked = prepare_databases(settings), [], []

    class Engine:
        def submit(self, job_id: str, attempt: int, priority: str) -> None:
            handed.append((job_id, attempt, priority))

    class Counter:
        def ask(self, questions: Sequence[Question]) -> None:
            asked.extend(questions)

    now = clock.now()
    intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)
    files = write_series(sphere_scan(), tmp_path / "ct", PATIENT, seed="postgresql")[:3]
    study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    with transaction(databases.hospital) as session:
        row = Peer(
            name="PACS", ae_title="PACS", host="h", port=1, may_send=True, receives_results=True, is_queried=True
        )
        peer_id = add_peer(session, row).id
    for file in files:
        intake.keep(read_dicom_file(file.read_bytes(), "PACS").arrival, now)
    dispatcher = Dispatcher(databases, Engine(), settings, Counter())
    assert [dispatcher(now + timedelta(seconds=s)) for s in (1, 29, 30)] == [0, 0, 0]
    assert asked == [Question(study, peer_id, "ct")]
    PacsCounter(databases, settings, lambda: now + timedelta(seconds=31)).answer(asked[0])
    assert study_views.studies(databases, now)[0].state == "waiting_pacs"
    with transaction(databases.hospital) as session:
        order_study(session, study, "proceed", "Olga", now)
    assert [dispatcher(now + timedelta(seconds=s)) for s in (32, 33)] == [1, 0]
    (found,) = study_views.studies(databases, now)
    assert (found.state, found.versions[0].forced_by, len(handed)) == ("routed", "Olga", 1)
    databases.dispose()
