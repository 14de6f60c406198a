"""Child processes: their results, errors, limits, and their end when the parent dies."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.errors import JobFailed, JobRejected
from dicom_node.jobs.child import run_child
from dicom_node.jobs.failure import describe_failure


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a factory of modules that serve as a child; the argument is the body of ``work``."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(body: str) -> str:
        (tmp_path / "childmodule.py").write_text(
            "import os, sys, time\nfrom dicom_node.errors import JobRejected\n"
            "from dicom_node.jobs.child import serve_child\n"
            f"def work(task, progress):\n{textwrap.indent(textwrap.dedent(body), '    ')}\nserve_child(work)\n"
        )
        return "childmodule"

    return make


def run(module: str, seen: list | None = None, time_limit_s: float = 30, memory: int = 0) -> dict:
    record = seen if seen is not None else []
    return run_child(
        module,
        {"number": 20},
        time_limit_s=time_limit_s,
        memory_limit_bytes=memory,
        progress=lambda done, stage: record.append((done, stage)),
    )


def test_a_child_returns_its_result_and_reports_progress(child: Callable[[str], str]) -> None:
    seen: list = []
    module = child("progress(0.5, 'halfway'); print('noise on stdout'); return {'double': 2 * task['number']}")
    assert run(module, seen) == {"double": 40}
    assert seen == [(0.5, "halfway")]


def test_a_verdict_of_the_child_keeps_its_kind_and_sentence(child: Callable[[str], str]) -> None:
    with pytest.raises(JobRejected, match="no hip in view"):
        run(child("raise JobRejected('no hip in view')"))


def test_an_unforeseen_error_names_kind_and_place_but_not_the_value(child: Callable[[str], str]) -> None:
    with pytest.raises(JobFailed, match=r"ValueError at childmodule.py:\d+") as error:
        run(child("raise ValueError('Muster^Erika')"))
    assert "Muster" not in str(error.value)


def test_a_crash_is_a_failed_step(child: Callable[[str], str]) -> None:
    with pytest.raises(JobFailed, match="without an answer"):
        run(child("os.kill(os.getpid(), 9)"))


def test_the_time_limit_ends_a_child(child: Callable[[str], str]) -> None:
    with pytest.raises(JobFailed, match="time limit"):
        run(child("time.sleep(60)"), time_limit_s=1.5)


def test_the_memory_limit_ends_a_step_with_a_sentence(child: Callable[[str], str]) -> None:
    with pytest.raises(JobFailed, match="memory limit"):
        run(child("return {'n': len(bytearray(8_000_000_000))}"), memory=2_000_000_000)


def test_a_child_ends_when_its_parent_is_killed(child: Callable[[str], str], tmp_path: Path) -> None:
    module = child(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    code = (
        "from dicom_node.jobs.child import run_child\n"
        f"run_child({module!r}, {{}}, time_limit_s=60, memory_limit_bytes=0, progress=lambda d, s: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    pid = int(_wait(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait(lambda: not _is_running(pid))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (OSError, IndexError):
        return False


def _wait(condition: Callable[[], object], timeout_s: float = 15) -> object:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def test_a_failure_is_described_without_its_message() -> None:
    with pytest.raises(ValueError, match="Muster") as caught:
        int("Muster^Erika")
    assert describe_failure(caught.value).startswith("ValueError at test_jobs_child.py:")
