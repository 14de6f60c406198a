"""Heavy steps in child processes, with a time limit and a memory limit.

The parent writes one JSON line (the task) to the child's standard input and keeps it open: when the parent dies
the pipe closes and the child ends itself, so that no orphan works on. The child answers in JSON lines on standard
output: progress, then an error or its result.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dicom_node.errors import JobFailed, JobRejected, NodeError, Unavailable
from dicom_node.jobs.failure import describe_failure

Progress = Callable[[float, str], None]
ERRORS: dict[str, type[NodeError]] = {kind.__name__: kind for kind in (JobFailed, JobRejected, Unavailable)}


def run_child(
    module: str,
    task: dict[str, Any],
    *,
    time_limit_s: float,
    memory_limit_bytes: int,
    progress: Progress,
) -> dict[str, Any]:
    """Run ``python -m module`` on a task and return its result.

    Raises
    ------
    JobRejected, Unavailable
        As the child raised them.
    JobFailed
        When the child fails, crashes, passes the time limit or runs out of memory. A child that is interrupted by
        a signal to the whole node is ``Unavailable``: the step is repeated.
    """
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(time_limit_s, process.kill)
        timer.start()
        started = time.monotonic()
        try:
            process.stdin.write(json.dumps({"memory_limit_bytes": memory_limit_bytes, **task}) + "\n")
            process.stdin.flush()
            answer = _listen(process.stdout, progress)
        except BrokenPipeError:
            answer = {}
        finally:
            timer.cancel()
            process.kill()
    if "result" in answer:
        result: dict[str, Any] = answer["result"]
        return result
    if "error" in answer:
        raise ERRORS.get(answer["error"], JobFailed)(answer["sentence"])
    if process.returncode in (-signal.SIGINT, -signal.SIGTERM):
        raise Unavailable("The step was interrupted from outside.")
    if time.monotonic() - started >= time_limit_s:
        raise JobFailed(f"The step passed its time limit of {time_limit_s:.0f} s.")
    raise JobFailed(f"The step's process ended without an answer (exit code {process.returncode}).")


def _listen(lines: Any, progress: Progress) -> dict[str, Any]:
    """Read answers until the final one."""
    for line in lines:
        answer: dict[str, Any] = json.loads(line)
        if "progress" not in answer:
            return answer
        progress(answer["progress"], answer["stage"])
    return {}


def serve_child(work: Callable[[dict[str, Any], Progress], dict[str, Any]]) -> None:
    """Be the child: read the task, do the work, answer. Called by the module ``run_child`` names."""
    for number in (signal.SIGINT, signal.SIGTERM):
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
    os._exit(1)
