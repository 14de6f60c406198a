"""``osteonode rule ...`` and ``osteonode study ...``: the same rules and orders as on the pages."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from dicom_node import clock
from dicom_node.commands.operator import login_name
from dicom_node.db.routing import revisions
from dicom_node.db.session import prepare_databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.pipeline.routing import Trial, lacking_series
from dicom_node.pipeline.routing_rules import (
    Condition,
    Rule,
    json_from_rules,
    rules_from_json,
    rules_from_toml,
    toml_from_rules,
)
from dicom_node.pipeline.routing_store import (
    Edit,
    added,
    change_rules,
    compared,
    moved,
    order_study,
    removed,
    rules_in_force,
    rules_of_revision,
    switched,
)
from dicom_node.pipeline.routing_trials import try_folder, try_study
from dicom_node.settings import Settings
from dicom_node.web.study_views import studies

LISTS = ("one_of", "between")
JSON_SUFFIX = ".json"


def list_rules(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the rules in force."""
    del options
    with transaction(prepare_databases(settings).hospital) as session:
        found = rules_in_force(session)
    for place, rule in enumerate(found.rules, start=1):
        off = "" if rule.is_enabled else " (off)"
        say = [
            f"{place}. {rule.name}{off}, {rule.hash[:12]}",
            f"   takes a study in which one series satisfies: {_words(rule.conditions) or 'anything'}",
            *([f"   unless a series satisfies one of: {_words(rule.unless)}"] if rule.unless else []),
            *(f"   needs {need.name}: {_words(need.conditions)}" for need in rule.required_series),
            f"   then {_bones(rule)}, priority {rule.priority}, results to {_peers(rule)}",
        ]
        console.print("\n".join(say), highlight=False, markup=False)
    console.print(f"Revision {found.number}.", highlight=False)


def _bones(rule: Rule) -> str:
    finder = f" by {rule.segmenter}" if rule.segmenter else ""
    return f"{' and '.join(rule.pipelines)}{finder}"


def _peers(rule: Rule) -> str:
    return ", ".join(rule.destinations) or "the peers that receive results"


def _words(conditions: Sequence[Condition]) -> str:
    return "; ".join(one.words for one in conditions)


