"""When is a study complete? A pure verdict on what has arrived, what its rule asks for and what the PACS counts.

C-STORE has no end of study: an association's release says only that one association ended. So a study is complete
when arrivals have been quiet, no association that brought its images is open, every series its rule requires is here,
and the PACS, where it can be asked, counts no more than what is here. Nothing is waited for without end: an open
association for as long as the receiver lets one be silent, the rest for ``wait_s``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from dicom_node.db.studies import StudyArrivals

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
"""Pauses between questions to a PACS double from the first to the longest [m assumption]."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what.

    Attributes
    ----------
    quiet_s
        Seconds without an arrival that make arrivals quiet.
    released_quiet_s
        The same once every association that brought the study was released; None: ``quiet_s``.
    idle_timeout_s
        The receiver aborts an association that is silent for so long; nothing waits longer for one to end.
    wait_s
        How long a study that lacks something is waited for, from when that was first seen with the images it has.
    holds
        Whether one that still lacks something then is held for an operator.
    """

    quiet_s: float
    released_quiet_s: float | None = None
    idle_timeout_s: float = 0.0
    wait_s: float = 0.0
    holds: bool = False


@dataclass(frozen=True, slots=True)
class PacsWord:
    """What a PACS says of a study: how many instances it holds, and how many of those are here.

    ``silent``: it was not asked yet, or gave no usable answer; ``unknown``: it does not hold the study.
    """

    peer: str
    word: Literal["agrees", "differs", "unknown", "silent"]
    pacs_count: int = 0
    here_count: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a study is complete; ``sentence`` says what it lacks, also where it goes on all the same.

    Attributes
    ----------
    state
        ``complete``: it goes on; ``waiting_series``, ``waiting_pacs``: not yet; ``incomplete``: held for an operator.
    """

    state: Literal["complete", "waiting_series", "waiting_pacs", "incomplete"]
    sentence: str = ""


def has_news(study: StudyArrivals) -> bool:
    """Tell whether a study holds something no version covers.

    A study no version covers is news, whatever it holds, so that one that cannot be analysed gets its sentence. Later
    CT instances are, and a segmentation of our bones that a person corrected; what others add besides changes nothing.
    What consists of our own results alone never is.
    """
    if study.instance_count == 0:
        return False
    return study.ct_count > study.covered_ct or study.last_version == 0 or study.is_corrected_anew


def quiet_after_s(study: StudyArrivals, patience: Patience) -> float:
    """Return how long after its last arrival a study is quiet, s."""
    if study.open_count:
        return max(patience.quiet_s, patience.idle_timeout_s)
    if study.is_released and patience.released_quiet_s is not None:
        return patience.released_quiet_s
    return patience.quiet_s


def is_quiet(study: StudyArrivals, now: datetime, patience: Patience) -> bool:
    """Tell whether arrivals have been quiet long enough.

    Parameters
    ----------
    study
        The arrivals of one study.
    now
        Timezone-aware time.
    patience
        How long is long enough.
    """
    if study.unexamined_count:
        return False
    return now - study.last_arrival >= timedelta(seconds=quiet_after_s(study, patience))


def verdict(
    lacking: Sequence[str], words: Sequence[PacsWord], waits_from: datetime, now: datetime, patience: Patience
) -> Verdict:
    """Judge a study whose arrivals are quiet.

    Parameters
    ----------
    lacking
        What each required series that is not here would have to be.
    words
        One for every PACS that can be asked, the first that holds the study counts; none: nobody can be asked.
    waits_from
        Timezone-aware time from which ``wait_s`` counts: when it was first found to lack something with the images it
        has, or an operator's order to wait.
    now
        Timezone-aware time.
    patience
        How long it is waited for, and what follows.
    """
    counts = _counts_problem(words)
    problems = [f"It lacks a series its rule requires: {need}." for need in lacking] + ([counts[0]] if counts else [])
    if not problems:
        return Verdict("complete")
    sentence = " ".join(problems)
    if now < expires_at(waits_from, patience):
        return Verdict("waiting_series" if lacking else "waiting_pacs", sentence)
    is_known = bool(lacking) or (counts is not None and counts[1])
    return Verdict("incomplete" if patience.holds and is_known else "complete", sentence)


def expires_at(waits_from: datetime, patience: Patience) -> datetime:
    """Return when the waiting ends."""
    return waits_from + timedelta(seconds=patience.wait_s)


def _counts_problem(words: Sequence[PacsWord]) -> tuple[str, bool] | None:
    """Say what is wrong with the counts, and whether images are known to lack; None: nothing is."""
    is_silent = None
    for word in words:
        if word.word == "agrees":
            return None
        if word.word == "differs":
            return f"{word.peer} has {word.pacs_count} instances of the study, here are {word.here_count}.", True
        if word.word == "silent" and is_silent is None:
            is_silent = word.peer
    return None if is_silent is None else (f"{is_silent} has not said how many instances the study has.", False)


def pause_s(tries: int) -> float:
    """Return the pause before a PACS is asked again, after so many questions, s."""
    return float(min(FIRST_PAUSE_S * 2 ** min(tries - 1, 10), LONGEST_PAUSE_S))


def next_question_at(
    tries: int, asked_at: datetime, asked_of: int, study: StudyArrivals, settled: bool
) -> datetime | None:
    """Return when a PACS is asked (again); None: its answer stands.

    Parameters
    ----------
    tries, asked_at
        How often it was asked, and when last.
    asked_of
        Instances that were here then; another number now makes the answer stale.
    study
        The arrivals of the study.
    settled
        Whether the answer needs no second question.
    """
    if asked_of != study.instance_count:
        return study.last_arrival
    return None if settled else asked_at + timedelta(seconds=pause_s(tries))
