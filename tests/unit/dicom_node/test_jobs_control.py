"""What people do to jobs, the order in which they are handed over, and who may write for them."""

from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import get_args

import pytest
import sqlalchemy as sa
from sqlalchemy import select

from dicom_node import clock
from dicom_node.arguments import work
from dicom_node.db import job_control
from dicom_node.db.executors import beat
from dicom_node.db.job_queue import Claim, begin, count_handed, end_step, hand_over, take_back, waiting_jobs
from dicom_node.db.jobs import count_by_state, discard_waiting, events_of, recent_jobs
from dicom_node.db.models import JOB_STATES, PRIORITIES, Job
from dicom_node.db.session import Databases, transaction
from dicom_node.errors import ClaimLost, ConfigurationError, InputGone, NotFound
from dicom_node.jobs.execution import Execution, Step
from dicom_node.jobs.feeder import Feeder, capacities
from dicom_node.jobs.reaper import Reaper, Workflow
from dicom_node.web.job_schemas import JobState, JobStep, Priority

NOW = clock.now()
LATER = NOW + timedelta(hours=1)
STEPS = job_control.STEPS


@pytest.fixture
def add(databases: Databases) -> Callable[..., str]:
    def make(job_id: str, state: str = "pending", age_s: float = 0, **changes: object) -> str:
        values = {
            "pipeline": "bone", "stage": "", "progress": 0.0, "sentence": "", "attempts": 1,
            "created_at": NOW - timedelta(seconds=age_s), "updated_at": NOW, **changes,
        }  # fmt: skip
        with transaction(databases.research) as session:
            session.add(Job(id=job_id, state=state, **values))
        return job_id

    return make


def job(databases: Databases, job_id: str) -> Job:
    with transaction(databases.research) as session:
        return session.get_one(Job, job_id)


def kinds(databases: Databases, job_id: str) -> list[str]:
    with transaction(databases.research) as session:
        return [one.kind for one in events_of(session, [job_id]).get(job_id, [])]


def do(databases: Databases, action: Callable[..., object], *arguments: object) -> None:
    with transaction(databases.research) as session:
        action(session, *arguments)


def order(databases: Databases, *, is_offpeak: bool = True) -> list[str]:
    with transaction(databases.research) as session:
        return [one.job_id for one in waiting_jobs(session, NOW, is_offpeak=is_offpeak, steps=STEPS, limit=10)]


def claimed(databases: Databases, job_id: str, ticket: int = 1, token: str = "t") -> object:
    with transaction(databases.research) as session:
        for one in waiting_jobs(session, NOW, is_offpeak=True, steps=STEPS, limit=10):
            if one.job_id == job_id:
                hand_over(session, one, "cpu1", NOW)
        return begin(session, job_id, 1, ticket, token, "host:1", NOW)


def test_the_words_are_the_same_everywhere() -> None:
    assert work.JOB_STATES == JOB_STATES == get_args(JobState)
    assert work.JOB_STEPS == STEPS == get_args(JobStep)
    assert work.PRIORITIES == PRIORITIES == get_args(Priority)


def test_urgent_goes_before_normal_before_offpeak_and_older_before_younger(
    databases: Databases, add: Callable[..., str]
) -> None:
    add("late", age_s=1)
    add("early", age_s=9)
    add("sleepy", age_s=99, priority="offpeak")
    add("hurried", priority="urgent")
    add("halfway", age_s=98, priority="offpeak", progress=0.5)
    add("paused", age_s=50, is_paused=True)
    add("resting", age_s=50, due_at=NOW + timedelta(seconds=1))
    add("due", age_s=5, due_at=NOW)
    add("handed", age_s=50, queue="cpu1")
    assert order(databases) == ["hurried", "early", "due", "late", "sleepy", "halfway"]
    assert order(databases, is_offpeak=False) == ["hurried", "early", "due", "late", "halfway"]


def test_a_ticket_is_drawn_once_and_an_old_one_begins_nothing(databases: Databases, add: Callable[..., str]) -> None:
    add("a")
    with transaction(databases.research) as session:
        (one,) = waiting_jobs(session, NOW, is_offpeak=True, steps=STEPS, limit=10)
        assert hand_over(session, one, "cpu1", NOW) == 1
        assert hand_over(session, one, "cpu1", NOW) is None
        assert count_handed(session, "cpu1") == 1
        assert take_back(session, "a", 1, NOW, "")
        assert begin(session, "a", 1, 1, "t", "host:1", NOW) is None
        assert not take_back(session, "a", 7, NOW, "")
        (one,) = waiting_jobs(session, NOW, is_offpeak=True, steps=STEPS, limit=10)
        assert hand_over(session, one, "cpu1", NOW) == 2
        assert begin(session, "a", 1, 1, "t", "host:1", NOW) is None
        assert begin(session, "a", 2, 2, "t", "host:1", NOW) is None, "nor a ticket of another attempt"
        assert begin(session, "a", 1, 2, "t", "host:1", NOW) is not None


