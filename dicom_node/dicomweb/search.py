"""QIDO-RS: searches for studies, series and instances (PS3.18 10.6)."""

import json
from collections.abc import Sequence
from typing import Any, cast

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from dicom_node.db import dicomweb as rows
from dicom_node.db.dicomweb import Level
from dicom_node.db.session import transaction
from dicom_node.dicomweb.accept import choices, refusal
from dicom_node.dicomweb.archive import Archive
from dicom_node.dicomweb.attributes import RETURNED_TAGS, UID_TAGS
from dicom_node.dicomweb.dicom_json import MEDIA_TYPE, JsonDataset, dumps, json_of
from dicom_node.dicomweb.place import Place, base_url, read_uid
from dicom_node.dicomweb.query import ORDER, Search, parse_search
from dicom_node.dicomweb.stored_file import read_header
from dicom_node.errors import InstanceUnreadable, SearchTooBroad
from dicom_node.logs import log

LOG = log(__name__)
JSON_TYPES = (MEDIA_TYPE, "application/json")
UID_KEYWORDS = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
MORE = "There are additional results that can be requested."


def search_routes(archive: Archive) -> APIRouter:
    """Make the routes of every search."""
    router = APIRouter()

    @router.get("/studies")
    def studies(request: Request) -> Response:
        """Search for studies."""
        return _answer(archive, request, "study", {})

    @router.get("/series")
    def all_series(request: Request) -> Response:
        """Search for series of all studies."""
        return _answer(archive, request, "series", {})

    @router.get("/studies/{study}/series")
    def series_of_study(request: Request, study: str) -> Response:
        """Search for series of a study."""
        return _answer(archive, request, "series", {"study": study})

    @router.get("/instances")
    def all_instances(request: Request) -> Response:
        """Search for instances of all studies."""
        return _answer(archive, request, "instance", {})

    @router.get("/studies/{study}/instances")
    def instances_of_study(request: Request, study: str) -> Response:
        """Search for instances of a study."""
        return _answer(archive, request, "instance", {"study": study})

    @router.get("/studies/{study}/series/{series}/instances")
    def instances_of_series(request: Request, study: str, series: str) -> Response:
        """Search for instances of a series."""
        return _answer(archive, request, "instance", {"study": study, "series": series})

    return router


def _answer(archive: Archive, request: Request, level: Level, place: dict[str, str]) -> Response:
    require_json(request)
    path = {UID_KEYWORDS[name]: read_uid(uid) for name, uid in place.items()}
    search = parse_search(level, request.query_params.multi_items(), path)
    archive.catalogue.bring_up_to_date()
    base = base_url(request)
    if level == "instance":
        _index(archive, search)
        found = _instances(archive, search, base, place)
    else:
        found = _studies(archive, search, base) if level == "study" else _series(archive, search, base, place)
    warnings = [*search.warnings, *([MORE] if len(found) > search.limit else [])]
    answer = Response(dumps(found[: search.limit]), media_type=MEDIA_TYPE)
    for sentence in warnings:
        answer.headers.append("Warning", f'299 {base}: "{sentence}"')
    return answer


def require_json(request: Request) -> None:
    """Refuse an asker that does not take JSON."""
    if not any(choice.takes(name) for choice in choices(request) for name in JSON_TYPES):
        raise refusal(MEDIA_TYPE)


def _index(archive: Archive, search: Search) -> None:
    """Have the instances read that can be meant.

    Raises
    ------
    HTTPException
        413 when they are more than one search may read.
    """
    studies, series = search.uids_of("study"), search.uids_of("series")
    try:
        for study in studies or (None,):
            for one in series or (None,):
                archive.catalogue.index(study, one)
    except SearchTooBroad as error:
        raise HTTPException(413, str(error)) from None


