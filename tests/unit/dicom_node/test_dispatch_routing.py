"""Passes over studies that wait, that no rule takes, that operators decide on, and that come from an OsteoNode."""

import errno
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import select
from sqlalchemy.exc import UnboundExecutionError

from dicom_node import clock
from dicom_node.db.models import Instance, Job, Peer, Result, StudyVersion
from dicom_node.db.peers import add_peer
from dicom_node.db.routing import (
    chosen_destinations,
    end_all_associations,
    end_association,
    keep_answer,
    open_association,
    sweep_associations,
)
from dicom_node.db.routing_tables import PacsAnswer, ReceivingAssociation, RuleRevision, StudyOrder, StudyRoute
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import arrivals
from dicom_node.errors import ConfigurationError, NotFound
from dicom_node.pipeline import dispatch, routing_headers
from dicom_node.pipeline.dispatch import Dispatcher
from dicom_node.pipeline.routing_counts import Question
from dicom_node.pipeline.routing_rules import EVERY_CT, Completeness, Condition, RequiredSeries, Rule
from dicom_node.pipeline.routing_store import added, change_rules, order_study, rules_in_force
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake

NOW = clock.now()
OPERATOR = "Olga Operator"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


class Engine:
    """Records what it is given."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, int, str]] = []

    def submit(self, job_id: str, attempt: int, priority: str) -> None:
        self.submitted.append((job_id, attempt, priority))


class Counter:
    """Records what is asked of PACSs; a test answers in their place."""

    def __init__(self, databases: Databases) -> None:
        self.asked: list[Question] = []
        self._databases = databases

    def ask(self, questions: Sequence[Question]) -> None:
        self.asked += questions

    def answer(self, word: str, pacs: int, here: int, seconds: float, tries: int = 1) -> None:
        question = self.asked[-1]
        with transaction(self._databases.hospital) as session:
            (study,) = [one for one in arrivals(session) if one.study_instance_uid == question.study_instance_uid]
            keep_answer(
                session,
                PacsAnswer(
                    study_instance_uid=question.study_instance_uid,
                    peer_id=question.peer_id,
                    scope=question.scope,
                    word=word,
                    pacs_count=pacs,
                    here_count=here,
                    instance_count=study.instance_count,
                    tries=tries,
                    asked_at=at(seconds),
                ),
            )


class Node:
    """Databases, intake and passes of one node, at times the test says."""

    def __init__(self, databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]) -> None:
        self.databases = databases
        self.settings = settings
        self.engine = Engine()
        self.counter = Counter(databases)
        self.study = str(generate_uid())
        self._intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)
        self._make = make_arrival
        self.restart()

    def restart(self, **changes: object) -> None:
        self.settings = self.settings.model_copy(update=changes)
        self._pass = Dispatcher(self.databases, self.engine, self.settings, self.counter)

    def receive(self, seconds: float = 0, count: int = 1, **values: object) -> list[Arrival]:
        found = [self._make(**{"StudyInstanceUID": self.study, **values}) for _ in range(count)]
        for one in found:
            self._intake.keep(one, at(seconds))
        return found

    def look(self, *seconds: float) -> list[int]:
        return [self._pass(at(one)) for one in seconds]

    @property
    def route(self) -> StudyRoute | None:
        with transaction(self.databases.hospital) as session:
            return session.get(StudyRoute, self.study)

    @property
    def state(self) -> str:
        return self.route.state if self.route else ""

    @property
    def versions(self) -> list[StudyVersion]:
        with transaction(self.databases.hospital) as session:
            return list(session.scalars(select(StudyVersion).order_by(StudyVersion.version)))

    @property
    def jobs(self) -> list[Job]:
        with transaction(self.databases.research) as session:
            return list(session.scalars(select(Job).order_by(Job.created_at)))

    def rules(self, *rules: Rule) -> None:
        with transaction(self.databases.hospital) as session:
            change_rules(session, lambda _: rules, "test", OPERATOR, NOW)

    def order(self, action: str, seconds: float, rule: str = "") -> None:
        with transaction(self.databases.hospital) as session:
            order_study(session, self.study, action, OPERATOR, at(seconds), rule)

    def pacs(self, name: str = "PACS", ae_title: str = "SENDER", *, receives_results: bool = True) -> int:
        with transaction(self.databases.hospital) as session:
            peer = Peer(
                name=name,
                ae_title=ae_title,
                host="pacs.example",
                port=104,
                may_send=True,
                receives_results=receives_results,
                is_queried=True,
            )
            return add_peer(session, peer).id


@pytest.fixture
def node(databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival]) -> Node:
    made = Node(databases, settings, make_arrival)
    made.restart(quiet_s=30.0, idle_timeout_s=60.0, completeness_wait_s=600.0)
    return made


def number_of_ct(least: float) -> Condition:
    return Condition(field="ct_instances", operator="at_least", value=least)


def test_the_rule_that_took_a_study_stands_in_its_version_and_its_job(node: Node) -> None:
    rule = Rule(name="Hips first", pipelines=("hip",), priority="urgent", conditions=EVERY_CT.conditions)
    node.rules(rule, EVERY_CT)
    node.receive(count=3)
    assert node.look(29, 30, 31) == [0, 1, 0]
    (version,), (job,) = node.versions, node.jobs
    assert (version.rule_name, version.rule_hash) == ("Hips first", rule.hash)
    assert (version.pipelines, job.pipeline, job.priority) == ("hip", "hip", "urgent")
    assert node.engine.submitted == [(job.id, 1, "urgent")]
    assert node.state == "routed"


def test_a_study_that_no_rule_takes_stays_until_images_come_or_an_operator_routes_it(node: Node) -> None:
    node.rules(Rule(name="Many", conditions=(number_of_ct(5),)))
    node.receive()
    assert node.look(30, 31) == [0, 0]
    assert (node.state, node.versions) == ("no_rule", [])
    node.rules(EVERY_CT)
    assert node.look(40, 4000) == [0, 0], "a changed rule takes nothing by itself that was decided"
    node.order("wait", 4001)
    assert node.look(4002) == [1]
    assert node.versions[0].forced_by == ""


def test_an_operator_routes_by_hand_what_no_rule_takes(node: Node) -> None:
    node.rules(
        Rule(name="Many", conditions=(number_of_ct(5),)), Rule(name="Spine", is_enabled=False, pipelines=("spine",))
    )
    node.receive()
    node.look(30)
    node.order("proceed", 40)
    assert node.look(41) == [0]
    assert "no rule takes it" in (node.route or StudyRoute(sentence="")).sentence
    node.order("proceed", 42, "Spine")
    assert node.look(43, 44) == [1, 0]
    (version,) = node.versions
    assert (version.rule_name, version.pipelines, version.forced_by) == ("Spine", "spine", OPERATOR)


def test_a_forced_study_does_not_wait_and_late_images_make_a_version_that_supersedes_it(node: Node) -> None:
    node.receive(count=2)
    node.order("proceed", 1)
    assert node.look(1, 2) == [1, 0]
    node.receive(5, count=2)
    assert node.look(6, 34, 35) == [0, 0, 1]
    assert [(one.version, one.ct_count, one.forced_by) for one in node.versions] == [(1, 2, OPERATOR), (2, 4, "")]
    assert [job.state for job in node.jobs] == ["discarded", "pending"]


def test_a_discarded_study_stays_discarded_whatever_comes_until_it_is_told_to_wait(node: Node) -> None:
    node.receive()
    node.order("discard", 1)
    assert node.look(2, 30) == [0, 0]
    node.receive(40)
    node.restart()
    assert node.look(80, 4000) == [0, 0]
    assert node.state == "discarded"
    assert OPERATOR in (node.route or StudyRoute(sentence="")).sentence
    node.order("wait", 4001)
    assert node.look(4002) == [1]
    assert node.versions[0].ct_count == 2


def test_orders_that_make_no_sense_are_refused_with_a_sentence(node: Node) -> None:
    with pytest.raises(NotFound, match="No image"):
        node.order("proceed", 0)
    node.receive()
    with pytest.raises(NotFound, match="no rule named Nowhere"):
        node.order("proceed", 0, "Nowhere")
    with pytest.raises(ConfigurationError, match="Say who"), transaction(node.databases.hospital) as session:
        order_study(session, node.study, "proceed", "  ", NOW)
    node.look(30)
    for action in ("proceed", "wait", "discard"):
        with pytest.raises(ConfigurationError, match="is routed"):
            node.order(action, 31)
    node.order("proceed", 32, EVERY_CT.name)
    assert node.look(33) == [1], "by a rule that is named it is analysed once more"


def test_a_required_series_is_waited_for_and_then_the_study_goes_on_with_a_flag(node: Node) -> None:
    need = RequiredSeries(name="thin", conditions=(number_of_ct(3),))
    node.rules(Rule(name="R", required_series=(need,)))
    series = str(generate_uid())
    node.receive(count=2, SeriesInstanceUID=series)
    assert node.look(30, 300) == [0, 0]
    assert node.state == "waiting_series"
    node.receive(301, SeriesInstanceUID=series)
    assert node.look(302, 331) == [0, 1]
    assert node.versions[0].incomplete == ""


@pytest.mark.parametrize(("policy", "jobs", "state"), [("proceed", 1, "routed"), ("hold", 0, "incomplete")])
def test_what_lacks_for_ever_proceeds_with_a_flag_or_is_held(node: Node, policy: str, jobs: int, state: str) -> None:
    node.restart(completeness_policy=policy)
    node.rules(Rule(name="R", required_series=(RequiredSeries(name="thin", conditions=(number_of_ct(3),)),)))
    node.receive()
    assert node.look(30, 629) == [0, 0]
    assert node.look(630, 700, 5000) == [jobs, 0, 0]
    assert node.state == state
    if jobs:
        assert "thin" in node.versions[0].incomplete
    else:
        node.order("proceed", 5001)
        assert node.look(5002) == [1]
        assert "thin" in node.versions[0].incomplete
        assert node.versions[0].forced_by == OPERATOR


def test_a_held_study_goes_on_when_the_rest_comes(node: Node) -> None:
    node.restart(completeness_policy="hold")
    series = str(generate_uid())
    node.rules(Rule(name="R", required_series=(RequiredSeries(name="two", conditions=(number_of_ct(2),)),)))
    node.receive(SeriesInstanceUID=series)
    node.look(30, 700)
    node.receive(90_000, SeriesInstanceUID=series)
    assert node.look(90_001, 90_030) == [0, 1]


def test_a_pacs_with_more_images_is_waited_for_until_they_are_here(node: Node) -> None:
    node.pacs()
    node.receive(count=2)
    assert node.look(30) == [0]
    assert node.state == "waiting_pacs"
    node.counter.answer("differs", 3, 2, 31)
    assert node.look(31, 32, 33) == [0, 0, 0]
    assert len(node.counter.asked) == 2, "asked again after a pause, not at every pass"
    assert "PACS has 3 instances of the study, here are 2." in (node.route or StudyRoute(sentence="")).sentence
    node.receive(40)
    assert node.look(41, 70) == [0, 0], "an answer about other images does not count"
    node.counter.answer("agrees", 3, 3, 71)
    assert node.look(71.5) == [1]
    assert node.versions[0].incomplete == ""


def test_a_pacs_that_never_agrees_is_waited_for_as_long_as_is_set(node: Node) -> None:
    node.pacs()
    node.receive(count=2)
    node.look(30)
    node.counter.answer("differs", 300, 2, 31)
    assert node.look(32, 629, 630) == [0, 0, 1]
    assert node.versions[0].incomplete == "PACS has 300 instances of the study, here are 2."


def test_a_restart_keeps_the_time_that_was_waited(node: Node) -> None:
    node.pacs()
    node.receive()
    node.look(30)
    node.counter.answer("differs", 300, 1, 31)
    for seconds in range(40, 630, 60):
        node.restart()
        assert node.look(seconds) == [0]
    node.restart()
    assert node.look(630) == [1]


def test_a_node_that_was_off_asks_before_it_goes_on(node: Node) -> None:
    node.pacs()
    node.receive()
    assert node.look(90_000) == [0], "the wait begins when it is first looked at"
    assert len(node.counter.asked) == 1


def test_a_pacs_that_sent_it_is_asked_and_no_other(node: Node) -> None:
    sender, other = node.pacs(), node.pacs("Archive", "ARCHIVE")
    node.receive()
    node.look(30)
    assert [one.peer_id for one in node.counter.asked] == [sender]
    node.study = str(generate_uid())
    with transaction(node.databases.hospital) as session:
        session.get_one(Peer, sender).is_queried = False
    node.receive(40)
    node.look(70)
    assert node.counter.asked[-1].peer_id == other


@pytest.mark.parametrize("pacs", ["off", "all"])
def test_a_rule_says_what_the_pacs_is_asked(node: Node, pacs: str) -> None:
    node.pacs()
    node.rules(Rule(name="R", completeness=Completeness(pacs=pacs)))
    node.receive()
    assert node.look(30) == [1 if pacs == "off" else 0]
    assert [one.scope for one in node.counter.asked] == ([] if pacs == "off" else ["all"])


def test_an_open_association_is_waited_for_but_not_for_ever(node: Node) -> None:
    node.receive(count=2)
    with transaction(node.databases.hospital) as session:
        open_association(session, "a" * 32, "SENDER", NOW)
        for row in session.scalars(select(Instance)):
            row.association_id = "a" * 32
    assert node.look(30, 59) == [0, 0]
    assert node.look(60) == [1]


@pytest.mark.parametrize(("outcome", "seconds"), [("released", 5), ("aborted", 30), ("lost", 30)])
def test_only_a_release_shortens_the_quiet_time(node: Node, outcome: str, seconds: float) -> None:
    node.restart(released_quiet_s=5.0)
    node.receive(count=2)
    with transaction(node.databases.hospital) as session:
        open_association(session, "a" * 32, "SENDER", NOW)
        open_association(session, "a" * 32, "SENDER", NOW)
        for row in session.scalars(select(Instance)):
            row.association_id = "a" * 32
        if outcome == "lost":
            end_all_associations(session)
        else:
            end_association(session, "a" * 32, outcome)
            end_association(session, "a" * 32, "released")
    assert node.look(seconds - 1, seconds) == [0, 1]


def test_associations_that_ended_long_ago_are_forgotten(node: Node) -> None:
    with transaction(node.databases.hospital) as session:
        open_association(session, "a" * 32, "X", at(-100_000))
        open_association(session, "b" * 32, "X", at(-100_000))
        end_association(session, "a" * 32, "released")
        sweep_associations(session, NOW)
        assert [row.id for row in session.scalars(select(ReceivingAssociation))] == ["b" * 32]


OWN = {"Manufacturer": "OsteoNode", "ManufacturerModelName": "osteonode", "SOPClassUID": SR}


def test_results_of_another_osteonode_make_no_job_and_no_version(node: Node) -> None:
    node.receive(count=2)
    node.look(30)
    node.receive(40, **OWN)
    node.receive(40, **{**OWN, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"})
    assert node.look(71, 80, 5000) == [0, 0, 0]
    with transaction(node.databases.hospital) as session:
        (study,) = arrivals(session)
    assert (study.instance_count, study.own_count, study.unexamined_count) == (2, 2, 0)


def test_a_study_of_an_osteonodes_results_alone_makes_no_job(node: Node) -> None:
    for sop_class in (SR, "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.104.1"):
        node.receive(**{**OWN, "SOPClassUID": sop_class, "Manufacturer": "OSTEONODE "})
    assert node.look(30, 31, 5000) == [0, 0, 0]
    assert (node.state, node.versions, node.jobs) == ("own", [], [])
    node.receive(6000)
    assert node.look(6030) == [1], "with a CT it is a study as any other"


def test_our_results_are_known_by_their_equipment_after_the_table_of_results_is_lost(node: Node) -> None:
    node.receive()
    node.look(30)
    (result,) = (node._make(**{**OWN, "StudyInstanceUID": node.study}),)
    with transaction(node.databases.hospital) as session:
        session.add(
            Result(
                sop_instance_uid=result.sop_instance_uid, sop_class_uid=SR, job_id="j", attempt=1, kind="sr", path="p"
            )
        )
    node._intake.keep(result, at(31))
    with transaction(node.databases.hospital) as session:
        session.query(Result).delete()
        session.query(Instance).filter(Instance.sop_instance_uid == result.sop_instance_uid).delete()
    node._intake.keep(result, at(32))
    assert node.look(33, 100) == [0, 0]
    with transaction(node.databases.hospital) as session:
        assert arrivals(session)[0].own_count == 1


def test_an_object_that_cannot_be_read_for_now_is_examined_when_it_can_be(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.receive(**OWN)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as away:
        away.setattr(Path, "open", refuse)
        away.setattr(dispatch, "dcmread", refuse)
        assert node.look(30) == [0]
    node.look(31)
    assert node.state == "own", "and not taken for somebody else's for ever"


def test_another_vendors_report_is_nobodys_result(node: Node) -> None:
    node.receive(**{**OWN, "Manufacturer": "Other"})
    node.look(30)
    assert node.state == "no_rule"


def test_a_crash_before_the_rows_leaves_nothing_and_one_between_them_is_made_up_for(node: Node) -> None:
    node.receive()

    class CrashError(Exception):
        pass

    def crash(*_: object) -> None:
        raise CrashError

    whole = node.databases.research
    node.databases = Databases(node.databases.hospital, node.databases.identity, crash)  # type: ignore[arg-type]
    node.restart()
    with pytest.raises(AttributeError):
        node.look(30)
    node.databases = Databases(node.databases.hospital, node.databases.identity, whole)
    assert (len(node.versions), node.jobs) == (1, [])
    node.restart()
    assert node.look(31, 32) == [1, 0]
    assert len(node.versions) == len(node.jobs) == 1


def test_a_rules_destinations_restrict_where_the_results_go(node: Node) -> None:
    node.pacs()
    node.pacs("Archive", "ARCHIVE")
    node.pacs("Silent", "SILENT", receives_results=False)
    node.rules(Rule(name="R", destinations=("Archive", "Silent"), completeness=Completeness(pacs="off")))
    node.receive()
    node.look(30)
    with transaction(node.databases.hospital) as session:
        version = node.versions[0]
        assert [peer.name for peer in chosen_destinations(session, version, {"SENDER"})] == ["Archive"]
        version.destinations = ""
        assert [peer.name for peer in chosen_destinations(session, version, {"SENDER"})] == ["PACS"]


def test_rules_that_name_no_peer_and_changes_by_nobody_are_refused(node: Node) -> None:
    with pytest.raises(ConfigurationError, match="no peer named Nowhere"):
        node.rules(Rule(name="R", destinations=("Nowhere",)))
    with pytest.raises(ConfigurationError, match="Say who"), transaction(node.databases.hospital) as session:
        change_rules(session, added(Rule(name="R")), "x", "", NOW)


def test_two_people_cannot_undo_each_others_rules_unknowingly(node: Node) -> None:
    node.rules(EVERY_CT, Rule(name="A"))
    with pytest.raises(ConfigurationError, match="Somebody else"), transaction(node.databases.hospital) as session:
        change_rules(session, added(Rule(name="B")), "x", OPERATOR, NOW, based_on=0)
    with transaction(node.databases.hospital) as session:
        assert [rule.name for rule in rules_in_force(session).rules] == ["Every CT", "A"]


def test_the_order_and_who_gave_it_are_kept_for_ever(node: Node) -> None:
    node.receive()
    node.order("wait", 1)
    node.look(2)
    node.order("proceed", 3)
    node.look(4)
    with transaction(node.databases.hospital) as session:
        found = [(row.action, row.actor, row.is_open) for row in session.scalars(select(StudyOrder))]
    assert found == [("wait", OPERATOR, False), ("proceed", OPERATOR, False)]


def test_a_study_with_a_version_from_before_there_were_rules_is_listed_and_not_done_again(node: Node) -> None:
    node.receive()
    with transaction(node.databases.hospital) as session:
        session.add(
            StudyVersion(
                study_instance_uid=node.study, version=1, instance_count=1, ct_count=1, job_id="old", created_at=NOW
            )
        )
    node.look(30)
    assert (node.state, len(node.versions)) == ("routed", 1)


def test_a_pass_that_fails_forgets_no_study_and_hands_over_what_was_decided(node: Node) -> None:
    node.look(-1000)
    node.receive()
    with transaction(node.databases.hospital) as session:
        session.add(RuleRevision(number=1, rules="spoilt", change="x", actor=OPERATOR, made_at=NOW))
        session.add(
            StudyVersion(
                study_instance_uid="1.2", version=1, instance_count=1, ct_count=1, job_id="old", created_at=NOW
            )
        )
    for seconds in (30, 31):
        with pytest.raises(ConfigurationError, match="no JSON"):
            node.look(seconds)
    assert [one[0] for one in node.engine.submitted] == ["old"]
    with transaction(node.databases.hospital) as session:
        session.delete(session.get_one(RuleRevision, 1))
    assert node.look(32) == [1]


def test_a_study_that_is_looked_at_while_it_arrives_is_done_when_it_is_quiet(node: Node) -> None:
    node.look(-1000)
    for second in range(0, 20, 2):
        node.receive(second)
        assert node.look(second + 0.5, second + 1) == [0, 0]
    assert node.look(20, 30, 47, 48, 49) == [0, 0, 0, 1, 0]
    assert [one.ct_count for one in node.versions] == [10]


def test_a_pacs_that_agreed_is_asked_again_when_more_has_come(node: Node) -> None:
    node.pacs()
    series = str(generate_uid())
    node.rules(Rule(name="R", required_series=(RequiredSeries(name="three", conditions=(number_of_ct(3),)),)))
    node.receive(count=2, SeriesInstanceUID=series)
    node.look(30)
    node.counter.answer("agrees", 2, 2, 31)
    assert node.look(31, 32) == [0, 0]
    assert node.state == "waiting_series"
    node.receive(40, SeriesInstanceUID=series)
    assert node.look(41, 70) == [0, 0]
    assert (node.state, len(node.counter.asked)) == ("waiting_pacs", 2)
    node.counter.answer("agrees", 3, 3, 71)
    assert node.look(71) == [1]


def test_an_order_to_proceed_that_comes_as_the_study_is_taken_makes_no_second_version(node: Node) -> None:
    node.receive()
    node.order("proceed", 29)
    with transaction(node.databases.hospital) as session:
        (order,) = session.scalars(select(StudyOrder))
        order.is_open = False  # the pass that takes the study has not seen the order yet
    assert node.look(30) == [1]
    with transaction(node.databases.hospital) as session:
        session.get_one(StudyOrder, order.id).is_open = True
    assert node.look(31, 32) == [0, 0]
    assert len(node.versions) == 1
    with transaction(node.databases.hospital) as session:
        assert not session.get_one(StudyOrder, order.id).is_open, "it is carried out all the same"


def test_a_crash_between_a_newer_version_and_its_job_leaves_no_older_job_waiting(node: Node) -> None:
    node.receive()
    node.look(30)
    node.receive(40)
    whole = node.databases
    node.databases = Databases(whole.hospital, whole.identity, None)  # type: ignore[arg-type]
    node.restart()
    with pytest.raises(UnboundExecutionError):
        node.look(70)
    node.databases = whole
    assert (len(node.versions), [one.state for one in node.jobs]) == (2, ["pending"])
    node.restart()
    assert node.look(71) == [1]
    assert [one.state for one in node.jobs] == ["discarded", "pending"]


def test_a_study_that_cannot_be_decided_on_holds_up_no_other_and_is_looked_at_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.look(-1000)
    node.receive()
    node.receive(StudyInstanceUID="1.2.3")
    real, away = routing_headers._read, OSError(errno.EIO, "Input/output error")

    def read(path: Path, tags: tuple[str, ...]) -> Any:
        if path == broken:
            raise away
        return real(path, tags)

    with transaction(node.databases.hospital) as session:
        (instance,) = session.scalars(select(Instance).where(Instance.study_instance_uid == node.study))
    broken = node.settings.hospital_dir / instance.path
    monkeypatch.setattr(routing_headers, "_read", read)
    assert node.look(30, 31) == [1, 0]
    assert [one.study_instance_uid for one in node.versions] == ["1.2.3"]
    broken = Path()
    assert node.look(2000) == [1], "also when nothing of it is young any more"
    assert {one.study_instance_uid for one in node.versions} == {"1.2.3", node.study}