def test_a_job_paused_after_it_was_handed_over_goes_back_to_the_table(
    databases: Databases, add: Callable[..., str]
) -> None:
    add("a")
    with transaction(databases.research) as session:
        (one,) = waiting_jobs(session, NOW, is_offpeak=True, steps=STEPS, limit=10)
        hand_over(session, one, "cpu1", NOW)
    do(databases, job_control.pause_job, "a", NOW)
    with transaction(databases.research) as session:
        assert begin(session, "a", 1, 1, "t", "host:1", NOW) is None
    assert (job(databases, "a").state, job(databases, "a").queue) == ("pending", "")
    do(databases, job_control.resume_job, "a", NOW)
    assert claimed(databases, "a", ticket=2) is not None


def test_a_step_that_was_cancelled_writes_nothing(databases: Databases, add: Callable[..., str]) -> None:
    add("a")
    claim = claimed(databases, "a")
    do(databases, job_control.cancel_job, "a", NOW)
    with pytest.raises(ClaimLost):
        do(databases, end_step, claim, NOW, "ended", "")
    assert job(databases, "a").state == "discarded"
    assert kinds(databases, "a") == ["began", "cancelled"]


def test_a_restarted_job_forgets_what_its_last_attempt_left_behind(
    databases: Databases, add: Callable[..., str]
) -> None:
    left = {"tries": 3, "losses": 2, "is_released": True, "token": "t", "queue": "cpu1", "due_at": NOW, "ticket": 4}
    add("a", "failed", sentence="no CT", progress=0.4, **left)
    do(databases, job_control.resubmit, "a", NOW, "package")
    found = job(databases, "a")
    assert (found.state, found.attempts, found.next_step, found.sentence) == ("submitted", 2, "package", "")
    assert (found.tries, found.losses, found.is_released, found.token, found.queue, found.due_at) == (
        0,
        0,
        False,
        None,
        "",
        None,
    )
    assert found.ticket == 4, "tickets are never drawn twice"


@pytest.mark.parametrize(
    ("action", "state", "words"),
    [
        (job_control.pause_job, "done", "is done and cannot be paused"),
        (job_control.resume_job, "failed", "cannot be resumed"),
        (job_control.cancel_job, "discarded", "cannot be cancelled"),
        (job_control.release_job, "pending", "cannot be released"),
        (job_control.discard_job, "processing", "cannot be discarded"),
        (job_control.resubmit, "open", "only a job that has ended"),
    ],
)
def test_what_does_not_fit_the_state_is_refused_with_a_sentence(
    databases: Databases, add: Callable[..., str], action: Callable[..., object], state: str, words: str
) -> None:
    add("a", state)
    with pytest.raises(ConfigurationError, match=words):
        do(databases, action, "a", NOW)
    with pytest.raises(NotFound):
        do(databases, action, "none", NOW)


def test_unknown_steps_and_priorities_are_refused(databases: Databases, add: Callable[..., str]) -> None:
    add("a", "failed")
    add("b")
    with pytest.raises(ConfigurationError, match="deidentify, analyse"):
        do(databases, job_control.resubmit, "a", NOW, "guess")
    with pytest.raises(ConfigurationError, match="urgent, normal"):
        do(databases, job_control.prioritise_job, "b", "now", NOW)


def test_saying_it_twice_is_one_event(databases: Databases, add: Callable[..., str]) -> None:
    add("a")
    for _ in range(2):
        do(databases, job_control.pause_job, "a", NOW)
    for _ in range(2):
        do(databases, job_control.prioritise_job, "a", "urgent", NOW)
    assert kinds(databases, "a") == ["paused", "prioritised"]


def test_a_newer_version_discards_a_job_that_waits_and_not_one_that_runs(
    databases: Databases, add: Callable[..., str]
) -> None:
    for job_id, state in (("a", "pending"), ("b", "processing"), ("c", "open"), ("d", "submitted")):
        add(job_id, state)
    do(databases, discard_waiting, ["a", "b", "c", "d"], NOW)
    assert [job(databases, one).state for one in "abcd"] == ["discarded", "processing", "discarded", "discarded"]
    assert [kinds(databases, one) for one in "ab"] == [["discarded"], []]


