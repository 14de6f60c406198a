"""The long version: three senders without a pause, first in peace, then with random faults from a printed seed."""

import random
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock

import httpx

from dicom_node.errors import ConfigurationError
from tests.faults.hospital import Hospital, until
from tests.faults.instants import DELIVERY, DISPATCH, INTAKE, WORK
from tests.faults.kills import judge_leftovers, settle
from tests.faults.ledger import Counts, Ledger
from tests.faults.studies import Study, insist, offer
from tests.faults.wire import drop_within_image

SENDERS = 3
PEACE = 0.4
"""Part of the time without faults: memory, threads and files of the node must be flat there."""
GROWTH = {"rss_mb": 60, "threads": 6, "files": 12}
"""What they may grow by between the second and the last quarter of the peace; an image is 27 kB, a volume 1 MB."""
SAMPLE_S = 3.0
FIRE_S = 40.0
SETTLE_S = 600.0
BLAMED = "the job may be the cause"
"""Words of the sentence with which a job ends whose step has lost its process too often."""
RETRIES = 3
ACTIONS = ("kill", "kill", "kill", "terminate", "stop")


class Soak:
    """A running soak.

    Parameters
    ----------
    hospital
        A running one.
    seed
        Of everything random.
    """

    def __init__(self, hospital: Hospital, seed: int) -> None:
        self._hospital = hospital
        self._random = random.Random(seed)
        self._seed = seed
        self._ending = Event()
        self._lock = Lock()
        self.total = Counts()
        self.samples: list[dict[str, int]] = []

    def run(self, seconds: float, tell: Callable[[str], None]) -> Counts:
        """Soak for a time; return what was found."""
        began = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as pool:
            sending = [pool.submit(self._send, number) for number in range(SENDERS)]
            try:
                self._watch(began + seconds * PEACE)
                tell(f"in peace: {self._resources()}")
                while time.monotonic() < began + seconds:
                    tell(self._fault())
            finally:
                self._ending.set()
                for one in sending:
                    one.result()
        self.total.add(judge_leftovers(self._hospital))
        for study in self._hospital.studies:
            self.total.failures += [f"at the end: {one}" for one in Ledger(self._hospital).check(study).failures]
        self.total.seconds = time.monotonic() - began
        return self.total

    def _send(self, number: int) -> None:
        """Send studies one after the other, some twice, some after a broken try; judge each."""
        chance = random.Random(f"{self._seed} {number}")
        port = self._hospital.node.dicom_port
        count = 0
        while not self._ending.is_set():
            count += 1
            with self._lock:
                study = self._hospital.new_study(f"soak {self._seed} {number} {count}")
            if chance.random() < 0.3:
                drop_within_image(next(iter(study.files.values())), port, reset=chance.random() < 0.5)
            insist(study, port, SETTLE_S)
            if chance.random() < 0.3:
                offer(study, port, list(study.files.values()))
            counts = self._settled(study)
            with self._lock:
                self.total.add(counts)

    def _settled(self, study: Study) -> Counts:
        """Judge a study; a job whose step was killed so often that it counts as the cause is run again, by a person."""
        while True:
            counts = settle(self._hospital, study, SETTLE_S)
            failed = [job for job in Ledger(self._hospital).jobs_of(study) if job["state"] == "failed"]
            if not failed or BLAMED not in failed[-1]["sentence"] or study.retries > RETRIES:
                return counts
            study.retries += 1
            try:
                self._hospital.node.post(f"/api/jobs/{failed[-1]['id']}/retry")
            except httpx.HTTPError:
                time.sleep(1)  # the node is being killed

    def _watch(self, end: float) -> None:
        while time.monotonic() < end:
            self.samples.append(self._hospital.node.resources())
            time.sleep(SAMPLE_S)

    def _resources(self) -> str:
        """Judge what the node used in peace: the last quarter against the second one."""
        quarter = max(len(self.samples) // 4, 1)
        words = []
        for name, most in GROWTH.items():
            values = [sample[name] for sample in self.samples]
            before = statistics.median(values[quarter : 2 * quarter] or values)
            after = statistics.median(values[-quarter:])
            words.append(f"{name} {before:.0f} -> {after:.0f}")
            if after - before > most:
                self.total.failures.append(f"{name} of the node grew from {before:.0f} to {after:.0f}")
        return ", ".join(words)

    def _fault(self) -> str:
        """Make one random fault and mend it; return a line about it."""
        node = self._hospital.node
        table = (*INTAKE, *DISPATCH, *WORK, *DELIVERY)
        chosen = self._random.choice(table)
        action, number = self._random.choice(ACTIONS), self._random.randint(1, 2 * chosen.number)
        node.arm(replace(chosen, action=action, number=number))
        fired = until(lambda: node.has_fired, FIRE_S, 0.05)
        if fired:
            self.total.tried += 1
            self.total.reached += 1
        if fired and action == "stop":
            time.sleep(self._random.uniform(0.5, 4.0))
            node.signal(signal.SIGCONT)
        elif fired and not until(lambda: node.is_dead, 15, 0.05):
            self.total.failures.append(f"the node did not end within 15 s ({action} {chosen.name})")
            node.kill()
        node.disarm()
        if node.is_dead:
            try:
                node.start()
            except ConfigurationError as error:
                self.total.failures.append(f"after {chosen.name}: {error}")
                raise
        what = "" if fired else " (not reached)"
        return f"{action} {chosen.name}, call {number}{what}: {node.resources()}"


def run_soak(folder: Path, seconds: float, seed: int, tell: Callable[[str], None]) -> Counts:
    """Soak a new hospital for so many seconds."""
    hospital = Hospital(folder)
    try:
        return Soak(hospital.open(), seed).run(seconds, tell)
    finally:
        hospital.close()
