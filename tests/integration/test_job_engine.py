"""The engine in one process: states, pause, cancel, restart, priorities, and steps that misbehave."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from job_child import MARK
from job_harness import STEPS, Harness

from dicom_node import clock
from dicom_node.db import job_control
from dicom_node.db.session import transaction
from dicom_node.jobs.retries import LOSSES

SOON = clock.now().astimezone() + timedelta(hours=3)
NOT_NOW = f"{SOON:%H:%M}-{SOON + timedelta(hours=1):%H:%M}"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    running = Harness(tmp_path, f"sqlite:///{tmp_path}/research.db", f"sqlite:///{tmp_path}/engine.db")
    yield running
    running.close()


def change(harness: Harness, action: str, *arguments: object, **words: object) -> None:
    """Do what a person does."""
    with transaction(harness.research) as session:
        if action in ("pause_node", "cancel_queue"):
            getattr(job_control, action)(session, clock.now(), **words)
        elif action == "prioritise_job":
            job_control.prioritise_job(session, str(arguments[0]), str(arguments[1]), clock.now())
        else:
            getattr(job_control, action)(session, arguments[0], clock.now(), *arguments[1:])


def grandchildren(job_id: str) -> list[int]:
    """Return the processes that a step's child started and that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, state = (entry / "cmdline").read_bytes(), (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"{MARK}{job_id}".encode() in words and state != "Z":
            found.append(int(entry.name))
    return found


def test_one_bad_job_does_not_block_another_and_no_value_is_quoted(harness: Harness) -> None:
    harness.add("rejected-1", "buggy-1", "good")
    harness.start()
    harness.wait_for_state("good", "done")
    assert harness.wait_for_state("rejected-1", "failed").sentence == "no hip in view"
    assert "ValueError" in harness.wait_for_state("buggy-1", "failed").sentence
    harness.close()
    stored = b"".join(path.read_bytes() for path in harness.folder.iterdir() if path.is_file())
    assert b"Muster" not in stored, "neither log nor a database quotes a value"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("hungry", "memory limit"),
        ("hoarding", "memory limit"),
        ("hanging", "time limit of 4 s"),
        ("crashing", "SIGSEGV"),
        ("forking", "exit code 7"),
    ],
)
def test_a_step_that_misbehaves_ends_with_all_it_started_and_others_finish(
    harness: Harness, kind: str, sentence: str
) -> None:
    job_id = f"{kind}-{os.getpid()}"
    harness.add(job_id, "good-1", "good-2")
    harness.start(cpu_slots=2)
    harness.wait_for_state("good-1", "done")
    harness.wait_for_state("good-2", "done")
    if kind == "crashing":  # repeated once, after a minute
        harness.wait(lambda: harness.job(job_id).tries == 1)
        assert harness.job(job_id).state == "pending"
    else:
        harness.wait_for_state(job_id, "failed")
    assert sentence in harness.job(job_id).sentence
    assert grandchildren(job_id) == []


def test_a_cancelled_step_ends_within_a_second_with_all_it_started(harness: Harness) -> None:
    job_id = f"long-{os.getpid()}"
    harness.add(job_id)
    harness.start()
    harness.wait(lambda: len(grandchildren(job_id)) == 2)
    change(harness, "cancel_job", job_id)
    began = time.monotonic()
    harness.wait(lambda: not grandchildren(job_id), 5)
    assert time.monotonic() - began < 1.5, "a second, and a loaded machine"
    harness.add("next")
    harness.wait_for_state("next", "done")
    job = harness.job(job_id)
    assert (job.state, job.sentence) == ("discarded", job_control.CANCELLED)
    assert harness.achieved(job_id) == ["deidentify"]


def test_a_job_that_ends_its_process_every_time_fails_and_does_not_end_the_node_for_ever(harness: Harness) -> None:
    harness.add("deadly-1", losses=LOSSES - 1, next_step="analyse")
    harness.add("good")
    for _ in range(2):
        assert harness.start().wait(timeout=40) == -9
    harness.start()
    harness.wait_for_state("good", "done")
    job = harness.wait_for_state("deadly-1", "failed")
    assert "was lost 4 times" in job.sentence


def test_a_paused_job_stops_after_its_step_and_goes_on_where_it_was(harness: Harness) -> None:
    harness.add("slow-1", "other")
    harness.start()
    harness.wait(lambda: "began analyse slow-1" in harness.journal())
    change(harness, "pause_job", "slow-1")
    harness.wait_for_state("other", "done")
    job = harness.wait_for_state("slow-1", "pending")
    time.sleep(1)
    assert (job.next_step, job.is_paused) == ("package", True)
    assert harness.achieved("slow-1") == ["deidentify", "analyse"]
    change(harness, "resume_job", "slow-1")
    harness.wait_for_state("slow-1", "done")
    assert harness.achieved("slow-1") == list(STEPS)


