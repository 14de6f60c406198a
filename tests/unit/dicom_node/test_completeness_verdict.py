"""The verdict on completeness over plain values: no clock, no database, no network."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.db.studies import StudyArrivals
from dicom_node.storage.completeness import (
    LONGEST_PAUSE_S,
    PacsWord,
    Patience,
    has_news,
    is_quiet,
    next_question_at,
    pause_s,
    quiet_after_s,
    verdict,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STUDY = StudyArrivals("1.2.3", instance_count=300, first_arrival=NOW, last_arrival=NOW, ct_count=300)
PATIENCE = Patience(quiet_s=30, released_quiet_s=5, idle_timeout_s=60, wait_s=600)
AGREES, DIFFERS = PacsWord("PACS", "agrees", 300, 300), PacsWord("PACS", "differs", 300, 297)
SILENT, UNKNOWN = PacsWord("PACS", "silent"), PacsWord("PACS", "unknown")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("study", "quiet_s"),
    [
        (STUDY, 30),
        (replace(STUDY, is_released=True), 5),
        (replace(STUDY, open_count=1), 60),
        (replace(STUDY, open_count=300, is_released=False), 60),
    ],
)
def test_how_long_is_quiet_depends_on_the_associations(study: StudyArrivals, quiet_s: float) -> None:
    assert quiet_after_s(study, PATIENCE) == quiet_s
    assert not is_quiet(study, after(quiet_s - 0.001), PATIENCE)
    assert is_quiet(study, after(quiet_s), PATIENCE)


def test_a_released_association_shortens_nothing_where_that_is_not_set() -> None:
    assert quiet_after_s(replace(STUDY, is_released=True), replace(PATIENCE, released_quiet_s=None)) == 30


def test_an_open_association_never_shortens_the_quiet_time() -> None:
    assert quiet_after_s(replace(STUDY, open_count=1), replace(PATIENCE, idle_timeout_s=1)) == 30


def test_nothing_is_quiet_before_everything_was_looked_at_for_our_own_equipment() -> None:
    assert not is_quiet(replace(STUDY, unexamined_count=1), after(10_000), PATIENCE)


@pytest.mark.parametrize(
    ("study", "news"),
    [
        (STUDY, True),
        (replace(STUDY, ct_count=0), True),
        (replace(STUDY, last_version=1, covered_ct=300), False),
        (replace(STUDY, last_version=1, covered_ct=299), True),
        (replace(STUDY, last_version=1, covered_ct=300, is_corrected_anew=True), True),
        (replace(STUDY, instance_count=0, ct_count=0, own_count=5), False),
    ],
)
def test_what_is_news(study: StudyArrivals, news: bool) -> None:
    assert has_news(study) is news


@pytest.mark.parametrize(
    ("lacking", "words", "seconds", "holds", "state"),
    [
        ((), (), 0, True, "complete"),
        ((), (AGREES,), 0, True, "complete"),
        ((), (UNKNOWN,), 0, True, "complete"),
        ((), (DIFFERS,), 0, False, "waiting_pacs"),
        ((), (DIFFERS,), 599, False, "waiting_pacs"),
        ((), (DIFFERS,), 600, False, "complete"),
        ((), (DIFFERS,), 600, True, "incomplete"),
        ((), (SILENT,), 599, True, "waiting_pacs"),
        ((), (SILENT,), 600, True, "complete"),
        ((), (SILENT, AGREES), 0, True, "complete"),
        ((), (UNKNOWN, DIFFERS), 0, True, "waiting_pacs"),
        ((), (AGREES, DIFFERS), 0, True, "complete"),
        ((), (DIFFERS, AGREES), 0, True, "waiting_pacs"),
        (("thin",), (), 0, False, "waiting_series"),
        (("thin",), (DIFFERS,), 0, False, "waiting_series"),
        (("thin",), (AGREES,), 600, False, "complete"),
        (("thin",), (AGREES,), 600, True, "incomplete"),
    ],
)
def test_the_verdict(
    lacking: tuple[str, ...], words: tuple[PacsWord, ...], seconds: float, holds: bool, state: str
) -> None:
    found = verdict(lacking, words, NOW, after(seconds), replace(PATIENCE, holds=holds))
    assert found.state == state
    assert bool(found.sentence) == (bool(lacking) or state != "complete" or words in ((DIFFERS,), (SILENT,)))


def test_the_sentence_says_what_lacks() -> None:
    said = verdict(("thin (kernel is B30f)",), (DIFFERS,), NOW, NOW, PATIENCE).sentence
    assert "thin (kernel is B30f)" in said
    assert "PACS has 300 instances of the study, here are 297." in said


@given(
    st.lists(st.sampled_from((AGREES, DIFFERS, SILENT, UNKNOWN)), max_size=4),
    st.booleans(),
    st.floats(0, 10_000),
    st.booleans(),
)
def test_no_study_waits_longer_than_it_may(words: list[PacsWord], lacks: bool, seconds: float, holds: bool) -> None:
    patience = replace(PATIENCE, holds=holds)
    found = verdict(("x",) if lacks else (), words, NOW, after(600 + seconds), patience)
    assert found.state in ("complete", "incomplete")
    assert found.state == "complete" or holds


def test_the_pauses_between_questions_double_up_to_a_minute() -> None:
    pauses = [pause_s(tries) for tries in range(1, 2000)]
    assert pauses[:3] == [2, 4, 8]
    assert max(pauses) == LONGEST_PAUSE_S == pauses[-1]


def test_a_pacs_is_asked_again_when_more_has_come_or_its_answer_was_no() -> None:
    assert next_question_at(1, NOW, 300, STUDY, settled=True) is None
    assert next_question_at(1, NOW, 300, STUDY, settled=False) == after(2)
    assert next_question_at(1, after(-50), 299, STUDY, settled=True) == STUDY.last_arrival
