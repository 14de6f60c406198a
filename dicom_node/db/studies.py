"""Queries on studies as they arrive, and on their versions."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, case, func, literal_column, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from dicom_node.db.models import CT_CLASSES, SEGMENTATION_CLASS, Instance, StudyVersion
from dicom_node.db.routing_tables import ReceivingAssociation, StudyOrder, StudyRoute

OWN_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.88.59",
    SEGMENTATION_CLASS,
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.4",
    "1.2.840.10008.5.1.4.1.1.104.1",
)
"""What an OsteoNode makes: Comprehensive 3D, Comprehensive, Enhanced and Basic Text SR, Key Object Selection,
Segmentation, Secondary Capture (also multi-frame true color), Encapsulated PDF. A test compares it with sr_export."""
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class StudyArrivals:
    """What has arrived of one study, and what was already given to a job.

    Attributes
    ----------
    instance_count, first_arrival, last_arrival, ct_count
        Of what others made; where there is nothing of others, the times are those of our own objects.
    own_count
        Results of this or another OsteoNode that came.
    unexamined_count
        Objects of which it is not known yet whether an OsteoNode made them.
    open_count
        Instances of others whose association is still open.
    is_released
        Whether every association that brought an instance of others was released.
    last_version, covered_ct
        The newest version, and the CT instances that versions cover.
    correction_id
        The newest segmentation of it that a person corrected.
    is_corrected_anew
        Whether no version has used that one yet.
    """

    study_instance_uid: str
    instance_count: int
    first_arrival: datetime
    last_arrival: datetime
    ct_count: int
    last_version: int = 0
    covered_ct: int = 0
    own_count: int = 0
    unexamined_count: int = 0
    open_count: int = 0
    is_released: bool = False
    correction_id: str | None = None
    is_corrected_anew: bool = False


@dataclass(frozen=True, slots=True)
class SeriesArrivals:
    """What others made of one series, and the file that stands for it."""

    series_instance_uid: str
    instance_count: int
    ct_count: int
    path: str
    calling_aets: tuple[str, ...]


Choose = Callable[[InstrumentedAttribute[str]], ColumnElement[bool]]
"""Study column -> the condition that picks the studies looked at."""


def arrivals(session: Session, choose: Choose = lambda _: true()) -> list[StudyArrivals]:
    """Studies with their arrivals, latest first; each is counted whole.

    Parameters
    ----------
    session
        Hospital side.
    choose
        Which studies; all when left out.
    """
    others = ~Instance.is_own
    last = func.coalesce(_of_others(func.max, Instance.received_at), func.max(Instance.received_at))
    rows = session.execute(
        select(
            Instance.study_instance_uid,
            func.count(func.distinct(case((others, Instance.sop_instance_uid)))),
            func.coalesce(_of_others(func.min, Instance.received_at), func.min(Instance.received_at)),
            last,
            func.count(case((and_(others, Instance.sop_class_uid.in_(CT_CLASSES)), 1))),
            func.count(case((Instance.is_own, 1))),
            func.count(case((_is_unexamined(), 1))),
            func.count(case((and_(others, ReceivingAssociation.id.is_not(None), _is_open()), 1))),
            func.count(case((and_(others, func.coalesce(ReceivingAssociation.outcome, "") != "released"), 1))),
        )
        .outerjoin(ReceivingAssociation, ReceivingAssociation.id == Instance.association_id)
        .where(choose(Instance.study_instance_uid))
        .group_by(Instance.study_instance_uid)
        .order_by(last.desc())
    )
    studies = [
        StudyArrivals(
            study_instance_uid=uid,
            instance_count=count,
            first_arrival=first,
            last_arrival=newest,
            ct_count=ct_count,
            own_count=own_count,
            unexamined_count=unexamined_count,
            open_count=open_count,
            is_released=count > 0 and unreleased_count == 0,
        )
        for uid, count, first, newest, ct_count, own_count, unexamined_count, open_count, unreleased_count in rows
    ]
    return list(_with_versions(session, studies, choose))


def _with_versions(session: Session, studies: list[StudyArrivals], choose: Choose) -> Iterator[StudyArrivals]:
    found = session.execute(
        select(StudyVersion.study_instance_uid, func.max(StudyVersion.version), func.max(StudyVersion.ct_count))
        .where(choose(StudyVersion.study_instance_uid))
        .group_by(StudyVersion.study_instance_uid)
    )
    covered = {uid: (version, ct) for uid, version, ct in found}
    used = set(
        session.scalars(
            select(StudyVersion.correction_id).where(
                StudyVersion.correction_id.is_not(None), choose(StudyVersion.study_instance_uid)
            )
        )
    )
    newest = _newest_corrections(session, choose)
    for study in studies:
        version, ct = covered.get(study.study_instance_uid, (0, 0))
        correction = newest.get(study.study_instance_uid)
        yield replace(
            study,
            last_version=version,
            covered_ct=ct,
            correction_id=correction,
            is_corrected_anew=correction is not None and correction not in used,
        )


def _of_others(function: Callable[..., Any], column: InstrumentedAttribute[Any]) -> Any:
    return function(case((~Instance.is_own, column)))


def _is_open() -> ColumnElement[bool]:
    return ReceivingAssociation.outcome.is_(None)


def _is_unexamined() -> ColumnElement[bool]:
    return and_(
        ~Instance.is_own,
        Instance.sop_class_uid.in_(OWN_CLASSES),
        or_(
            ~Instance.is_examined,
            and_(Instance.sop_class_uid == SEGMENTATION_CLASS, Instance.is_correction.is_(None)),
        ),
    )


def _newest_corrections(session: Session, choose: Choose) -> dict[str, str]:
    """Return study -> the newest segmentation of it that a person corrected."""
    rows = session.execute(
        select(Instance.study_instance_uid, Instance.id)
        .where(Instance.is_correction.is_(True), ~Instance.is_own, choose(Instance.study_instance_uid))
        .order_by(Instance.received_at)
    )
    return {study: number for study, number in rows}  # noqa: C416 - rows are no pairs to dict


@dataclass(frozen=True, slots=True)
class YoungArrivals:
    """What arrived lately of one study: how many objects, the newest, and how many nobody has looked at."""

    count: int
    newest: datetime
    unexamined_count: int


def young_arrivals(session: Session, since: datetime) -> dict[str, YoungArrivals]:
    """Return study -> what arrived of it at or after a time.

    Grouped by an expression: SQLite would walk the index of studies, and with it every row there is.
    """
    study = func.coalesce(Instance.study_instance_uid, literal_column("''"))
    rows = session.execute(
        select(
            study,
            func.count(),
            func.max(Instance.received_at),
            func.count(case((_is_unexamined(), 1))),
        )
        .where(Instance.received_at >= since)
        .group_by(study)
    )
    return {uid: YoungArrivals(count, newest, unexamined_count) for uid, count, newest, unexamined_count in rows}


def unexamined(session: Session, choose: Choose = lambda _: true()) -> list[Instance]:
    """Objects of classes an OsteoNode makes that nobody has looked at."""
    return list(session.scalars(select(Instance).where(_is_unexamined(), choose(Instance.study_instance_uid))))


def studies_due(session: Session, now: datetime) -> set[str]:
    """Studies whose row says that it is time to look again, and those an operator gave an order for."""
    due: Select[str] = select(StudyRoute.study_instance_uid).where(StudyRoute.due_at <= now)
    ordered: Select[str] = select(StudyOrder.study_instance_uid).where(StudyOrder.is_open)
    return set(session.scalars(due)) | set(session.scalars(ordered))


def these_studies(uids: Iterable[str]) -> Choose:
    """Choose studies by their UIDs."""
    wanted = list(uids)
    return lambda study: study.in_(wanted)


def series_arrivals(session: Session, study_instance_uid: str) -> list[SeriesArrivals]:
    """Return the series of a study that others made, in order of their UIDs."""
    rows = session.execute(
        select(
            Instance.series_instance_uid,
            func.count(func.distinct(Instance.sop_instance_uid)),
            func.count(func.distinct(case((Instance.sop_class_uid.in_(CT_CLASSES), Instance.sop_instance_uid)))),
            func.min(Instance.path),
        )
        .where(Instance.study_instance_uid == study_instance_uid, ~Instance.is_own)
        .group_by(Instance.series_instance_uid)
        .order_by(Instance.series_instance_uid)
    )
    senders = _senders(session, study_instance_uid)
    return [SeriesArrivals(*row, calling_aets=senders.get(row[0], ())) for row in rows]


def _senders(session: Session, study_instance_uid: str) -> dict[str, tuple[str, ...]]:
    rows = session.execute(
        select(Instance.series_instance_uid, Instance.calling_aet)
        .where(Instance.study_instance_uid == study_instance_uid, ~Instance.is_own)
        .distinct()
        .order_by(Instance.calling_aet)
    )
    found: dict[str, tuple[str, ...]] = {}
    for series, calling_aet in rows:
        found[series] = (*found.get(series, ()), calling_aet)
    return found


def held_instances(session: Session, study_instance_uid: str) -> dict[str, set[str]]:
    """Return series -> SOP Instance UIDs of a study that are here, our own objects among them."""
    rows = session.execute(
        select(Instance.series_instance_uid, Instance.sop_instance_uid).where(
            Instance.study_instance_uid == study_instance_uid
        )
    )
    found: dict[str, set[str]] = {}
    for series, instance in rows:
        found.setdefault(series, set()).add(instance)
    return found


def version_of_job(session: Session, job_id: str) -> StudyVersion:
    """Return the study version a job analyses.

    Raises
    ------
    sqlalchemy.exc.NoResultFound
        When the job belongs to no study version.
    """
    return session.scalars(select(StudyVersion).where(StudyVersion.job_id == job_id)).one()


def versions(session: Session, since: datetime | None = None) -> list[StudyVersion]:
    """Every study version, newest first; only those made at or after ``since`` when it is given."""
    wanted = select(StudyVersion).order_by(StudyVersion.created_at.desc())
    return list(session.scalars(wanted if since is None else wanted.where(StudyVersion.created_at >= since)))


def versions_of(session: Session, uids: Iterable[str]) -> dict[str, list[StudyVersion]]:
    """Return study -> its versions, oldest first."""
    wanted = select(StudyVersion).where(StudyVersion.study_instance_uid.in_(list(uids)))
    found: dict[str, list[StudyVersion]] = {}
    for version in session.scalars(wanted.order_by(StudyVersion.version)):
        found.setdefault(version.study_instance_uid, []).append(version)
    return found
