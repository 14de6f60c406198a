"""The catalogue that answers searches: filled from files when something is first looked for.

Nobody pays for it who does not use DICOMweb, and every search sees what was acknowledged before it. A series is read
from the instance that arrived last, an instance when its study is looked into.
"""

import re
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom_node import clock
from dicom_node.db import dicomweb as rows
from dicom_node.db.dicomweb_tables import TEXT_LENGTH, CatalogueInstance, CatalogueSeries, CatalogueStudy
from dicom_node.db.models import Instance, Result, StudyVersion
from dicom_node.db.session import transaction
from dicom_node.dicomweb.attributes import KEPT_TAGS, KEYS, Kind, tag_of
from dicom_node.dicomweb.dicom_json import JsonDataset, dumps, json_of
from dicom_node.dicomweb.stored_file import read_header
from dicom_node.errors import InstanceUnreadable, SearchTooBroad
from dicom_node.logs import log

LOG = log(__name__)
LOOK_BACK = timedelta(minutes=10)
"""A row may be committed this long after its time of arrival."""
INDEX_LIMIT = 20_000
"""Files one search may have to read."""
BATCH = 200
LARGEST_INTEGER = 2**31 - 1


class Catalogue:
    """The catalogue of one hospital database.

    Parameters
    ----------
    engine
        The hospital database.
    folder
        The hospital-side folder, to which paths are relative.
    """

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._lock = Lock()
        self._seen_until: datetime | None = None

    def bring_up_to_date(self) -> None:
        """Read every series something has arrived of, and every result, since the last call."""
        with self._lock:
            try:
                self._read_series()
                self._read_results()
            except sa.exc.IntegrityError:
                LOG.info("catalogue_filled_by_another")

    def index(self, study: str | None = None, series: str | None = None) -> None:
        """Read every instance of a study or series, or of all, that the catalogue lacks.

        Raises
        ------
        SearchTooBroad
            When that would be more than one search may read.
        """
        with self._lock:
            with transaction(self._engine) as session:
                missing = rows.unindexed(session, study, series, INDEX_LIMIT + 1)
            if len(missing) > INDEX_LIMIT:
                raise SearchTooBroad("The search is too broad; name a study.")
            for start in range(0, len(missing), BATCH):
                found = [self._instance(one) for one in missing[start : start + BATCH]]
                with transaction(self._engine) as session:
                    for row in found:
                        session.merge(row)

    def _read_series(self) -> None:
        with transaction(self._engine) as session:
            since = min(self._seen_until, clock.now()) - LOOK_BACK if self._seen_until else None  # a clock may be ahead
            arrived = rows.arrived_series(session, since)
            seen = rows.seen_series(session, since)
            news = [(study, series) for study, series, at in arrived if seen.get((study, series)) != at]
        for start in range(0, len(news), BATCH):
            with transaction(self._engine) as session:
                for study, series in news[start : start + BATCH]:
                    self._add_series(session, study, series)
        self._seen_until = max((at for _, _, at in arrived), default=self._seen_until)

    def _add_series(self, session: Session, study: str, series: str) -> None:
        newest = rows.newest_of_series(session, study, series)
        if newest is not None:
            kept = self._attributes(newest.path)
            session.merge(_study_row(study, kept["study"]))
            session.merge(_series_row(study, series, kept["series"], newest.received_at, is_made=False))

    def _read_results(self) -> None:
        with transaction(self._engine) as session:
            rows.drop_withdrawn(session)
            news = rows.new_results(session)
        for start in range(0, len(news), BATCH):
            with transaction(self._engine) as session:
                for result in news[start : start + BATCH]:
                    self._add_result(session, result)

    def _add_result(self, session: Session, result: Result) -> None:
        version = session.scalars(sa.select(StudyVersion).where(StudyVersion.job_id == result.job_id)).one_or_none()
        if version is None:
            return
        kept = self._attributes(result.path)
        study = version.study_instance_uid
        series = _first(kept["series"], "0020000E")
        if session.get(CatalogueStudy, study) is None:
            session.merge(_study_row(study, kept["study"]))
        session.merge(_series_row(study, series, kept["series"], version.created_at, is_made=True))
        session.merge(
            _instance_row(
                kept["instance"],
                sop_instance_uid=result.sop_instance_uid,
                sop_class_uid=result.sop_class_uid,
                series_instance_uid=series,
                study_instance_uid=study,
                source=result.job_id,
                path=result.path,
                is_made=True,
            )
        )

    def _instance(self, instance: Instance) -> CatalogueInstance:
        return _instance_row(
            self._attributes(instance.path)["instance"],
            sop_instance_uid=instance.sop_instance_uid,
            sop_class_uid=instance.sop_class_uid,
            series_instance_uid=instance.series_instance_uid,
            study_instance_uid=instance.study_instance_uid,
            source=instance.id,
            path=instance.path,
            is_made=False,
        )

    def _attributes(self, path: str) -> dict[str, JsonDataset]:
        """Return what is kept of each level; nothing of a file that cannot be read, which stays findable by UID."""
        try:
            dataset = read_header(self._folder / path).dataset
        except (InstanceUnreadable, OSError) as error:
            LOG.error("kept_instance_unreadable", error=type(error).__name__)
            return {level: {} for level in KEPT_TAGS}
        return {level: json_of(dataset, None, tags) for level, tags in KEPT_TAGS.items()}


