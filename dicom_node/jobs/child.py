"""Heavy steps in child processes, with a time limit, a memory limit, and an end when nobody wants them any more.

The parent writes one JSON line (the task) to the child's standard input and keeps it open: when the parent dies
the pipe closes and the child ends itself and its own children, so that no orphan works on. The child answers in JSON
lines on standard output: progress, then an error or its result.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from dicom_node.errors import JobFailed, JobRejected, NodeError, StepCrashed, Unavailable
from dicom_node.jobs.failure import describe_failure
from dicom_node.jobs.family import MARK, end_family
from dicom_node.jobs.watch import Limits, Watch
from dicom_node.storage.files import new_id

Progress = Callable[[float, str], None]
ERRORS: dict[str, type[NodeError]] = {kind.__name__: kind for kind in (JobFailed, JobRejected, Unavailable)}
STOPS = (signal.SIGINT, signal.SIGTERM)


def run_child(
    module: str,
    task: dict[str, Any],
    *,
    time_limit_s: float,
    memory_limit_bytes: int,
    progress: Progress,
    is_wanted: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Run ``python -m module`` on a task and return its result.

    Parameters
    ----------
    module
        What to run; it calls ``serve_child``.
    task
        JSON.
    time_limit_s, memory_limit_bytes
        Limits of the child and its own children: address space of each, resident memory of all together.
    progress
        Told the finished fraction and what is being done.
    is_wanted
        Asked twice a second; when it says no the child is ended.

    Raises
    ------
    JobRejected, Unavailable
        As the child raised them.
    ClaimLost
        When it was not wanted any more.
    StepCrashed
        When a signal that is not ours ended the child.
    JobFailed
        When the child fails, ends without an answer, passes the time limit or runs out of memory. A child that is
        interrupted by a signal to the whole node is ``Unavailable``: the step is repeated.
    """
    mark = new_id()
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, MARK: mark},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with Watch(process.pid, mark, Limits(time_limit_s, memory_limit_bytes), is_wanted) as watch:
            try:
                process.stdin.write(json.dumps({"memory_limit_bytes": memory_limit_bytes, **task}) + "\n")
                process.stdin.flush()
                answer = _listen(process.stdout, progress)
            except BrokenPipeError:
                answer = {}
            finally:
                end_family(process.pid, mark)
    if "result" in answer:
        result: dict[str, Any] = answer["result"]
        return result
    if watch.verdict is not None:
        raise watch.verdict
    if "error" in answer:
        raise ERRORS.get(answer["error"], JobFailed)(answer["sentence"])
    raise _ended_silently(process.returncode)


def _ended_silently(code: int) -> NodeError:
    """Say why a child that nobody stopped gave no answer."""
    if -code in STOPS:
        return Unavailable("The step was interrupted from outside.")
    if code < 0:
        return StepCrashed(
            f"The step's process ended without an answer ({signal.Signals(-code).name}): it crashed, or the system "
            f"ended it, as it does when memory is short."
        )
    return JobFailed(f"The step's process ended without an answer (exit code {code}).")


def _listen(lines: Any, progress: Progress) -> dict[str, Any]:
    """Read answers until the final one. Noise of a library that writes to the channel is passed over."""
    for line in lines:
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if "progress" not in answer:
            return answer
        progress(answer["progress"], answer["stage"])
    return {}


def serve_child(work: Callable[[dict[str, Any], Progress], dict[str, Any]]) -> None:
    """Be the child: read the task, do the work, answer. Called by the module ``run_child`` names."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)  # a stop of the node is no verdict on the job; the pipe ends this process
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    _limit_memory(task.pop("memory_limit_bytes"))
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def answer(**fields: object) -> None:
        channel.write(json.dumps(fields) + "\n")

    try:
        result = work(task, lambda done, stage: answer(progress=done, stage=stage))
        answer(result=result)
    except NodeError as error:
        answer(error=type(error).__name__, sentence=str(error))
    except MemoryError:
        answer(error="JobFailed", sentence="The step ran out of its memory limit.")
    except Exception as error:  # noqa: BLE001 - the boundary: the parent gets a sentence
        answer(error="JobFailed", sentence=f"The step ended abnormally: {describe_failure(error)}.")
    channel.close()


def _limit_memory(limit_bytes: int) -> None:
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def _end_with_parent() -> None:
    sys.stdin.read()
    end_family(os.getpid(), os.environ.get(MARK, ""))
    os._exit(1)