def test_a_paused_node_begins_nothing_and_survives_a_restart_paused(harness: Harness) -> None:
    change(harness, "pause_node", is_paused=True)
    harness.add("a", "b")
    first = harness.start()
    for number in (1, 2):
        harness.wait(lambda: sum("started" in line for line in harness.journal()) == number)  # noqa: B023 - waited for here
        time.sleep(1)  # two passes of the feeder
        if number == 1:
            first.kill()
            harness.start()
    assert [line for line in harness.journal() if line.startswith("began")] == []
    change(harness, "pause_node", is_paused=False)
    harness.wait_for_state("a", "done")
    harness.wait_for_state("b", "done")


def test_the_whole_queue_is_cancelled_and_one_of_it_run_again(harness: Harness) -> None:
    harness.add("slow-1", "a", "b", "c")
    harness.start()
    harness.wait(lambda: "began analyse slow-1" in harness.journal())
    change(harness, "cancel_queue")
    assert {harness.job(job_id).state for job_id in ("slow-1", "a", "b", "c")} == {"discarded"}
    change(harness, "resubmit", "a")
    assert harness.job("a").attempts == 2
    change_to_pending(harness, "a")
    harness.wait_for_state("a", "done")
    assert harness.job("b").state == "discarded"


def change_to_pending(harness: Harness, job_id: str) -> None:
    """Do what dispatching does with a submitted job."""
    with transaction(harness.research) as session:
        job_control.locked_job(session, job_id).state = "pending"  # type: ignore[union-attr]


def test_a_restart_begins_with_the_step_that_was_chosen(harness: Harness) -> None:
    harness.add("a")
    harness.start()
    harness.wait_for_state("a", "done")
    change(harness, "resubmit", "a", "package")
    change_to_pending(harness, "a")
    harness.wait_for_state("a", "done")
    assert harness.achieved("a") == [*STEPS, "package", "deliver"]


def test_a_step_whose_input_is_gone_has_it_made_again_and_says_so(harness: Harness) -> None:
    harness.add("incomplete-1")
    harness.start()
    harness.wait_for_state("incomplete-1", "done")
    assert harness.achieved("incomplete-1") == ["deidentify", "analyse", "analyse", "package", "deliver"]
    assert "the report is gone" in [one.sentence for one in harness.events("incomplete-1") if one.kind == "rewound"]


def test_a_held_job_waits_for_an_operator_who_releases_or_discards_it(harness: Harness) -> None:
    harness.add("held-1", "held-2")
    harness.start()
    for job_id in ("held-1", "held-2"):
        assert harness.wait_for_state(job_id, "open").sentence == "no number is allowed"
    change(harness, "release_job", "held-1")
    change(harness, "discard_job", "held-2")
    harness.wait_for_state("held-1", "done")
    assert harness.job("held-2").state == "discarded"
    assert "deliver" not in harness.achieved("held-2")


def test_a_resource_that_is_away_is_waited_for_without_holding_the_worker(harness: Harness) -> None:
    harness.add("unavailable-1", "a", "b")
    harness.start()
    job = harness.wait_for_state("unavailable-1", "done")
    assert job.sentence == "", "an old error does not stand on a job that went well in the end"
    order = harness.journal()
    assert order.index("did deliver b") < order.index("did analyse unavailable-1"), "others went first"
    repeated = next(one for one in harness.events("unavailable-1") if one.kind == "repeated")
    assert repeated.sentence == "a disk is away"


def test_urgent_jobs_go_first_and_a_priority_counts_as_long_as_a_job_waits(harness: Harness) -> None:
    harness.add("slow-1")
    harness.start()
    harness.wait(lambda: "began analyse slow-1" in harness.journal())
    harness.add("first", "second", "third")
    harness.add("urgent", priority="urgent")
    harness.add("later", priority="offpeak")
    change(harness, "prioritise_job", "third", "urgent")
    change(harness, "prioritise_job", "first", "offpeak")
    for job_id in ("first", "later"):
        harness.wait_for_state(job_id, "done")
    begun = [line.split()[2] for line in harness.journal() if line.startswith("began deidentify")]
    assert begun == ["slow-1", "third", "urgent", "second", "first", "later"]


def test_an_offpeak_job_waits_for_its_hours_and_others_do_not(harness: Harness) -> None:
    harness.add("later", priority="offpeak")
    harness.add("now")
    harness.start(offpeak_hours=NOT_NOW)
    harness.wait_for_state("now", "done")
    time.sleep(1)
    assert harness.job("later").state == "pending"
    change(harness, "prioritise_job", "later", "normal")
    harness.wait_for_state("later", "done")


def test_a_step_on_the_gpu_has_a_queue_of_its_own(harness: Harness) -> None:
    harness.add("slow-1", "slow-2", "slow-3")
    harness.start(cpu_slots=1, gpu_slots=2)
    harness.wait(lambda: sum(line.startswith("began analyse") for line in harness.journal()) == 2)
    assert {harness.job(f"slow-{number}").queue for number in (1, 2)} == {"gpu2"}
    harness.wait(lambda: "did deidentify slow-3" in harness.journal(), 3)
    for number in (1, 2, 3):
        harness.wait_for_state(f"slow-{number}", "done")
