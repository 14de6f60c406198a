"""What we need of the engine, on real databases: no step is lost or counted twice, whatever happens to a process.

DBOS has no public way to have the workflows of a dead process repeated; these tests hold the private one, and the rest
of what the engine relies on, to what DBOS 3.4 does. Another minor version has to pass them before it is allowed.
"""

import importlib.metadata
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from job_harness import STEPS, Harness
from postgresql_server import PostgresqlServer
from sqlalchemy.exc import DBAPIError

from dicom_node import clock
from dicom_node.db import job_queue
from dicom_node.db.job_queue import Claim, begin, end_step, hand_over, holding, waiting_jobs, write_held
from dicom_node.db.session import transaction
from dicom_node.errors import ClaimLost

pytestmark = pytest.mark.needs_binary
NUMBERS = itertools.count()


@pytest.fixture
def on_postgresql(tmp_path: Path, postgresql: PostgresqlServer) -> Iterator[Harness]:
    number = next(NUMBERS)
    harness = Harness(tmp_path, postgresql.fresh(f"research{number}"), postgresql.fresh(f"engine{number}"))
    yield harness
    harness.close()


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path, f"sqlite:///{tmp_path}/research.db", f"sqlite:///{tmp_path}/engine.db")
    yield harness
    harness.close()


@pytest.fixture(params=["on_sqlite", "on_postgresql"])
def harness(request: pytest.FixtureRequest) -> Harness:
    found: Harness = request.getfixturevalue(request.param)
    return found


def started(harness: Harness, number: int) -> None:
    """Wait until so many processes have started."""
    harness.wait(lambda: sum(line.startswith("started") for line in harness.journal()) >= number)


def test_these_tests_are_about_the_installed_minor_version_of_dbos() -> None:
    assert importlib.metadata.version("dbos").startswith("3.4."), "run these tests on it, then change this line"


def test_a_step_of_a_killed_process_is_repeated_by_its_next_start(harness: Harness) -> None:
    harness.add("slow-1")
    first = harness.start()
    harness.wait(lambda: "began analyse slow-1" in harness.journal())
    first.kill()
    harness.start()
    harness.wait_for_state("slow-1", "done")
    assert harness.achieved("slow-1") == list(STEPS)
    assert harness.journal().count("began analyse slow-1") == 2, "the interrupted step alone is repeated"
    assert harness.journal().count("began deidentify slow-1") == 1
    assert [one.kind for one in harness.events("slow-1") if one.step == "analyse"] == [
        "began",
        "lost",
        "began",
        "ended",
    ]


def test_another_process_takes_over_what_a_killed_one_was_doing(on_postgresql: Harness) -> None:
    harness = on_postgresql
    first = harness.start()
    started(harness, 1)
    harness.start()
    started(harness, 2)
    jobs = [f"slow-{number}" for number in range(4)]
    harness.add(*jobs)
    harness.wait(lambda: sum("began analyse" in line for line in harness.journal()) >= 2)
    first.kill()
    killed_at = time.monotonic()
    for job_id in jobs:
        harness.wait_for_state(job_id, "done", 60)
        assert harness.achieved(job_id) == list(STEPS)
    lost = [one for job_id in jobs for one in harness.events(job_id) if one.kind == "lost"]
    assert len(lost) == 1, "one step was running in the process that was killed"
    print(f"all done {time.monotonic() - killed_at:.1f} s after the kill")


def test_a_process_that_wakes_up_after_it_was_declared_dead_changes_nothing(on_postgresql: Harness) -> None:
    harness = on_postgresql
    first = harness.start()
    started(harness, 1)
    harness.add("slow-1")
    harness.wait(lambda: "began analyse slow-1" in harness.journal())
    os.kill(first.pid, signal.SIGSTOP)
    harness.start()
    harness.wait_for_state("slow-1", "done", 60)
    before = harness.journal(), [one.kind for one in harness.events("slow-1")]
    os.kill(first.pid, signal.SIGCONT)
    harness.add("after-1", "after-2", "after-3", "after-4")
    for number in range(1, 5):
        harness.wait_for_state(f"after-{number}", "done", 60)
    time.sleep(3)  # the woken step ends in this time
    assert harness.achieved("slow-1") == list(STEPS), "each effect is there once"
    assert [one.kind for one in harness.events("slow-1")] == before[1]
    assert first.poll() is None, "and the process that woke up goes on working"


