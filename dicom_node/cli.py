"""The command ``osteonode``: reads the settings once and runs one subcommand.

A subcommand is a row: its words, its help and the function that runs it, imported when it is needed so that
``osteonode --help`` answers at once.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from dicom_node import __version__
from dicom_node.errors import NodeError
from dicom_node.logs import configure_logging
from dicom_node.settings import CONFIG_VARIABLE, Settings

PIPE_WIDTH = 140
"""Columns of tables where the output is no terminal."""

Run = Callable[[Settings, argparse.Namespace, Console], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit code (0 done, 1 an error of the node, 2 wrong usage or settings)."""
    os.umask(0o077)  # everything the node writes is for its own user alone
    options = _parser().parse_args(arguments)
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if options.config:
        os.environ[CONFIG_VARIABLE] = str(options.config)
    try:
        settings = Settings()
        configure_logging(settings.log_level, settings.log_format)
        _load(options.run)(settings, options, console)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            console.print(f"[red]{'.'.join(map(str, problem['loc']))}:[/] {problem['msg']}", highlight=False)
        return 2
    except NodeError as error:
        console.print(f"[red]Error:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _load(path: str) -> Run:
    module, function = path.split(":")
    run: Run = getattr(importlib.import_module(f"dicom_node.commands.{module}"), function)
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="osteonode",
        description="Bone density and bone strength for every CT that shows a hip or a spine.",
    )
    parser.add_argument("--version", action="version", version=f"osteonode {__version__}")
    parser.add_argument("--config", type=Path, help="TOML file with settings (environment OSTEONODE_... wins)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add(commands, "serve", "run the node: DICOM service, jobs, web page", "serve:serve")
    analyse = _add(
        commands,
        "analyse",
        "analyse the CT of one study in a folder, without network or database",
        "analyse:analyse",
    )
    analyse.add_argument("folder", type=Path, help="folder with the DICOM files of one study")
    analyse.add_argument("--out", type=Path, required=True, help="new or empty folder for the results")
    demo = _add(commands, "demo", "run the main job on a real public CT, with a PACS beside the node", "demo:demo")
    demo.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for everything the demo makes")

    peer = commands.add_parser("peer", help="list, add, set, remove or verify peers, or send to one")
    actions = peer.add_subparsers(required=True, metavar="ACTION")
    _add(actions, "list", "list the peers", "peers:list_peers")
    add = _add(actions, "add", "add a peer", "peers:add")
    add.add_argument("name")
    add.add_argument("--aet", required=True, help="its AE title")
    add.add_argument("--host", required=True)
    add.add_argument("--port", type=int, required=True)
    add.add_argument("--no-send", action="store_true", help="it may not send to the node")
    add.add_argument("--no-results", action="store_true", help="it gets no results")
    add.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="IP address or network it may call from (10.1.0.0/16); may be given again; default: any",
    )
    add.add_argument("--max-associations", type=int, help="associations it may have open at the same time")
    add.add_argument("--tls", action="store_true", help="call it over TLS")
    change = _add(actions, "set", "set what a peer gets of the results", "peers:set_peer")
    change.add_argument("name")
    for action in (add, change):
        action.add_argument("--objects", metavar="LIST", help="results it gets: sr,seg,sc,pdf or some of them")
        action.add_argument(
            "--sr-class", metavar="CLASS", help="auto (default), comprehensive_3d, comprehensive, enhanced, basic_text"
        )
    _add(actions, "remove", "remove a peer", "peers:remove").add_argument("name")
    _add(actions, "echo", "verify a peer with C-ECHO", "peers:verify").add_argument("name")
    send = _add(actions, "send", "send the DICOM files of a folder to a peer", "peers:send")
    send.add_argument("name")
    send.add_argument("folder", type=Path)

    _add_fe(commands)
    _add_deid(commands)
    _add_idmap(commands)
    _add(commands, "migrate", "bring the databases to the newest schema", "maintenance:migrate_databases")
    _add(commands, "settings", "print the settings in force as JSON", "maintenance:show_settings")
    _add(commands, "describe-deid", "print the de-identification profile in words", "maintenance:describe_deid")
    _add(commands, "fetch-data", "download the public scans of the demo and the tests", "demo:fetch_data")
    return parser


