"""Where one study stands: from its arrivals, orders, rules and counts to a decision. A function of plain values.

The decision is carried out by ``dicom_node.pipeline.dispatch``; this module reads no clock, file or database.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dicom_node.db.models import Peer
from dicom_node.db.routing_tables import PacsAnswer, StudyOrder, StudyRoute
from dicom_node.db.studies import StudyArrivals
from dicom_node.pipeline.routing import SeriesFacts, first_match, lacking_series
from dicom_node.pipeline.routing_counts import Question
from dicom_node.pipeline.routing_rules import Rule
from dicom_node.storage.completeness import (
    PacsWord,
    Patience,
    expires_at,
    has_news,
    is_quiet,
    next_question_at,
    verdict,
)

SETTLED = ("agrees", "unknown")
WAITING = ("waiting_series", "waiting_pacs")
LOOK_AGAIN = timedelta(seconds=60)
"""A waiting study is looked at again after this long at the latest, whatever became of a question."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a decision on one study needs.

    Attributes
    ----------
    study
        Its arrivals.
    route
        Where it stood; None: it was never looked at.
    order
        The newest order of an operator; None: there was none.
    peers
        PACSs to ask, those that sent it first.
    answers
        What they said last.
    """

    study: StudyArrivals
    route: StudyRoute | None
    order: StudyOrder | None
    peers: tuple[Peer, ...] = ()
    answers: tuple[PacsAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a study stands now, and what follows.

    Attributes
    ----------
    state, sentence
        For the study's row.
    rule
        The rule that takes it, where it goes on; ``None`` otherwise.
    incomplete
        What it lacks where it goes on all the same.
    forced_by
        The operator who made it go on.
    questions
        To ask of PACSs.
    due_at
        When to look again without news; None: not without news.
    """

    state: str
    sentence: str = ""
    rule: Rule | None = None
    incomplete: str = ""
    forced_by: str = ""
    questions: tuple[Question, ...] = ()
    due_at: datetime | None = None


Facts = Callable[[], Sequence[SeriesFacts]]
"""Reads what rules ask of the study; called only when a rule has to be found."""


def decide(case: Case, rules: Sequence[Rule], facts: Facts, now: datetime, patience: Patience) -> Decision | None:
    """Decide on one study; None: nothing changes.

    Parameters
    ----------
    case
        The study.
    rules
        Those in force, in order.
    facts
        Reads its headers.
    now
        Timezone-aware time.
    patience
        What the settings say about waiting; the rule may say otherwise.
    """
    study, order, route = case.study, case.order, case.route
    if study.instance_count == 0:
        is_known = route is not None and route.state == "own"
        said = "It consists of results of an OsteoNode; they are never analysed."
        return None if is_known or study.unexamined_count else Decision("own", said)
    if order is not None and order.action == "discard":
        said = f"Discarded by {order.actor}; the images are kept."
        is_known = route is not None and (route.state, route.sentence) == ("discarded", said) and not order.is_open
        return None if is_known else Decision("discarded", said)
    if order is not None and order.is_open and order.action == "proceed" and (order.rule_name or has_news(study)):
        return _forced(case, order, rules, facts())
    if not has_news(study):
        return _kept_up(case)
    if _is_settled(case):
        return None
    if not is_quiet(study, now, patience):
        return None if route is None or route.state == "arriving" else Decision("arriving")
    return _judged(case, rules, facts(), now, patience)


def again_at(case: Case, decision: Decision | None, patience: Patience) -> datetime | None:
    """Return from when on a study that is arriving may be quiet; None for one that only news or its row can change."""
    is_over = decision is not None and decision.state != "arriving"
    if is_over or not has_news(case.study) or _is_settled(case):
        return None
    shortest_s = min(patience.quiet_s, patience.released_quiet_s or patience.quiet_s)
    return case.study.last_arrival + timedelta(seconds=shortest_s)


def _is_settled(case: Case) -> bool:
    """Tell whether nothing came since the study was left without a rule, or to an operator."""
    route, order = case.route, case.order
    if route is None or (order is not None and order.is_open):
        return False
    return route.state in ("no_rule", "incomplete") and _is_unchanged(route, case.study)


def _is_unchanged(route: StudyRoute, study: StudyArrivals) -> bool:
    return route.instance_count == study.instance_count and route.last_arrival >= study.last_arrival


def _kept_up(case: Case) -> Decision | None:
    """Keep the row of a study without news up to date: versions older than the rows, and what others add to it."""
    route, study = case.route, case.study
    if route is None:
        return Decision("routed", f"Version {study.last_version}.")
    if route.state == "routed" and _is_unchanged(route, study):
        return None
    return Decision("routed", route.sentence if route.state == "routed" else f"Version {study.last_version}.")