def test_work_goes_on_after_the_database_was_away(on_postgresql: Harness, postgresql: PostgresqlServer) -> None:
    harness = on_postgresql
    harness.start(cpu_slots=2)
    started(harness, 1)
    jobs = [f"slow-{number}" for number in range(3)]
    harness.add(*jobs)
    harness.wait(lambda: "began analyse slow-0" in harness.journal())
    postgresql.restart(down_s=4)  # the steps that run end meanwhile
    harness.research.dispose()
    for job_id in jobs:
        harness.wait_for_state(job_id, "done", 90)
        assert harness.achieved(job_id) == list(STEPS)


def test_a_database_that_restarts_while_a_dead_process_is_replaced_strands_nothing(
    on_postgresql: Harness, postgresql: PostgresqlServer
) -> None:
    harness = on_postgresql
    first = harness.start()
    started(harness, 1)
    harness.add("slow-1", "slow-2")
    harness.wait(lambda: "began analyse slow-1" in harness.journal())
    first.kill()
    harness.start()
    started(harness, 2)
    for _ in range(3):
        postgresql.restart()
        time.sleep(0.7)
    harness.research.dispose()
    for job_id in ("slow-1", "slow-2"):
        harness.wait_for_state(job_id, "done", 90)
        assert harness.achieved(job_id) == list(STEPS)


def test_what_an_older_version_had_under_way_is_taken_up(harness: Harness) -> None:
    harness.add("slow-1", "b", "c")
    old = harness.start(workflow_schema="1")
    harness.wait(lambda: "began analyse slow-1" in harness.journal())
    old.kill()
    if harness.research.dialect.name == "postgresql":
        time.sleep(2.2)  # until the old version's last sign of life is stale
    harness.start(workflow_schema="2")
    for job_id in ("slow-1", "b", "c"):
        harness.wait_for_state(job_id, "done", 60)
        assert harness.achieved(job_id) == list(STEPS)
    assert "upgraded" in next(one.sentence for one in harness.events("slow-1") if one.kind == "lost")


def test_processes_of_two_versions_each_finish_what_they_began(on_postgresql: Harness) -> None:
    harness = on_postgresql
    harness.start(workflow_schema="1")
    started(harness, 1)
    harness.add("slow-1")
    harness.wait(lambda: "began analyse slow-1" in harness.journal())
    harness.start(workflow_schema="2")
    started(harness, 2)
    harness.add("slow-2", "slow-3")
    for number in (1, 2, 3):
        harness.wait_for_state(f"slow-{number}", "done", 60)
        assert harness.achieved(f"slow-{number}") == list(STEPS)
        assert not any(one.kind == "lost" for one in harness.events(f"slow-{number}"))


def test_an_attempt_submitted_many_times_runs_once(harness: Harness) -> None:
    harness.add("a", state="submitted")
    harness.start(submit=["a"] * 5)
    harness.wait_for_state("a", "done")
    time.sleep(1)
    assert harness.achieved("a") == list(STEPS)


def test_a_delivery_handed_over_many_times_is_tried_once(harness: Harness) -> None:
    harness.start(deliver=[1, 1, 1, 2])
    harness.wait(lambda: {"delivered 1 1", "delivered 2 1"} <= set(harness.journal()))
    time.sleep(1)
    delivered = Counter(line for line in harness.journal() if "delivered" in line)
    assert delivered == {"delivered 1 1": 1, "delivered 2 1": 1}


