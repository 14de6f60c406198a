"""Rules as the node keeps them: a list in force, changed as a whole, every earlier list kept as history.

Every change names who made it and the revision it was based on, so that two people never undo each other's work
unknowingly. Rules count for versions made after the change; what is routed stays as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from dicom_node.db.routing import add_revision, find_revision, newest_revision, unknown_peers
from dicom_node.db.routing_tables import RuleRevision, StudyOrder
from dicom_node.db.studies import arrivals, these_studies
from dicom_node.errors import ConfigurationError, NotFound
from dicom_node.pipeline.routing_rules import DEFAULT_RULES, Rule, checked, json_from_rules, rules_from_json
from dicom_node.storage.completeness import has_news

ACTOR_LENGTH = 64
UNKNOWN_ACTOR = "unknown"


@dataclass(frozen=True, slots=True)
class RuleList:
    """The rules in force, and the number of their revision; 0: those of a fresh install."""

    number: int
    rules: tuple[Rule, ...]

    def named(self, name: str) -> Rule:
        """Return a rule by name.

        Raises
        ------
        NotFound
            When there is no such rule.
        """
        rule = next((one for one in self.rules if one.name == name), None)
        if rule is None:
            raise NotFound(f"There is no rule named {name}; osteonode rule list shows them.")
        return rule


Edit = Callable[[RuleList], Sequence[Rule]]
"""Makes the new list from the one in force."""


def rules_in_force(session: Session) -> RuleList:
    """Return the rules in force."""
    revision = newest_revision(session)
    if revision is None:
        return RuleList(0, DEFAULT_RULES)
    return RuleList(revision.number, rules_from_json(revision.rules))


def rules_of_revision(session: Session, number: int) -> tuple[Rule, ...]:
    """Return the rules of a revision.

    Raises
    ------
    NotFound
        When there is none of that number.
    """
    return DEFAULT_RULES if number == 0 else rules_from_json(find_revision(session, number).rules)


def change_rules(
    session: Session, edit: Edit, change: str, actor: str, now: datetime, based_on: int | None = None
) -> RuleList:
    """Put a changed list of rules in force.

    Parameters
    ----------
    session
        Hospital side.
    edit
        Makes the new list.
    change
        Sentence for the history.
    actor
        Who changes it.
    now
        Timezone-aware time.
    based_on
        Number of the revision that was looked at; None: the one in force.

    Raises
    ------
    ConfigurationError
        When no actor is named, a rule is not valid or names a peer that is not there, or somebody else changed the
        rules after that revision.
    """
    actor = require_actor(actor)
    old = rules_in_force(session)
    rules = checked([rule.model_dump() for rule in edit(old)])
    names = list(dict.fromkeys(name for rule in rules for name in rule.destinations))
    was_named = {name for rule in old.rules for name in rule.destinations}
    unknown = [name for name in unknown_peers(session, names) if name not in was_named]
    if unknown:
        raise ConfigurationError(f"There is no peer named {unknown[0]}; osteonode peer list shows them.")
    if rules == old.rules and based_on in (None, old.number):
        return old
    number = old.number + 1
    revision = RuleRevision(number=number, rules=json_from_rules(rules), change=change[:200], actor=actor, made_at=now)
    add_revision(session, revision, old.number if based_on is None else based_on)
    return RuleList(number, rules)


def added(rule: Rule) -> Edit:
    """Add a rule at the end.

    A list in which one has its name is refused when it is put in force.
    """
    return lambda old: (*old.rules, rule)


def replaced(name: str, rule: Rule) -> Edit:
    """Put a rule in the place of the one of that name."""

    def edit(old: RuleList) -> Sequence[Rule]:
        old.named(name)
        return [rule if one.name == name else one for one in old.rules]

    return edit


def removed(name: str) -> Edit:
    """Take a rule out; the history keeps it."""

    def edit(old: RuleList) -> Sequence[Rule]:
        old.named(name)
        return [one for one in old.rules if one.name != name]

    return edit


def switched(name: str, *, is_enabled: bool) -> Edit:
    """Switch a rule on or off."""

    def edit(old: RuleList) -> Sequence[Rule]:
        return replaced(name, old.named(name).model_copy(update={"is_enabled": is_enabled}))(old)

    return edit


def moved(name: str, place: int) -> Edit:
    """Move a rule to a place, the first being 1; a place beyond the last is the last."""

    def edit(old: RuleList) -> Sequence[Rule]:
        rest = [one for one in old.rules if one.name != name]
        rest.insert(max(place - 1, 0), old.named(name))
        return rest

    return edit


def order_study(
    session: Session, study_instance_uid: str, action: str, actor: str, now: datetime, rule_name: str = ""
) -> StudyOrder:
    """Note what an operator orders for a study; the next pass carries it out.

    Parameters
    ----------
    session
        Hospital side.
    study_instance_uid
        The original study.
    action
        ``proceed``: analyse what is here; ``discard``: do not; ``wait``: look at it anew by the rules, and wait.
    actor
        Who orders it.
    now
        Timezone-aware time.
    rule_name
        The rule that takes it, for ``proceed``; empty: the first whose conditions it satisfies.

    Raises
    ------
    NotFound
        When no image of the study is here, or there is no such rule.
    ConfigurationError
        When no actor is named, or the study has nothing that was not taken already.
    """
    actor = require_actor(actor)
    found = arrivals(session, these_studies([study_instance_uid]))
    if not found or found[0].instance_count == 0:
        raise NotFound("No image of such a study is here.")
    if rule_name:
        rules_in_force(session).named(rule_name)
    if not has_news(found[0]) and not (action == "proceed" and rule_name):
        raise ConfigurationError(
            "The study is routed, and nothing came since; run its job again, or route it by a rule that you name."
        )
    order = StudyOrder(
        study_instance_uid=study_instance_uid,
        action=action,
        rule_name=rule_name if action == "proceed" else "",
        actor=actor,
        ordered_at=now,
        is_open=True,
    )
    session.add(order)
    session.flush()
    return order


def require_actor(actor: str) -> str:
    """Return who does something.

    Raises
    ------
    ConfigurationError
        When nobody is named, or no name it can be.
    """
    name = " ".join(actor.split())
    if not name or len(name) > ACTOR_LENGTH or not name.isprintable():
        raise ConfigurationError(f"Say who does this: a name of 1 to {ACTOR_LENGTH} characters.")
    return name


def compared(old: Sequence[Rule], new: Sequence[Rule]) -> dict[str, list[str]]:
    """Return the names of rules that were added, removed, changed (also in their place) and left as they were."""
    before = {rule.name: (place, rule) for place, rule in enumerate(old)}
    after = {rule.name: (place, rule) for place, rule in enumerate(new)}
    both = [name for name in after if name in before]
    return {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [name for name in both if before[name] != after[name]],
        "unchanged": [name for name in both if before[name] == after[name]],
    }
