"""Signs of life, and what is done about processes that give none.

The engine does not notice a dead process (DBOS 3.4 leaves that to a commercial service): its workflows would stay
for ever. Each process writes a sign of life into a table of ours, and each looks for workflows whose process gives
none. Whoever finds some has them repeated; that can be done twice without harm.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import sqlalchemy as sa

from dicom_node.db.executors import beat, forget, forget_dead, forget_others, living
from dicom_node.db.job_queue import handed_jobs, take_back, untracked_jobs
from dicom_node.db.session import transaction
from dicom_node.jobs.feeder import capacities
from dicom_node.logs import log

LOG = log(__name__)
STEADY_BEATS = 3
"""Signs of life in a row before a process judges others: after a database was away all have to come back first."""
SILENT = timedelta(seconds=10)
"""A job that the engine was given so long ago without a change is asked after."""
TIDY_EVERY = timedelta(minutes=5)
STRANDED_PASSES = 3
"""Passes in a row in which a workflow of this process does not run here, until it counts as broken off."""
UPGRADED = "The node was upgraded in the middle of the step."


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow of the engine that runs or will run."""

    id: str
    executor_id: str
    version: str
    is_running: bool


class Workflows(Protocol):
    """What the reaper needs of the engine."""

    def going_on(self) -> list[Workflow]:
        """Return every workflow that runs or will run."""

    def runs_here(self, workflow_id: str) -> bool:
        """Tell whether a workflow really runs in this process."""

    def repeat(self, executor_ids: list[str]) -> None:
        """Have the running workflows of these processes repeated by others."""

    def drop(self, workflow_ids: list[str]) -> None:
        """Let these workflows never go on."""

    def enqueue(self, queue: str, job_id: str, attempt: int, ticket: int) -> None:
        """Enqueue a step; a second call for the same ticket does nothing."""

    def is_going_on(self, job_id: str, attempt: int, ticket: int) -> bool | None:
        """Tell whether the workflow of a ticket goes on; None when there is none."""

    def tidy(self, now: datetime) -> None:
        """Delete some of the workflows that ended long ago."""


class Reaper:
    """One pass after another, in every process that runs jobs.

    Parameters
    ----------
    research
        The database of jobs and of signs of life.
    workflows
        The engine.
    executor_id, workflow_schema, slots
        This process, the version of its workflows, and its places on the CPU and on the GPU.
    heartbeat_s, stale_s
        The pause between two signs of life, and how long one lasts.
    """

    def __init__(
        self,
        research: sa.Engine,
        workflows: Workflows,
        executor_id: str,
        workflow_schema: str,
        slots: tuple[int, int],
        *,
        heartbeat_s: float,
        stale_s: float,
    ) -> None:
        self._research = research
        self._workflows = workflows
        self._id = executor_id
        self._schema = workflow_schema
        self._slots = slots
        self._heartbeat_s = heartbeat_s
        self._stale_s = stale_s
        self._is_alone = research.dialect.name == "sqlite"
        self._beats = 0
        self._last_beat: float | None = None
        self._stranded: dict[str, int] = {}
        self._tidy_due = datetime.min.replace(tzinfo=UTC)

    def first_beat(self) -> None:
        """Write the first sign of life, and take up what earlier versions and starts left."""
        with transaction(self._research) as session:
            beat(session, self._id, self._schema, self._slots)
            if self._is_alone:
                forget_others(session, self._id)

    def __call__(self, now: datetime) -> None:
        """Write a sign of life; if this process has been steady, look after what others left."""
        self._beat()
        if not self._is_alone and self._beats < STEADY_BEATS:
            return
        with transaction(self._research) as session:
            dead = forget_dead(session, self._stale_s)
            alive = living(session, self._stale_s)
        if dead:
            LOG.warning("executors_lost", executor_ids=dead)
        ids = {self._id, *(one.id for one in alive)}
        going_on = self._workflows.going_on()
        self._adopt(going_on, ids, {self._schema, *(one.workflow_schema for one in alive)}, now)
        self._ask_after(set(capacities(alive)), now)
        self._drop_stranded(going_on, now)
        if now >= self._tidy_due:
            self._workflows.tidy(now)
            self._tidy_due = now + TIDY_EVERY

    def leave(self) -> None:
        """Say that this process ends, so that nobody waits for its next sign of life."""
        with transaction(self._research) as session:
            forget(session, [self._id])

    def _beat(self) -> None:
        before, self._last_beat = self._last_beat, time.monotonic()
        is_late = before is None or self._last_beat - before > 2 * self._heartbeat_s + 1
        with transaction(self._research) as session:
            beat(session, self._id, self._schema, self._slots)
        self._beats = 1 if is_late else self._beats + 1

    def _adopt(self, going_on: list[Workflow], alive: set[str], schemas: set[str], now: datetime) -> None:
        """Have workflows without a process repeated; what has a version that no process has begins anew by its row."""
        old = [one for one in going_on if one.version not in schemas]
        if old:
            LOG.warning("old_workflows_dropped", count=len(old), versions=sorted({one.version for one in old}))
            self._workflows.drop([one.id for one in old])
            for one in old:
                self._take_back(one.id, now, UPGRADED)
        strangers = {one.executor_id for one in going_on if one.is_running and one.version == self._schema} - alive
        if strangers:
            LOG.warning("workflows_adopted", executor_ids=sorted(strangers))
            self._workflows.repeat(sorted(strangers))

    def _drop_stranded(self, going_on: list[Workflow], now: datetime) -> None:
        """Begin anew what broke off in this process without the engine's tables knowing it.

        DBOS 3.4 lets a workflow's thread end when the database is away as it wants to write, and leaves it running in
        its tables: for ever, since its process lives.
        """
        mine = [one.id for one in going_on if one.is_running and one.executor_id == self._id]
        silent = [one for one in mine if not self._workflows.runs_here(one)]
        self._stranded = {one: self._stranded.get(one, 0) + 1 for one in silent}
        found = [one for one, passes in self._stranded.items() if passes >= STRANDED_PASSES]
        if found:
            LOG.warning("stranded_workflows_dropped", count=len(found))
            self._workflows.drop(found)
            for one in found:
                self._take_back(one, now, "The step broke off when a database was away; it is repeated.")

    def _take_back(self, workflow_id: str, now: datetime, sentence: str) -> None:
        job_id, _, rest = workflow_id.partition(":")
        ticket = rest.rpartition(":")[2]
        if ticket.isdecimal() and job_id != "delivery":
            with transaction(self._research) as session:
                take_back(session, job_id, int(ticket), now, sentence)

    def _ask_after(self, served: set[str], now: datetime) -> None:
        """Repair what a crash left between our table and the engine's: jobs that it does not know, or has dropped."""
        with transaction(self._research) as session:
            silent = [(job.id, job.attempts, job.ticket, job.queue) for job in handed_jobs(session, now - SILENT)]
            untracked = untracked_jobs(session)
        for job_id, attempt, ticket, queue in silent:
            goes_on = self._workflows.is_going_on(job_id, attempt, ticket)
            if goes_on and queue in served:
                continue
            if goes_on is None and queue in served:
                self._workflows.enqueue(queue, job_id, attempt, ticket)
                continue
            with transaction(self._research) as session:
                take_back(session, job_id, ticket, now, "The engine gave the step up; it is repeated.", is_loss=True)
            LOG.warning("job_taken_back", job_id=job_id, queue=queue)
        for job_id, ticket in untracked:
            with transaction(self._research) as session:
                take_back(session, job_id, ticket, now, UPGRADED)
