"""REST routes of studies and rules: what is where, why, and what an operator may change."""

from typing import get_args

from fastapi import APIRouter, HTTPException
from fastapi.responses import PlainTextResponse

from dicom_node import clock
from dicom_node.db.peers import all_peers
from dicom_node.db.routing import revisions
from dicom_node.db.session import Databases, transaction
from dicom_node.pipeline.routing import lacking_series
from dicom_node.pipeline.routing_rules import (
    FIELDS,
    OPERATORS,
    json_from_rules,
    rules_from_json,
    rules_from_toml,
    toml_from_rules,
)
from dicom_node.pipeline.routing_store import (
    Edit,
    RuleList,
    added,
    change_rules,
    compared,
    moved,
    order_study,
    removed,
    replaced,
    rules_in_force,
    rules_of_revision,
    switched,
)
from dicom_node.pipeline.routing_trials import try_study
from dicom_node.settings import SegmenterName, Settings
from dicom_node.web import study_views
from dicom_node.web.routing_schemas import (
    Change,
    FieldOut,
    ImportIn,
    ImportOut,
    MoveIn,
    OrderIn,
    OrderOut,
    RevisionOut,
    RuleIn,
    RulesOut,
    SeriesTrialOut,
    StudyOut,
    SwitchIn,
    TrialOut,
)

AS_DELIVERED = "as delivered"


def routing_routes(databases: Databases, settings: Settings) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/api")
    router.include_router(_study_routes(databases, settings))
    router.include_router(_rule_routes(databases))
    router.include_router(_history_routes(databases))
    return router


def _study_routes(databases: Databases, settings: Settings) -> APIRouter:
    router = APIRouter(tags=["studies"])

    @router.get("/studies")
    def studies(limit: int = study_views.LISTED) -> list[StudyOut]:
        """List the studies whose images came last, and where they stand."""
        return study_views.studies(databases, clock.now(), max(1, min(limit, 1000)))

    @router.get("/studies/{study_instance_uid}")
    def study(study_instance_uid: str) -> StudyOut:
        """Return one study."""
        found = study_views.study(databases, study_instance_uid)
        if found is None:
            raise HTTPException(404, "No image of such a study is here.")
        return found

    @router.post("/studies/{study_instance_uid}/orders", status_code=202)
    def order(study_instance_uid: str, wanted: OrderIn) -> OrderOut:
        """Have a study proceed as it is, be discarded, or wait and be looked at anew."""
        with transaction(databases.hospital) as session:
            made = order_study(session, study_instance_uid, wanted.action, wanted.actor, clock.now(), wanted.rule_name)
            return OrderOut.model_validate(made)

    @router.get("/studies/{study_instance_uid}/trial")
    def trial(study_instance_uid: str) -> list[TrialOut]:
        """Say which rule would take a study now, and why each earlier one does not."""
        tried, facts = try_study(databases, settings.hospital_dir, study_instance_uid)
        return [
            TrialOut(
                name=one.rule.name,
                takes=one.takes,
                reason=one.reason,
                series=[SeriesTrialOut.model_validate(series) for series in one.series],
                lacking=list(lacking_series(one.rule, facts)) if one.takes else [],
            )
            for one in tried
        ]

    return router