def _forced(case: Case, order: StudyOrder, rules: Sequence[Rule], series: Sequence[SeriesFacts]) -> Decision:
    """Go on because an operator said so: by the rule named, or the first that takes it."""
    if order.rule_name:
        rule = next((one for one in rules if one.name == order.rule_name), None)
        missing = f"{order.actor} routed it by rule {order.rule_name}, which does not exist any more."
    else:
        rule = first_match(rules, series)
        missing = f"{order.actor} had it proceed, but no rule takes it; route it by a rule of your choice."
    if rule is None:
        return Decision("no_rule", missing)
    lacking = lacking_series(rule, series)
    differs = [word for word in _words(case, rule) if word.word == "differs"]
    problems = [f"It lacks a series its rule requires: {need}." for need in lacking]
    problems += [
        f"{word.peer} has {word.pacs_count} instances of the study, here are {word.here_count}." for word in differs
    ]
    return _taken(rule, " ".join(problems), order.actor)


def _judged(
    case: Case, rules: Sequence[Rule], series: Sequence[SeriesFacts], now: datetime, patience: Patience
) -> Decision:
    rule = first_match(rules, series)
    if rule is None:
        return Decision("no_rule", "No rule takes it; the images are kept. See Rules, or route it by hand.")
    own, since = _patience(rule, patience), _waits_from(case, now)
    found = verdict(lacking_series(rule, series), _words(case, rule), since, now, own)
    if found.state == "complete":
        return _taken(rule, found.sentence, "")
    if found.state == "incomplete":
        return Decision("incomplete", f"{found.sentence} Held for an operator.")
    questions, again = _questions(case, rule, now)
    return Decision(found.state, found.sentence, questions=questions, due_at=min(again, expires_at(since, own)))


def _waits_from(case: Case, now: datetime) -> datetime:
    """Return since when it has waited with the images it has now, or by an operator's order."""
    route, order = case.route, case.order
    is_waiting = route is not None and route.state in WAITING and _is_unchanged(route, case.study)
    since = route.since if route is not None and is_waiting else now
    return max(since, order.ordered_at) if order is not None and order.action == "wait" else since


def _taken(rule: Rule, incomplete: str, forced_by: str) -> Decision:
    parts = [f"Rule {rule.name} took it."]
    if forced_by:
        parts.append(f"Forced by {forced_by}.")
    if incomplete:
        parts.append(f"Incomplete: {incomplete}")
    return Decision("routed", " ".join(parts)[:1000], rule, incomplete[:500], forced_by)


def _patience(rule: Rule, patience: Patience) -> Patience:
    """Return what the rule says about waiting, and the settings where it says nothing."""
    asked = rule.completeness
    return Patience(
        quiet_s=patience.quiet_s,
        released_quiet_s=patience.released_quiet_s,
        idle_timeout_s=patience.idle_timeout_s,
        wait_s=patience.wait_s if asked.wait_s is None else asked.wait_s,
        holds=patience.holds if asked.then is None else asked.then == "hold",
    )


def _asked(case: Case, rule: Rule) -> tuple[Peer, ...]:
    return () if rule.completeness.pacs == "off" else case.peers


def _answer(case: Case, peer: Peer) -> PacsAnswer | None:
    return next((answer for answer in case.answers if answer.peer_id == peer.id), None)


def _words(case: Case, rule: Rule) -> tuple[PacsWord, ...]:
    """Return what each PACS says now; an answer to other numbers, or to another question, is none."""
    words = []
    for peer in _asked(case, rule):
        answer = _answer(case, peer)
        if answer is None or not _is_about(answer, case.study, rule):
            words.append(PacsWord(peer.name, "silent"))
        else:
            words.append(PacsWord(peer.name, answer.word, answer.pacs_count, answer.here_count))  # type: ignore[arg-type]  # the table's CHECK holds the words
    return tuple(words)


def _is_about(answer: PacsAnswer, study: StudyArrivals, rule: Rule) -> bool:
    return answer.instance_count == study.instance_count and answer.scope == rule.completeness.pacs


def _questions(case: Case, rule: Rule, now: datetime) -> tuple[tuple[Question, ...], datetime]:
    """Return what to ask now, and when to ask next."""
    asks, later = [], [now + LOOK_AGAIN]
    for peer in _asked(case, rule):
        answer = _answer(case, peer)
        question = Question(case.study.study_instance_uid, peer.id, rule.completeness.pacs)
        if answer is None or not _is_about(answer, case.study, rule):
            asks.append(question)
            continue
        at = next_question_at(
            answer.tries, answer.asked_at, answer.instance_count, case.study, settled=answer.word in SETTLED
        )
        if at is not None and at <= now:
            asks.append(question)
        elif at is not None:
            later.append(at)
    return tuple(asks), min(later)
