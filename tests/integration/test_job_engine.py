"""The durable engine: a job survives kill -9 at any step, and is finished once."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

SCRIPT = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from dicom_node.errors import JobRejected, Unavailable
    from dicom_node.jobs.engine import JobEngine, Steps

    folder = Path(sys.argv[1])

    def note(text):
        with (folder / "journal").open("a") as journal:
            journal.write(text + "\\n")

    def slow(job_id):
        note(f"slow begins {job_id}")
        time.sleep(3 if job_id == "slow" else 0)
        note(f"slow ends {job_id}")

    def judge(job_id):
        if job_id == "rejected":
            raise JobRejected("no hip in view")
        if job_id == "buggy":
            raise ValueError("Muster^Erika")

    tries = []
    def deliver(delivery_id, attempt):
        tries.append(delivery_id)
        note(f"deliver {delivery_id}")
        return "sent" if len(tries) > 2 or delivery_id < 9 else "again"

    steps = Steps(
        run=(("first", lambda job_id: note(f"first {job_id}")), ("slow", slow), ("judge", judge)),
        fail=lambda job_id, sentence: note(f"failed {job_id}: {sentence}"),
        finish=lambda job_id: note(f"finish {job_id}") or ([9] if job_id == "retried" else [1]),
        deliver=deliver,
        give_up=lambda delivery_id, attempt: note("gave up"),
    )
    limits = {"parallel_jobs": 2, "delivery_attempts": 5, "delivery_backoff_s": 0.1}
    engine = JobEngine(f"sqlite:///{folder}/engine.db", steps, **limits)
    engine.start()
    for job_id in sys.argv[2:]:
        engine.submit(job_id, 1)
        engine.submit(job_id, 1)
    time.sleep(60)
""")


class Engine:
    """An engine in a process of its own, and what its steps wrote down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "engine.py").write_text(SCRIPT)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *jobs: str) -> None:
        with (self.folder / "log").open("a") as log:
            command = [sys.executable, str(self.folder / "engine.py"), str(self.folder), *jobs]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def journal(self) -> list[str]:
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def wait(self, line: str, timeout_s: float = 40) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if line in self.journal():
                return
            time.sleep(0.05)
        pytest.fail(f"{line!r} is not in {self.journal()}; {(self.folder / 'log').read_text()[-2000:]}")


@pytest.fixture
def engine(tmp_path: Path):
    running = Engine(tmp_path)
    yield running
    running.kill()


def test_a_job_submitted_twice_runs_once(engine: Engine) -> None:
    engine.start("a")
    engine.wait("deliver 1")
    time.sleep(1.5)
    assert engine.journal() == ["first a", "slow begins a", "slow ends a", "finish a", "deliver 1"]


def test_a_killed_job_goes_on_where_it_was_and_finishes_once(engine: Engine) -> None:
    engine.start("slow")
    engine.wait("slow begins slow")
    engine.kill()
    engine.start()
    engine.wait("deliver 1")
    time.sleep(1.5)
    journal = engine.journal()
    assert journal.count("first slow") == 1, "a finished step is not repeated"
    assert journal.count("slow begins slow") == 2, "the interrupted step is"
    assert journal.count("finish slow") == journal.count("deliver 1") == 1


def test_one_bad_job_does_not_block_another(engine: Engine) -> None:
    engine.start("rejected", "buggy", "good")
    engine.wait("failed rejected: no hip in view")
    engine.wait("finish good")
    failed = next(line for line in _until(engine, "failed buggy") if line.startswith("failed buggy"))
    assert "ValueError" in failed
    assert "Muster" not in failed
    engine.kill()
    stored = b"".join(path.read_bytes() for path in engine.folder.iterdir() if path.name != "engine.py")
    assert b"Muster" not in stored, "neither log nor engine database quote a value"


def test_a_delivery_is_tried_again_until_the_peer_takes_it(engine: Engine) -> None:
    engine.start("retried")
    engine.wait("finish retried")
    end = time.monotonic() + 20
    while engine.journal().count("deliver 9") < 3 and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    assert engine.journal().count("deliver 9") == 3
    assert "gave up" not in engine.journal()


def _until(engine: Engine, start: str) -> list[str]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if any(line.startswith(start) for line in engine.journal()):
            return engine.journal()
        time.sleep(0.1)
    pytest.fail(f"no line starts with {start}")
