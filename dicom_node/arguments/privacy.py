"""Arguments of de-identification, the identity map and the audit."""

import argparse
from pathlib import Path

from dicom_node.arguments.table import count, row


def add_deid(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: de-identification of folders."""
    deid = row(commands, "deid", "de-identify the files of a folder into another", "deid:deid")
    deid.add_argument("folder", type=Path, help="folder with DICOM files, searched in depth")
    deid.add_argument("out", type=Path, nargs="?", help="new or empty folder for the clean files")
    deid.add_argument("--report", type=Path, help="JSON file: counts and causes, never a value")
    deid.add_argument("--recipe", type=Path, help="the site's rules in the syntax of deid")
    deid.add_argument("--what-if", action="store_true", help="print what would be done and write nothing")
    deid.add_argument(
        "--sources", type=Path, help="file that says which input is which; default: a new one on the hospital side"
    )


def add_idmap(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: the identity map."""
    idmap = commands.add_parser("idmap", help="the identity map: import, export, look up, rotate keys, audit")
    actions = idmap.add_subparsers(required=True, metavar="ACTION")
    load = row(actions, "import", "import pseudonyms from a CSV: mrn,issuer,pseudonym,project", "idmap:import_map")
    load.add_argument("file", type=Path)
    load.add_argument("--dry-run", action="store_true", help="check the file and write nothing")
    export = row(actions, "export", "write the patients of a project to a CSV, mode 0600", "idmap:export_map")
    export.add_argument("file", type=Path, help="a new file")
    export.add_argument("--project", required=True)
    look = row(actions, "lookup", "print who a pseudonym is", "idmap:lookup")
    look.add_argument("pseudonym")
    correct = row(actions, "correct", "take name, birth date and sex of a patient from a DICOM file", "idmap:correct")
    correct.add_argument("pseudonym")
    correct.add_argument("file", type=Path, help="a DICOM file of the patient, as it is right")
    move = row(actions, "move-study", "record a study under the patient its files name now", "idmap:move_study")
    move.add_argument("folder", type=Path, help="folder with the files of the one study, as they are right")
    for action in (export, look, correct, move):
        action.add_argument("--administrator", metavar="NAME", help="who answers for this; kept in the audit")
    rotate = row(actions, "rotate-key", "make new keys and re-encrypt the map with them", "idmap:rotate_key")
    rotate.add_argument("--uid-key", action="store_true", help="also make a new key for the mapping of UIDs")
    audit = row(actions, "audit", "list who used the map for what, and check the chain", "idmap:audit")
    audit.add_argument("--last", type=int, default=50, help="rows to list (default 50)")
    audit.add_argument("--expect", metavar="HASH", help="a last hash noted earlier, which has to be there")


def add_audit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add: the audit, and the conformance statement."""
    audit = commands.add_parser("audit", help="the node's audit: list, verify, export")
    actions = audit.add_subparsers(required=True, metavar="ACTION")
    listing = row(actions, "list", "list events", "audit:list_audit")
    listing.add_argument("--last", type=count, default=50, metavar="N", help="rows to list (default 50)")
    listing.add_argument("--kind", action="append", help="only this kind; may be given again")
    listing.add_argument("--study", metavar="UID", help="only this study")
    listing.add_argument("--patient", action="store_true", help="only one patient, whose number is asked for")
    verify = row(actions, "verify", "check the chain of hashes from its start", "audit:verify_audit")
    verify.add_argument("--expect", metavar="HASH", help="a last hash noted earlier, which has to be there")
    export = row(actions, "export", "write the audit to a new file, mode 0600", "audit:export_audit")
    export.add_argument("file", type=Path, help="a new file")
    export.add_argument("--format", choices=("csv", "xml"), default="csv")
    export.add_argument("--from-row", type=count, default=1, metavar="N", help="first row to write (default 1)")
    row(commands, "conformance", "print the DICOM Conformance Statement", "maintenance:show_conformance")
