"""What goes wrong around a node, other than its own death: disks, peers, networks, signals, databases, clocks.

Each trouble is a function of a running hospital; it raises nothing for a broken promise but notes it in the counts.
"""

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from dicom_node.errors import ConfigurationError
from tests.faults.hospital import FaultyNode, Hospital, until
from tests.faults.instants import Instant
from tests.faults.kills import judge_leftovers, settle
from tests.faults.ledger import Counts, Ledger
from tests.faults.peers import MoodyArchive
from tests.faults.studies import Study, digest_of, insist, make_study, offer
from tests.faults.wire import drop_within_image

LOCKED_S = 20.0
STOPPED_S = 6.0
JUMP_S = 15.0
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def expect(counts: Counts, is_so: object, sentence: str) -> None:
    """Note a promise that was not kept."""
    if not is_so:
        counts.failures.append(sentence)


def job_begins(hospital: Hospital, study: Study, above: float = 0.0, timeout_s: float = 120.0) -> bool:
    """Wait until the job of a study is at work, above a part of its progress."""
    ledger = Ledger(hospital)

    def is_working() -> bool:
        versions = ledger.versions(study)
        job = ledger.job(versions[-1].job_id) if versions else None
        return job is not None and job.state == "processing" and job.progress >= above

    return bool(until(is_working, timeout_s, 0.02))


def pacs_away_for_the_whole_job(hospital: Hospital) -> Counts:
    """The PACS is down from before the first image until after the job; the results come when it is back."""
    study = hospital.new_study("PACS away")
    hospital.pacs.close()
    insist(study, hospital.node.dicom_port, 30)
    ledger = Ledger(hospital)
    until(lambda: any(one["state"] == "done" for one in ledger.jobs_of(study)), 90)
    time.sleep(2)
    states = [one.state for one in ledger.rows("SELECT state FROM deliveries ORDER BY id DESC LIMIT 1")]
    hospital.pacs.reopen()
    counts = settle(hospital, study)
    expect(counts, states == ["PENDING"], f"with the PACS away the delivery is {states}, not PENDING")
    return counts


def dropped_within_an_image(hospital: Hospital) -> Counts:
    """Connections that end in the middle of an image leave nothing behind, and the honest sender is served."""
    study = hospital.new_study("dropped")
    before = hospital.node.resources()
    paths = list(study.files.values())
    reached = sum(drop_within_image(paths[n], hospital.node.dicom_port, reset=n % 2 == 0) for n in range(12))
    counts = settle(hospital, study)
    expect(counts, reached == 12, f"{12 - reached} of 12 connections were not accepted")

    def is_quiet() -> bool:
        now = hospital.node.resources()
        return now["threads"] <= before["threads"] + 4 and now["files"] <= before["files"] + 6

    expect(counts, until(is_quiet, 20), f"threads or files leaked: {before} -> {hospital.node.resources()}")
    left = until(lambda: not Ledger(hospital).left_over(), 10) or Ledger(hospital).left_over()
    expect(counts, left is True, f"half images stay while the node runs: {left}")
    return counts


def one_instance_by_two_associations(hospital: Hospital) -> Counts:
    """The same instances over two associations at once: all acknowledged twice, kept once."""
    study = hospital.new_study("twins")
    port = hospital.node.dicom_port
    twin = Study(study.name, study.uid, study.files, study.digests)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: offer(one, port), (study, twin)))
    counts = settle(hospital, study)
    expect(counts, not twin.owed, f"{len(twin.owed)} identical instances were refused: {set(twin.refused.values())}")
    rows = Ledger(hospital).rows("SELECT id FROM instances WHERE study_instance_uid = :uid", uid=study.uid)
    expect(counts, len(rows) == len(study.files), f"{len(rows)} rows for {len(study.files)} instances")
    return counts


def one_uid_with_two_contents(hospital: Hospital) -> Counts:
    """The same UIDs with different bytes over two associations at once: what is acknowledged is kept, both ways."""
    study = hospital.new_study("conflict")
    folder = hospital.folder / "studies" / "conflict"
    other = make_study(hospital.scan, folder, study.name)
    for uid, path in other.files.items():
        dataset = dcmread(path)
        dataset.ImageComments = "sent twice"
        dataset.save_as(path, enforce_file_format=True)
        other.digests[uid] = digest_of(dcmread(path))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: offer(one, hospital.node.dicom_port), (study, other)))
    insist(study, hospital.node.dicom_port, 10)
    insist(other, hospital.node.dicom_port, 10)
    counts = settle(hospital, study)
    second = Counts()
    Ledger(hospital).check_kept(other, second)
    counts.acknowledged += len(other.acknowledged)
    counts.lost += second.lost
    expect(counts, not second.lost, f"{second.lost} acknowledged instances of the second content are lost")
    return counts


