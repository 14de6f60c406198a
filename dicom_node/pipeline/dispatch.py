"""From arrivals to jobs: which studies are due, which jobs have to be handed to the engine.

Everything here can be repeated: a version is committed first, its job row next, its workflow last, and each pass
makes up for what a crash left out.
"""

from collections.abc import Callable
from datetime import datetime

from dicom_node.db.jobs import get_job, mark_pending, submitted_jobs
from dicom_node.db.models import Job, StudyVersion
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import StudyArrivals, arrivals, versions
from dicom_node.logs import log
from dicom_node.storage.completeness import is_due
from dicom_node.storage.files import new_id

LOG = log(__name__)
PIPELINE = "bone"
"""The one pipeline so far: hips and lumbar spine of a CT."""


def dispatch(databases: Databases, submit: Callable[[str, int], None], now: datetime, quiet_s: float) -> int:
    """Make one pass; return how many jobs were handed to the engine.

    Parameters
    ----------
    databases
        The node's databases.
    submit
        Hands (job id, attempt) to the engine; idempotent.
    now
        Timezone-aware time.
    quiet_s
        Seconds of quiet that make a study complete.
    """
    with transaction(databases.hospital) as session:
        for study in arrivals(session):
            if is_due(study, now, quiet_s):
                session.add(_next_version(study, now))
        decided = [version.job_id for version in versions(session)]
    with transaction(databases.research) as session:
        for job_id in decided:
            if get_job(session, job_id) is None:
                session.add(_new_job(job_id, now))
    with transaction(databases.research) as session:
        waiting = [(job.id, job.attempts) for job in submitted_jobs(session)]
    for job_id, attempt in waiting:
        submit(job_id, attempt)
        with transaction(databases.research) as session:
            mark_pending(session, job_id, now)
        LOG.info("job_submitted", job_id=job_id, attempt=attempt)
    return len(waiting)


def _next_version(study: StudyArrivals, now: datetime) -> StudyVersion:
    return StudyVersion(
        study_instance_uid=study.study_instance_uid,
        version=study.last_version + 1,
        instance_count=study.instance_count,
        row_count=study.row_count,
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