def test_a_job_that_ends_while_the_queue_is_cancelled_stays_done(databases: Databases, add: Callable[..., str]) -> None:
    add("a", "processing", queue="cpu1", ticket=1, token="t")
    add("b")
    connections: list[sa.Connection] = []

    def end_a(connection: sa.Connection, *_: object) -> None:
        if not connections:  # right after the first look at the table
            connections.append(connection)
            with databases.research.begin() as other:
                other.execute(sa.update(Job).where(Job.id == "a").values(state="done", queue="", token=None))

    sa.event.listen(databases.research, "after_cursor_execute", end_a)
    try:
        with transaction(databases.research) as session:
            assert job_control.cancel_queue(session, NOW) == 1
    finally:
        sa.event.remove(databases.research, "after_cursor_execute", end_a)
    assert [job(databases, one).state for one in "ab"] == ["done", "discarded"]


def test_an_attempt_goes_back_to_earlier_steps_only_so_often(databases: Databases, add: Callable[..., str]) -> None:
    add("a")

    def lose(claim: Claim) -> str:
        raise InputGone("it is gone again", "analyse")

    steps = (Step("analyse", lambda claim: ""), Step("package", lose))
    execution = Execution(databases.research, steps, "host:1", Event())
    do(databases, lambda session: setattr(session.get_one(Job, "a"), "next_step", "analyse"))
    for ticket in range(1, 20):
        with transaction(databases.research) as session:
            for one in waiting_jobs(session, LATER, is_offpeak=True, steps=STEPS, limit=1):
                hand_over(session, one, "cpu1", NOW)
        done = execution.work("a", 1, ticket)
        if done is None:
            break
        execution.record(done)
    assert job(databases, "a").state == "failed"
    assert kinds(databases, "a").count("rewound") == 3


def test_jobs_are_listed_by_state_and_page(databases: Databases, add: Callable[..., str]) -> None:
    for number in range(7):
        add(f"j{number}", "failed" if number % 2 else "done", age_s=number)
    with transaction(databases.research) as session:
        assert [one.id for one in recent_jobs(session, limit=2, offset=1, states=("failed",))] == ["j3", "j5"]
        assert count_by_state(session) == {"done": 4, "failed": 3}


def feeder(databases: Databases, handed: list[tuple[str, str, int, int]], hours: str = "") -> Feeder:
    steps = tuple(Step(name, lambda claim: "", can_use_gpu=name == "analyse") for name in STEPS)
    return Feeder(databases.research, steps, lambda *words: handed.append(words), stale_s=30, offpeak_hours=hours)


def test_only_as_many_jobs_are_handed_over_as_there_are_places(databases: Databases, add: Callable[..., str]) -> None:
    for number in range(9):
        add(f"j{number}", age_s=9 - number)
    do(databases, beat, "host:1", "2", (2, 0))
    do(databases, beat, "host:2", "2", (3, 0))
    handed: list[tuple[str, str, int, int]] = []
    assert feeder(databases, handed)(NOW) == 5
    assert feeder(databases, handed)(NOW) == 0
    assert sorted(job_id for _, job_id, _, _ in handed) == [f"j{number}" for number in range(5)]
    assert {queue for queue, _, _, _ in handed} == {"cpu2", "cpu3"}


def test_a_step_that_can_use_a_gpu_goes_there_where_there_is_one(databases: Databases, add: Callable[..., str]) -> None:
    add("a", next_step="analyse")
    add("b", next_step="analyse")
    add("c")
    do(databases, beat, "host:1", "2", (1, 1))
    handed: list[tuple[str, str, int, int]] = []
    feeder(databases, handed)(NOW)
    assert {(queue, job_id) for queue, job_id, _, _ in handed} == {("gpu1", "a"), ("cpu1", "c")}


def test_without_a_gpu_every_step_goes_to_the_cpu(databases: Databases, add: Callable[..., str]) -> None:
    add("a", next_step="analyse")
    do(databases, beat, "host:1", "2", (1, 0))
    handed: list[tuple[str, str, int, int]] = []
    feeder(databases, handed)(NOW)
    assert handed == [("cpu1", "a", 1, 1)]


def test_a_paused_node_hands_nothing_over(databases: Databases, add: Callable[..., str]) -> None:
    add("a")
    do(databases, beat, "host:1", "2", (1, 0))
    with transaction(databases.research) as session:
        job_control.pause_node(session, NOW, is_paused=True)
        assert job_control.paused_since(session) == NOW
    assert feeder(databases, [])(NOW) == 0


