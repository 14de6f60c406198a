"""Run the fault harness: ``python -m tests.faults --minutes N``.

First the node is killed at every instant of the table, in a study each; then every other trouble is made; then three
senders and random faults go on until the minutes are over (a third of them at least).
"""

import argparse
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from dicom_node.logs import silence_value_warnings
from tests.faults.instants import CHAINS, INSTANTS
from tests.faults.kills import run_chain, run_each
from tests.faults.ledger import Counts
from tests.faults.machines import MACHINES, CannotTryError
from tests.faults.soak import run_soak
from tests.faults.table import line, print_counts, save
from tests.faults.troubles import TROUBLES, run_troubles

OUTPUT = Path("build") / "faults"
PARTS = ("chain", "kills", "troubles", "soak")


class Run:
    """One run of the harness, and what it has found so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._only, self._seed, self._minutes = options.only, options.seed, options.minutes
        self._share: list[int] = [int(one) for one in options.share.split("/")]
        self._output: Path = options.out
        self._began = time.monotonic()
        self.parts: list[tuple[str, Counts]] = []

    def chain(self) -> None:
        """Kill at the most telling instants, many in the life of one study."""
        self._note(("chain", run_chain(self._output / "chain", chain)) for chain in CHAINS)

    def kills(self) -> None:
        """Kill at every instant, beginning anywhere in each stage."""
        first, of = self._share
        chosen = [one for one in INSTANTS if re.search(self._only, one.name)][first - 1 :: of]
        start = random.Random(self._seed).randrange(len(chosen)) if chosen else 0
        rotated = chosen[start:] + chosen[:start]
        found = run_each(self._output / "kills", rotated, str(self._seed))
        self._note((instant.name, counts) for instant, counts in found)

    def troubles(self) -> None:
        """Make every other trouble."""
        self._note(
            run_troubles(self._output / "troubles", [one for one in TROUBLES if re.search(self._only, one.name)])
        )
        for name, make in MACHINES.items():
            if re.search(self._only, name):
                self._note_machine(name, make)

    def soak(self) -> None:
        """Soak for what is left of the minutes."""
        left_s = 60 * self._minutes - (time.monotonic() - self._began)
        seconds = max(left_s, 20 * self._minutes)
        found = run_soak(self._output / "soak", seconds, self._seed, lambda text: print("     ", text, flush=True))
        self._note([("soak", found)])

    def total(self) -> Counts:
        """Add everything up."""
        total = Counts()
        for _, counts in self.parts:
            total.add(counts)
        total.seconds = time.monotonic() - self._began
        return total

    def _note_machine(self, name: str, make: Callable[[Path], Counts]) -> None:
        began = time.monotonic()
        try:
            counts = make(self._output / "machine")
        except CannotTryError as error:
            print(f"left out {name}: {error}", flush=True)
            return
        counts.seconds = time.monotonic() - began
        self._note([(name, counts)])

    def _note(self, found: Iterable[tuple[str, Counts]]) -> None:
        for name, counts in found:
            print(line(name, counts), flush=True)
            for failure in counts.failures:
                print("      FAILED", failure, flush=True)
            self.parts.append((name, counts))


def main(arguments: list[str]) -> int:
    """Run, print and save; 1 when a promise was broken or an instant not reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long all of it may take, about")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be given again")
    parser.add_argument("--only", default="", help="only instants and troubles whose name fits this expression")
    parser.add_argument("--share", default="1/1", metavar="I/N", help="only every N-th instant, from the I-th")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="folder of logs and counts")
    options = parser.parse_args(arguments)
    silence_value_warnings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the nodes end with the harness
    print(f"seed {options.seed}", flush=True)
    run = Run(options)
    for part in options.part or PARTS[1:]:
        getattr(run, part)()
    total = run.total()
    print_counts(f"fault harness, seed {options.seed}", total)
    save(options.out / "faults.json", run.parts, total, options.seed)
    return 0 if total.is_clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
