"""From arrivals to jobs: which studies are due, which jobs have to be handed to the engine.

Everything here can be repeated: a version is committed first, its job row next, its workflow last, and each pass
makes up for what a crash left out. What is decided of a study is ``dicom_node.pipeline.routing_studies``'s business.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from sqlalchemy import true
from sqlalchemy.orm import Session

from dicom_node.db.jobs import discard_waiting, get_job, mark_pending, submitted_jobs
from dicom_node.db.models import SEGMENTATION_CLASS, Job, Peer, StudyVersion
from dicom_node.db.requests import asked_priority
from dicom_node.db.routing import (
    answers_of,
    close_orders,
    newest_orders,
    queried_peers,
    routes_of,
    sweep_associations,
)
from dicom_node.db.routing_tables import StudyRoute
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import (
    Choose,
    SeriesArrivals,
    StudyArrivals,
    YoungArrivals,
    arrivals,
    series_arrivals,
    studies_due,
    these_studies,
    unexamined,
    versions,
    versions_of,
    young_arrivals,
)
from dicom_node.jobs.failure import describe_failure
from dicom_node.logs import log
from dicom_node.pipeline.corrections import is_correction
from dicom_node.pipeline.reidentification import OWN_MANUFACTURER, OWN_MODEL
from dicom_node.pipeline.routing import SeriesFacts
from dicom_node.pipeline.routing_counts import Asks
from dicom_node.pipeline.routing_headers import facts_of
from dicom_node.pipeline.routing_rules import Rule
from dicom_node.pipeline.routing_store import rules_in_force
from dicom_node.pipeline.routing_studies import WAITING, Case, Decision, again_at, decide
from dicom_node.settings import Settings
from dicom_node.storage.completeness import Patience, has_news
from dicom_node.storage.files import new_id

LOG = log(__name__)
BOTH = "bone"
"""The pipeline's name where hips and spine are analysed."""
LOOK_BACK = timedelta(minutes=10)
FULL_PASS_EVERY = timedelta(hours=1)
ASSOCIATIONS_KEPT = timedelta(days=1)


class Engine(Protocol):
    """What dispatching needs of the job engine."""

    def submit(self, job_id: str, attempt: int, priority: str) -> None:
        """Let one attempt of a job wait for a free worker; idempotent."""