def add_rule(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Add a rule at the end, or at a place."""
    try:
        rule = Rule(
            name=options.name,
            conditions=tuple(_condition(words) for words in options.when),
            unless=tuple(_condition(words) for words in options.unless),
            pipelines=tuple(options.pipelines.split(",")),
            segmenter=options.segmenter,
            priority=options.priority,
            destinations=tuple(options.to),
        )
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise ConfigurationError(f"{place}: {problem['msg'].removeprefix('Value error, ')}.") from None
    _change(settings, options, added(rule), f"Added {rule.name}.")
    if options.place:
        _change(settings, options, moved(rule.name, options.place), f"Moved {rule.name} to place {options.place}.")
    console.print(f"Rule {rule.name} added.", highlight=False)


def remove_rule(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Remove a rule; the history keeps it."""
    _change(settings, options, removed(options.name), f"Removed {options.name}.")
    console.print(f"Rule {options.name} removed; osteonode rule history shows how to bring it back.", highlight=False)


def switch_rule(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Switch a rule on or off."""
    words = "on" if options.is_enabled else "off"
    _change(
        settings, options, switched(options.name, is_enabled=options.is_enabled), f"Switched {options.name} {words}."
    )
    console.print(f"Rule {options.name} switched {words}.", highlight=False)


def move_rule(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Move a rule to a place."""
    _change(settings, options, moved(options.name, options.place), f"Moved {options.name} to place {options.place}.")
    console.print(f"Rule {options.name} moved.", highlight=False)


def history(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the changes of the rules."""
    del options
    table = Table("revision", "when", "who", "what", "rules then")
    with transaction(prepare_databases(settings).hospital) as session:
        for one in revisions(session):
            names = ", ".join(rule.name for rule in rules_from_json(one.rules))
            table.add_row(str(one.number), f"{one.made_at:%Y-%m-%d %H:%M:%S} UTC", one.actor, one.change, names)
        first = ", ".join(rule.name for rule in rules_of_revision(session, 0))
    table.add_row("0", "", "", "as delivered", first)
    console.print(table)


def restore(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Put the rules of an earlier revision in force again."""
    with transaction(prepare_databases(settings).hospital) as session:
        old = rules_of_revision(session, options.revision)
        change = f"Brought back revision {options.revision}."
        made = change_rules(session, lambda _: old, change, _actor(options), clock.now())
    console.print(f"The rules of revision {options.revision} are in force, as revision {made.number}.", highlight=False)


def export(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Write the rules in force to a new file, TOML or JSON by its name."""
    if options.file.exists():
        raise ConfigurationError(f"{options.file} is there already; name a new file.")
    with transaction(prepare_databases(settings).hospital) as session:
        rules = rules_in_force(session).rules
    is_json = options.file.suffix.lower() == JSON_SUFFIX
    options.file.write_text(json_from_rules(rules, indent=1) + "\n" if is_json else toml_from_rules(rules))
    console.print(f"{len(rules)} rules written to {options.file}.", highlight=False, markup=False)


def take(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Put the rules of a file in the place of those in force."""
    try:
        text = options.file.read_text()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{options.file} cannot be read as text.") from None
    is_json = options.file.suffix.lower() == JSON_SUFFIX
    rules = rules_from_json(text) if is_json else rules_from_toml(text)
    with transaction(prepare_databases(settings).hospital) as session:
        difference = compared(rules_in_force(session).rules, rules)
        if not options.dry_run:
            change_rules(session, lambda _: rules, f"Imported {options.file.name}.", _actor(options), clock.now())
    for what, names in difference.items():
        if names:
            console.print(f"{what}: {', '.join(names)}", highlight=False, markup=False)
    if options.dry_run:
        console.print("Nothing was changed.", highlight=False)


def test(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print which rule would take a study, and why each earlier one does not."""
    databases = prepare_databases(settings)
    if Path(options.study).is_dir():
        with transaction(databases.hospital) as session:
            rules = rules_in_force(session).rules
        tried, facts = try_folder(rules, Path(options.study).resolve(), options.calling_aet)
    else:
        tried, facts = try_study(databases, settings.hospital_dir, options.study)
    for trial in tried:
        _print_trial(trial, console)
    taken = next((trial.rule for trial in tried if trial.takes), None)
    if taken is None:
        console.print("No rule takes it.", highlight=False)
        return
    for need in lacking_series(taken, facts):
        console.print(f"It still needs the series {need}.", highlight=False, markup=False)


def _print_trial(trial: Trial, console: Console) -> None:
    console.print(
        f"{trial.rule.name}: {'takes it' if trial.takes else 'does not take it'}. {trial.reason}",
        highlight=False,
        markup=False,
    )
    for series in trial.series:
        for finding in series.findings:
            said = f"    {'yes' if finding.holds else 'no '}  {series.title}: {finding.sentence}"
            console.print(said, highlight=False, markup=False)


def list_studies(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print where the studies stand."""
    databases = prepare_databases(settings)
    table = Table("study", "images", "state", "what is said of it", "version", "last image")
    for one in studies(databases, clock.now(), options.last):
        table.add_row(
            one.study_instance_uid,
            str(one.instance_count),
            one.state,
            one.sentence,
            str(one.version or ""),
            f"{one.last_arrival:%Y-%m-%d %H:%M:%S} UTC",
        )
    console.print(table)


def order(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Have a study proceed as it is, be discarded, or wait and be looked at anew."""
    with transaction(prepare_databases(settings).hospital) as session:
        order_study(
            session,
            options.study,
            options.action,
            _actor(options),
            clock.now(),
            getattr(options, "rule", None) or "",
        )
    console.print("Noted; the running node carries it out within a second.", highlight=False)


def _change(settings: Settings, options: argparse.Namespace, edit: Edit, change: str) -> None:
    with transaction(prepare_databases(settings).hospital) as session:
        change_rules(session, edit, change, _actor(options), clock.now())


def _condition(words: Sequence[str]) -> Condition:
    """Read a condition from the words of a command line; lists have commas between their values.

    Raises
    ------
    ConfigurationError
        When there are not two or three words.
    """
    if len(words) not in (2, 3):
        raise ConfigurationError("A condition is a field, an operator and, but for present and absent, a value.")
    field, operator, value = (*words, "")[:3]
    values = [_value(field, operator, part) for part in value.split(",")] if operator in LISTS else None
    single = _value(field, operator, value) if value else None
    return Condition.model_validate({"field": field, "operator": operator, "value": values or single})


def _value(field: str, operator: str, text: str) -> str | float:
    """Return a number where the field or the comparison takes numbers and the text is one."""
    try:
        number = float(text)
        Condition.model_validate({"field": field, "operator": "is", "value": number})
    except (ValueError, ValidationError):
        return text.strip()
    is_tag_in_words = field.startswith("tag:") and operator not in ("at_least", "at_most", "between")
    return text.strip() if is_tag_in_words else number


def _actor(options: argparse.Namespace) -> str:
    return str(options.administrator or login_name())
