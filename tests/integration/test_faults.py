"""The fault harness, its short version: docs/faults.md says what the long one does (make soak)."""

import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.hospital import WITHOUT, BrokenHarnessError, FaultyNode
from tests.faults.instants import CHAINS, INSTANTS, OBSERVED
from tests.faults.kills import run_chain
from tests.faults.ledger import Counts
from tests.faults.table import print_counts
from tests.faults.troubles import TROUBLES, run_troubles

pytestmark = [pytest.mark.real_data, pytest.mark.needs_binary]


def test_a_node_killed_at_the_most_telling_instants_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    with ThreadPoolExecutor(len(CHAINS)) as pool:
        found = list(pool.map(lambda n: run_chain(tmp_path / str(n), CHAINS[n]), range(len(CHAINS))))
    total = Counts()
    for counts in found:
        total.add(counts)
    print_counts("kill -9, short version", total)
    assert total.is_clean, total.failures
    assert total.reached == sum(map(len, CHAINS))


def test_dropped_and_doubled_images_and_a_second_node_leave_no_trace(tmp_path: Path) -> None:
    for name, counts in run_troubles(tmp_path, [trouble for trouble in TROUBLES if trouble.is_short]):
        assert counts.is_clean, f"{name}: {counts.failures}"


def test_a_wrapped_name_that_is_gone_stops_the_harness_with_a_sentence(tmp_path: Path) -> None:
    node = FaultyNode(tmp_path / "data", tmp_path / "node.log", tmp_path / "control")
    node.environment["NODE_FAULTS_FUNCTIONS"] = "dicom_node.storage.files:sweep_everything"
    with pytest.raises(BrokenHarnessError, match="sweep_everything, which is not there any more"):
        node.start()


def test_every_function_that_an_instant_names_is_there_and_every_instant_has_a_name_of_its_own() -> None:
    for full in (*OBSERVED, WITHOUT):
        module, name = full.split(":")
        owner = importlib.import_module(module)
        for one in name.split("."):
            owner = getattr(owner, one)
    assert len({one.name for one in INSTANTS}) == len(INSTANTS) >= 30