class Dispatcher:
    """Passes that follow one another: the first looks at everything kept, the next ones at what is young.

    A study can only become due while its last arrival is younger than the quiet time and one pass, or at the time its
    row names, or by an operator's order; ``LOOK_BACK`` is added for a row that was committed late, and for passes that
    failed in between. A full pass follows every ``FULL_PASS_EVERY`` all the same.

    Parameters
    ----------
    databases
        The node's databases.
    engine
        Takes attempts of jobs.
    settings
        The node's settings.
    counter
        Asks PACSs for their counts; None: nobody is asked.
    """

    def __init__(self, databases: Databases, engine: Engine, settings: Settings, counter: Asks | None = None) -> None:
        self._databases = databases
        self._engine = engine
        self._folder = settings.hospital_dir
        self._patience = patience_of(settings)
        self._counter = counter
        self._full_pass_due: datetime | None = None
        self._seen: dict[str, _Seen] = {}
        self._undecided: set[str] = set()

    def __call__(self, now: datetime) -> int:
        """Make one pass at a timezone-aware time; return how many jobs were handed to the engine."""
        is_full = self._full_pass_due is None or now >= self._full_pass_due
        longest_s = max(self._patience.quiet_s, self._patience.idle_timeout_s)
        since = None if is_full else now - timedelta(seconds=longest_s) - LOOK_BACK
        try:
            self._route(now, since)
        finally:  # what was decided goes on, whatever is wrong with the studies to decide on
            make_up_jobs(self._databases, now, since)
            handed_over = hand_over(self._databases, self._engine, now)
        if is_full:
            with transaction(self._databases.hospital) as session:
                sweep_associations(session, now - ASSOCIATIONS_KEPT)
            self._full_pass_due = now + FULL_PASS_EVERY
        return handed_over

    def _studies_to_look_at(self, now: datetime, since: datetime | None) -> tuple[Choose | None, dict[str, "_Seen"]]:
        """Choose the studies with news, that may be quiet, that are due, or that have an order; None: there is none.

        What was seen is returned too, and remembered once it was decided on, so that a pass counts a study anew only
        when something of it can have changed. Objects that an OsteoNode may have made are looked at first.
        """
        if since is None:
            examine_arrivals(self._databases, self._folder)
            return (lambda _: true()), {}
        with transaction(self._databases.hospital) as session:
            young, wanted = young_arrivals(session, since), studies_due(session, now)
        unseen = [uid for uid, one in young.items() if one.unexamined_count]
        if unseen:
            examine_arrivals(self._databases, self._folder, these_studies(unseen))
        wanted |= {uid for uid, one in young.items() if self._seen.get(uid, UNSEEN).may_differ(one, now)}
        wanted |= self._undecided
        seen = {uid: _Seen(one.count, one.newest, self._seen.get(uid, UNSEEN).again) for uid, one in young.items()}
        return (these_studies(wanted) if wanted else None), seen

    def _route(self, now: datetime, since: datetime | None) -> None:
        """Decide on every study that may have changed, and carry it out."""
        choose, seen = self._studies_to_look_at(now, since)
        if choose is not None:
            for case, decision in self._decide(now, choose):
                uid = case.study.study_instance_uid
                seen[uid] = replace(seen.get(uid, UNSEEN), again=again_at(case, decision, self._patience))
        self._seen = seen

    def _decide(self, now: datetime, choose: Choose) -> list[tuple[Case, Decision | None]]:
        """Decide on the chosen studies, carry it out and return what was decided."""
        with transaction(self._databases.hospital) as session:
            cases = cases_of(session, choose, has_counter=self._counter is not None)
            rules = rules_in_force(session).rules if cases else ()
        decisions = list(self._decisions(cases, rules, now))
        self._carry_out(decisions, now)
        questions = [question for _, decision in decisions if decision for question in decision.questions]
        if questions and self._counter is not None:
            self._counter.ask(questions)
        return decisions

    def _decisions(
        self, cases: Sequence[Case], rules: Sequence[Rule], now: datetime
    ) -> Iterator[tuple[Case, Decision | None]]:
        """Decide on each study; one on which nothing can be decided holds up no other, and is looked at again."""
        self._undecided = set()
        for case in cases:
            try:
                yield case, decide(case, rules, self._facts(case, rules), now, self._patience)
            except Exception as error:  # noqa: BLE001 - the boundary: one study must not stop the others
                LOG.error("study_not_decided", failure=describe_failure(error))
                self._undecided.add(case.study.study_instance_uid)

    def _facts(self, case: Case, rules: Sequence[Rule]) -> "_Facts":
        return _Facts(self._databases, self._folder, case.study.study_instance_uid, rules)

    def _carry_out(self, decisions: Sequence[tuple[Case, Decision | None]], now: datetime) -> None:
        """Write rows and versions in one transaction."""
        carried = [case.order.id for case, _ in decisions if case.order is not None and case.order.is_open]
        changed = [(case, decision) for case, decision in decisions if decision is not None]
        if not (carried or changed):
            return
        with transaction(self._databases.hospital) as session:
            close_orders(session, carried)
            for case, decision in changed:
                if decision.rule is not None:
                    version = _next_version(case.study, decision, decision.rule, now)
                    version.priority = asked_priority(session, version.study_instance_uid) or version.priority
                    session.add(version)
                session.merge(_route_row(case, decision, now))
                LOG.info("study_routed", state=decision.state, instances=case.study.instance_count)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last pass saw of a young study; ``again``: from when on it may be quiet."""

    count: int
    newest: datetime | None
    again: datetime | None

    def may_differ(self, young: YoungArrivals, now: datetime) -> bool:
        """Tell whether a study has to be looked at: more of it came, or it may be quiet."""
        if self.newest is None or young.count > self.count or young.newest > self.newest or young.unexamined_count:
            return True
        return self.again is not None and now >= self.again


UNSEEN = _Seen(0, None, None)


class _Facts:
    """Reads what rules ask of a study when it is called."""

    def __init__(self, databases: Databases, folder: Path, study_instance_uid: str, rules: Sequence[Rule]) -> None:
        self._databases = databases
        self._folder = folder
        self._study = study_instance_uid
        self._rules = rules

    def __call__(self) -> Sequence[SeriesFacts]:
        with transaction(self._databases.hospital) as session:
            series: list[SeriesArrivals] = series_arrivals(session, self._study)
        return facts_of(series, self._folder, self._rules)


def patience_of(settings: Settings) -> Patience:
    """Return what the settings say about waiting."""
    return Patience(
        quiet_s=settings.quiet_s,
        released_quiet_s=settings.released_quiet_s,
        idle_timeout_s=settings.idle_timeout_s,
        wait_s=settings.completeness_wait_s,
        holds=settings.completeness_policy == "hold",
    )


def cases_of(session: Session, choose: Choose, *, has_counter: bool) -> list[Case]:
    """Gather everything that decisions on studies need.

    Parameters
    ----------
    session
        Hospital side.
    choose
        Which studies.
    has_counter
        Whether a PACS can be asked at all.
    """
    studies = arrivals(session, choose)
    if not studies:
        return []
    routes, orders, answers = routes_of(session, choose), newest_orders(session, choose), answers_of(session, choose)
    peers = queried_peers(session) if has_counter else []
    return [
        Case(
            study=study,
            route=routes.get(study.study_instance_uid),
            order=orders.get(study.study_instance_uid),
            peers=_to_ask(session, study, peers),
            answers=tuple(answers.get(study.study_instance_uid, ())),
        )
        for study in studies
    ]


def _to_ask(session: Session, study: StudyArrivals, peers: Sequence[Peer]) -> tuple[Peer, ...]:
    """Return the PACSs that sent a study, or all that can be asked where none of them did."""
    if not peers or not has_news(study):
        return ()
    senders = {aet for one in series_arrivals(session, study.study_instance_uid) for aet in one.calling_aets}
    return tuple(peer for peer in peers if peer.ae_title in senders) or tuple(peers)


def examine_arrivals(databases: Databases, hospital_dir: Path, choose: Choose = lambda _: true()) -> None:
    """Find out, once for each object of a class an OsteoNode makes, whether one made it, and whether it corrects ours.

    An object this node made is known by its UID at once; one of another node, or one whose row is lost, is known here
    by its equipment.
    """
    with transaction(databases.hospital) as session:
        for instance in unexamined(session, choose):
            path = hospital_dir / instance.path
            if _is_refused(path):
                continue
            instance.is_examined = True
            instance.is_own = is_of_osteonode(path)
            if instance.sop_class_uid == SEGMENTATION_CLASS and instance.is_correction is None:
                instance.is_correction = not instance.is_own and is_correction(path)


def _is_refused(path: Path) -> bool:
    """Tell whether the system refuses to read a file that is there: it is looked at again when it can be."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return False
    except OSError as error:
        LOG.warning("object_not_examined", reason=error.strerror)
        return True
    return False