def test_a_hundred_jobs_in_two_processes_run_once_each(on_postgresql: Harness) -> None:
    harness = on_postgresql
    jobs = [f"j{number}" for number in range(100)]
    harness.add(*jobs)
    began = time.monotonic()
    harness.start(cpu_slots=4)
    harness.start(cpu_slots=3)
    for job_id in jobs:
        harness.wait_for_state(job_id, "done", 120)
    seconds = time.monotonic() - began
    counts = Counter(line for line in harness.journal() if line.startswith(("began", "did")))
    assert len(counts) == 100 * len(STEPS) * 2
    assert set(counts.values()) == {1}
    assert len({one.executor for job_id in jobs for one in harness.events(job_id)}) == 2, "both worked"
    print(f"100 jobs of 4 steps in {seconds:.1f} s")


def test_a_claim_that_was_taken_over_can_write_nothing(harness: Harness) -> None:
    harness.add("a")
    claims = []
    for token in ("old", "new"):
        with transaction(harness.research) as session:
            for one in waiting_jobs(session, clock.now(), is_offpeak=True, steps=STEPS, limit=1):
                assert hand_over(session, one, "cpu1", clock.now()) == 1
            claims.append(begin(session, "a", 1, 1, token, "host:1", clock.now()))
    old, new = claims
    assert isinstance(old, Claim)
    assert isinstance(new, Claim)
    for write in (
        lambda session: write_held(session, old, clock.now(), progress=0.9),
        lambda session: end_step(session, old, clock.now(), "ended", "", state="done"),
    ):
        with pytest.raises(ClaimLost), transaction(harness.research) as session:
            write(session)
    with pytest.raises(ClaimLost), holding(harness.research, old, clock.now()):
        pytest.fail("results of a claim that is lost are put in their place")
    assert (harness.job("a").state, harness.job("a").progress) == ("processing", 0.0)
    with holding(harness.research, new, clock.now()):
        pass


def test_a_process_that_is_stopped_while_it_holds_a_job_lets_it_go(
    on_postgresql: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = on_postgresql
    monkeypatch.setattr(job_queue, "HOLD_LIMIT_S", 1)
    harness.add("a")
    with transaction(harness.research) as session:
        (one,) = waiting_jobs(session, clock.now(), is_offpeak=True, steps=STEPS, limit=1)
        hand_over(session, one, "cpu1", clock.now())
        old = begin(session, "a", 1, 1, "old", "host:1", clock.now())
    assert isinstance(old, Claim)
    with (
        pytest.raises(DBAPIError),
        holding(harness.research, old, clock.now()),
        transaction(harness.research) as session,
    ):
        # waits for the lock, which the server takes from the first
        assert begin(session, "a", 1, 1, "new", "host:2", clock.now()) is not None
    assert harness.job("a").token == "new"


def test_a_second_process_on_sqlite_is_refused_with_a_sentence(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "OSTEONODE_DATA_DIR": str(tmp_path / "data")}
    words = [sys.executable, "-m", "dicom_node.cli", "worker"]
    answer = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert answer.returncode == 1
    assert "SQLite is for one" in answer.stdout
    assert "engine_database_url" in answer.stdout


def test_a_worker_waits_for_nobody_to_migrate_its_databases(
    tmp_path: Path, postgresql: PostgresqlServer, binary: Callable[[str], str]
) -> None:
    number = next(NUMBERS)
    urls = {
        f"OSTEONODE_{name}_DATABASE_URL": postgresql.fresh(f"{name}{number}".lower())
        for name in ("HOSPITAL", "IDENTITY", "RESEARCH", "ENGINE")
    }
    environment = {"PATH": os.environ["PATH"], "OSTEONODE_DATA_DIR": str(tmp_path / "data"), **urls}
    words = [sys.executable, "-m", "dicom_node.cli", "worker"]
    answer = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert answer.returncode == 1
    assert "osteonode migrate" in answer.stdout
