"""What the page of studies shows, read from the databases; study UIDs and counts, no value of a header."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from dicom_node.db.models import StudyVersion
from dicom_node.db.peers import all_peers
from dicom_node.db.routing import answers_of, newest_orders, newest_routes, routes_of
from dicom_node.db.routing_tables import PacsAnswer, StudyOrder, StudyRoute
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import StudyArrivals, arrivals, these_studies, versions_of, young_arrivals
from dicom_node.storage.completeness import has_news
from dicom_node.web.routing_schemas import AnswerOut, OrderOut, StudyOut, VersionOut

COUNTED_AFTER = timedelta(minutes=15)
"""Studies with a later arrival are counted anew for every look; of the others the last pass's counts are shown."""
LISTED = 200


def studies(databases: Databases, now: datetime, limit: int = LISTED) -> list[StudyOut]:
    """Return the studies whose images came last, latest first."""
    with transaction(databases.hospital) as session:
        recent = sorted(young_arrivals(session, now - COUNTED_AFTER).items(), key=lambda one: one[1].newest)[-limit:]
        young = {one.study_instance_uid: one for one in arrivals(session, these_studies(uid for uid, _ in recent))}
        rows = {row.study_instance_uid: row for row in newest_routes(session, limit)}
        rows |= routes_of(session, these_studies(set(young) - set(rows)))
        found = _described(session, {**dict.fromkeys(rows), **young}, rows)
    return sorted(found, key=lambda one: one.last_arrival, reverse=True)[:limit]


def study(databases: Databases, study_instance_uid: str) -> StudyOut | None:
    """Return one study, None when nothing of it is here."""
    chosen = these_studies([study_instance_uid])
    with transaction(databases.hospital) as session:
        counted = {one.study_instance_uid: one for one in arrivals(session, chosen)}
        found = _described(session, counted, routes_of(session, chosen))
    return found[0] if found else None


def _described(
    session: Session, counted: Mapping[str, StudyArrivals | None], rows: dict[str, StudyRoute]
) -> list[StudyOut]:
    chosen = these_studies(counted)
    made, orders, answers = versions_of(session, counted), newest_orders(session, chosen), answers_of(session, chosen)
    names = {peer.id: peer.name for peer in all_peers(session)}
    return [
        _out(
            uid,
            arrived,
            rows.get(uid),
            made.get(uid, []),
            orders.get(uid),
            [_answer(one, names) for one in answers.get(uid, ())],
        )
        for uid, arrived in counted.items()
    ]


def _out(
    uid: str,
    arrived: StudyArrivals | None,
    row: StudyRoute | None,
    made: list[StudyVersion],
    order: StudyOrder | None,
    answers: list[AnswerOut],
) -> StudyOut:
    state, sentence = (row.state, row.sentence) if row is not None else ("arriving", "")
    news = state not in ("routed", "own")
    if arrived is not None:
        is_older = row is None or row.instance_count != arrived.instance_count
        news = has_news(arrived)
        if news and is_older and state != "discarded":
            state, sentence = "arriving", ""
    count = arrived.instance_count if arrived is not None else row.instance_count if row is not None else 0
    last = arrived.last_arrival if arrived is not None else row.last_arrival if row is not None else made[-1].created_at
    return StudyOut(
        study_instance_uid=uid,
        instance_count=count,
        own_count=arrived.own_count if arrived is not None else None,
        first_arrival=arrived.first_arrival if arrived is not None else None,
        last_arrival=last,
        version=made[-1].version if made else 0,
        job_ids=[version.job_id for version in made],
        state=state,
        sentence=sentence,
        rule_name=made[-1].rule_name if made else "",
        since=row.since if row is not None else None,
        is_open=bool(arrived is not None and arrived.open_count),
        can_be_ordered=news,
        versions=[VersionOut.model_validate(version) for version in made],
        answers=answers,
        order=OrderOut.model_validate(order) if order is not None else None,
    )


def _answer(answer: PacsAnswer, names: dict[int, str]) -> AnswerOut:
    return AnswerOut(
        peer=names.get(answer.peer_id, "a removed peer"),
        word=answer.word,
        pacs_count=answer.pacs_count,
        here_count=answer.here_count,
        asked_at=answer.asked_at,
    )