def _study_row(study: str, kept: JsonDataset) -> CatalogueStudy:
    kept = {**kept, "0020000D": {"vr": "UI", "Value": [study]}}
    columns = _columns("study", kept)
    return CatalogueStudy(**columns, attributes=dumps(kept).decode())


def _series_row(study: str, series: str, kept: JsonDataset, seen_at: datetime, *, is_made: bool) -> CatalogueSeries:
    kept = {**kept, "0020000E": {"vr": "UI", "Value": [series]}}
    columns = _columns("series", kept)
    return CatalogueSeries(
        study_instance_uid=study, **columns, attributes=dumps(kept).decode(), seen_at=seen_at, is_made=is_made
    )


def _instance_row(kept: JsonDataset, *, source: str, path: str, is_made: bool, **uids: str) -> CatalogueInstance:
    """``uids`` are those of the row, which are right even where the file cannot be read."""
    columns = {**_columns("instance", kept), **uids}
    return CatalogueInstance(**columns, attributes=dumps(kept).decode(), source=source, path=path, is_made=is_made)


def _columns(level: str, kept: JsonDataset) -> dict[str, Any]:
    """Return the columns that are matched against, each as its kind compares it."""
    found: dict[str, Any] = {}
    for keyword, key in KEYS.items():
        if key.level == level and keyword != "ModalitiesInStudy":
            found[key.column] = comparable(key.kind, _first(kept, tag_of(keyword)))
    return found


def comparable(kind: Kind, value: str) -> Any:
    """Return a value as it is compared: names in lower case, dates as eight digits, times as six."""
    if kind == "number":
        return _integer(value)
    if kind == "name":
        return value.casefold().rstrip("^= ")[:TEXT_LENGTH]
    if kind == "date":
        digits = re.sub(r"[.\-]", "", value)
        return digits if re.fullmatch(r"\d{8}", digits) else ""
    if kind == "time":
        digits = re.sub(r":", "", value).partition(".")[0]
        return digits.ljust(6, "0") if re.fullmatch(r"\d{2}(\d{2}){0,2}", digits) else ""
    return value[:TEXT_LENGTH]


def _integer(value: str) -> int | None:
    try:
        number = int(float(value))
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= LARGEST_INTEGER else None


def _first(kept: JsonDataset, tag: str) -> str:
    """Return an element's first value as text; of a name the alphabetic group."""
    values = kept.get(tag, {}).get("Value") or [""]
    value = values[0]
    if isinstance(value, dict):
        value = value.get("Alphabetic", "")
    return "" if value is None else str(value).replace("\0", "").encode("utf-8", "replace").decode().strip()
