"""Queries of DICOMweb: what the node holds, what it has made, and the catalogue that answers searches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, CompoundSelect, Select, and_, delete, func, literal, or_, select, union
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from dicom_node.db.dicomweb_tables import CatalogueInstance, CatalogueSeries, CatalogueStudy
from dicom_node.db.models import REJECTION_KIND, SR_KINDS, Instance, Result, StudyVersion

Level = Literal["study", "series", "instance"]
TABLES: dict[Level, type[CatalogueStudy | CatalogueSeries | CatalogueInstance]] = {
    "study": CatalogueStudy,
    "series": CatalogueSeries,
    "instance": CatalogueInstance,
}
UNSHOWN_KINDS = (REJECTION_KIND, *(kind for kind in SR_KINDS if kind != "sr"))
"""Results that only some destination gets: the rejection of older ones, and the report in older classes."""


@dataclass(frozen=True, slots=True)
class Held:
    """One instance there is a file of; ``path`` is relative to the hospital-side folder."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    path: str


@dataclass(frozen=True, slots=True)
class Condition:
    """What a column has to be.

    Attributes
    ----------
    level, column
        The column of the catalogue.
    how
        ``one_of`` values, ``like`` a pattern with * and ?, or in a ``range`` of two ends, either of them empty.
    values
        One or more values; one pattern; two ends.
    """

    level: Level
    column: str
    how: Literal["one_of", "like", "range"]
    values: tuple[Any, ...]


def arrived_series(session: Session, since: datetime | None) -> list[tuple[str, str, datetime]]:
    """Return study, series and last arrival of every series of which something arrived since then."""
    wanted = select(Instance.study_instance_uid, Instance.series_instance_uid, func.max(Instance.received_at))
    if since is not None:
        wanted = wanted.where(Instance.received_at >= since)
    rows = session.execute(wanted.group_by(Instance.study_instance_uid, Instance.series_instance_uid))
    return [(study, series, at) for study, series, at in rows]


def seen_series(session: Session, since: datetime | None) -> dict[tuple[str, str], datetime]:
    """Return when the instance arrived that each catalogued series was read from; of series seen since then."""
    series = CatalogueSeries
    wanted = select(series.study_instance_uid, series.series_instance_uid, series.seen_at)
    rows = session.execute(wanted if since is None else wanted.where(series.seen_at >= since))
    return {(study, series): at for study, series, at in rows}


def newest_of_series(session: Session, study: str, series: str) -> Instance | None:
    """Return the instance of a series that arrived last."""
    return session.scalar(
        select(Instance)
        .where(Instance.study_instance_uid == study, Instance.series_instance_uid == series)
        .order_by(Instance.received_at.desc())
        .limit(1)
    )


def _current_results() -> Select[Result]:
    """Select the results to show: of the last version of each study that has any, of the last attempt of its jobs."""
    newer, of_version = aliased(Result), aliased(StudyVersion)
    later, of_later = aliased(StudyVersion), aliased(Result)
    is_repeated = (
        select(newer.sop_instance_uid)
        .where(newer.job_id == Result.job_id, newer.attempt > Result.attempt)
        .correlate(Result)
    )
    is_superseded = (
        select(later.id)
        .join(of_version, of_version.study_instance_uid == later.study_instance_uid)
        .join(of_later, of_later.job_id == later.job_id)
        .where(of_version.job_id == Result.job_id, later.version > of_version.version)
        .correlate(Result)
    )
    is_shown = Result.kind.not_in(UNSHOWN_KINDS)
    return select(Result).where(is_shown, ~is_repeated.exists(), ~is_superseded.exists())


def _is_current() -> ColumnElement[bool]:
    """Of an instance of the catalogue that the node made: it was neither superseded nor withdrawn meanwhile."""
    made = CatalogueInstance
    is_same = Result.sop_instance_uid == made.sop_instance_uid, Result.job_id == made.source
    return _current_results().with_only_columns(Result.sop_instance_uid).where(*is_same).correlate(made).exists()


