"""Kill the node at an instant, start it again, and count what became of the study."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.uid import generate_uid

from dicom_node.errors import ConfigurationError
from tests.faults.hospital import Hospital, until
from tests.faults.instants import Instant
from tests.faults.ledger import Counts, Ledger
from tests.faults.studies import Study, insist, offer

SETTLE_S = 150.0
REACH_S = 120.0


def kill_in_starts(hospital: Hospital, instants: Sequence[Instant]) -> Counts:
    """Kill the node again and again while it starts for the first time on a fresh folder; then it has to start."""
    counts = Counts()
    for instant in instants:
        counts.tried += 1
        hospital.node.arm(instant)
        try:
            hospital.node.start()
        except ConfigurationError:
            if not hospital.node.has_fired:
                raise
            counts.reached += 1
        else:
            counts.failures.append(f"not reached: {instant.name}")
            hospital.node.stop()
        hospital.node.disarm()
    return counts


def kill_in_sweep(hospital: Hospital, instants: Sequence[Instant]) -> Counts:
    """Kill the running node, leave half-written files behind, and kill it while it sweeps them away."""
    counts = Counts()
    for instant in instants:
        counts.tried += 1
        hospital.node.kill()
        for number in range(3):
            folder = hospital.node.data_dir / "hospital" / "instances" / f"{number:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f".{number}.dcm.left-over.part").write_bytes(b"half")
        hospital.node.arm(instant)
        try:
            hospital.node.start()
        except ConfigurationError:
            counts.reached += hospital.node.has_fired
        else:
            counts.failures.append(f"not reached: {instant.name}")
        hospital.node.disarm()
        if hospital.node.is_dead:
            hospital.node.start()
    return counts


def kill_one_by_one(hospital: Hospital, study: Study, instants: Sequence[Instant]) -> Counts:
    """Kill the node at every one of the instants during the life of one study, each time started again.

    Parameters
    ----------
    hospital
        A running one.
    study
        The node has nothing of it yet.
    instants
        In the order in which they come.
    """
    counts = Counts(tried=len(instants))
    if instants and instants[0].stage == "send":
        hospital.node.arm(instants[0])
        offer(study, hospital.node.dicom_port)
    for position, instant in enumerate(instants):
        ledger = Ledger(hospital)
        if instant.stage == "commitment":
            counts.add(_kill_in_commitment(hospital, study, instant))
            continue
        until(lambda ledger=ledger: hospital.node.is_dead or not ledger.unsettled(study), REACH_S)
        until(lambda: hospital.node.is_dead, 3.0)
        if not hospital.node.is_dead:
            counts.failures.append(f"not reached: {instant.name}")
        counts.reached += hospital.node.has_fired and hospital.node.is_dead
        hospital.node.disarm()
        following = instants[position + 1] if position + 1 < len(instants) else None
        if following is not None and following.stage == "send":
            hospital.node.arm(following)
        restart(hospital, study)
    return counts


def restart(hospital: Hospital, study: Study) -> None:
    """Start the node where it is dead, with the sender insisting; a fault that waits may end the start too."""
    if not hospital.node.is_dead:
        insist(study, hospital.node.dicom_port, 20, lambda: hospital.node.is_dead)
        return
    try:
        hospital.restart(study)
    except ConfigurationError:
        if not hospital.node.has_fired:
            raise


def _kill_in_commitment(hospital: Hospital, study: Study, instant: Instant) -> Counts:
    """Kill the node while it takes or reports a request for storage commitment; every request has to be reported."""
    counts = Counts()
    transaction = str(generate_uid())
    hospital.node.arm(instant)
    has_answer = hospital.scanner.ask(study, hospital.node.dicom_port, transaction)
    until(lambda: hospital.node.is_dead, 20.0)
    counts.reached += hospital.node.has_fired and hospital.node.is_dead
    if not hospital.node.is_dead:
        counts.failures.append(f"not reached: {instant.name}")
    hospital.node.disarm()
    if hospital.node.is_dead:
        hospital.node.start()
    while not has_answer:
        has_answer = hospital.scanner.ask(study, hospital.node.dicom_port, transaction)
    kept = len(study.acknowledged)

    def is_reported() -> bool:
        return (transaction, kept, 0) in hospital.scanner.reports

    if not until(is_reported, 30.0):
        counts.commitments_missing += 1
        counts.failures.append(f"{instant.name}: the report of commitment did not come")
    return counts


def settle(hospital: Hospital, study: Study, timeout_s: float = SETTLE_S) -> Counts:
    """Wait until a study is processed and delivered, and judge it."""
    insist(study, hospital.node.dicom_port, timeout_s)
    ledger = Ledger(hospital)
    until(lambda: not ledger.unsettled(study), timeout_s, 0.25)
    return ledger.check(study)


def judge_leftovers(hospital: Hospital) -> Counts:
    """Start the node once more, which sweeps, and count what should not be there."""
    hospital.node.stop()
    hospital.node.start()
    left = Ledger(hospital).left_over()
    return Counts(left_over=len(left), failures=[f"left over: {name}" for name in left[:20]])


def run_each(
    folder: Path, instants: Sequence[Instant], name: str, **settings: object
) -> Iterator[tuple[Instant, Counts]]:
    """Kill at each instant in a study of its own, on one data folder; yield what each did."""
    hospital = Hospital(folder, **settings)
    try:
        fresh = [one for one in instants if one.stage == "fresh"]
        for instant in fresh:
            began = time.monotonic()
            counts = kill_in_starts(hospital, [instant])
            counts.seconds = time.monotonic() - began
            yield instant, counts
        hospital.open()
        for number, instant in enumerate(one for one in instants if one.stage != "fresh"):
            began = time.monotonic()
            if instant.stage == "start":
                counts = kill_in_sweep(hospital, [instant])
            else:
                study = hospital.new_study(f"{name} {number} {instant.name}")
                if instant.stage == "commitment":
                    insist(study, hospital.node.dicom_port, 30)
                counts = kill_one_by_one(hospital, study, [instant])
                counts.add(settle(hospital, study))
            counts.seconds = time.monotonic() - began
            yield instant, counts
        end = Counts()
        for study in hospital.studies:
            again = Ledger(hospital).check(study)
            end.failures += again.failures
        end.add(judge_leftovers(hospital))
        yield Instant("at the end of all", "", ""), end
    finally:
        hospital.close()


def run_chain(folder: Path, instants: Sequence[Instant], **settings: object) -> Counts:
    """Kill at every instant in the life of one study: as telling as one study each, and much shorter."""
    began = time.monotonic()
    hospital = Hospital(folder, **settings)
    try:
        total = kill_in_starts(hospital, [one for one in instants if one.stage == "fresh"])
        hospital.open()
        total.add(kill_in_sweep(hospital, [one for one in instants if one.stage == "start"]))
        study = hospital.new_study("chain")
        total.add(kill_one_by_one(hospital, study, [one for one in instants if one.stage == "send"]))
        settled = settle(hospital, study)
        total.add(kill_one_by_one(hospital, study, [one for one in instants if one.stage == "commitment"]))
        total.add(judge_leftovers(hospital))
        again = settle(hospital, study)
        total.add(again)
        total.failures += settled.failures
    finally:
        hospital.close()
    total.seconds = time.monotonic() - began
    return total