def is_of_osteonode(path: Path) -> bool:
    """Tell whether a file was made by an OsteoNode, by the Enhanced General Equipment Module (PS3.3 C.7.5.2)."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["Manufacturer", "ManufacturerModelName"])
        equipment = (header.get("Manufacturer"), header.get("ManufacturerModelName"))
        return tuple(str(one or "").strip().casefold() for one in equipment) == OWN_EQUIPMENT
    except Exception:  # noqa: BLE001 - a broken file fails in any way, and nobody knows who made it
        return False


OWN_EQUIPMENT = (OWN_MANUFACTURER.casefold(), OWN_MODEL.casefold())


def make_up_jobs(databases: Databases, now: datetime, since: datetime | None = None) -> None:
    """Give every version its job row; only versions made since a time when it is given.

    With it goes what waits of older versions of the study, in one transaction: no crash leaves both.
    """
    with transaction(databases.hospital) as session:
        decided = versions(session, since)
    with transaction(databases.research) as session:
        missing = [version for version in reversed(decided) if get_job(session, version.job_id) is None]
    if not missing:
        return
    with transaction(databases.hospital) as session:
        known = versions_of(session, {version.study_instance_uid for version in missing})
    with transaction(databases.research) as session:
        for version in missing:
            older = (one.job_id for one in known[version.study_instance_uid] if one.version < version.version)
            discard_waiting(session, older, now)
            session.add(_new_job(version, now))
            session.flush()


def hand_over(databases: Databases, engine: Engine, now: datetime) -> int:
    """Hand every submitted job to the engine; return how many."""
    with transaction(databases.research) as session:
        waiting = [(job.id, job.attempts, job.priority) for job in submitted_jobs(session)]
    for job_id, attempt, priority in waiting:
        engine.submit(job_id, attempt, priority)
        with transaction(databases.research) as session:
            mark_pending(session, job_id, attempt, now)
        LOG.info("job_submitted", job_id=job_id, attempt=attempt)
    return len(waiting)


def _next_version(study: StudyArrivals, decision: Decision, rule: Rule, now: datetime) -> StudyVersion:
    return StudyVersion(
        study_instance_uid=study.study_instance_uid,
        version=study.last_version + 1,
        instance_count=study.instance_count,
        ct_count=study.ct_count,
        correction_id=study.correction_id,
        job_id=new_id(),
        created_at=now,
        rule_name=rule.name,
        rule_hash=rule.hash,
        pipelines=",".join(rule.pipelines),
        segmenter=rule.segmenter,
        priority=rule.priority,
        destinations="\n".join(rule.destinations),
        incomplete=decision.incomplete,
        forced_by=decision.forced_by,
    )


def _route_row(case: Case, decision: Decision, now: datetime) -> StudyRoute:
    """Make a study's row; the time it came into its state stays as long as state and images do."""
    study, route = case.study, case.route
    is_same = (
        route is not None
        and route.instance_count == study.instance_count
        and (route.state == decision.state or {route.state, decision.state} <= set(WAITING))
    )
    return StudyRoute(
        study_instance_uid=study.study_instance_uid,
        state=decision.state,
        sentence=decision.sentence[:1000],
        rule_name=decision.rule.name if decision.rule is not None else "",
        instance_count=study.instance_count,
        last_arrival=study.last_arrival,
        due_at=decision.due_at,
        since=route.since if route is not None and is_same else now,
    )


def _new_job(version: StudyVersion, now: datetime) -> Job:
    return Job(
        id=version.job_id,
        pipeline=BOTH if "," in version.pipelines else version.pipelines,
        priority=version.priority,
        pseudonym=None,
        state="submitted",
        stage="submitted",
        progress=0.0,
        sentence="",
        attempts=1,
        created_at=now,
        updated_at=now,
    )