def _studies(archive: Archive, search: Search, base: str) -> list[JsonDataset]:
    with transaction(archive.engine) as session:
        found = rows.find_studies(session, search.conditions, search.limit + 1, search.offset)
        uids = [study.study_instance_uid for study in found]
        counts, modalities = rows.instance_counts(session, uids), rows.modalities(session, uids)
    answer = []
    for study in found:
        uid = study.study_instance_uid
        of_series = [count for (owner, _), count in counts.items() if owner == uid]
        answer.append(
            _chosen(search, ("study",), study.attributes)
            | {
                "00080056": {"vr": "CS", "Value": ["ONLINE"]},
                "00080061": {"vr": "CS", "Value": modalities.get(uid, [])},
                "00081190": {"vr": "UR", "Value": [Place(uid).url(base)]},
                "00201206": {"vr": "IS", "Value": [len(of_series)]},
                "00201208": {"vr": "IS", "Value": [sum(of_series)]},
            }
        )
    return [_sorted(one) for one in answer]


def _series(archive: Archive, search: Search, base: str, place: dict[str, str]) -> list[JsonDataset]:
    with transaction(archive.engine) as session:
        found = rows.find_series(session, search.conditions, search.limit + 1, search.offset)
        counts = rows.instance_counts(session, sorted({series.study_instance_uid for series, _ in found}))
    answer = []
    for series, study in found:
        uids = (series.study_instance_uid, series.series_instance_uid)
        above = {} if place else _chosen(search, ("study",), study.attributes)
        answer.append(
            above
            | _chosen(search, ("series",), series.attributes)
            | _identity(uids)
            | {
                "00081190": {"vr": "UR", "Value": [Place(*uids).url(base)]},
                "00201209": {"vr": "IS", "Value": [counts.get(uids, 0)]},
            }
        )
    return [_sorted(one) for one in answer]


def _instances(archive: Archive, search: Search, base: str, place: dict[str, str]) -> list[JsonDataset]:
    with transaction(archive.engine) as session:
        found = rows.find_instances(session, search.conditions, search.limit + 1, search.offset)
    answer = []
    for instance, series, study in found:
        uids = (instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
        above = [] if "study" in place else [study.attributes]
        above += [] if "series" in place else [series.attributes]
        answer.append(
            _chosen(search, ORDER, *above, instance.attributes)
            | _further(archive, search, instance.path, Place(*uids), base)
            | _identity(uids)
            | {
                "00080016": {"vr": "UI", "Value": [instance.sop_class_uid]},
                "00080056": {"vr": "CS", "Value": ["ONLINE"]},
                "00081190": {"vr": "UR", "Value": [Place(*uids).url(base)]},
            }
        )
    return [_sorted(one) for one in answer]


def _identity(uids: Sequence[str]) -> JsonDataset:
    """Return the UIDs of a series or an instance: study, series, instance."""
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in zip(UID_TAGS, uids, strict=False)}


def _chosen(search: Search, levels: Sequence[Level], *kept: str) -> JsonDataset:
    """Return what is always given of the kept attributes, and what was asked for besides."""
    always = frozenset().union(*(RETURNED_TAGS[level] for level in levels))
    found: JsonDataset = {}
    for text in kept:
        attributes = cast("JsonDataset", json.loads(text))
        found |= {
            tag: value
            for tag, value in attributes.items()
            if search.included is None or tag in always or tag in search.included
        }
    return found


def _further(archive: Archive, search: Search, path: str, place: Place, base: str) -> JsonDataset:
    """Return what was asked for of an instance beyond what the catalogue keeps: that is in its file."""
    if search.included == frozenset():
        return {}
    try:
        header = read_header(archive.folder / path).dataset
    except (InstanceUnreadable, OSError) as error:
        LOG.error("kept_instance_unreadable", error=type(error).__name__)
        return {}
    tags = None if search.included is None else tuple(sorted(tag for tag in search.included if _is_tag(tag)))
    return json_of(header, place.bulk_address(base), tags)


def _is_tag(text: str) -> bool:
    return len(text) == 8 and all(character in "0123456789ABCDEF" for character in text)


def _sorted(found: JsonDataset) -> dict[str, Any]:
    return dict(sorted(found.items()))
