"""Comparing a PACS's lists with what is here, and asking beside the dispatch pass."""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import select

from dicom_node import clock
from dicom_node.db.models import Peer
from dicom_node.db.peers import add_peer
from dicom_node.db.routing_tables import PacsAnswer
from dicom_node.db.session import Databases, transaction
from dicom_node.db.studies import StudyArrivals
from dicom_node.errors import PeerUnavailable, RetrievalRefused
from dicom_node.net.counts import SeriesCount
from dicom_node.pipeline import routing_counts
from dicom_node.pipeline.routing_counts import Counts, PacsCounter, Question, compare
from dicom_node.settings import Settings
from dicom_node.storage.intake import Arrival, Intake
from tests.conftest import wait_for

NOW = clock.now()
STUDY = StudyArrivals("1.2.3", instance_count=4, first_arrival=NOW, last_arrival=NOW, ct_count=4)


def uids(prefix: str, count: int) -> set[str]:
    return {f"{prefix}.{number}" for number in range(1, count + 1)}


@dataclass
class Lists:
    """A PACS of plain values; ``counted`` says whether it counts instances, as many do not."""

    series: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    counted: bool = True
    calls: list[str] = field(default_factory=list)

    def study_count(self, study: str) -> tuple[bool, int | None]:
        self.calls.append("study")
        total = sum(map(len, self.series.values()))
        return bool(self.series), total if self.counted else None

    def series_counts(self, study: str) -> list[SeriesCount]:
        self.calls.append("series")
        return [
            SeriesCount(uid, modality, len(members) if self.counted else None)
            for (uid, modality), members in self.series.items()
        ]

    def instances(self, study: str, series: str) -> set[str]:
        self.calls.append(series)
        return next(members for (uid, _), members in self.series.items() if uid == series)


HELD = {"9": uids("9", 4)}


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize(
    ("series", "scope", "counts"),
    [
        ({}, "ct", Counts("unknown")),
        ({("9", "CT"): uids("9", 4)}, "ct", Counts("agrees", 4, 4)),
        ({("9", "CT"): uids("9", 3)}, "ct", Counts("agrees", 3, 3)),
        ({("9", "CT"): uids("9", 6)}, "ct", Counts("differs", 6, 4)),
        ({("9", "CT"): uids("9", 4), ("8", "CT"): uids("8", 2)}, "ct", Counts("differs", 6, 4)),
        ({("9", "CT"): uids("9", 4), ("8", "SR"): uids("8", 2)}, "ct", Counts("agrees", 4, 4)),
        ({("9", "CT"): uids("9", 4), ("8", "SR"): uids("8", 2)}, "all", Counts("differs", 6, 4)),
        ({("9", "CT"): uids("9", 4), ("8", ""): uids("8", 2)}, "ct", Counts("differs", 6, 4)),
    ],
)
def test_counts_are_compared_series_by_series(
    series: dict[tuple[str, str], set[str]], scope: str, counts: Counts, counted: bool
) -> None:
    assert compare(Lists(series, counted), STUDY, HELD, set(), scope) == counts


def test_equal_numbers_cost_one_question() -> None:
    lists = Lists({("9", "CT"): uids("9", 4)})
    compare(lists, STUDY, HELD, set(), "ct")
    assert lists.calls == ["study"]


def test_our_own_results_in_the_pacs_do_not_count() -> None:
    results = uids("7", 5)
    lists = Lists({("9", "CT"): uids("9", 4), ("7", "SR"): results})
    assert compare(lists, STUDY, HELD, results, "all") == Counts("agrees", 4, 4)
    again = Lists({("9", "CT"): uids("9", 4), ("7", "SR"): results})
    came_back = replace(STUDY, own_count=5)
    assert compare(again, came_back, {**HELD, "7": results}, set(), "all") == Counts("agrees", 9, 9)


def test_numbers_that_are_equal_by_chance_deceive_nobody() -> None:
    """The PACS has two CT slices less than the node, and two results of the node instead."""
    results = uids("7", 2)
    lists = Lists({("9", "CT"): {"9.1", "9.2"}, ("8", "CT"): set(), ("7", "SR"): results})
    assert compare(lists, STUDY, HELD, results, "all") == Counts("agrees", 2, 2)
    more = Lists({("9", "CT"): {"9.1"}, ("8", "CT"): {"8.1"}, ("7", "SR"): results})
    assert compare(more, STUDY, HELD, results, "all") == Counts("differs", 2, 1)


@pytest.fixture
def ask(
    databases: Databases, settings: Settings, make_arrival: Callable[..., Arrival], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Return what makes a counter over PACSs that behave as told, and their questions."""
    intake = Intake(databases.hospital, settings.hospital_dir, reserve_bytes=0)
    study = str(generate_uid())
    intake.keep(make_arrival(StudyInstanceUID=study), NOW)

    def make(**behave: Callable[[], None]) -> tuple[PacsCounter, dict[str, Question]]:
        @contextmanager
        def catalogue(peer: Peer, _: Settings) -> Any:
            behave[peer.name]()
            yield Lists({("x", "CT"): {"x.1", "x.2"}})

        monkeypatch.setattr(routing_counts, "_catalogue", catalogue)
        questions = {}
        with transaction(databases.hospital) as session:
            for name in behave:
                row = Peer(name=name, ae_title=name, host="h", port=1, may_send=True, receives_results=False)
                questions[name] = Question(study, add_peer(session, row).id, "ct")
        return PacsCounter(databases, settings), questions

    return make


def answers(databases: Databases) -> dict[int, PacsAnswer]:
    with transaction(databases.hospital) as session:
        return {row.peer_id: row for row in session.scalars(select(PacsAnswer))}


def test_a_slow_pacs_holds_up_no_other(ask: Callable[..., Any], databases: Databases) -> None:
    release = threading.Event()
    counter, questions = ask(slow=lambda: release.wait(20), quick=lambda: None)
    counter.ask(list(questions.values()))
    quick, slow = questions["quick"].peer_id, questions["slow"].peer_id
    wait_for(lambda: quick in answers(databases), 10, "the quick one's answer")
    assert slow not in answers(databases)
    counter.ask([questions["slow"]])
    release.set()
    wait_for(lambda: slow in answers(databases), 10, "the slow one's answer")
    assert answers(databases)[slow].tries == 1, "what is being asked is not asked twice"


@pytest.mark.parametrize("error", [PeerUnavailable("away"), RetrievalRefused("no C-FIND"), ValueError("hostile")])
def test_a_pacs_that_fails_is_silent_and_tries_are_counted(
    ask: Callable[..., Any], databases: Databases, error: Exception
) -> None:
    def fail() -> None:
        raise error

    counter, questions = ask(broken=fail)
    for tries in (1, 2):
        counter.answer(questions["broken"])
        (row,) = answers(databases).values()
        assert (row.word, row.tries) == ("silent", tries)


def test_an_answer_says_how_many_were_here_when_it_was_asked(ask: Callable[..., Any], databases: Databases) -> None:
    counter, questions = ask(fine=lambda: None)
    counter.answer(questions["fine"])
    (row,) = answers(databases).values()
    assert (row.word, row.pacs_count, row.here_count, row.instance_count) == ("differs", 2, 0, 1)


def test_a_study_or_a_peer_that_is_gone_is_asked_about_no_more(ask: Callable[..., Any], databases: Databases) -> None:
    counter, questions = ask(fine=lambda: None)
    counter.answer(replace(questions["fine"], study_instance_uid="1.2"))
    counter.answer(replace(questions["fine"], peer_id=99))
    assert answers(databases) == {}
