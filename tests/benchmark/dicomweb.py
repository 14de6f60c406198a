"""STOW-RS and WADO-RS of 600 CT slices of 526 kB, beside Orthanc's DICOMweb plugin on the same machine.

Seconds of wall clock and of processor time are those of the server's process; both servers make what they store durable
(Orthanc with SyncStorageArea, its default).
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np

from dicom_node.demo.fake_ct import FakePatient, Scan, uid_from, write_series
from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import AE_TITLE, Orthanc
from dicom_node.net.scu import Address
from tests.benchmark.table import Row

SLICES = 600
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = Path("/usr/sbin/Orthanc")
BOUNDARY = "benchmark"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
TICKS = os.sysconf("SC_CLK_TCK")
Cost = dict[str, tuple[float, float]]
"""What was asked -> wall clock and processor time, s; ``memory`` -> MB, twice."""


def run() -> list[Row]:
    """Measure both; without Orthanc its numbers are missing."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        values = np.random.default_rng(6).integers(-1000, 2000, (SLICES, 512, 512)).astype(np.int16)
        files = write_series(Scan(values, (1.0, 0.7, 0.7), (0.0, 0.0, 0.0)), folder / "ct", FakePatient(), seed="bench")
        del values
        with _node(folder) as (url, process):
            ours = _measure(url, process, files)
        theirs: Cost = {}
        if ORTHANC.exists() and PLUGIN.exists():
            with _orthanc(folder) as (url, process):
                theirs = _measure(url, process, files)
    peer = "Orthanc DICOMweb" if theirs else "Orthanc is not installed"
    grown = [cost.pop("memory")[0] if cost else None for cost in (ours, theirs)]
    rows = [Row("memory its process grows by", grown[0] or 0.0, grown[1], peer, "MB", None)]
    for what, cost in ours.items():
        for word, index in (("wall clock", 0), ("processor", 1)):
            their = theirs[what][index] if theirs else None
            rows.append(Row(f"{what} of {SLICES} slices, {word}", cost[index], their, peer, "s", None))
    return rows


def _measure(url: str, process: int, files: list[Path]) -> Cost:
    study = uid_from("bench", "study")
    with httpx.Client(base_url=url, timeout=600, headers={"Accept-Encoding": "identity"}) as client:

        def store() -> None:
            headers = {"Content-Type": RELATED, "Accept": "application/dicom+json"}
            client.post("/studies", headers=headers, content=_body(files)).raise_for_status()

        def read(path: str, accept: str) -> None:
            size = 0
            with client.stream("GET", f"/studies/{study}{path}", headers={"Accept": accept}) as answer:
                answer.raise_for_status()
                size = sum(len(piece) for piece in answer.iter_raw())
            assert size > SLICES * 1000

        before = _peak_mb(process)
        costs = {
            "STOW-RS": _cost(process, store),
            "WADO-RS": _cost(process, lambda: read("", AS_STORED)),
            "metadata": _cost(process, lambda: read("/metadata", "application/dicom+json")),
        }
        grown = _peak_mb(process) - before
        return {**costs, "memory": (grown, grown)}


def _body(files: list[Path]) -> Iterator[bytes]:
    for path in files:
        yield f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        yield path.read_bytes()
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


def _cost(process: int, action: Callable[[], None]) -> tuple[float, float]:
    started, used = time.perf_counter(), _processor_s(process)
    action()
    return time.perf_counter() - started, _processor_s(process) - used


def _processor_s(process: int) -> float:
    """Return the user and system time of a process and the children it has waited for, s (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def _peak_mb(process: int) -> float:
    """Return the most memory a process has had so far, MB (proc(5), VmHWM)."""
    (line,) = (one for one in Path(f"/proc/{process}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


@contextmanager
def _node(folder: Path) -> Iterator[tuple[str, int]]:
    node = LocalNode(folder / "node", folder / "node.log", quiet_s=86400).start()
    try:
        assert node._process is not None
        yield f"{node.url}/dicom-web", node._process.pid
    finally:
        node.stop()


@contextmanager
def _orthanc(folder: Path) -> Iterator[tuple[str, int]]:
    orthanc = Orthanc(str(ORTHANC), folder / "orthanc", Address("NODE", "127.0.0.1", 104, AE_TITLE), [str(PLUGIN)])
    try:
        yield f"{orthanc.url}/dicom-web", orthanc._process.pid
    finally:
        orthanc.close()
