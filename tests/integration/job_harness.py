"""A process that runs small jobs on the engine, for tests that kill, stop and upgrade it.

What a step does is said by the first word of the job's id. Every step writes down that it began, and what it achieved:
the achievement only while it holds the job, as the node's own steps do.
"""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command

from dicom_node import clock
from dicom_node.db.job_queue import Claim, holding, is_held_by, write_held
from dicom_node.db.jobs import events_of, get_job
from dicom_node.db.models import Job
from dicom_node.db.node_tables import JobEvent
from dicom_node.db.session import alembic_config, open_engine, transaction
from dicom_node.errors import InputGone, JobHeld, JobRejected, Unavailable
from dicom_node.jobs.child import run_child
from dicom_node.jobs.engine import Capacity, JobEngine, Steps
from dicom_node.jobs.execution import Step

STEPS = ("deidentify", "analyse", "package", "deliver")
SLOW_S = 2.0
MEMORY_LIMIT_BYTES = 400_000_000


class Harness:
    """The databases of an installation, its jobs, and the processes that run them."""

    def __init__(self, folder: Path, research_url: str, engine_url: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.urls = (research_url, engine_url)
        command.upgrade(alembic_config("research", research_url), "head")
        self.research = open_engine(research_url)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, **options: object) -> subprocess.Popen[bytes]:
        """Start a process; options are those of ``Capacity``, ``workflow_schema`` and ``submit``."""
        with (self.folder / "log").open("a") as log:
            words = [sys.executable, __file__, str(self.folder), *self.urls, json.dumps(options)]
            here = Path(__file__).parent
            environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parents[1]}"}  # for the child processes
            process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, env=environment)
        self.processes.append(process)
        return process

    def add(self, *job_ids: str, state: str = "pending", **changes: Any) -> None:
        """Add jobs that wait; the first named are the oldest."""
        now = clock.now()
        with transaction(self.research) as session:
            for number, job_id in enumerate(job_ids):
                values = {
                    "pipeline": "bone", "stage": "", "progress": 0.0, "sentence": "", "attempts": 1,
                    "created_at": now + timedelta(milliseconds=number), "updated_at": now, **changes,
                }  # fmt: skip
                session.add(Job(id=job_id, state=state, **values))

    def job(self, job_id: str) -> Job:
        """Return a job as it is."""
        with transaction(self.research) as session:
            job = get_job(session, job_id)
        assert job is not None
        return job

    def events(self, job_id: str) -> list[JobEvent]:
        """Return what happened to a job."""
        with transaction(self.research) as session:
            return events_of(session, [job_id]).get(job_id, [])

    def journal(self) -> list[str]:
        """Return what the steps wrote down."""
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def achieved(self, job_id: str) -> list[str]:
        """Return the steps whose effect a job has, in the order they had it."""
        return [line.split()[1] for line in self.journal() if line.startswith("did ") and line.split()[2] == job_id]

    def wait(self, condition: Any, timeout_s: float = 40) -> Any:
        """Return the first true value of a condition."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.05)
        states = {job_id: (self.job(job_id).state, self.job(job_id).sentence) for job_id in self._ids()}
        raise AssertionError(f"waited in vain: {states} {self.journal()} {(self.folder / 'log').read_text()[-3000:]}")

    def wait_for_state(self, job_id: str, state: str, timeout_s: float = 40) -> Job:
        """Wait until a job is in a state, and return it."""
        job: Job = self.wait(lambda: (found := self.job(job_id)).state == state and found, timeout_s)
        return job

    def close(self) -> None:
        """End every process, also a stopped one."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.research.dispose()

    def _ids(self) -> list[str]:
        with transaction(self.research) as session:
            return list(session.scalars(sa.select(Job.id)))[:20]


def main() -> None:
    folder, research_url, engine_url = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    options = json.loads(sys.argv[4])
    research = open_engine(research_url)

    def note(text: str) -> None:
        with (folder / "journal").open("a") as journal:
            journal.write(text + "\n")

    def act(claim: Claim) -> None:
        kind = claim.job_id.split("-")[0]
        if claim.step == "analyse":
            action = ACTIONS.get(kind)
            if action is not None:
                action(claim, research)
        if claim.step == "deliver" and kind == "held" and not claim.is_released:
            raise JobHeld("no number is allowed")
        if claim.step == "package" and kind == "incomplete" and not (folder / "left").exists():
            (folder / "left").touch()
            raise InputGone("the report is gone", "analyse")

    def run(claim: Claim) -> str:
        note(f"began {claim.step} {claim.job_id}")
        act(claim)
        with holding(research, claim, clock.now()):
            note(f"did {claim.step} {claim.job_id}")
        return ""

    schema = options.pop("workflow_schema", "2")
    submitted = options.pop("submit", [])
    deliveries = options.pop("deliver", [])
    engine = JobEngine(
        engine_url,
        research,
        Steps(
            run=tuple(Step(name, run, can_use_gpu=name == "analyse") for name in STEPS),
            deliver=lambda delivery_id, number: note(f"delivered {delivery_id} {number}"),
            put_off=lambda delivery_id, number: note(f"put off {delivery_id} {number}"),
        ),
        Capacity(**{"heartbeat_s": 0.4, "stale_s": 2.0, **options}),
        workflow_schema=schema,
    )
    engine.start()
    note(f"started {engine.executor_id}")
    for job_id in submitted:
        engine.submit(job_id, 1)
        engine.submit(job_id, 1)
    for delivery_id in deliveries:
        engine.deliver(delivery_id, 1, 7)
        engine.deliver(delivery_id, 1, 7)
    time.sleep(600)


def _sleep(claim: Claim, research: sa.Engine) -> None:
    time.sleep(SLOW_S)


def _reject(claim: Claim, research: sa.Engine) -> None:
    raise JobRejected("no hip in view")


def _stumble(claim: Claim, research: sa.Engine) -> None:
    raise ValueError("Muster^Erika")


def _miss(claim: Claim, research: sa.Engine) -> None:
    with transaction(research) as session:  # a second try is due at once, and not after the table's pause
        tries = session.get_one(Job, claim.job_id).tries
    if tries < 1:
        raise Unavailable("a disk is away")


def _kill_process(claim: Claim, research: sa.Engine) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _child(body: str) -> Any:
    def run(claim: Claim, research: sa.Engine) -> None:
        def is_wanted() -> bool:
            with transaction(research) as session:
                return is_held_by(session, claim)

        def progress(done: float, stage: str) -> None:
            with transaction(research) as session:
                write_held(session, claim, clock.now(), stage=stage, progress=done)

        task = {"body": body, "job_id": claim.job_id}
        run_child(
            "job_child",
            task,
            time_limit_s=4,
            memory_limit_bytes=MEMORY_LIMIT_BYTES,
            progress=progress,
            is_wanted=is_wanted,
        )

    return run


ACTIONS = {
    "slow": _sleep,
    "rejected": _reject,
    "buggy": _stumble,
    "unavailable": _miss,
    "deadly": _kill_process,
    **{kind: _child(kind) for kind in ("hungry", "hanging", "crashing", "forking", "hoarding", "long")},
}

if __name__ == "__main__":
    main()
