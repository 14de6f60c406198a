"""A node as a process of its own on this machine: ``osteonode serve`` on free ports of the loopback address."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from dicom_node.demo.pacs import free_port
from dicom_node.errors import ConfigurationError

START_TIME_LIMIT_S = 60.0


class LocalNode:
    """A node that can be started, stopped, killed and started again on the same data.

    Parameters
    ----------
    data_dir
        Its data folder.
    log
        File its output is appended to.
    settings
        Settings beside the embedded defaults, by field name.
    """

    def __init__(self, data_dir: Path, log: Path, **settings: object) -> None:
        self.data_dir = data_dir
        self.dicom_port, self.web_port = free_port(), free_port()
        self.ae_title = str(settings.get("ae_title", "OSTEONODE"))
        self.url = f"http://127.0.0.1:{self.web_port}"
        self._log = log
        self._settings = {
            "data_dir": data_dir,
            "ae_title": self.ae_title,
            "dicom_host": "127.0.0.1",
            "dicom_port": self.dicom_port,
            "web_port": self.web_port,
            "reserve_bytes": 200_000_000,
            "watermark_percent": 100,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "LocalNode":
        """Start the process and wait until it answers.

        Raises
        ------
        ConfigurationError
            When it ends or does not answer; the log says why.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node.cli", "serve"],
                env=self._environment(),
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        end = time.monotonic() + START_TIME_LIMIT_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health").is_success:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        self.kill()
        raise ConfigurationError(f"The node did not start; see {self._log}.")

    @property
    def process_id(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process and its children to stop, as a service manager or a terminal does; return the exit code."""
        if self._process is None or self._process.poll() is not None:
            return 0
        os.killpg(self._process.pid, number)
        try:
            return self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def get(self, path: str) -> Any:
        """Read from the REST interface."""
        answer = httpx.get(f"{self.url}{path}")
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: object = None) -> Any:
        """Ask the REST interface for a change."""
        answer = httpx.post(f"{self.url}{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OSTEONODE_")}
        return {
            **inherited,
            **{f"OSTEONODE_{name.upper()}": str(value) for name, value in self._settings.items()},
        }