def drop_withdrawn(session: Session) -> int:
    """Take results that are no longer current out of the catalogue, and series that nothing is left of."""
    current = _current_results().with_only_columns(Result.sop_instance_uid)
    is_gone = CatalogueInstance.is_made.is_(True) & CatalogueInstance.sop_instance_uid.not_in(current)
    gone = list(session.scalars(select(CatalogueInstance).where(is_gone)))
    for row in gone:
        session.delete(row)
    session.flush()
    if gone:
        left = select(CatalogueInstance.sop_instance_uid).where(
            CatalogueInstance.study_instance_uid == CatalogueSeries.study_instance_uid,
            CatalogueInstance.series_instance_uid == CatalogueSeries.series_instance_uid,
        )
        session.execute(delete(CatalogueSeries).where(CatalogueSeries.is_made.is_(True), ~left.exists()))
    return len(gone)


def new_results(session: Session) -> list[Result]:
    """Return current results that the catalogue does not have."""
    known = select(CatalogueInstance.sop_instance_uid).where(
        CatalogueInstance.sop_instance_uid == Result.sop_instance_uid, CatalogueInstance.source == Result.job_id
    )
    return list(session.scalars(_current_results().where(~known.exists())))


def _newest(instance: type[Instance]) -> ColumnElement[bool]:
    """Of an instance received in several contents, the one that arrived last."""
    other = aliased(Instance)
    return (
        ~select(other.id)
        .where(
            other.sop_instance_uid == instance.sop_instance_uid,
            or_(
                other.received_at > instance.received_at,
                and_(other.received_at == instance.received_at, other.id > instance.id),
            ),
        )
        .exists()
    )


def unindexed(session: Session, study: str | None, series: str | None, limit: int) -> list[Instance]:
    """Return received instances that the catalogue does not have as they are now, at most ``limit``."""
    known = select(CatalogueInstance.sop_instance_uid).where(
        CatalogueInstance.sop_instance_uid == Instance.sop_instance_uid,
        or_(CatalogueInstance.source == Instance.id, CatalogueInstance.is_made.is_(True)),
    )
    wanted = select(Instance).where(_newest(Instance), ~known.exists())
    if study is not None:
        wanted = wanted.where(Instance.study_instance_uid == study)
    if series is not None:
        wanted = wanted.where(Instance.series_instance_uid == series)
    return list(session.scalars(wanted.limit(limit)))


def held(session: Session, study: str, series: str | None = None, instance: str | None = None) -> list[Held]:
    """Return what there are files of in a study, series or instance: received, and made by the node."""
    found: dict[str, Held] = {}
    sources: tuple[tuple[Any, ColumnElement[bool]], ...] = (
        (Instance, _newest(Instance)),
        (CatalogueInstance, CatalogueInstance.is_made.is_(True) & _is_current()),
    )
    for table, is_meant in sources:
        wanted = select(
            table.sop_instance_uid, table.sop_class_uid, table.series_instance_uid, table.study_instance_uid, table.path
        ).where(table.study_instance_uid == study, is_meant)
        if series is not None:
            wanted = wanted.where(table.series_instance_uid == series)
        if instance is not None:
            wanted = wanted.where(table.sop_instance_uid == instance)
        found |= {row[0]: Held(*row) for row in session.execute(wanted.order_by(table.series_instance_uid, table.path))}
    return list(found.values())


def find_studies(session: Session, conditions: Sequence[Condition], limit: int, offset: int) -> list[CatalogueStudy]:
    """Return studies, latest first."""
    wanted = select(CatalogueStudy).where(*(_where(session, one) for one in conditions if one.level == "study"))
    below = [_where(session, one) for one in conditions if one.level == "series"]
    if below:
        series = select(CatalogueSeries.series_instance_uid).where(
            CatalogueSeries.study_instance_uid == CatalogueStudy.study_instance_uid, *below
        )
        wanted = wanted.where(series.exists())
    order = (CatalogueStudy.study_date.desc(), CatalogueStudy.study_time.desc(), CatalogueStudy.study_instance_uid)
    return list(session.scalars(wanted.order_by(*order).limit(limit).offset(offset)))


