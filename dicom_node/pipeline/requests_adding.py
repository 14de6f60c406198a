"""Adding requests: what this node can carry out, and what it is asked for already."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from dicom_node.db.models import Peer
from dicom_node.db.peers import all_peers
from dicom_node.db.requests import add_all, open_like, sameness
from dicom_node.errors import ConfigurationError
from dicom_node.pipeline.requests_input import Problem, RequestIn
from dicom_node.settings import Settings
from dicom_node.storage.files import new_id

NOTHING_YET = {
    "state": "WAITING",
    "sentence": "",
    "study_instance_uid": "",
    "found_patient_id": "",
    "received_count": 0,
    "attempts": 0,
    "claimed_by": "",
    "job_id": "",
}
"""Columns of a request that nobody has acted on."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and the line it stands on; 0 where it stands alone."""

    request: RequestIn
    line: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """The rows that can be written, and what is wrong with the others, by line."""

    rows: list[dict[str, Any]]
    problems: list[Problem]


def check_requests(session: Session, asked: Sequence[Asked], settings: Settings, now: datetime) -> Checked:
    """Find out which requests this node can carry out and is not asked for already; nothing is written.

    Parameters
    ----------
    session
        Of the hospital database.
    asked
        Requests that are right by themselves.
    settings
        The node's settings.
    now
        Timezone-aware time of the rows.
    """
    peers = {peer.name: peer for peer in all_peers(session) if peer.is_queried}
    problems: list[Problem] = []
    rows: list[dict[str, Any]] = []
    for one in asked:
        problem = _misfit(one, peers, settings)
        if problem is None:
            rows.append(_row(one, peers, settings, now))
        else:
            problems.append(problem)
    rows, again = _without_duplicates(session, rows)
    return Checked(rows, sorted([*problems, *again], key=lambda problem: problem.line))


def add_request(session: Session, request: RequestIn, settings: Settings, now: datetime) -> str:
    """Add one request; return its id.

    Raises
    ------
    ConfigurationError
        When the node cannot carry it out, or is asked for it already.
    """
    checked = check_requests(session, [Asked(request)], settings, now)
    for problem in checked.problems:
        raise ConfigurationError(f"{str(problem)[0].upper()}{str(problem)[1:]}.")
    add_all(session, checked.rows)
    return str(checked.rows[0]["id"])


def _misfit(one: Asked, peers: dict[str, Peer], settings: Settings) -> Problem | None:
    """Say why this node cannot carry out a request."""
    request = one.request
    if request.project not in ("", settings.project):
        sentence = f"this node keeps the one project {settings.project} (setting project); leave it out or name that"
        return Problem(one.line, "project", sentence)
    if not peers:
        return Problem(one.line, "", "no peer is queried for studies; set is_queried for your PACS first")
    if request.source and request.source not in peers:
        return Problem(one.line, "source", f"is no peer that is queried; those are {', '.join(sorted(peers))}")
    return None


def _row(one: Asked, peers: dict[str, Peer], settings: Settings, now: datetime) -> dict[str, Any]:
    return {
        **one.request.columns(),
        **NOTHING_YET,
        "id": new_id(),
        "batch_id": None,
        "batch_line": one.line,
        "project": settings.project,
        "source_peer_id": peers[one.request.source].id if one.request.source else None,
        "due_at": now,
        "created_at": now,
        "updated_at": now,
    }


def _without_duplicates(session: Session, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Part rows from those that ask for what another one asks for, or bear its reference."""
    whose = dict.fromkeys(open_like(session, rows), "an open request")
    kept, problems = [], []
    for row in rows:
        named, sought = ("reference", row["reference"]), sameness(row)
        if named in whose:
            problems.append(Problem(row["batch_line"], "reference", f"{whose[named]} has it already"))
        elif sought in whose:
            problems.append(Problem(row["batch_line"], "", f"{whose[sought]} asks for the same study already"))
        else:
            kept.append(row)
            whose |= {named: f"line {row['batch_line']}", sought: f"line {row['batch_line']}"}
    return kept, problems