def _add_fe(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fe = _add(commands, "fe", "compute the strength of one bone from an image and a mask", "fe:fe")
    fe.add_argument("image", type=Path, metavar="FOLDER_OR_FILE", help="folder of a CT series; .nii(.gz), .mha, .nrrd")
    fe.add_argument("--mask", type=Path, required=True, help="label map on the image's grid, or DICOM Segmentation")
    fe.add_argument("--label", type=int, help="label of the bone in the map, or number of the segment")
    fe.add_argument("--model", required=True, choices=("ct2s", "sas", "vertebra", "microfe"))
    fe.add_argument("--out", type=Path, required=True, help="new or empty folder for the results")
    fe.add_argument("--overwrite", action="store_true", help="replace the model's earlier results in the folder")
    fe.add_argument("--side", choices=("R", "L"), help="side of a femur")
    fe.add_argument("--level", choices=("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5"), help="level of a vertebra")
    fe.add_argument("--calibration", type=Path, help="JSON file with calibration records (default: the setting's)")
    fe.add_argument("--record", metavar="ID", help="the calibration record to use, where the image names no scanner")
    fe.add_argument(
        "--density-mg-per-cm3",
        choices=("HA", "K2HPO4"),
        help="the image already holds densities, mg/cm3 of hydroxyapatite or K2HPO4",
    )
    fe.add_argument("--element-mm", type=float, metavar="MM", help="edge of the elements (default: the model's own)")
    fe.add_argument("--discretisation", choices=("voxel", "tetra"), help="bricks (default) or tetrahedra; ct2s only")
    fe.add_argument(
        "--sensitivity",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether to repeat it with the mask eroded and dilated by one and two voxels (default: yes; not microfe)",
    )
    fe.add_argument("--tissue-modulus-mpa", type=float, metavar="MPA", help="modulus of all tissue; microfe only")
    fe.add_argument(
        "--threshold-mg-per-cm3", type=float, metavar="RHO", help="density of bone inside the mask; microfe only"
    )
    fe.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    fe.add_argument("--memory-limit-gb", type=float, default=4.0, metavar="GB", help="refuse larger models (default 4)")
    fe.add_argument(
        "--despite-flags", action="store_true", help="compute where a flag forbids a strength; the result says so"
    )


def _add_deid(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    deid = _add(commands, "deid", "de-identify the files of a folder into another", "deid:deid")
    deid.add_argument("folder", type=Path, help="folder with DICOM files, searched in depth")
    deid.add_argument("out", type=Path, nargs="?", help="new or empty folder for the clean files")
    deid.add_argument("--report", type=Path, help="JSON file: counts and causes, never a value")
    deid.add_argument("--recipe", type=Path, help="the site's rules in the syntax of deid")
    deid.add_argument("--what-if", action="store_true", help="print what would be done and write nothing")
    deid.add_argument(
        "--sources", type=Path, help="file that says which input is which; default: a new one on the hospital side"
    )


def _add_idmap(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    idmap = commands.add_parser("idmap", help="the identity map: import, export, look up, rotate keys, audit")
    actions = idmap.add_subparsers(required=True, metavar="ACTION")
    load = _add(actions, "import", "import pseudonyms from a CSV: mrn,issuer,pseudonym,project", "idmap:import_map")
    load.add_argument("file", type=Path)
    load.add_argument("--dry-run", action="store_true", help="check the file and write nothing")
    export = _add(actions, "export", "write the patients of a project to a CSV, mode 0600", "idmap:export_map")
    export.add_argument("file", type=Path, help="a new file")
    export.add_argument("--project", required=True)
    look = _add(actions, "lookup", "print who a pseudonym is", "idmap:lookup")
    look.add_argument("pseudonym")
    correct = _add(actions, "correct", "take name, birth date and sex of a patient from a DICOM file", "idmap:correct")
    correct.add_argument("pseudonym")
    correct.add_argument("file", type=Path, help="a DICOM file of the patient, as it is right")
    move = _add(actions, "move-study", "record a study under the patient its files name now", "idmap:move_study")
    move.add_argument("folder", type=Path, help="folder with the files of the one study, as they are right")
    for action in (export, look, correct, move):
        action.add_argument("--administrator", metavar="NAME", help="who answers for this; kept in the audit")
    rotate = _add(actions, "rotate-key", "make new keys and re-encrypt the map with them", "idmap:rotate_key")
    rotate.add_argument("--uid-key", action="store_true", help="also make a new key for the mapping of UIDs")
    audit = _add(actions, "audit", "list who used the map for what, and check the chain", "idmap:audit")
    audit.add_argument("--last", type=int, default=50, help="rows to list (default 50)")
    audit.add_argument("--expect", metavar="HASH", help="a last hash noted earlier, which has to be there")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", words: str, text: str, run: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(words, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
