"""From arrivals to jobs: which studies are due, which jobs have to be handed to the engine.

Everything here can be repeated: a version is committed first, its job row next, its workflow last, and each pass
makes up for what a crash left out.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from dicom_node.db.jobs import (
    discard_waiting,
    get_job,
    mark_pending,
    silent_jobs,
    submitted_jobs,
    update_job,
)
from dicom_node.db.models import Job, StudyVersion
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import StudyArrivals, arrivals, jobs_of_study, unexamined_segmentations, versions
from dicom_node.logs import log
from dicom_node.pipeline.corrections import is_correction
from dicom_node.settings import Settings
from dicom_node.storage.completeness import is_due
from dicom_node.storage.files import new_id

LOG = log(__name__)
PIPELINE = "bone"
"""The one pipeline so far: hips and lumbar spine of a CT."""
LOOK_BACK = timedelta(minutes=10)
FULL_PASS_EVERY = timedelta(hours=1)
SILENCE_S = 60.0
"""A job that has not changed for so long is looked up in the engine."""


class Engine(Protocol):
    """What dispatching needs of the job engine."""

    def submit(self, job_id: str, attempt: int) -> None:
        """Enqueue one attempt of a job; idempotent."""

    def has_ended(self, job_id: str, attempt: int) -> bool:
        """Tell whether an attempt will never go on."""


class Dispatcher:
    """Passes that follow one another: the first looks at everything kept, the next ones at what is young.

    A study can only become due while its last arrival is younger than the quiet time and one pass; ``LOOK_BACK`` is
    added for a row that was committed late, and for passes that failed in between. A full pass follows every
    ``FULL_PASS_EVERY`` all the same.
    """

    def __init__(self, databases: Databases, engine: Engine, settings: Settings) -> None:
        self._databases = databases
        self._engine = engine
        self._settings = settings
        self._full_pass_due: datetime | None = None

    def __call__(self, now: datetime) -> int:
        """Make one pass at a timezone-aware time; return how many jobs were handed to the engine."""
        is_full = self._full_pass_due is None or now >= self._full_pass_due
        quiet_s = self._settings.quiet_s
        since = None if is_full else now - timedelta(seconds=quiet_s) - LOOK_BACK
        examine_segmentations(self._databases, self._settings.hospital_dir)
        handed_over = dispatch(self._databases, self._engine, now, quiet_s, since)
        if is_full:
            self._full_pass_due = now + FULL_PASS_EVERY
        return handed_over


def examine_segmentations(databases: Databases, hospital_dir: Path) -> None:
    """Find out, once for each Segmentation that others made, whether it corrects ours."""
    with transaction(databases.hospital) as session:
        for instance in unexamined_segmentations(session):
            instance.is_correction = is_correction(hospital_dir / instance.path)


def dispatch(databases: Databases, engine: Engine, now: datetime, quiet_s: float, since: datetime | None = None) -> int:
    """Make one pass; return how many jobs were handed to the engine.

    Parameters
    ----------
    databases
        The node's databases.
    engine
        Takes attempts of jobs, and knows which have ended.
    now
        Timezone-aware time.
    quiet_s
        Seconds of quiet that make a study complete.
    since
        Look only at studies with an arrival, and at versions made, at or after this time; at all when left out.
    """
    superseded: list[str] = []
    with transaction(databases.hospital) as session:
        for study in arrivals(session, since):
            if is_due(study, now, quiet_s):
                superseded += jobs_of_study(session, study.study_instance_uid)
                session.add(_next_version(study, now))
        decided = [version.job_id for version in versions(session, since)]
    with transaction(databases.research) as session:
        for job_id in decided:
            if get_job(session, job_id) is None:
                session.add(_new_job(job_id, now))
        discard_waiting(session, superseded, now)
    with transaction(databases.research) as session:
        waiting = [(job.id, job.attempts) for job in submitted_jobs(session)]
    for job_id, attempt in waiting:
        engine.submit(job_id, attempt)
        with transaction(databases.research) as session:
            mark_pending(session, job_id, attempt, now)
        LOG.info("job_submitted", job_id=job_id, attempt=attempt)
    _fail_broken(databases, engine, now)
    return len(waiting)


def _fail_broken(databases: Databases, engine: Engine, now: datetime) -> None:
    """Give a job whose workflow broke off without a word its sentence, so that nobody waits for it."""
    with transaction(databases.research) as session:
        for job in silent_jobs(session, now - timedelta(seconds=SILENCE_S)):
            if engine.has_ended(job.id, job.attempts):
                sentence = "The job broke off and cannot go on by itself; run it again."
                update_job(session, job.id, now, state="failed", stage="failed", sentence=sentence)
                LOG.error("job_broke_off", job_id=job.id)


def _next_version(study: StudyArrivals, now: datetime) -> StudyVersion:
    return StudyVersion(
        study_instance_uid=study.study_instance_uid,
        version=study.last_version + 1,
        instance_count=study.instance_count,
        ct_count=study.ct_count,
        correction_id=study.correction_id,
        job_id=new_id(),
        created_at=now,
    )


def _new_job(job_id: str, now: datetime) -> Job:
    return Job(
        id=job_id,
        pipeline=PIPELINE,
        pseudonym=None,
        state="submitted",
        stage="submitted",
        progress=0.0,
        sentence="",
        attempts=1,
        created_at=now,
        updated_at=now,
    )