def find_series(
    session: Session, conditions: Sequence[Condition], limit: int, offset: int
) -> list[tuple[CatalogueSeries, CatalogueStudy]]:
    """Return series with their studies, by study and number."""
    wanted = (
        select(CatalogueSeries, CatalogueStudy)
        .join(CatalogueStudy, CatalogueStudy.study_instance_uid == CatalogueSeries.study_instance_uid)
        .where(*(_where(session, one) for one in conditions if one.level != "instance"))
        .order_by(
            CatalogueSeries.study_instance_uid, CatalogueSeries.series_number, CatalogueSeries.series_instance_uid
        )
    )
    return [(series, study) for series, study in session.execute(wanted.limit(limit).offset(offset))]


def find_instances(
    session: Session, conditions: Sequence[Condition], limit: int, offset: int
) -> list[tuple[CatalogueInstance, CatalogueSeries, CatalogueStudy]]:
    """Return catalogued instances with their series and studies, by study, series and number."""
    instance, series = CatalogueInstance, CatalogueSeries
    wanted = (
        select(instance, series, CatalogueStudy)
        .join(
            series,
            and_(
                series.study_instance_uid == instance.study_instance_uid,
                series.series_instance_uid == instance.series_instance_uid,
            ),
        )
        .join(CatalogueStudy, CatalogueStudy.study_instance_uid == instance.study_instance_uid)
        .where(*(_where(session, one) for one in conditions))
        .order_by(
            instance.study_instance_uid, instance.series_instance_uid, instance.instance_number,
            instance.sop_instance_uid,
        )
    )  # fmt: skip
    return [(one, its, study) for one, its, study in session.execute(wanted.limit(limit).offset(offset))]


def _where(session: Session, condition: Condition) -> ColumnElement[bool]:
    column: InstrumentedAttribute[Any] = getattr(TABLES[condition.level], condition.column)
    if condition.how == "one_of":
        return column.in_(condition.values)
    if condition.how == "range":
        low, high = condition.values
        ends = [column >= low if low else None, column <= high if high else None, column != ""]
        return and_(*(end for end in ends if end is not None))
    return _like(session, column, condition.values[0])


def _like(session: Session, column: InstrumentedAttribute[Any], pattern: str) -> ColumnElement[bool]:
    """Match * and ? and nothing else; SQLite's LIKE does not tell cases apart, so there it is GLOB."""
    if session.get_bind().dialect.name == "sqlite":
        return column.op("GLOB", is_comparison=True)(literal(pattern.replace("[", "[[]")))
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")


def _members(studies: Sequence[str]) -> CompoundSelect[Any]:
    """Select study, series and instance UID of everything in these studies, each once."""
    made = CatalogueInstance
    return union(
        select(Instance.study_instance_uid, Instance.series_instance_uid, Instance.sop_instance_uid).where(
            Instance.study_instance_uid.in_(studies)
        ),
        select(made.study_instance_uid, made.series_instance_uid, made.sop_instance_uid).where(
            made.study_instance_uid.in_(studies), made.is_made.is_(True)
        ),
    )


def instance_counts(session: Session, studies: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return how many instances each series of these studies has."""
    members = _members(studies).subquery()
    study, series = members.c.study_instance_uid, members.c.series_instance_uid
    rows = session.execute(select(study, series, func.count()).group_by(study, series))
    return {(study, series): count for study, series, count in rows}


def modalities(session: Session, studies: Sequence[str]) -> dict[str, list[str]]:
    """Return the modalities in each of these studies."""
    rows = session.execute(
        select(CatalogueSeries.study_instance_uid, CatalogueSeries.modality)
        .where(CatalogueSeries.study_instance_uid.in_(studies), CatalogueSeries.modality != "")
        .distinct()
        .order_by(CatalogueSeries.modality)
    )
    found: dict[str, list[str]] = {}
    for study, modality in rows:
        found.setdefault(study, []).append(modality)
    return found