class Workflows:
    """An engine that remembers what it was told."""

    def __init__(self, *going_on: Workflow) -> None:
        self.found = list(going_on)
        self.repeated: list[str] = []
        self.running = {"b:1:1"}
        self.dropped: list[str] = []
        self.enqueued: list[tuple[str, str, int, int]] = []
        self.status: dict[str, bool | None] = {}

    def going_on(self) -> list[Workflow]:
        return self.found

    def runs_here(self, workflow_id: str) -> bool:
        return workflow_id in self.running

    def repeat(self, executor_ids: list[str]) -> None:
        self.repeated += executor_ids

    def drop(self, workflow_ids: list[str]) -> None:
        self.dropped += workflow_ids

    def enqueue(self, queue: str, job_id: str, attempt: int, ticket: int) -> None:
        self.enqueued.append((queue, job_id, attempt, ticket))

    def is_going_on(self, job_id: str, attempt: int, ticket: int) -> bool | None:
        return self.status.get(job_id)

    def tidy(self, now: object) -> None:
        self.tidied = True


def reaper(databases: Databases, workflows: Workflows) -> Reaper:
    made = Reaper(databases.research, workflows, "host:me", "2", (1, 0), heartbeat_s=5, stale_s=30)
    made.first_beat()
    return made


def test_workflows_without_a_process_are_repeated_and_others_left_alone(databases: Databases) -> None:
    workflows = Workflows(
        Workflow("a:1:1", "host:gone", "2", is_running=True),
        Workflow("b:1:1", "host:me", "2", is_running=True),
        Workflow("c:1:1", "host:older", "2", is_running=False),
    )
    reaper(databases, workflows)(NOW)
    assert workflows.repeated == ["host:gone"]
    assert workflows.dropped == []


def test_workflows_of_a_version_nobody_has_begin_anew(databases: Databases, add: Callable[..., str]) -> None:
    add("a", "processing", queue="cpu1", ticket=3, token="old", next_step="analyse")
    add("b", "processing")
    workflows = Workflows(
        Workflow("a:1:3", "host:gone", "1", is_running=True),
        Workflow("delivery:5:2", "host:gone", "1", is_running=False),
        Workflow("b:1", "local", "1", is_running=True),
    )
    reaper(databases, workflows)(NOW)
    assert workflows.dropped == ["a:1:3", "delivery:5:2", "b:1"]
    for job_id, step in (("a", "analyse"), ("b", "deidentify")):
        found = job(databases, job_id)
        assert (found.state, found.queue, found.token, found.next_step) == ("pending", "", None, step)
        assert kinds(databases, job_id) == ["lost"]


def test_a_workflow_that_broke_off_in_a_living_process_begins_anew(
    databases: Databases, add: Callable[..., str]
) -> None:
    for job_id in ("b", "c"):
        add(job_id, "processing", queue="cpu1", ticket=1, token="old")
    workflows = Workflows(
        Workflow("b:1:1", "host:me", "2", is_running=True),
        Workflow("c:1:1", "host:me", "2", is_running=True),
        Workflow("delivery:4:1", "host:me", "2", is_running=True),
        Workflow("d:1:1", "host:me", "2", is_running=False),
    )
    reap = reaper(databases, workflows)
    for _ in range(2):
        reap(NOW)
        assert workflows.dropped == [], "it may just have begun"
    reap(NOW)
    assert workflows.dropped == ["c:1:1", "delivery:4:1"]
    assert (job(databases, "b").state, job(databases, "b").token) == ("processing", "old")
    assert (job(databases, "c").state, job(databases, "c").token, job(databases, "c").losses) == ("pending", None, 0)


def test_what_a_crash_left_between_two_databases_is_repaired(databases: Databases, add: Callable[..., str]) -> None:
    old = NOW - timedelta(seconds=60)
    for job_id, queue in (("unknown", "cpu1"), ("dropped", "cpu1"), ("running", "cpu1"), ("nobodys", "cpu9")):
        add(job_id, queue=queue, ticket=1, updated_at=old)
    workflows = Workflows()
    workflows.status = {"unknown": None, "dropped": False, "running": True, "nobodys": True}
    reaper(databases, workflows)(NOW)
    assert workflows.enqueued == [("cpu1", "unknown", 1, 1)]
    assert [job(databases, one).queue for one in ("unknown", "dropped", "running", "nobodys")] == [
        "cpu1",
        "",
        "cpu1",
        "",
    ]


def test_capacities_count_each_queue_of_the_living(databases: Databases) -> None:
    for name, slots in (("a", (4, 1)), ("b", (4, 0)), ("c", (0, 2)), ("d", (0, 0))):
        do(databases, beat, name, "2", slots)
    with transaction(databases.research) as session:
        from dicom_node.db.node_tables import Executor

        assert capacities(list(session.scalars(select(Executor)))) == {"cpu4": 8, "gpu1": 1, "gpu2": 2}
