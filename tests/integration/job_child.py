"""A child process that does what a bad step may do: allocate for ever, hang, crash, start children of its own."""

import ctypes
import os
import subprocess
import sys
import time
from typing import Any

from dicom_node.jobs.child import Progress, serve_child

MARK = "osteonode-test-grandchild"
SLEEP = f"import time; time.sleep(300) # {MARK}"


def work(task: dict[str, Any], progress: Progress) -> dict[str, Any]:
    kind = task["body"]
    progress(0.5, f"{kind} step")
    if kind == "hungry":
        hoard = []
        while True:
            hoard.append(bytearray(20_000_000))
    if kind == "crashing":
        ctypes.string_at(0)
    if kind in ("forking", "long"):
        for is_own in (True, False):
            words = [sys.executable, "-c", SLEEP + task["job_id"]]
            subprocess.Popen(words, start_new_session=is_own, stdout=subprocess.DEVNULL)
    if kind == "hoarding":  # each child within the limit, all together not
        hog = "x = bytearray(150_000_000); " + SLEEP
        for _ in range(4):
            subprocess.Popen([sys.executable, "-c", hog + task["job_id"]], stdout=subprocess.DEVNULL)
    if kind == "forking":
        os._exit(7)
    time.sleep(300)
    return {}


if __name__ == "__main__":
    serve_child(work)
