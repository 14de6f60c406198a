"""Receiving CT slices beside Orthanc and DCMTK's storescp: rate, CPU time per slice and memory.

One sender for all: slices of 526 kB, encoded beforehand, sent by C-STORE over one and over four associations, each
waiting for its answers. The receivers run on this machine with TCP_NODELAY and their largest PDU, and take turns in
short rounds, so that a busy machine slows them alike; medians are compared. CPU time is that of the receiver's
processes, with whatever else they do meanwhile. Before it answers the node syncs the file, its folder and the row;
Orthanc (SyncStorageArea) syncs the file alone, counted by its calls of fsync; storescp syncs nothing.
"""

import json
import os
import shutil
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_node.demo.local_node import LocalNode
from dicom_node.demo.pacs import BINARY_PATH, free_port
from tests.benchmark.deid import slice_bytes
from tests.benchmark.table import Row
from tests.dicom_wire import ASSOCIATE_AC, Caller, store

ROUNDS, SLICES_A_ROUND = 4, 150
ASSOCIATIONS = (1, 4)
CPU_GOAL_MS = 2.5
DEEP_UID = "1.2.3.1"
"""SOP Instance UID in the slice that all others are made from."""
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


@dataclass
class Contestant:
    """A running receiver, and what was measured of it: milliseconds a slice, by number of associations."""

    name: str
    port: int
    process_id: int
    wall_ms: dict[int, list[float]] = field(default_factory=dict)
    cpu_ms: dict[int, list[float]] = field(default_factory=dict)

    def wall(self, associations: int) -> float:
        return statistics.median(self.wall_ms[associations])

    def cpu(self, associations: int) -> float:
        return statistics.median(self.cpu_ms[associations])


@contextmanager
def _node(folder: Path, processes: int) -> Iterator[Contestant]:
    settings = {"accept_unknown_peers": True, "quiet_s": 3600, "receiving_processes": processes}
    node = LocalNode(folder / f"node{processes}", folder / "node.log", **settings).start()
    try:
        yield Contestant(f"{processes} receiving process{'es' * (processes > 1)}", node.dicom_port, node.process_id)
    finally:
        node.stop()


@contextmanager
def _orthanc(folder: Path) -> Iterator[Contestant | None]:
    binary = shutil.which("Orthanc", path=BINARY_PATH)
    if binary is None:
        yield None
        return
    port = free_port()
    configuration = {
        "Name": "ORTHANC",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "HttpPort": free_port(),
        "DicomAet": "OSTEONODE",
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "SyncStorageArea": True,
        "MaximumPduLength": 131072,
        "StableAge": 3600,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with _running([binary, str(folder / "orthanc.json")], folder / "orthanc.log", port) as process_id:
        yield Contestant(f"Orthanc {_version(binary)}", port, process_id)


@contextmanager
def _storescp(folder: Path) -> Iterator[Contestant | None]:
    binary = shutil.which("storescp", path=BINARY_PATH)
    if binary is None:
        yield None
        return
    (folder / "storescp").mkdir()
    port = free_port()
    command = [binary, "--fork", "--max-pdu", "131072", "--output-directory", str(folder / "storescp"), str(port)]
    with _running(command, folder / "storescp.log", port) as process_id:
        yield Contestant(f"storescp {_version(binary)}", port, process_id)


@contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[int]:
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, "TCP_NODELAY": "1"})
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and not _answers(port):
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        with Caller(port) as caller:
            return caller.associate() == ASSOCIATE_AC and bool(caller.release())
    except OSError:
        return False


def _version(binary: str) -> str:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    return next((word.strip("v") for word in said.split() if word.strip("v")[:1].isdigit()), "")


