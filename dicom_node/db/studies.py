"""Queries on studies and their versions."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Select, case, func, select, true
from sqlalchemy.orm import Session

from dicom_node.db.models import CT_CLASSES, SEGMENTATION_CLASS, Instance, StudyVersion


@dataclass(frozen=True, slots=True)
class StudyArrivals:
    """What has arrived of one study, and what was already given to a job."""

    study_instance_uid: str
    instance_count: int
    first_arrival: datetime
    last_arrival: datetime
    last_version: int
    ct_count: int
    covered_ct: int
    correction_id: str | None = None
    """The newest segmentation of it that a person corrected."""
    is_corrected_anew: bool = False
    """Whether no version has used that one yet."""


def arrivals(session: Session, since: datetime | None = None) -> list[StudyArrivals]:
    """Every study with its arrivals, latest first; our own objects do not count.

    Parameters
    ----------
    session
        Hospital side.
    since
        Only studies of which something arrived at or after this time; each is counted whole.
    """
    versions = (
        select(
            StudyVersion.study_instance_uid.label("uid"),
            func.max(StudyVersion.version).label("version"),
            func.max(StudyVersion.ct_count).label("ct"),
        )
        .group_by(StudyVersion.study_instance_uid)
        .subquery()
    )
    last = func.max(Instance.received_at)
    is_news = Instance.study_instance_uid.in_(_studies_since(since)) if since is not None else true()
    rows = session.execute(
        select(
            Instance.study_instance_uid,
            func.count(func.distinct(Instance.sop_instance_uid)),
            func.min(Instance.received_at),
            last,
            func.coalesce(versions.c.version, 0),
            func.count(case((Instance.sop_class_uid.in_(CT_CLASSES), 1))),
            func.coalesce(versions.c.ct, 0),
        )
        .outerjoin(versions, versions.c.uid == Instance.study_instance_uid)
        .where(~Instance.is_own, is_news)
        .group_by(Instance.study_instance_uid, versions.c.version, versions.c.ct)
        .order_by(last.desc())
    )
    used = set(session.scalars(select(StudyVersion.correction_id).where(StudyVersion.correction_id.is_not(None))))
    newest = _newest_corrections(session)
    return [
        replace(
            StudyArrivals(*row),
            correction_id=(correction := newest.get(row[0])),
            is_corrected_anew=correction is not None and correction not in used,
        )
        for row in rows
    ]


def _newest_corrections(session: Session) -> dict[str, str]:
    """Return study -> the newest segmentation of it that a person corrected."""
    rows = session.execute(
        select(Instance.study_instance_uid, Instance.id)
        .where(Instance.is_correction.is_(True))
        .order_by(Instance.received_at)
    )
    return {study: number for study, number in rows}  # noqa: C416 - rows are no pairs to dict


def unexamined_segmentations(session: Session) -> list[Instance]:
    """Segmentations that others made and nobody has looked at."""
    wanted = select(Instance).where(
        Instance.sop_class_uid == SEGMENTATION_CLASS, ~Instance.is_own, Instance.is_correction.is_(None)
    )
    return list(session.scalars(wanted))


def _studies_since(since: datetime) -> Select[str]:
    return select(Instance.study_instance_uid).where(Instance.received_at >= since, ~Instance.is_own)


def version_of_job(session: Session, job_id: str) -> StudyVersion:
    """Return the study version a job analyses.

    Raises
    ------
    sqlalchemy.exc.NoResultFound
        When the job belongs to no study version.
    """
    return session.scalars(select(StudyVersion).where(StudyVersion.job_id == job_id)).one()


def jobs_of_study(session: Session, study_instance_uid: str) -> list[str]:
    """Job ids of the versions of a study."""
    wanted = select(StudyVersion.job_id).where(StudyVersion.study_instance_uid == study_instance_uid)
    return list(session.scalars(wanted))


def versions(session: Session, since: datetime | None = None) -> list[StudyVersion]:
    """Every study version, newest first; only those made at or after ``since`` when it is given."""
    wanted = select(StudyVersion).order_by(StudyVersion.created_at.desc())
    return list(session.scalars(wanted if since is None else wanted.where(StudyVersion.created_at >= since)))
