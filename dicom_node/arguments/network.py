"""Arguments of what speaks to others: peers, deliveries, requests, rules, imports."""

import argparse
from pathlib import Path

from dicom_node.arguments.table import count, row


def add_peer(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: peers."""
    peer = commands.add_parser("peer", help="list, add, set, remove or verify peers, or send to one")
    actions = peer.add_subparsers(required=True, metavar="ACTION")
    row(actions, "list", "list the peers", "peers:list_peers")
    add = row(actions, "add", "add a peer", "peers:add")
    add.add_argument("name")
    add.add_argument(
        "--kind",
        choices=("dimse", "dicomweb", "orthanc"),
        default="dimse",
        help="how it is spoken to: DIMSE (default), DICOMweb, or an Orthanc's own REST interface",
    )
    change = row(actions, "set", "change a peer; what is not named stays", "peers:set_peer")
    change.add_argument("name")
    for action in (add, change):
        action.add_argument("--aet", help="its AE title")
        action.add_argument("--host")
        action.add_argument("--port", type=int)
        action.add_argument("--url", help="base address of a DICOMweb service or an Orthanc")
        action.add_argument("--credentials-file", metavar="FILE", help="file with its user and password, or token")
        action.add_argument(
            "--allow-host",
            action="append",
            metavar="ADDRESS",
            help="IP address or network it may call from (10.1.0.0/16); may be given again; default: any",
        )
        action.add_argument("--max-associations", type=int, help="associations it may have open at the same time")
        action.add_argument("--objects", metavar="LIST", help="results it gets: sr,seg,sc,pdf or some of them")
        action.add_argument(
            "--sr-class", metavar="CLASS", help="auto (default), comprehensive_3d, comprehensive, enhanced, basic_text"
        )
        action.add_argument("--retrieve-by", choices=("get", "move"), help="how requests retrieve from it")
        action.add_argument("--requests-per-minute", type=int, metavar="N", help="retrievals in a minute, at most")
        for flag, words in (
            ("send", "it may send to the node"),
            ("results", "it gets results"),
            ("tls", "call it over TLS"),
            ("queried", "requests look for studies there"),
            ("commitment", "ask it for storage commitment of what it was sent"),
            ("check", "ask it by a query whether it holds what it was sent"),
        ):
            action.add_argument(f"--{flag}", action=argparse.BooleanOptionalAction, help=words)
    row(actions, "remove", "remove a peer", "peers:remove").add_argument("name")
    row(actions, "restore", "take back that a peer was removed", "peers:restore").add_argument("name")
    row(actions, "echo", "verify a peer", "peers:verify").add_argument("name")
    send = row(actions, "send", "send the DICOM files of a folder to a peer", "peers:send")
    send.add_argument("name")
    send.add_argument("folder", type=Path)


def add_delivery(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: deliveries."""
    delivery = commands.add_parser("delivery", help="where results are: list, show, retry, give up, send again")
    actions = delivery.add_subparsers(required=True, metavar="ACTION")
    listing = row(actions, "list", "list the deliveries that changed last", "deliveries:list_all")
    listing.add_argument("--state", choices=("PENDING", "SENT", "COMMITTED", "CONFIRMED", "FAILED"))
    listing.add_argument("--last", type=count, default=50, metavar="N", help="deliveries to list (default 50)")
    again = row(actions, "retry", "try deliveries that wait or failed now", "deliveries:try_again")
    again.add_argument("delivery", type=int, nargs="*")
    for action, words in ((listing, "only to this peer"), (again, "every one to this peer")):
        action.add_argument("--peer", metavar="NAME", help=words)
    for name, words, function in (
        ("show", "print what the peer said of every object", "show"),
        ("give-up", "end a delivery that waits", "end"),
        ("undo", "take back that a delivery was given up", "take_back"),
    ):
        row(actions, name, words, f"deliveries:{function}").add_argument("delivery", type=int)
    send = row(actions, "send", "send everything of a delivery once more", "deliveries:send")
    send.add_argument("delivery", type=int)
    send.add_argument("peer", help="name of the peer that gets it")


def add_request(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: requests."""
    request = commands.add_parser("request", help="ask a PACS for studies, one by one or by a CSV file")
    actions = request.add_subparsers(required=True, metavar="ACTION")
    add = row(actions, "add", "ask for the analysis of a patient's study", "requests:add")
    add.add_argument("reference", help="job reference; goes to the research side too")
    for name, text in (
        ("patient-id", "as the PACS has it; - reads it from standard input"),
        ("accession-number", "the same for the accession number"),
        ("project", "default: the node's own"),
        ("age-years", None),
        ("sex", "F, M or O"),
        ("weight-kg", None),
        ("height-m", None),
        ("height-cm", None),
        ("ethnicity", None),
        ("priority", "urgent, normal (default) or offpeak"),
        ("study-date-from", "YYYY-MM-DD"),
        ("study-date-to", "YYYY-MM-DD"),
        ("modality", "default: CT"),
        ("source", "name of the one peer to ask; default: every one that is queried"),
    ):
        add.add_argument(f"--{name}", help=text)
    listing = row(actions, "list", "list batches and the newest requests", "requests:list_all")
    listing.add_argument("--state", help="only those that are so: waiting, choose, retrieving, received, done, failed")
    listing.add_argument("--batch", metavar="ID", help="only those of a batch")
    listing.add_argument("--last", type=count, default=50, metavar="N", help="requests to list (default 50)")
    row(actions, "show", "print one request with its matches and its history", "requests:show").add_argument("request")
    choose = row(actions, "choose", "choose the study that is meant", "requests:choose")
    choose.add_argument("request")
    choose.add_argument("match", type=int)
    end = row(actions, "cancel", "cancel a request", "requests:end")
    end.add_argument("request", help="id of the request")
    end.add_argument("--batch", action="store_true", help="it is the id of a batch: cancel the rest of that")
    again = row(actions, "retry", "begin requests that failed or were cancelled again", "requests:again")
    again.add_argument("request", nargs="+")
    batch = row(actions, "batch", "ask for every study of a CSV file", "requests:batch")
    batch.add_argument("file", type=Path)
    batch.add_argument("--dry-run", action="store_true", help="check the file and write nothing")
    batch.add_argument("--skip-bad", action="store_true", help="ask for the good rows of a file with bad ones")
    results = row(actions, "results", "write the results of a batch to a CSV file, by reference", "requests:results")
    results.add_argument("batch", help="id of the batch")
    results.add_argument("file", type=Path, help="a new file")


def add_routing(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: rules and studies."""
    rule = commands.add_parser("rule", help="the routing rules: which studies are analysed, how, for whom")
    actions = rule.add_subparsers(required=True, metavar="ACTION")
    row(actions, "list", "list the rules in force, first match first", "routing:list_rules")
    add = row(actions, "add", "add a rule", "routing:add_rule")
    add.add_argument("name")
    for flag, text in (("when", "one series has to satisfy all of these"), ("unless", "no series may satisfy one")):
        add.add_argument(
            f"--{flag}", nargs="+", action="append", default=[], metavar=("FIELD", "OPERATOR VALUE"), help=text
        )
    add.add_argument("--pipelines", default="hip,spine", help="hip, spine or hip,spine (default)")
    add.add_argument("--segmenter", default="", metavar="NAME", help="what finds the bones (default: the setting's)")
    add.add_argument("--priority", default="normal", choices=("urgent", "normal", "offpeak"))
    add.add_argument("--to", action="append", default=[], metavar="PEER", help="peer that gets the results")
    add.add_argument("--place", type=count, help="place in the list, 1 the first (default: the last)")
    remove = row(actions, "remove", "remove a rule", "routing:remove_rule")
    move = row(actions, "move", "move a rule to a place in the list", "routing:move_rule")
    enable = row(actions, "enable", "switch a rule on", "routing:switch_rule")
    disable = row(actions, "disable", "switch a rule off", "routing:switch_rule")
    for action in (remove, move, enable, disable):
        action.add_argument("name")
    move.add_argument("place", type=count)
    enable.set_defaults(is_enabled=True)
    disable.set_defaults(is_enabled=False)
    test = row(actions, "test", "print which rule would take a study, and why", "routing:test")
    test.add_argument("study", metavar="FOLDER_OR_STUDY_UID")
    test.add_argument("--calling-aet", default="", metavar="AET", help="for a folder: the AE title that would send it")
    export = row(actions, "export", "write the rules to a new file, .toml or .json", "routing:export")
    export.add_argument("file", type=Path)
    take = row(actions, "import", "put the rules of a file in the place of those in force", "routing:take")
    take.add_argument("file", type=Path)
    take.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    row(actions, "history", "list the changes of the rules", "routing:history")
    restore = row(actions, "restore", "put the rules of an earlier revision in force again", "routing:restore")
    restore.add_argument("revision", type=int)
    study = commands.add_parser("study", help="where studies stand, and what to do with them")
    orders = study.add_subparsers(required=True, metavar="ACTION")
    row(orders, "list", "list the newest studies and where they stand", "routing:list_studies").add_argument(
        "--last", type=count, default=50, metavar="N", help="studies to list (default 50)"
    )
    named = [add, remove, move, enable, disable, take, restore]
    for word, text in (
        ("proceed", "analyse what is here of a study now"),
        ("discard", "do not analyse a study; its images are kept"),
        ("wait", "look at a study anew by the rules; undoes a discard"),
    ):
        one = row(orders, word, text, "routing:order")
        one.add_argument("study", metavar="STUDY_UID")
        one.set_defaults(action=word)
        named.append(one)
        if word == "proceed":
            one.add_argument("--rule", metavar="NAME", help="the rule that takes it (default: the first that does)")
    for action in named:
        action.add_argument("--administrator", metavar="NAME", help="who answers for this; default: the system user")


def add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: imports."""
    load = row(commands, "import", "import DICOM files, folders and ZIP archives", "importing:import_files")
    load.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="file, folder searched in depth, or ZIP")
    load.add_argument("--dry-run", action="store_true", help="say what would be imported, and import nothing")