def _slices(count: int, series: str) -> list[tuple[str, bytes]]:
    """Return SOP Instance UIDs and datasets; they differ in that UID only."""
    encoded = slice_bytes()
    dataset = encoded[144 + struct.unpack_from("<L", encoded, 140)[0] :]
    old = b"\x08\x00\x18\x00UI\x08\x00" + DEEP_UID.encode() + b"\0"
    assert dataset.count(old) == 1
    made = []
    for number in range(count):
        uid = f"2.25.{series}{number:06d}"
        uid += "0" * (len(uid) % 2)
        made.append((uid, dataset.replace(old, b"\x08\x00\x18\x00UI" + struct.pack("<H", len(uid)) + uid.encode())))
    return made


def _send(caller: Caller, messages: list[bytes], statuses: list[int]) -> None:
    for message in messages:
        caller.send(message)
        statuses.append(caller.status())


def _round(one: Contestant, associations: int) -> None:
    """Send one round of slices and put down what it took."""
    slices = _slices(SLICES_A_ROUND, str(time.time_ns()))
    statuses: list[int] = []
    with ExitStack() as stack:
        callers = [stack.enter_context(Caller(one.port)) for _ in range(associations)]
        if {caller.associate() for caller in callers} != {ASSOCIATE_AC}:
            raise AssertionError(f"{one.name} refused an association")
        parts = [
            [store(uid, dataset, longest=caller.longest) for uid, dataset in slices[number::associations]]
            for number, caller in enumerate(callers)
        ]
        threads = [
            threading.Thread(target=_send, args=(caller, part, statuses))
            for caller, part in zip(callers, parts, strict=True)
        ]
        cpu, began = _cpu_ms(one.process_id), time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.monotonic() - began
        spent = _cpu_ms(one.process_id) - cpu
        for caller in callers:
            caller.release()
    if statuses != [0] * SLICES_A_ROUND:
        raise AssertionError(f"{one.name} did not take every slice")
    one.wall_ms.setdefault(associations, []).append(wall * 1000 / SLICES_A_ROUND)
    one.cpu_ms.setdefault(associations, []).append(spent / SLICES_A_ROUND)


def _processes(process_id: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [process_id]
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _processes(int(child))
    return found


def _over_processes(process_id: int, read: Callable[[Path], float]) -> float:
    total = 0.0
    for one in _processes(process_id):
        try:
            total += read(Path(f"/proc/{one}"))
        except FileNotFoundError:
            continue
    return total


def _cpu_ms(process_id: int) -> float:
    """CPU time of a process, its children, and those of them that have ended."""

    def read(folder: Path) -> float:
        fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) * TICK_MS

    return _over_processes(process_id, read)


def _peak_mib(process_id: int) -> float:
    def read(folder: Path) -> float:
        lines = (folder / "status").read_text().splitlines()
        return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))  # none: it has ended

    return _over_processes(process_id, read)


def run() -> list[Row]:
    """Measure, and return the lines."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        starts = (_node(folder, 1), _node(folder, 2), _orthanc(folder), _storescp(folder))
        ours, more, *others = [stack.enter_context(start) for start in starts]
        peers = [one for one in others if one is not None]
        for number in range(ROUNDS):
            turn = [ours, more, *peers]
            for one in turn[number % len(turn) :] + turn[: number % len(turn)]:
                for associations in ASSOCIATIONS:
                    _round(one, associations)
        memory = {one.name: _peak_mib(one.process_id) for one in [ours, more, *peers]}
    return [row for one in (ours, more) for row in _rows(one, peers, memory)]


def _rows(ours: Contestant, peers: list[Contestant], memory: dict[str, float]) -> list[Row]:
    rows = []
    for peer in peers:
        is_durable = peer.name.startswith("Orthanc")
        for associations in ASSOCIATIONS:
            title = f"receive a slice, {ours.name}, {associations} association{'s' * (associations > 1)}"
            theirs = peer.wall(associations)
            rows.append(
                Row(title, ours.wall(associations), theirs, peer.name, "ms wall", theirs if is_durable else None)
            )
            rows.append(Row(title, ours.cpu(associations), peer.cpu(associations), peer.name, "ms CPU", CPU_GOAL_MS))
        rows.append(Row(f"peak memory, {ours.name}", memory[ours.name], memory[peer.name], peer.name, "MiB", None))
    return rows