def _rule_routes(databases: Databases) -> APIRouter:
    router = APIRouter(prefix="/rules", tags=["rules"])

    def changed(edit: Edit, change: str, wanted: Change) -> RulesOut:
        with transaction(databases.hospital) as session:
            made = change_rules(session, edit, change, wanted.actor, clock.now(), wanted.based_on)
            return _rules_out(made, [peer.name for peer in all_peers(session)])

    @router.get("")
    def rules() -> RulesOut:
        """List the rules in force, first match first."""
        with transaction(databases.hospital) as session:
            return _rules_out(rules_in_force(session), [peer.name for peer in all_peers(session)])

    @router.post("", status_code=201)
    def add_rule(wanted: RuleIn) -> RulesOut:
        """Add a rule at the end."""
        return changed(added(wanted.rule), f"Added {wanted.rule.name}.", wanted)

    @router.put("/{name}")
    def edit_rule(name: str, wanted: RuleIn) -> RulesOut:
        """Put a rule in the place of another."""
        said = f"Changed {name}." if name == wanted.rule.name else f"Changed {name}, now {wanted.rule.name}."
        return changed(replaced(name, wanted.rule), said, wanted)

    @router.delete("/{name}")
    def delete_rule(name: str, wanted: Change) -> RulesOut:
        """Remove a rule; the history keeps it."""
        return changed(removed(name), f"Removed {name}.", wanted)

    @router.post("/{name}/place")
    def move_rule(name: str, wanted: MoveIn) -> RulesOut:
        """Move a rule to another place."""
        return changed(moved(name, wanted.place), f"Moved {name} to place {wanted.place}.", wanted)

    @router.post("/{name}/switch")
    def switch_rule(name: str, wanted: SwitchIn) -> RulesOut:
        """Switch a rule on or off."""
        said = f"Switched {name} {'on' if wanted.is_enabled else 'off'}."
        return changed(switched(name, is_enabled=wanted.is_enabled), said, wanted)

    return router


def _history_routes(databases: Databases) -> APIRouter:
    router = APIRouter(tags=["rules"])

    @router.get("/rule-history")
    def history() -> list[RevisionOut]:
        """List the changes of the rules, newest first."""
        with transaction(databases.hospital) as session:
            made = [
                RevisionOut(
                    number=one.number,
                    change=one.change,
                    actor=one.actor,
                    made_at=one.made_at,
                    rules=[rule.name for rule in rules_from_json(one.rules)],
                )
                for one in revisions(session)
            ]
            first = [rule.name for rule in rules_of_revision(session, 0)]
        return [*made, RevisionOut(number=0, change=AS_DELIVERED, actor="", made_at=None, rules=first)]

    @router.post("/rule-history/{number}/restore")
    def restore(number: int, wanted: Change) -> RulesOut:
        """Put the rules of an earlier revision in force again, as a new revision."""
        with transaction(databases.hospital) as session:
            old = rules_of_revision(session, number)
            change = f"Brought back revision {number}."
            made = change_rules(session, lambda _: old, change, wanted.actor, clock.now(), wanted.based_on)
            return _rules_out(made, [peer.name for peer in all_peers(session)])

    @router.get("/rule-file", response_class=PlainTextResponse)
    def export(form: str = "toml") -> str:
        """Write the rules in force as TOML or JSON."""
        with transaction(databases.hospital) as session:
            rules = rules_in_force(session).rules
        return json_from_rules(rules, indent=1) if form == "json" else toml_from_rules(rules)

    @router.post("/rule-file")
    def take(wanted: ImportIn) -> ImportOut:
        """Put the rules of a file in the place of those in force, or say what that would change."""
        rules = rules_from_json(wanted.text) if wanted.form == "json" else rules_from_toml(wanted.text)
        with transaction(databases.hospital) as session:
            difference = compared(rules_in_force(session).rules, rules)
            if not wanted.dry_run:
                change_rules(session, lambda _: rules, "Imported a file.", wanted.actor, clock.now(), wanted.based_on)
        return ImportOut(**difference)

    return router


def _rules_out(made: RuleList, peers: list[str]) -> RulesOut:
    fields = [FieldOut(name=name, kind=kind, meaning=meaning) for name, (kind, meaning) in FIELDS.items()]
    return RulesOut(
        number=made.number,
        rules=list(made.rules),
        hashes=[rule.hash for rule in made.rules],
        fields=fields,
        operators={str(key): words for key, words in OPERATORS.items()},
        peers=peers,
        segmenters=list(get_args(SegmenterName)),
    )
