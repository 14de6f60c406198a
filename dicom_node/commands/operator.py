"""Who runs a command: the operating system's word for it, as both audits name people; and which commands are told of.

Commands that tell more than their name do so themselves (`idmap`, `deid`, `import`, `audit`).
"""

import argparse
import os
import pwd
import socket
from typing import Literal

from dicom_node.audit.events import Party, configuration_changed, operator_action
from dicom_node.audit.recorder import record
from dicom_node.db.session import open_databases
from dicom_node.settings import Settings

Kind = Literal["network", "software", "operator"]
MODULES: dict[str, Kind] = {
    "peers": "network",
    "routing": "software",
    "deliveries": "operator",
    "jobs": "operator",
    "requests": "operator",
}
"""Modules whose commands change something, and what; a new command of theirs is told of unless it is listed below."""
ACTIONS = ("peers:send", "routing:order")
"""What an operator does, among commands that else change the configuration."""
READING = frozenset(
    {
        *("peers:list_peers", "peers:verify"),
        *("routing:list_rules", "routing:list_studies", "routing:test", "routing:export", "routing:history"),
        *("deliveries:list_all", "deliveries:show"),
        *("jobs:list_jobs", "jobs:show", "jobs:work"),
        *("requests:list_all", "requests:show", "requests:results"),
    }
)
NAMED = ("name", "job", "study", "request", "delivery", "number", "action")
"""Options that may be told: names of peers, rules and people's choices, random ids, study UIDs."""


def tell_of_command(settings: Settings, run: str, options: argparse.Namespace) -> None:
    """Tell that somebody ran a command of `MODULES`, unless it only reads."""
    if run in READING:
        return
    kind = "operator" if run in ACTIONS else MODULES[run.partition(":")[0]]
    words = [str(getattr(options, name)) for name in NAMED if getattr(options, name, None)]
    sentence = " ".join([f"Command {run.replace(':', ' ')}", *words])
    resource = run.replace(":", "/")
    who = operator()
    event = (
        operator_action(who, resource, sentence)
        if kind == "operator"
        else configuration_changed(who, kind, resource, sentence)
    )
    databases = open_databases(settings)
    record(databases, settings, event)
    databases.dispose()


def login_name() -> str:
    """Return the operating system's name of whoever runs this; the environment could say anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name[:18]
    except KeyError:
        return f"uid {os.getuid()}"


def operator() -> Party:
    """Return who runs this, as PS3.15 A.5.2.1 wants people named: login@domain."""
    host = socket.gethostname()
    return Party(f"{login_name()}@{host}", address=host)
