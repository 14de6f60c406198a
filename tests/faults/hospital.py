"""A hospital to break things in: a node whose faults can be chosen, and the peers around it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
from pydicom.uid import generate_uid

from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE
from dicom_node.errors import ConfigurationError
from dicom_node.net.scu import Address
from tests.faults.instants import OBSERVED, Instant
from tests.faults.peers import CountingOrthanc, Scanner
from tests.faults.studies import SENDER, Study, insist, make_study, small_scan

SITE = Path(__file__).parent / "site"
FAST = {
    "quiet_s": 1.0,
    "element_mm": 6.0,
    "strength_interval": False,
    "delivery_backoff_s": 1.0,
    "commitment_wait_s": 4.0,
    "idle_timeout_s": 15.0,
    "heartbeat_s": 1.0,
    "stale_s": 6.0,
    "log_level": "INFO",
}
"""Settings that make a job of the small study take seconds."""
WITHOUT = "dicom_node.pipeline.validators:_pixelmed"
"""Left out: PixelMed needs 6 s for each report; tests/integration/test_result_validators.py is its own test."""


class BrokenHarnessError(Exception):
    """The harness cannot do what it says: a name it wraps is not there any more."""


class FaultyNode(LocalNode):
    """A node process in which one fault can wait at an instant."""

    def __init__(self, data_dir: Path, log: Path, control: Path, **settings: object) -> None:
        super().__init__(data_dir, log, **{**FAST, **settings})
        self.control = control
        self.log = log
        self.environment: dict[str, str] = {}
        control.mkdir(parents=True, exist_ok=True)

    def arm(self, instant: Instant) -> None:
        """Let a fault wait; also while the node runs."""
        self.disarm()
        draft = self.control / "draft"
        draft.write_text(json.dumps(instant.task()))
        draft.rename(self.control / "armed.json")

    def disarm(self) -> None:
        """Take back what waits and forget what happened."""
        for name in ("armed.json", "armed.json.fired"):
            (self.control / name).unlink(missing_ok=True)

    @property
    def has_fired(self) -> bool:
        """Whether the instant was reached."""
        return (self.control / "armed.json.fired").exists()

    @property
    def pid(self) -> int:
        """Process id of the node."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_dead(self) -> bool:
        """Whether the node's process has ended."""
        return self._process is None or self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """What the process ended with."""
        return None if self._process is None else self._process.poll()

    def shift_clock(self, seconds: float) -> None:
        """Let the node's clock differ from the true time from now on."""
        (self.control / "clock").write_text(str(seconds))

    def start(self) -> "FaultyNode":
        """Start the process and wait until it answers.

        Raises
        ------
        BrokenHarnessError
            When something the harness wraps is gone.
        ConfigurationError
            When it does not start.
        """
        try:
            super().start()
        except ConfigurationError:
            broken = self.control / "broken"
            if broken.exists():
                raise BrokenHarnessError(broken.read_text()) from None
            raise
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the node and its children."""
        for process in (self.pid, *self.children()):
            os.killpg(os.getpgid(process), number)

    def children(self) -> list[int]:
        """Process ids of the node's children."""
        found = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=False).stdout
        return [int(one) for one in found.split()]

    def resources(self) -> dict[str, int]:
        """Resident memory in MB, threads and open files of the node."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        sizes = {name: int(value) for name, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.M)}
        return {
            "rss_mb": sizes["VmRSS"] // 1024,
            "threads": sizes["Threads"],
            "files": sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir()),
        }

    def retry_delivery(self, delivery_id: int) -> None:
        """Send a failed delivery again."""
        self.post(f"/api/deliveries/{delivery_id}/retry")

    def delete_peer(self, name: str) -> None:
        """Remove a peer."""
        httpx.delete(f"{self.url}/api/peers/{name}").raise_for_status()

    def _environment(self) -> dict[str, str]:
        return {
            **super()._environment(),
            "PYTHONPATH": str(SITE),
            "NODE_FAULTS": str(self.control),
            "NODE_FAULTS_FUNCTIONS": ",".join(OBSERVED),
            "NODE_FAULTS_WITHOUT": WITHOUT,
            **self.environment,
        }


class Hospital:
    """Node, PACS and scanner in one folder."""

    def __init__(self, folder: Path, **settings: object) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder = folder.resolve()
        self.scan = small_scan()
        self.scanner = Scanner()
        self.node = FaultyNode(folder / "data", folder / "node.log", folder / "control", **settings)
        self.pacs: Any = CountingOrthanc(folder / "pacs", self.address())
        self.studies: list[Study] = []

    def address(self) -> Address:
        """Where the PACS sends."""
        return Address(self.node.ae_title, "127.0.0.1", self.node.dicom_port, AE_TITLE)

    def open(self) -> "Hospital":
        """Start the node and tell it its peers."""
        self.node.start()
        pacs = {"name": "PACS", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": self.pacs.port}
        self.node.post("/api/peers", {**pacs, "wants_commitment": True, "is_checked": True})
        scanner = {"name": "scanner", "ae_title": SENDER, "host": "127.0.0.1", "port": self.scanner.port}
        self.node.post("/api/peers", {**scanner, "receives_results": False})
        return self

    def new_study(self, name: str) -> Study:
        """Make a study that the PACS has and the node has not."""
        study = make_study(self.scan, self.folder / "studies" / str(len(self.studies)), name)
        self.pacs.take(list(study.files.values()))
        self.studies.append(study)
        return study

    def restart(self, study: Study | None = None) -> None:
        """Start the node, while the sender already insists on what it is owed."""
        started = Event()

        def is_vain() -> bool:
            return started.is_set() and self.node.is_dead

        with ThreadPoolExecutor(1) as pool:
            insisting = pool.submit(insist, study, self.node.dicom_port, 60, is_vain) if study is not None else None
            try:
                self.node.start()
            finally:
                started.set()
            if insisting is not None:
                insisting.result()

    def ask_commitment(self, study: Study, transaction: str = "") -> str:
        """Ask once for commitment; return the transaction."""
        transaction = transaction or str(generate_uid())
        self.scanner.ask(study, self.node.dicom_port, transaction)
        return transaction

    def close(self) -> None:
        """Stop everything."""
        self.node.disarm()
        self.node.kill()
        self.pacs.close()
        self.scanner.close()


def until(condition: Any, timeout_s: float, pause_s: float = 0.1) -> Any:
    """Return the first true value of a condition, or its last value after the time."""
    end = time.monotonic() + timeout_s
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(pause_s)
    return value
