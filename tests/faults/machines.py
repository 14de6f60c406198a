"""Troubles that need a machine of their own: a small disk that fills up, a PostgreSQL that is restarted."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.faults.hospital import Hospital, until
from tests.faults.kills import judge_leftovers, settle
from tests.faults.ledger import Counts, Ledger
from tests.faults.studies import insist, offer
from tests.faults.troubles import expect, job_begins

DISK_BYTES = 64 << 20
LEFT_BYTES = 400 << 10
"""Room for about half of a small study (26 slices of 27 kB), database included."""


class CannotTryError(Exception):
    """Raised where a trouble cannot be made on the machine at hand; the sentence says why."""


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of 64 MiB there.

    Raises
    ------
    CannotTryError
        When mounting is not allowed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise CannotTryError("mounting a tmpfs is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@contextmanager
def ballast(folder: Path, left_bytes: int) -> Iterator[None]:
    """Fill the disk but for so many bytes, while others write to it too."""
    file = folder / "ballast"
    with file.open("wb") as stream:
        while (size := shutil.disk_usage(folder).free - left_bytes) > 0:
            try:
                os.posix_fallocate(stream.fileno(), stream.seek(0, os.SEEK_END), size)
            except OSError:
                continue  # somebody was quicker
    try:
        yield
    finally:
        file.unlink()


def disk_full(folder: Path) -> Counts:
    """The disk of files and databases fills up during intake and during a job, and has room again later.

    Refusals of no room (0xA7xx) come for what is not kept, on an association that goes on; what was acknowledged before
    is whole, and job and results come when there is room again.
    """
    hospital = Hospital(folder, reserve_bytes=0, watermark_percent=100)
    data = hospital.node.data_dir
    try:
        with small_disk(data):
            hospital.open()
            study = hospital.new_study("disk full")
            with ballast(data, LEFT_BYTES):
                offer(study, hospital.node.dicom_port)
                answered = len(study.acknowledged) + len(study.refused)
                kept = Counts()
                Ledger(hospital).check_kept(study, kept)
            statuses = set(study.refused.values())
            insist(study, hospital.node.dicom_port, 60)
            begins = job_begins(hospital, study)
            with ballast(data, 0):
                time.sleep(5)
            counts = settle(hospital, study)
            expect(counts, 0 < answered == len(study.files), f"{answered} of {len(study.files)} got an answer")
            expect(counts, statuses and all(one >> 8 == 0xA7 for one in statuses), f"the refusals are {statuses}")
            expect(counts, not kept.lost, f"{kept.lost} acknowledged before the disk was full are lost")
            expect(counts, begins, "the job did not begin")
            counts.add(judge_leftovers(hospital))
            hospital.node.kill()
    finally:
        hospital.close()
    return counts


class PostgreSql:
    """A private server, which can be restarted. It refuses to run as root, so then it runs as its own user.

    Raises
    ------
    CannotTryError
        When it is not installed.
    """

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        if not found:
            raise CannotTryError("PostgreSQL is not installed")
        self._tools = found[-1]
        self.folder = Path(tempfile.mkdtemp(prefix="osteonode-faults-"))
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._user:
            shutil.chown(self.folder, "postgres")
        self._run(str(self._tools / "initdb"), "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust")
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-k {self.folder} -c listen_addresses=''"
        self._control("-l", str(self.folder / "log"), "-w", "-o", options, "start")

    def crash(self) -> None:
        """Stop it at once, as a crash does: open transactions are lost, connections break."""
        self._control("-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """Make a database; return its URL."""
        self._run("psql", "-h", str(self.folder), "-U", "postgres", "-c", f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def close(self) -> None:
        """Stop it and remove its files."""
        self.crash()
        shutil.rmtree(self.folder)

    def _control(self, *words: str) -> None:
        self._run(str(self._tools / "pg_ctl"), "-D", str(self.folder / "data"), *words)

    def _run(self, *words: str) -> None:
        subprocess.run([*self._user, *words], check=True, capture_output=True, cwd=self.folder)


def postgresql_restarted(folder: Path) -> Counts:
    """PostgreSQL crashes and comes back while images come, while a job is at work, and while results are sent."""
    server = PostgreSql()
    hospital: Hospital | None = None
    try:
        names = ("hospital", "identity", "research", "engine")
        urls = {f"{name}_database_url": server.database(f"node_{name}") for name in names}
        hospital = Hospital(folder, **urls)
        hospital.open()
        study = hospital.new_study("PostgreSQL restarted")
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(insist, study, hospital.node.dicom_port, 90)
            until(lambda: len(study.acknowledged) >= 3, 20, 0.01)
            early = len(study.acknowledged)
            server.crash()
            time.sleep(3)
            server.start()
            sending.result()
        begins = job_begins(hospital, study)
        server.crash()
        time.sleep(3)
        server.start()
        counts = settle(hospital, study, 150)
        expect(counts, early < len(study.files), "the server was restarted after the last image")
        expect(counts, begins, "the job did not begin")
        expect(counts, not hospital.node.is_dead, "the node ended with its database")
    finally:
        if hospital is not None:
            hospital.close()
        server.close()
    return counts


MACHINES = {"disk full": disk_full, "PostgreSQL restarted": postgresql_restarted}