def child_halted(hospital: Hospital) -> Counts:
    """SIGSTOP and SIGCONT of the process that analyses."""
    study = hospital.new_study("child halted")
    insist(study, hospital.node.dicom_port, 30)
    halted = job_begins(hospital, study) and until(lambda: hospital.node.children(), 20, 0.02)
    for child in halted or []:
        os.kill(child, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    for child in halted or []:
        os.kill(child, signal.SIGCONT)
    counts = settle(hospital, study)
    expect(counts, halted, "no child process was seen")
    return counts


def child_killed(hospital: Hospital) -> Counts:
    """SIGKILL of the process that analyses, as the kernel does when memory is short: a sentence, and a second run."""
    study = hospital.new_study("child killed")
    insist(study, hospital.node.dicom_port, 30)
    killed = job_begins(hospital, study) and until(lambda: hospital.node.children(), 20, 0.02)
    for child in killed or []:
        os.kill(child, signal.SIGKILL)
    ledger = Ledger(hospital)
    until(lambda: any(one["state"] in ("failed", "done") for one in ledger.jobs_of(study)), 60)
    (job,) = ledger.jobs_of(study)
    counts = Counts(studies=1, acknowledged=len(study.acknowledged))
    expect(counts, killed, "no child process was seen")
    if job["state"] == "failed":
        expect(counts, job["sentence"], "the job failed without a sentence")
        hospital.node.post(f"/api/jobs/{job['id']}/retry")
    until(lambda: not ledger.unsettled(study), 60)
    expect(counts, not ledger.unsettled(study), f"the second run did not end: {ledger.unsettled(study)}")
    hospital.studies.remove(study)
    return counts


def node_halted(hospital: Hospital) -> Counts:
    """SIGSTOP and SIGCONT of the node while it receives, and while it works."""
    study = hospital.new_study("node halted")
    hospital.node.arm(Instant("halted in intake", "commit", "INSERT INTO instances", "before", 2, action="stop"))
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(insist, study, hospital.node.dicom_port, 60)
        has_stopped = until(lambda: hospital.node.has_fired, 20)
        time.sleep(STOPPED_S)
        hospital.node.signal(signal.SIGCONT)
        sending.result()
    works = job_begins(hospital, study)
    hospital.node.signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    hospital.node.signal(signal.SIGCONT)
    counts = settle(hospital, study)
    hospital.node.disarm()
    expect(counts, has_stopped, "the node was not halted in intake")
    expect(counts, works, "the node was not halted at work")
    return counts


STATES = {
    "receiving": Instant("", "commit", "INSERT INTO instances", "before", 4, action="terminate"),
    "de-identifying": Instant("", "rename", r"-> .*clean/\d+\.dcm$", "after", 5, action="terminate"),
    "analysing": Instant("", "call", "ClassicalSegmenter.segment", "before", action="terminate"),
    "packing": Instant("", "call", "validators:validate", "before", action="terminate"),
    "delivering": Instant("", "send", "C_STORE request", "after", 2, action="terminate"),
}
"""What a node may be doing when it is asked to stop."""


def stopped_in_each_state(hospital: Hospital) -> Counts:
    """SIGTERM to the node and its children at work: it ends within ten seconds, and goes on after the next start."""
    total = Counts()
    for name, instant in STATES.items():
        study = hospital.new_study(f"stopped {name}")
        hospital.node.arm(instant)
        offer(study, hospital.node.dicom_port)
        fired = until(lambda: hospital.node.has_fired, 60, 0.05)
        ended = until(lambda: hospital.node.is_dead, 10, 0.05)
        code = hospital.node.exit_code
        hospital.node.disarm()
        if not ended:
            hospital.node.kill()
        hospital.restart(study)
        counts = settle(hospital, study)
        expect(counts, fired, f"{name}: not reached")
        expect(counts, ended and code == 0, f"{name}: asked to stop, it ended={bool(ended)} with {code}")
        total.add(counts)
    return total


def two_nodes_on_one_folder(hospital: Hospital) -> Counts:
    """A second node on the same data folder refuses to start and does the first no harm."""
    second = FaultyNode(hospital.node.data_dir, hospital.folder / "second.log", hospital.folder / "second")
    counts = Counts()
    try:
        second.start()
    except ConfigurationError:
        said = (hospital.folder / "second.log").read_text()
        expect(counts, "Another osteonode process uses the data folder" in said, "the refusal has no sentence")
    else:
        second.kill()
        expect(counts, False, "a second node started on the same data folder")
    expect(counts, hospital.node.get("/health")["status"] == "ok", "the first node is not well any more")
    return counts


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a SQLite database's write lock, as another program may."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def hospital_database_locked(hospital: Hospital) -> Counts:
    """Another process holds node.db for 20 s while images come, and research.db and engine.db during the job."""
    study = hospital.new_study("locked")
    port = hospital.node.dicom_port
    folder = hospital.node.data_dir
    with ThreadPoolExecutor(1) as pool:
        with locked(folder / "hospital" / "node.db"):
            sending = pool.submit(insist, study, port, 90)
            time.sleep(LOCKED_S)
        sending.result()
    for name in ("research.db", "engine.db"):
        job_begins(hospital, study, timeout_s=20)
        with locked(folder / "research" / name):
            time.sleep(LOCKED_S / 2)
    return settle(hospital, study)


def archive_that_warns_and_refuses(hospital: Hospital) -> Counts:
    """0xB000 is delivered and kept with the receipt; what is refused for good is said, sent again when asked."""
    moody = MoodyArchive(lambda sop_class: 0xA900 if sop_class == SECONDARY_CAPTURE else 0xB000)
    peer = {"name": "moody", "ae_title": "MOODY", "host": "127.0.0.1", "port": moody.port, "may_send": False}
    hospital.node.post("/api/peers", peer)
    try:
        study = hospital.new_study("warnings")
        insist(study, hospital.node.dicom_port, 30)
        ledger = Ledger(hospital)
        until(lambda: not ledger.unsettled(study), 90, 0.25)
        counts = Counts(studies=1, acknowledged=len(study.acknowledged))
        query = (
            "SELECT d.id, d.state, d.sentence, d.job_id FROM deliveries d JOIN peers p ON p.id = d.peer_id "
            "WHERE p.name = 'moody'"
        )
        until(lambda: any(one.state != "PENDING" for one in ledger.rows(query)), 20)
        (delivery,) = ledger.rows(query)
        receipts = ledger.rows("SELECT status FROM receipts WHERE delivery_id = :id", id=delivery.id)
        expect(counts, delivery.state == "FAILED" and "A900" in delivery.sentence, f"the refusal is {delivery}")
        expect(counts, {one.status for one in receipts} == {0xB000}, f"the warnings are {receipts}")
        expect(counts, len(moody.kept) == len(receipts) == 3, f"{len(moody.kept)} kept, {len(receipts)} receipts")
        moody.answer = lambda sop_class: 0
        hospital.node.retry_delivery(delivery.id)
        until(lambda: len(moody.kept) == 5, 30)
        expect(counts, len(moody.kept) == 5, f"after the retry the archive has {len(moody.kept)} of 5 objects")
        expect(counts, max(moody.counts.values()) <= 2, f"sent more often than asked: {moody.counts}")
        return counts
    finally:
        hospital.node.delete_peer("moody")
        moody.close()


def clock_jumps(hospital: Hospital) -> Counts:
    """The clock jumps back while images come, and two hours forth while the job is at work.

    A study then waits for as long as the clock went back, and not longer.
    """
    study = hospital.new_study("clock")
    paths = list(study.files.values())
    offer(study, hospital.node.dicom_port, paths[:13])
    hospital.node.shift_clock(-JUMP_S)
    offer(study, hospital.node.dicom_port, paths[13:])
    works = job_begins(hospital, study, timeout_s=JUMP_S + 60)
    hospital.node.shift_clock(7200)
    counts = settle(hospital, study)
    hospital.node.shift_clock(0)
    expect(counts, works, "after the clock jumped back the study was not dispatched")
    return counts


@dataclass(frozen=True, slots=True)
class Trouble:
    """One trouble and whether the short version has it."""

    name: str
    make: Callable[[Hospital], Counts]
    is_short: bool = False


TROUBLES: Sequence[Trouble] = (
    Trouble("PACS away for the whole job", pacs_away_for_the_whole_job),
    Trouble("PACS that warns and refuses", archive_that_warns_and_refuses),
    Trouble("connections dropped within an image", dropped_within_an_image, is_short=True),
    Trouble("one instance by two associations at once", one_instance_by_two_associations, is_short=True),
    Trouble("one UID with two contents at once", one_uid_with_two_contents),
    Trouble("child process halted", child_halted),
    Trouble("child process killed", child_killed),
    Trouble("node halted", node_halted),
    Trouble("node asked to stop in each state", stopped_in_each_state),
    Trouble("two nodes on one folder", two_nodes_on_one_folder, is_short=True),
    Trouble("databases locked by another process", hospital_database_locked),
    Trouble("clock jumps", clock_jumps),
)


def run_troubles(folder: Path, troubles: Sequence[Trouble]) -> Iterator[tuple[str, Counts]]:
    """Make each trouble in one hospital, one after the other; yield what each did."""
    hospital = Hospital(folder)
    try:
        hospital.open()
        for trouble in troubles:
            began = time.monotonic()
            counts = trouble.make(hospital)
            counts.seconds = time.monotonic() - began
            yield trouble.name, counts
        yield "left over at the end", judge_leftovers(hospital)
    finally:
        hospital.close()
